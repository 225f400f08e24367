"""A slow item in front of an ordered stream holds back its outcome, and nobody's work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.process.waiting import wait_until

from allcores import Pool
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
