"""Cancelled work is ended, not left to run: futures, streams that are left, loops that are left, closed pools."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.process import crimes
from tests.process.waiting import Bell, Gate, Watcher, lines, wait_full_strength, wait_gone, wait_until

from allcores import Limits, Pool, PoolClosed, TaskExited, events

QUICK = Limits(grace_s=0.02, terminate_s=0.05)


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with Bell(tmp_path / "bell") as bell:
        yield bell


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path / "gate") as gate:
        yield gate


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def pool(watcher: Watcher) -> Iterator[Pool]:
    with Pool(2, limits=QUICK, observers=[watcher]) as pool:
        yield pool


def check_unharmed(pool: Pool, watcher: Watcher) -> None:
    assert pool.map(crimes.run, range(20)) == [number * 2 for number in range(20)]
    wait_full_strength(pool, watcher)
    # A cancelled call is in flight until its worker skipped it or is gone.
    watcher.wait_until(lambda: pool.statistics().items_in_flight == 0)


class TestFutures:
    def test_a_running_call_is_ended(self, pool: Pool, watcher: Watcher, bell: Bell) -> None:
        future = pool.submit(crimes.ring_and_hang, bell.path)
        pids = bell.pids()
        assert future.running()
        assert future.cancel()
        assert future.cancelled()
        assert future.done()
        with pytest.raises(CancelledError):
            future.result()
        assert future.cancel()
        wait_gone(pids)
        check_unharmed(pool, watcher)
        assert pool.statistics().cancelled == 1
        assert pool.statistics().workers_lost == 0

    @pytest.mark.parametrize("crime", ["hold_the_interpreter", "catch_everything", "stop_itself"])
    def test_whatever_it_does(self, pool: Pool, watcher: Watcher, bell: Bell, crime: str) -> None:
        future = pool.submit(crimes.ring_and_commit, bell.path, crime)
        pids = bell.pids()
        assert future.cancel()
        wait_gone(pids)
        check_unharmed(pool, watcher)

    def test_with_what_it_forked(self, pool: Pool, bell: Bell) -> None:
        future = pool.submit(crimes.fork_and_hang, bell.path)
        pids = bell.pids(2)
        assert future.cancel()
        wait_gone(pids)

    def test_others_are_not_touched(self, pool: Pool, bell: Bell, gate: Gate) -> None:
        first = pool.submit(crimes.ring_and_wait, bell.path, gate.path)
        (stays,) = bell.pids()
        second = pool.submit(crimes.ring_and_hang, bell.path)
        (goes,) = bell.pids()
        waiting = [pool.submit(crimes.run, number) for number in range(10)]
        assert second.cancel()
        wait_gone([goes])
        assert [future.result() for future in waiting] == [number * 2 for number in range(10)]
        gate.open()
        assert first.result() == stays

    def test_those_behind_a_cancelled_one_are_run(self, bell: Bell) -> None:
        with Pool(1, limits=QUICK) as pool:
            future = pool.submit(crimes.ring_and_hang, bell.path)
            behind = [pool.submit(crimes.run, number) for number in range(5)]
            bell.hear()
            assert behind[1].cancel()
            assert future.cancel()
            assert [behind[n].result() for n in (0, 2, 3, 4)] == [0, 4, 6, 8]
            wait_until(lambda: pool.statistics().cancelled == 2)

    def test_a_call_that_ends_within_its_grace_costs_no_worker(self, bell: Bell, gate: Gate, tmp_path: Path) -> None:
        with Pool(1, limits=Limits(grace_s=30)) as pool:
            future = pool.submit(crimes.ring_wait_and_note, bell.path, gate.path, str(tmp_path / "book"))
            (pid,) = bell.pids()
            assert future.cancel()
            assert future.cancelled()
            gate.open()
            assert pool.map(crimes.who, [1]) == [pid]
            assert lines(tmp_path / "book") == ["done"]
            assert pool.statistics().workers_started == 1

    def test_a_call_with_retries_is_not_tried_again(self, pool: Pool, bell: Bell) -> None:
        future = pool.call(crimes.ring_and_hang, [bell.path], retries=5)
        pids = bell.pids()
        assert future.cancel()
        wait_gone(pids)
        assert pool.map(crimes.run, range(10)) == [number * 2 for number in range(10)]
        assert pool.statistics().retries == 0

    def test_waiting_for_futures_sees_it(self, pool: Pool, bell: Bell) -> None:
        futures = [pool.submit(crimes.ring_and_hang, bell.path) for _ in range(2)]
        pids = bell.pids(2)
        threading.Thread(target=lambda: [future.cancel() for future in futures]).start()
        done, pending = wait(futures, timeout=120)
        assert done == set(futures)
        assert not pending
        wait_gone(pids)

    def test_from_the_callback_of_another(self, pool: Pool, bell: Bell, gate: Gate) -> None:
        hangs = pool.submit(crimes.ring_and_hang, bell.path)
        pids = bell.pids()
        ends = pool.submit(crimes.ring_and_wait, bell.path, gate.path)
        ends.add_done_callback(lambda _: hangs.cancel())
        gate.open()
        ends.result()
        wait_gone(pids)

    def test_by_asyncio(self, pool: Pool, bell: Bell) -> None:
        async def main() -> None:
            future = asyncio.wrap_future(pool.submit(crimes.ring_and_hang, bell.path))
            pids = await asyncio.to_thread(bell.pids)
            future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await future
            await asyncio.to_thread(wait_gone, pids)

        asyncio.run(main())

    def test_many_at_a_time(self, pool: Pool, watcher: Watcher) -> None:
        """Cancel and result race; every future ends one way or the other."""
        for _ in range(5):
            futures = [pool.submit(crimes.run, number) for number in range(100)]
            cancelled = [future.cancel() for future in reversed(futures)][::-1]
            for number, (future, was) in enumerate(zip(futures, cancelled, strict=True)):
                assert future.cancelled() == was
                if not was:
                    assert future.result() == number * 2
        check_unharmed(pool, watcher)


def leave_by_break(stream: Any) -> None:
    for _ in stream:
        break


def leave_by_exception(stream: Any) -> None:
    with pytest.raises(LookupError):
        for _ in stream:
            raise LookupError


def leave_by_return(stream: Any) -> None:
    def first() -> Any:
        for value in stream:
            return value

    first()


def leave_by_close(stream: Any) -> None:
    next(stream)
    stream.close()


def leave_by_block(stream: Any) -> None:
    with stream:
        next(stream)


def leave_by_generator(stream: Any) -> None:
    def wrapped() -> Generator[Any, None, None]:
        yield from stream

    generator = wrapped()
    next(generator)
    generator.close()


class TestStreams:
    @pytest.mark.parametrize(
        ("verb", "leave"),
        [
            ("imap", leave_by_break),
            ("imap_unordered", leave_by_break),
            ("outcomes", leave_by_break),
            ("imap", leave_by_exception),
            ("imap", leave_by_return),
            ("imap", leave_by_close),
            ("imap", leave_by_block),
            ("imap", leave_by_generator),
        ],
    )
    def test_leaving_ends_what_runs(
        self, pool: Pool, watcher: Watcher, bell: Bell, verb: str, leave: Callable[[Any], None]
    ) -> None:
        gc.disable()  # it must not be needed
        try:
            items = [1, *[("ring_and_hang", bell.path)] * 5]
            leave(getattr(pool, verb)(crimes.run, items, chunk=1))
            # The first item is done; one of those that hang runs, or will never. The news come at once,
            # or from the thread that held the pool's lock at that moment.
            (ended,) = watcher.wait_for(events.MapEnded)
            assert ended.cancelled
        finally:
            gc.enable()
        check_unharmed(pool, watcher)

    def test_dropping_a_stream_ends_what_runs(self, pool: Pool, bell: Bell) -> None:
        stream = pool.imap(crimes.run, [1, *[("ring_and_hang", bell.path)] * 5], chunk=1)
        assert next(stream) == 2
        pids = bell.pids()
        del stream
        wait_gone(pids)

    def test_a_closed_stream_leaves_others_alone(self, pool: Pool, bell: Bell, gate: Gate) -> None:
        hangs = pool.imap_unordered(crimes.run, [1, ("ring_and_hang", bell.path)], chunk=1)
        assert next(hangs) == 2
        (goes,) = bell.pids()
        waits = pool.imap(crimes.run, [("ring_and_wait", bell.path, gate.path), *range(50)], chunk=10)

        def close_the_other() -> None:
            bell.hear()
            hangs.close()
            wait_gone([goes])
            gate.open()

        threading.Thread(target=close_the_other).start()
        assert list(waits)[1:] == [number * 2 for number in range(50)]

    def test_the_first_failure_of_map_ends_the_rest(self, pool: Pool, bell: Bell) -> None:
        items = [("ring_and_hang", bell.path), "fork_and_raise"]
        with pytest.raises(KeyError):
            for _ in pool.imap_unordered(crimes.run, items, chunk=1):
                pass
        # It rang, or was not started at all: either way the pool is free again.
        assert pool.map(crimes.run, range(10)) == [number * 2 for number in range(10)]

    @pytest.mark.parametrize("verb", ["imap", "imap_unordered", "outcomes"])
    def test_stop_lets_what_runs_finish_and_starts_nothing(
        self, pool: Pool, watcher: Watcher, bell: Bell, gate: Gate, verb: str
    ) -> None:
        wait_full_strength(pool, watcher)
        items = itertools.repeat(("ring_and_wait", bell.path, gate.path))
        stream = getattr(pool, verb)(crimes.run, items, chunk=1)

        def stop() -> None:
            bell.hear(2)
            stream.stop()
            gate.open()

        thread = threading.Thread(target=stop)
        thread.start()
        found = list(stream)
        thread.join()
        if verb == "outcomes":
            assert [outcome.index for outcome in found] == [0, 1]
            assert all(outcome.ok for outcome in found)
        assert len(found) == 2


class TestAsync:
    @pytest.mark.parametrize("way", ["aclose", "aclosing", "drop", "exception", "timeout", "cancel"])
    def test_leaving_the_loop_ends_what_runs(self, pool: Pool, watcher: Watcher, bell: Bell, way: str) -> None:
        async def consume() -> None:
            stream = pool.aimap(crimes.run, [1, *[("ring_and_hang", bell.path)] * 5], chunk=1)
            if way == "aclosing":
                async with aclosing(stream):
                    async for _ in stream:
                        break
                return
            async for value in stream:
                assert value == 2
                if way == "aclose":
                    await stream.aclose()
                    return
                if way == "drop":
                    return
                if way == "exception":
                    raise LookupError

        async def main() -> None:
            if way == "exception":
                with pytest.raises(LookupError):
                    await consume()
            elif way == "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await consume()
            elif way == "cancel":
                task = asyncio.create_task(consume())
                await asyncio.to_thread(bell.hear)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                await consume()

        asyncio.run(main())
        watcher.wait_for(events.MapEnded)
        check_unharmed(pool, watcher)

    def test_a_loop_that_ends_in_the_middle(self, pool: Pool, watcher: Watcher, bell: Bell) -> None:
        """The stream outlives its event loop; nobody is left waiting, nothing is printed."""
        kept = []

        async def main() -> None:
            stream = pool.aimap(crimes.run, [1, ("ring_and_hang", bell.path)], chunk=1)
            kept.append(stream)
            async for _ in stream:
                return

        asyncio.run(main())
        pids = bell.pids()
        kept.clear()
        wait_gone(pids)
        check_unharmed(pool, watcher)

    def test_an_async_input_is_not_pulled_any_further(self, pool: Pool) -> None:
        pulled = []

        async def items() -> Any:
            for number in range(1_000_000):
                pulled.append(number)
                yield number
                await asyncio.sleep(0)

        async def main() -> None:
            async with aclosing(pool.aimap(crimes.run, items())) as stream:
                async for value in stream:
                    if value == 20:
                        break
            before = len(pulled)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(pulled) <= before + 1

        asyncio.run(main())


class TestClose:
    @pytest.mark.parametrize("verb", ["map", "imap", "imap_unordered", "outcomes", "submit"])
    def test_closing_ends_what_runs_and_tells_who_waits(self, bell: Bell, verb: str) -> None:
        pool = Pool(2, limits=QUICK)
        caught: list[BaseException] = []

        def use() -> None:
            try:
                if verb == "submit":
                    pool.submit(crimes.ring_and_hang, bell.path).result()
                else:
                    list(getattr(pool, verb)(crimes.ring_and_hang, [bell.path] * 2))
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        pids = bell.pids(1 if verb == "submit" else 2)
        pool.close()
        thread.join(120)
        assert not thread.is_alive()
        assert [type(error) for error in caught] == [CancelledError if verb == "submit" else PoolClosed]
        wait_gone(pids)

    def test_what_ends_within_the_grace_is_not_cut_off(self, bell: Bell, gate: Gate, tmp_path: Path) -> None:
        pool = Pool(1, limits=Limits(grace_s=30))
        pool.submit(crimes.ring_wait_and_note, bell.path, gate.path, str(tmp_path / "book"))
        bell.hear()
        closing = threading.Thread(target=pool.close)
        closing.start()
        gate.open()
        closing.join(120)
        assert not closing.is_alive()
        assert lines(tmp_path / "book") == ["done"]

    @pytest.mark.quick
    def test_from_many_threads(self, bell: Bell) -> None:
        pool = Pool(2, limits=QUICK)
        pool.submit(crimes.ring_and_hang, bell.path)
        pids = bell.pids()
        threads = [threading.Thread(target=pool.close) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
        wait_gone(pids)

    def test_from_a_callback(self, watcher: Watcher) -> None:
        """Which may run on the pool's own thread."""
        pool = Pool(2, limits=QUICK, observers=[watcher])
        wait_full_strength(pool, watcher)
        closed = threading.Event()

        def close(_: object) -> None:
            pool.close()
            closed.set()

        pool.submit(crimes.run, 1).add_done_callback(close)
        assert closed.wait(120)
        with pytest.raises(PoolClosed):
            pool.map(crimes.run, [1])
        pool.close()

    def test_from_an_observer(self) -> None:
        pool: Pool
        closed = threading.Event()

        def close(event: object) -> None:
            if isinstance(event, events.WorkerStarted):
                pool.close()
                closed.set()

        pool = Pool(1, limits=QUICK, observers=[close])
        assert closed.wait(120)
        pool.close()

    def test_in_the_middle_of_a_loop_over_it(self, bell: Bell) -> None:
        pool = Pool(2, limits=QUICK)
        with pytest.raises(PoolClosed):
            for _ in pool.imap(crimes.run, [1, *[("ring_and_hang", bell.path)] * 5], chunk=1):
                pool.close()

    def test_an_exception_in_the_block_is_not_hidden(self, bell: Bell) -> None:
        with pytest.raises(LookupError), Pool(2, limits=QUICK) as pool:
            pool.submit(crimes.ring_and_hang, bell.path)
            bell.hear()
            raise LookupError

    def test_while_workers_start(self) -> None:
        for _ in range(5):
            pool = Pool(2)
            pool.submit(crimes.run, 1)
            pool.close()

    def test_while_workers_die(self, bell: Bell) -> None:
        for _ in range(5):
            pool = Pool(2, limits=QUICK)
            stream = pool.outcomes(crimes.run, ["exit_at_once"] * 20)
            next(stream)
            pool.close()


def test_a_task_that_raises_cancelled_does_not_cancel_its_caller() -> None:
    """asyncio.CancelledError out of a task arrives wrapped: the caller itself was not cancelled."""

    async def main(pool: Pool) -> None:
        with pytest.raises(TaskExited):
            async for _ in pool.aimap(crimes.give_up, [1]):
                pass

    with Pool(1) as pool:
        asyncio.run(main(pool))
