"""Classes and functions that travel by value, and how they come back: as what they were.

A worker has no `__main__` of its own, so what a script defines is sent to it as code. On the way back that would
be wrong: the program has the original, which a copy must not replace, nor overwrite. So each class and function
that goes to a worker has a token, and the worker sends back

    what has a name in the program's modules   the name: the program looks it up, as plain pickle does
    other classes, functions without closure   token and code: the code is used only if the original is gone
    closures, and what the worker has made     code; a class that is known from before is not changed by it

    program                                    worker
    class_there(token, name, code)  ────────►  makes a copy, and remembers what it is a copy of
    named / class_back / function_back  ◄────  an instance of the copy, an exception, the class itself
"""

from __future__ import annotations

import contextlib
import pickle
import sys
from types import FunctionType
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from allcores.system import main_module
from allcores.transport import class_making, ctypes_objects, enumerations, main_copies, script_globals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: module and qualified name
    Name = tuple[str, str]

#: what has travelled from or to here
_tokens: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_objects: WeakValueDictionary[str, Any] = WeakValueDictionary()
#: copies of what this process's parent has, and its name there
_copies: WeakKeyDictionary[Any, Name | None] = WeakKeyDictionary()
#: classes that were made and have no attributes yet
_unfinished: WeakSet[Any] = WeakSet()
#: this process was forked from its parent, and so has the parent's modules
_inherited = False


def inherit() -> None:
    """In a worker that was forked from its parent: all that is here so far is the parent's."""
    global _inherited
    _inherited = True
    _copies.clear()
    for obj in list(_tokens):
        _copies[obj] = name_of(obj)
        if _is_class(obj):
            # What setup functions do with it, tasks are to see.
            script_globals.class_arrived(obj)


def know_script() -> None:
    """Before this process is forked into a worker: both mean the same by a class of the script that is there."""
    main = sys.modules.get(main_module.MAIN)
    waiting = [] if main is None else list(vars(main).values())
    while waiting:
        each = waiting.pop()
        with contextlib.suppress(Exception):  # what its metaclass raises: then it travels as one that is not there
            if issubclass(type(each), type) and each not in _tokens and each.__module__ in main_module.NAMES:
                _know(each, uuid4().hex)
                waiting += list(vars(each).values())


def name_of(obj: Any) -> Name | None:
    """Where `obj` is found in this process's modules; None if that is nowhere, or by another name only."""
    module, qualname = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualname, str) and _find(module, qualname) is obj:
        return module, qualname
    return None


def _find(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def named_here(module: str, qualname: str) -> Any:
    """What has a name in the program, as this process has it: a copy that arrived, or its own.

    Raises:
        LookupError: Nothing has the name.
    """
    modules = main_module.NAMES if module in main_module.NAMES else (module,)
    for copy, name in list(_copies.items()):
        if name is not None and name[0] in modules and name[1] == qualname:
            return copy
    found = next((found for each in modules if (found := _find(each, qualname)) is not None), None)
    if found is None:
        raise LookupError(f"{module}.{qualname} is not there")
    return found


def _is_class(obj: Any) -> bool:
    return isinstance(obj, type)


def _is_copy(obj: Any) -> bool:
    return obj in _copies


# --- sending --------------------------------------------------------------------------------------


def reference(obj: Any) -> tuple[Any, ...] | None:
    """On the way to the parent: how a class or function is named there; None if it has no name."""
    if obj in _copies:
        name = _copies[obj]
    else:
        name = name_of(obj) if _inherited else None
        if name is not None and name[0] not in main_module.NAMES:
            return None
    return None if name is None else (named, (*name, _tokens.get(obj, ""), _is_class(obj)))


def to_child(obj: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """What cloudpickle makes of a class or function, for a process that does not have it."""
    name = name_of(obj)
    if _is_class(obj):
        make, arguments, state = _class_parts(obj, reduced)
        return class_there, (_token(obj, arguments), name, make, arguments), state, None, None, set_class_there
    if name is None and obj.__closure__ is not None:
        # What it closes over is data, which may change on the way.
        return reduced
    make, arguments, state = reduced[:3]
    token = _token(obj, ())
    return function_there, (token, name, make, arguments), state, None, None, set_function_there


def to_parent(obj: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same for the process that the work came from, which may have it."""
    if _is_class(obj):
        make, arguments, state = _class_parts(obj, reduced)
        return class_back, (_token(obj, arguments), make, arguments), state, None, None, set_once
    if obj not in _copies or obj.__closure__ is not None:
        return reduced
    make, arguments, state = reduced[:3]
    return function_back, (_tokens[obj], make, arguments), state, None, None, set_once


def wrapper(obj: Any, parts: tuple[Any, ...], set_state: Callable[..., Any]) -> tuple[Any, ...]:
    """What a function in a wrapper is made of, for a process that does not have it. Its copy comes back by its name.

    Args:
        obj: The wrapper.
        parts: What makes it, of what, and what it gets afterwards.
        set_state: Takes the new wrapper and the last part.
    """
    make, arguments, state = parts
    name = name_of(obj)
    if name is None:
        return make, arguments, state, None, None, set_state
    return function_there, (_token(obj, ()), name, make, arguments), state, None, None, set_state


def _token(obj: Any, arguments: tuple[Any, ...]) -> str:
    # cloudpickle has one for each class already: the last but one of what it makes a class of.
    token = _tokens.get(obj)
    if token is None:
        token = arguments[-2] if arguments else uuid4().hex
        _know(obj, token)
    return token


def _know(obj: Any, token: str) -> None:
    _tokens[obj] = token
    _objects[token] = obj


def _class_parts(obj: Any, reduced: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Any]:
    make, arguments, (attributes, more) = _with_slots(obj, reduced)
    if ctypes_objects.is_data(obj):
        first, attributes = ctypes_objects.attributes_of(attributes)
        constructor, name, bases, members, *rest = arguments
        arguments = (constructor, name, bases, {**members, **first}, *rest)
    return make, arguments, (attributes, more)


def _with_slots(obj: Any, reduced: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Any]:
    """Slots must be there when a class is made, or its objects keep what belongs there in a `__dict__`."""
    make, arguments, (attributes, more) = reduced[:3]
    if len(arguments) == 7:
        arguments, attributes = enumerations.whole(obj, arguments, attributes)
        return make, arguments, (attributes, more)
    constructor, name, bases, members, token, extra = arguments
    attributes = class_making.whole(obj, attributes)
    members = {**members, "__qualname__": obj.__qualname__}
    slots = vars(obj).get("__slots__")
    if isinstance(slots, (str, tuple, list, dict)) and not issubclass(obj, tuple):
        members["__slots__"] = slots
        made = type(vars(_Slotted)["slot"])
        attributes = {
            key: value
            for key, value in attributes.items()
            if key != "__slots__" and not (type(value) is made and value.__objclass__ is obj)
        }
    return make, (constructor, name, bases, members, token, extra), (attributes, more)


class _Slotted:
    __slots__ = ("slot",)


# --- arriving in a worker -------------------------------------------------------------------------


def class_there(token: str, name: Name | None, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The class of this token, made if it is not known here."""
    known = _objects.get(token)
    if known is None:
        known = class_making.make(make, arguments, _is_copy)
        _know(known, token)
        _copies[known] = name
    elif known in _copies:
        # The name may be another's by now: a notebook's cell was run again, but objects of the first class are left.
        _copies[known] = name
    _be_found(known)
    return known


def _be_found(obj: Any) -> None:
    name = _copies.get(obj)
    # A process that was forked from the program has its main module, where another class may have the name.
    if name is not None and (not _inherited or (_is_class(obj) and _find(*name) is not obj)):
        main_copies.take_in(obj, *name, bind=_inherited)


def set_class_there(made: Any, state: Any) -> Any:
    """A copy becomes what the original is now; what is this process's own stays as it is."""
    if made in _copies:
        from cloudpickle import cloudpickle

        put = cloudpickle._class_setstate
        if ctypes_objects.is_data(made):
            put = ctypes_objects.setting_what_is_left(put)
        class_making.set_attributes(made, state[0], _is_copy, put)
        script_globals.class_arrived(made)
    return made


def function_there(token: str, name: Name | None, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """A copy of the function of this token; its original, in the process that has it."""
    known = _objects.get(token)
    if known is not None and known not in _copies:
        return known
    function = make(*arguments)
    _know(function, token)
    _copies[function] = name
    _be_found(function)
    return function


def set_function_there(made: Any, state: Any) -> Any:
    """The same as `set_class_there`."""
    if made in _copies:
        _set(made, state)
        if isinstance(made, FunctionType):
            script_globals.arrived(made)
    return made


def _set(made: Any, state: Any) -> None:
    from cloudpickle import cloudpickle

    (cloudpickle._function_setstate if isinstance(made, FunctionType) else cloudpickle._class_setstate)(made, state)


# --- coming back ----------------------------------------------------------------------------------


def named(module: str, qualname: str, token: str, is_class: bool) -> Any:
    """What has this name here now: the original, or what the program has put in its place."""
    known = _objects.get(token)
    if known is not None and known in _copies:
        return known
    found = _find(module, qualname)
    if isinstance(found, type) if is_class else callable(found):
        return found
    if known is None:
        raise pickle.UnpicklingError(
            f"{module}.{qualname}, which was sent to the worker, is not there any more. Keep the name until its "
            "results have come back."
        )
    return known


def class_back(token: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The original; or a copy of what the worker has made, one for all that come."""
    known = _objects.get(token)
    if known is None:
        known = class_making.make(make, arguments, _is_copy)
        _know(known, token)
        _unfinished.add(known)
    return known


def function_back(token: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The original; a copy if it is gone."""
    known = _objects.get(token)
    if known is None:
        known = make(*arguments)
        _unfinished.add(known)
    return known


def set_once(made: Any, state: Any) -> Any:
    """What was not made just now is not changed."""
    if made in _unfinished:
        _set(made, state)
        _unfinished.discard(made)
    return made
