"""Names that items give to the files of a folder: no two may be alike. Who gives one that is taken fails, at once.

Of an item of a pipeline, which may have many rows, that row is left out, and the others stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from allcores.outcome import Kind, Outcome
from allcores.runs.rows_outcome import RowsOutcome
from allcores.sinks.base import Block, Lost
from allcores.sinks.json_stream import failure_record
from allcores.sinks.json_text import NotJson
from allcores.sinks.many_rows import MORE, ROWS, joined, taken_apart


class Places(Protocol):
    """Where items are in the journal."""

    def slot_of(self, index: int) -> int:
        """The slot of an item."""

    def holds(self, slot: int) -> bool:
        """Whether an item of the input has that slot: else its outcome is one of before, and will not be written."""


class ByIndex:
    """Each item is at its index."""

    def slot_of(self, index: int) -> int:
        """See Places."""
        return index

    def holds(self, slot: int) -> bool:
        """See Places."""
        return True


class GivenNames:
    """Looks at outcomes as they come; called with each, gives it back as it is, or as a failure.

    Args:
        names_of: Tells the names in a line.
        settled: What was settled before, by slot.
        places: Of the items.
        many: Lines are rows, see `ManyRows`.
        is_end: Says of an outcome that failed whether it ends the run.
    """

    def __init__(
        self,
        names_of: Callable[[str], list[str]],
        settled: Iterable[Block | Lost],
        places: Places,
        *,
        many: bool,
        is_end: Callable[[Outcome[str]], bool],
    ) -> None:
        self._names_of = names_of
        self._places = places
        self._many = many
        self._is_end = is_end
        self._slots = {name: slot for entry in settled for slot, line in _lines_of(entry) for name in names_of(line)}

    def __call__(self, outcome: Outcome[str]) -> Outcome[str]:
        """See the class."""
        line = outcome.value if outcome.ok else getattr(outcome, "extra", {}).get(ROWS)
        if line is None:
            return outcome
        slot = self._places.slot_of(outcome.index)
        twice, mine = None, set[str]()
        for name in self._names_of(line):
            if name in mine or self._is_taken(name, slot):
                twice = twice or name
            mine.add(name)
        if twice is None:
            self._slots.update(dict.fromkeys(mine, slot))
            return outcome
        error = NotJson(f"item {outcome.index} gave the name {twice!r}, which an earlier item has")
        failed: Outcome[str] = Outcome(
            outcome.index, Kind.FAILED, None, error, outcome.item, outcome.attempts, outcome.seconds, outcome.worker
        )
        return self._without(outcome, failed, line, slot) if self._many else failed

    def _is_taken(self, name: str, slot: int) -> bool:
        """Whether an item has a name, but for the one of that slot, which may be tried again."""
        other = self._slots.get(name, slot)
        return other != slot and self._places.holds(other)

    def _without(self, outcome: Outcome[str], failed: Outcome[str], line: str, slot: int) -> Outcome[str]:
        """An outcome of a pipeline, with a failure more and without the rows that have a name of others."""
        kept: list[tuple[int, str]] = []
        mine = set[str]()
        for output, row in taken_apart(line):
            names = self._names_of(joined([(output, row)]))
            if not any(name in mine or self._is_taken(name, slot) for name in names):
                mine.update(names)
                kept.append((output, row))
        self._slots.update(dict.fromkeys(mine, slot))
        told, more = failed, []
        if not outcome.ok:
            before = failure_record(outcome)
            before.pop(ROWS)
            more = before.pop(MORE, [])
            if self._is_end(outcome) or not self._is_end(failed):
                told, more = outcome, [*more, failure_record(failed)]
            else:  # what ends the run is what the run is to tell of
                more = [before, *more]
        extra = {name: value for name, value in getattr(told, "extra", {}).items() if name not in (ROWS, MORE)}
        extra |= {ROWS: joined(kept)} if kept else {}
        extra |= {MORE: more} if more else {}
        fields = (getattr(told, name) for name in Outcome.__match_args__)
        return RowsOutcome(*fields, extra=extra, ends=self._is_end(told))


def _lines_of(entry: Block | Lost) -> Iterable[tuple[int, str]]:
    if isinstance(entry, Lost):
        return [(entry.index, str(entry.record[ROWS]))] if ROWS in entry.record else []
    return enumerate(entry.lines.decode().split("\n")[: entry.count], entry.start)
