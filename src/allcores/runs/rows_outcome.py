"""The outcome of an item that may have rows, and more to tell, although it failed."""

from __future__ import annotations

import dataclasses
from typing import Any

from allcores.outcome import Outcome


class RowsOutcome(Outcome[str]):
    """An outcome with more for its record in the journal.

    Args:
        extra: What the record of a failure has besides what each has: the stage, rows that were there before it failed
            (`sinks.many_rows.ROWS`), further failures (`sinks.many_rows.MORE`). Plain JSON.
        ends: It ends the run.
    """

    __slots__ = ("ends", "extra")

    def __init__(self, *given: Any, extra: dict[str, Any] | None = None, ends: bool = False, **named: Any) -> None:
        super().__init__(*given, **named)
        object.__setattr__(self, "extra", extra or {})
        object.__setattr__(self, "ends", ends)


def moved(outcome: Outcome[str], index: int) -> Outcome[str]:
    """The same outcome at another index."""
    other = dataclasses.replace(outcome, index=index)
    if isinstance(outcome, RowsOutcome):
        for name in RowsOutcome.__slots__:
            object.__setattr__(other, name, getattr(outcome, name))
    return other
