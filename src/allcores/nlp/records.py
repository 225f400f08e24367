"""What a row of chat is: its fields, their types, and how a message becomes one.

One table of fields says what each stage takes and gives. The columns of an output follow it, and never the values, so
that an output has the same columns whatever is in it. Offsets are characters of `text_norm`, from its start;
`offsets` leads back to `text`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from allcores.errors import UsageError

#: one message: its fields by name
Record = dict[str, Any]

#: what a field holds. "spans" are {type, start, end}; "ranges" are {start, end}.
FieldType = Literal[
    "string", "int32", "int64", "float32", "float64", "bool",
    "list<string>", "list<int32>", "list<float32>", "spans", "ranges",
]  # fmt: skip

TYPES: tuple[str, ...] = (
    "string", "int32", "int64", "float32", "float64", "bool",
    "list<string>", "list<int32>", "list<float32>", "spans", "ranges",
)  # fmt: skip

_SURROGATES = re.compile("[\ud800-\udfff]")
_INT64 = 1 << 63
_MOST_FLOAT32 = (2 - 2**-23) * 2.0**127


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its name, its type, and what is in it. None stands in a row where there is nothing."""

    name: str
    type: FieldType
    about: str = ""

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise UsageError(f"field {self.name!r}: {self.type!r} is no type: one of {', '.join(TYPES)}")
        if not self.name.isidentifier() or self.name.startswith("_"):
            raise UsageError(f"{self.name!r} cannot be the name of a field: letters, digits and _, a letter first")


#: what readers give
READ_FIELDS = (
    Field(
        "id",
        "string",
        "the message's own, else file:line (file:line.n for the nth of a line), and :turn in a conversation",
    ),
    Field("conversation_id", "string", "the conversation it belongs to"),
    Field("speaker", "string", "who wrote it; of models: system, user, assistant, tool"),
    Field("reply_to", "string", "id of the message that it answers"),
    Field("timestamp", "float64", "seconds since 1970, UTC"),
    Field("file", "string", "name of the file it was read from, with the folders that tell it from another"),
    Field("line", "int64", "its line there, from 1"),
    Field("text", "string", "the message as it was read; half a surrogate pair is U+FFFD"),
)
#: the last column
ERROR = Field("error", "string", "what went wrong for this row, and where: reading, a stage, a crash, a deadline")

_READ_NAMES = tuple(field.name for field in READ_FIELDS)


def new_record(file: str, line: int, *, error: str | None = None, **given: Any) -> Record:
    """A message as readers give it: all of their fields, None where nothing was given."""
    record: Record = dict.fromkeys(_READ_NAMES)
    record.update(given)
    record["file"] = file
    record["line"] = line
    record["error"] = error
    if record["id"] is None:
        record["id"] = id_of(file, line)
    return record


def is_record(item: dict[str, Any]) -> bool:
    """Whether it is a message as readers give it, or a row: all of their fields are there, and not just some names."""
    return "error" in item and all(name in item for name in _READ_NAMES)


def id_of(file: str, line: int, place: int = 1) -> str:
    """The id of what has none of its own: where it stands. `place`: on its line, of several documents, from 1."""
    return f"{file}:{line}" if place == 1 else f"{file}:{line}.{place}"


def well_formed(text: str) -> str:
    """`text` as it can be written: pairs of surrogates joined, and half of one replaced by U+FFFD."""
    if text.isascii() or not _SURROGATES.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def add_error(record: Record, sentence: str) -> None:
    """Note one more thing that went wrong for a row; the first stands first."""
    known = record.get("error")
    record["error"] = sentence if known is None else f"{known}; {sentence}"


def sentence_of(error: BaseException) -> str:
    """An exception in one line: its type and its message, at most 500 characters."""
    message = " ".join(well_formed(str(error)).split())
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= 500 else text[:499] + "…"


def fitting(field: Field, value: Any) -> Any:
    """`value` as the column of `field` holds it.

    Raises:
        TypeError: If it is of another type. ValueError: If it is out of the type's range.
    """
    if value is None:
        return None
    kind = field.type
    if kind in ("spans", "ranges"):
        return [_span(field, part) for part in _listed(field, value)]
    if kind.startswith("list<"):
        inner = Field(field.name, kind[5:-1])  # type: ignore[arg-type]
        return [fitting(inner, part) for part in _listed(field, value)]
    if kind == "string":
        if not isinstance(value, str):
            raise TypeError(f"field {field.name!r} holds text, not {type(value).__name__}")
        return well_formed(value)
    if kind == "bool":
        if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
            value = bool(value)
        if not isinstance(value, bool):
            raise TypeError(f"field {field.name!r} holds True or False, not {type(value).__name__}")
        return value
    if kind in ("int32", "int64"):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"field {field.name!r} holds whole numbers, not {type(value).__name__}")
        number = int(value)
        limit = _INT64 if kind == "int64" else 1 << 31
        if not -limit <= number < limit:
            raise ValueError(f"field {field.name!r} holds {kind}, and {number} is out of its range")
        return number
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"field {field.name!r} holds numbers, not {type(value).__name__}")
    real = float(value)
    if not math.isfinite(real):
        raise ValueError(f"field {field.name!r} holds finite numbers, not {real}")
    if kind == "float32" and abs(real) > _MOST_FLOAT32:
        raise ValueError(f"field {field.name!r} holds float32, and {real} is out of its range")
    return real


def _listed(field: Field, value: Any) -> Iterator[Any]:
    if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable):
        raise TypeError(f"field {field.name!r} holds a list, not {type(value).__name__}")
    return iter(value)


def _span(field: Field, value: Any) -> dict[str, Any]:
    names = ("type", "start", "end") if field.type == "spans" else ("start", "end")
    if not isinstance(value, dict) or set(value) != set(names):
        raise TypeError(f"field {field.name!r} holds dicts of {', '.join(names)}, not {value!r:.60}")
    kinds: dict[str, FieldType] = {"type": "string", "start": "int32", "end": "int32"}
    span = {name: fitting(Field(field.name, kinds[name]), value[name]) for name in names}
    if None in span.values() or not 0 <= span["start"] <= span["end"]:
        raise ValueError(
            f"field {field.name!r} holds places from 0 on, the end not before the start, not {value!r:.60}"
        )
    return span
