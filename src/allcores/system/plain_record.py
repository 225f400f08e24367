"""Records: what `@dataclass(frozen=True, slots=True)` makes, without its price at import.

The module dataclasses imports inspect, ast and dis, and writes and compiles a program for each class: together that was
half of what `from allcores import Pool` took. To `dataclasses.replace`, `fields`, `asdict` and `is_dataclass` a record
is a dataclass all the same: its fields are described when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

from allcores.system.tracebacks import called_by_program, hide

T = TypeVar("T")
_MISSING = object()


class _Fields:
    """`__dataclass_fields__` of a record and of its subclasses: made by the module dataclasses, once it is asked for.

    Once alone: `replace` asks for each record, and a class is made for the answer.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] | None = None

    def __get__(self, instance: object, kind: type) -> dict[str, Any]:
        if self._made is None:
            self._made = self._of(kind)
        return self._made

    def _of(self, kind: type) -> dict[str, Any]:
        import dataclasses

        # Of the record itself: a subclass has no annotations, or others.
        kind = next(base for base in kind.__mro__ if vars(base).get("__dataclass_fields__") is self)
        names: tuple[str, ...] = kind.__match_args__  # type: ignore[attr-defined]
        annotations, defaults = kind.__annotations__, kind._defaults  # type: ignore[attr-defined]
        twin = dataclasses.make_dataclass(
            kind.__name__,
            [
                (name, annotations[name], dataclasses.field(default=defaults[name]))
                if name in defaults
                else (name, annotations[name])
                for name in names
            ],
        )
        return {field.name: field for field in dataclasses.fields(twin)}


@dataclass_transform(frozen_default=True)
def record(kind: type[T]) -> type[T]:
    """A class whose annotations are its fields: frozen, with slots, compared and hashed by value.

    Args:
        kind: The class. It may have defaults, `__post_init__`, methods and a `__repr__`, and no bases with fields.
    """
    return _build(kind, frozen=True)


@dataclass_transform()
def open_record(kind: type[T]) -> type[T]:
    """The same, but its fields may be set later, and it has no hash."""
    return _build(kind, frozen=False)


def _build(kind: type[T], *, frozen: bool) -> type[T]:
    names = tuple(name for name, text in kind.__annotations__.items() if not str(text).startswith("ClassVar"))
    body = dict(kind.__dict__)
    defaults = {name: body.pop(name) for name in names if name in body}
    for left in ("__dict__", "__weakref__"):
        body.pop(left, None)
    body.update(__slots__=names, __match_args__=names, _defaults=defaults, __dataclass_fields__=_Fields())
    metaclass: Callable[..., Any] = type(kind)
    made = metaclass(kind.__name__, kind.__bases__, body)
    made.__qualname__ = kind.__qualname__
    made.__init__ = _initializer(
        kind.__qualname__, names, defaults, [getattr(made, name).__set__ for name in names], body
    )

    def values(self: Any) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in names])

    def __eq__(self: Any, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def __repr__(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join([f'{name}={getattr(self, name)!r}' for name in names])})"

    def __setstate__(self: Any, state: tuple[Any, ...]) -> None:
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    made.__eq__ = __eq__
    made.__getstate__ = values
    made.__setstate__ = __setstate__
    made.__hash__ = (lambda self: hash(values(self))) if frozen else None
    if "__repr__" not in body:
        made.__repr__ = __repr__
    if frozen:
        made.__setattr__ = _refuse
        made.__delattr__ = _refuse
    return made  # type: ignore[no-any-return]


def _initializer(
    title: str,
    names: tuple[str, ...],
    defaults: dict[str, Any],
    setters: list[Callable[..., Any]],
    body: dict[str, Any],
) -> Callable[..., None]:
    checked = "__post_init__" in body
    number = len(names)

    def __init__(self: Any, *given: Any, **named: Any) -> None:
        try:
            if len(given) != number:
                if len(given) > number:
                    raise TypeError(f"{title}() takes {number} arguments, not {len(given)}")
                rest = [named.pop(name, defaults.get(name, _MISSING)) for name in names[len(given) :]]
                for value in rest:
                    if value is _MISSING:  # not `in`: arrays have no one answer to ==
                        missing = [name for name, each in zip(names[len(given) :], rest, strict=True) if each is value]
                        raise TypeError(f"{title}() misses {', '.join(missing)}")
                given = (*given, *rest)
            if named:
                word = next(iter(named))
                if word in names:
                    raise TypeError(f"{title}() was given {word!r} twice, by its place and by its name")
                from allcores.system.option_words import unknown

                raise unknown(title, word, names)
            for put, value in zip(setters, given):  # noqa: B905 (strict costs time, and the lengths are the same)
                put(self, value)
            if checked:
                self.__post_init__()
        except BaseException as error:
            # Nothing is done here but to look at what was given: what is wrong is wrong with that.
            hide(error, by_design=called_by_program())
            raise

    return __init__


def _refuse(self: Any, name: str, *_: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(
        f"cannot change {name!r} of {type(self).__qualname__}: make another with dataclasses.replace"
    )
