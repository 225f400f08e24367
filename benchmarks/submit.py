"""One call there and back: `submit().result()`."""

from __future__ import annotations

import statistics
import time
from functools import partial

from benchmarks.contenders import Contender
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings
from benchmarks.tasks import add_one


def round_trip(contender: Contender, calls: int, seconds: float) -> float:
    """µs, the median of `calls` calls (fewer once `seconds` are over), one after the other."""
    for warm in range(20):
        contender.call(add_one, warm)
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while len(taken) < calls and (not taken or time.perf_counter() < until):
        started = time.perf_counter()
        answer = contender.call(add_one, 41)
        taken.append(time.perf_counter() - started)
        assert answer == 42, "wrong result"
    return statistics.median(taken) * 1e6


def rows(settings: Settings) -> list[Row]:
    """`submit`."""
    calls = settings.size(3_000, 100)
    row = Row(
        "submit",
        "submit().result(), one call after the other",
        "µs, median of the calls of a round",
        f"Two workers, warm; {calls:,} calls a round, or as many as fit into 0.7 s. The pipe ping-pong is "
        "eight raw "
        "bytes there and back (`os.write`, `os.read`), with no pickling and no thread.",
    )
    with settings.hosts(settings.names("ping-pong", "connection", "naive")) as hosts:
        measures = {
            name: partial(host.measure, "submit:round_trip", calls=calls, seconds=0.7) for name, host in hosts.items()
        }
        for measure in measures.values():  # one round that does not count
            try:
                measure()
            except Exception as error:
                settings.say(f"warming up: {error}")
        in_turn(row, measures, settings.rounds, settings)
    row.judge("ProcessPoolExecutor / allcores", row.ratios("executor", "allcores"), least=4.0)
    row.judge("allcores / pipe ping-pong", row.ratios("allcores", "ping-pong"), most=4.0)
    row.judge(
        "for comparison, allcores / multiprocessing.Pipe ping-pong",
        row.ratios("allcores", "connection"),
        most=4.0,
    )
    return [row]
