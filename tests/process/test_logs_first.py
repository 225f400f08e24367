"""What an item has logged is handled before its result is handed out, by every verb, however slow handlers are."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process.waiting import Gate, wait_at, wait_until

from allcores import Executor, Logs, Pool
from allcores.pool import async_stream, call_future, result_stream

METHODS = ("template", "fork", "spawn")
pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")


class Slow(logging.Handler):
    """Counts, in no hurry: a result that does not wait for it is there long before."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        time.sleep(0.01)
        self.count += 1


@contextlib.contextmanager
def handled_by(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("app")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def speak(number: int) -> int:
    logging.getLogger("app").warning("item %d", number)
    return number


def wait_and_speak(gate: str) -> int:
    wait_at(gate)
    return speak(1)


def speak_and_raise(number: int) -> None:
    speak(number)
    raise ValueError(number)


def speak_and_linger(number: int) -> int:
    """The last item of its chunk keeps the finished ones waiting in the outbox."""
    speak(number)
    time.sleep(0.3 if number == 2 else 0.003)
    return number


def print_it(number: int) -> None:
    print("printed", number)


def whole(call: Callable[[Pool], Any]) -> Callable[[Pool, Slow], None]:
    """A verb that gives all results at once; each item logs one record."""

    def check(pool: Pool, handler: Slow) -> None:
        assert len(call(pool)) == handler.count

    return check


def one_by_one(call: Callable[[Pool], Iterator[Any]]) -> Callable[[Pool, Slow], None]:
    def check(pool: Pool, handler: Slow) -> None:
        for count, _ in enumerate(call(pool), 1):
            assert handler.count >= count

    return check


def by_await(pool: Pool, handler: Slow) -> None:
    async def main() -> None:
        count = 0
        async for _ in pool.aimap(speak, range(3)):
            count += 1
            assert handler.count >= count
        await asyncio.wrap_future(pool.submit(speak, 1))
        assert handler.count == 4

    asyncio.run(main())


def by_failure(pool: Pool, handler: Slow) -> None:
    with pytest.raises(ValueError, match="1"):
        pool.map(speak_and_raise, [1])
    assert handler.count == 1
    assert isinstance(pool.submit(speak_and_raise, 2).exception(120), ValueError)
    assert handler.count == 2


VERBS: dict[str, Callable[[Pool, Slow], None]] = {
    "map": whole(lambda pool: pool.map(speak, range(5))),
    "starmap": whole(lambda pool: pool.starmap(speak, [(1,)])),
    "imap": one_by_one(lambda pool: pool.imap(speak, range(5))),
    "unordered": one_by_one(lambda pool: pool.imap_unordered(speak, range(5), chunk=1)),
    "outcomes": one_by_one(lambda pool: pool.outcomes(speak, range(5))),
    "outbox": one_by_one(lambda pool: pool.imap(speak_and_linger, range(3), chunk=3)),
    "submit": whole(lambda pool: [pool.submit(speak, 1).result(120)]),
    "await": by_await,
    "failure": by_failure,
}


@pytest.mark.parametrize("method", METHODS)
def test_records_first(method: str) -> None:
    with Pool(1, start_method=method) as pool:
        for name, check in VERBS.items():
            handler = Slow()
            with handled_by(handler):
                try:
                    check(pool, handler)
                except AssertionError as error:
                    raise AssertionError(f"{name}: {error}") from error


def by_wait(future: cf.Future[int], seen: cf.Future[int], handler: Slow) -> None:
    def wait() -> None:
        cf.wait([future], 120)
        seen.set_result(handler.count)

    threading.Thread(target=wait, daemon=True).start()


def by_callback(future: cf.Future[int], seen: cf.Future[int], handler: Slow) -> None:
    future.add_done_callback(lambda _: seen.set_result(handler.count))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wait", [by_wait, by_callback])
def test_records_first_for_who_waits_already(
    method: str, wait: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_future, "LOGS_ASIDE_S", 60.0)  # on a busy machine, too
    handler, seen = Slow(), cf.Future[int]()
    with Pool(1, start_method=method) as pool, handled_by(handler), Gate(tmp_path / "gate") as gate:
        future: Any = pool.submit(wait_and_speak, gate.path)
        wait(future, seen, handler)
        wait_until(lambda: not future.is_simple())
        gate.open()
        assert seen.result(120) == 1


@pytest.mark.parametrize("method", METHODS)
def test_records_first_for_a_callback_that_comes_late(method: str) -> None:
    """The call is done already: whoever adds it calls it."""
    handler, seen = Slow(), cf.Future[int]()
    with Pool(1, start_method=method) as pool, handled_by(handler):
        future = pool.submit(speak, 1)
        wait_until(future.done)
        by_callback(future, seen, handler)
        assert seen.result(0) == 1


def test_records_first_in_an_executor() -> None:
    handler = Slow()
    with Executor(1) as executor, handled_by(handler):
        assert len(list(executor.map(speak, range(4), chunksize=3))) == handler.count
        assert executor.submit(speak, 1).result(120) == 1
        assert handler.count == 5


def test_printed_lines_first(capsys: pytest.CaptureFixture[str]) -> None:
    """As `Logs(prints=True)` has them."""

    class Late:
        def write(self, text: str) -> None:
            time.sleep(0.01)
            below.write(text)

        def flush(self) -> None:
            below.flush()

    with Pool(1, logs=Logs(prints=True)) as pool:
        below, sys.stdout = sys.stdout, Late()
        try:
            pool.map(print_it, [1])
            said = capsys.readouterr().out
        finally:
            sys.stdout = below
    # On a busy host the first worker may have been replaced.
    assert re.fullmatch(r"\[pool-worker-\d+\] printed 1\n", said)


def test_a_handler_that_waits_for_the_reader_delays_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets what it waits for only after the program has its results: these come, and nothing is lost in the end."""
    for module in (result_stream, call_future, async_stream):
        for name in ("LOGS_S", "LOGS_ASIDE_S"):
            monkeypatch.setattr(module, name, 0.05, raising=False)
    held = threading.Lock()

    class Needs(Slow):
        def emit(self, record: logging.LogRecord) -> None:
            with held:
                self.count += 1

    waits: list[float] = []
    handler = Needs()
    with Pool(1) as pool, handled_by(handler):
        records = pool._driver.backend._worker_table.records  # type: ignore[attr-defined]
        monkeypatch.setattr(threading.Event, "wait", counting(threading.Event.wait, waits))
        with held:
            assert pool.map(speak, range(3)) == [0, 1, 2]
            assert [pool.submit(speak, number).result(120) for number in range(20)] == list(range(20))
            assert handler.count == 0
            assert waits.count(0.05) == 1
        records.settle(20)
        while records.unhandled:
            records._behind = False
            records.settle(20)
        assert handler.count == 23
        assert pool.map(speak, [1]) == [1]
        assert handler.count == 24


def counting(wait: Callable[..., bool], waits: list[float]) -> Callable[..., bool]:
    def counted(self: threading.Event, timeout: float | None = None) -> bool:
        waits.append(timeout or 0.0)
        return wait(self, timeout)

    return counted
