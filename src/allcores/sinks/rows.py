"""Values as rows of a table: checked where they are made, in the workers, for what the table cannot hold.

So an item whose value does not fit fails by itself, at once, rather than the output at the end of a run.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from allcores.errors import AllcoresError, UsageError
from allcores.formatting import kind_text
from allcores.sinks.base import Block, Entries
from allcores.sinks.json_text import NotJson, to_json

#: the one column of a table whose rows have no field: without any, there would be no rows
NO_FIELD = "nothing"
#: what SQLite takes unless it was compiled for more or fewer
SQLITE_COLUMNS_MAX = 2_000
_SURROGATE = re.compile("[\ud800-\udfff]")
#: whole numbers up to this are floats, too
_EXACT = 1 << 53
_LONG_NUMBER = re.compile(r"\d{19}")
_CAPITALS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class RowRules:
    """What a kind of table holds.

    Attributes:
        name: What messages call it.
        integers_64: No whole numbers of more than 64 bits.
        one_type_lists: The values of a list have one type; whole numbers and others are one.
        sql_names: Names of columns are those of SQL: no NUL, not told apart by case, at most `SQLITE_COLUMNS_MAX`.
    """

    name: str
    integers_64: bool = False
    one_type_lists: bool = False
    sql_names: bool = False


class RowFunction:
    """`function`, but its value as a row: a line of JSON. Runs in the workers."""

    def __init__(self, function: Callable[..., Any], path: str, rules: RowRules) -> None:
        """See the class.

        Args:
            path: Of the table, for messages.
        """
        self.function = function
        self.path = path
        self.rules = rules

    def __call__(self, *args: Any) -> str:
        text = to_json(self.function(*args))
        rules = self.rules
        if not text.startswith("{"):
            kind = kind_text(json.loads(text))
            raise NotJson(
                f"value is {kind}, but {self.path} is a table: let the function return a dict, or write to a .jsonl"
                " file"
            )
        has_odd = "\\ud" in text or (rules.integers_64 and _LONG_NUMBER.search(text) is not None)
        has_lists = rules.one_type_lists and "[" in text
        if not (rules.sql_names or has_odd or has_lists):
            return text
        row = json.loads(text)
        if rules.sql_names:
            check_sql_names(row)
        if has_odd:
            _check_parts(row, rules)
        if has_lists:
            _check_lists(row, "value", rules.name)
        return text

    def __repr__(self) -> str:
        return repr(self.function)


def sql_name(name: str) -> str:
    """What SQLite compares of a name: A to Z count as a to z."""
    return name.translate(_CAPITALS)


def check_sql_names(row: dict[str, Any]) -> None:
    """Look at the names of a row.

    Raises:
        NotJson: A table of SQLite cannot have all of them as columns.
    """
    if len(row) > SQLITE_COLUMNS_MAX:
        raise NotJson(
            f"value has {len(row):,} names, and a table of SQLite {SQLITE_COLUMNS_MAX:,} columns at most: put some of"
            " them into a dict below one name"
        )
    seen: dict[str, str] = {}
    for name in row:
        if "\0" in name:
            raise NotJson(f"value has the name {name!r}, and a column of SQLite cannot have a NUL in its name")
        other = seen.setdefault(sql_name(name), name)
        if other != name:
            raise NotJson(f"value has the names {other!r} and {name!r}, which are one column in SQLite: rename one")


def _check_parts(row: dict[str, Any], rules: RowRules) -> None:
    for place, part in _parts(row, "value"):
        if isinstance(part, str):
            if _SURROGATE.search(part):
                raise NotJson(
                    f"{place} has half a surrogate pair, {part!r}, which {rules.name} cannot hold: return text that is"
                    " Unicode (of a file's name: os.fsencode(name).decode('latin-1'), for one)"
                )
        elif rules.integers_64 and not -(1 << 63) <= part < 1 << 63:
            raise NotJson(
                f"{place} is {part}, a whole number of more than 64 bits, which {rules.name} cannot hold: return it as"
                " a string or a float"
            )


def _check_lists(value: Any, place: str, table: str) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            _check_lists(part, f"{place}[{name!r}]", table)
    elif isinstance(value, list):
        different = _different(value)
        if different is not None:
            one, other = different
            raise NotJson(
                f"{place} is a list with {kind_text(one)} and {kind_text(other)} in the same places, and the values of"
                f" a list in {table} have one type: return them as text (json.dumps), or below names of their own"
            )
        for number, part in enumerate(value):
            _check_lists(part, f"{place}[{number}]", table)


def _different(values: list[Any]) -> tuple[Any, Any] | None:
    """Two of some values, or of what is in the same place within them, that no type has in common; None if all have."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    first = there[0]
    for value in there:
        if _type_of(value) is not _type_of(first):
            return first, value
    if isinstance(first, list):
        return _different([part for value in there for part in value])
    if isinstance(first, dict):
        for name in dict.fromkeys(name for value in there for name in value):
            different = _different([value.get(name) for value in there])
            if different is not None:
                return different
    if isinstance(first, int | float) and any(isinstance(value, float) for value in there):
        # As one column these are floats, which do not tell such numbers apart.
        large = [value for value in there if isinstance(value, int) and abs(value) > _EXACT]
        if large:
            return large[0], next(value for value in there if isinstance(value, float))
    return None


def _type_of(value: Any) -> type:
    return float if type(value) is int else type(value)


def _parts(value: Any, place: str) -> Iterator[tuple[str, str | int]]:
    """Texts (names, too) and whole numbers in a value, each with its place."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        yield place, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield f"a name in {place}", name
            yield from _parts(part, f"{place}[{name!r}]")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _parts(part, f"{place}[{number}]")


def rows_of(entries: Entries, path: str) -> Iterator[dict[str, Any]]:
    """The values as rows of a table.

    Raises:
        UsageError: If one is no dict with names.
    """
    return (row for row, _ in _sized_rows(entries, path))


def batches_of_rows(entries: Entries, path: str, *, rows: int, size: int) -> Iterator[list[dict[str, Any]]]:
    """The same in lists.

    Args:
        rows: How many a list has at most.
        size: And bytes of their text, but for the last one.
    """
    batch: list[dict[str, Any]] = []
    left = size
    for row, length in _sized_rows(entries, path):
        batch.append(row)
        left -= length
        if len(batch) >= rows or left <= 0:
            yield batch
            batch, left = [], size
    if batch:
        yield batch


def _sized_rows(entries: Entries, path: str) -> Iterator[tuple[dict[str, Any], int]]:
    for entry in entries():
        if isinstance(entry, Block):
            for offset, line in enumerate(entry.lines.split(b"\n")[: entry.count]):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UsageError(
                        f"item {entry.start + offset} gave {kind_text(row)}, but {path} is a table:"
                        " let the function return a dict, or write to a .jsonl file"
                    )
                yield row, len(line)


def field_names(entries: Entries, path: str) -> list[str]:
    """The names of all fields, in the order in which they first appear; `NO_FIELD` alone if rows have none.

    Empty if there is no row.
    """
    names: dict[str, None] = {}
    some = False
    for row in rows_of(entries, path):
        some = True
        if row.keys() - names.keys():
            names.update(dict.fromkeys(row))
    return list(names) or [NO_FIELD] * some


@contextlib.contextmanager
def values_fit(path: str) -> Iterator[None]:
    """Turns what is raised for a value that `path` cannot hold into a sentence; workers have looked at most of them."""
    try:
        yield
    except AllcoresError:
        raise
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{path}: a value cannot be written there: {error}") from error
