"""Named moments of a transfer, at which a test may let its process die; in life, each is one call of nothing.

The same idea as `runs.failpoints`: a test installs a hook in a process of its own, and nobody can be told from outside.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: every moment there is, in the order in which something large comes by
POINTS = (
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

_hook: Callable[[str], None] | None = None


def install(hook: Callable[[str], None] | None) -> None:
    """Call `hook` with the name of each moment from now on; None ends that. For tests."""
    global _hook
    _hook = hook


def moment(name: str) -> None:
    """This is the moment called `name`."""
    if _hook is not None:
        _hook(name)
