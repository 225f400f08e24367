"""Ends of the `multiprocessing` drop-in: of maps, of iterators, and of the pool, when several things come together."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S, Gate, wait_at

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
