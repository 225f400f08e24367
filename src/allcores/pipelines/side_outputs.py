"""Outputs of the sides of a stream (`Pipeline.tee`, with `imap` or standard output): each appears whole, at its end.

Rows that have arrived wait on the disk, beside the output that they are for, in a file without a name: so they take no
memory, and nothing is left of them where the stream is left early, or raises.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from typing import Any

from allcores.errors import JournalError
from allcores.pipelines.execution import Execution
from allcores.pipelines.marks import Sided
from allcores.pipelines.plan import Line
from allcores.runs.spool import Spool
from allcores.sinks.base import Block, WholeSink
from allcores.sinks.destination import are_looked_at, check_inputs_survive, items_survive
from allcores.sinks.json_text import NotJson
from allcores.sinks.many_rows import ManyRows, joined
from allcores.system import deferral

#: rows and characters that wait for the disk. Larger: memory. Smaller: more, shorter writes.
MOST_ROWS = 1_000
MOST_CHARACTERS = 1 << 20


class SideOutputs:
    """The outputs of sides. To be closed; closing without `publish` leaves none of them.

    Args:
        lines: The sides.
        source: The records, for whether an output would cost one.
        functions: Of the pipeline, likewise.

    Raises:
        UsageError: If an output cannot be written, is that of another side, or would cost an input.
    """

    def __init__(self, lines: Sequence[Line], source: Iterable[Any], functions: Iterable[Callable[..., Any]]) -> None:
        self._closed = False
        self._lock = threading.Lock()
        sinks = [line.sink for line in lines]
        called = list(functions)
        ManyRows(sinks[0], sinks[1:]).check()  # and that no two of them are one
        for sink in sinks:
            check_inputs_survive(os.fspath(sink.path), source, *called, inside=getattr(sink, "inside", None))
        self._sides: dict[int, _Side] = {}
        try:
            for line in lines:
                self._sides[line.side] = _Side(line.sink)
        except BaseException:
            self.close()
            raise

    def looked_at(self, source: Iterable[Any]) -> Iterable[Any]:
        """The records as they are to be read; those of an iterator raise if they name what would be replaced."""
        if not are_looked_at(source):
            for side in self._sides.values():
                source = items_survive(side.path, source)
        return source

    def over(self, execution: Execution) -> Generator[Any, None, None]:
        """What comes out of a pipeline, without the rows of sides, whose outputs appear at its end."""
        with closing(iter(execution)) as elements, self:
            for element in elements:
                if isinstance(element, Sided):
                    self.add(element.side, element.row)
                else:
                    yield element
            if execution.whole:
                self.publish()

    def add(self, number: int, row: Any) -> None:
        """Take a row of a side.

        Args:
            number: Of the side, from 1.
            row: As its sink encodes it.

        Raises:
            JournalError: If it cannot be kept until the end.
        """
        side = self._sides[number]
        with self._lock:
            if self._closed:
                return
            try:
                side.add(row)
            except OSError as error:
                raise _cannot_write(side, error) from error

    def publish(self) -> None:
        """Write the outputs, each whole. Raises JournalError if one cannot be written."""
        for side in self._sides.values():
            try:
                side.publish()
            except OSError as error:
                raise _cannot_write(side, error) from error

    def __enter__(self) -> SideOutputs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what waits. Idempotent; any thread may call it."""
        with self._lock:
            self._closed = True
            for side in self._sides.values():
                side.spool.close()


class _Side:
    """One output, and the rows that wait for it."""

    def __init__(self, sink: WholeSink) -> None:
        self.sink = ManyRows(sink)
        self.path = os.fspath(sink.path)
        self.spool = Spool.beside(self.path)
        self._names_of = self.sink.names_of
        self._names: set[str] = set()
        self._rows: list[str] = []
        self._characters = 0
        #: rows on the disk
        self._count = 0

    def add(self, row: Any) -> None:
        """Take a row.

        Raises:
            NotJson: If it names a file that an earlier row has named. OSError: If the disk is full.
        """
        line = joined([(0, row)])
        if self._names_of is not None:
            for name in self._names_of(line):
                if name in self._names:
                    raise NotJson(f"a row gave the name {name!r}, which an earlier row has")
                self._names.add(name)
        self._rows.append(line)
        self._characters += len(line)
        if len(self._rows) >= MOST_ROWS or self._characters >= MOST_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows, self._characters = self._rows, [], 0
        if rows:
            self.spool.add(Block(self._count, len(rows), ("\n".join(rows) + "\n").encode()))
            self._count += len(rows)

    def publish(self) -> None:
        """Write the output, whole."""
        self._flush()
        self.sink.publish(self.spool.entries, mark=secrets.token_hex(4), sync=True)


def _cannot_write(side: _Side, error: OSError) -> JournalError:
    if deferral.raised_by_handler(error):
        raise error  # a TimeoutError, say, of a time limit of the program
    made = JournalError(f"cannot write {side.path}, a side of the pipeline: {error.strerror or error}")
    made.__cause__ = error
    return made
