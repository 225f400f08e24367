"""Globals of a script's functions in a worker: what the setup function binds, the tasks see.

A function that travels by value has globals of its own in the worker: a dict with what its code refers to. So
`global MODEL; MODEL = load()` in a setup function, a preload function or an initializer would be seen by nobody else.
What such a function binds or fills, at the top of its module or in a class of it, is therefore noted by module and
name, and given to each function of that module: to those that are here, and to those that come later.

Only the thread that serves a worker (or the template) calls this.
"""

from __future__ import annotations

import contextlib
from types import FunctionType, ModuleType

from allcores.system.weak_objects import WeakObjects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    #: a value, and what was in it
    Seen = tuple[Any, Any]

#: Containers of more elements than this are compared by their length alone. Larger: a setup takes longer.
MOST_COMPARED = 10_000

#: functions and classes that travelled to this process by value
_functions: WeakObjects[FunctionType] = WeakObjects()
_classes: WeakObjects[type] = WeakObjects()
#: what was bound here, by the module's name; attributes by their class, which is kept for them: after a preload nothing
#: else may hold it until the first task comes
_bound: dict[str, dict[str, Any]] = {}
_attributes: dict[type, dict[str, Any]] = {}


def arrived(function: FunctionType) -> None:
    """A copy of a function is complete: it sees what its module's functions bound here."""
    _functions.add(function)
    names = function.__globals__
    names.update(_bound.get(str(names.get("__name__")), {}))


def bound_in(module: str) -> frozenset[str]:
    """Names of a module that its setup functions bound or filled here."""
    return frozenset(_bound.get(module, ()))


def is_bound_in(made: type, attribute: str) -> bool:
    """Whether setup functions set or filled an attribute of a class here."""
    return any(each is made and attribute in found for each, found in _attributes.items())


def class_arrived(made: type) -> None:
    """A copy of a class is what the original is: it keeps the attributes that were set here."""
    _classes.add(made)
    _set_attributes(made)


def _set_attributes(made: type) -> None:
    for name, value in _attributes.get(made, {}).items():
        setattr(made, name, value)


@contextlib.contextmanager
def binding() -> Iterator[None]:
    """While a setup, preload or initializer function runs: what it binds or fills is noted at the end."""
    before = {id(names): _contents(names) for names in _namespaces()}
    classes = {made: _contents(vars(made)) for made in _classes.all()}
    yield
    for names in _namespaces():
        changed = _changed(before.get(id(names), {}), names)
        if changed and id(names) in before:
            _bound.setdefault(str(names.get("__name__")), {}).update(changed)
    for made, seen in classes.items():
        if changed := _changed(seen, vars(made)):
            _attributes.setdefault(made, {}).update(changed)
    for function in _functions.all():
        arrived(function)


def _namespaces() -> list[dict[str, Any]]:
    return list({id(function.__globals__): function.__globals__ for function in _functions.all()}.values())


def _contents(names: Any) -> dict[str, Seen]:
    return {name: (value, _inside(value)) for name, value in list(names.items())}


def _changed(before: dict[str, Seen], names: Any) -> dict[str, Any]:
    """Names that stand for another value, or for one that has other things in it."""
    found = {}
    for name, value in list(names.items()):
        if name == "__builtins__":
            continue
        seen = before.get(name)
        if seen is None or seen[0] is not value or _differs(seen[1], _inside(value)):
            found[name] = value
    return found


def _inside(value: Any) -> Any:
    """What can be put into a value later: the elements of a container, the attributes of an object."""
    kind = type(value)
    if kind in (list, set, dict, bytearray):
        return len(value) if len(value) > MOST_COMPARED else value.copy()
    if isinstance(value, (FunctionType, ModuleType, type)):
        return None
    attributes = getattr(value, "__dict__", None)
    return attributes.copy() if type(attributes) is dict else None


def _differs(before: Any, after: Any) -> bool:
    """Compared by identity: equality is foreign code."""
    if type(before) is not type(after):
        return True
    if isinstance(before, dict):
        return before.keys() != after.keys() or any(after[key] is not value for key, value in before.items())
    if isinstance(before, list):
        return len(before) != len(after) or any(a is not b for a, b in zip(before, after, strict=True))
    return bool(before != after)
