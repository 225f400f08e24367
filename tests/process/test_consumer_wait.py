"""The thread that waits for a stream's results reads them itself; the pool's own thread stays asleep."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.process import crimes
from tests.process.waiting import PATIENCE_S, Bell, Gate, Watcher, wait_at, wait_full_strength, wait_until

from allcores import Pool
from allcores.backends.processes import consumer_wait, wait_descriptors
from allcores.backends.processes.receiver import Receiver
from allcores.errors import PoolClosed
from allcores.pool import result_stream
from allcores.system.bell import Bell as RingBell

pytestmark = pytest.mark.skipif(not wait_descriptors.POSSIBLE, reason="needs epoll and eventfd")


def same(value: Any) -> Any:
    return value


def test_reports_do_not_wake_the_pools_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One thread is woken per report: the one that waits for it."""
    readers: Counter[bool] = Counter()
    read = Receiver.read

    def counted(self: Receiver, *arguments: Any) -> bool:
        readers[threading.current_thread() is threading.main_thread()] += 1
        return read(self, *arguments)

    with Pool(1) as pool:
        assert list(pool.imap(same, range(10))) == list(range(10))
        backend: Any = pool._driver.backend
        monkeypatch.setattr(Receiver, "read", counted)
        # Several reports: where a busy host stops the thread that waits, the pool's own takes the pipes back.
        for number in range(5):
            with Gate(tmp_path / f"gate-{number}") as gate:

                def open_when_it_waits(gate: Gate = gate) -> None:
                    until = time.monotonic() + PATIENCE_S
                    while not backend._consumer.present and time.monotonic() < until:
                        time.sleep(0.001)
                    gate.open()

                opener = threading.Thread(target=open_when_it_waits)
                opener.start()
                assert len(list(pool.imap(wait_at, [gate.path]))) == 1
                opener.join()
    assert readers[True] >= 1


def test_a_handler_that_takes_long_does_not_stop_others(tmp_path: Path) -> None:
    """It runs on the thread that has the pipes. The pool's thread notices, and takes them back."""
    others: list[list[int]] = []
    watcher = Watcher()
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, Pool(2, observers=[watcher]) as pool:
        # No worker starts meanwhile: that would wake the pool's thread.
        wait_full_strength(pool, watcher)
        before = signal.getsignal(signal.SIGUSR1)
        thread = threading.Thread(target=lambda: others.append(list(pool.imap(same, range(50), chunk=1))))

        def handler(*_: object) -> None:
            thread.start()
            thread.join()
            gate.open()

        def send() -> None:
            bell.pids()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        signal.signal(signal.SIGUSR1, handler)
        try:
            sender = threading.Thread(target=send)
            sender.start()
            assert len(list(pool.imap(crimes.run, [("ring_and_wait", bell.path, gate.path)]))) == 1
            sender.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert others == [list(range(50))]


def test_a_pool_that_is_closed_meanwhile_ends_the_wait(tmp_path: Path) -> None:
    """The wait is for pipes, which closing takes away."""
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, Pool(1) as pool:

        def close() -> None:
            bell.pids()
            pool.close()

        closer = threading.Thread(target=close)
        closer.start()
        with pytest.raises(PoolClosed):
            list(pool.imap(crimes.run, [("ring_and_wait", bell.path, gate.path)]))
        closer.join()


@pytest.mark.parametrize("then", ["nothing", "another pool"])
def test_a_handler_that_closes_the_pool_ends_the_wait(
    tmp_path: Path, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on in C with the number of a descriptor that must not be closed by then, nor that of another pool."""
    # A signal that comes between Python's last look and the system call is handled when that ends.
    monkeypatch.setattr("allcores.pool.result_stream.WAIT_S", 5.0)
    others: list[Pool] = []
    pools: list[Pool] = []

    def handler(*_: object) -> None:
        pools[-1].close()
        if then == "another pool":
            others.append(Pool(1))

    def send() -> None:
        backend: Any = pools[-1]._driver.backend
        until = time.monotonic() + PATIENCE_S
        while not backend._consumer.present and time.monotonic() < until:
            time.sleep(0.001)
        with pools[-1]._driver.lock:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        for number in range(4):
            with Gate(tmp_path / f"gate-{number}") as gate, Pool(1) as pool:
                pools.append(pool)
                sender = threading.Thread(target=send)
                sender.start()
                with pytest.raises(PoolClosed):
                    pool.map(wait_at, [gate.path])
                sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        for other in others:
            other.close()


def test_two_that_wait_both_get_theirs() -> None:
    """One has the pipes, and the other is rung for."""
    found: dict[int, list[int]] = {}
    with Pool(2) as pool:
        threads = [
            threading.Thread(target=lambda n=n: found.setdefault(n, list(pool.imap(same, [n] * 200, chunk=1))))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {n: [n] * 200 for n in range(4)}


def test_one_at_a_time_waits_for_the_event() -> None:
    """Also when the pipes were taken from it: a second one would take its ring."""
    with Pool(1) as pool:
        assert list(pool.imap(same, [1])) == [1]
        backend: Any = pool._driver.backend
        consumer: consumer_wait.ConsumerWait = backend._consumer
        rung = RingBell()
        first = threading.Thread(target=consumer.wait, args=(rung, lambda: False, PATIENCE_S))
        first.start()
        until = time.monotonic() + PATIENCE_S
        while not consumer.present and time.monotonic() < until:
            time.sleep(0.001)
        with pool._driver.lock:
            assert consumer.claim_pipes()
        assert not consumer.wait(RingBell(), lambda: False, 1.0)
        with pool._driver.lock:
            rung.ring()
        first.join(PATIENCE_S / 2)
        assert not first.is_alive()
        assert consumer.wait(RingBell(), lambda: False, 0.001), "the next one may"


def test_where_reports_come_quickly_the_pools_thread_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does so while the consumer is busy with results and input."""
    waits: list[bool] = []
    wait = consumer_wait.ConsumerWait.wait

    def counted(self: consumer_wait.ConsumerWait, *arguments: Any) -> bool:
        waits.append(True)
        return wait(self, *arguments)

    monkeypatch.setattr(consumer_wait.ConsumerWait, "wait", counted)
    with Pool(1) as pool:
        stream = pool.imap(same, range(100), chunk=1)
        next(stream)
        # Every wait counts as a short one from here on.
        monkeypatch.setattr(result_stream, "BRIEF_NS", 1 << 62)
        waits.clear()
        assert list(stream) == list(range(1, 100))
    assert not waits


def test_what_a_wait_holds_is_closed_with_the_pool_whatever_keeps_its_frame() -> None:
    """An exception that was caught while results were read refers to the frames that it was raised below."""
    kept: list[Any] = []
    with Pool(1) as pool:
        backend: Any = pool._driver.backend
        consumer = backend._consumer
        read = consumer._read

        def raising(*given: Any) -> Any:
            try:
                raise ValueError("below the wait")
            except ValueError as error:
                kept.append(error)
            return read(*given)

        consumer._read = raising
        # Where the pool's own thread is quicker, the program does not read.
        wait_until(lambda: pool.map(same, range(20), chunk=1) == list(range(20)) and kept)
        descriptors = [consumer._descriptors.event]
        del consumer._read
    for number in descriptors:
        with pytest.raises(OSError):
            os.fstat(number)
