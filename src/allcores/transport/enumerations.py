"""An enumeration that travels by value has all of its members, as they are, aliases and combinations of flags too.

cloudpickle makes the members anew of their values, without the enumeration's own `__new__` and `__init__`. What these
have made of them is sent besides: what their data type holds, and their attributes.
"""

from __future__ import annotations

from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    #: of a member: what its data type holds, in a tuple of one or none; attributes; value
    Part = tuple[tuple[Any, ...], dict[str, Any], Any]

#: attributes of a member that it is given when it is made, or notes later
_BY_ITSELF = frozenset(("_value_", "_name_", "_sort_order_", "__objclass__", "_inverted_"))
#: data types, and how what they hold is had, whatever code the enumeration has
_HELD: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda member: bytes.__getitem__(member, slice(None)),
    tuple: lambda member: tuple(tuple.__iter__(member)),
}


def whole(obj: Any, arguments: tuple[Any, ...], attributes: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What cloudpickle makes an enumeration of, with all that belongs to its members.

    Args:
        obj: The enumeration.
        arguments: Of cloudpickle's function that makes it.
        attributes: What it gets afterwards.
    """
    bases, name, qualname, _, module, token, _ = arguments
    there = dict(obj.__members__)
    members = {each: member._value_ for each, member in there.items()}
    attributes = {each: value for each, value in attributes.items() if each not in there}
    own = [{each: value for each, value in vars(member).items() if each not in _BY_ITSELF} for member in there.values()]
    parts: list[Part] | None = None
    if any(own) or isinstance(getattr(obj, "__new_member__", None), FunctionType):
        kind = next((each for each in _HELD if issubclass(obj._member_type_, each)), None)
        parts = [
            (() if kind is None else (_HELD[kind](member),), more, member._value_)
            for member, more in zip(there.values(), own, strict=True)
        ]
    return (bases, name, qualname, members, module, token, parts), attributes


def complete(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments for cloudpickle, by which the members become what they were."""
    bases, name, qualname, members, module, token, parts = arguments
    if parts:
        members = {"__new__": _maker(iter(parts)), **members}
    return bases, name, qualname, members, module, token, None


def _maker(parts: Iterator[Part]) -> Callable[..., Any]:
    """The `__new__` of an enumeration while its members are made, each once, in their order."""

    def make(cls: Any, *values: Any) -> Any:
        held, attributes, value = next(parts)
        kind = cls._member_type_
        made = object.__new__(cls) if kind is object else kind.__new__(cls, *(held or values))
        made._value_ = value
        vars(made).update(attributes)
        return made

    return make
