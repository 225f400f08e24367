"""Measures every module of the standard library on all cores, then a sample of them once more on one.

It first tries some modules, says how long it is going to take here, and keeps to about a minute: where that is too
short for everything, it measures modules that are spread evenly over the library, and says how many.

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
from time import perf_counter, process_time
from typing import TypeVar

import allcores
from source_measures import Measures, measure, module_name, standard_library

P = TypeVar("P", Path, str)

#: exit codes; the last two are those of `allcores run`
DONE, DISAGREEMENT, CANNOT_WRITE, INTERRUPTED = 0, 1, 4, 130
#: what the trial takes at most, in seconds and in modules
TRIAL_S, TRIAL_MODULES = 3.0, 60
#: of the time that there is, what the pass on all cores may take; the rest is for the one on one core
ALL_CORES_SHARE = 0.65


@dataclass(slots=True)
class _Report:
    """What a pass over files found.

    seconds: wall time of the whole pass; seconds_of: of each file, in its worker; processor_s: of a pass on one core.
    """

    measures: dict[str, Measures] = field(default_factory=dict)
    not_python: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_of: dict[str, float] = field(default_factory=dict)
    processor_s: float = 0.0

    def __len__(self) -> int:
        return len(self.measures) + len(self.not_python)


@dataclass(frozen=True, slots=True)
class Plan:
    """What fits into the time: modules for all cores, how many of those for one core, and seconds for both."""

    modules: int
    sample: int
    seconds: float


def plan(modules: int, one_core_s: float, workers: int, seconds: float) -> Plan:
    """Choose how many modules to measure.

    Args:
        modules: How many there are.
        one_core_s: Seconds that a plain loop over all of them is expected to take.
        workers: How many cores share the first pass.
        seconds: What both passes may take together.

    Returns:
        The plan. At least one module is measured in both passes.
    """
    per_module = one_core_s / modules
    first = max(1, min(modules, int(seconds * ALL_CORES_SHARE * workers / per_module)))
    first_s = first * per_module / workers
    sample = max(1, min(first, int((seconds - first_s) / per_module)))
    return Plan(first, sample, first_s + sample * per_module)


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
        sample = paths
        if not options.whole:
            paths, sample = _choose(paths, workers, options)
        _measure_on_all_cores(paths, workers, options.output, report)
        print(f"All cores: {report.seconds:.2f} s, {len(paths) / report.seconds:,.0f} modules/s", flush=True)
        serial = None
        if not options.no_serial:
            serial = _measure_serially(sample)
            what = "the same files" if len(sample) == len(paths) else f"{len(sample):,} of these files"
            print(f"One core:  {serial.seconds:.2f} s, {what} in a plain loop")
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
        one_core_s, estimated = _one_core_seconds(serial, report)
        speed_up = one_core_s / report.seconds
        print(f"Speed-up {speed_up:.2f}× on {workers} workers: parallel efficiency {speed_up / workers:.0%}{estimated}")
        if serial.processor_s < 0.9 * serial.seconds:
            print("Other programs had a good part of the cores meanwhile: run it again when they are done.")
        if _disagree(serial, report):
            print("The two passes do not agree: were files changed meanwhile?", file=sys.stderr)
            return DISAGREEMENT
    return DONE


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python examples/standard_library.py", description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("allcores-demo.jsonl"), help="default: %(default)s")
    parser.add_argument("-w", "--workers", type=_count, help="default: the core budget")
    parser.add_argument("--limit", type=_count, metavar="N", help="measure only N modules, evenly spread")
    parser.add_argument(
        "--seconds", type=_count, default=60, metavar="S", help="what it may take in all, about (default: %(default)s)"
    )
    parser.add_argument(
        "--whole", action="store_true", help="measure every module in both passes, however long it takes"
    )
    parser.add_argument("--no-serial", action="store_true", help="leave out the pass on one core, and the speed-up")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _spread(paths: list[Path], limit: int | None) -> list[Path]:
    return paths if limit is None else _spread_over(paths, limit)


def _spread_over(paths: list[P], count: int) -> list[P]:
    """`count` of them, at even distances; all, if there are no more than that."""
    if count >= len(paths):
        return paths
    return [paths[number * len(paths) // count] for number in range(count)]


def _read_all(paths: list[str]) -> int:
    """Bytes of all files. They are in the file cache afterwards, so neither pass waits for the disk."""
    return sum(len(Path(path).read_bytes()) for path in paths)


def _choose(paths: list[str], workers: int, options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The modules of each pass, as many as there is time for; says how long that is going to take."""
    started = perf_counter()
    tried = 0
    for path in _spread_over(paths, TRIAL_MODULES):
        _measured(path)
        tried += os.path.getsize(path)
        if perf_counter() - started > TRIAL_S:
            break
    trial_s = perf_counter() - started
    # Larger files take longer, in proportion.
    one_core_s = trial_s * sum(map(os.path.getsize, paths)) / max(tried, 1)
    chosen = plan(len(paths), one_core_s, workers, max(options.seconds - trial_s, 1.0))
    some, sample = _spread_over(paths, chosen.modules), _spread_over(paths, chosen.sample)
    seconds = chosen.seconds
    if options.no_serial:
        seconds -= one_core_s * chosen.sample / len(paths)
    print(f"This is going to take about {seconds:.0f} s here.", flush=True)
    if len(some) < len(paths):
        print(f"That is for {len(some):,} of the modules, spread evenly; --whole measures every one.", flush=True)
        # of those that are measured
        sample = _spread_over(some, chosen.sample)
    return some, sample


def _measure_on_all_cores(paths: list[str], workers: int, output: Path, report: _Report) -> None:
    with open(output, "w", encoding="utf-8") as file:
        started = perf_counter()
        with allcores.Pool(workers, observers=[allcores.ProgressBar()], name="demo") as pool:
            for outcome in pool.outcomes(measure, paths):
                report.seconds_of[outcome.item] = outcome.seconds
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


def _measured(path: str) -> Measures | str:
    """The measures, or why there are none."""
    try:
        return measure(path)
    except Exception as error:
        return _reason(error)


def _measure_serially(paths: list[str]) -> _Report:
    report = _Report()
    started, processor_before = perf_counter(), process_time()
    with open(os.devnull, "w", encoding="utf-8") as file:  # the same job: measured, kept and written
        for path in _counted(paths):
            measures = _measured(path)
            if isinstance(measures, str):
                report.not_python[path] = measures
            else:
                report.measures[path] = measures
                file.write(json.dumps(measures) + "\n")
    report.seconds = perf_counter() - started
    report.processor_s = process_time() - processor_before
    return report


def _one_core_seconds(serial: _Report, report: _Report) -> tuple[float, str]:
    """What one core takes for all files of the first pass, and a remark if that follows from a sample.

    A sample stands for as much as its files took of the workers' time in the first pass.
    """
    if len(serial) == len(report):
        return serial.seconds, ""
    sampled = sum(report.seconds_of[path] for path in [*serial.measures, *serial.not_python])
    share = sampled / sum(report.seconds_of.values())
    return serial.seconds / share, f" (one core's time follows from the sample, {share:.0%} of the work)"


def _disagree(serial: _Report, report: _Report) -> bool:
    """Whether a file has other measures in the second pass than in the first."""
    return any(report.measures.get(path) != found for path, found in serial.measures.items()) or any(
        report.not_python.get(path) != found for path, found in serial.not_python.items()
    )


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
