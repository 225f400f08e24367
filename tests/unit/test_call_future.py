"""The future of a call, whose outcome two threads may have at the same moment."""

from __future__ import annotations

import threading

import pytest

from allcores.pool.call_future import CallFuture


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
