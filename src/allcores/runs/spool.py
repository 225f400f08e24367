"""Entries for outputs, kept in a file without a name: it takes no memory, and is gone with the program."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator

from allcores.runs.outcome_log import Log, Record, Row
from allcores.sinks.base import Block, Lost


class Spool:
    """What was added, in order, to be read as often as is wanted. To be closed.

    Args:
        folder: On whose disk it lies; None: where temporary files are.

    Raises:
        OSError: If no file can be made there.
    """

    def __init__(self, folder: str | None = None) -> None:
        with tempfile.TemporaryFile(prefix="allcores-", dir=folder) as file:
            self._log = Log("a temporary file", 0, descriptor=os.dup(file.fileno()))
        #: where each entry lies, and whether it is a block
        self._rows: list[tuple[Row, bool]] = []

    @classmethod
    def beside(cls, path: str) -> Spool:
        """On the disk of an output: what is called /tmp may be small, or memory.

        Raises:
            OSError: If no file can be made there, nor where temporary files are.
        """
        try:
            return cls(os.path.dirname(os.path.realpath(path)))
        except OSError:
            return cls()

    def add(self, entry: Block | Lost) -> None:
        """Keep an entry.

        Raises:
            OSError: If the disk is full.
        """
        if isinstance(entry, Block):
            record = Record(entry.start, entry.count, entry.lines, entry.details)
        else:
            record = Record(entry.index, 1, json.dumps(entry.record).encode() + b"\n")
        (row,) = self._log.append([record])
        self._rows.append((row, isinstance(entry, Block)))

    def entries(self) -> Iterator[Block | Lost]:
        """All entries, see `allcores.sinks.base.Entries`."""
        for row, is_block in self._rows:
            record = self._log.read(row)
            if is_block:
                yield Block(record.start, record.count, record.lines, record.details)
            else:
                yield Lost(record.start, json.loads(record.lines))

    def close(self) -> None:
        """Let go of the file."""
        self._log.close()

    def __del__(self) -> None:
        # Of a stream that was never read.
        if hasattr(self, "_log"):
            self.close()
