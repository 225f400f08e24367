"""What runs on a thread without having been called, in the middle of our own lines: signal handlers and finalizers.

Each may raise, wait for other calls, or close the pool. No decision is torn, nothing hangs, and every handler is given
back.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from tests.process import crimes
from tests.process.alarms import At
from tests.process.waiting import PATIENCE_S

import allcores
from allcores import Pool
from allcores.system import deferral
from allcores.system.interrupt_hold import InterruptHold

#: moments that are tried per verb; 10_000 tries every line
MOST = 60


class Late(Exception):
    """What a time limit by SIGALRM raises."""


def late() -> None:
    raise Late


VERBS: dict[str, Callable[[Pool], Any]] = {
    "submit": lambda pool: pool.submit(crimes.run, 1).result(),
    "map": lambda pool: pool.map(crimes.run, range(4))[0],
    "imap": lambda pool: max(pool.imap(crimes.run, iter(range(4)))),
    "outcomes": lambda pool: next(iter(pool.outcomes(crimes.run, [1, 2]))).value,
    "share": lambda pool: bytes(pool.share(b"x" * 100_000))[:1],
}


@pytest.fixture
def warm() -> Iterator[Pool]:
    with Pool(2) as pool:
        assert pool.map(crimes.run, [1]) == [2]
        yield pool


def moments(pool: Pool, verb: Callable[[Pool], Any], most: int = MOST) -> range:
    """Numbers of lines that a call runs, spread over all of it."""
    verb(pool)
    with At() as count:
        verb(pool)
    return range(1, count.lines + 1, max(1, count.lines // most))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestAtAnyLine:
    def test_a_handler_that_raises_tears_nothing(self, warm: Pool, on_alarm: Any, verb: str) -> None:
        on_alarm(late)
        expected = VERBS[verb](warm)
        raised = 0
        for moment in moments(warm, VERBS[verb]):
            try:
                with At(moment):
                    VERBS[verb](warm)
            except Late:
                raised += 1
            except StopIteration:
                # It came where the end of a generator was to be told.
                raised += 1
        assert raised
        assert VERBS[verb](warm) == expected
        assert not warm._driver.lock.owner
        # Of a call whose future nobody got the outcome comes all the same.
        assert not concurrent.futures.wait(list(warm._driver.submitted.waiting), PATIENCE_S).not_done

    def test_a_handler_that_waits_for_a_call_gets_it(self, warm: Pool, on_alarm: Any, verb: str) -> None:
        on_alarm(lambda: got.append(warm.submit(crimes.run, 21).result(120)))
        expected = VERBS[verb](warm)
        got: list[int] = []
        for moment in moments(warm, VERBS[verb]):
            with At(moment):
                assert VERBS[verb](warm) == expected
        assert got
        assert set(got) == {42}

    def test_a_handler_that_closes_the_pool_ends_the_call(self, on_alarm: Any, verb: str) -> None:
        pools: list[Pool] = []
        on_alarm(lambda: pools[-1].close())
        for share in (0.3, 0.5, 0.6, 0.7, 0.9):
            with Pool(1) as pool:
                pools.append(pool)
                lines = moments(pool, VERBS[verb])
                with At(int(lines.stop * share)) as at:
                    with contextlib.suppress(allcores.PoolClosed, concurrent.futures.CancelledError):
                        VERBS[verb](pool)
                # Now and then a call takes fewer lines.
                assert pool.closed or at.lines < (at.number or 0)


class Ringing:
    """Its first pickling meets a signal; the second would not."""

    def __init__(self) -> None:
        self.times = 0

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        self.times += 1
        if self.times == 1:
            signal.raise_signal(signal.SIGALRM)
        return int, (1,)


IN_FOREIGN_CODE: dict[str, Callable[[Pool], Any]] = {
    "item": lambda pool: pool.map(crimes.run, [1, Ringing()]),
    "skipped item": lambda pool: list(pool.imap(crimes.run, [Ringing()], on_error="skip")),
    "outcome": lambda pool: list(pool.outcomes(crimes.run, [Ringing()])),
    "call": lambda pool: pool.submit(crimes.run, Ringing()).result(),
    "function": lambda pool: pool.map(functools.partial(max, Ringing()), [1]),
    "setup": lambda pool: Pool(1, setup=crimes.run, setup_args=[Ringing()]),
}


@pytest.mark.parametrize("where", IN_FOREIGN_CODE)
def test_what_a_handler_raises_in_foreign_code_is_not_taken_for_its_mistake(
    warm: Pool, on_alarm: Any, where: str
) -> None:
    """Nor lost, because the object can be pickled in another way."""
    on_alarm(late)
    with pytest.raises(Late):
        IN_FOREIGN_CODE[where](warm)
    assert warm.map(crimes.run, [1]) == [2]


def ring_at_three(number: int) -> int:
    """A signal comes once, while this runs."""
    if number == 3 and not rung:
        rung.append(number)
        signal.raise_signal(signal.SIGALRM)
    return number


def ring_in_a_batch(numbers: list[int]) -> list[int]:
    return [ring_at_three(number) for number in numbers]


#: that it came
rung: list[int] = []

IN_A_SERIAL_TASK: dict[str, Callable[[Pool], Any]] = {
    "map": lambda pool: pool.map(ring_at_three, range(9)),
    "retries": lambda pool: pool.map(ring_at_three, range(9), retries=2),
    "skipped": lambda pool: list(pool.imap(ring_at_three, range(9), on_error="skip")),
    "outcome": lambda pool: list(pool.outcomes(ring_at_three, range(9))),
    "unordered": lambda pool: list(pool.imap_unordered(ring_at_three, range(9), on_error="skip")),
    "batch": lambda pool: list(pool.imap(ring_in_a_batch, range(9), batch=4)),
    "outcome of a batch": lambda pool: list(pool.outcomes(ring_in_a_batch, range(9), batch=4)),
    "call": lambda pool: pool.submit(ring_at_three, 3).result(),
    "pipeline": lambda pool: list(
        allcores.Pipeline().map(ring_at_three, on_error="skip").imap(range(9), backend="serial")
    ),
    "setup": lambda pool: Pool(1, backend="serial", setup=ring_at_three, setup_args=[3]).map(abs, [1]),
}


@pytest.mark.parametrize("how", IN_A_SERIAL_TASK)
def test_what_a_handler_raises_in_a_serial_task_is_no_failure_of_its_item(on_alarm: Any, how: str) -> None:
    """It ends the call, also where failures are skipped, or tried again."""
    on_alarm(late)
    rung.clear()
    with Pool(backend="serial") as pool:
        with pytest.raises(Late):
            IN_A_SERIAL_TASK[how](pool)
        assert pool.map(ring_at_three, range(9)) == list(range(9))


def test_what_a_handler_raises_in_the_input_does_not_wait_for_tasks(warm: Pool, on_alarm: Any) -> None:
    """What the input itself raises comes after the outcomes before it."""

    def items() -> Iterator[float]:
        yield 5
        signal.raise_signal(signal.SIGALRM)
        yield 0

    on_alarm(late)
    done: list[None] = []
    with pytest.raises(Late):
        done.extend(warm.imap(time.sleep, items()))
    assert not done


@pytest.mark.parametrize("kind", ["function", "method", "partial", "object"])
def test_handlers_of_each_kind_are_known(kind: str) -> None:
    class Handler:
        def __call__(self, *_: Any) -> None:
            raise Late

        def method(self, *_: Any) -> None:
            raise Late

    handlers: dict[str, Any] = {
        "function": lambda *_: late(),
        "method": Handler().method,
        "partial": functools.partial(Handler().method, 1),
        "object": Handler(),
    }
    before = signal.signal(signal.SIGALRM, handlers[kind])
    try:
        with pytest.raises(Late) as caught:
            signal.raise_signal(signal.SIGALRM)
        assert deferral.raised_by_handler(caught.value)
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(Late) as caught:
        late()
    assert not deferral.raised_by_handler(caught.value)


class Final:
    """Garbage in a cycle, whose end uses a pool."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.itself = self
        self.act = act

    def __del__(self) -> None:
        self.act()


@pytest.mark.parametrize("verb", VERBS)
def test_a_finalizer_may_use_the_pool_wherever_the_collector_runs(
    warm: Pool, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[int] = []
    failed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", failed.append)
    made = 40
    threshold = gc.get_threshold()
    was_on = gc.isenabled()
    gc.enable()
    gc.set_threshold(30)
    try:
        for _ in range(made):
            Final(lambda: got.append(warm.submit(crimes.run, 21).result(120)))
            VERBS[verb](warm)
    finally:
        gc.set_threshold(*threshold)
        if not was_on:
            gc.disable()
    gc.collect()
    # Another thread may be in the middle of a collection.
    for _ in range(1000):
        if len(got) == made:
            break
        threading.Event().wait(0.01)
        gc.collect()
    assert not failed
    assert got == [42] * made


def test_code_that_a_decision_runs_gets_an_error_at_once(warm: Pool) -> None:
    with warm._driver.lock, pytest.raises(allcores.PoolBusy, match="it would wait for itself"):
        warm.submit(crimes.run, 1)
    with warm._driver.lock, pytest.raises(allcores.PoolBusy):
        warm.map(crimes.run, [1])
    with warm._driver.lock, pytest.raises(allcores.PoolBusy):
        warm.close()
    assert warm.submit(crimes.run, 1).result() == 2


def test_all_signals_that_came_meanwhile_are_told_whatever_their_handlers_raise() -> None:
    came: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise Late(number)

    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        deferral._looked_ns = 0
        assert deferral.enter()
        for number in numbers:
            signal.raise_signal(number)
        assert not came
        with pytest.raises(Late):
            deferral.leave()
        assert sorted(came) == sorted(numbers)
        assert all(signal.getsignal(number) is handler for number in numbers)
    finally:
        for number, each in before.items():
            signal.signal(number, each)


def test_a_handler_that_raises_while_handlers_are_exchanged_leaves_each_its_own(on_alarm: Any) -> None:
    """At once, and not with the next section only: until then others would take what stands there for the program's."""

    def section() -> None:
        with deferral.Lock():
            pass

    on_alarm(late)
    before, alarm = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    section()
    with At() as count:
        section()
    raised = 0
    # A look at all signals, which is due now and then, has a few lines more.
    for moment in range(1, count.lines + 20):
        try:
            with At(moment):
                section()
        except Late:
            raised += 1
        assert signal.getsignal(signal.SIGINT) is before, moment
        assert signal.getsignal(signal.SIGALRM) is alarm, moment
        assert not deferral.inside()
    assert raised > 10


def test_ctrl_c_is_not_held_for_good_by_a_handler_that_raises(on_alarm: Any) -> None:
    """Wherever that is: also where the end of a map, in which Ctrl-C waits, begins or ends a section."""
    on_alarm(late)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hold, lock = InterruptHold(), deferral.Lock()

    def step() -> None:
        try:
            with hold, lock:
                pass
        finally:
            hold.release()

    try:
        step()
        with At() as count:
            step()
        for moment in range(1, count.lines + 20):
            with contextlib.suppress(Late), At(moment):
                step()
            with lock:
                pass
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, moment
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_threshold_that_the_program_sets_meanwhile_stays() -> None:
    before = gc.get_threshold()
    try:
        assert deferral.enter()
        gc.set_threshold(1234)
        deferral.leave()
        assert gc.get_threshold()[0] == 1234
    finally:
        gc.set_threshold(*before)


def test_a_fork_in_a_section_leaves_the_child_with_its_handlers_and_its_collector() -> None:
    threshold, handler = gc.get_threshold(), signal.getsignal(signal.SIGINT)
    assert deferral.enter()
    try:
        child = os.fork()
        if not child:
            right = gc.get_threshold() == threshold and signal.getsignal(signal.SIGINT) is handler
            os._exit(0 if right else 1)
    finally:
        deferral.leave()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestCallbacks:
    """Of futures. They run on the pool's own thread, which has nobody else to wait for."""

    @pytest.mark.parametrize("backend", ["processes", "threads"])
    def test_every_verb_works_in_one(self, backend: str) -> None:
        done = threading.Event()
        got: list[Any] = []

        def use(future: concurrent.futures.Future[Any]) -> None:
            got.append(pool.submit(crimes.run, 21).result(120))
            got.append(pool.map(crimes.run, range(10)))
            got.append(max(pool.imap_unordered(crimes.run, iter(range(5)))))
            got.append([outcome.value for outcome in pool.outcomes(crimes.run, [1])])
            got.append(pool.submit(crimes.run, 1).exception())
            done.set()

        with Pool(2, backend=backend) as pool:
            first = pool.submit(crimes.run, 1)
            # Whether it is added before or after the outcome is here makes no difference.
            first.add_done_callback(use)
            assert first.result(120) == 2
            assert done.wait(120)
        assert got == [42, list(range(0, 20, 2)), 8, [2], None]

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
    def test_what_one_raises_harms_nobody(self, warm: Pool, kind: type[BaseException]) -> None:
        def end(_: object) -> None:
            raise kind

        called = threading.Event()
        futures = [warm.submit(crimes.run, number) for number in range(20)]
        with contextlib.suppress(BaseException):
            # On a future that is done already the standard library calls it here.
            futures[-1].add_done_callback(end)
        futures[-1].add_done_callback(lambda _: called.set())
        assert [future.result(120) for future in futures] == list(range(0, 40, 2))
        assert called.wait(120)
        assert warm.submit(crimes.run, 1).result(120) == 2

    def test_one_may_close_the_pool_and_one_may_shut_an_executor_down(self) -> None:
        with Pool(1) as pool:
            pool.submit(crimes.run, 1).add_done_callback(lambda _: pool.close())
            pool._driver.backend._thread.join(120)  # type: ignore[attr-defined]
            assert pool.closed
        with allcores.Executor(1) as executor:
            shut = threading.Event()
            last = [executor.submit(crimes.run, number) for number in range(5)]

            def shut_down(_: object) -> None:
                executor.shutdown()
                shut.set()

            last[0].add_done_callback(shut_down)
            assert [future.result(120) for future in last] == [0, 2, 4, 6, 8]
            assert shut.wait(120)
