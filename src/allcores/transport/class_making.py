"""A class that has travelled by value is made once more, without what was done when it was defined.

`__init_subclass__` of its bases, and its metaclass, have had their say where the class stands: what came of it is among
its attributes, which travel, and so is what they keep elsewhere in the script. Here they would see a class that has no
attributes yet, without the keywords of its `class` statement, which nothing keeps, and for a second time.

So those of the script are not asked. Those of modules are this process's own, and may have to know of each class that
there is here: they are, but what they raise, for want of a keyword say, is no reason to have no class.
"""

from __future__ import annotations

import contextlib
import types
from weakref import WeakKeyDictionary

from allcores.transport import enumerations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

#: names of the attributes that a class was given last
_given: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()
#: what a class has by itself
_BY_ITSELF = frozenset(
    {
        *("__dict__", "__weakref__", "__slots__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__"),
        *("__annotate__", "__annotate_func__", "__annotations_cache__", "_abc_impl"),
    }
)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_HOOK = "__init_subclass__"
# What these say of a class, whatever its metaclass would.
_DICT = type.__dict__["__dict__"].__get__
_MRO = type.__dict__["__mro__"].__get__


def whole(obj: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a class as they travel, with those that cloudpickle leaves out.

    These are the ones that a base has, too, and the very same: the base's may change, and the class may have been sent
    with others before.
    """
    more = {
        # As cloudpickle does it: how a name is stored would show in the bytes.
        "".join(name): value
        for name, value in _DICT(obj).items()
        if name not in attributes and name not in _BY_ITSELF and type(value) not in _DESCRIPTORS
        if any(_DICT(base).get(name, attributes) is value for base in _MRO(obj)[1:])
    }
    return {**attributes, **more} if more else attributes


def make(maker: Callable[..., Any], arguments: tuple[Any, ...], is_copy: Callable[[Any], bool]) -> Any:
    """The class, without its attributes.

    Args:
        maker: cloudpickle's function for it.
        arguments: Its arguments; those of classes that are no enumerations begin with metaclass, name and bases.
        is_copy: Whether a class is a copy of one of the script's.
    """
    if len(arguments) == 7:
        return maker(*enumerations.complete(arguments))
    kind, name, bases, *others = arguments
    if not any(map(is_copy, _MRO(kind))):
        try:
            with _unasked(bases, is_copy):
                return maker(*arguments)
        except Exception:  # whatever code of a module raises
            pass

    def bare(name: str, bases: tuple[Any, ...], names: dict[str, Any]) -> Any:
        for each in _MRO(kind):
            if each is not type and not is_copy(each):
                with contextlib.suppress(Exception):
                    return each.__new__(kind, name, bases, names)
            if each is type:
                break
        return type.__new__(kind, name, bases, names)

    with _unasked(bases, lambda _: True):
        return maker(bare, name, bases, *others)


@contextlib.contextmanager
def _unasked(bases: tuple[Any, ...], are_left_out: Callable[[Any], bool]) -> Iterator[None]:
    """While this lasts, these classes among the bases, and theirs, are not asked about a new class."""
    kept = []
    for base in types.resolve_bases(bases):
        for owner in _MRO(base):
            if _HOOK in _DICT(owner) and owner is not object and are_left_out(owner):
                hook = _DICT(owner)[_HOOK]
                with contextlib.suppress(TypeError):  # it is compiled, and asks for nothing
                    type.__setattr__(owner, _HOOK, _passing_on(owner))
                    kept.append((owner, hook))
    try:
        yield
    finally:
        for owner, hook in reversed(kept):
            type.__setattr__(owner, _HOOK, hook)


def _passing_on(owner: Any) -> Any:
    def hook(cls: Any, /, **_: Any) -> None:
        super(owner, cls).__init_subclass__()

    return classmethod(hook)


def set_attributes(
    made: Any, attributes: dict[str, Any], is_copy: Callable[[Any], bool], put: Callable[[Any, Any], object]
) -> None:
    """Give a class the attributes that it has where it came from, and no others of those that it was given before.

    Args:
        made: The class.
        attributes: What cloudpickle has of them.
        is_copy: Whether a class is a copy of one of the script's.
        put: cloudpickle's function that sets them.
    """
    names = frozenset(attributes)
    for name in _given.get(made, frozenset()) - names:
        with contextlib.suppress(AttributeError):
            type.__delattr__(made, name)
    _given[made] = names
    if is_copy(next(each for each in _MRO(type(made)) if "__setattr__" in _DICT(each))):
        for name, value in attributes.items():
            if name != "_abc_impl":
                type.__setattr__(made, name, value)
        attributes = {name: value for name, value in attributes.items() if name == "_abc_impl"}
    put(made, (attributes, {}))
