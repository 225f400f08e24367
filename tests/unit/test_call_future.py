"""The future of a call, whose outcome two threads may have at the same moment."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from allcores import Pool
from allcores.pool.call_chunks import calls_map
from allcores.pool.call_future import CallFuture
from allcores.pool.pool import driver_of
from allcores.scheduler.map_state import Chunk


class Contested(CallFuture):
    """While it is made to fail on this thread, another one has an outcome for it."""

    def __init__(self) -> None:
        super().__init__()
        self.others: list[bool] = []

    def set_running_or_notify_cancel_once(self) -> bool:
        found = super().set_running_or_notify_cancel_once()
        if threading.current_thread() is threading.main_thread() and not self.others:
            other = threading.Thread(target=lambda: self.others.append(self.resolve(ValueError("its own"))))
            other.start()
            other.join()
        return found


def test_of_two_outcomes_one_is_kept_and_nothing_is_raised() -> None:
    """A pool that is ended fails what its workers finish just now."""
    future = Contested()
    told: list[object] = []
    future.add_done_callback(told.append)
    future.fail(KeyError("ended"))
    assert future.others == [False]  # it is to be tried again
    assert told == [future]
    assert future.resolve(ValueError("its own"), wait=True)
    future.call_back()
    with pytest.raises(KeyError):
        future.result(0)
    assert told == [future]


def test_what_has_its_outcome_keeps_it() -> None:
    future = CallFuture()
    future.fail(KeyError("first"))
    future.fail(ValueError("second"))
    assert isinstance(future.exception(0), KeyError)


class Dropped(CallFuture):
    """While it is dropped on this thread, another one has an outcome for it."""

    def __init__(self) -> None:
        super().__init__()
        self.others: list[bool] = []

    def done(self) -> bool:
        found = super().done()
        if threading.current_thread() is threading.main_thread() and not self.others:
            other = threading.Thread(target=lambda: self.others.append(self.resolve(ValueError("its own"))))
            other.start()
            other.join()
        return found


def test_one_that_is_dropped_with_its_pool_keeps_the_outcome_of_another_thread() -> None:
    future = Dropped()
    told: list[object] = []
    future.add_done_callback(told.append)
    future.drop()
    assert future.others == [not future.cancelled()]
    assert told == [future]


class Cancelled(CallFuture):
    """While it is cancelled on this thread, another one cancels it, too."""

    def __init__(self) -> None:
        backend = SimpleNamespace(runs_on_caller=False, unhandled=())
        super().__init__(SimpleNamespace(backend=backend, submitted=SimpleNamespace(waiting=set())))  # type: ignore[arg-type]
        self.others: list[bool] = []

    def set_running_or_notify_cancel(self) -> bool:
        if threading.current_thread() is threading.main_thread() and not self.others:
            other = threading.Thread(target=self.cancel_here)
            other.start()
            other.join()
        return super().set_running_or_notify_cancel()

    def cancel_here(self) -> None:
        """Unless that would have to wait for the thread that is about to tell."""
        free = self._condition.acquire(blocking=False)
        self.others.append(free)
        if free:
            self._condition.release()
            super().set_running_or_notify_cancel()


def test_two_threads_that_cancel_tell_once() -> None:
    future = Cancelled()
    assert future.cancel()
    assert future.others == [False]
    assert future.cancel()


class Quiet(CallFuture):
    """One thread has cancelled it, and comes to its callbacks while another makes it fail."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled_it, self.go_on, self.called_back = threading.Event(), threading.Event(), threading.Event()

    def set_running_or_notify_cancel_once(self) -> bool:
        found = super().set_running_or_notify_cancel_once()
        self.go_on.set()
        assert self.called_back.wait(60)
        return found

    def _invoke_callbacks(self) -> None:
        self.cancelled_it.set()
        assert self.go_on.wait(60)
        super()._invoke_callbacks()
        self.called_back.set()


def test_callbacks_are_called_whoever_of_two_threads_ends_it() -> None:
    future = Quiet()
    told: list[Any] = []
    future.add_done_callback(told.append)
    other = threading.Thread(target=future.cancel)
    other.start()
    assert future.cancelled_it.wait(60)
    future.fail(KeyError("ended"))
    other.join(60)
    assert future.cancelled()
    assert told == [future]


class Kept(CallFuture):
    """A call that cannot be cancelled once a worker has it."""

    ends_running_calls = False


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_call_is_either_cancelled_or_run(is_cancelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is given it in the moment of `cancel()` runs it: the two are decided behind one lock."""
    begun, told = list[int](), list[Any]()
    with Pool(1, backend="serial") as pool:
        driver = driver_of(pool)
        future = Kept(driver)
        future.add_done_callback(told.append)
        map_state = driver.call(None, calls_map)
        function = driver.functions.named(begun.append, "call")
        chunk = Chunk(map_state, function, 0, [((1,), {})], future=future)
        future.bind(chunk, pool)
        withdraw = driver.withdraw

        def withdraw_late(chunk: Chunk) -> bool:
            if not is_cancelled:
                driver.add(chunk)
            found = withdraw(chunk)
            if is_cancelled:
                driver.add(chunk)
            return found

        monkeypatch.setattr(driver, "withdraw", withdraw_late)
        assert future.cancel() is is_cancelled
        future.begin_here()
        assert future.cancelled() is is_cancelled
        assert begun == ([] if is_cancelled else [1])
        assert told == [future]


class Falsy(Exception):
    """As an exception group that counts its members might be."""

    def __bool__(self) -> bool:
        return False


class Indifferent(Exception):
    """Whether it is true cannot be told."""

    def __bool__(self) -> bool:
        raise RuntimeError("neither")


@pytest.mark.parametrize("kind", [Falsy, Indifferent])
def test_an_exception_is_raised_whatever_it_says_of_its_truth(kind: type[Exception]) -> None:
    future = CallFuture()
    future.fail(kind("said"))
    with pytest.raises(kind, match="said"):
        future.result(0)
    assert isinstance(future.exception(0), kind)
