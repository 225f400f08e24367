"""A slow item in front of an ordered stream holds back its outcome, and nobody's work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process.waiting import wait_until

from allcores import Limits, Pipeline, Pool
from allcores.pool import result_stream as stream_module


def wait_for_later_items(job: tuple[str, int]) -> int:
    """Item 0 lasts until item 150 has run."""
    path, number = job
    if number < 1:
        wait_until(lambda: os.path.exists(path))
    if number == 150:
        with open(path, "w"):
            pass
    return number


@pytest.mark.parametrize("sized", [True, False])
def test_a_straggler_at_the_front_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sized: bool
) -> None:
    """While the first item runs others are pulled, stolen from behind it, and run: one of them frees it."""
    # The consumer's own look around would hide a wake-up that nobody sends.
    monkeypatch.setattr(stream_module, "WAIT_S", 3600.0)
    path = str(tmp_path / "gate")
    with Pool(2) as pool:
        items = [(path, number) for number in range(400)]
        assert list(pool.imap(wait_for_later_items, items if sized else iter(items), chunk=1)) == list(range(400))


class Slow:
    """Numbers from an input that makes its reader wait; files of their names say which have been read."""

    def __init__(self, folder: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("allcores.pipelines.source_reader.SLOW_PULL_NS", 0)
        self.folder = folder
        self.count = count

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for number in range(self.count):
            (self.folder / str(number)).touch()
            yield str(self.folder), number


def wait_for_reading(job: Any) -> Any:
    """Item 0 lasts until item 2 has been read, and item 3 until item 20 has."""
    ((folder, number),) = job
    if number in (0, 3):
        wait_until(lambda: os.path.exists(os.path.join(folder, str(number * 6 + 2))))
    return number


def test_a_slow_input_behind_an_in_line_step_is_read_for_a_worker_that_is_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while no result can be handed over, for the first one is still to come."""
    pipeline = Pipeline().batch(1).map(wait_for_reading)
    assert list(pipeline.imap(Slow(tmp_path, 30, monkeypatch), workers=2)) == list(range(30))


def wait_for_the_rest(job: tuple[str, int]) -> int:
    """Item 0 lasts until item 1 has been read, and that one until all have."""
    folder, number = job
    wait_until(lambda: os.path.exists(os.path.join(folder, str(number * 8 + 1))))
    return number


def test_a_slow_input_does_not_wait_for_what_a_stage_runs_that_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The side has all that it wants, and its only worker is still over the item behind that."""
    side = Pipeline().map(wait_for_the_rest).islice(1).write(str(tmp_path / "side.txt"))
    pipeline = Pipeline().tee(side).batch(5)
    limits = Limits(grace_s=1000.0)
    batches = list(pipeline.imap(Slow(tmp_path, 10, monkeypatch), workers=1, limits=limits))
    assert [number for batch in batches for _, number in batch] == list(range(10))
