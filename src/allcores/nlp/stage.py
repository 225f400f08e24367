"""A stage: a function with the fields it takes and gives, and what it needs to have loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from allcores.errors import UsageError
from allcores.limits import is_whole
from allcores.nlp.records import Field, FieldType, Record

#: what a stage finds for one message
Found = Mapping[str, Any]


class InOrder(Protocol):
    """What looks at all messages in the order of the input, in the program itself, not in workers.

    A file is written after all messages were seen; a stream gives a row as soon as it was seen.
    """

    def see(self, position: int, record: Record) -> None:
        """Take note of the message at `position`; positions grow."""

    def fill(self, position: int, record: Record) -> None:
        """Put into the row of the message at `position` what is known by now."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step for each message.

    Args:
        name: What `--stages`, messages and options call it.
        each: Called in the workers with a record (a dict of all fields so far); returns a dict of what it gives. What
            `load` returned comes before the record, unless None. The record is a copy: to change it changes no row.
        batch: In the place of `each`: called with a list of records, returns such a dict for each.
        gives: The fields it fills, by name, with their types.
        takes: Fields without which there is nothing to do: a record where one is None is passed over. One that no stage
            before it gives is refused.
        load: Called once for all workers, with the stage's options by name; what it returns is shared by them.
        options: The options, with their defaults.
        per_worker: What is loaded cannot be shared by forked processes (it has threads, or a connection): each worker
            loads its own.
        in_order: Makes what looks at all messages in order (see `InOrder`), with the stage's options by name. The
            fields it fills are among `gives`; fields that `each` gives for it alone begin with "_", and are not
            written.
        withholds: Given the options, the fields that a row loses where the stage failed, for they are what it is to
            keep out.
    """

    name: str
    each: Callable[..., Found] | None = None
    batch: Callable[..., Sequence[Found]] | None = None
    gives: Mapping[str, FieldType] | Sequence[Field] = ()
    takes: Sequence[str] = ("text_norm",)
    load: Callable[..., Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    per_worker: bool = False
    in_order: Callable[..., InOrder] | None = None
    withholds: Callable[[Mapping[str, Any]], Sequence[str]] | None = None

    def __post_init__(self) -> None:
        if not self.name or not all(part.isidentifier() for part in self.name.split("-")):
            raise UsageError(f"{self.name!r} cannot be the name of a stage: letters, digits, _ and -, a letter first")
        if self.each is not None and self.batch is not None:
            raise UsageError(f"stage {self.name!r} has each= and batch=: one of them is what it does")
        if self.each is None and self.batch is None and self.in_order is None:
            raise UsageError(f"stage {self.name!r} does nothing: give it each=, batch= or in_order=")
        if not self.gives:
            raise UsageError(f"stage {self.name!r} gives no field: gives={{'name': 'string'}}, for one")
        _ = self.fields
        object.__setattr__(self, "takes", listed(self.takes))

    @property
    def fields(self) -> tuple[Field, ...]:
        """What it gives."""
        if isinstance(self.gives, Mapping):
            return tuple(Field(name, kind) for name, kind in self.gives.items())
        return tuple(self.gives)

    def with_options(self, given: Mapping[str, Any]) -> Stage:
        """The stage with some options set.

        A text for an option whose default is a list or a tuple is a list, with commas between its parts: so it comes
        from a shell, and the letters of a word are never what is meant.

        Raises:
            UsageError: For one that it does not have, or a value of another kind than its default.
        """
        for name, value in given.items():
            if name not in self.options:
                known = f"it has {', '.join(self.options)}" if self.options else "it has none"
                raise UsageError(f"stage {self.name!r} has no option {name!r}: {known}")
            wanted = _wanted(self.options[name], value)
            if wanted is not None:
                raise UsageError(f"stage {self.name!r}: the option {name} is {value!r}, and must be {wanted}")
        taken = {
            name: listed(value) if isinstance(self.options[name], (list, tuple)) else value
            for name, value in given.items()
        }
        return replace(self, options={**self.options, **taken})

    def loaded(self) -> Any:
        """What its functions get as first argument; None if there is nothing to load."""
        return None if self.load is None else self.load(**self.options)


def _wanted(default: Any, value: Any) -> str | None:
    """What an option must be, if a value cannot be meant: a text is true, whatever it says, and `False` in a shell."""
    if isinstance(default, (list, tuple)):
        if isinstance(value, (bool, int, float)):
            return "a list"
        texts = bool(default) and all(isinstance(each, str) for each in default)
        others = isinstance(value, (list, tuple)) and not all(isinstance(each, str) for each in value)
        return "a list of texts" if texts and others else None
    if isinstance(default, (bool, int, float)) and isinstance(value, (str, list, tuple, dict)):
        return "true or false" if isinstance(default, bool) else "a number"
    return None


def check_whole(stage: str, name: str, value: Any, least: int) -> None:
    """Raise UsageError if an option is no whole number of at least so much.

    Args:
        stage: Whose it is, for the message.
        name: Of the option.
        value: That was given.
        least: It may be.
    """
    if not is_whole(value, least):
        raise UsageError(f"stage {stage!r}: {name}={value!r} must be a whole number, {least:,} or more")


def check_some(stage: str, name: str, values: Sequence[Any]) -> None:
    """Raise UsageError if an option names nothing: the stage would pass over all messages, without a word.

    Args:
        stage: Whose it is, for the message.
        name: Of the option.
        values: That were given.
    """
    if not values:
        raise UsageError(
            f"stage {stage!r}: there are no {name}, so it would find nothing: name some, or leave the stage out"
        )


def listed(value: Any) -> Any:
    """A text as a list, with commas between its parts: never its letters. Anything else as it is."""
    return tuple(part for part in map(str.strip, value.split(",")) if part) if isinstance(value, str) else value
