"""Runs over inputs that are no files: objects around an iterator, rows that are filled anew, empty ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process.journals import journal

import allcores
from allcores.runs.index import RunIndex
from allcores.runs.outcome_log import Log, Record, Row
from allcores.runs.ranges import RangeSet
from allcores.runs.remaining_by_key import RemainingByKey

ITEMS = 600


pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(params=["serial", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[allcores.Pool]:
    with allcores.Pool(2, backend=request.param) as pool:
        yield pool


@pytest.fixture
def processes() -> Iterator[allcores.Pool]:
    """Where items travel; elsewhere functions get the input's own objects."""
    with allcores.Pool(2) as pool:
        yield pool


def lines() -> list[Any]:
    return [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]


class Around:
    """What tqdm is: around an iterator, and none itself. A second reading goes on where the first one ended."""

    def __init__(self, items: Iterable[Any], total: int | None = None) -> None:
        self._items = iter(items)
        self._total = total

    def __iter__(self) -> Iterator[Any]:
        yield from self._items

    def __len__(self) -> int:
        return self._total  # type: ignore[return-value]

    def __contains__(self, item: object) -> bool:
        raise NotImplementedError


def refuse_some(number: int) -> int:
    if number % 50 == 7 and not Path("mended").exists():
        raise ValueError("not now")
    return number


def refuse_one(number: int) -> int:
    if number == 300 and not Path("mended").exists():
        raise ValueError("not now")
    return number


def test_what_is_around_an_iterator_is_read_once(pool: allcores.Pool) -> None:
    """A run that was ended in the middle has all items when it is resumed."""
    with pytest.raises(ValueError, match="not now"):
        pool.run(refuse_one, Around(range(ITEMS), ITEMS), "out.jsonl", journal=journal(), chunk=1)
    Path("mended").touch()
    result = pool.run(refuse_one, Around(range(ITEMS), ITEMS), "out.jsonl", journal=journal())
    assert result.resumed > 0
    assert lines() == list(range(ITEMS))


def test_what_failed_of_it_is_tried_again(pool: allcores.Pool) -> None:
    """With what is left, in one reading."""
    pool.run(refuse_some, Around(range(ITEMS), ITEMS), "out.jsonl", journal=journal(), on_error="skip")
    Path("mended").touch()
    kept = journal(retry_failed=True)
    result = pool.run(refuse_some, Around(range(ITEMS), ITEMS), "out.jsonl", journal=kept, on_error="skip")
    assert (result.ok, result.failed) == (ITEMS, 0)
    assert lines() == list(range(ITEMS))


class Again:
    """It begins anew each time, as a class of a program does whose `__iter__` is a generator."""

    readings = 0

    def __iter__(self) -> Iterator[int]:
        self.readings += 1
        yield from range(ITEMS)


def test_where_many_are_left_it_is_read_twice(pool: allcores.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If that can be done: else it is said, with the way out. Nothing is held that there is no room for."""
    monkeypatch.setattr("allcores.runs.remaining.MOST_HELD", 5)
    again = journal(retry_failed=True)
    for source in (Again, lambda: Around(range(ITEMS))):
        Path("mended").unlink(missing_ok=True)
        output = f"{len(list(Path().iterdir()))}.jsonl"
        pool.run(refuse_some, source(), output, journal=journal(), on_error="skip")
        Path("mended").touch()
        given: Any = source()
        if isinstance(given, Again):
            assert pool.run(refuse_some, given, output, journal=again).ok == ITEMS
            assert given.readings == 2
        else:
            with pytest.raises(allcores.UsageError, match="another item when it is read a second time"):
                pool.run(refuse_some, given, output, journal=again)
            assert pool.run(refuse_some, iter(source()), output, journal=again).ok == ITEMS
        assert [json.loads(line) for line in Path(output).read_text().splitlines()] == list(range(ITEMS))


@pytest.mark.parametrize("key", [None, 0])
def test_damage_under_it_is_told(pool: allcores.Pool, here: Path, key: int | None) -> None:
    """What is damaged cannot be had again in this session: there is no output without it. With the next, it can."""
    numbers = [(number,) for number in range(ITEMS)]
    pool.run(first_of, Around(numbers, ITEMS), "out.jsonl", journal=journal(key=key))
    Path("out.jsonl").unlink()
    (log,) = here.glob("runs/*/outcomes.log")
    raw = bytearray(log.read_bytes())
    raw[40] ^= 0xFF
    log.write_bytes(raw)
    with pytest.raises(allcores.JournalError, match="resume"):
        pool.run(first_of, Around(numbers, ITEMS), "out.jsonl", journal=journal(key=key))
    assert not Path("out.jsonl").exists()
    assert pool.run(first_of, Around(numbers, ITEMS), "out.jsonl", journal=journal(key=key)).ok == ITEMS
    assert lines() == list(range(ITEMS))


def first_of(row: tuple[int, ...]) -> int:
    return row[0]


@pytest.mark.parametrize("kept", [True, False])
def test_one_whose_length_cannot_be_had_is_an_input(pool: allcores.Pool, kept: bool) -> None:
    """It says that it has one, as tqdm does, and raises when it is asked."""
    result = pool.run(first_of, Around([(1,), (2,)]), "out.jsonl", journal=journal() if kept else False)
    assert (result.ok, lines()) == (2, [1, 2])


class Numbered:
    """What a data set of PyTorch is: it has numbered items, and no `__iter__`."""

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, number: int) -> int:
        if number >= ITEMS:
            raise IndexError(number)
        return number


def test_what_has_numbered_items_is_an_input(pool: allcores.Pool) -> None:
    """As it is one of `map`, of Python's and of ours."""
    given: Any = Numbered()
    assert pool.map(abs, given) == list(range(ITEMS))
    pool.run(refuse_some, given, "out.jsonl", journal=journal(), on_error="skip")
    Path("mended").touch()
    assert pool.run(refuse_some, given, "out.jsonl", journal=journal(retry_failed=True)).ok == ITEMS
    assert lines() == list(range(ITEMS))
    assert list(allcores.Pipeline().map(abs).imap(given, backend="serial")) == list(range(ITEMS))


# --- rows that are filled anew --------------------------------------------------------------------


def rows(count: int = ITEMS) -> Iterator[dict[str, int]]:
    """One dict, filled anew for each item, as some readers of files do it."""
    row: dict[str, int] = {}
    for number in range(count):
        row["n"] = number
        yield row


def in_turns(count: int = ITEMS) -> Iterator[tuple[str, list[int]]]:
    """Two lists, in turns."""
    buffers = [[0], [0]]
    for number in range(count):
        buffers[number % 2][0] = number
        yield "n", buffers[number % 2]


def number_of(row: Any) -> int:
    number: int = row["n"] if isinstance(row, dict) else row[1][0]
    return refuse_some(number)


@pytest.mark.parametrize("source", [rows, in_turns])
def test_a_row_that_is_filled_anew_and_waits_is_what_it_was(processes: allcores.Pool, source: Any) -> None:
    """Items that are left are held while the input is compared: each is to be the one of its place."""
    processes.run(number_of, source(), "out.jsonl", journal=journal(), on_error="skip")
    assert lines() == [number for number in range(ITEMS) if number % 50 != 7]
    Path("mended").touch()
    processes.run(number_of, source(), "out.jsonl", journal=journal(retry_failed=True), on_error="skip")
    assert lines() == list(range(ITEMS))


@pytest.mark.parametrize("source", [rows, in_turns])
def test_rows_that_are_filled_anew_behind_those_that_waited(processes: allcores.Pool, source: Any) -> None:
    """Of the items that are held none comes twice; of those behind them each does, and that is noticed."""
    processes.run(number_of, source(400), "out.jsonl", journal=journal(), on_error="skip")
    Path("mended").touch()
    kept = journal(retry_failed=True, accept_changes=True)
    processes.run(number_of, source(), "out.jsonl", journal=kept, on_error="skip")
    assert lines() == list(range(ITEMS))


def test_rows_that_are_filled_anew_are_known_by_their_keys(pool: allcores.Pool) -> None:
    """They are read ahead, to be looked up: each has the key that it had when it came."""
    Path("mended").touch()
    assert pool.run(number_of, rows(), "out.jsonl", journal=journal(key="n")).ok == ITEMS
    assert lines() == list(range(ITEMS))
    assert pool.run(number_of, rows(), "out.jsonl", journal=journal(key="n")).resumed == ITEMS


def test_a_key_that_comes_twice_is_told_whenever_it_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between the look into the table and the one at what is not in it yet."""
    run_index = RunIndex(str(tmp_path), writable=True, create=True, sync=False)
    remaining = RemainingByKey([(1, "a"), (1, "b")], 0, run_index, RangeSet())
    look_up = RunIndex.keys

    def committed_meanwhile(index: RunIndex, keys: Any) -> Any:
        found = look_up(index, keys)
        rows = remaining.new_checkpoints(0) or []
        index.put_keys([(row.key, row.slot, row.digest, row.session) for row in rows])
        remaining.committed(rows)
        return found

    monkeypatch.setattr("allcores.runs.remaining_by_key.BLOCK", 1)
    monkeypatch.setattr(RunIndex, "keys", committed_meanwhile)
    remaining.open(1)
    assert next(remaining) == (1, "a")
    with pytest.raises(allcores.UsageError, match="which an earlier item has"):
        next(remaining)
    remaining.close()
    run_index.close()


# --- an input that is empty now -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"key": 0}, {"accept_changes": True}])
def test_an_input_that_has_become_empty(pool: allcores.Pool, options: dict[str, Any]) -> None:
    """Its output is empty, too, and so is an export; what was done is found again when it comes back."""
    numbers = [(number,) for number in range(3)]
    pool.run(first_of, numbers, "out.jsonl", journal=journal(**options))
    result = pool.run(first_of, [], "out.jsonl", journal=journal(**options))
    assert (result.items, lines()) == (0, [])
    result = pool.run(first_of, numbers, "out.jsonl", journal=journal(**options))
    assert (result.ok, lines()) == (3, [0, 1, 2])


# --- items that have moved ------------------------------------------------------------------------


def name_and_number(row: tuple[int, int]) -> list[int]:
    return list(row)


def test_outcomes_that_take_turns_are_read_together(processes: allcores.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second item is another one: its outcome is in another record than its neighbour's, and both are held."""
    kept = journal(key=0, commit_s=3_600.0)
    numbers = [(number, 0) for number in range(ITEMS)]
    processes.run(name_and_number, numbers, "out.jsonl", journal=kept)
    numbers = [(number, number % 2) for number in range(ITEMS)]
    read = Log.read
    records = []

    def counted(log: Log, row: Row) -> Record:
        records.append(row)
        return read(log, row)

    monkeypatch.setattr(Log, "read", counted)
    processes.run(name_and_number, numbers, "out.jsonl", journal=kept)
    assert lines() == [list(row) for row in numbers]
    assert len(records) < ITEMS // 10
