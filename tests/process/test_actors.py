"""Actors and the ends of their processes: nothing is run twice, nothing is lost without a word."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.process.indexes import Diary, Fussy, Index, Refused
from tests.process.waiting import PATIENCE_S, Bell, Gate, lines, wait_gone

from allcores import (
    Actor,
    ActorBusy,
    ActorLost,
    Limits,
    Pool,
    PoolClosed,
    SetupError,
    TaskExited,
    TaskTimeout,
    UsageError,
    WorkerLost,
)
from allcores.pool import actor as making

METHODS = (pytest.param("template", marks=pytest.mark.quick), "fork", "spawn")

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")


def pid_of(actor: Actor[Any]) -> int:
    return int(actor.pid().result(timeout=PATIENCE_S))


def begun(call: Callable[[], concurrent.futures.Future[Any]]) -> concurrent.futures.Future[Any]:
    """A call; one that raises, for its object is gone already, as one that has that error."""
    try:
        return call()
    except ActorLost as error:
        lost: concurrent.futures.Future[Any] = concurrent.futures.Future()
        lost.set_exception(error)
        return lost


# --- ends of processes ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_call_that_killed_it_is_named_and_the_rest_goes_on(method: str, tmp_path: Path) -> None:
    book = str(tmp_path / "book")
    with Pool(1, start_method=method) as pool, pool.actor(Index, "a.txt", book) as index:
        before = [index.add() for _ in range(3)]
        killer = index.die(signal.SIGKILL)
        after = [index.add() for _ in range(5)]
        assert [future.result() for future in before] == [1, 2, 3]
        with pytest.raises(WorkerLost, match=r"SIGKILL while running Index\.die\(9\)") as caught:
            killer.result()
        assert caught.value.signal == "SIGKILL"
        assert [future.result() for future in after] == [1, 2, 3, 4, 5]
        assert lines(book) == ["built", "built"]


@pytest.mark.parametrize("method", METHODS)
def test_a_call_finds_what_is_around_the_caller(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folder and environment of the program at the call, as tasks of the pool do; also once it was built anew."""
    (tmp_path / "later").mkdir()
    monkeypatch.chdir(tmp_path)
    with Pool(1, start_method=method) as pool, pool.actor(Index) as index:
        assert index.around().result() == (str(tmp_path), None)
        monkeypatch.chdir(tmp_path / "later")
        monkeypatch.setenv("ALLCORES_AROUND", "here")
        assert index.around().result() == (str(tmp_path / "later"), "here")
        assert isinstance(index.die().exception(), WorkerLost)
        assert index.around().result() == (str(tmp_path / "later"), "here")


def test_its_arguments_are_shown_shortly() -> None:
    with Pool(1) as pool, pool.actor(Index) as index:
        with pytest.raises(WorkerLost, match=r"Index\.leave\(code=3\)"):
            index.leave(code=3).result()
        with pytest.raises(WorkerLost) as caught:
            index.call(lambda obj, data, code: os._exit(code), "x" * 10_000, 5).result()
        assert "Index.call(" in str(caught.value) and len(str(caught.value)) < 400


def test_a_death_between_two_calls_costs_none(tmp_path: Path) -> None:
    with Pool(1) as pool, pool.actor(Index) as index:
        for _ in range(3):
            pid = pid_of(index)
            os.kill(pid, signal.SIGKILL)
            wait_gone([pid])
            assert index.add().result() == 1


@pytest.mark.parametrize("deed", ["die", "exit"])
def test_a_constructor_that_ends_its_process_ends_in_a_setup_error(deed: str, tmp_path: Path) -> None:
    book = str(tmp_path / "book")
    with Pool(1) as pool:
        with pool.actor(Fussy, book, (deed,)) as fussy, pytest.raises(SetupError, match="ended its process"):
            fussy.number().result()
        assert 2 <= len(lines(book)) <= 4
        with pool.actor(Fussy, book, (deed,), restart=0) as fussy, pytest.raises(SetupError, match=r"restart=0"):
            fussy.number().result()
        # The third time it is built, it is built well.
        os.unlink(book)
        with pool.actor(Fussy, book, (deed, deed, "build"), restart=None) as fussy:
            assert fussy.number().result() == 2


def test_one_that_cannot_be_built_anew_fails_what_is_queued(tmp_path: Path) -> None:
    book = str(tmp_path / "book")
    with Pool(1) as pool, pool.actor(Fussy, book, ("build", "raise")) as fussy:
        killer = fussy.die()
        after = [fussy.number() for _ in range(3)]
        assert isinstance(killer.exception(), WorkerLost)
        for future in after:
            with pytest.raises(SetupError, match="the file is damaged"):
                future.result()


def test_never_means_that_every_call_fails_with_one_clear_error(tmp_path: Path) -> None:
    book = str(tmp_path / "book")
    with Pool(1) as pool:
        with pool.actor(Index, "a", book, restart=0) as index:
            killer = index.die()
            after = [begun(index.add) for _ in range(5)]
            assert isinstance(killer.exception(), WorkerLost)
            for future in after:
                with pytest.raises(ActorLost, match=r"Index\('a', .*is gone: .*SIGKILL.*restart=0"):
                    future.result()
            with pytest.raises(ActorLost):
                index.add()
        # A deadline ends the process, too: then it is not built anew either.
        with pool.actor(Index, restart=0, timeout=0.05) as index:
            late = index.hang()
            after = [index.add()]
            assert isinstance(late.exception(), TaskTimeout)
            assert isinstance(after[0].exception(), ActorLost)
        assert lines(book) == ["built"]


def test_it_is_built_anew_as_often_as_that(tmp_path: Path) -> None:
    book = str(tmp_path / "book")
    with Pool(1) as pool, pool.actor(Index, "a", book, restart=2, within=3600.0) as index:
        deaths = [index.die() for _ in range(3)]
        last = begun(index.add)
        assert [type(future.exception()) for future in deaths] == [WorkerLost] * 3
        with pytest.raises(ActorLost, match=r"built anew 2 times within 3600 s already"):
            last.result()
        assert lines(book) == ["built"] * 3


def test_a_constructor_that_hangs_is_told(tmp_path: Path) -> None:
    def hang() -> Index:
        threading.Event().wait()
        raise AssertionError

    with Pool(1, limits=Limits(setup_s=0.5)) as pool, pool.actor(hang) as index:
        with pytest.raises(SetupError, match=r"was not ready after 0\.5 s"):
            index.add().result()


def test_two_objects_never_live_at_a_time(tmp_path: Path) -> None:
    """The new one is built when the old one's process is gone, also when a deadline has ended that."""
    book = str(tmp_path / "book")

    class Exclusive:
        def __init__(self) -> None:
            import fcntl

            self.file = open(book, "w")  # noqa: SIM115
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

        def hang(self) -> None:
            threading.Event().wait()

        def fine(self) -> bool:
            return True

    with Pool(1) as pool, pool.actor(Exclusive, timeout=0.05) as exclusive:
        for _ in range(3):
            late, after = exclusive.hang(), exclusive.with_options(timeout=60).fine()
            assert isinstance(late.exception(), TaskTimeout)
            assert after.result()


# --- deadlines and cancelling ---------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_deadline_costs_its_own_call(method: str, tmp_path: Path) -> None:
    with Pool(1, start_method=method) as pool, pool.actor(Index, timeout=0.1) as index:
        for _ in range(5):  # more than restart= allows: a deadline is not counted
            late = index.hang("")
            after = [index.with_options(timeout=60).add() for _ in range(3)]
            with pytest.raises(TaskTimeout, match=r"Index\.hang\(''\) ran longer than timeout=0.1 s"):
                late.result()
            assert [future.result() for future in after] == [1, 2, 3]


def test_each_call_has_a_deadline_of_its_own(tmp_path: Path) -> None:
    with Pool(1) as pool, pool.actor(Index) as index, Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        slow = index.wait(bell.path, gate.path, "slow")
        bell.hear()
        late = index.with_options(timeout=0.05).hang()
        last = index.add()
        # It waits in the queue for as long as it takes: its seconds begin when it does.
        with pytest.raises(concurrent.futures.TimeoutError):
            late.result(timeout=0.2)
        gate.open()
        assert slow.result() == "slow"
        assert isinstance(late.exception(), TaskTimeout)
        assert last.result() == 1
        with pytest.raises(UsageError, match="timeout=-1"):
            index.with_options(timeout=-1)


def test_what_the_process_does_not_have_can_be_withdrawn(tmp_path: Path) -> None:
    with Pool(1) as pool, pool.actor(Index) as index, Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        running = index.wait(bell.path, gate.path)
        bell.hear()
        assert running.running() and not running.cancel()
        queued = [index.add() for _ in range(20)]
        withdrawn = [future for future in queued[10:] if future.cancel()]
        assert withdrawn == queued[10:]
        gate.open()
        assert running.result() == ""
        assert [future.result() for future in queued[:10]] == list(range(1, 11))
        assert all(future.cancelled() for future in withdrawn)
        assert index.add().result() == 11


def test_a_running_call_is_ended_when_that_was_asked_for(tmp_path: Path) -> None:
    with Pool(1) as pool, pool.actor(Index, cancel_running=True) as index, Bell(tmp_path / "bell") as bell:
        for _ in range(5):  # more than restart= allows: what was asked for is not counted
            pid = pid_of(index)
            running, after = index.hang(bell.path), index.add()
            bell.hear()
            assert running.cancel() and running.cancelled()
            assert after.result() == 1
            assert pid_of(index) != pid
        index.close()
        with pytest.raises(UsageError, match="concurrent=1"):
            pool.actor(Index, cancel_running=True, concurrent=2)


def test_asyncio(tmp_path: Path) -> None:
    async def main(index: Actor[Index]) -> None:
        calls = [asyncio.wrap_future(index.add()) for _ in range(50)]
        assert await asyncio.gather(*calls) == list(range(1, 51))
        with pytest.raises(WorkerLost):
            await asyncio.wrap_future(index.die())
        with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
            waiting = asyncio.wrap_future(index.wait(bell.path, gate.path))
            bell.hear()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(waiting, 0.05)
            # It was not ended for that: its object has a state.
            gate.open()
        assert await asyncio.wrap_future(index.add()) == 1

    with Pool(1) as pool, pool.actor(Index) as index:
        asyncio.run(main(index))


# --- several calls at a time ---------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_calls_that_run_beside_a_crash_are_lost_and_named(method: str, tmp_path: Path) -> None:
    with (
        Pool(1, start_method=method) as pool,
        pool.actor(Index, concurrent=3) as index,
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
    ):
        beside = [index.wait(bell.path, gate.path, n) for n in range(2)]
        bell.hear(2)
        killer = index.die()
        after = [index.add() for _ in range(9)]
        for future in beside:
            with pytest.raises(WorkerLost, match=r"Index\.wait\(.* was running, beside . more, when its process"):
                future.result()
        with pytest.raises(WorkerLost, match=r"Index\.die\(\)"):
            killer.result()
        lost = [future for future in after if future.exception() is not None]
        assert len(lost) <= 1  # the third place was free before the end was seen
        assert sorted(future.result() for future in after if future not in lost) == list(range(1, 10 - len(lost)))


def test_a_deadline_beside_others(tmp_path: Path) -> None:
    with Pool(1) as pool, pool.actor(Index, concurrent=3) as index, Bell(tmp_path / "bell") as bell:
        forever = index.hang(bell.path)
        bell.hear()
        late = index.with_options(timeout=0.1).hang()
        with pytest.raises(TaskTimeout, match=r"Index\.hang\(\) ran longer"):
            late.result()
        with pytest.raises(WorkerLost, match=r"Index\.hang\('.*was running, beside 1 more,.*hang\(\) timed out"):
            forever.result()
        assert index.add().result() == 1


def test_an_answer_need_not_wait_for_a_longer_call(tmp_path: Path) -> None:
    with (
        Pool(1) as pool,
        pool.actor(Index, concurrent=2) as index,
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
    ):
        slow = index.wait(bell.path, gate.path, "slow")
        bell.hear()
        for number in range(1, 300):
            assert index.add().result() == number
        assert index.echo(b"x" * 3_000_000).result() == b"x" * 3_000_000
        with pytest.raises(Refused):
            index.sync.refuse("word")
        assert type(index.call(lambda obj: sys.exit(3)).exception()) is TaskExited
        assert not slow.done()
        gate.open()
        assert slow.result() == "slow"


# --- the queue ------------------------------------------------------------------------------------


def test_at_the_bound_a_call_waits_and_then_raises(tmp_path: Path) -> None:
    with (
        Pool(1) as pool,
        pool.actor(Index, max_queued=3, queue_timeout=0) as index,
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
    ):
        calls = [index.wait(bell.path, gate.path, n) for n in range(3)]
        bell.hear()
        with pytest.raises(ActorBusy, match=r"Index has 3 calls without an outcome, which is max_queued.* 0 s"):
            index.add()
        with pytest.raises(ActorBusy, match=r"0\.05 s"):
            index.with_options(queue_timeout=0.05).add()
        # Cancelled, and failed before they are sent: their places are free again.
        assert calls[2].cancel() or calls[2].running()
        found: list[Any] = []
        patient = index.with_options(queue_timeout=PATIENCE_S)
        threads = [threading.Thread(target=lambda: found.append(patient.add().result())) for _ in range(10)]
        for thread in threads:
            thread.start()
        gate.open()
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(1, 11))
        for _ in range(10):
            assert index.call(lambda obj, lock: 0, cast("Any", threading.Lock())).exception() is not None
        assert [index.add().result() for _ in range(5)] == [11, 12, 13, 14, 15]


def test_a_callback_may_call_it_also_when_the_queue_is_full() -> None:
    with Pool(1) as pool, pool.actor(Index, max_queued=2) as index:
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def again(future: concurrent.futures.Future[Any]) -> None:
            total = future.result()
            if total == 40:
                done.set_result(total)
            elif total < 40:
                for _ in range(2):
                    try:
                        index.add().add_done_callback(again)
                    except PoolClosed:
                        return

        index.add().add_done_callback(again)
        assert done.result(timeout=PATIENCE_S) == 40


def test_who_waits_for_a_place_is_told_when_it_is_closed(tmp_path: Path) -> None:
    with Pool(1) as pool, Bell(tmp_path / "bell") as bell:
        index = pool.actor(Index, max_queued=1, queue_timeout=PATIENCE_S)
        running = index.hang(bell.path)
        bell.hear()
        errors: list[BaseException] = []
        begun = threading.Barrier(5)

        def work() -> None:
            begun.wait()
            try:
                index.add()
            except PoolClosed as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        begun.wait()
        index.close()
        for thread in threads:
            thread.join()
        assert len(errors) == 4
        assert running.cancelled()


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_closing_ends_what_runs(method: str, tmp_path: Path) -> None:
    with Pool(1, start_method=method) as pool, Bell(tmp_path / "bell") as bell:
        with pool.actor(Index) as index:
            pid = pid_of(index)
            calls = [index.hang(bell.path) for _ in range(3)]
            bell.hear()
            index.close(finish=0.05)
        wait_gone([pid])
        assert all(future.cancelled() for future in calls)
        assert pool.map(abs, [-1]) == [1]


def test_a_handle_that_nobody_has_ends_its_process() -> None:
    with Pool(1) as pool:
        index = pool.actor(Index)
        pid = pid_of(index)
        last = index.add()
        del index
        assert last.result() == 1
        del last
        gc.collect()
        wait_gone([pid])
        with pool.actor(Index) as index:  # its place is free
            assert index.add().result() == 1


def test_an_actor_keeps_its_pool() -> None:
    def make() -> Actor[Index]:
        return Pool(1).actor(Index)

    index = make()
    gc.collect()
    assert index.add().result() == 1
    index.close()
    del index
    gc.collect()


def test_a_program_that_ends_with_one_open_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, allcores\n"
        "class Box:\n"
        "    def pid(self): return os.getpid()\n"
        "box = allcores.actor(Box)\n"
        "print(box.pid().result(), flush=True)\n"
    )
    path = tmp_path / "program.py"
    path.write_text(code)
    run = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    wait_gone([int(run.stdout)])
    assert run.stderr == ""


def test_in_a_forked_process_it_says_whose_it_is() -> None:
    with Pool(1) as pool, pool.actor(Index) as index:
        assert index.add().result() == 1
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            text = "nothing raised"
            try:
                index.add()
            except PoolClosed as error:
                text = str(error)
            index.close()
            os.write(writing, text.encode())
            os._exit(0)
        os.waitpid(child, 0)
        text = os.read(reading, 1000).decode()
        os.close(reading)
        os.close(writing)
        assert text.startswith(f"The actor Index belongs to process {os.getpid()}")
        assert index.add().result() == 2


def test_ctrl_c_reaches_the_program_and_not_the_object(tmp_path: Path) -> None:
    with Pool(1) as pool, pool.actor(Index) as index, Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        running = index.wait(bell.path, gate.path, "through")
        bell.hear()
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            running.result(timeout=PATIENCE_S)
        gate.open()
        assert running.result() == "through"
        assert index.add().result() == 1


def test_several_go_on_without_the_one_that_is_lost(tmp_path: Path) -> None:
    with Pool(2) as pool, pool.actors(Index, restart=0) as index, Bell(tmp_path / "bell") as bell:
        gate = Gate(tmp_path / "gate")
        both = [index.wait(bell.path, gate.path, n) for n in range(2)]
        assert len(set(bell.pids(2))) == 2
        gate.open()
        assert [future.result() for future in both] == [0, 1]
        assert isinstance(index.die().exception(), WorkerLost)
        assert [future.result() for future in [index.search("w") for _ in range(20)]] == [["w"]] * 20
        assert isinstance(index.die().exception(), WorkerLost)
        with pytest.raises(ActorLost):
            index.search("w").result()
        gate.__exit__(None, None, None)


def test_limits_that_would_end_an_object_are_not_for_actors() -> None:
    limits = Limits(items_per_worker=2, growth_per_worker=1)
    with Pool(1, limits=limits) as pool, pool.actor(Index) as index:
        assert [index.add().result() for _ in range(10)] == list(range(1, 11))


# --- all at once ----------------------------------------------------------------------------------


def test_calls_from_many_threads_with_kills_between(tmp_path: Path) -> None:
    """Each call ends in its result or in an error that names it; none is begun twice."""
    book = str(tmp_path / "book")
    open(book, "w").close()
    outcomes: dict[int, Any] = {}
    lost: list[int] = []
    with Pool(2) as pool, pool.actors(Diary, book, count=2, restart=None, max_queued=50) as diary:
        stop = threading.Event()

        def call(thread: int) -> None:
            futures = {number: diary.enter(number) for number in range(thread, 2000, 4)}
            for number, future in futures.items():
                try:
                    outcomes[number] = future.result(timeout=PATIENCE_S)
                except WorkerLost as error:
                    assert f"Diary.enter({number})" in str(error)
                    outcomes[number] = error
                    lost.append(number)

        def kill() -> None:
            while not stop.wait(0.02):
                future = diary.call(lambda obj: os.kill(os.getpid(), signal.SIGKILL))
                assert isinstance(future.exception(timeout=PATIENCE_S), WorkerLost)

        killer = threading.Thread(target=kill)
        threads = [threading.Thread(target=call, args=(thread,)) for thread in range(4)]
        for each in [killer, *threads]:
            each.start()
        for each in threads:
            each.join()
        stop.set()
        killer.join()
    assert sorted(outcomes) == list(range(2000))
    begun = Counter(map(int, lines(book)))
    assert max(begun.values()) == 1
    assert all(outcomes[number] == number for number in outcomes if number not in lost)
    assert set(begun) >= {number for number in outcomes if number not in lost}


def test_threads_that_make_actors_at_once_get_no_more_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is taken as one is begun, not when its processes are there; what could not be made gives it back."""
    begun, go_on = threading.Event(), threading.Event()
    make = making.make_actor

    def slowly(*given: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return make(*given, **options)

    with Pool(1, backend="threads") as pool, concurrent.futures.ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(making, "make_actor", slowly)
        first = threads.submit(lambda: pool.actor(Index))
        assert begun.wait(PATIENCE_S)
        try:
            with pytest.raises(UsageError, match="and 1 are there"):
                pool.actor(Index)
        finally:
            go_on.set()
        first.result().close()
        with pytest.raises(UsageError, match="concurrent"):
            pool.actor(Index, concurrent=0)
        pool.actor(Index).close()
