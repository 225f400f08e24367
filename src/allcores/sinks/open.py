"""The sink that a path names, and what an unfinished publication left."""

from __future__ import annotations

import os
from typing import Any

from allcores.errors import UsageError
from allcores.sinks.base import WholeSink
from allcores.sinks.directory import FolderOfFiles, remove_made
from allcores.sinks.json_lines import JsonLinesFile
from allcores.sources.compression import OTHER_SUFFIXES, SUFFIXES, without_compression
from allcores.sources.open import ARCHIVE_SUFFIXES, CSV_SUFFIXES, JSON_SUFFIX, JSONL_SUFFIXES, PARQUET_SUFFIXES
from allcores.system import caller, own_files
from allcores.system.partial_files import partial_path

DATABASE_SUFFIXES = (".sqlite", ".sqlite3", ".db")
#: suffixes of what is written by no sink: lines of JSON under such a name would be taken for what they are not
_NOT_WRITTEN = (
    *ARCHIVE_SUFFIXES,
    *(".npy", ".h5", ".hdf5", ".xls", ".xlsx", ".arrow", ".feather", ".orc", ".avro", ".pickle", ".pkl"),
    *(".xml", ".yaml", ".yml", ".html", ".sql", ".geojson", ".ods", ".dta", ".rds", ".mat", ".duckdb"),
)


def sink_of(target: Any, *, records: bool = False) -> WholeSink:
    """The sink that a path names by its suffix; a sink is given back as it is.

    .csv and .tsv, .parquet, .sqlite and .db (`out.db:table`), a name that ends with a slash (a folder of files);
    everything else is JSON Lines, and a warning says so of a name that ends with .json.

    Raises:
        UsageError: If it is no sink, or a name of a file that would hold something else.
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
        sink = FolderOfFiles(path)
    elif plain.endswith(CSV_SUFFIXES):
        from allcores.sinks.tables import CsvFile

        sink = CsvFile(path)
    elif plain.endswith(PARQUET_SUFFIXES):
        if plain != path.lower():
            raise UsageError(f"Parquet files are compressed inside: name the output {without_compression(path)}")
        from allcores.sinks.parquet import ParquetFile

        sink = ParquetFile(path)
    elif (named := table[0].lower().endswith(DATABASE_SUFFIXES)) or path.lower().endswith(DATABASE_SUFFIXES):
        from allcores.sinks.tables import SqliteTable

        sink = SqliteTable(table[0], table[2]) if named else SqliteTable(path)  # a folder may have a colon in its name
    else:
        _check_lines(path, table[0])
        if plain.endswith(JSON_SUFFIX):
            name = path[: len(plain)]
            caller.warn(
                f"{path} will have a line of JSON for each item, which is not one document, as its name says: name it"
                f" {name}l{path[len(name) :]}"
            )
        special = False
        sink = JsonLinesFile(path, records=records)
    if special and records:
        raise UsageError(f"records are written as JSON lines: name the output like out.jsonl rather than {path}")
    return sink


def _check_lines(path: str, before_colon: str) -> None:
    """Raise UsageError for a name that says something else than lines of JSON."""
    plain = without_compression(path).lower()
    if plain.endswith(JSONL_SUFFIXES):
        return
    if plain.endswith(DATABASE_SUFFIXES):
        raise UsageError(f"a database is not compressed: name the output {without_compression(path)}")
    if without_compression(before_colon).lower().endswith((*CSV_SUFFIXES, *PARQUET_SUFFIXES, *JSONL_SUFFIXES)):
        raise UsageError(f"only databases have tables (out.db:table): name the output {before_colon}")
    if plain.endswith(OTHER_SUFFIXES):
        raise UsageError(
            f"{path} would not be compressed as its name says: compressed outputs are {', '.join(SUFFIXES)}"
        )
    if plain.endswith(_NOT_WRITTEN):
        raise UsageError(
            f"{path} would hold lines of JSON, which its name does not say: outputs are .jsonl, .csv, .parquet,"
            " out.db:table, or folder/"
        )


def remove_unfinished(path: str, *, mark: str) -> None:
    """Remove what a publication that was killed left beside its output; what is not proven to be that stays."""
    partial = partial_path(os.path.realpath(path.rstrip("/" + os.sep) or "/"), mark)
    if os.path.isdir(partial) and not os.path.islink(partial):
        remove_made(partial)
    else:
        own_files.remove_own_file(partial)
