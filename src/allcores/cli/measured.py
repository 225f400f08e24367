"""The function and the input of commands that measure a function: `advise` and `tune`."""

from __future__ import annotations

import codecs
import importlib.util
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from time import perf_counter
from typing import TYPE_CHECKING, Any

from allcores.advisor.asked import check_computes
from allcores.advisor.measuring.patience import Patience, TooLong
from allcores.advisor.measuring.sample import Beginning
from allcores.cli.exits import CommandError
from allcores.cli.paths import check_patterns, matching, patterns_of
from allcores.cli.target import both, check_arguments, resolve
from allcores.sinks.destination import check_inputs_survive
from allcores.sources.compression import compression_of
from allcores.sources.text import names_read_once

if TYPE_CHECKING:
    from allcores.advisor.model.code import Names
    from allcores.sources.base import Source

#: for an input that is at hand
FOREVER = Patience(math.inf)
#: seconds that reading the input may take, and items of it that are kept
READ_S, MOST_ITEMS = 1.5, 1_000_000


def began() -> float:
    """When this process began, on the clock of `perf_counter`: importing the function is a part of the budget."""
    from allcores.system import procfs

    started = procfs.started_ns(os.getpid()) if procfs.AVAILABLE else 0
    age_s = (time.monotonic_ns() - started) / 1e9 if started else 0.0
    return perf_counter() - min(max(0.0, age_s), 5.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """How an input is read: `--format`, `--encoding`, `--separator`."""

    format: Any
    encoding: str
    separator: str | None


class Measured:
    """A function, and items to measure it with, as a command line names them.

    Args:
        purpose: What needs items, for the message if there are none.
        patience_s: Seconds in which there has to be an item.
        pages: Files that are going to be written, and may be none of those that are read.

    Attributes:
        fn: The function.
        items: Items of the input, all of them if that is quick; else the first ones.
        total: How many there are in all; None if counting them takes too long.
        names: How a program gets at both.

    Raises:
        CommandError: They make no sense, or there are no items, or none in time.
        UsageError: The input cannot be read, or a page would replace a file of it, or that of the function.
    """

    def __init__(
        self,
        function: str,
        inputs: tuple[str, ...],
        files: tuple[str, ...],
        reading: Reading,
        *,
        purpose: str,
        patience_s: float = math.inf,
        pages: Iterable[str] = (),
    ) -> None:
        def find_input() -> tuple[tuple[str, ...], tuple[str, ...], Source[Any]]:
            # A folder stands for its files, as `run` takes it.
            patterns = files or patterns_of(inputs, _asked(reading))
            named = (inputs, files) if files or not patterns else ((), patterns)
            return *named, _source_of(*named, reading)

        def find_function() -> Any:
            fn = resolve(function)
            check_arguments(fn, function, [1], "the item")
            check_computes(fn)
            return fn

        (inputs, files, source), self.fn = both(find_input, find_function)
        for path in pages:
            check_inputs_survive(path, source, self.fn)
        items, whole, self.total = _read(source, Patience(patience_s))
        if not items:
            raise CommandError(f"the input has no items: {purpose} needs some to measure the function with")
        self.items: Iterable[Any] = items if whole else Beginning(items)
        self.names = _names_of(function, inputs, files, reading, source)


def _asked(reading: Reading) -> dict[str, Any]:
    return {"--format": reading.format, "--separator": reading.separator}


def _source_of(inputs: tuple[str, ...], files: tuple[str, ...], reading: Reading) -> Source[Any]:
    """Where the items come from. Raises CommandError."""
    from allcores.sources.open import from_inputs

    if files and inputs:
        raise CommandError("INPUT and --files cannot be combined: one gives lines as items, the other paths")
    if files:
        check_patterns(files, _asked(reading))
        return matching(files)
    if not inputs:
        raise CommandError("no INPUT: name files, a folder, - for standard input, or --files 'PATTERN'")
    return from_inputs(inputs, format=reading.format, encoding=reading.encoding, separator=reading.separator)


def _read(source: Iterable[Any], patience: Patience = FOREVER) -> tuple[list[Any], bool, int | None]:
    """Items, whether these are all, and how many there are in all; None if counting them would take too long."""
    items: list[Any] = []
    until = perf_counter() + READ_S
    iterator = iter(source)
    try:
        with patience:
            for item in patience.of(iterator):
                items.append(item)
                # at each: one may take as long as all of them should
                if len(items) > MOST_ITEMS or perf_counter() > until:
                    break
            else:
                return items, True, len(items)
    except TooLong:
        if not items:
            raise CommandError(patience.sentence()) from None
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
    total = getattr(source, "total", None)
    return items, False, total() if total is not None else None


def _names_of(
    function: str, inputs: tuple[str, ...], files: tuple[str, ...], reading: Reading, source: Source[Any]
) -> Names:
    """How a program gets at them."""
    from allcores.advisor.model.code import Names

    place, _, dotted = function.rpartition(":")
    first, *rest = dotted.split(".")
    imports = []
    if place.endswith(".py"):
        folder, name = os.path.split(os.path.expanduser(place))
        place = name.removesuffix(".py")
        if folder not in ("", "."):
            imports += ["import sys", "", f"sys.path.insert(0, {folder!r})"]
    if all(part.isidentifier() and not iskeyword(part) for part in place.split(".")):
        imports.append(f"from {place} import {first}")
    else:  # `import` takes no such name
        imports += ["import importlib", "", f"{first} = importlib.import_module({place!r}).{first}"]
    return Names(".".join([first, *rest]), tuple(imports), tuple(_items_code(inputs, files, reading, source)))


def _items_code(inputs: tuple[str, ...], files: tuple[str, ...], reading: Reading, source: Source[Any]) -> list[str]:
    """Lines that make `items` of the input; a remark where that takes more than a line or two."""
    from allcores.sources.text_files import Csv

    format, encoding = reading.format, reading.encoding
    text = "" if encoding == "utf-8" else f", encoding={encoding!r}"
    if len(files) == 1:
        return [
            "import glob",
            "import os",
            f"items = sorted(filter(os.path.isfile, glob.glob({files[0]!r}, recursive=True)))",
        ]
    if len(inputs) == 1 and inputs[0] != "-":
        path = inputs[0]
        if encoding == "utf-8" and _has_mark(path):
            text = ", encoding='utf-8-sig'"
        suffix = os.path.splitext(path)[1].lower()
        if format == "jsonl" or (format is None and suffix in (".jsonl", ".ndjson")):
            return ["import json", f"items = [json.loads(line) for line in open({path!r}{text})]"]
        if isinstance(source, Csv) and compression_of(path) is None:
            told = source.told()
            separated = "" if told == "," else f", delimiter={told!r}"
            return ["import csv", f"items = list(csv.DictReader(open({path!r}, newline=''{text}){separated}))"]
        known = {".tsv", ".parquet", ".pq", ".npy", ".h5", ".hdf5", ".gz", ".bz2", ".xz", ".zst"}
        if format == "lines" or (format is None and suffix not in known and not os.path.isdir(path)):
            return [f"items = [line.rstrip('\\n') for line in open({path!r}{text})]"]
    return ["items = ...  # the items of the input"]


def _has_mark(path: str) -> bool:
    """Whether it begins with a byte order mark, as what Excel writes does: no part of the first line, or name."""
    if names_read_once(path) is not None or os.path.isdir(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    except OSError:
        return False


def check_apart(outputs: Mapping[str, str | None]) -> None:
    """Raise CommandError if two outputs, by the names of their options, are one file."""
    written: dict[str, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        real = os.path.realpath(path)
        if real in written:
            raise CommandError(f"{option} and {written[real]} are the same file, {path}: name two")
        written[real] = option


def check_page(path: str) -> str:
    """Where the page is to be, whatever folder the function goes to: a whole path.

    Raises:
        CommandError: The page could not be made. Before ten seconds are spent, not after.
    """
    from allcores.timeline import html_report

    _check_library("jinja2", html_report.MISSING)
    return _checked_file(path)


def check_picture(path: str) -> str:
    """The same for the picture."""
    from allcores.advisor import picture

    _check_library("matplotlib", picture.MISSING)
    return _checked_file(path)


def _check_library(name: str, missing: str) -> None:
    """It is not imported: its memory and its threads would be measured as those of the program."""
    if importlib.util.find_spec(name) is None:
        raise CommandError(missing)


def _checked_file(path: str) -> str:
    whole = os.path.abspath(path)
    folder = os.path.dirname(whole)
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise CommandError(f"{path} cannot be written: name a file in a folder that is there")
    return whole
