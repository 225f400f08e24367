"""Maps that follow each other: parts of one input, each a map of its own, which are worked at in order."""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, Protocol, TypeVar

from allcores.scheduler.chunk_size import Chunker


class Part(Protocol):
    """A map of a series, as the series sees it.

    Attributes:
        place: Of its part in the input.
        pending: Chunks that no worker has.
        exhausted: Its input has ended.
    """

    place: int
    pending: deque[Any]
    exhausted: bool
    cancelled: bool


P = TypeVar("P", bound=Part)


def _place(part: Part) -> int:
    return part.place


class Series(Generic[P]):
    """The open maps of a series. They have one turn together in the scheduler's rotation.

    Attributes:
        maps: By their places.
        queued: It waits in the scheduler's rotation.
        chunker: Knows what an item takes, as measured in all of its maps; None before the first.
    """

    __slots__ = ("chunker", "maps", "queued")

    def __init__(self) -> None:
        self.maps: list[P] = []
        self.queued = False
        self.chunker: Chunker | None = None

    def add(self, part: P) -> None:
        """A map of it begins."""
        self.maps.append(part)
        self.maps.sort(key=_place)

    def remove(self, part: P) -> None:
        """A map of it is over."""
        if part in self.maps:
            self.maps.remove(part)

    def to_serve(self) -> P | None:
        """The map that is to hand out a chunk: the first one that has any."""
        return next((part for part in self.maps if part.pending and not part.cancelled), None)

    def is_turn_of(self, part: P) -> bool:
        """Whether a map may pull input: all before it have pulled theirs."""
        for each in self.maps:
            if each is part:
                return True
            if not each.exhausted:
                return False
        return True
