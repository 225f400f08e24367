"""A program that runs a pipeline with a journal, for tests that kill it: python piped.py '{"chain": "batch", …}'."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import allcores
from allcores import Pipeline, failpoints
from allcores.runs import index

SETTINGS: dict[str, Any] = {
    "chain": "batch",
    "backend": "serial",
    "workers": None,
    "kill": None,  # [point, how often it is passed before]
    "full": None,  # the same, for a disk that is full from then on
    "kill_at": None,  # [the function, the number at which it kills the program]
    "state_s": 0.0,  # seconds between two states
    "pause": 0.0,  # seconds for an item
    "journal": {},
    "items": 60,  # in flight
    "source": "in.txt",
}


def dying(name: str, number: int) -> None:
    """Kill the program, if this is where."""
    if (told := os.environ.get("KILL_AT")) and json.loads(told) == [name, number]:
        os.kill(int(os.environ["PROGRAM"]), signal.SIGKILL)
        signal.pause() if os.getpid() != int(os.environ["PROGRAM"]) else None


def parse(line: str) -> dict[str, Any]:
    """Of text; every 41st is refused by those that care."""
    number = int(line)
    dying("parse", number)
    time.sleep(float(os.environ.get("PAUSE", "0")))
    return {"n": number}


def refusing(row: dict[str, Any]) -> dict[str, Any]:
    """One in 41 fails, unless a file called `mended` is there."""
    if row["n"] % 41 == 5 and not os.path.exists("mended"):
        raise ValueError(f"{row['n']} is refused")
    return row


def instead(row: dict[str, Any], error: BaseException) -> dict[str, Any]:
    """What goes on in the place of one that failed."""
    return {"n": row["n"], "error": str(error)}


def odd(row: dict[str, Any]) -> bool:
    return bool(row["n"] % 2)


def some(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Zero to three rows."""
    return [{**row, "part": part} for part in range(row["n"] % 4)]


def summed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A batch: each row with what it has of the others."""
    dying("summed", rows[-1]["n"])
    total = sum(row["n"] for row in rows)
    return [{**row, "total": total} for row in rows]


def tens(row: dict[str, Any]) -> int:
    return int(row["n"]) // 10


def grouped(group: tuple[int, list[dict[str, Any]]]) -> dict[str, Any]:
    dying("grouped", group[1][-1]["n"])
    return {"key": group[0], "of": [row["n"] for row in group[1]]}


def of_window(rows: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    dying("of_window", rows[-1]["n"])
    return {"first": rows[0]["n"], "last": rows[-1]["n"]}


def numbered(pair: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    dying("numbered", pair[1]["n"])
    return {"number": pair[0], **pair[1]}


def digit(row: dict[str, Any]) -> int:
    return int(row["n"]) * 7 % 90


def added(state: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return {"sum": state["sum"] + row["n"]}


def last(row: dict[str, Any]) -> dict[str, Any]:
    """The end of a chain."""
    dying("last", row.get("n", -1))
    return {**row, "last": True}


def weight(row: dict[str, Any]) -> int:
    return int(row["n"]) % 7


def pipeline(chain: str) -> Pipeline:
    """The chains."""
    p = Pipeline().map(parse)
    failing = p.map(refusing, on_error="skip", fuse=False)
    chains: dict[str, Callable[[], Pipeline]] = {
        "alone": lambda: p.filter(odd).flat_map(some),
        "stages": lambda: p.flat_map(some).map(last, fuse=False),
        "batch": lambda: failing.batch(8).map(summed).unbatch().map(last, fuse=False),
        "weighed": lambda: p.flat_map(some).batch(20, by=weight).map(summed).unbatch(),
        "group_by": lambda: p.group_by(tens, limit=7).map(grouped),
        "window": lambda: p.flat_map(some).window(5, step=2).map(of_window),
        "enumerate": lambda: p.filter(odd).enumerate(10).map(numbered),
        "distinct": lambda: p.flat_map(some).distinct(digit).map(last),
        "scan": lambda: p.scan(added, {"sum": 0}),
        "islice": lambda: p.flat_map(some).islice(20, 140, 3).map(last),
        "replaced": lambda: p.map(refusing, on_error=instead, fuse=False).enumerate().map(numbered),
        "tee": lambda: (
            p.tee(
                Pipeline().filter(odd).batch(6).map(summed).unbatch().write("odd.csv"),
                Pipeline().flat_map(some).distinct(digit).write("side.jsonl"),
            )
            .window(3)
            .map(of_window)
        ),
        "tee of stages": lambda: p.tee(Pipeline().map(refusing, on_error="skip").write("side.jsonl")).map(
            last, fuse=False
        ),
        "short side": lambda: (
            p.tee(Pipeline().islice(22).batch(4).map(summed).unbatch().write("side.jsonl")).enumerate().map(numbered)
        ),
        "short line": lambda: (
            p.tee(Pipeline().enumerate().map(numbered).write("side.jsonl")).islice(5, 120, 7).map(last)
        ),
        "all": lambda: (
            failing.distinct(digit)
            .batch(5)
            .map(summed)
            .unbatch()
            .tee(Pipeline().enumerate().map(numbered).write("side.jsonl"))
            .group_by(tens)
            .map(grouped)
            .enumerate()
        ),
    }
    return chains[chain]().write("out.jsonl")


CHAINS = (
    "alone", "stages", "batch", "weighed", "group_by", "window", "enumerate", "distinct", "scan", "islice", "replaced",
    "tee", "tee of stages", "short side", "short line", "all",
)  # fmt: skip
OUTPUTS = ("out.jsonl", "odd.csv", "side.jsonl")


def hook_for(settings: dict[str, Any]) -> Any:
    """Kills or fills at a named moment."""
    passed: Counter[str] = Counter()

    def hook(name: str) -> None:
        passed[name] += 1
        if settings["kill"] and settings["kill"][0] == name and passed[name] > settings["kill"][1]:
            os.kill(os.getpid(), signal.SIGKILL)
        if settings["full"] and settings["full"][0] == name and passed[name] > settings["full"][1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return hook


def run(**given: Any) -> allcores.RunResult:
    """One session, in the working folder."""
    from allcores.pipelines import source_outcomes

    settings = SETTINGS | given
    source_outcomes.STATE_S = settings["state_s"]
    journal = settings["journal"]
    if journal is not False:
        journal = allcores.Journal(**{"folder": "runs", "resume": True, "commit_s": 0.005, "fsync": "never"} | journal)
    return pipeline(settings["chain"]).run(
        settings["source"],
        journal=journal,
        workers=settings["workers"],
        backend=settings["backend"],
        limits=allcores.Limits(items_in_flight=settings["items"]),
    )


def main() -> None:
    """One session; prints what became of it."""
    settings = SETTINGS | json.loads(sys.argv[1])
    failpoints.install(hook_for(settings))
    index.CHECKPOINT_COMMITS = 2
    os.environ["PROGRAM"] = str(os.getpid())
    os.environ["PAUSE"] = str(settings["pause"])
    if settings["kill_at"]:
        os.environ["KILL_AT"] = json.dumps(settings["kill_at"])
    try:
        result = run(**settings)
    except allcores.AllcoresError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        sys.exit(1)
    print(json.dumps({"resumed": result.resumed, "counts": dict(result.counts)}))


if __name__ == "__main__":
    main()
