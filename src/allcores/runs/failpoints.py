"""Named moments at which a test may let the program die or fail; in life, each is one call of nothing.

Names are `what.before` and `what.after`, around everything that changes a disk. A test installs a hook in a
process of its own. There is no environment variable: nobody can be told from outside to lose data.
"""

from __future__ import annotations

from collections.abc import Callable

#: every moment there is, in the order in which a run comes by
POINTS = (
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

_hook: Callable[[str], None] | None = None


def install(hook: Callable[[str], None] | None) -> None:
    """Call `hook` with the name of each moment from now on; None ends that. For tests."""
    global _hook
    _hook = hook


def fault(name: str) -> None:
    """This is the moment called `name`."""
    if _hook is not None:
        _hook(name)


def watched() -> bool:
    """Somebody installed a hook: take the slower path that has more moments."""
    return _hook is not None
