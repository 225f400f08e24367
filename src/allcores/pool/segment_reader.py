"""Streams of segments: what is settled as it comes, many items at a time, and their bytes unread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from allcores.pool.result_stream import Reader
from allcores.scheduler.segment import Segment


class SegmentReader(Reader[Any]):
    """Gives segments as they are: a failure ends nothing before all items have an outcome."""

    finishes = False

    def _unfold(self, segment: Segment) -> Any:
        if segment.failures:
            super()._unfold(segment)  # observers are told
        return segment

    def segments(self) -> Iterator[Segment]:
        """Those of all items, one by one."""
        yield from self.parts()  # type: ignore[misc]
