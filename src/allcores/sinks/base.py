"""Sinks that publish whole: an output appears under its name complete, or not at all.

contract    wrap(fn)            what runs in the workers: fn, but its value as one line of text
            publish(entries)    puts all entries, in input order, where they belong, in one step
            describe()          what makes it the same output
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive items that returned.

    Attributes:
        start: Index of the first.
        lines: Their values as `wrap` encoded them, each ended by a newline.
        details: (attempts, worker, seconds) of each, worker -1 if there was none; None unless the sink `wants_details`.
    """

    start: int
    count: int
    lines: bytes
    details: Sequence[tuple[int, int, float]] | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """An item that did not return.

    Attributes:
        record: Everything about its outcome, as plain JSON.
    """

    index: int
    record: dict[str, Any]


Entries = Callable[[], Iterable[Block | Lost]]


class WholeSink(Protocol):
    """Where the outcomes of a run go.

    Attributes:
        path: The destination. wants_details: whether it writes attempts, workers and seconds. takes_failures: whether
            it has a way to write an item that did not return.
    """

    path: str
    #: `publish` asks for the entries more than once
    looks_twice: bool

    @property
    def wants_details(self) -> bool: ...

    @property
    def takes_failures(self) -> bool: ...

    def describe(self) -> dict[str, Any]: ...

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]: ...

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None: ...

    def check(self) -> None:
        """Raise UsageError if it could not be published, as far as can be told before a run begins."""
