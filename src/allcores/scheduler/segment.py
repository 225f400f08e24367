"""Outcomes on their way to the consumer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from allcores.outcome import Failure


class Segment:
    """Settled outcomes of consecutive items, on their way to the consumer.

    Args:
        values: One per item that returned, in order; None while they are pickled, in lists: `payloads`.
        failures: Of the others, offsets counted from `start`.
    """

    __slots__ = (
        "attempt",
        "count",
        "durations",
        "failures",
        "future",
        "items",
        "payloads",
        "size_bytes",
        "start",
        "total_ns",
        "values",
        "worker",
    )

    def __init__(
        self,
        start: int,
        count: int,
        items: list[Any],
        *,
        payloads: Sequence[bytes | memoryview] = (),
        values: list[Any] | None = None,
        failures: list[Failure] | None = None,
        durations: list[int] | None = None,
        worker: int | None = None,
        attempt: int = 1,
        size_bytes: int = 0,
        total_ns: int = 0,
        future: Any = None,
    ) -> None:
        self.start = start
        self.count = count
        self.items = items
        self.payloads = payloads
        self.values = values
        self.failures = failures
        self.durations = durations
        self.worker = worker
        self.attempt = attempt
        self.size_bytes = size_bytes
        #: what its items took
        self.total_ns = total_ns
        self.future = future
