"""What is in a settled segment: its values, unpickled where they are wanted, or an outcome for each item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from allcores.outcome import Kind, Outcome
from allcores.scheduler.segment import Segment
from allcores.transport import pickling


def open_segment(segment: Segment) -> list[Any]:
    """The values of a segment, one per item that returned."""
    if segment.values is None:
        values: list[Any] = []
        for payload in segment.payloads:
            values.extend(pickling.loads(payload))
        segment.values = values
        segment.payloads = ()
    return segment.values


def outcomes_of(segment: Segment) -> Iterator[Outcome[Any]]:
    """A segment's outcomes in input order."""
    values = iter(open_segment(segment))
    failed = {failure.offset: failure for failure in segment.failures or ()}
    durations = segment.durations
    for offset in range(segment.count):
        failure = failed.get(offset)
        seconds = durations[offset] / 1e9 if durations is not None else 0.0
        if failure is None:
            yield Outcome(
                segment.start + offset,
                Kind.OK,
                next(values),
                None,
                segment.items[offset],
                segment.attempt,
                seconds,
                segment.worker,
            )
        else:
            yield Outcome(
                segment.start + offset,
                failure.kind,
                None,
                failure.error,
                segment.items[offset],
                segment.attempt,
                seconds,
                segment.worker,
            )


def never_started(segment: Segment) -> bool:
    """Whether a segment was given up before it was tried, because of `stop`."""
    return segment.attempt == 0 and segment.failures is not None and segment.failures[0].kind is Kind.CANCELLED
