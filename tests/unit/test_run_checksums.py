"""A flipped bit in a run's catalogue: what is read from it is what was written, or it is told of."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allcores.errors import JournalError
from allcores.runs.index import FILE, RunIndex
from allcores.runs.outcome_log import Row
from allcores.runs.output import whole
from allcores.runs.rows import (
    FailureRow,
    InputCheckpoint,
    put_anchors,
    put_bad_records,
    put_failures,
    put_keys,
    put_rows,
    set_columns,
)
from allcores.runs.states import State, put_states, read_state, states
from allcores.sinks.base import Block, Lost

FLIPS = 120


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A catalogue with something in each table."""
    folder = tmp_path_factory.mktemp("run")
    run_index = RunIndex(str(folder), writable=True, create=True, sync=False)
    run_index.begin("a run", {"sink": {"path": "/x"}, "source": {"parts": []}}, {"cwd": "/"}, "never")
    with run_index.transaction() as db:
        put_rows(db, [Row(10 * n, 9, 500 * n, 480, 77 * n) for n in range(40)])
        put_failures(db, [FailureRow(10 * n + 9, "failed", f"cause {n}", f'{{"n": {n}}}') for n in range(40)], 1)
        put_anchors(db, [InputCheckpoint(100 * n, [7 * n, n, None], f"digest {n}", 100 * (n - 1)) for n in range(1, 5)])
        put_keys(db, [(bytes([n]) * 16, n, b"d" * 16, 1) for n in range(40)])
        put_states(db, [State(100 * n, {0: b"whole"}, {1: b"added %d" % n}) for n in range(1, 4)])
        put_bad_records(db, [("in.txt", n, f"line {n}") for n in range(10)])
        set_columns(db, ok=360, failed=40)
    run_index.put_places([(0, 200, 200), (200, 200, 0)], total=400)
    run_index.close()
    return (folder / FILE).read_bytes()


def content(run_index: RunIndex) -> Iterator[tuple[str, Any]]:
    """Everything that is believed, piece by piece."""
    run_row = run_index.run_row()
    yield from ((name, getattr(run_row, name)) for name in ("id", "identity", "request", "state", "fsync", "sessions"))
    yield from (("record", row) for row in run_index.records())
    yield from (("failure", row) for row in run_index.failures())
    yield from (("anchor", row) for row in run_index.anchors())
    yield from (("key", each) for each in run_index.keys([bytes([n]) * 16 for n in range(40)]).items())
    yield from (("bad", each) for each in run_index.bad_records(100)[1])
    states_read = ((items, read_state(run_index, items)) for items in states(run_index))
    yield from (("state", each) for each in states_read if each[1] is not None)
    yield from (("place", each) for each in run_index.places() or ())
    yield from (("record of", (slot, run_index.record_of(slot))) for slot in (0, 15, 200))


def test_nothing_wrong_is_read(original: bytes, tmp_path: Path) -> None:
    """Whatever bit: each piece is as it was, or missing so that its items run again, or there is a sentence."""
    chance = random.Random(10)
    path = tmp_path / FILE
    path.write_bytes(original)
    run_index = RunIndex(str(tmp_path))
    right = list(content(run_index))
    run_index.close()
    assert len(right) > 130
    filled = [place for place, byte in enumerate(original) if byte]
    outcomes = {"told": 0, "read": 0}
    for _ in range(FLIPS):
        damaged = bytearray(original)
        damaged[chance.choice(filled)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        for left in tmp_path.glob(FILE + "-*"):
            left.unlink()
        opened: RunIndex | None = None
        try:
            opened = RunIndex(str(tmp_path), writable=True, sync=False)
            opened.mend()
            found = list(content(opened))
        except JournalError as error:
            assert str(tmp_path) in str(error)
            outcomes["told"] += 1
            continue
        finally:
            if opened is not None:
                opened.close()
        wrong = [piece for piece in found if piece not in right and piece[0] != "record of"]
        assert not wrong
        outcomes["read"] += 1
    assert all(outcomes.values()), outcomes


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM records WHERE start = 20",
        "DELETE FROM failures WHERE slot = 19",
        "DELETE FROM places WHERE position = 200",
        "UPDATE places SET slot = 1 WHERE position = 200",
        "UPDATE keys SET slot = 5 WHERE slot = 4",
        "UPDATE run SET total = 390",
        "UPDATE run SET places = NULL",
        "UPDATE anchors SET place = '[8, 1, null]' WHERE items = 100",
        "UPDATE failures SET record = '{}' WHERE slot = 9",
    ],
)
def test_readers_that_do_not_mend_are_told(original: bytes, tmp_path: Path, change: str) -> None:
    """A row that is gone may be noticed only when all are put together; one that is changed is, wherever it is read."""
    (tmp_path / FILE).write_bytes(original)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute(change)
        db.commit()
    run_index = RunIndex(str(tmp_path))
    try:
        if change.startswith(("DELETE FROM records", "DELETE FROM failures")):
            records: list[Block | Lost] = [Block(row.start, row.count, b"") for row in run_index.records()]
            failures = [Lost(row.slot, {}) for row in run_index.failures()]
            joined = sorted(
                [*records, *failures], key=lambda each: each.start if isinstance(each, Block) else each.index
            )
            with pytest.raises(JournalError, match="does not add up"):
                list(whole(joined, 400, "a run"))
        else:
            with pytest.raises(JournalError, match="is damaged"):
                list(content(run_index))
    finally:
        run_index.close()


@pytest.mark.parametrize(
    ("given", "total"),
    [
        ([Block(0, 2, b"")], 3),
        ([Block(0, 2, b""), Block(3, 1, b"")], 4),
        ([Block(0, 2, b""), Block(1, 2, b"")], 3),
        ([Block(0, 2, b""), Lost(2, {}), Lost(2, {})], 4),
        ([Block(1, 1, b"")], 1),
        ([], 1),
        ([Block(0, 2, b"")], None),
        ([Block(0, 2, b"")], 1),
    ],
)
def test_entries_that_do_not_join_are_not_published(given: list[Block | Lost], total: int | None) -> None:
    """A gap, an overlap, an end before or behind the total."""
    with pytest.raises(JournalError, match="does not add up"):
        list(whole(given, total, "a run"))
