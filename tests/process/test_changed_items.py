"""Items are what they were when they were pulled, also those that travel twice: stolen, of a worker that died, retried.

Their objects are the program's, and change: a buffer is filled anew, a list grows.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import pytest
from tests.process.nodes_here import NodesHere
from tests.process.waiting import Gate, wait_at, wait_until

from allcores import Executor, Pipeline, Pool, Retry, compat
from allcores.adapters.cluster import node, node_table
from allcores.backends import open as opener
from allcores.pool import input_reader
from allcores.transport import refilled_items
from allcores.transport.batches import batch_call
from allcores.transport.refilled_items import RefilledItems

METHODS = ["template", "spawn"]
COUNT = 150


def number_of(job: Any) -> int:
    """The job's number; waits at the job's gate, if it has one. A file tells that this place was begun."""
    folder, place, gate, number = job
    (Path(folder) / place).touch()
    if gate is not None:
        wait_at(gate)
    return int(number)


@pytest.mark.parametrize("method", METHODS)
def test_calls_that_are_stolen_have_their_arguments(tmp_path: Path, method: str) -> None:
    """Those that wait behind a call which takes long."""
    with (
        Pool(2, start_method=method) as pool,
        Gate(tmp_path / "first") as first,
        Gate(tmp_path / "second") as second,
    ):
        held = [pool.submit(wait_at, gate.path) for gate in (first, second)]
        wait_until(lambda: all(call.running() for call in held))
        numbers: list[int] = []
        calls = []
        for number in range(COUNT):
            numbers.append(number)
            calls.append(pool.submit(sum, numbers))
        first.open()
        assert [call.result() for call in calls] == [sum(range(number + 1)) for number in range(COUNT)]
        assert pool.statistics().stolen > 0


def test_items_that_are_stolen_are_as_they_were(tmp_path: Path) -> None:
    """Both workers have a chunk each, and wait; then all is changed, and what is behind item 0 is stolen."""
    with Gate(tmp_path / "first") as first, Gate(tmp_path / "second") as second, ThreadPoolExecutor(1) as reader:
        gates = {0: first.path, 10: second.path}
        jobs = [[str(tmp_path), f"{number}", gates.get(number), number] for number in range(20)]
        with Pool(2) as pool:
            results = reader.submit(pool.map, number_of, jobs, chunk=10)
            for number in gates:
                wait_until((tmp_path / f"{number}").exists)
            for job in jobs:
                job[-1] = -1
            second.open()
            for number in range(1, 10):
                wait_until((tmp_path / f"{number}").exists)
            first.open()
            assert results.result() == list(range(20))


def fails_once(job: Any) -> float:
    """The job's number, and its array is spoilt; number 3 fails the first time, when the gate is open."""
    folder, how, number, array = job
    found = float(array[0])
    array[:] = [-1.0] * len(array)
    try:
        if number == 3:
            os.mkdir(os.path.join(folder, "attempt"))
            wait_at(os.path.join(folder, "gate"))
            if how == "dies":
                os._exit(1)
            raise ValueError("first attempt")
    except FileExistsError:
        pass
    return found


@pytest.mark.parametrize("kind", ["list", "array", "block"])
@pytest.mark.parametrize("how", ["raises", "dies"])
def test_another_attempt_has_what_the_first_one_had(tmp_path: Path, how: str, kind: str) -> None:
    """Whatever the program, or the first attempt, has done to it; and so have those that ran beside it."""
    numpy = pytest.importorskip("numpy")

    def values(number: int) -> Any:
        return [float(number)] if kind == "list" else numpy.full(10_000 if kind == "block" else 1, float(number))

    items = [[str(tmp_path), how, number, values(number)] for number in range(10)]
    with Gate(tmp_path / "gate") as gate, Pool(1) as pool, ThreadPoolExecutor(1) as reader:
        results = reader.submit(pool.map, fails_once, items, chunk=10, retries=1)
        wait_until((tmp_path / "attempt").exists)
        for item in items:
            item[2] = -7
            item[3][0] = -7.0
        gate.open()
        assert results.result() == [float(number) for number in range(10)]


def refilled(count: int = COUNT) -> Iterator[dict[str, int]]:
    row: dict[str, int] = {}
    for number in range(count):
        row["number"] = number
        yield row


def refilled_in_pairs() -> Iterator[tuple[str, list[int]]]:
    row = [0]
    for number in range(COUNT):
        row[0] = number
        yield "row", row


async def refilled_async() -> Any:
    for row in refilled():
        yield row


def of_row(row: dict[str, int]) -> int:
    return row["number"]


def of_pair(_name: str, row: list[int]) -> int:
    return row[0]


def of_rows(rows: list[dict[str, int]]) -> list[int]:
    return [row["number"] for row in rows]


@pytest.mark.parametrize("chunk", [None, 1, 7, 1000])
def test_a_row_that_is_filled_anew_is_a_new_item(chunk: int | None) -> None:
    expected = list(range(COUNT))
    with Pool(2) as pool:
        assert pool.map(of_row, refilled(), chunk=chunk) == expected
        assert pool.starmap(of_pair, refilled_in_pairs(), chunk=chunk) == expected
        assert sorted(pool.imap_unordered(of_row, refilled(), chunk=chunk)) == expected


class Cell:
    """Of a class that may own what must not be there twice: it is never copied."""

    number = 0


def refilled_beside(other: Cell | bytearray) -> Iterator[tuple[list[int], Cell | bytearray]]:
    """A row, and something that changes with it, and is not copied."""
    row = [0]
    for number in range(COUNT):
        row[0] = number
        if isinstance(other, Cell):
            other.number = number
        else:
            other[0] = number
        yield row, other


def of_beside(pair: tuple[list[int], Cell | bytearray]) -> tuple[int, int]:
    row, other = pair
    return row[0], other.number if isinstance(other, Cell) else other[0]


def test_rows_that_are_filled_anew_travel_together_once_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def encode(items: list[Any], *more: Any) -> Any:
        rows.append(len(items))
        return real(items, *more)

    real = input_reader.encode
    monkeypatch.setattr(input_reader, "encode", encode)
    with Pool(2) as pool:
        assert pool.map(of_row, refilled(), chunk=10) == list(range(COUNT))
    assert sum(rows) == COUNT
    assert max(rows) == 10


@pytest.mark.parametrize("other", [Cell(), bytearray(1_000)], ids=["own class", "too large"])
def test_but_what_is_not_copied_is_pickled_in_time(other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refilled_items, "MOST_COPIED", 500)
    with Pool(2) as pool:
        assert pool.map(of_beside, refilled_beside(other), chunk=10) == [(n, n) for n in range(COUNT)]


def test_also_where_only_some_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refilled_items, "MOST_ELEMENTS", 50)

    def growing() -> Iterator[list[int]]:
        row: list[int] = []
        for number in range(COUNT):
            row[:] = [number] * (100 if number % 7 == 5 else 1)
            yield row

    with Pool(2) as pool:
        assert pool.map(set, growing(), chunk=10) == [{number} for number in range(COUNT)]


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_so_it_is_in_a_batch(batch: int) -> None:
    async def read(pool: Pool) -> list[int]:
        return [result async for result in pool.aimap(of_rows, refilled_async(), batch=batch)]

    with Pool(2) as pool:
        assert pool.map(of_rows, refilled(), batch=batch) == list(range(COUNT))
        assert asyncio.run(read(pool)) == list(range(COUNT))


@pytest.mark.parametrize("chunksize", [1, 7])
def test_so_it_is_in_the_drop_ins(chunksize: int) -> None:
    """In the order in which the original has it right, and where it has not."""
    expected = list(range(COUNT))
    with compat.Pool(2) as pool:
        assert list(pool.imap(of_row, refilled(), chunksize)) == expected
        assert sorted(pool.imap_unordered(of_row, refilled(), chunksize)) == expected
        assert pool.map(of_row, refilled(), chunksize) == expected
        assert pool.starmap(of_pair, refilled_in_pairs(), chunksize) == expected
        assert pool.map_async(of_row, refilled(), chunksize).get() == expected
    with compat.Pool(2, maxtasksperchild=2) as pool:
        assert list(pool.imap(of_row, refilled(), 50)) == expected
    with Executor(2) as executor:
        assert list(executor.map(of_row, refilled(), chunksize=chunksize)) == expected
        assert list(executor.map(of_row, refilled(), chunksize=chunksize, buffersize=3)) == expected
        rows = (row for _, row in refilled_in_pairs())
        assert list(executor.map(of_pair, repeat("row"), rows, chunksize=chunksize, buffersize=3)) == expected


def one_row(number: int) -> dict[str, int]:
    """The same object each time."""
    _row["number"] = number
    return _row


def one_array(number: int) -> Any:
    """The same array each time, which is large enough for a block."""
    import numpy as np

    if not _arrays:
        _arrays.append(np.zeros(10_000))
    _arrays[0][:] = number
    return _arrays[0]


def two_arrays(number: int) -> Any:
    """Two, in turns."""
    import numpy as np

    if len(_arrays) < 2:
        _arrays[:] = [np.zeros(10_000), np.zeros(10_000)]
    _arrays.reverse()
    _arrays[0][:] = number
    return _arrays[0]


def one_array_in_batches(numbers: list[int]) -> list[Any]:
    return [one_array(number) for number in numbers]


#: of the worker
_row: dict[str, int] = {}
_arrays: list[Any] = []


@pytest.mark.parametrize("chunk", [None, 2, 7, 1000])
def test_an_object_that_is_returned_again_and_again_is_what_it_was_each_time(chunk: int | None) -> None:
    pytest.importorskip("numpy")
    expected = list(range(COUNT))
    with Pool(2) as pool:
        assert [row["number"] for row in pool.map(one_row, expected, chunk=chunk)] == expected
        for function in (one_array, two_arrays):
            assert [array[0] for array in pool.map(function, expected, chunk=chunk)] == expected
        # in an order, and with seconds for each
        outcomes = pool.outcomes(one_row, expected, chunk=chunk)
        assert [outcome.value for outcome in outcomes] == [{"number": number} for number in expected]


def test_so_it_is_between_two_batches() -> None:
    pytest.importorskip("numpy")
    with Pool(2) as pool:
        results = pool.map(one_array_in_batches, range(COUNT), batch=1, chunk=None)
        assert [array[0] for array in results] == list(range(COUNT))


def one_row_for_each(numbers: list[int]) -> Iterator[dict[str, int]]:
    """The same object for each item of a batch."""
    row: dict[str, int] = {}
    for number in numbers:
        row["number"] = number
        yield row


@pytest.mark.parametrize("batch", [1, 4, 64, "auto"])
def test_so_it_is_within_a_batch(batch: Any, tmp_path: Path) -> None:
    """One that is found in a cache was kept as it was."""
    expected = [{"number": number} for number in range(COUNT)]
    folder = str(tmp_path / "cache")
    with Pool(2) as pool:
        assert pool.map(one_row_for_each, range(COUNT), batch=batch) == expected
        for _ in range(2):
            assert pool.map(one_row_for_each, range(COUNT), batch=batch, cache=folder) == expected
        assert pool.reduce(one_row_for_each, range(COUNT), largest, batch=batch) == expected[-1]
        assert pool.reduce(one_row_for_each, range(COUNT), smallest, batch=batch) == expected[0]


def largest(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    return max(left, right, key=of_row)


def smallest(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    return min(left, right, key=of_row)


def test_a_batch_of_new_objects_is_copied_no_longer_than_it_takes_to_see_that() -> None:
    """Whatever the batches: what is known of a function's results is known for its next call."""
    made = [[number] for number in range(20)]
    call = batch_call("one", lambda numbers: (made[number] for number in numbers), (), within=RefilledItems())
    results = [result for first in range(0, 20, 2) for result in call([first, first + 1])]
    assert results == made
    assert [result is row for result, row in zip(results, made, strict=True)] == [False] * 3 + [True] * 17


def large_row_for_each(numbers: list[int]) -> Iterator[bytearray]:
    row = bytearray(17 << 20)
    for number in numbers:
        row[0] = number
        yield row


def test_also_one_that_would_travel_alone_elsewhere() -> None:
    with Pool(1) as pool:
        assert [row[0] for row in pool.imap(large_row_for_each, range(6), batch=3)] == list(range(6))


@pytest.mark.parametrize("backend", ["threads", "serial"])
def test_what_a_cache_keeps_of_a_batch_is_what_each_item_gave(backend: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "cache")
    with Pool(2, backend=backend) as pool:
        for _ in range(2):
            found = pool.map(one_row_for_each, range(COUNT), batch=10, cache=folder)
            assert found == [{"number": number} for number in range(COUNT)]


def test_so_it_is_in_chunks_that_are_one_call() -> None:
    expected = [{"number": number} for number in range(COUNT)]
    with Executor(2) as executor:
        assert list(executor.map(one_row, range(COUNT), chunksize=7, buffersize=3)) == expected
    with compat.Pool(2, maxtasksperchild=4) as pool:
        assert pool.map(one_row, range(COUNT), 20) == expected
        assert pool.starmap(one_row, zip(range(COUNT), strict=True), 20) == expected


def rows_of(number: int) -> Iterator[dict[str, int]]:
    row: dict[str, int] = {}
    for part in range(4):
        row["number"] = 4 * number + part
        yield row


def is_row(row: dict[str, int]) -> bool:
    return "number" in row


@pytest.mark.parametrize(
    "pipeline",
    [Pipeline().flat_map(rows_of), Pipeline().map(int).flat_map(rows_of), Pipeline().flat_map(rows_of).filter(is_row)],
    ids=["alone", "behind", "before"],
)
def test_so_it_is_with_records_of_flat_map(pipeline: Pipeline) -> None:
    assert [row["number"] for row in pipeline.imap(range(COUNT), workers=2)] == list(range(4 * COUNT))


def second_of(pair: tuple[int, dict[str, int]]) -> int:
    return pair[1]["number"]


def numbers_of(rows: list[dict[str, int]]) -> list[int]:
    return [row["number"] for row in rows]


def len_of_group(group: tuple[bool, list[Any]]) -> int:
    return len(group[1])


def last_of(rows: tuple[dict[str, int], ...]) -> list[int]:
    return [row["number"] for row in rows]


#: each begins with a step that the program itself does, in which records wait before they are pickled
WAITING = {
    "enumerate": (Pipeline().enumerate().map(second_of), list(range(COUNT))),
    "islice": (Pipeline().islice(3, None).map(of_row), list(range(3, COUNT))),
    "batch": (
        Pipeline().batch(4).map(numbers_of),
        [list(range(begin, min(begin + 4, COUNT))) for begin in range(0, COUNT, 4)],
    ),
    "window": (
        Pipeline().window(3).map(last_of),
        [[begin, begin + 1, begin + 2] for begin in range(COUNT - 2)],
    ),
}


def test_so_it_is_before_a_side(tmp_path: Path) -> None:
    side = Pipeline().map(of_row).write(tmp_path / "side.jsonl")
    assert list(Pipeline().tee(side).map(of_row).imap(refilled(), workers=2)) == list(range(COUNT))
    assert [json.loads(line) for line in (tmp_path / "side.jsonl").read_text().splitlines()] == list(range(COUNT))


@pytest.mark.parametrize("name", WAITING)
def test_so_it_is_where_records_wait_in_a_pipeline(name: str, tmp_path: Path) -> None:
    pipeline, expected = WAITING[name]
    assert list(pipeline.imap(refilled(), workers=2)) == expected
    pipeline.write(tmp_path / "out.jsonl").run(refilled(), workers=2, journal=False, progress=False)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected


def test_on_nodes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    cluster = NodesHere("ab", lambda node, number: False)
    pipeline: Any = Pipeline().enumerate().map(second_of).flat_map(rows_of)
    rows = pipeline.imap(refilled(), backend="dask", address=cluster)
    assert [row["number"] for row in rows] == list(range(4 * COUNT))
    cluster.join()


def test_threads_get_the_objects_themselves() -> None:
    rows = [{"number": number} for number in range(COUNT)]

    def mark(pair: tuple[int, dict[str, int]]) -> None:
        pair[1]["seen"] = pair[0]

    list(Pipeline().enumerate().map(mark, on="threads").imap(row for row in rows))
    assert [row["seen"] for row in rows] == list(range(COUNT))


def test_functions_in_the_program_get_the_objects_themselves() -> None:
    """Of `group_by` and `scan`, say: they may know them, or mark them."""
    rows = [[number] for number in range(8)]
    known = {id(row) for row in rows}
    groups = Pipeline().group_by(lambda row: id(row) in known).map(len_of_group)
    assert list(groups.imap((row for row in rows), workers=2)) == [8]


def test_an_input_that_is_left_is_not_closed() -> None:
    many = 1_000_000  # more than is pulled before the stream is left, however quick the machine is
    source = refilled(many)
    numbered = ({"number": number} for number in range(many))
    for items in (source, numbered):
        results = Pipeline().enumerate().map(second_of).imap(items, workers=2)
        assert next(results) == 0
        results.close()
        del results
        next(items)


class LosesOne(NodesHere):
    """What a node answers to its second request is lost; what was pulled by then is changed before."""

    def __init__(self, change: Callable[[], None]) -> None:
        super().__init__("ab", self._loses)
        self._change = change

    def _loses(self, node: str, number: int) -> bool:
        if node != "b" or number != 2:
            return False
        self._change()
        return True


def own(item: list[int]) -> int:
    return item[0]


def test_another_node_has_what_the_lost_one_had(monkeypatch: pytest.MonkeyPatch) -> None:
    pulled: list[list[int]] = []

    def items() -> Iterator[list[int]]:
        for number in range(COUNT):
            pulled.append([number])
            yield pulled[-1]

    def change() -> None:
        # The last ones may not be pickled yet.
        for item in pulled[:-20]:
            item[0] = -1

    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    monkeypatch.setattr(node_table, "ANSWER_NS", 3_000_000_000)
    monkeypatch.setattr(node, "LEASE_S", 6.0)
    cluster = LosesOne(change)
    with Pool(backend="dask", address=cluster) as pool:
        assert pool.map(own, items(), chunk=10) == list(range(COUNT))
    cluster.join()


def with_connection(job: tuple[Any, str, int]) -> bool:
    """Whether its connection can be used; number 3 fails the first time."""
    connection, folder, number = job
    try:
        if number == 3:
            os.mkdir(os.path.join(folder, "attempt"))
            os._exit(1)
    except FileExistsError:
        pass
    return bool(connection.fileno() >= 0)


def test_a_connection_may_travel_again(tmp_path: Path) -> None:
    """What fetches its descriptor does so once: it is sent anew. The program's own stays open."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, Pool(1) as pool:
        items = ((ours, str(tmp_path), number) for number in range(6))
        assert pool.map(with_connection, items, chunk=6, retries=1) == [True] * 6
        theirs.send("still there")
        assert ours.recv() == "still there"
    resource_sharer.stop()


class Strange:
    """Unpickled, it is something that cannot be pickled: what is made anew of it in the program cannot be sent."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return made_of, (self.number,)


class Made:
    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.Lock()


_made: list[int] = []


def made_of(number: int) -> Made:
    _made.append(number)
    return Made(number)


def fails_at_first(item: Made) -> int:
    if item.number not in _failed:
        _failed.add(item.number)
        raise ValueError(item.number)
    return item.number


_failed: set[int] = set()


def test_no_item_is_made_anew_in_the_program() -> None:
    """Not of many that fail either: their code would run while the scheduler waits."""
    with Pool(1) as pool:
        items: list[Any] = [Strange(number) for number in range(40)]
        results = pool.map(fails_at_first, items, chunk=20, retries=Retry(times=2, wait_s=0.0))
    assert results == list(range(40))
    assert not _made
