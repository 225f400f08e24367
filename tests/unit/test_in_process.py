"""backends/in_process.py: what a worker on a thread of the program reports, and when."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from allcores.backends import in_process
from allcores.backends.in_process import InProcessWorker
from allcores.scheduler.map_state import Chunk
from allcores.transport.positions import mark

SEQUENCE = 3


class _Worker(InProcessWorker):
    """One without a setup, whose items take long."""

    def __init__(self) -> None:
        init = SimpleNamespace(setup=None, setup_args=(), teardown=None)
        super().__init__(1, cast(Any, init), cast(Any, SimpleNamespace(get=tuple)))

    def reports(self, function: Callable[[Any], Any], *, batch: int) -> list[tuple[int, int, bool]]:
        """Of each report of a chunk of ten items: its first item, how many, and whether it is the last."""
        chunk = SimpleNamespace(
            function=SimpleNamespace(target=function, style="one"),
            sequence=SEQUENCE,
            items=range(10),
            batch=batch,
            future=None,
            surroundings=None,
            first=0,
        )
        found: list[tuple[int, int, bool]] = []
        self.run(cast(Chunk, chunk), lambda results: found.append((results.start, results.count, results.ended)))
        return found


@pytest.mark.parametrize(
    ("batch", "reports"),
    [(0, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]), (2, [(0, 2), (2, 2), (4, 2)])],
)
def test_the_last_item_of_a_chunk_that_was_cut_short_goes_with_its_end(
    batch: int, reports: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put off until the chunk's end is done before its last results leave, whoever runs the rest."""
    monkeypatch.setattr(in_process, "REPORT_NS", -1)
    worker = _Worker()

    def cut(some: Any) -> Any:
        if some == 4 or some == [4, 5]:
            worker.limit = mark(SEQUENCE, 5 + bool(batch))
        return some

    assert worker.reports(cut, batch=batch) == [(first, count, first == reports[-1][0]) for first, count in reports]
