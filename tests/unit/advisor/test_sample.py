"""The items that a function is measured with: how they are read, and which of them are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from allcores.advisor.measuring import sample
from allcores.advisor.measuring.sample import Sample
from allcores.cli import measured


class Clock:
    """Stands still but for what an input takes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pulled = 0

    def slow_input(self, item_s: float) -> Iterator[int]:
        """No end of items that take so many seconds each."""
        while True:
            self.now += item_s
            self.pulled += 1
            yield self.pulled


@pytest.mark.parametrize(
    ("module", "read"),
    [(sample, lambda items: Sample(items).count), (measured, lambda items: len(measured._read(items)[0]))],
)
def test_a_slow_input_is_read_for_its_seconds_alone(
    module: ModuleType, read: Callable[[Any], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "perf_counter", lambda: clock.now)
    assert read(clock.slow_input(0.6)) == clock.pulled
    assert clock.now <= module.READ_S + 0.6
