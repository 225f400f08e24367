"""The source that a name means: by its suffix, or by the format that was asked for."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from allcores.errors import UsageError
from allcores.formatting import kind_text
from allcores.sources.base import BadRecords, Source
from allcores.sources.chain import Chain
from allcores.sources.compression import OTHER_SUFFIXES, SUFFIXES, without_compression
from allcores.sources.file_names import all_inside, has_wildcard
from allcores.sources.files import Files
from allcores.sources.sliced_inputs import SlicedFormat, file_of, sliced
from allcores.sources.sliced_inputs import format_of as sliced_format_of
from allcores.sources.text import STDIN, BadInput, check_readable, names_read_once
from allcores.sources.text_files import Csv, JsonLines, Lines

Format = Literal["lines", "jsonl", "csv", "parquet", "row-groups", "npy", "hdf5"]
#: suffixes of files that hold a JSON value per line
JSONL_SUFFIXES = (".jsonl", ".ndjson")
CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet", ".pq")
#: suffix of files that hold one JSON document, or a value in each line: the name does not tell
JSON_SUFFIX = ".json"
#: suffixes of files of lines
TEXT_SUFFIXES = (".txt", ".text", ".log", JSON_SUFFIX)
#: suffixes of files that hold other files, whose bytes are no lines
ARCHIVE_SUFFIXES = (".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".zip", ".npz", ".7z", ".rar")
#: libraries whose tables give columns, or their names, where they are iterated
_FRAME_LIBRARIES = frozenset({"pandas", "polars", "pyarrow", "modin", "cudf"})
#: formats that are read in slices, and what `sliced` calls them
SLICED: dict[str, SlicedFormat] = {"npy": "npy", "hdf5": "hdf5", "row-groups": "parquet"}


def from_inputs(
    names: Iterable[str],
    *,
    format: Format | None = None,
    encoding: str = "utf-8",
    bad_records: BadRecords = "fatal",
    rows: int | None = None,
    columns: Sequence[str] | None = None,
    separator: str | None = None,
) -> Source[Any]:
    """The items of the named files, in the order given; "-" is standard input.

    Args:
        format: How a file holds its items; None goes by the suffix: .jsonl and .ndjson are JSON Lines, .csv and .tsv
            CSV, .parquet and .pq the rows of a Parquet file, .npy, .h5 and .hdf5 are read in slices, everything else,
            and standard input, is lines. A suffix of compression (.gz, .bz2, .xz, .zst) may follow. "row-groups" reads
            a Parquet file in slices.
        bad_records: What becomes of a line that is none: "fatal" or "skip".
        rows: Per slice of an array; None chooses.
        columns: Of Parquet files; None for all.
        separator: Of CSV files; None goes by suffix and header, see `Csv`.

    Raises:
        BadInput: Now if a file is missing, a folder, an archive, .json without a format, or not readable; when
            iterated, for what is in it. UsageError now if what is read in slices is not of its format, or `rows`,
            `columns` or `separator` fits no input.
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
        if format is None and without_compression(name).lower().endswith(ARCHIVE_SUFFIXES):
            raise BadInput(
                f"{name} is an archive, by its name: unpack it, and name the files in it (or say what it is: --format)",
                path=name,
            )
        if format is None and without_compression(name).lower().endswith(JSON_SUFFIX):
            check_readable(name)
            raise BadInput(
                f"{name} is JSON, by its name, which does not tell how it holds items: say --format jsonl if each line"
                f" is a value, or lines; an array is written so by jq -c '.[]' {shlex.quote(name)} > items.jsonl",
                path=name,
            )
        _check_compression(name)
        kind = format or format_of(name)
        formats.add(kind)
        if kind in SLICED:
            parts.append(_in_slices(name, SLICED[kind], rows, columns))
        else:
            check_readable(name)
            parts.append(_file(name, kind, encoding, bad_records, columns, separator))
    if rows is not None and not formats & {"npy", "hdf5"}:
        raise UsageError(
            "rows are chosen for .npy and HDF5 inputs only: there is none (a slice of Parquet is a row group)"
        )
    if columns is not None and not formats & {"parquet", "row-groups"}:
        raise UsageError("columns are chosen for Parquet inputs only: there is none")
    if separator is not None and "csv" not in formats:
        raise UsageError(
            "a separator is chosen for CSV inputs only: there is none (a file is one by --format csv, too)"
        )
    return parts[0] if len(parts) == 1 else Chain(parts)


def _check_compression(name: str) -> None:
    """Raise BadInput for a file of items that is compressed, by its name, in a way that is not read."""
    root, suffix = os.path.splitext(file_of(name))
    if suffix.lower() in OTHER_SUFFIXES and (format_of(root) != "lines" or root.lower().endswith(TEXT_SUFFIXES)):
        raise BadInput(
            f"{name} is compressed in another way than {', '.join(SUFFIXES)}, by its name: unpack it on the way"
            " (PROGRAM FILE | allcores ... -), or give it the suffix of what it is",
            path=name,
        )


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
    if isinstance(given, bytes | bytearray):
        raise UsageError("bytes are no source, whose items are numbers: give a path as text (os.fsdecode), or a list")
    check_has_rows(given)
    # What has numbered items alone can be iterated, too (a data set of PyTorch, say), and does not say so.
    if not isinstance(given, Iterable) and not hasattr(type(given), "__getitem__"):
        raise UsageError(f"{given!r} is no source: give a path, a pattern, or anything that can be iterated")
    source: Iterable[Any] = given
    return source


def check_has_rows(given: Any) -> None:
    """Raise UsageError for a table of pandas, polars or pyarrow: its items would be its columns, or their names."""
    way = None
    if _FRAME_LIBRARIES.isdisjoint(kind.__module__.partition(".")[0] for kind in type(given).__mro__):
        return  # what others call columns is theirs
    if hasattr(given, "columns"):
        way = (
            "to_dicts()" if hasattr(given, "to_dicts") else 'to_dict("records")' if hasattr(given, "to_dict") else None
        )
    if hasattr(given, "column_names") and hasattr(given, "to_pylist"):
        way = "to_pylist()"
    if way is not None:
        raise UsageError(f"{kind_text(given)} is no source, for its parts are columns: give its rows, frame.{way}")


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
    name: str,
    format: Format,
    encoding: str,
    bad_records: BadRecords,
    columns: Sequence[str] | None,
    separator: str | None,
) -> Source[Any]:
    """The source of a file that can be read; what can be told of it from its beginning is told now."""
    if format == "parquet":
        from allcores.sources.parquet import Parquet

        parquet = Parquet(name, None if columns is None else tuple(columns))
        parquet.check()
        return parquet
    if format == "csv":
        source = Csv(name, encoding, bad_records, separator)
        if names_read_once(name) is None:
            source.check()
        return source
    return (JsonLines if format == "jsonl" else Lines)(name, encoding, bad_records)
