"""Classes that scripts derive from, and that ask for something when that is done. Workers import this module."""

from __future__ import annotations

from typing import Any, ClassVar


class Registering:
    """Wants a name, and keeps it."""

    names: ClassVar[list[str]] = []
    name: str

    def __init_subclass__(cls, name: str, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.name = name
        Registering.names.append(name)


class Strict(type):
    """Wants a name for each of its classes."""

    def __new__(kind, classname: str, bases: tuple[type, ...], names: dict[str, Any], *, name: str) -> Strict:
        made = super().__new__(kind, classname, bases, names)
        made.name = name
        return made

    def __init__(cls, classname: str, bases: tuple[type, ...], names: dict[str, Any], *, name: str) -> None:
        super().__init__(classname, bases, names)

    name: str
