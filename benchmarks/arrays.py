"""Large arrays there and back: what carrying them costs, and what stays behind."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from benchmarks import tasks
from benchmarks.contenders import Contender
from benchmarks.processes import Host
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings

MB = 1_000_000


def _numpy() -> Any:
    return importlib.import_module("numpy")


def there_and_back(contender: Contender, count: int, size: int) -> float:
    """GB/s of `count` different arrays of `size` bytes: each is sent, and one like it comes back."""
    numpy = _numpy()
    items = [numpy.full(size // 8, float(number)) for number in range(count)]
    for _ in range(2):
        # Whatever a library keeps to use again, it has by then.
        for _ in contender.stream(tasks.array_plus_one, iter(items), 1):
            pass
    started = time.perf_counter()
    for number, result in enumerate(contender.stream(tasks.array_plus_one, iter(items), 1)):
        assert result[0] == result[-1] == number + 1, "wrong results"
    return 2 * count * size / (time.perf_counter() - started) / 1e9


def onto_fresh_memory(contender: Contender, count: int, size: int) -> float:
    """The same for the first arrays of a fresh pool, all of whose results are kept: no memory is used twice."""
    numpy = _numpy()
    items = [numpy.full(size // 8, float(number)) for number in range(count)]
    contender.start_again()
    started = time.perf_counter()
    results = list(contender.stream(tasks.array_plus_one, iter(items), 1))
    seconds = time.perf_counter() - started
    assert [result[-1] for result in results] == list(range(1, count + 1)), "wrong results"
    return 2 * count * size / seconds / 1e9


def read_by_many(contender: Contender, count: int, size: int, way: str) -> float:
    """GB/s that tasks see of one array of `size` bytes, read by `count` tasks.

    way: "given" in a list to map, "streamed", or "share": shared and streamed.
    """
    numpy = _numpy()
    array = numpy.full(size // 8, 1.0)
    given = contender.shared(array) if way == "share" else array

    def results(number: int) -> Iterable[Any]:
        if way == "given":
            return contender.list_map(tasks.array_sum, [given] * number, 1)
        return contender.stream(tasks.array_sum, itertools.repeat(given, number), 1)

    for _ in results(4):
        pass
    started = time.perf_counter()
    for result in results(count):
        assert result == -(-(size // 8) // 512), "wrong results"
    return count * size / (time.perf_counter() - started) / 1e9


def carry(contender: Contender, count: int, size: int, way: str) -> float:
    """µs per array of `size` bytes, there and back as it is. way: "auto", "pipe" (no shared memory) or "block"."""
    numpy = _numpy()
    allcores = importlib.import_module("allcores")
    buffers: Any = importlib.import_module("allcores.shared_memory.buffers")
    before = buffers.LARGE_ITEM, buffers.LARGE_RESULT
    if way == "block":
        # Only what the parent sends is forced: workers choose for their results as always.
        buffers.LARGE_ITEM = 1
    limits = allcores.Limits(block_bytes=0 if way == "pipe" else 4 << 30)
    items = [numpy.full(max(1, size // 8), float(number)) for number in range(count)]
    try:
        with allcores.Pool(contender.workers, limits=limits) as pool:
            for _ in pool.imap(tasks.array_itself, items):
                pass
            taken = []
            for _ in range(5):
                started = time.perf_counter()
                for number, result in enumerate(pool.imap(tasks.array_itself, items)):
                    assert result[0] == number, "wrong results"
                taken.append((time.perf_counter() - started) / count * 1e6)
        return sorted(taken)[2]
    finally:
        buffers.LARGE_ITEM, buffers.LARGE_RESULT = before


def bounded(contender: Contender, count: int, size: int, block_bytes: int) -> dict[str, float]:
    """Most memory behind blocks while `count` arrays pass, in MB, and blocks in use afterwards."""
    numpy = _numpy()
    allcores = importlib.import_module("allcores")
    largest = 0
    with allcores.Pool(contender.workers, limits=allcores.Limits(block_bytes=block_bytes)) as pool:
        arrays = (numpy.full(size // 8, float(number)) for number in range(count))
        for number, result in enumerate(pool.imap(tasks.array_itself, arrays)):
            assert result[0] == number, "wrong results"
            if number % 100 == 0:
                largest = max(largest, pool.statistics().block_bytes)
        del result
        until = time.monotonic() + 5
        while pool.statistics().blocks and time.monotonic() < until:
            pool.map(abs, range(100), chunk=1)
        return {"mb": largest / MB, "left": pool.statistics().blocks}


def _copy_speed(count: int, size: int) -> float:
    """GB/s of one core that copies `count` different arrays into a few blocks of shared memory, written before.

    Different ones, as the contenders are given: a single one would be read from the caches.
    """
    mmap = importlib.import_module("mmap")
    sources = [memoryview(bytearray(size)) for _ in range(count)]
    targets = [memoryview(mmap.mmap(-1, size)) for _ in range(4)]
    for number, source in enumerate(sources):
        source[:] = bytes([number % 256]) * size
        targets[number % 4][:] = source
    started = time.perf_counter()
    for number, source in enumerate(sources):
        targets[number % 4][:] = source
    return count * size / (time.perf_counter() - started) / 1e9


def _there_and_back(settings: Settings) -> Row:
    count, size = settings.size(64, 8), settings.size(8 * MB, MB)
    row = Row(
        "arrays",
        f"{count} different arrays of {size // MB} MB, each sent and one like it sent back",
        "GB/s, both ways together",
        "Two workers, warm; x + 1 on the whole array, results read in order and dropped. The copy is one core "
        "that writes into shared memory again and again: a lower bound for one way only.",
    )
    names = settings.names()
    with settings.hosts(names) as hosts:
        measures = {
            name: partial(host.measure, "arrays:there_and_back", count=count, size=size) for name, host in hosts.items()
        }
        measures["copy"] = partial(_copy_speed, count, size)
        in_turn(row, measures, settings.rounds, settings)
    row.judge("allcores / one core's copy into a reused block", row.ratios("allcores", "copy"), least=0.5)
    if "ray" in row.samples:
        row.judge("allcores / ray", row.ratios("allcores", "ray"), least=4.0)
    for name in names:
        if name not in ("allcores", "ray"):
            row.judge(f"for comparison, allcores / {name}", row.ratios("allcores", name), least=4.0)
    return row


def _fresh(settings: Settings) -> Row:
    count, size = settings.size(64, 8), settings.size(8 * MB, MB)
    row = Row(
        "fresh-arrays",
        f"{count} arrays of {size // MB} MB there and back, the first of a fresh pool, and all results kept",
        "GB/s, both ways together",
        "Two workers, which are there; as `arrays`, but the system has to find, and to clear, each page.",
    )
    names = settings.names()
    with settings.hosts(names) as hosts:
        measures = {
            name: partial(host.measure, "arrays:onto_fresh_memory", count=count, size=size)
            for name, host in hosts.items()
        }
        in_turn(row, measures, settings.rounds, settings)
    for name in names:
        if name != "allcores":
            row.judge(f"allcores / {name}", row.ratios("allcores", name), least=4.0 if name == "ray" else 1.0)
    return row


def _one_for_many(settings: Settings) -> Row:
    count, size = settings.size(40, 8), settings.size(80 * MB, 8 * MB)
    row = Row(
        "same-array",
        f"One array of {size // MB} MB read by {count} tasks",
        "GB/s that the tasks see",
        "Two workers, warm; each task adds up one number in 512. `share` names the array once; without it each "
        "library is simply given a list that holds the same array again and again. `streamed`: by a generator, between "
        "whose items the array might change.",
    )
    names = settings.names(without=("mpire",))
    with settings.hosts(names) as hosts, Host("allcores", settings.workers) as sharing:
        measures = {
            name: partial(host.measure, "arrays:read_by_many", count=count, size=size, way="given")
            for name, host in hosts.items()
        }
        for way in ("share", "streamed"):
            measures[f"allcores, {way}"] = partial(
                sharing.measure, "arrays:read_by_many", count=count, size=size, way=way
            )
        in_turn(row, measures, settings.rounds, settings)
    for peer in ("joblib", "ray"):
        if peer in row.samples:
            row.judge(f"allcores with share / {peer}", row.ratios("allcores, share", peer), least=3.0)
            row.judge(f"allcores without / {peer}", row.ratios("allcores", peer), least=1.0)
            row.judge(f"allcores without, streamed / {peer}", row.ratios("allcores, streamed", peer), least=1.0)
    return row


def _sizes(settings: Settings) -> Row:
    row = Row(
        "sizes",
        "Arrays of 1 kB to 1 GB, there and back as they are: by themselves, by pipe alone, by block alone",
        "µs per array",
        "Two workers, warm. `block` puts every item into shared memory whatever its size; results choose as always. "
        "Each figure is the median of five passes.",
    )
    powers = range(10, settings.size(31, 17), 2)
    with Host("allcores", settings.workers) as host:
        measures = {
            f"{1 << power:,} bytes, {way}": partial(
                host.measure, "arrays:carry", count=max(2, min(300, (64 << 20) >> power)), size=1 << power, way=way
            )
            for power in powers
            for way in ("auto", "pipe", "block")
            # A pipe takes minutes for gigabytes.
            if way != "pipe" or power <= 26
        }
        in_turn(row, measures, min(settings.rounds, 3), settings)
    for power in powers:
        ways = [f"{1 << power:,} bytes, {way}" for way in ("pipe", "block")]
        best = row.best([way for way in ways if way in row.samples])
        if best is not None:
            row.judge(
                f"{1 << power:,} bytes: by itself / {best.rpartition(' ')[2]}",
                row.ratios(f"{1 << power:,} bytes, auto", best),
                most=1.15,
            )
    row.comparable = False
    return row


def _bounded(settings: Settings) -> Row:
    count = settings.size(10_000, 200)
    row = Row(
        "blocks",
        f"{count:,} arrays of 1 MB through a pool with 256 MB of shared memory",
        "MB behind blocks at most",
        "Two workers; each array is sent and comes back. Looked at every 100 arrays. Measured once.",
    )
    with Host("allcores", settings.workers) as host:
        found = host.measure("arrays:bounded", count=count, size=MB, block_bytes=256 << 20)
    row.samples["allcores"] = [found["mb"]]
    row.judge("memory behind blocks, MB", [found["mb"]], most=(256 << 20) / MB)
    row.judge("blocks in use afterwards", [found["left"]], most=0)
    return row


def rows(settings: Settings) -> list[Row]:
    """`arrays`, `fresh-arrays`, `same-array`, `sizes`, `blocks`."""
    return [_there_and_back(settings), _fresh(settings), _one_for_many(settings), _sizes(settings), _bounded(settings)]
