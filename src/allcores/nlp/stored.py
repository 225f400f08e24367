"""Rows of a table that was written before, or of files of chat that were not: for counting."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from allcores.errors import UsageError
from allcores.nlp.libraries import library
from allcores.nlp.reading.files import ChatFormat, lines_of
from allcores.nlp.reading.source import ChatSource
from allcores.nlp.records import Record
from allcores.sources.text import STDIN, check_readable, gives_once, opened

#: rows that are held at once
ROWS = 1_000


def rows_of(path: str, format: ChatFormat | None = None) -> Iterator[Record]:
    """The rows of a .parquet or .jsonl file that a chat pipeline has written; of other files the messages.

    Raises:
        UsageError: If it cannot be read.
    """
    if path.lower().endswith((".parquet", ".pq")):
        return _parquet_rows(path)
    source = ChatSource(path, format=format)
    return _json_rows(source.paths[0]) if len(source.paths) == 1 and _is_table(source) else iter(source)


def _parquet_rows(path: str) -> Iterator[Record]:
    check_readable(path)
    arrow = library("pyarrow", extra="nlp", use="reading Parquet")
    parquet = library("pyarrow.parquet", extra="nlp", use="reading Parquet")
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                yield from batch.to_pylist()
    except arrow.ArrowException as error:
        raise UsageError(f"cannot read {path}: {error}") from None


def _is_table(source: ChatSource) -> bool:
    """Whether the first line is a row as a pipeline writes it: with the place that it was read from."""
    (path,) = source.paths
    # What a pipe has given once is gone, and whoever writes to it would lose its reader.
    if source.formats != ["jsonl"] or path == STDIN or gives_once(os.stat(path).st_mode):
        return False
    with opened(path) as (file, _):
        try:
            _, line = next(lines_of(path, file), (1, b"null"))
            first = json.loads(line)
        except (ValueError, RecursionError):
            return False
    return isinstance(first, dict) and {"id", "file", "line"} <= first.keys()


def _json_rows(path: str) -> Iterator[Record]:
    with opened(path) as (file, _):
        for number, line in lines_of(path, file):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise UsageError(f"{path}, line {number}: this is no row that a chat pipeline has written")
            yield row
