"""Ctrl-C in the middle of a step: at its end, and the second at once."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from signal import SIGINT, default_int_handler, raise_signal
from types import ModuleType

import pytest
from tests.process.interrupting import Interrupting
from tests.tracing import traced

from allcores import Pipeline, Pool
from allcores.system import deferral, interrupt_hold
from allcores.system.interrupt_hold import InterruptHold


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.signal(SIGINT, default_int_handler)
    yield
    assert signal.getsignal(SIGINT) in (default_int_handler, own)
    signal.signal(SIGINT, before)


came: list[int] = []


def own(number: int, frame: object) -> None:
    came.append(number)


def test_one_is_raised_at_the_end() -> None:
    hold, done = InterruptHold(), []
    with pytest.raises(KeyboardInterrupt):
        with hold:
            raise_signal(SIGINT)
            done.append(1)
    assert done == [1] and not hold.torn
    with hold:  # and only once
        done.append(2)


def test_the_second_is_raised_at_once_and_has_torn_the_step() -> None:
    hold = InterruptHold()
    with pytest.raises(KeyboardInterrupt):
        with hold:
            raise_signal(SIGINT)
            raise_signal(SIGINT)
            raise AssertionError("not reached")
    assert hold.torn
    with hold:
        pass
    assert not hold.torn


def test_foreign_code_may_raise_it_itself() -> None:
    hold = InterruptHold()
    with pytest.raises(KeyboardInterrupt):
        with hold:
            raise KeyboardInterrupt
    assert hold.torn


def test_another_exception_passes_and_one_that_came_comes_before_it() -> None:
    hold = InterruptHold()
    with pytest.raises(ZeroDivisionError):
        with hold:
            raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt) as raised:
        with hold:
            raise_signal(SIGINT)
            raise ZeroDivisionError
    assert isinstance(raised.value.__context__, ZeroDivisionError) and not hold.torn


def test_a_part_that_waits_is_lifted_out() -> None:
    hold, done = InterruptHold(), []
    with pytest.raises(KeyboardInterrupt):
        with hold, hold.lifted:
            raise_signal(SIGINT)
            raise AssertionError("not reached")
    assert not hold.torn
    with pytest.raises(KeyboardInterrupt):
        with hold:
            raise_signal(SIGINT)
            done.append("before")
            with hold.lifted:
                raise AssertionError("not reached")
    assert done == ["before"] and not hold.torn
    with pytest.raises(KeyboardInterrupt):
        with hold:
            with hold.lifted:
                pass
            raise_signal(SIGINT)
            done.append("behind")
    assert done == ["before", "behind"]


def test_a_second_one_behind_that_of_a_lifted_part_is_not_kept_waiting() -> None:
    hold = InterruptHold()
    with pytest.raises(KeyboardInterrupt):
        with hold:
            try:
                with hold.lifted:
                    raise_signal(SIGINT)
            except KeyboardInterrupt:
                raise_signal(SIGINT)
                raise
    assert hold.torn


def test_the_programs_own_handler_is_called_as_ever() -> None:
    signal.signal(SIGINT, own)
    hold = InterruptHold()
    with hold:
        raise_signal(SIGINT)
        assert came == [SIGINT]
        with hold.lifted:
            assert signal.getsignal(SIGINT) is own
    assert signal.getsignal(SIGINT) is own


def test_a_handler_that_is_set_within_stays() -> None:
    hold = InterruptHold()
    with hold:
        signal.signal(SIGINT, own)
    assert signal.getsignal(SIGINT) is own


def test_one_within_another_does_nothing() -> None:
    outer, inner, done = InterruptHold(), InterruptHold(), []
    with pytest.raises(KeyboardInterrupt):
        with outer:
            with inner:
                raise_signal(SIGINT)
            done.append("outer goes on")
    assert done == ["outer goes on"]


def test_on_another_thread_it_does_nothing() -> None:
    seen: list[object] = []

    def held() -> None:
        hold = InterruptHold()
        with hold, hold.lifted:
            seen.append(signal.getsignal(SIGINT))

    thread = threading.Thread(target=held)
    thread.start()
    thread.join()
    assert seen == [default_int_handler]


def test_an_exception_that_passes_is_not_kept() -> None:
    """It refers to frames, and these may refer to the hold: what they hold would wait for the garbage collector."""

    class Failure(Exception):
        pass

    def fail() -> weakref.ref[Failure]:
        error = Failure()
        try:
            with hold.lifted:
                raise error
        except Failure:
            return weakref.ref(error)
        finally:
            del error

    hold = InterruptHold()
    gone = fail()
    assert gone is not None and gone() is None


class Late(Exception):
    """What a handler of another signal raises."""


def test_a_hold_that_was_left_open_is_released() -> None:
    """A handler has raised between its beginning and the block."""
    hold = InterruptHold()
    hold.__enter__()
    assert signal.getsignal(SIGINT) is not default_int_handler
    hold.release()
    assert signal.getsignal(SIGINT) is default_int_handler
    hold.release()
    with hold:
        pass
    assert signal.getsignal(SIGINT) is default_int_handler


def map_in_a_pool() -> None:
    with Pool(1, backend="serial") as pool:
        pool.map(abs, range(3))


def read_a_pipeline() -> None:
    list(Pipeline().map(abs).imap(range(3), workers=1, backend="serial"))


@pytest.mark.parametrize("runs", [map_in_a_pool, read_a_pipeline])
def test_what_ends_while_it_holds_gives_ctrl_c_back(runs: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise Late

    monkeypatch.setattr(InterruptHold, "__exit__", raises)
    with pytest.raises(Late):
        runs()
    assert signal.getsignal(SIGINT) is default_int_handler


def test_ctrl_c_at_any_line_of_a_lifted_part_or_its_ends_is_between_steps() -> None:
    """Python looks for signals at its two ends too, where the hold is not told of what is raised."""
    steps: list[str] = []

    def part() -> None:
        with hold:
            steps.append("begun")
            steps.append("ended")
            with hold.lifted:
                sum([])
            steps.append("begun")
            steps.append("ended")

    for at in itertools.count(1):
        hold = InterruptHold()
        steps.clear()
        interrupting = Interrupting(at, [interrupt_hold], [part.__code__])
        try:
            with traced(interrupting):
                part()
        except KeyboardInterrupt:
            pass
        if interrupting.left > 0:
            break
        assert not hold.torn, at
        assert signal.getsignal(SIGINT) is default_int_handler
        assert steps.count("begun") == steps.count("ended"), at
    assert at > 20


@pytest.mark.parametrize("holds", ["hold", "section"])
def test_a_handler_that_a_program_around_python_has_put_in_its_place_stays(
    holds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uWSGI ends its workers by SIGINT: Python names its own handler still, and to set that would take the place."""
    set_handlers: list[int] = []

    def noted(number: int, handler: object) -> object:
        set_handlers.append(number)
        return signal.signal(number, handler)  # type: ignore[arg-type]

    monkeypatch.setattr(interrupt_hold, "signal", noted)
    monkeypatch.setattr(deferral, "signal", noted)
    monkeypatch.setattr(deferral, "LOOK_NS", 0)

    def use() -> list[int]:
        set_handlers.clear()
        with InterruptHold() if holds == "hold" else deferral.Lock():
            pass
        return list(set_handlers)

    assert SIGINT in use()
    monkeypatch.setitem(sys.modules, "uwsgi", ModuleType("uwsgi"))
    assert SIGINT not in use()
