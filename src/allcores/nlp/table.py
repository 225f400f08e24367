"""The table that a chat pipeline writes: Parquet, or JSON Lines, with the columns of `catalogue.columns`.

Its schema comes from the stages, never from the values: an output has the same columns and types whatever is in it, and
however many workers made it. Entries are looked at twice where a stage looks at all messages in order.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import IO, Any

from allcores.errors import UsageError
from allcores.nlp.catalogue import columns
from allcores.nlp.libraries import library
from allcores.nlp.reading.items import record_of
from allcores.nlp.records import Field, Record, add_error, well_formed
from allcores.nlp.rows import SECONDS, RowEncoder, encoded
from allcores.nlp.stage import InOrder, Stage
from allcores.nlp.summary import ChatSummary
from allcores.nlp.watching import watchers
from allcores.sinks.base import Block, Entries
from allcores.sinks.destination import check_file
from allcores.sinks.publishing import published
from allcores.sources.compression import without_compression

#: rows in a row group of a Parquet file
ROW_GROUP = 2_000
JSON_SUFFIXES = (".jsonl", ".ndjson")
#: in the messages of the errors `WorkerLost` and `TaskTimeout`
_HOW_IT_ENDED = re.compile(r"^Worker \d+ (.+?)(?: while |,|;|\.|$)")
#: of a task that raised what is no `Exception`: the message shows the item
_RAISED = re.compile(r"^items\[\d+\] \(.*\) raised (?:\w+\.)*(\w+)", re.DOTALL)
_LIMIT = re.compile(r"longer than timeout=(\S+ s)\b")


class ChatTable:
    """A file of rows; see the module and, for the methods, `allcores.sinks.base.WholeSink`.

    Args:
        path: Ends with .parquet, or with .jsonl (then a suffix of compression may follow).
        stages: Of the pipeline.
        names: Under which items that workers read have their fields, see `reading.formats.records_of`.
    """

    wants_details = False
    takes_failures = True

    def __init__(
        self, path: str | os.PathLike[str], stages: Sequence[Stage], names: Mapping[str, str] | None = None
    ) -> None:
        self.path = os.fspath(path)
        lower = self.path.lower()
        self.is_parquet = lower.endswith((".parquet", ".pq"))
        if not self.is_parquet and not without_compression(lower).endswith(JSON_SUFFIXES):
            raise UsageError(f"{self.path}: the output of a chat pipeline ends with .parquet or .jsonl")
        self.stages = tuple(stages)
        self.names = names
        self.columns = columns(stages)
        self.summary = ChatSummary()
        self.looks_twice = any(stage.in_order is not None for stage in stages)

    def describe(self) -> dict[str, Any]:
        """See `WholeSink`."""
        return {
            "kind": type(self).__name__,
            "path": os.path.abspath(self.path),
            "columns": ", ".join(f"{field.name}:{field.type}" for field in self.columns),
        }

    def check(self) -> None:
        """See `WholeSink`."""
        check_file(self.path)
        watchers(self.stages)  # said before the work, and not behind it, if one cannot be made
        if self.is_parquet:
            library("pyarrow.parquet", extra="nlp", use="writing Parquet")

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        """See `WholeSink`."""
        return RowEncoder(function)

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None:
        """See `WholeSink`."""
        in_order = watchers(self.stages)
        if in_order:
            for position, row in self._rows(entries):
                for each in in_order:
                    each.see(position, row)
        self.summary = ChatSummary()
        with published(self.path, mark=mark, sync=sync) as file:
            (self._write_parquet if self.is_parquet else self._write_json)(file, self._finished(entries, in_order))

    def _finished(self, entries: Entries, in_order: Sequence[InOrder]) -> Iterator[Record]:
        for position, row in self._rows(entries):
            for each in in_order:
                each.fill(position, row)
            self.summary.add_seconds(row.get(SECONDS) or {})
            row = complete(row, self.columns)
            self.summary.add(row)
            yield row

    def _rows(self, entries: Entries) -> Iterator[tuple[int, Record]]:
        for entry in entries():
            if isinstance(entry, Block):
                for offset, line in enumerate(entry.lines.split(b"\n")[: entry.count]):
                    yield entry.start + offset, json.loads(line)
            else:
                record = entry.record
                item, kind, message = (record.get(name) for name in ("item", "kind", "message"))
                yield entry.index, lost_row(item, kind, message, self.stages, self.names)

    def _write_json(self, file: IO[bytes], rows: Iterable[Record]) -> None:
        for row in rows:
            file.write(_json_line(row))

    def _write_parquet(self, file: IO[bytes], rows: Iterator[Record]) -> None:
        arrow = library("pyarrow", extra="nlp", use="writing Parquet")
        parquet = library("pyarrow.parquet", extra="nlp", use="writing Parquet")
        schema = arrow_schema(arrow, self.columns)
        with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            while group := list(islice(rows, ROW_GROUP)):
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def complete(row: Record, fields: Sequence[Field]) -> Record:
    """A row with all columns, in their order, and no other."""
    return {field.name: row.get(field.name) for field in fields}


def lost_row(
    item: Any,
    kind: str | None,
    message: str | None,
    stages: Sequence[Stage],
    names: Mapping[str, str] | None = None,
) -> Record:
    """The row of a message whose worker crashed or was ended: as it was read, with what happened as its error.

    Args:
        item: See `reading.items`; of a journal, what its JSON gives back.
        kind: How it ended.
        message: Of the error.
        stages: Of the pipeline.
        names: See `ChatTable`.
    """
    known = isinstance(item, (dict, list, tuple))
    row: Record = dict(record_of(item, names)) if known else {"id": None}
    for stage in stages:
        if stage.withholds is not None:
            row.update(dict.fromkeys(stage.withholds(stage.options)))
    add_error(row, _lost_sentence(kind, well_formed(message or "")))
    return row


def _lost_sentence(kind: str | None, message: str) -> str:
    """What happened, without the worker's number and its memory: these are not the same in the next run.

    Nor does it show the message, from which personal data may have been taken out.
    """
    if kind == "worker_lost":
        how = _HOW_IT_ENDED.search(message)
        return f"crash: the worker process {how[1] if how else 'ended'}"
    if kind == "timed_out":
        limit = _LIMIT.search(message)
        return f"deadline: it took longer than {limit[1] if limit else 'it may'}"
    raised = _RAISED.match(message)
    return f"failed: {raised[1] if raised else message}"


def arrow_schema(arrow: Any, fields: Sequence[Field]) -> Any:
    """The schema of a Parquet file with these columns."""
    scalars = {
        "string": arrow.string(), "int32": arrow.int32(), "int64": arrow.int64(), "float32": arrow.float32(),
        "float64": arrow.float64(), "bool": arrow.bool_(),
    }  # fmt: skip
    place = [("start", arrow.int32()), ("end", arrow.int32())]
    types = {
        **scalars,
        **{f"list<{name}>": arrow.list_(scalars[name]) for name in ("string", "int32", "float32")},
        "ranges": arrow.list_(arrow.struct(place)),
        "spans": arrow.list_(arrow.struct([("type", arrow.string()), *place])),
    }
    return arrow.schema([arrow.field(field.name, types[field.type]) for field in fields])


def _json_line(row: Record) -> bytes:
    return encoded(row).encode() + b"\n"
