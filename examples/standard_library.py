"""Measures every module of the standard library on all cores, then once more on one.

python examples/standard_library.py --help    (or `make demo`)
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import allcores
from source_measures import Measures, measure, module_name, standard_library

#: exit codes; the last two are those of `allcores run`
DONE, DISAGREEMENT, CANNOT_WRITE, INTERRUPTED = 0, 1, 4, 130


@dataclass(slots=True)
class _Report:
    """What a pass over all files found. seconds: wall time of the whole pass."""

    measures: dict[str, Measures] = field(default_factory=dict)
    not_python: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.measures) + len(self.not_python)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit code: 0, 4 if the output can't be written, 130 after Ctrl-C."""
    options = _options(argv)
    root = Path(sysconfig.get_path("stdlib"))
    report = _Report()
    try:
        paths = [str(path) for path in _spread(standard_library(root), options.limit)]
        megabytes = _read_all(paths) / 1e6
        workers = options.workers or allcores.core_budget().workers
        print(
            f"{len(paths):,} modules ({megabytes:.1f} MB) of the standard library of "
            f"{platform.python_implementation()} {platform.python_version()}, on {workers} workers",
            flush=True,
        )
        _measure_on_all_cores(paths, workers, options.output, report)
        print(f"All cores: {report.seconds:.2f} s, {len(paths) / report.seconds:,.0f} modules/s", flush=True)
        serial = None
        if not options.no_serial:
            serial = _measure_serially(paths)
            print(f"One core:  {serial.seconds:.2f} s, the same files in a plain loop")
    except KeyboardInterrupt:
        print(f"\nInterrupted. {_what_was_written(report, options.output)}")
        return INTERRUPTED
    except OSError as error:
        print(f"The demo cannot go on: {error}", file=sys.stderr)
        return CANNOT_WRITE
    print()
    _print_most_complex(report, root)
    print()
    print(_what_was_written(report, options.output))
    if serial is not None:
        speed_up = serial.seconds / report.seconds
        print(f"Speed-up {speed_up:.2f}× on {workers} workers: parallel efficiency {speed_up / workers:.0%}")
        if (serial.measures, serial.not_python) != (report.measures, report.not_python):
            print("The two passes do not agree: were files changed meanwhile?", file=sys.stderr)
            return DISAGREEMENT
    return DONE


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python examples/standard_library.py", description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("allcores-demo.jsonl"), help="default: %(default)s")
    parser.add_argument("-w", "--workers", type=_count, help="default: the core budget")
    parser.add_argument("--limit", type=_count, metavar="N", help="measure only N modules, evenly spread")
    parser.add_argument("--no-serial", action="store_true", help="leave out the pass on one core, and the speed-up")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _spread(paths: list[Path], limit: int | None) -> list[Path]:
    if limit is None or limit >= len(paths):
        return paths
    return [paths[number * len(paths) // limit] for number in range(limit)]


def _read_all(paths: list[str]) -> int:
    """Bytes of all files. They are in the file cache afterwards, so neither pass waits for the disk."""
    return sum(len(Path(path).read_bytes()) for path in paths)


def _measure_on_all_cores(paths: list[str], workers: int, output: Path, report: _Report) -> None:
    with open(output, "w", encoding="utf-8") as file:
        started = perf_counter()
        with allcores.Pool(workers, observers=[allcores.ProgressBar()], name="demo") as pool:
            for outcome in pool.outcomes(measure, paths):
                if outcome.value is not None:
                    report.measures[outcome.item] = outcome.value
                    record = {"index": outcome.index, "kind": outcome.kind.value, "value": outcome.value}
                elif outcome.kind is allcores.Kind.CANCELLED:
                    continue  # after Ctrl-C: not started, and nothing to tell
                else:
                    report.not_python[outcome.item] = _reason(outcome.error)
                    record = {
                        "index": outcome.index,
                        "kind": outcome.kind.value,
                        "item": outcome.item,
                        "error": type(outcome.error).__name__,
                        "message": str(outcome.error),
                    }
                file.write(json.dumps(record) + "\n")
        report.seconds = perf_counter() - started


def _measure_serially(paths: list[str]) -> _Report:
    report = _Report()
    started = perf_counter()
    with open(os.devnull, "w", encoding="utf-8") as file:  # the same job: measured, kept and written
        for path in _counted(paths):
            try:
                measures = report.measures[path] = measure(path)
            except Exception as error:
                report.not_python[path] = _reason(error)
            else:
                file.write(json.dumps(measures) + "\n")
    report.seconds = perf_counter() - started
    return report


def _counted(paths: list[str]) -> Iterator[str]:
    """The paths; meanwhile a terminal sees how far it is."""
    shown = sys.stderr.isatty()
    for number, path in enumerate(paths):
        if shown and number % 25 == 0:
            print(
                f"\rOne core, for comparison: {number:,} of {len(paths):,}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        yield path
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _reason(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"


def _print_most_complex(report: _Report, root: Path) -> None:
    most = heapq.nlargest(10, report.measures.values(), key=lambda one: one["complexity"])
    names = [module_name(Path(one["path"]), root) for one in most]
    width = max(map(len, ["module", *names]))
    print("The most complex modules, by decisions (McCabe's cyclomatic complexity):")
    print(f"{'module':<{width}}  complexity  code lines  functions  nesting  most complex function")
    for name, one in zip(names, most, strict=True):
        worst = f"{one['worst_function']} ({one['worst_complexity']})" if one["worst_function"] else "none"
        print(
            f"{name:<{width}}  {one['complexity']:>10,}  {one['code_lines']:>10,}  {one['functions']:>9,}"
            f"  {one['nesting']:>7}  {worst}"
        )


def _what_was_written(report: _Report, output: Path) -> str:
    if not len(report):
        return "No module was measured yet."
    code_lines = sum(one["code_lines"] for one in report.measures.values())
    functions = sum(one["functions"] for one in report.measures.values())
    return (
        f"{len(report):,} modules in {output}: {code_lines:,} lines of code and {functions:,} functions; "
        f"{len(report.not_python)} do not parse (bad examples among the tests' data)"
    )


if __name__ == "__main__":
    sys.exit(main())
