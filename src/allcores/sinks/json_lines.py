"""Sinks that publish whole: an output appears under its name complete, or not at all.

contract    wrap(fn)            what runs in the workers: fn, but its value as one line of text
            publish(entries)    puts all entries, in input order, where they belong, in one step
            describe()          what makes it the same output
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from allcores.errors import AllcoresError, UsageError
from allcores.failpoints import failpoint
from allcores.outcome import Kind
from allcores.sinks.destination import check_file
from allcores.sinks.json_text import JsonFunction, to_json
from allcores.sources.compression import without_compression, wrap_to_write
from allcores.sources.open import CSV_SUFFIXES, PARQUET_SUFFIXES
from allcores.system import own_files
from allcores.system.partial_files import create_nameless, create_partial, give_name, partial_path


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive items that returned. start: index of the first.

    lines: their values as `wrap` encoded them, each ended by a newline. details: (attempts, worker, seconds) of
    each, worker -1 if there was none; None unless the sink `wants_details`.
    """

    start: int
    count: int
    lines: bytes
    details: Sequence[tuple[int, int, float]] | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """An item that did not return. record: everything about its outcome, as plain JSON."""

    index: int
    record: dict[str, Any]


Entries = Callable[[], Iterable[Block | Lost]]


class WholeSink(Protocol):
    """Where the outcomes of a run go.

    path: the destination. wants_details: whether it writes attempts, workers and seconds. takes_failures: whether
    it has a way to write an item that did not return.
    """

    path: str
    #: `publish` asks for the entries more than once
    looks_twice: bool

    @property
    def wants_details(self) -> bool: ...

    @property
    def takes_failures(self) -> bool: ...

    def describe(self) -> dict[str, Any]: ...

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]: ...

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None: ...

    def check(self) -> None:
        """Raise UsageError if it could not be published, as far as can be told before a run begins."""


@contextlib.contextmanager
def published(path: str, *, mark: str, sync: bool) -> Iterator[IO[bytes]]:
    """A file to write that becomes `path` when the block ends, in one step; an exception leaves `path` as it was.

    mark: makes the name that it has for a moment, or all the time where the file system knows no nameless files. sync:
    have the disk take the content before the name, and the name before this returns. Raises: OSError.
    """
    path = os.path.realpath(path)  # a link stays one
    partial = partial_path(path, mark)
    failpoint("publish.begin")
    own_files.remove_own_file(partial)
    descriptor = create_nameless(path)
    named = None if descriptor is not None else partial
    if descriptor is None:
        descriptor = create_partial(partial, path)
    try:
        with open(descriptor, "wb") as file:
            out, finish = wrap_to_write(file, path)
            try:
                yield out
                failpoint("publish.write")
            finally:
                finish()  # in any case: a compressor that is left open warns when it is collected
            file.flush()
            if sync:
                failpoint("publish.sync.before")
                os.fsync(descriptor)
                failpoint("publish.sync.after")
            failpoint("publish.rename.before")
            if named is None:
                named = give_name(descriptor, path, partial)
        if named != path:
            os.replace(partial, path)
        if sync:
            sync_names(os.path.dirname(path))
        failpoint("publish.rename.after")
    except BaseException:
        if named == partial:
            own_files.remove_own_file(partial)
        raise


def remove_unfinished(path: str, *, mark: str) -> None:
    """Remove what a publication that was killed left beside its output; what is not proven to be that stays."""
    partial = partial_path(os.path.realpath(path.rstrip("/" + os.sep) or "/"), mark)
    if os.path.isdir(partial) and not os.path.islink(partial):
        from allcores.sinks.directory import remove_made

        remove_made(partial)
    else:
        own_files.remove_own_file(partial)


def sync_names(folder: str) -> None:
    """Have the disk take the names in a folder, where that can be asked for."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # some network file systems refuse, and need it not
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class JsonLinesFile:
    """A file with a line of JSON for each item.

    records: a full record for each item, also for one that failed, rather than the value alone. A suffix of
    compression (.gz, .zst …) is obeyed.
    """

    looks_twice = False

    def __init__(self, path: str | os.PathLike[str], *, records: bool = False) -> None:
        self.path = os.fspath(path)
        self.records = records

    @property
    def wants_details(self) -> bool:
        return self.records

    @property
    def takes_failures(self) -> bool:
        return self.records

    def describe(self) -> dict[str, Any]:
        return {"kind": "JsonLinesFile", "path": os.path.abspath(self.path), "records": self.records}

    def check(self) -> None:
        check_file(self.path)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        return JsonFunction(function)

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None:
        with published(self.path, mark=mark, sync=sync) as file:
            for entry in entries():
                if isinstance(entry, Block):
                    file.write(b"".join(_records(entry)) if self.records else entry.lines)
                elif self.records:
                    file.write(to_json(entry.record).encode() + b"\n")


def _records(block: Block) -> Iterator[bytes]:
    details = block.details or [(1, -1, 0.0)] * block.count
    for offset, (value, (attempts, worker, seconds)) in enumerate(zip(block.lines.split(b"\n"), details, strict=False)):
        facts = {"attempts": attempts, "seconds": round(seconds, 6), "worker": None if worker < 0 else worker}
        head = f'{{"index": {block.start + offset}, "kind": "{Kind.OK.value}", "value": '
        yield head.encode() + value + b", " + json.dumps(facts)[1:].encode() + b"\n"


def rows_of(entries: Entries, path: str) -> Iterator[dict[str, Any]]:
    """The values as rows of a table. Raises: UsageError if one is no dict with names."""
    for entry in entries():
        if isinstance(entry, Block):
            for offset, line in enumerate(entry.lines.split(b"\n")[: entry.count]):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UsageError(
                        f"item {entry.start + offset} gave a {type(row).__name__}, but {path} is a table:"
                        " let the function return a dict, or write to a .jsonl file"
                    )
                yield row


def field_names(entries: Entries, path: str) -> list[str]:
    """The names of all fields, in the order in which they first appear."""
    names: dict[str, None] = {}
    for row in rows_of(entries, path):
        if row.keys() - names.keys():
            names.update(dict.fromkeys(row))
    return list(names)


@contextlib.contextmanager
def values_fit(path: str) -> Iterator[None]:
    """Turns what is raised for a value that `path` cannot hold into a sentence; workers have looked at most of them."""
    try:
        yield
    except AllcoresError:
        raise
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{path}: a value cannot be written there: {error}") from error


def sink_of(target: Any, *, records: bool = False) -> WholeSink:
    """The sink that a path names by its suffix; a sink is given back as it is.

    .csv and .tsv, .parquet, .sqlite and .db (`out.db:table`), a name that ends with a slash (a folder of files);
    everything else is JSON Lines.
    """
    if not isinstance(target, (str, os.PathLike)):
        if not callable(getattr(target, "publish", None)):
            raise UsageError(f"{target!r} is no sink: give a path, or one of allcores.sinks")
        found: WholeSink = target
        return found
    path = os.fspath(target)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if path == "-":
        raise UsageError("- means standard output only for the command line: name a file, like out.jsonl (or ./-)")
    plain = without_compression(path).lower()
    table = path.rpartition(":")
    special = True
    sink: WholeSink
    if path.endswith(("/", os.sep)):
        from allcores.sinks.directory import FolderOfFiles

        sink = FolderOfFiles(path)
    elif plain.endswith(CSV_SUFFIXES):
        from allcores.sinks.tables import CsvFile

        sink = CsvFile(path)
    elif plain.endswith(PARQUET_SUFFIXES):
        if plain != path.lower():
            raise UsageError(f"Parquet files are compressed inside: name the output {without_compression(path)}")
        from allcores.sinks.parquet import ParquetFile

        sink = ParquetFile(path)
    elif (table[0] or path).lower().endswith((".sqlite", ".sqlite3", ".db")):
        from allcores.sinks.tables import SqliteTable

        sink = SqliteTable(table[0] or path, table[2] if table[0] else "outcomes")
    else:
        special = False
        sink = JsonLinesFile(path, records=records)
    if special and records:
        raise UsageError(f"records are written as JSON lines: name the output like out.jsonl rather than {path}")
    return sink
