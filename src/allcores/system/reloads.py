"""Which modules of the program were loaded anew: by `importlib.reload`, or by a notebook once their files have changed.

A process that has imported one before goes on with what it was then. Looked at in some microseconds: each time that a
module is loaded it has another specification.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from itertools import repeat
from operator import is_
from types import ModuleType

from allcores.system.installations import is_installed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: names of modules that were loaded anew, and how often
    Reloads = dict[str, int]

#: specifications of the program's own modules, as they were at the last look; also of those that are gone
_specifications: dict[str, Any] = {}
#: names of all others
_others: set[str] = set()
#: how many modules there were then
_count = 0
#: of those that were there: names, modules, their dicts, and their specifications
_view: tuple[list[str], list[Any], list[dict[str, Any]], list[Any]] = [], [], [], []
_last: Reloads = {}
#: what the next answer is made of
_reloaded: Reloads = {}


def current() -> Reloads:
    """Those of this moment; the very same object as long as none is loaded anew."""
    names, modules, dicts, specifications = _view
    # In C: a program may have hundreds of modules, and many calls.
    if (
        len(sys.modules) != _count
        or not all(map(is_, modules, map(sys.modules.get, names)))
        or not all(map(is_, specifications, map(dict.get, dicts, repeat("__spec__"))))
    ):
        _look()
    return _last


def _look() -> None:
    global _count, _last, _view
    _count, found = len(sys.modules), []
    for name in [name for name in list(sys.modules) if name not in _others]:
        module = sys.modules.get(name)
        if not _is_own(name, module):
            _others.add(name)
            continue
        names = _dict_of(module)
        now = names["__spec__"]
        if _specifications.setdefault(name, now) is not now:
            _specifications[name] = now
            _reloaded[name] = _reloaded.get(name, 0) + 1
        found.append((name, module, names, now))
    # Another thread may be looking, too, and have found what this one has not.
    while _last != _reloaded:
        _last = _reloaded.copy()
    _view = tuple(map(list, zip(*found, strict=True))) if found else ([], [], [], [])  # type: ignore[assignment]


def _is_own(name: str, module: Any) -> bool:
    """Whether a module is one, and the program's own. No code of the program is called."""
    if not issubclass(type(module), ModuleType) or name.partition(".")[0] == "allcores":
        return False
    found = _dict_of(module).get("__spec__")
    return type(found) is ModuleSpec and found.has_location and not is_installed(str(found.origin))


def _dict_of(module: Any) -> Any:
    return object.__getattribute__(module, "__dict__")
