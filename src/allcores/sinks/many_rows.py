"""A sink around another one, for items that give any number of rows, and rows for more than one output.

What comes for an item is still one line of text, as journals have it:

    rows of the output            row RS row RS row          nothing at all: an item without rows
    rows of another output        US number US row           the outputs are numbered; the first is 0 and is not named

RS and US are the control characters 0x1e and 0x1f, which no line of a sink has: JSON writes them as escapes. When the
outputs are published, each gets the rows that are its own. An item that failed may have rows, too, that were there
before it did: they are in its record.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from allcores.errors import UsageError
from allcores.sinks.base import Block, Entries, Lost, WholeSink
from allcores.sinks.destination import looked_up
from allcores.sinks.directory import FolderOfFiles
from allcores.sinks.json_text import NotJson, to_json
from allcores.system import deferral

#: between the rows of an item
ROW = "\x1e"
#: around the number of the output that a row is for
OUTPUT = "\x1f"
_SPECIAL = re.compile(b"[\x1e\x1f]")
#: of the record of an item that failed: its rows, joined as above
ROWS = "rows"
#: the same: further failures of the same item, each a record
MORE = "more_failures"


def joined(rows: Iterable[tuple[int, str]]) -> str:
    """The line for an item.

    Args:
        rows: Each with the number of its output.

    Raises:
        NotJson: If a sink that is not ours made a row of them that has one of the characters in it.
    """
    return ROW.join([_marked(output, row) for output, row in rows])


def _marked(output: int, row: str) -> str:
    if not row or ROW in row or OUTPUT in row or "\n" in row:
        raise NotJson(f"a row is {row!r}: a sink has to make one line of text, without control characters, of each")
    return f"{OUTPUT}{output}{OUTPUT}{row}" if output else row


def taken_apart(line: str) -> Iterator[tuple[int, str]]:
    """The rows in a line that `joined` made, each with the number of its output."""
    if not line:
        return
    for row in line.split(ROW):
        if row.startswith(OUTPUT):
            _, output, text = row.split(OUTPUT, 2)
            yield int(output), text
        else:
            yield 0, row


def for_readers(record: str) -> str:
    """The record of an item that failed with its rows, if it has any, as a list: the text of each, and its output."""
    if f'"{ROWS}"' not in record:
        return record
    found = json.loads(record)
    rows = found.get(ROWS)
    if not isinstance(rows, str):
        return record  # some value of the item has that name
    return to_json({**found, ROWS: [{"output": output, "row": row} for output, row in taken_apart(rows)]})


def is_many(described: dict[str, Any]) -> bool:
    """True if the output of a run, as `describe` told it, has any number of rows for each item."""
    return "rows" in described


def looks_many(lines: bytes) -> bool:
    """True if these lines of a journal have items in them that gave no row or several: no other output has such."""
    return lines.startswith(b"\n") or b"\n\n" in lines or _SPECIAL.search(lines) is not None


class ManyRows:
    """Outputs of items that give any number of rows. Each is published whole; the first one last.

    A program that is killed between two of them publishes all of them again when the run is resumed; that the first
    one is there says that all are.

    Args:
        sink: The first output.
        sides: The others, numbered from 1 on.
    """

    def __init__(self, sink: WholeSink, sides: Sequence[WholeSink] = ()) -> None:
        self.sink = sink
        self.sides = tuple(sides)
        self.path = sink.path
        self.looks_twice = bool(sides) or sink.looks_twice
        _check_apart([sink, *sides])

    @property
    def outputs(self) -> tuple[WholeSink, ...]:
        """All of them, by their numbers."""
        return (self.sink, *self.sides)

    @property
    def wants_details(self) -> bool:
        return any(each.wants_details for each in self.outputs)

    @property
    def takes_failures(self) -> bool:
        return self.sink.takes_failures

    @property
    def inside(self) -> str | None:
        """See `FolderOfFiles.inside`."""
        return getattr(self.sink, "inside", None)

    def describe(self) -> dict[str, Any]:
        """See `WholeSink`."""
        described = {**self.sink.describe(), "rows": "any number for each item"}
        for number, side in enumerate(self.sides, 1):
            described[f"side {number}"] = side.describe()
        return described

    def check(self) -> None:
        """See `WholeSink`."""
        for each in self.outputs:
            check = getattr(each, "check", None)
            if callable(check):
                check()

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        """See `WholeSink`.

        Args:
            function: What it returns is a list: the rows of the first output.
        """
        return RowsFunction(function, self.sink.wrap(_unchanged))

    @property
    def names_of(self) -> Callable[[str], list[str]] | None:
        """What tells the names that the rows in a line give to files; no two may be alike. None: files have no names.

        Names are paths, with the output before them.
        """
        named = any(getattr(each, "name_of", None) is not None for each in self.outputs)
        return self._names_in if named else None

    def _names_in(self, line: str) -> list[str]:
        names = []
        for output, row in taken_apart(line):
            name_of: Callable[[str], str | None] | None = getattr(self.outputs[output], "name_of", None)
            name = None if name_of is None else name_of(row)
            if name is not None:
                names.append(f"{self.outputs[output].path}/{name}")
        return names

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None:
        """See `WholeSink`."""
        for number in reversed(range(len(self.outputs))):
            output = self.outputs[number]
            try:
                output.publish(unfolded(entries, number, output, skipped=False), mark=mark, sync=sync)
            except OSError as error:
                if deferral.raised_by_handler(error):
                    raise
                if number == 0:
                    raise
                raise OSError(error.errno, f"{error.strerror or error} (its part {output.path})") from error


class RowsFunction:
    """`function`, but the list that it returns as one line, each value as a row of it. Runs in the workers."""

    def __init__(self, function: Callable[..., Iterable[Any]], encode: Callable[[Any], str]) -> None:
        """See the class.

        Args:
            encode: Makes a row of a value.
        """
        self.function = function
        self.encode = encode

    def __call__(self, *args: Any) -> str:
        encode = self.encode
        return joined([(0, encode(value)) for value in self.function(*args)])

    def __repr__(self) -> str:
        return repr(self.function)


def _unchanged(value: Any) -> Any:
    return value


def _check_apart(outputs: Sequence[WholeSink]) -> None:
    """Raise UsageError if two outputs are one, or one lies in the folder that is another."""
    reals = [looked_up(os.fspath(output.path))[0] if output.path else "" for output in outputs]
    places: dict[tuple[str, str], None] = {}
    for real, output in zip(reals, outputs, strict=True):
        place = (real, str(getattr(output, "table", "")).lower())
        if place in places:
            raise UsageError(f"{output.path} is the output of two parts of the pipeline: give each its own")
        places[place] = None
    folders = [real for real, output in zip(reals, outputs, strict=True) if isinstance(output, FolderOfFiles)]
    for real, output in zip(reals, outputs, strict=True):
        for folder in folders:
            if real.startswith(folder.rstrip(os.sep) + os.sep):
                raise UsageError(
                    f"{output.path} lies in {folder}, another output, which is replaced whole: write it elsewhere"
                )


def unfolded(entries: Entries, number: int, output: WholeSink, *, skipped: bool = True) -> Entries:
    """What one output gets: each row as if it were an item's.

    In a folder, files without names are called by the number of their row; records tell the item.

    Args:
        entries: With lines as `joined` makes them.
        number: Of the output.
        output: Where the rows go.
        skipped: With failures that are to be left out of the output.
    """
    records = output.takes_failures
    numbered = isinstance(output, FolderOfFiles)

    def give() -> Iterator[Block | Lost]:
        row_number = 0
        for entry in entries():
            if isinstance(entry, Lost):
                rows = [row for which, row in taken_apart(entry.record.get(ROWS, "")) if which == number]
                if rows and records:
                    yield from _each(entry.index, rows, None)
                elif rows:
                    yield _block(row_number if numbered else entry.index, rows)
                row_number += len(rows)
                if records and number == 0:
                    yield from (Lost(entry.index, record) for record in failures_in(entry.record, skipped=skipped))
                continue
            for start, rows, details in _rows_of(entry, number, apart=records):
                if details is not None:
                    yield from _each(start, rows, details)
                else:
                    yield _block(row_number if numbered else start, rows)
                row_number += len(rows)

    return give


def _rows_of(
    block: Block, number: int, *, apart: bool
) -> Iterator[tuple[int, list[str], tuple[int, int, float] | None]]:
    """Rows for one output, with the index of their first item; with `apart`, those of each item by themselves."""
    if number == 0 and not apart and not _SPECIAL.search(block.lines):  # a row for each item, or none
        rows = block.lines.decode().split("\n")[: block.count]
        kept = rows if all(rows) else [row for row in rows if row]
        if kept:
            yield block.start, kept, None
        return
    gathered: list[str] = []
    lines = block.lines.decode().split("\n")
    for offset in range(block.count):
        rows = [row for which, row in taken_apart(lines[offset]) if which == number]
        if apart:
            yield block.start + offset, rows, block.details[offset] if block.details is not None else (1, -1, 0.0)
        else:
            gathered += rows
    if gathered:
        yield block.start, gathered, None


def _block(start: int, rows: Sequence[str]) -> Block:
    return Block(start, len(rows), ("\n".join(rows) + "\n").encode())


def _each(index: int, rows: Sequence[str], details: tuple[int, int, float] | None) -> Iterator[Block]:
    """A block for each row, all with the index of their item."""
    for row in rows:
        yield Block(index, 1, (row + "\n").encode(), [details or (1, -1, 0.0)])


def failures_in(record: dict[str, Any], *, skipped: bool) -> Iterator[dict[str, Any]]:
    """The failures of an item, a record of each, as that of the item has them, without its rows.

    Args:
        record: Of the item.
        skipped: Also those that are to be left out of the output, as their stage says.
    """
    first = {name: value for name, value in record.items() if name not in (ROWS, MORE)}
    for each in (first, *record.get(MORE, ())):
        if skipped or each.get("on_error") != "skip":
            yield {**each, "index": first["index"]} if "index" in first else each
