"""`setup=` runs once in each worker. When it fails, that is said once, clearly, and no worker is started again."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from threading import Lock, Timer
from typing import Any

import pytest
from tests.process import setups
from tests.process.waiting import Bell, Gate, Watcher, lines, wait_full_strength, wait_gone, wait_until

from allcores import BrokenPool, Kind, Limits, NotPicklable, Pool, PoolClosed, SetupError
from allcores.backends.processes.connection import WorkerConnection
from allcores.backends.processes.launchers import TemplateLauncher
from allcores.events import PoolBroken
from allcores.scheduler.workers import MOST_FAILED_STARTS, MOST_KILLED_STARTS

METHODS = ("template", "fork", "spawn")

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")


def use(pool: Pool, verb: str) -> Any:
    """One call by each verb; what it raises is the answer."""
    if verb == "map":
        return pool.map(abs, [1, 2])
    if verb == "starmap":
        return pool.starmap(abs, [(1,)])
    if verb == "submit":
        return pool.submit(abs, 1).result(timeout=120)
    if verb == "aimap":

        async def main() -> list[int]:
            return [value async for value in pool.aimap(abs, [1, 2])]

        return asyncio.run(main())
    return list(getattr(pool, verb)(abs, [1, 2]))


VERBS = ["map", "imap", "imap_unordered", "starmap", "outcomes", "submit", "aimap"]


@pytest.mark.parametrize("method", METHODS)
def test_one_that_raises_is_reported_with_its_traceback(method: str, tmp_path: Path) -> None:
    book = tmp_path / "book"
    with Pool(2, start_method=method, setup=setups.note_and_raise, setup_args=(str(book),)) as pool:
        with pytest.raises(SetupError, match="ValueError: the model is missing") as caught:
            pool.map(abs, [1, 2])
        cause = caught.value.__cause__
        assert isinstance(cause, ValueError)
        assert "in note_and_raise" in str(cause.__cause__)
        assert "in load" in str(cause.__cause__)
        # It is remembered: nothing is tried again.
        for verb in VERBS:
            with pytest.raises(SetupError, match="the model is missing"):
                use(pool, verb)
        assert len(lines(book)) <= 2


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_waits_when_it_fails_is_told(verb: str, tmp_path: Path) -> None:
    """The call came first, the failure later."""
    with Gate(tmp_path / "gate") as gate, Bell(tmp_path / "bell") as bell:
        fail = functools.partial(setups.wait_and_raise, bell.path, gate.path)
        with Pool(2, setup=fail) as pool:
            bell.hear()
            Timer(0.05, gate.open).start()
            with pytest.raises(SetupError, match="the model is missing"):
                use(pool, verb)


def test_all_futures_are_told() -> None:
    with Pool(2, setup=setups.raise_at_once) as pool:
        try:
            futures = [pool.submit(abs, 1) for _ in range(20)]
        except SetupError:
            return  # it was faster than the loop
        for future in futures:
            with pytest.raises(SetupError):
                future.result(timeout=120)


@pytest.mark.parametrize(
    ("method", "crime", "sign"),
    [*((method, "exit_at_once", "code 3") for method in METHODS), ("template", "segfault", "SIGSEGV")],
)
def test_one_that_ends_its_process(method: str, crime: str, sign: str, tmp_path: Path) -> None:
    """Some times in a row, with no worker ever ready."""
    book = tmp_path / "book"
    with Pool(2, start_method=method, setup=setups.note_and_commit, setup_args=(str(book), crime)) as pool:
        with pytest.raises(SetupError, match=sign) as caught:
            pool.map(abs, [1, 2])
        assert "The setup function ended its process 3 times in a row" in str(caught.value)
        assert MOST_FAILED_STARTS <= len(lines(book)) <= 2 * MOST_FAILED_STARTS


def test_one_that_kills_its_process(tmp_path: Path) -> None:
    """That it was not somebody else shows later, but it shows."""
    with Pool(1, setup=setups.note_and_commit, setup_args=(str(tmp_path / "book"), "kill_itself")) as pool:
        with pytest.raises(SetupError, match=f"{MOST_KILLED_STARTS} times in a row.*SIGKILL"):
            pool.map(abs, [1, 2])


@pytest.mark.parametrize("ender", [SystemExit, KeyboardInterrupt, StopIteration, GeneratorExit])
def test_one_that_raises_what_would_end_the_caller(ender: type[BaseException]) -> None:
    with Pool(1, setup=setups.raise_it, setup_args=(ender,)) as pool:
        with pytest.raises(SetupError, match=ender.__name__):
            pool.map(abs, [1])
        with pytest.raises(SetupError, match=ender.__name__):
            pool.submit(abs, 1).result(timeout=120)


@pytest.mark.parametrize("hang", ["catch_everything", "hold_the_interpreter"])
def test_one_that_hangs_is_ended(hang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allcores.scheduler.workers.STOPPED_NS", 20_000_000)
    with Bell(tmp_path / "bell") as bell:
        setup: Callable[..., Any] = functools.partial(setups.ring_and_commit, bell.path, hang)
        with Pool(1, setup=setup) as pool:
            pids = bell.pids()
            # Only now: a busy machine may need any time to come this far.
            pool._driver.scheduler.state.limits = Limits(setup_s=0.01, terminate_s=0.05)
            with pytest.raises(SetupError, match=r"not ready after 0\.01 s"):
                pool.map(abs, [1])
            wait_gone(pids)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda number: number.name)
def test_a_worker_struck_in_its_setup_is_replaced(
    method: str, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By somebody else, and beside nobody who is well: one failed start, and the work goes on."""
    monkeypatch.setattr("allcores.scheduler.workers.STOPPED_NS", 50_000_000)
    with Bell(tmp_path / "bell") as bell:
        spin_once = functools.partial(setups.spin_once, bell.path, str(tmp_path / "flag"))
        with Pool(1, start_method=method, setup=spin_once, limits=Limits(terminate_s=0.05)) as pool:
            stream = pool.imap(setups.second, [1])
            os.kill(bell.pids()[0], number)
            assert list(stream) == [1]
            assert pool.statistics().workers_started == 2


@pytest.mark.parametrize(
    ("method", "number"), [*((method, signal.SIGKILL) for method in METHODS), ("spawn", signal.SIGSTOP)]
)
def test_a_worker_struck_before_its_setup_is_replaced(
    method: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the moment it is born, with no setup function at all, two times in a row and beside healthy ones."""
    monkeypatch.setattr("allcores.scheduler.workers.STOPPED_NS", 50_000_000)
    struck: list[int] = []

    class Striker(WorkerConnection):
        """Strikes each worker with an odd number as soon as its pid is known."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "pid" and value and self.number % 2 and len(struck) < 3:
                struck.append(value)
                os.kill(value, number)

    monkeypatch.setattr("allcores.backends.processes.worker_table.WorkerConnection", Striker)
    watcher = Watcher()
    with Pool(2, start_method=method, limits=Limits(terminate_s=0.05), observers=[watcher]) as pool:
        assert pool.map(abs, range(100)) == list(range(100))
        wait_full_strength(pool, watcher)
        assert len(struck) >= 1
        assert pool.statistics().workers_started > 2
        assert pool.map(abs, range(100)) == list(range(100))


@pytest.mark.parametrize("patience_ns", [0, 1 << 62])
def test_templates_struck_in_quick_succession(patience_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills from outside end the pool by their number only if they go on for long."""
    monkeypatch.setattr("allcores.backends.processes.exits.MOST_TEMPLATES_KILLED", 2)
    monkeypatch.setattr("allcores.backends.processes.exits.KILLED_NS", patience_ns)
    struck: list[int] = []

    class Struck(TemplateLauncher):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            if len(struck) < 4:
                # Until the pool's own is forked it is the program's, which has perhaps done its part when it is hit.
                wait_until(lambda: self.pid != self._shared.pid)
                struck.append(self.pid)
                os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr("allcores.backends.processes.worker_table.TemplateLauncher", Struck)
    with Pool(1) as pool:
        if patience_ns:
            assert pool.map(abs, range(10)) == list(range(10))
            assert len(struck) == 4
        else:
            with pytest.raises(BrokenPool, match="ended 2 times"):
                pool.map(abs, range(10))


def test_closing_a_pool_does_not_wait_for_a_setup_that_hangs(tmp_path: Path) -> None:
    limits = Limits(grace_s=0.02, terminate_s=0.05)
    with Bell(tmp_path / "bell") as bell:
        pool = Pool(2, setup=setups.ring_and_commit, setup_args=(bell.path, "catch_everything"), limits=limits)
        pids = bell.pids(2)
        stream = pool.imap(abs, [1])
        pool.close()
        wait_gone(pids)
        with pytest.raises(PoolClosed):
            next(stream)


def test_a_setup_that_fails_in_a_worker_started_later(tmp_path: Path) -> None:
    """The first workers were fine; the replacement is not: the pool says so instead of getting smaller."""
    flag = tmp_path / "flag"
    limits = Limits(items_per_worker=3)
    with Pool(1, setup=setups.work_once, setup_args=(str(flag),), limits=limits) as pool:
        assert pool.map(setups.second, [1, 2], chunk=1) == [1, 2]
        with pytest.raises(SetupError, match="the model is missing"):
            pool.map(setups.second, range(20), chunk=1)


def test_a_setup_whose_exception_cannot_travel() -> None:
    with Pool(1, setup=setups.raise_something_odd) as pool:
        with pytest.raises(SetupError, match="CannotBeBuiltAgain: spoon"):
            pool.map(abs, [1])


@pytest.mark.parametrize("method", METHODS)
def test_what_it_returns_need_not_be_picklable(method: str) -> None:
    with Pool(2, start_method=method, setup=setups.open_lock) as pool:
        assert pool.map(setups.use_lock, range(10)) == list(range(10))


@pytest.mark.parametrize(
    "options",
    [
        {"setup": abs, "setup_args": (Lock(),)},
        {"setup": functools.partial(print, Lock())},
        {"teardown": Lock().acquire},
    ],
    ids=["argument", "function", "teardown"],
)
def test_one_that_cannot_travel_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(NotPicklable):
        Pool(1, **options)


@pytest.mark.quick
def test_it_runs_again_in_a_worker_that_replaces_a_lost_one(tmp_path: Path) -> None:
    book = tmp_path / "book"
    watcher = Watcher()
    with Pool(1, setup=setups.note_pid, setup_args=(str(book),), observers=[watcher]) as pool:
        found = list(pool.outcomes(setups.commit, [None, "exit_at_once", None]))
        assert [outcome.kind for outcome in found] == [Kind.OK, Kind.WORKER_LOST, Kind.OK]
        wait_full_strength(pool, watcher)
    first, second = lines(book)
    assert first != second
    assert [found[0].value, found[2].value] == [int(first), int(second)]


class TestTeardown:
    def test_it_runs_with_the_state_when_the_pool_is_closed(self, tmp_path: Path) -> None:
        book = tmp_path / "book"
        with Pool(1, setup=setups.note_pid, setup_args=(str(book),), teardown=setups.note_end) as pool:
            (pid,) = pool.map(setups.commit, [None])
        assert lines(book) == [str(pid), f"end of {pid}"]

    def test_it_runs_when_a_worker_is_replaced(self, tmp_path: Path) -> None:
        book = tmp_path / "book"
        options: dict[str, Any] = {"limits": Limits(items_per_worker=2)}
        with Pool(1, setup=setups.note_pid, setup_args=(str(book),), teardown=setups.note_end, **options) as pool:
            pids = pool.map(setups.commit, [None] * 6, chunk=1)
        assert len(set(pids)) == 3
        assert {f"end of {pid}" for pid in pids} <= set(lines(book))

    @pytest.mark.parametrize("teardown", ["raise_in_teardown", "exit_in_teardown", "crash_in_teardown"])
    def test_one_that_fails_does_no_harm(self, teardown: str, capfd: pytest.CaptureFixture[str]) -> None:
        with Pool(2, setup=dict, teardown=getattr(setups, teardown)) as pool:
            assert pool.map(setups.second, [1, 2]) == [1, 2]

    def test_one_that_raises_shows_its_traceback(self, capfd: pytest.CaptureFixture[str]) -> None:
        with Pool(1, setup=dict, teardown=setups.raise_in_teardown) as pool:
            assert pool.map(setups.second, [1]) == [1]
        assert "the end went wrong" in capfd.readouterr().err

    def test_one_that_hangs_is_ended(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("allcores.backends.processes.backend.TEARDOWN_S", 0.2)
        with Bell(tmp_path / "bell") as bell:
            teardown: Callable[..., Any] = functools.partial(setups.ring_and_commit, bell.path, "catch_everything")
            with Pool(1, teardown=teardown) as pool:
                assert pool.map(abs, [1]) == [1]
            wait_gone(bell.pids())


def test_workers_that_die_before_they_are_ready_break_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the setup's fault: the interpreter itself cannot start. That ends in an error, not in a loop."""
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises((BrokenPool, OSError)), Pool(1) as pool:
        pool.map(abs, [1])


def test_a_teardown_that_raises_in_a_thread_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told where what threads raise is told; no mistake of the pool's is made of it."""
    told: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: told.append(arguments.exc_type))
    events: list[object] = []

    def refuse() -> None:
        raise LookupError("no way to end")

    with Pool(2, backend="threads", teardown=refuse, observers=[events.append]) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    assert told and set(told) == {LookupError}
    assert not any(isinstance(event, PoolBroken) for event in events)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_setup_was_given_lives_as_long_as_its_worker(method: str) -> None:
    """Tasks may use what belongs to it; multiprocessing and concurrent.futures keep it, too."""
    with Pool(1, start_method=method, setup=setups.look_at, setup_args=(setups.Owner(),)) as pool:
        assert pool.map(setups.is_owner_there, [1, 2]) == [True, True]
