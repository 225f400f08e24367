"""What futures of `allcores.Executor` raise is caught by code that was written for `ProcessPoolExecutor`."""

from __future__ import annotations

import concurrent.futures as cf
import logging
import multiprocessing
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from tests.process import crimes, setups

from allcores import Executor, NotPicklable, Pool, SetupError, TaskExited
from allcores.errors import BrokenPool, InternalError, WorkerLost
from allcores.pool.call_future import CallFuture
from allcores.pool.executor_calls import ExecutorFuture
from allcores.pool.executor_errors import as_broken

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(1) as executor:
        yield executor


def raise_it(kind: type[BaseException]) -> None:
    raise kind(3)  # the line that is shown


class TestPickling:
    @pytest.mark.parametrize("bad", [crimes.RefusesToPickle(), crimes.LeavesWhenPickled()], ids=["raises", "exits"])
    def test_what_does_not_pickle_is_a_pickling_error(self, executor: Executor, bad: object) -> None:
        """Also if its __reduce__ raises SystemExit, which must not end whoever submits."""
        error = executor.submit(crimes.run_any, bad).exception(120)
        assert isinstance(error, NotPicklable)
        assert isinstance(error, pickle.PicklingError)
        assert isinstance(error, TypeError)

    def test_a_function_whose_pickling_exits_is_a_pickling_error(self, executor: Executor) -> None:
        bad = crimes.LeavesWhenPickled()
        with pytest.raises(pickle.PicklingError):
            executor.submit(lambda: bad)

    def test_a_result_that_does_not_pickle_is_a_pickling_error(self, executor: Executor) -> None:
        error = executor.submit(crimes.return_something, "RefusesToPickle").exception(120)
        assert isinstance(error, pickle.PicklingError)

    def test_a_result_whose_pickling_exits_says_so(self, executor: Executor) -> None:
        """It is the exception that __reduce__ raised, not the death of a worker."""
        error = executor.submit(crimes.return_something, "LeavesWhenPickled").exception(120)
        assert isinstance(error, SystemExit)
        assert any("could not be pickled" in note for note in error.__notes__)
        assert executor._pool.statistics().workers_started == 1

    def test_the_same_in_a_pool(self) -> None:
        with Pool(1) as pool:
            items = ["a", "LeavesWhenPickled", "b"]
            outcomes = list(pool.outcomes(crimes.return_something, items, chunk=3))
            assert [outcome.value for outcome in outcomes] == ["a", None, "b"]
            assert isinstance(outcomes[1].error, TaskExited)
            outcomes = list(pool.outcomes(crimes.run_any, [1, crimes.LeavesWhenPickled(), 2], chunk=3))
            assert [type(outcome.error) for outcome in outcomes] == [type(None), NotPicklable, type(None)]
            assert pool.statistics().workers_started == 1


class TestUnpickling:
    """A BrokenProcessPool, as with the standard library's, but for this future only; the cause tells the rest."""

    @pytest.mark.parametrize("kind", [pickle.UnpicklingError, SystemExit])
    def test_it_fails_its_own_future(self, executor: Executor, kind: type[BaseException]) -> None:
        bomb = crimes.RaisesWhenLoaded(kind)
        calls: dict[str, tuple[Any, ...]] = {
            "argument": (crimes.run_any, bomb),
            "function": (lambda: bomb,),
            "result": (crimes.return_something, "SystemExit"),
        }
        for what, call in calls.items():
            error = executor.submit(*call).exception(120)
            assert isinstance(error, BrokenProcessPool), what
            assert type(error.__cause__) is (kind if what != "result" else SystemExit), what
            assert "boom" in str(error)
        assert executor.submit(crimes.run, 1).result(120) == 2

    def test_in_a_pool_it_is_what_was_raised(self) -> None:
        with Pool(1) as pool:
            bomb = crimes.RaisesWhenLoaded(pickle.UnpicklingError)
            assert type(pool.submit(crimes.run_any, bomb).exception(120)) is pickle.UnpicklingError


KINDS = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, BaseException]


def test_the_functions_own_exception_arrives_as_it_was_raised(executor: Executor) -> None:
    """Whatever it is, as documented. (A Pool's futures have a TaskExited for what would end the caller.)

    Its cause has the traceback in `tb`, where code for the standard library's looks for it; and it is shown.
    """
    for kind in KINDS:
        error = executor.submit(raise_it, kind).exception(120)
        assert type(error) is kind
        assert error.args == (3,)
        cause: Any = error.__cause__
        assert "raise kind(3)  # the line that is shown" in cause.tb
        assert cause.tb in str(cause)
        assert "# the line that is shown" in "".join(traceback.format_exception(error))
        assert pickle.loads(pickle.dumps(cause)).tb == cause.tb


class TestBroken:
    @pytest.mark.parametrize("kind", [WorkerLost, SetupError, BrokenPool, InternalError])
    def test_each_keeps_its_type_and_facts(self, kind: type[Exception]) -> None:
        error = kind("why")
        error.fact = 5  # type: ignore[attr-defined]
        error.__cause__ = ValueError("first")
        broken: Any = as_broken(error)
        for each in (kind, BrokenProcessPool):
            assert isinstance(broken, each)
        assert (str(broken), broken.fact, broken.__cause__) == ("why", 5, error.__cause__)
        assert as_broken(broken) is broken
        again = pickle.loads(pickle.dumps(broken))
        assert (type(again), str(again), again.fact) == (type(broken), "why", 5)

    @pytest.mark.parametrize("method", [None, "fork"])
    def test_an_initializer_that_fails_is_logged_by_its_worker(
        self, caplog: pytest.LogCaptureFixture, method: str | None
    ) -> None:
        """To the logger that the standard library uses, with its traceback; the record arrives here."""
        context = multiprocessing.get_context(method) if method else None
        executor = Executor(1, mp_context=context, initializer=setups.raise_at_once)
        with pytest.raises(BrokenProcessPool):
            executor.submit(crimes.run, 1).result(120)
        with pytest.raises(BrokenProcessPool):
            executor.submit(crimes.run, 1)
        executor.shutdown()
        records = [record for record in caplog.records if record.name == "concurrent.futures"]
        assert records
        assert {record.levelno for record in records} == {logging.CRITICAL}
        assert "the model is missing" in str(records[0].exc_text)


MAKERS: list[Callable[[], cf.Future[Any]]] = [cf.Future, CallFuture, ExecutorFuture]


@pytest.mark.parametrize("make", MAKERS)
class TestFuturesByThemselves:
    """Made by whoever wants one, without a call behind it, as tests and adapters do."""

    def test_a_result(self, make: Callable[[], cf.Future[Any]]) -> None:
        future = make()
        heard: list[Any] = []
        future.add_done_callback(lambda future: heard.append(future.result()))
        with pytest.raises(TimeoutError):
            future.result(0)
        assert future.set_running_or_notify_cancel()
        assert future.running()
        assert not future.cancel()
        future.set_result(5)
        assert (future.result(), future.done(), future.running(), heard) == (5, True, False, [5])

    def test_an_exception(self, make: Callable[[], cf.Future[Any]]) -> None:
        future, error = make(), ValueError("no")
        future.set_exception(error)
        assert future.exception(0) is error
        with pytest.raises(cf.InvalidStateError):
            future.set_result(5)

    def test_cancelled(self, make: Callable[[], cf.Future[Any]]) -> None:
        future = make()
        heard: list[bool] = []
        future.add_done_callback(lambda future: heard.append(future.cancelled()))
        assert future.cancel()
        assert future.cancel()
        assert not future.set_running_or_notify_cancel()
        assert heard == [True]
        with pytest.raises(cf.CancelledError):
            future.result(0)
        assert cf.wait([future], 0).done == {future}


def test_keywords_of_any_name_reach_the_function(executor: Executor) -> None:
    assert executor.submit(dict, self=1, fn=2, args=3, kwargs=4).result(120) == {
        "self": 1,
        "fn": 2,
        "args": 3,
        "kwargs": 4,
    }


if sys.version_info >= (3, 14):

    def test_the_newer_methods_are_those_of_the_standard_library() -> None:
        for name in ("terminate_workers", "kill_workers"):
            assert hasattr(cf.ProcessPoolExecutor, name)
