"""Streams of any length in bounded memory, whatever the consumer and the input do."""

from __future__ import annotations

import gc
import itertools
import queue
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process import crimes
from tests.process.waiting import PATIENCE_S, Bell, Gate, wait_at, wait_until

from allcores import Limits, Pool
from allcores.scheduler import chunk_size


def measured(pool: Pool, count: int, *, ordered: bool) -> int:
    """Peak bytes that the parent's Python allocates while it streams `count` items."""
    verb = pool.imap if ordered else pool.imap_unordered
    tracemalloc.start()
    try:
        assert sum(1 for _ in verb(crimes.increment, iter(range(count)))) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def resident_bytes() -> int:
    import os

    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("ordered", [True, False])
def test_memory_does_not_grow_with_the_stream(ordered: bool) -> None:
    """Four times the items take no more memory."""
    with Pool(2) as pool:
        measured(pool, 20_000, ordered=ordered)
        short = measured(pool, 20_000, ordered=ordered)
        long = measured(pool, 80_000, ordered=ordered)
    assert long < 1.5 * short + 1_000_000
    assert long < 20_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_million_items_leave_the_parent_as_small_as_it_was() -> None:
    with Pool(2) as pool:
        assert sum(1 for _ in pool.imap(crimes.increment, iter(range(100_000)))) == 100_000
        before = resident_bytes()
        assert sum(1 for _ in pool.imap(crimes.increment, iter(range(1_000_000)))) == 1_000_000
        assert resident_bytes() - before < 20_000_000


class Numbered:
    """An item of some size that counts how many of its kind live."""

    alive = 0
    most = 0

    def __init__(self, number: int) -> None:
        self.number = number
        Numbered.alive += 1
        Numbered.most = max(Numbered.most, Numbered.alive)

    def __del__(self) -> None:
        Numbered.alive -= 1

    def __reduce__(self) -> tuple[Any, ...]:
        return crimes.increment, (self.number,)


@pytest.mark.parametrize("verb", ["imap", "imap_unordered", "outcomes"])
def test_consumed_items_are_let_go(verb: str) -> None:
    """No more items live than may be in flight, however many have passed."""
    Numbered.alive = Numbered.most = 0
    with Pool(2, limits=Limits(items_in_flight=500)) as pool:
        count = 0
        for _ in getattr(pool, verb)(crimes.run, map(Numbered, range(20_000))):
            count += 1
        assert count == 20_000
        # Those in flight, and those of the segment that the consumer reads.
        assert Numbered.most <= 500 + 500
        assert Numbered.alive <= 500


def test_large_results_are_bounded_by_bytes() -> None:
    """Tiny items with large results: what is in flight is counted in bytes as well."""
    limits = Limits(bytes_in_flight=4_000_000)
    with Pool(2, limits=limits) as pool:
        stream = pool.imap(crimes.blow_up, itertools.count())
        most = 0
        for _ in itertools.islice(stream, 300):
            # A first wave is sent before anything was measured; some items more are under way.
            most = max(most, pool.statistics().items_in_flight)
        stream.close()
    assert most * 100_000 < 3 * limits.bytes_in_flight + 70 * 100_000


def test_large_items_are_bounded_by_bytes() -> None:
    limits = Limits(bytes_in_flight=4_000_000)
    with Pool(2, limits=limits) as pool:
        stream = pool.imap_unordered(len, (bytes(100_000) for _ in itertools.count()))
        most = 0
        for _ in itertools.islice(stream, 300):
            most = max(most, pool.statistics().bytes_in_flight)
        stream.close()
    assert most < 3 * limits.bytes_in_flight


def test_one_item_may_be_larger_than_all_that_may_be_in_flight() -> None:
    with Pool(2, limits=Limits(bytes_in_flight=1_000)) as pool:
        assert pool.map(len, [bytes(50_000)] * 20) == [50_000] * 20
        assert [len(result) for result in pool.imap(crimes.blow_up, range(20))] == [100_000] * 20


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("ordered", [True, False])
def test_the_smallest_of_limits(limit: int, ordered: bool) -> None:
    pulled: list[int] = []

    def source() -> Iterator[int]:
        for number in range(200):
            pulled.append(number)
            yield number

    with Pool(2, limits=Limits(items_in_flight=limit)) as pool:
        verb = pool.imap if ordered else pool.imap_unordered
        values: list[int] = []
        for value in verb(crimes.increment, source()):
            # Two at least: so that one waits while one runs.
            assert len(pulled) - len(values) <= max(2, limit)
            values.append(value)
        assert sorted(values) == list(range(1, 201))


def test_a_consumer_that_stops_stops_the_input() -> None:
    """Nothing is pulled while nobody reads, whatever the pool does meanwhile; the rest comes when somebody does."""
    pulled: list[int] = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            pulled.append(number)
            yield number

    with Pool(2, limits=Limits(items_in_flight=1_000)) as pool:
        stream = pool.imap(crimes.increment, source())
        assert [next(stream) for _ in range(10)] == list(range(1, 11))
        before = len(pulled)
        assert before <= 1_010
        for _ in range(50):
            assert pool.map(crimes.increment, range(100)) == list(range(1, 101))
        assert len(pulled) == before
        assert [next(stream) for _ in range(2_000)] == list(range(11, 2_011))
        stream.close()


def test_workers_die_while_the_consumer_is_away(tmp_path: Path) -> None:
    """The pool minds its workers when nobody reads: what was pulled is done when somebody comes back."""
    items = [1, 2, "exit_at_once", 4, ("kill_itself",), 6, 7, 8]
    with Pool(2) as pool:
        stream = pool.outcomes(crimes.run, items, chunk=1)
        first = next(stream)
        other = pool.map(crimes.run, range(200))
        assert other == [number * 2 for number in range(200)]
        assert [first.ok, *[outcome.ok for outcome in stream]] == [True, True, False, True, False, True, True, True]


@pytest.mark.parametrize("chunk", [1, None])
@pytest.mark.quick
def test_a_straggler_in_front_leaves_nobody_idle(tmp_path: Path, chunk: int | None) -> None:
    """Ordered, nothing can be handed over; the other worker goes on all the same, as far as the limit allows."""
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        items: list[Any] = [
            ("ring_and_wait", bell.path, gate.path),
            *range(300),
            ("ring_and_wait", bell.path, gate.path),
        ]

        def open_when_all_ran() -> None:
            # The last item rings while the first one still waits.
            bell.hear(2)
            gate.open()

        with Pool(2) as pool:
            opener = threading.Thread(target=open_when_all_ran)
            opener.start()
            assert pool.map(crimes.run, iter(items), chunk=chunk)[1:-1] == [number * 2 for number in range(300)]
            opener.join()


def test_an_item_behind_a_straggler_is_run_by_another(tmp_path: Path) -> None:
    """Also when the input never ends, and the consumer reads on: nothing waits for the first item."""
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, Pool(2) as pool:
        wait = ("ring_and_wait", bell.path, gate.path)
        # Its worker gets more before it says that it is busy for long.
        stream = pool.outcomes(crimes.run, itertools.chain([wait], itertools.count()), chunk=1, ordered=False)
        seen = {0}
        for outcome in stream:
            seen.add(outcome.index)
            if all(index in seen for index in range(20)):
                break
        gate.open()


def test_streams_read_by_turns_from_two_threads() -> None:
    """A stream may change hands between two reads."""
    with Pool(2) as pool:
        stream = pool.imap(crimes.increment, itertools.count())
        values: list[int] = []

        def read() -> None:
            values.extend(next(stream) for _ in range(50))

        for _ in range(4):
            reader = threading.Thread(target=read)
            reader.start()
            reader.join()
        stream.close()
        assert values == list(range(1, 201))


def test_a_stream_that_is_dropped_unread_ends_its_map() -> None:
    """A generator that was never started has no end that would tell."""
    events: list[object] = []
    with Pool(backend="serial", observers=[events.append]) as pool:
        stream = pool.imap(abs, [1, 2])
        iter(stream)
        del stream
        gc.collect()
        assert [type(event).__name__ for event in events if "Map" in type(event).__name__] == ["MapStarted", "MapEnded"]


def test_a_slow_input_is_asked_again_when_the_work_of_others_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While workers are busy a slow input is not waited for. Who wakes its reader then has nothing to do with it."""
    monkeypatch.setattr("allcores.pool.input_reader.SLOW_PULL_NS", 0)
    monkeypatch.setattr("allcores.pool.result_stream.WAIT_S", 1000.0)
    results: queue.Queue[int] = queue.Queue()

    def read(stream: Any) -> None:
        for value in stream:
            results.put(value)

    with Gate(tmp_path / "one") as one, Gate(tmp_path / "two") as two, Pool(1) as pool:
        assert pool.map(crimes.run, [0]) == [0]
        # As while another reader reads the pipes.
        monkeypatch.setattr(pool._driver.backend, "wait", lambda *_: False)
        calls = [pool.submit(wait_at, one.path)]
        wait_until(calls[0].running)
        stream = pool.imap(crimes.run, iter(range(3)), chunk=1)
        reader = threading.Thread(target=read, args=(stream,))
        reader.start()
        wait_until(lambda: pool.statistics().items_in_flight == 2)
        calls.append(pool.submit(wait_at, two.path))
        one.open()
        assert results.get(timeout=PATIENCE_S) == 0
        wait_until(lambda: stream._reader.bell.expected)
        two.open()
        try:
            assert [results.get(timeout=PATIENCE_S / 4) for _ in range(2)] == [2, 4]
        finally:
            stream.close()
            reader.join()
        assert [call.result() for call in calls] == [None, None]


def test_a_stream_that_another_thread_closes_ends_for_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allcores.pool.result_stream.WAIT_S", 1000.0)
    with Gate(tmp_path / "gate") as gate, Pool(1) as pool:
        monkeypatch.setattr(pool._driver.backend, "wait", lambda *_: False)
        stream = pool.imap(wait_at, [gate.path])
        reader = threading.Thread(target=list, args=(stream,), daemon=True)
        reader.start()
        wait_until(lambda: stream._reader.bell.expected)
        stream.close()
        reader.join(PATIENCE_S / 4)
        assert not reader.is_alive()


class _Numbered:
    """An input that numbers its items, as that of a run with a journal does."""

    def __init__(self, count: int) -> None:
        self._items, self._next, self._count = iter(range(count)), 0, count

    def __iter__(self) -> _Numbered:
        return self

    def __next__(self) -> int:
        self._next += 1
        return next(self._items)

    def upcoming(self) -> tuple[int, int]:
        return self._next, max(1, self._count - self._next)


def _nap(item: int) -> int:
    time.sleep(0.001)
    return item


@pytest.mark.parametrize("numbered", [True, False])
def test_runs_with_a_journal_have_early_reports(monkeypatch: pytest.MonkeyPatch, numbered: bool) -> None:
    """However long they run: what is not reported is not committed, and would run again after a kill."""
    monkeypatch.setattr(chunk_size, "PARTS", 1)
    targets: set[int] = set()
    size = chunk_size.Chunker.size

    def noted(self: chunk_size.Chunker, **options: Any) -> int:
        found = size(self, **options)
        targets.add(self.target_ns)
        return found

    monkeypatch.setattr(chunk_size.Chunker, "size", noted)
    with Pool(1) as pool:
        items = _Numbered(100) if numbered else range(100)
        assert len(list(pool.outcomes(_nap, items, ordered=False))) == 100
    assert (targets == {chunk_size.TARGET_NS}) is numbered


def test_a_stop_after_the_reader_looked_ends_the_input() -> None:
    """Another thread stops the stream, because its output failed, say, just before this one pulls."""
    with Pool(backend="serial") as pool:
        stream = pool.imap(abs, range(3))
        reader = stream._reader.input_reader
        reader.stop()
        reader._pull_chunks(1, 1, 1_000)
        assert list(stream) == []


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
def test_a_stream_that_is_held_to_the_end_of_the_program(backend: str) -> None:
    """It was left midway, and ends with its pool, without a word."""
    text = (
        f"import allcores\npool = allcores.Pool(2, backend={backend!r})\nstream = pool.imap(abs, range(100_000))\n"
        "for number in stream:\n    break\nprint(number)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
