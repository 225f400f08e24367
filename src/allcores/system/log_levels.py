"""The levels of a program's loggers, looked at in about a microsecond while nothing sets one."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: name -> level of all loggers that have one of their own, "" being the root; what `logging.disable` was told
    Levels = tuple[dict[str, int], int]

#: `logging.WARNING`, with which the root begins, and a level that no record has
_WARNING, _ABOVE_ALL = 30, 51
#: what `logging` defines last: before it is there, another thread is in the middle of importing it
_LAST_NAME = "captureWarnings"
#: as long as nobody has set a level
FRESH: Levels = ({"": _WARNING}, 0)


class _Seen:
    """Stands in the root logger's note of what is enabled, which `logging` empties whenever a level is set."""


_seen = _Seen()
_last: Levels = FRESH


def current() -> Levels:
    """The levels of this moment; the very same object as long as none is set."""
    global _last
    logging: Any = sys.modules.get("logging")
    if logging is None or not hasattr(logging, _LAST_NAME):
        return FRESH
    cache = getattr(logging.root, "_cache", None)
    if isinstance(cache, dict):
        if _seen in cache:
            return _last
        # Before the look: what is set meanwhile is looked at the next time.
        cache[_seen] = True
    found = _levels(logging), logging.root.manager.disable
    if found != _last:
        _last = found
    return _last


def captures_warnings() -> bool:
    """Whether warnings go to loggers: `logging.captureWarnings` keeps what showed them before."""
    return getattr(sys.modules.get("logging"), "_warnings_showwarning", None) is not None


def _levels(logging: Any) -> dict[str, int]:
    levels = {"": logging.root.level}
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if not isinstance(logger, logging.Logger):
            continue
        if logger.disabled:
            levels[name] = _ABOVE_ALL
        elif logger.level:
            levels[name] = logger.level
    return levels
