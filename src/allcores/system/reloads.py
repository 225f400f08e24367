"""Which modules of the program were loaded anew: by `importlib.reload`, or by a notebook once their files have changed.

A process that has imported one before goes on with what it was then. Looked at in some microseconds: each time that a
module is loaded it has another specification.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from allcores.system.installations import is_installed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: names of modules that were loaded anew, and how often
    Reloads = dict[str, int]

#: specifications of the program's own modules, as they were at the last look
_specifications: dict[str, Any] = {}
#: names of those that are looked at, and of all others
_seen: set[str] = set()
#: how many modules there were then
_count = 0
_last: Reloads = {}


def current() -> Reloads:
    """Those of this moment; the very same object as long as none is loaded anew."""
    global _count, _last
    if len(sys.modules) != _count:
        _count = len(sys.modules)
        _look_for_new()
    # Copied: another thread may look, too.
    for name, before in list(_specifications.items()):
        now = _specification(name)
        if now is not None and now is not before:
            _specifications[name] = now
            _last = {**_last, name: _last.get(name, 0) + 1}
    return _last


def _look_for_new() -> None:
    for name in [name for name in list(sys.modules) if name not in _seen]:
        _seen.add(name)
        found = _specification(name)
        file = found.origin if type(found) is ModuleSpec and found.has_location else None
        if file is not None and name.partition(".")[0] != "allcores" and not is_installed(file):
            _specifications[name] = found


def _specification(name: str) -> Any:
    """Of a module, which may be any object, without asking code of the program."""
    module = sys.modules.get(name)
    if not issubclass(type(module), ModuleType):
        return None
    return object.__getattribute__(module, "__dict__").get("__spec__")
