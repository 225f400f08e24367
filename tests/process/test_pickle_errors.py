"""What cannot travel: the message says where it sits, and nobody but its item is harmed."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process import crimes, scripts
from tests.process.waiting import PATIENCE_S

from allcores import Executor, Kind, NotPicklable, Pool, RemoteError, Retry, TaskExited, WorkerLost
from allcores.outcome import Outcome
from allcores.scheduler.timeouts import Timeouts
from allcores.scheduler.timers import Timer
from allcores.scheduler.worker_state import WorkerState

AWAITED = """
import allcores

async def later(item):
    return item

def lists(item):
    return [later(item), later(item)]

if __name__ == "__main__":
    for function in (lambda item: later(item), lists):
        for outcome in allcores.outcomes(function, [1, 2]):
            print(outcome.error)
    for outcome in allcores.outcomes(later, [1]):
        pass
"""


def test_a_coroutine_that_is_refused_is_no_warning_of_python(tmp_path: Path) -> None:
    """Neither from what wraps an async function, nor from the function itself, which is refused before it is called."""
    ending = scripts.run(AWAITED, tmp_path)
    assert len(ending.lines) == 4 and all("is a coroutine" in line for line in ending.lines)
    assert "later at" in ending.err.splitlines()[-1] and "is async, a call of it does" in ending.err.splitlines()[-1]
    assert "never awaited" not in ending.err


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    from tests.process.waiting import Watcher, begin_records, wait_full_strength

    watcher = Watcher()
    with Pool(2, observers=[watcher]) as pool:
        wait_full_strength(pool, watcher)
        begin_records(pool)
        yield pool


def some_lock() -> Any:
    return threading.Lock()


class Connection:
    """Holds a lock, two levels down."""

    def __init__(self) -> None:
        self.settings = {"host": "here", "guards": [1, some_lock()]}

    def query(self, item: object) -> object:
        return item


class TestItems:
    @pytest.mark.parametrize("chunk", [None, 8])
    @pytest.mark.parametrize("ordered", [True, False])
    def test_only_the_item_fails(self, pool: Pool, chunk: int | None, ordered: bool) -> None:
        items: list[Any] = [1, 2, 3, {"db": Connection()}, 5, some_lock(), 7, 8]
        found = sorted(
            pool.outcomes(crimes.run_any, items, chunk=chunk, ordered=ordered), key=lambda outcome: outcome.index
        )
        assert [outcome.index for outcome in found if not outcome.ok] == [3, 5]
        for outcome in (found[3], found[5]):
            assert outcome.kind is Kind.FAILED
            assert isinstance(outcome.error, NotPicklable)
            assert isinstance(outcome.error, TypeError)
            assert outcome.item is items[outcome.index]
            assert outcome.attempts == 0
        error = found[3].error
        assert isinstance(error, NotPicklable)
        assert error.path == "items[3]['db'].settings['guards'][1]"
        assert error.path in str(error)
        assert "lock" in str(error)
        assert found[5].error.path == "items[5]"  # type: ignore[union-attr]

    def test_map_raises_it_in_its_place(self, pool: Pool) -> None:
        values: list[Any] = []
        with pytest.raises(NotPicklable, match=r"items\[2\]"):
            values.extend(pool.imap(crimes.run_any, [1, 2, some_lock(), 4]))
        assert values == ["int", "int"]

    def test_skip_leaves_it_out(self, pool: Pool) -> None:
        assert pool.map(crimes.run_any, [1, some_lock(), 3], on_error="skip") == ["int", "int"]

    def test_nothing_is_tried_again(self, pool: Pool) -> None:
        (outcome,) = pool.outcomes(crimes.run_any, [some_lock()], retries=Retry(5, wait_s=60))
        assert isinstance(outcome.error, NotPicklable)

    def test_all_of_them(self, pool: Pool) -> None:
        assert [outcome.kind for outcome in pool.outcomes(abs, [some_lock() for _ in range(50)])] == [Kind.FAILED] * 50

    def test_one_that_raises_when_it_is_pickled(self, pool: Pool) -> None:
        (outcome,) = pool.outcomes(crimes.run_any, [crimes.RefusesToPickle()])
        assert isinstance(outcome.error, NotPicklable)
        assert "I stay here" in str(outcome.error)

    def test_one_that_refers_to_itself_without_end(self, pool: Pool) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        (outcome,) = pool.outcomes(crimes.run_any, [deep])
        assert isinstance(outcome.error, NotPicklable)
        while deep:  # taken apart by hand: its own end would recurse, too
            deep = deep[0]

    def test_a_generator_and_an_open_file(self, pool: Pool) -> None:
        with open(__file__) as file:
            found = list(pool.outcomes(crimes.run_any, [(number for number in "ab"), file, 3]))
        assert isinstance(found[0].error, NotPicklable)
        assert "generator" in str(found[0].error)
        assert found[2].ok

    def test_an_argument_of_a_call(self, pool: Pool) -> None:
        future = pool.submit(crimes.run_any, {"key": some_lock()})
        error = future.exception()
        assert isinstance(error, NotPicklable)
        assert error.path is not None
        assert error.path.endswith("['key']")
        assert pool.submit(crimes.run_any, 1).result() == "int"

    def test_a_keyword_argument_of_a_call(self, pool: Pool) -> None:
        error = pool.submit(crimes.run_any, item=some_lock()).exception()
        assert isinstance(error, NotPicklable)
        assert "item" in str(error.path)

    def test_in_starmap_and_aimap(self, pool: Pool) -> None:
        with pytest.raises(NotPicklable, match=r"items\[0\]\[1\]"):
            pool.starmap(max, [(1, some_lock())])

        async def main() -> list[Any]:
            return [value async for value in pool.aimap(crimes.run_any, [1, some_lock(), 3], on_error="skip")]

        assert asyncio.run(main()) == ["int", "int"]


class TestFunctions:
    def test_a_bound_method_whose_object_cannot_travel(self, pool: Pool) -> None:
        with pytest.raises(NotPicklable) as caught:
            pool.map(Connection().query, [1])
        assert caught.value.path is not None
        assert caught.value.path.endswith(".settings['guards'][1]")
        assert "setup" in str(caught.value)

    def test_a_closure_over_something_that_cannot_travel(self, pool: Pool) -> None:
        guard = some_lock()

        def guarded(item: int) -> int:
            with guard:
                return item

        for verb in (pool.map, pool.imap, pool.imap_unordered, pool.outcomes):
            with pytest.raises(NotPicklable, match="guard") as caught:
                verb(guarded, [1])
        assert "lock" in str(caught.value)
        with pytest.raises(NotPicklable, match="guard"):
            pool.submit(guarded, 1)

    def test_a_partial_with_something_that_cannot_travel(self, pool: Pool) -> None:
        with pytest.raises(NotPicklable, match="lock"):
            pool.map(functools.partial(max, some_lock()), [1])

    def test_the_pool_goes_on(self, pool: Pool) -> None:
        with pytest.raises(NotPicklable):
            pool.map(Connection().query, [1])
        assert pool.map(abs, [-1]) == [1]
        assert pool.statistics().items_in_flight == 0

    def test_a_function_of_a_module_that_a_worker_cannot_import(self, pool: Pool) -> None:
        import sys
        import types

        module = types.ModuleType("only_here")
        exec("def shift(number):\n    return number + 1", module.__dict__)
        sys.modules["only_here"] = module
        try:
            with pytest.raises(ModuleNotFoundError, match="only_here"):
                pool.map(module.shift, [1])
            found = list(pool.outcomes(module.shift, range(3)))
            assert [outcome.kind for outcome in found] == [Kind.FAILED] * 3
            assert isinstance(pool.submit(module.shift, 1).exception(), ModuleNotFoundError)
        finally:
            del sys.modules["only_here"]
        assert pool.map(abs, [-1]) == [1]


class TestResults:
    @pytest.mark.parametrize("chunk", [None, 5])
    def test_only_the_item_fails(self, pool: Pool, chunk: int | None) -> None:
        found = list(pool.outcomes(crimes.return_something, ["a", "b", "lock", "c", "d"], chunk=chunk))
        assert [outcome.index for outcome in found if not outcome.ok] == [2]
        assert [outcome.value for outcome in found if outcome.ok] == ["a", "b", "c", "d"]
        error = found[2].error
        assert isinstance(error, NotPicklable)
        assert error.path == "result['deep'][1]"
        assert error.path in str(error)
        assert "lock" in str(error)

    def test_of_a_call(self, pool: Pool) -> None:
        error = pool.submit(crimes.return_something, "lock").exception()
        assert isinstance(error, NotPicklable)
        assert error.path == "result['deep'][1]"

    def test_map_raises_it(self, pool: Pool) -> None:
        with pytest.raises(NotPicklable, match="result"):
            pool.map(crimes.return_something, ["lock"])


class TestExceptions:
    @pytest.mark.parametrize("name", ["CannotBeBuiltAgain", "CarriesALock", "CannotBeShown"])
    @pytest.mark.parametrize("chunk", [None, 5])
    def test_one_with_an_initializer_of_its_own_keeps_its_type(self, pool: Pool, name: str, chunk: int | None) -> None:
        found = list(pool.outcomes(crimes.raise_something, ["a", "b", name, "c", "d"], chunk=chunk))
        assert [outcome.kind for outcome in found] == [Kind.OK, Kind.OK, Kind.FAILED, Kind.OK, Kind.OK]
        error: Any = found[2].error
        assert type(error) is getattr(crimes, name)
        assert "in raise_something" in str(error.__cause__)

    def test_one_whose_class_is_not_here_has_a_stand_in(self, pool: Pool) -> None:
        (outcome,) = pool.outcomes(crimes.raise_of_a_module_of_the_worker, ["x"])
        error = outcome.error
        assert isinstance(error, RemoteError)
        assert "only_in_the_worker.Odd: x" in str(error) and error.type_name == "only_in_the_worker.Odd"
        assert (error.index, error.attempts, error.worker) == (0, 1, outcome.worker)
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.type_name) == (str(error), error.type_name)

    def test_one_of_a_local_class_has_its_name_and_message(self, pool: Pool) -> None:
        (outcome,) = pool.outcomes(crimes.raise_something, ["local class"])
        assert "Local" in f"{type(outcome.error).__name__}: {outcome.error}"
        assert "from inside" in str(outcome.error)

    def test_a_group_arrives_whole(self, pool: Pool) -> None:
        with pytest.raises(ExceptionGroup, match="several") as caught:
            pool.map(crimes.raise_something, ["group"])
        assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]

    def test_the_cause_arrives_and_is_in_the_traceback(self, pool: Pool) -> None:
        with pytest.raises(ValueError, match="the effect") as caught:
            pool.map(crimes.raise_something, ["chain"])
        cause = caught.value.__cause__
        assert isinstance(cause, KeyError) and cause.args == ("the cause",)
        assert "KeyError: 'the cause'" in str(cause.__cause__)

    @pytest.mark.quick
    def test_one_is_retried_by_its_type(self, pool: Pool) -> None:
        for kind, attempts in (crimes.CannotBeBuiltAgain, 2), (crimes.CarriesALock, 1):
            retry = Retry(1, on=(kind,), wait_s=0)
            (outcome,) = pool.outcomes(crimes.raise_something, ["CannotBeBuiltAgain"], retries=retry)
            assert outcome.attempts == attempts


class Exits:
    """Its pickling ends the interpreter, by an exception or for good."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        if self.how == "raise":
            raise SystemExit(3)
        os._exit(3)


def test_a_result_that_exits_as_it_is_pickled_is_named() -> None:
    """SystemExit is told as such, and ends no worker; os._exit ends one, and it is said over what."""
    with Pool(1) as pool:
        first, second = pool.outcomes(Exits, ["raise", "end"], chunk=1)
        assert pool.map(abs, [-1]) == [1]
    assert isinstance(first.error, TaskExited)
    assert "Pickling the result of items[0]" in str(first.error) and "SystemExit(3)" in str(first.error)
    assert second.kind is Kind.WORKER_LOST and "while pickling the result of items[1]" in str(second.error)


def leave(error: BaseException | None) -> None:
    if error is not None:
        raise error
    os._exit(3)


class Counted:
    """Counts, in a file, how often it is pickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        with open(self.path, "ab") as file:
            file.write(b".")
        return Counted, (self.path,)


@pytest.mark.parametrize("options", [{}, {"chunk": 2}, {"batch": 2}], ids=str)
def test_each_object_is_pickled_once_on_its_way_back(pool: Pool, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "pickled"
    function: Any = counted_all if "batch" in options else Counted
    assert [each.path for each in pool.map(function, 4 * [str(path)], **options)] == 4 * [str(path)]
    assert path.read_bytes() == b"...."


def counted_all(paths: list[str]) -> list[Counted]:
    return [Counted(path) for path in paths]


class ExitsLater:
    """Its unpickling ends the interpreter, by an exception or for good."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return leave, (self.error,)

    def __call__(self, item: object) -> None:
        raise AssertionError("it cannot be unpickled")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_exits_as_it_is_unpickled_is_named(pool: Pool, error: BaseException) -> None:
    """The step and the item, in the worker and in the parent; no neighbour in the chunk is harmed."""
    items = [1, ExitsLater(error), 3]
    found: list[Outcome[Any]] = list(pool.outcomes(crimes.run_any, items, chunk=3))
    first, second, third = found
    assert first.ok and third.ok
    assert isinstance(second.error, TaskExited) and str(second.error).startswith("Unpickling items[1] (")
    found = [*pool.outcomes(ExitsLater, [error, error, error], chunk=3)]
    for number, outcome in enumerate(found):
        assert str(outcome.error).startswith(f"Unpickling the result of items[{number}] (")
    assert "Unpickling the result of" in str(pool.submit(ExitsLater, error).exception())
    (outcome,) = [*pool.outcomes(ExitsLater(error), [1])]
    assert str(outcome.error).startswith("Unpickling the function for items[0] (")
    assert pool.map(abs, [-1]) == [1]


def test_a_process_that_ends_as_an_item_is_unpickled() -> None:
    with Pool(1) as pool:
        first, second, third = pool.outcomes(crimes.run_any, [1, ExitsLater(None), 3], chunk=3)
    assert first.ok and third.ok
    assert second.kind is Kind.WORKER_LOST and "while unpickling items[1] (" in str(second.error)


AMONG: contextvars.ContextVar[object] = contextvars.ContextVar("AMONG", default=None)


@pytest.mark.parametrize("verb", ["map", "submit"])
def test_a_process_that_ends_as_a_function_is_unpickled(verb: str) -> None:
    """Not for ever: it is given up after some workers, and the pool is of use afterwards."""
    with Pool(2) as pool:
        with pytest.raises(WorkerLost, match="unpickling the function for "):
            if verb == "map":
                pool.map(ExitsLater(None), range(5))
            else:
                pool.submit(ExitsLater(None), 1).result()
        found = list(pool.outcomes(ExitsLater(None), range(3)))
        assert [outcome.kind for outcome in found] == 3 * [Kind.WORKER_LOST]
        assert pool.map(crimes.run, [1, 2]) == [2, 4]


def test_a_process_that_ends_as_a_context_variable_is_unpickled() -> None:
    token = AMONG.set(ExitsLater(None))
    try:
        with (
            Pool(1, contextvars=[AMONG]) as pool,
            pytest.raises(WorkerLost, match="unpickling the context variables for items"),
        ):
            pool.map(crimes.run, [1, 2])
    finally:
        AMONG.reset(token)


class OpensLater(ExitsLater):
    """Its unpickling takes until somebody writes to a FIFO."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return opened, (self.path,)


def opened(path: str) -> Any:
    with open(path) as fifo:
        fifo.read()
    return crimes.run


def test_a_function_that_takes_long_to_be_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that imports a large module is not taken for one that will never begin."""
    monkeypatch.setattr("allcores.scheduler.timeouts.START_NS", 1_000_000)
    looks: list[int] = []
    often = threading.Event()
    look = Timeouts.on_timer

    def looked(
        self: Timeouts, timer: Timer, worker_state: WorkerState, due_ns: int, now: int, *, still_ns: int
    ) -> None:
        look(self, timer, worker_state, due_ns, now, still_ns=still_ns)
        if worker_state.preparing[0]:
            looks.append(now)
        if len(looks) == 20:
            often.set()

    monkeypatch.setattr(Timeouts, "on_timer", looked)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Pool(1) as pool:
        function: Any = OpensLater(str(fifo))
        future = pool.submit(function, 1)
        assert often.wait(60)
        (status,) = pool.worker_status()
        assert status.state == "loading"
        fifo.write_text("go on")
        assert future.result(60) == 2
        assert pool.statistics().workers_lost == 0


def test_an_item_that_exits_as_it_is_pickled_says_so(pool: Pool) -> None:
    first, second = pool.outcomes(crimes.run_any, [1, Exits("raise")])
    assert first.ok and isinstance(second.error, NotPicklable)
    assert "items[1] cannot be pickled" in str(second.error) and "SystemExit: 3" in str(second.error)


class Owner:
    """Has a pool, as objects of programs do, and hands it a method of its own."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def work(self, number: int) -> int:
        return number


@pytest.mark.parametrize("kind", [Pool, Executor])
def test_a_pool_that_is_to_travel_says_what_to_do(kind: Any) -> None:
    """It is neither pickled nor copied: there would be two that end the same workers."""
    with kind(1) as pool:
        for send in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(pickle.PicklingError, match="make another one there"):
                send(pool)
        with pytest.raises(NotPicklable, match=r"work\.__self__\.pool is an allcores\."):
            pool.submit(Owner(pool).work, 1).result(PATIENCE_S)
