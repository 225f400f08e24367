"""Streams of the smallest task there is: what an item costs when it does nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.contenders import Contender
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings
from benchmarks.tasks import add_one

#: the chunk size that peers are given
CHUNK = 64


def _generator(items: int) -> Iterator[int]:
    yield from range(items)


def _typical(run: Callable[[], None], items: int) -> float:
    """µs an item; the median of up to five runs, as many as half a second allows."""
    taken: list[float] = []
    while len(taken) < 5 and sum(taken) < 0.5:
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) / items * 1e6


def stream_cost(contender: Contender, items: int) -> float:
    """µs an item of an ordered stream over a generator; the results are checked."""

    def run() -> None:
        total = sum(contender.stream(add_one, _generator(items), CHUNK))
        assert total == items * (items + 1) // 2, "wrong results"

    return _typical(run, items)


def map_cost(contender: Contender, items: int) -> float:
    """µs an item of a map over a list, each library choosing its chunks; the results are checked."""
    numbers = list(range(items))

    def run() -> None:
        results = contender.list_map(add_one, numbers)
        assert len(results) == items and results[-1] == items, "wrong results"

    return _typical(run, items)


def rows(settings: Settings) -> list[Row]:
    """`imap` and `map`."""
    items = settings.size(100_000, 5_000)
    stream = Row(
        "imap",
        f"Ordered stream of x+1 over a generator of {items:,} items",
        "µs per item",
        f"Two workers, warm. Peers with a hand-set chunk of {CHUNK} (ordered, streaming where they can); "
        "allcores is given no chunk size. The bare loop sends hand-made chunks of 1,024 items.",
    )
    with settings.hosts(settings.names("bare", "serial")) as hosts:
        measures = {name: partial(host.measure, "streams:stream_cost", items=items) for name, host in hosts.items()}
        for host in hosts.values():
            _warm(host.measure, "streams:stream_cost", settings)
        in_turn(stream, measures, settings.rounds, settings)
        stream.judge("`imap` without a chunk size, µs an item", stream.samples.get("allcores", ()), most=0.5)
        peers = settings.names(without=("allcores",))
        best = stream.best(peers)
        if best is not None:
            stream.judge(f"best peer ({best}) / allcores", stream.ratios(best, "allcores"), least=4.0)

    listed = Row(
        "map",
        f"`map` of x+1 over a list of {items:,} items",
        "µs per item",
        "Two workers, warm. Each library chooses its chunks; ProcessPoolExecutor and pebble, which would "
        "send "
        f"items one by one, are given chunks of {CHUNK}.",
    )
    with settings.hosts(settings.names("serial")) as hosts:
        measures = {name: partial(host.measure, "streams:map_cost", items=items) for name, host in hosts.items()}
        for host in hosts.values():
            _warm(host.measure, "streams:map_cost", settings)
        in_turn(listed, measures, settings.rounds, settings)
    listed.judge("multiprocessing.Pool.map / allcores", listed.ratios("multiprocessing", "allcores"), least=1.0)
    return [stream, listed]


def _warm(measure: Callable[..., object], function: str, settings: Settings) -> None:
    """Start the workers and let them import; who fails here fails again when it counts."""
    try:
        measure(function, items=settings.size(5_000, 500))
    except Exception as error:
        settings.say(f"warming up: {error}")
