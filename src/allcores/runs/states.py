"""What outcomes depend on besides their item, kept with them: so a run goes on as if it had never been interrupted.

    outcomes      0 1 2 3 4 5 6 7 8 9 …        in the order of the items
    states              ^     ^                each taken between two items, and committed with the outcome before it

Where a run goes on is the last state that all outcomes before it are there for. What lies behind it runs again. Of
states only the last is kept, and the last one before the first failure, for a run that is to try that again.

A state has parts. One that grows (what has been seen so far) is kept as what was added to it each time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from allcores.runs.checksums import is_sealed, sealed
from allcores.runs.index import RunIndex
from allcores.runs.rows import STATE, set_columns

#: the part that says which rows of the others belong to a state
_TABLE_OF_PARTS = -1
#: instead of a state: no more input is needed, wherever it was read to
_ENOUGH = -2
_PUT = "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class State:
    """What is to be known to go on behind an item.

    Attributes:
        items: It was taken behind so many items.
        parts: Each whole, by its number.
        added: Of parts that grow, what was added since the state before; nothing for one that is as it was.
    """

    items: int
    parts: Mapping[int, bytes] = field(default_factory=dict)
    added: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Enough:
    """No more input is needed: the outcomes that there are, are all.

    Attributes:
        items: How many outcomes.
    """

    items: int


def put_states(db: sqlite3.Connection, states: Sequence[State | Enough]) -> None:
    """Add states, and remove those that are of no use any more, inside of a transaction. Failures are there already."""
    for state in states:
        if isinstance(state, Enough):
            db.execute(_PUT, sealed((state.items, _ENOUGH, None, b"")))
            continue
        latest = _table_before(db, state.items)
        rows: list[tuple[int, int, int | None, bytes]]
        rows = [(state.items, part, None, content) for part, content in state.parts.items()]
        rows += [(state.items, part, latest.get(part, -1), content) for part, content in state.added.items()]
        table = latest | {part: items for items, part, _, _ in rows}
        text = json.dumps({str(part): items for part, items in sorted(table.items())})
        rows.append((state.items, _TABLE_OF_PARTS, None, text.encode()))
        db.executemany(_PUT, map(sealed, rows))
    if states:
        _forget(db)


def _table_before(db: sqlite3.Connection, items: int) -> dict[int, int]:
    query = "SELECT content FROM states WHERE part = ? AND items < ? ORDER BY items DESC LIMIT 1"
    row = db.execute(query, (_TABLE_OF_PARTS, items)).fetchone()
    return {} if row is None else {int(part): int(last) for part, last in json.loads(row[0]).items()}


def _forget(db: sqlite3.Connection) -> None:
    """Remove what neither the last state nor the one before the first failure needs."""
    last = db.execute("SELECT max(items) FROM states WHERE part = ?", (_TABLE_OF_PARTS,)).fetchone()[0]
    failure = db.execute("SELECT min(slot) FROM failures").fetchone()[0]
    kept = None
    if failure is not None:
        query = "SELECT max(items) FROM states WHERE part = ? AND items <= ?"
        kept = db.execute(query, (_TABLE_OF_PARTS, failure)).fetchone()[0]
    # Rows that others add to stay: they are parts of the later ones.
    db.execute(
        "DELETE FROM states WHERE before IS NULL AND part <> ? AND items < ? AND items IS NOT ?", (_ENOUGH, last, kept)
    )


def states(run_index: RunIndex) -> list[int]:
    """Behind how many items there are states, rising."""
    query = "SELECT items FROM states WHERE part = ? ORDER BY items"
    return [int(row[0]) for row in run_index.rows(query, (_TABLE_OF_PARTS,))]


def is_enough(run_index: RunIndex) -> bool:
    """Whether the pipeline needed no more input than it has outcomes for."""
    return bool(run_index.rows("SELECT 1 FROM states WHERE part = ?", (_ENOUGH,)))


def read_state(run_index: RunIndex, items: int) -> dict[int, list[bytes]] | None:
    """A state: of each part what makes it, in the order in which it was added; None if something of it is damaged."""
    query = f"SELECT {STATE}, seal FROM states WHERE items = ? AND part = ?"
    found: dict[int, list[bytes]] = {}
    rows = run_index.rows(query, (items, _TABLE_OF_PARTS))
    if not rows or not is_sealed(rows[0]):
        return None
    for part, last in json.loads(rows[0][3]).items():
        chain: list[bytes] = []
        at: int | None = int(last)
        while at is not None and at >= 0:
            rows = run_index.rows(query, (at, int(part)))
            if not rows or not is_sealed(rows[0]):
                return None
            chain.append(rows[0][3])
            at = rows[0][2]
        found[int(part)] = chain[::-1]
    return found


def place_to_go_on(run_index: RunIndex, hole: int) -> int:
    """Behind how many items the last whole state is that all outcomes before it are there for; 0: none is needed there.

    Args:
        hole: The first item that has no outcome, or whose outcome is to be another.
    """
    for items in reversed(states(run_index)):
        if items <= hole and not _is_within_a_record(run_index, items) and read_state(run_index, items) is not None:
            return items
    return 0


def _is_within_a_record(run_index: RunIndex, items: int) -> bool:
    row = run_index.record_of(items)
    return row is not None and row.start < items


def go_back(run_index: RunIndex, items: int) -> None:
    """Forget all outcomes and states behind `items` items."""
    with run_index.transaction() as db:
        db.execute("DELETE FROM records WHERE start >= ?", (items,))
        db.execute("DELETE FROM failures WHERE slot >= ?", (items,))
        db.execute("DELETE FROM states WHERE items > ?", (items,))
        counts = dict(db.execute("SELECT kind, count(*) FROM failures GROUP BY kind").fetchall())
        ok = db.execute("SELECT coalesce(sum(count), 0) FROM records").fetchone()[0]
        kinds = ("failed", "timed_out", "worker_lost")
        set_columns(db, ok=ok, places=None, **{kind: counts.get(kind, 0) for kind in kinds})
