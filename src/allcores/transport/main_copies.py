"""What has come from a script by value is found in a worker's main module, by the name that it has in the script.

Tasks pickle and unpickle by themselves: files of results, entries of queues. Pickle names what a script defines, in
the program as in its workers, and looks in the module `__main__`, which is another one in a worker. Nothing is kept for
that: what the worker drops is not found any more, and of several of one name the latest is.
"""

from __future__ import annotations

import sys
from weakref import WeakValueDictionary

from allcores.system import main_module
from allcores.transport import process_role

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_copies: WeakValueDictionary[str, Any] = WeakValueDictionary()


def take_in(obj: Any, module: str, qualname: str, *, bind: bool) -> None:
    """A class or function has come that has this name where it comes from.

    In a process that is no worker nothing is done: its main module is a program's own.

    Args:
        obj: It.
        module: Where it is there.
        qualname: What it is called.
        bind: The main module has another one of that name.
    """
    if module not in main_module.NAMES or "." in qualname or not process_role.is_worker():
        return
    main = sys.modules.get(main_module.MAIN)
    if main is None:
        return
    names = vars(main)
    if bind:
        names[qualname] = obj
        return
    _copies[qualname] = obj
    if names.setdefault("__getattr__", _found) is _found:
        # A process that multiprocessing has made gives its script another name.
        sys.modules.setdefault(module, main)


def _found(name: str) -> Any:
    try:
        return _copies[name]
    except KeyError:
        raise AttributeError(f"module '__main__' has no attribute {name!r}") from None
