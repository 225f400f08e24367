"""Measures allcores, its peers and the least that is possible, in turn, in one run.

python benchmarks/run.py                      everything but advice, and writes docs/benchmarks.md
python benchmarks/run.py --only imap,submit   some rows
python benchmarks/run.py --quick              everything small: shows that the scripts work
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks import report  # noqa: E402  (the path must be set first)
from benchmarks.quiet import Quiet  # noqa: E402
from benchmarks.rows import Row  # noqa: E402
from benchmarks.settings import Settings  # noqa: E402

#: module of this folder -> the rows that it makes, in the order of the report
GROUPS: dict[str, tuple[str, ...]] = {
    "streams": ("imap", "map"),
    "efficiency": (
        *(f"efficiency-{size}ms" for size in ("0.1", "1", "4", "20")),
        "parent",
        "cold-efficiency",
        "cold-imap",
    ),
    "submit": ("submit",),
    "loads": ("primes", "hashes", "lognormal"),
    "starts": ("first-result", "pools", "replacement"),
    "models": ("preload", "preload-memory"),
    "memory": ("memory", "straggler", "stalled"),
    "dispatch": ("dispatch", "dispatch-cost"),
    "arrays": ("arrays", "fresh-arrays", "same-array", "sizes", "blocks"),
    "timeline": ("timeline",),
    "imports": ("import",),
    "crimes": ("crimes",),
    "pipelines": ("pipelines", "pipelines-memory"),
    "nlp": ("nlp-lemmas", "nlp-tokens", "nlp-text", "nlp-ids", "nlp-embedding", "nlp-sentence-transformers"),
    "chat": ("chat-file", "chat-whole", "chat-duplicates", "chat-memory"),
    "scale": ("scale-dask-1ms", "scale-dask-tiny", "scale-ray-1ms", "scale-ray-tiny"),
    "dropins": (
        "dropins-imap",
        "dropins-map",
        "dropins-apply",
        *(f"dropins-joblib-{name}" for name in ("tiny", "array", "grid", "first", "memory")),
    ),
    "journal": ("journal", "journal-tiny", "resume"),
    "jobs": ("jobs-rate", "jobs-latency", "jobs-latency-95", "jobs-million", "jobs-tabs"),
    "advice": (
        "advice-best",
        "advice-interval",
        "advice-itself",
        "what-ifs",
        "tune-best",
        "profile-ranking",
        "profile-overhead",
    ),
}
#: measured only if they are named: they take longer than all others together
ON_REQUEST = {"advice", "chat", "scale"}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [row for rows in GROUPS.values() for row in rows]
    parser.add_argument("--only", metavar="ROW,...", help=f"rows or their files: {', '.join([*GROUPS, *every])}")
    parser.add_argument("--contenders", metavar="NAME,...", help="allcores and peers to measure (default: all)")
    parser.add_argument("--rounds", type=int, help="turns per contender (default 5; 1 with --quick)")
    parser.add_argument(
        "--quiet",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait up to so long for a quiet moment, and measure again what other programs disturbed",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, for trying out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write samples and verdicts as JSON")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="where the page goes (default docs/benchmarks.md after a full run, else nowhere)",
    )
    options = parser.parse_args()
    unknown = set(filter(None, (options.only or "").split(","))) - {*GROUPS, *every}
    if unknown:
        parser.error(f"--only: no such row: {', '.join(sorted(unknown))}; there are {', '.join([*GROUPS, *every])}")
    return options


def measured(settings: Settings, target: Path | None) -> tuple[list[Row], bool]:
    """The rows that were asked for, and whether Ctrl-C has ended it before all of them were measured.

    Args:
        settings: What is asked for.
        target: Where they are kept as JSON, after each file of rows: an hour's work is not lost with its last minute.
    """
    rows: list[Row] = []
    for group, names in GROUPS.items():
        if group in ON_REQUEST if settings.only is None else not settings.wants(group, *names):
            continue
        try:
            made = importlib.import_module(f"benchmarks.{group}").rows(settings)
        except KeyboardInterrupt:
            return rows, True
        rows += [row for row in made if settings.wants(group, row.name)]
        if target is not None:
            facts = {"machine": report.machine(), "rows": [row.as_json() for row in rows]}
            whole_text(target, json.dumps(facts, indent=1))
    return rows, False


def whole_text(target: Path, text: str) -> None:
    """Write a file, or leave it as it was."""
    unfinished = target.with_name(f"{target.name}.partial")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(target)


def main() -> int:
    """Exit code 0 when everything asked for was measured, missed aims or not; 130 after Ctrl-C."""
    options = _parse()
    # Asked to end, take the contenders' programs along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    only = frozenset(options.only.split(",")) if options.only else None
    settings = Settings(
        quick=options.quick,
        quiet=Quiet(options.quiet),
        rounds=options.rounds or (1 if options.quick else 5),
        wanted=tuple(options.contenders.split(",")) if options.contenders else None,
        only=only,
    )
    # As pip has done with the peers; PYTHONDONTWRITEBYTECODE would have each process compile again what it imports.
    for folder in ("src", "benchmarks"):
        compileall.compile_dir(ROOT / folder, quiet=1)
    started = time.monotonic()
    rows, interrupted = measured(settings, options.json)
    minutes = (time.monotonic() - started) / 60
    print(report.as_text(rows))
    print(f"\n{minutes:.1f} minutes")
    if interrupted:
        print("ended before all rows were measured: no page is written, and those above are all there are")
        return 130
    page = options.report or (ROOT / "docs/benchmarks.md" if only is None and not settings.quick else None)
    if page is not None:
        page.write_text(report.as_page(rows, settings, minutes), encoding="utf-8")
        print(f"written: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
