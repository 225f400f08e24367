"""Ends of the `multiprocessing` drop-in: of maps, of iterators, and of the pool, when several things come together."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.process.pool_tasks import fail_on, square
from tests.process.waiting import PATIENCE_S, Gate, wait_at

import allcores
from allcores.adapters.multiprocessing import Pool
from allcores.adapters.pool_maps import PoolMap
from allcores.adapters.pool_work import Work

FORK = multiprocessing.get_context("fork")


def test_an_iterator_gives_results_that_come_between_its_look_and_its_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map may end in that moment: what it found by then is not left out."""
    ended = threading.Event()
    look, map_done = PoolMap.look, Work.map_done
    with Gate(tmp_path / "gate") as gate:

        def look_and_lag(self: PoolMap) -> Any:
            found = look(self)
            if not found and not ended.is_set():
                gate.open()
                assert ended.wait(PATIENCE_S)
            return found

        def note_done(self: Work, made: Any) -> None:
            map_done(self, made)
            ended.set()

        monkeypatch.setattr(PoolMap, "look", look_and_lag)
        monkeypatch.setattr(Work, "map_done", note_done)
        with Pool(1, context=FORK) as pool:
            assert list(pool.imap(wait_at, [gate.path] * 3)) == [None] * 3
        pool.join()


@pytest.mark.parametrize("number", [0, 1], ids=["no sense", "no workers"])
def test_a_map_that_cannot_begin_does_not_keep_the_pool_from_its_end(number: int) -> None:
    """By what makes no sense, or since the initializer has raised: the error is told, and `join` returns."""
    pool = Pool(1, fail_on, (1, number), context=FORK)
    if number == 1:
        with pytest.raises(allcores.SetupError):
            pool.apply(square, (1,))
    with pytest.raises((ValueError, allcores.SetupError)):
        pool.map_async(square, [1, 2], -1)
    with pytest.raises((ValueError, allcores.SetupError)):
        pool.starmap_async(square, [(1,)], -1)
    pool.close()
    joined = threading.Thread(target=pool.join, daemon=True)
    joined.start()
    joined.join(PATIENCE_S)
    is_stuck = joined.is_alive()
    pool.terminate()
    joined.join(PATIENCE_S)
    assert not is_stuck


@pytest.mark.parametrize("verb", ["map_async", "imap", "imap of a generator"])
def test_a_map_that_another_thread_begins_as_the_pool_is_terminated_has_an_end(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that looks after maps may be gone in the moment in which it is told of this one."""
    pool = Pool(1, context=FORK)
    assert pool.map_async(square, [1]).get(PATIENCE_S) == [1]
    opened = Work.open
    (feeder,) = [each for each in threading.enumerate() if each.name == "allcores-pool-feeder"]

    def open_late(self: Work, made: Any, start: Any) -> Any:
        other = threading.Thread(target=pool.terminate)
        other.start()
        other.join(PATIENCE_S)
        feeder.join(PATIENCE_S)
        assert not feeder.is_alive()
        return opened(self, made, start)

    monkeypatch.setattr(Work, "open", open_late)
    with pytest.raises(allcores.PoolClosed):
        if verb == "map_async":
            pool.map_async(square, [1, 2]).get(PATIENCE_S)
        else:
            pool.imap(square, [1, 2] if verb == "imap" else (each for each in [1, 2])).next(PATIENCE_S)
    pool.join()


def test_callbacks_are_called_where_no_thread_can_be_had_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "allcores-pool-callbacks":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool = Pool(1, context=FORK)
    for number in range(1, 4):
        pool.apply_async(square, (number,), callback=told.append).wait(PATIENCE_S)
        assert len(told) == number
    pool.close()
    pool.join()
    assert told == [1, 4, 9]
