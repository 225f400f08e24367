"""Named moments at which a test may let its process die or fail; in life, each is one call of nothing.

A test installs a hook in a process of its own. There is no environment variable: nobody can be told from outside to
lose data.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: of a transfer, in the order in which something large comes by
TRANSFER = (
    # its sender
    "block.taken",
    "block.filled",
    "frame.before",
    "frame.after",
    # its receiver
    "pickle.before",
    "pickle.mapped",
    "pickle.after",
    # once nothing refers to it there
    "block.released",
    # its sender again
    "block.back",
    # what is shared: made, and when the last reference is gone
    "share.made",
    "share.gone",
)

#: of a run, in the order in which it comes by: around everything that changes a disk
RUN = (
    "folder.made",
    "catalogue.made",
    "log.write.before",
    "log.write.torn",
    "log.write.after",
    "log.sync.before",
    "log.sync.after",
    "commit.begin",
    "commit.before",
    "commit.after",
    "checkpoint.before",
    "checkpoint.after",
    "publish.begin",
    "publish.write",
    "publish.sync.before",
    "publish.sync.after",
    "publish.rename.before",
    "publish.rename.after",
    "finish.before",
    "finish.after",
)

#: of a cache: around each commit
CACHE = ("cache.begin", "cache.commit.before", "cache.commit.after")

#: of a store of jobs: around each commit
JOBS = ("jobs.begin", "jobs.commit.before", "jobs.commit.after")

_hook: Callable[[str], None] | None = None


def install(hook: Callable[[str], None] | None) -> None:
    """Call `hook` with the name of each failpoint that is reached from now on; None ends that. For tests."""
    global _hook
    _hook = hook


def failpoint(name: str) -> None:
    """The failpoint of this name is reached."""
    if _hook is not None:
        _hook(name)


def is_watched() -> bool:
    """True if a hook is installed: then the slower way is taken that has more failpoints."""
    return _hook is not None
