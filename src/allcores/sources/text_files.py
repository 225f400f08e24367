"""Where items come from: files of lines, JSON Lines, paths that match a pattern, standard input.

Every source is lazy: it opens a file when iteration reaches it and holds one line at a time, so
a file larger than memory is fine. What cannot be read becomes `BadInput`, one sentence that names
the file and the line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from allcores.errors import UsageError
from allcores.sources.compression import without_compression
from allcores.sources.file_names import all_inside, has_wildcard, matching_files
from allcores.sources.sliced_inputs import SlicedFormat, file_of, sliced
from allcores.sources.sliced_inputs import format_of as sliced_format_of
from allcores.sources.text import STDIN, BadInput, check_encoding, check_readable, count_lines, names_read_once

Format = Literal["lines", "jsonl", "csv", "parquet", "row-groups", "npy", "hdf5"]
#: what becomes of a record that cannot be read: the end of the whole, or it is left out and reported
BadRecords = Literal["fatal", "skip"]
#: formats that are read in slices, and what `sliced` calls them
SLICED: dict[str, SlicedFormat] = {"npy": "npy", "hdf5": "hdf5", "row-groups": "parquet"}

#: suffixes of files that hold a JSON value per line
JSONL_SUFFIXES = (".jsonl", ".ndjson")
CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet", ".pq")
#: paths; up to here the files that match a pattern are counted beforehand
COUNT_PATHS_MAX = 10_000

T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """Items, one after the other."""

    def __iter__(self) -> Iterator[T_co]: ...

    def total(self) -> int | None:
        """The number of items, as far as it can be told quickly; else None."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Each line of a file is an item, without its line end. Empty lines are items, too.

    path: the file, or "-" for standard input (which can be read once).
    encoding: of the text; one in which a newline is the byte 10 (so not UTF-16).
    bad_records: "fatal" (default) or "skip": what becomes of a line that will not decode.
    """

    path: str
    encoding: str = "utf-8"
    bad_records: BadRecords = "fatal"

    def __post_init__(self) -> None:
        check_encoding(self.encoding)

    def __iter__(self) -> Iterator[str]:
        return _read(self)

    def total(self) -> int | None:
        return count_lines(self.path)


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Each line of a file is a JSON value, and an item. Blank lines are skipped."""

    path: str
    encoding: str = "utf-8"
    bad_records: BadRecords = "fatal"

    def __post_init__(self) -> None:
        check_encoding(self.encoding)

    def __iter__(self) -> Iterator[Any]:
        return _read(self)

    def total(self) -> int | None:
        return count_lines(self.path, self.encoding)


@dataclass(frozen=True, slots=True)
class Csv:
    """Each record of a file of comma-separated values is an item: a dict of strings, by the names of the first line.

    A record may span lines, in quotes. separator: what stands between fields; None goes by the suffix: a tabulator
    for .tsv, else a comma. bad_records: as above, and for a record with more or fewer fields than there are names.
    """

    path: str
    encoding: str = "utf-8"
    bad_records: BadRecords = "fatal"
    separator: str | None = None

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise UsageError(f"separator={self.separator!r} must be one character, and no quote or line end")

    @property
    def delimiter(self) -> str:
        """What separates the fields."""
        tabbed = without_compression(self.path).lower().endswith(".tsv")
        return self.separator or ("\t" if tabbed else ",")

    def __iter__(self) -> Iterator[dict[str, str]]:
        return _read(self)

    def total(self) -> int | None:
        return None  # a record may span lines


@dataclass(frozen=True, slots=True)
class Files:
    """Each file that matches a pattern is an item: its path, as a string.

    Sorted within each folder, so the order is the same on every machine; `**` matches any number of
    folders, does not enter linked folders, and names that start with a dot have to be asked for.
    """

    pattern: str

    def __iter__(self) -> Iterator[str]:
        found = False
        try:
            for path in matching_files(self.pattern):
                found = True
                yield path
        except ValueError as error:  # a PatternError, or a name that no file can have
            raise BadInput(str(error), path=self.pattern) from None
        except OSError as error:
            folder = error.filename or self.pattern
            raise BadInput(f"cannot list {folder}: {error.strerror}", path=self.pattern) from None
        if not found:
            raise BadInput(self._nothing(), path=self.pattern)

    def total(self) -> int | None:
        count = 0
        try:
            for _ in matching_files(self.pattern):
                count += 1
                if count > COUNT_PATHS_MAX:
                    return None
        except (OSError, ValueError):
            return None  # the iteration itself will tell
        return count

    def _nothing(self) -> str:
        if os.path.isdir(self.pattern):
            return f"{self.pattern} is a folder: for the files in it, write '{all_inside(self.pattern)}'"
        kind = "matches" if has_wildcard(self.pattern) else "is called"
        try:
            place = f"in {os.getcwd()}"
        except OSError:
            place = "the working folder is gone"
        return f"no file {kind} '{self.pattern}' ({place})"


@dataclass(frozen=True, slots=True)
class Chain:
    """The items of several sources, one source after the other."""

    parts: Sequence[Source[Any]]

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts:
            yield from part

    def total(self) -> int | None:
        total = 0
        for part in self.parts:
            count = part.total()
            if count is None:
                return None
            total += count
        return total


def from_inputs(
    names: Iterable[str],
    *,
    format: Format | None = None,
    encoding: str = "utf-8",
    bad_records: BadRecords = "fatal",
    rows: int | None = None,
    columns: Sequence[str] | None = None,
) -> Source[Any]:
    """The items of the named files, in the order given; "-" is standard input.

    format: how a file holds its items; None goes by the suffix: .jsonl and .ndjson are JSON Lines, .csv and .tsv
        CSV, .parquet and .pq the rows of a Parquet file, .npy, .h5 and .hdf5 are read in slices, everything else,
        and standard input, is lines. A suffix of compression (.gz, .bz2, .xz, .zst) may follow. "row-groups" reads
        a Parquet file in slices.
    bad_records: what becomes of a line that is none: "fatal" or "skip".
    rows: per slice of an array; None chooses. columns: of Parquet files; None for all.
    Raises: BadInput now if a file is missing, a folder or not readable; when iterated, for what is in it.
        UsageError now if what is read in slices is not of its format, or `rows` or `columns` fits no input.
    """
    parts: list[Source[Any]] = []
    formats: set[str] = set()
    once: dict[tuple[int, int], str] = {}
    for name in names:
        what = names_read_once(name)
        if what in once:
            other = "" if once[what] == name else f", and {once[what]} is the same"
            shown = "standard input (-)" if name == STDIN else name
            raise BadInput(f"{shown} can only be read once{other}", path=name)
        if what is not None:
            once[what] = name
        kind = format or format_of(name)
        formats.add(kind)
        if kind in SLICED:
            parts.append(_in_slices(name, SLICED[kind], rows, columns))
        else:
            check_readable(name)
            parts.append(_file(name, kind, encoding, bad_records, columns))
    if rows is not None and not formats & {"npy", "hdf5"}:
        raise UsageError(
            "rows are chosen for .npy and HDF5 inputs only: there is none (a slice of Parquet is a row group)"
        )
    if columns is not None and not formats & {"parquet", "row-groups"}:
        raise UsageError("columns are chosen for Parquet inputs only: there is none")
    return parts[0] if len(parts) == 1 else Chain(parts)


def _in_slices(name: str, format: SlicedFormat, rows: int | None, columns: Sequence[str] | None) -> Source[Any]:
    if name == STDIN:
        raise BadInput(
            f"standard input cannot be read in slices: write it to a file, and name that ({format})", path=name
        )
    check_readable(file_of(name))
    try:
        return sliced(name, format, rows=rows, columns=columns)
    except ImportError as error:
        raise BadInput(f"cannot read {name}: {error}", path=name) from None


def source_of(given: Any) -> Iterable[Any]:
    """The source that a path or a pattern names; an iterable is given back as it is.

    A pattern (`data/*.png`) and a folder are files, whose paths are the items; other paths are read as
    `from_inputs` does. What is there under the very name is that, even if the name could be a pattern.
    """
    if isinstance(given, (str, os.PathLike)):
        path = os.fspath(given)
        if os.path.isdir(path):
            return Files(all_inside(path))
        if has_wildcard(path) and not os.path.lexists(file_of(path)):
            return Files(path)
        return from_inputs([path])
    if not isinstance(given, Iterable):
        raise UsageError(f"{given!r} is no source: give a path, a pattern, or anything that can be iterated")
    return given


def format_of(name: str) -> Format:
    """How a file holds its items, by its suffix."""
    plain = without_compression(name).lower()
    if plain.endswith(JSONL_SUFFIXES):
        return "jsonl"
    if plain.endswith(CSV_SUFFIXES):
        return "csv"
    if plain.endswith(PARQUET_SUFFIXES):
        return "parquet"
    return "lines" if name == STDIN else sliced_format_of(name) or "lines"


def _file(
    name: str, format: Format, encoding: str, bad_records: BadRecords, columns: Sequence[str] | None
) -> Source[Any]:
    """The source of a file that can be read; what can be told of it from its beginning is told now."""
    if format == "parquet":
        from allcores.sources.parquet import Parquet

        parquet = Parquet(name, None if columns is None else tuple(columns))
        parquet.check()
        return parquet
    if format == "csv":
        source = Csv(name, encoding, bad_records)
        if names_read_once(name) is None:
            from allcores.sources.cursors import check_header

            check_header(source)
        return source
    return (JsonLines if format == "jsonl" else Lines)(name, encoding, bad_records)


def _read(source: Lines | JsonLines | Csv) -> Iterator[Any]:
    """The items of a file of lines, from its start; files are closed with the iterator."""
    from allcores.sources.cursors import open_cursor

    cursor = open_cursor(source)
    try:
        yield from cursor
    finally:
        cursor.close()
