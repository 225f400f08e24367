"""`allcores advise`: measure a function over an input, and say what pays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from allcores.cli import input_options
from allcores.cli.exits import CommandError
from allcores.cli.output import check_stdout, reserved_stdout, say, show, write_json
from allcores.cli.target import check_arguments, resolve

if TYPE_CHECKING:
    from allcores.advisor.model.code import Names
    from allcores.sources.base import Source

#: what this command ends with; other commands have other meanings for 3 and 4
PAYS, STAY, UNRELIABLE = 0, 3, 4
_CODES = {"parallel": PAYS, "serial": STAY, "unreliable": UNRELIABLE}
#: seconds that reading the input may take, and items of it that are kept
READ_S, MOST_ITEMS = 1.5, 1_000_000

_HELP = """Measure FUNCTION over items of INPUT, and say what pays.

A loop, threads, processes or the library's own threads, with how many workers and which chunk: predicted from short
measurements, then confirmed on real items against the loop. FUNCTION and INPUT are as for allcores run. The function is
called many times, on some items more than once (see --no-repeat).

\b
  allcores advise work.py:measure urls.txt
  allcores advise work.py:clean big.jsonl --json
  allcores advise work.py:clean big.jsonl --html advice.html
"""
_EPILOG = """\b
Exit codes:
    0  it pays, and that was measured
    2  an option or the function is wrong, an input cannot be read, or the function raises
    3  stay with the loop
    4  unreliable: the machine was too busy, or the time too short, to tell
"""


@click.command("advise", help=_HELP, epilog=_EPILOG, context_settings={"max_content_width": 110})
@click.argument("function")
@click.argument("inputs", metavar="[INPUT]...", nargs=-1)
@click.option("--files", metavar="PATTERN", multiple=True, help="Items are the paths that match; repeatable.")
@input_options.input_format
@input_options.encoding
@click.option(
    "--budget",
    type=click.FloatRange(min=1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="For everything.",
)
@click.option("--repeat/--no-repeat", default=True, help="Whether an item may be called more than once (default).")
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--html", metavar="FILE", help="Write it as one HTML page, too (needs the extra report).")
def command(**given: Any) -> int:
    """The click command; its help is above."""
    return _advise(**given)


def _advise(
    function: str,
    inputs: tuple[str, ...],
    files: tuple[str, ...],
    format: Any,
    encoding: str,
    budget: float,
    repeat: bool,
    json: bool,
    html: str | None,
) -> int:
    began = _began()
    check_stdout()
    if html is not None:
        _check_page(html)
    from allcores.advisor.advise import advise_named

    # What the function, or its module, prints is not a part of the answer.
    with reserved_stdout() as standard:
        fn = resolve(function)
        check_arguments(fn, function, [1], "the item")
        source = _source(inputs, files, format, encoding)
        items, total = _read(source, inputs)
        if not items:
            raise CommandError("the input has no items: advice needs some to measure the function with")
        advice = advise_named(
            fn,
            items,
            _names(function, inputs, files, format),
            function,
            began=began,
            budget=budget,
            repeat=repeat,
            total=total,
        )
        if json:
            write_json(advice.as_dict(), fd=standard)
    if not json:
        show(str(advice))
    if html is not None:
        advice.save_html(html)
        say(f"{html}: written")
    return _CODES[advice.verdict]


def _began() -> float:
    """When this process began, on the clock of `perf_counter`: importing the function is a part of the budget."""
    from allcores.system import procfs

    started = procfs.started_ns(os.getpid()) if procfs.AVAILABLE else 0
    age_s = (time.monotonic_ns() - started) / 1e9 if started else 0.0
    return perf_counter() - min(max(0.0, age_s), 5.0)


def _source(inputs: tuple[str, ...], files: tuple[str, ...], format: Any, encoding: str) -> Source[Any]:
    from allcores.sources.chain import Chain
    from allcores.sources.files import Files
    from allcores.sources.open import from_inputs

    if files and inputs:
        raise CommandError("INPUT and --files cannot be combined: one gives lines as items, the other paths")
    if files:
        parts = [Files(pattern) for pattern in files]
        return parts[0] if len(parts) == 1 else Chain(parts)
    if not inputs:
        raise CommandError("no INPUT: name files, - for standard input, or --files 'PATTERN'")
    return from_inputs(inputs, format=format, encoding=encoding)


def _read(source: Iterable[Any], inputs: tuple[str, ...]) -> tuple[list[Any], int | None]:
    """Items, and how many there are in all; None if reading them all would take too long."""
    items: list[Any] = []
    until = perf_counter() + READ_S
    iterator = iter(source)
    for item in iterator:
        items.append(item)
        if len(items) % 64 == 0 and (perf_counter() > until or len(items) >= MOST_ITEMS):
            break
    else:
        return items, len(items)
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
    total = getattr(source, "total", None)
    return items, total() if total is not None else None


def _names(function: str, inputs: tuple[str, ...], files: tuple[str, ...], format: Any) -> Names:
    """How a program gets at them."""
    from allcores.advisor.model.code import Names

    place, _, dotted = function.rpartition(":")
    first, *rest = dotted.split(".")
    imports = []
    if place.endswith(".py"):
        folder, name = os.path.split(place)
        place = name.removesuffix(".py")
        if folder not in ("", "."):
            imports += ["import sys", "", f"sys.path.insert(0, {folder!r})"]
    imports.append(f"from {place} import {first}")
    return Names(".".join([first, *rest]), tuple(imports), tuple(_items_code(inputs, files, format)))


def _items_code(inputs: tuple[str, ...], files: tuple[str, ...], format: Any) -> list[str]:
    """Lines that make `items` of the input; a remark where that takes more than a line or two."""
    if len(files) == 1:
        return ["import glob", f"items = sorted(glob.glob({files[0]!r}, recursive=True))"]
    if len(inputs) == 1 and inputs[0] != "-":
        path = inputs[0]
        suffix = os.path.splitext(path)[1].lower()
        if format == "jsonl" or (format is None and suffix in (".jsonl", ".ndjson")):
            return ["import json", f"items = [json.loads(line) for line in open({path!r})]"]
        if format == "csv" or (format is None and suffix == ".csv"):
            return ["import csv", f"items = list(csv.DictReader(open({path!r}, newline='')))"]
        known = {".tsv", ".parquet", ".pq", ".npy", ".h5", ".hdf5", ".gz", ".bz2", ".xz", ".zst"}
        if format == "lines" or (format is None and suffix not in known and not os.path.isdir(path)):
            return [f"items = [line.rstrip('\\n') for line in open({path!r})]"]
    return ["items = ...  # the items of the input"]


def _check_page(path: str) -> None:
    """Raise CommandError if the page could not be made: before ten seconds are spent, not after."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise CommandError(f"{path} cannot be written: name a file in a folder that is there")
    try:
        from allcores.timeline.html_report import environment

        environment()
    except ImportError as error:
        raise CommandError(str(error)) from None
