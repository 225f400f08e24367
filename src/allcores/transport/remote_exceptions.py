"""The program's side of `exceptions`: makes the exceptions of tasks anew."""

from __future__ import annotations

from typing import Any

from allcores.errors import RemoteError
from allcores.transport.exceptions import (
    ARGS,
    ATTRIBUTES,
    BY_STATE,
    CAUSE,
    CONTEXT,
    OWN_WAY,
    SUPPRESS,
    Linked,
    add_note,
    fields_of,
    text_of,
)
from allcores.transport.pickling import loads

_BUILT_IN_NEW = type(object.__new__)


def unpack(data: bytes, **facts: Any) -> BaseException | None:
    """The exception as it was in the worker, with what hangs together with it.

    Args:
        data: From `pack`.
        facts: Of the item, for `RemoteError`s that stand in for causes whose classes cannot be had here.

    Returns:
        None if its class cannot be had here.
    """
    try:
        records = loads(data)
        made = _Unpacker(records, facts)
        return made.first()
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None


class _Unpacker:
    def __init__(self, records: list[tuple[Any, ...]], facts: dict[str, Any]) -> None:
        self._records = records
        self._facts = facts
        self._made: list[Any] = [None] * len(records)
        self._failed: set[int] = set()

    def first(self) -> BaseException | None:
        for place in range(len(self._records)):
            self._make(place)
        if 0 in self._failed:
            return None
        for place, (how, _, _, _, left_out, links) in enumerate(self._records):
            error = self._made[place]
            if how == BY_STATE and place not in self._failed:
                self._set_state(place, error)
            if left_out:
                add_note(error, f"allcores: left out, since it cannot travel: {', '.join(left_out)}")
            _, cause, context, suppressed = links
            CAUSE.__set__(error, self._at(cause))
            CONTEXT.__set__(error, self._at(context))
            SUPPRESS.__set__(error, suppressed)
        first: BaseException = self._made[0]
        return first

    def _at(self, place: int | None) -> BaseException | None:
        return None if place is None else self._made[place]

    def _make(self, place: int) -> BaseException:
        """The exception of a record, without its state; members of a group first."""
        if self._made[place] is not None:
            made: BaseException = self._made[place]
            return made
        how, name, message, payload, _, links = self._records[place]
        try:
            if how == OWN_WAY:
                made = _of_own_way(*payload)
            elif how == BY_STATE:
                made = self._new(loads(payload[0]), links[0])
            else:
                raise TypeError(f"{name} cannot be pickled")
            if not isinstance(made, BaseException):
                raise TypeError(f"{name} became {type(made).__name__}")
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._failed.add(place)
            made = stand_in(name, message, **self._facts)
        self._made[place] = made
        return made

    def _new(self, kind: Any, members: Any) -> BaseException:
        base = kind
        while not isinstance(vars(base).get("__new__"), _BUILT_IN_NEW):
            base = base.__base__
        if not members:
            return base.__new__(kind)  # type: ignore[no-any-return]
        message, places = members
        inside = [self._make(place) for place in places if place is not None]
        return base.__new__(kind, message, inside)  # type: ignore[no-any-return]

    def _set_state(self, place: int, error: Any) -> None:
        data = self._records[place][3][1]
        try:
            args, attributes, fields = Linked(data, self._made).load()
        except KeyboardInterrupt:
            raise
        except BaseException as reason:
            ARGS.__set__(error, (self._records[place][2],))
            add_note(
                error,
                "allcores: its arguments and attributes could not be unpickled here "
                f"({type(reason).__name__}: {text_of(reason)})",
            )
            return
        ARGS.__set__(error, args)
        ATTRIBUTES.__get__(error).update(attributes)
        known = fields_of(type(error))
        for name, value in fields.items():
            if name in known:
                try:
                    known[name][0].__set__(error, value)
                except (AttributeError, TypeError):  # one that can only be read
                    continue


def _of_own_way(data: bytes, notes: list[str]) -> Any:
    error = loads(data)
    if isinstance(error, BaseException):
        there = ATTRIBUTES.__get__(error).get("__notes__", ())
        for note in notes:
            if note not in there:
                add_note(error, note)
    return error


def stand_in(name: str, message: str, **facts: Any) -> RemoteError:
    """What stands for an exception whose class cannot be had here."""
    return RemoteError(
        f"{name}: {message} (its class cannot be had in this process, so this stands in for it)",
        type_name=name,
        **facts,
    )
