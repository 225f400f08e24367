"""Memory with one copy per machine: shared objects, arrays that are filled together, counters and flags."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

import pytest
from tests.process import cargo
from tests.process.waiting import PATIENCE_S

from allcores import Kind, NotPicklable, NotSupported, Pool, UsageError

np = pytest.importorskip("numpy")

BACKENDS = ["processes", "threads", "serial"]


@pytest.fixture(params=BACKENDS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, backend=request.param) as pool:
        yield pool


@pytest.fixture
def workers() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


def shared_bytes(pool: Pool, expected: int) -> int:
    """Bytes that are shared, once everything that was said has been heard; waits for `expected`."""
    gc.collect()
    until = monotonic() + PATIENCE_S
    while (found := pool.statistics().shared_bytes) != expected and monotonic() < until:
        pool.map(abs, range(4 * pool.workers), chunk=1)
    return found


def reader(array: Any) -> Callable[[int], float]:
    return lambda number: float(array[number])


class TestShare:
    def test_arrays_wherever_they_are_used(self, pool: Pool) -> None:
        """In items, in closures, in partial functions; whole and in parts; by workers that run already."""
        assert pool.map(abs, [-1]) == [1]
        big = pool.share(np.arange(1_000_000))
        assert isinstance(big, np.ndarray)
        assert pool.map(cargo.total, [big, big[:10], big[500:600]]) == [499_999_500_000.0, 45.0, 54_950.0]
        assert pool.map(lambda index: int(big[index]), [3, 4]) == [3, 4]
        assert pool.map(partial(np.take, big), [5, 6]) == [5, 6]
        assert pool.submit(cargo.first, big[7:8]).result() == 7.0

    @pytest.mark.quick
    def test_what_the_setup_is_given_is_there_once(self) -> None:
        """The pool itself shares it: workers that are replaced get the same copy. What one writes, no other sees."""
        big = np.full(1 << 20, 3.0)
        with Pool(3, setup=cargo.same, setup_args=(big,)) as pool:
            assert set(pool.map(cargo.spoil_state, range(12), chunk=1)) <= {3.0, -1.0}
            (outcome,) = pool.outcomes(cargo.die_with_state, [0])
            assert outcome.kind is Kind.WORKER_LOST
            assert set(pool.map(cargo.spoil_state, range(12), chunk=1)) <= {3.0, -1.0}
            assert pool.statistics().block_bytes <= big.nbytes + (1 << 20)
        assert (big == 3.0).all()

    @pytest.mark.parametrize("where", ["parent", "worker"])
    def test_writing_is_refused(self, pool: Pool, where: str) -> None:
        big = pool.share(np.ones(100_000))
        with pytest.raises(ValueError, match="read-only"):
            if where == "parent":
                big[0] = 2
            else:
                pool.map(cargo.spoil, [big])

    def test_objects_that_hold_arrays(self, pool: Pool) -> None:
        box: Any = pool.share({"box": cargo.Box("name", np.arange(50_000)), "small": [1, 2]})
        assert box["small"] == [1, 2]
        assert not box["box"].content.flags.writeable
        assert pool.map(lambda number: int(box["box"].content[number]), [7]) == [7]

    def test_tables_and_frames(self, pool: Pool) -> None:
        """Arrow's and those of pandas: their columns are shared, also inside of other things."""
        arrow = pytest.importorskip("pyarrow")
        table = pool.share(arrow.table({"number": np.arange(100_000), "half": np.arange(100_000) / 2}))
        assert pool.map(lambda row: table.column("half")[row].as_py(), [3, 5]) == [1.5, 2.5]
        pandas = pytest.importorskip("pandas")
        frame = pool.share(pandas.DataFrame({"a": np.arange(50_000), "b": np.ones(50_000)}))
        assert pool.map(lambda column: float(frame[column].sum()), ["a", "b"]) == [1_249_975_000.0, 50_000.0]
        assert not frame["b"].to_numpy().flags.writeable

    def test_bytes(self, pool: Pool) -> None:
        text: Any = pool.share(b"0123456789" * 100_000)
        assert len(text) == 1_000_000
        assert pool.map(lambda at: bytes(text[at : at + 3]), [5, 999_997]) == [b"567", b"789"]
        assert pool.map(lambda at: text.view[at], [5]) == [ord("5")]
        assert bytes(text) == b"0123456789" * 100_000
        assert text == pool.share(bytearray(bytes(text)))
        with pytest.raises(TypeError):
            text.view[0] = 1

    @pytest.mark.parametrize(
        "view",
        [
            memoryview(b"abcdef" * 1000)[::2],
            memoryview(np.asfortranarray(np.arange(12).reshape(3, 4))),
            memoryview(np.zeros((0, 3))),
            memoryview(np.arange(3)),
        ],
        ids=["steps", "Fortran", "nothing", "numbers"],
    )
    def test_views_of_bytes(self, pool: Pool, view: memoryview) -> None:
        """Whose bytes may lie apart: they are in the order of its elements."""
        (found,) = pool.map(bytes, [pool.share(view)])
        assert found == view.tobytes()

    def test_it_is_not_copied(self, workers: Pool) -> None:
        """What is sent is its place: no block is taken for it."""
        big = workers.share(np.ones(1 << 20))
        for _ in workers.imap(cargo.total, [big] * 20, chunk=1):
            assert workers.statistics().block_bytes == 0
        assert shared_bytes(workers, big.nbytes) == big.nbytes

    def test_its_memory_goes_with_the_last_reference(self, workers: Pool) -> None:
        """Here, in workers, in functions."""
        big = workers.share(np.ones(1 << 20))
        part = big[:10]
        assert workers.map(reader(big), [1]) == [1.0]
        assert workers.map(cargo.keep, [big], chunk=1) == [1]
        del big
        assert shared_bytes(workers, 8 << 20) == 8 << 20
        del part
        workers.map(abs, range(100), chunk=1)
        assert shared_bytes(workers, 8 << 20) == 8 << 20, "a worker keeps it"
        with Pool(1) as other:
            big = other.share(np.ones(1 << 20))
            assert other.map(cargo.first, [big]) == [1.0]
            assert other.map(reader(big), [1]) == [1.0]
            del big
            assert shared_bytes(other, 0) == 0

    def test_it_stays_readable_when_its_pool_is_closed(self, pool: Pool) -> None:
        big = pool.share(np.arange(100_000))
        pool.close()
        gc.collect()
        assert int(big.sum()) == 4_999_950_000

    def test_a_replaced_worker_sees_it(self, workers: Pool) -> None:
        big = workers.share(np.full(100_000, 3.0))
        (outcome,) = workers.outcomes(cargo.die_if, [big])
        assert outcome.kind is Kind.WORKER_LOST
        assert workers.map(cargo.first, [big] * 8, chunk=1) == [3.0] * 8

    def test_given_to_another_pool_it_is_copied(self, workers: Pool) -> None:
        big = workers.share(np.arange(100_000))
        with Pool(1) as other:
            assert other.map(cargo.total, [big]) == [4_999_950_000.0]

    def test_what_does_not_pickle(self, pool: Pool) -> None:
        with pytest.raises(NotPicklable, match=r"obj\['lock'\]"):
            pool.share({"lock": threading.Lock()})


def protected(array: Any) -> Any:
    view = array[2:5]
    view.flags.writeable = False
    return view


class TestEmptyShared:
    def test_workers_fill_parts_of_it(self, pool: Pool) -> None:
        out = pool.empty_shared((8, 1_000), "int64")
        assert not out.any()
        pids = pool.map(cargo.fill, list(out), chunk=1)
        assert [row[0] for row in out] == pids
        assert (out == out[:, :1]).all()

    def test_arrays_that_are_made_while_others_go_are_shared(self, workers: Pool) -> None:
        """Threads may make and drop them at the same moment."""
        over = threading.Event()

        def make_and_drop() -> None:
            while not over.is_set():
                workers.empty_shared(8, "int64")

        thread = threading.Thread(target=make_and_drop)
        thread.start()
        try:
            arrays = [workers.empty_shared(8, "int64") for _ in range(1_000)]
        finally:
            over.set()
            thread.join()
        workers.map(cargo.spoil, arrays)
        assert sum(int(array[0]) != -1 for array in arrays) == 0

    @pytest.mark.parametrize(
        "part",
        [
            lambda out: out[:, 3],
            lambda out: out[::2, 1::3],
            lambda out: out.T[4:7],
            lambda out: out[::-1, ::-2],
            lambda out: out[5:6, 7:8],
            lambda out: out.reshape(-1)[100:200],
            lambda out: out["f0"] if out.dtype.names else out[1],
        ],
        ids=["column", "steps", "transposed", "backwards", "one", "flat", "row"],
    )
    def test_any_view_travels_by_reference(self, workers: Pool, part: Any) -> None:
        """Also those that numpy itself would pickle as a copy, whose writes would be lost."""
        out = workers.empty_shared((20, 50), "int64")
        expected = np.zeros((20, 50), "int64")
        (pid,) = workers.map(cargo.fill, [part(out)])
        part(expected)[...] = pid
        assert (out == expected).all()

    @pytest.mark.parametrize("protect", [lambda out: np.broadcast_to(out[:1], (3, 50), subok=True), protected])
    def test_a_view_that_may_only_be_read_stays_so(self, pool: Pool, protect: Any) -> None:
        out = pool.empty_shared((20, 50), "int64")
        with pytest.raises(ValueError, match="read-only"):
            pool.map(cargo.fill, [protect(out)])
        assert not out.any()
        pool.map(cargo.fill, [out[3]])
        assert out[3].all()

    def test_its_memory_goes_after_a_map_that_failed(self, workers: Pool) -> None:
        """Of which a worker had parts that it did not begin with."""
        out = workers.empty_shared((64, 1 << 14), "int64")
        with pytest.raises(ValueError, match="in sequence"):
            workers.map(cargo.fill_none, list(out), chunk=1)
        del out
        assert shared_bytes(workers, 0) == 0

    def test_what_is_computed_from_it_is_ordinary(self, workers: Pool) -> None:
        out = workers.empty_shared(100)
        assert type(out + 1) is np.ndarray
        assert (pickle.loads(pickle.dumps(out)) == out).all()
        (result,) = workers.map(cargo.same, [out])
        assert type(result) is np.ndarray

    @pytest.mark.parametrize(("shape", "dtype"), [(-1, float), ("x", float), (3, object), (3, "nonsense")])
    def test_shapes_and_types_that_make_no_sense(self, workers: Pool, shape: Any, dtype: Any) -> None:
        with pytest.raises(UsageError, match="empty_shared"):
            workers.empty_shared(shape, dtype)


class TestWords:
    def test_counting_is_exact(self, pool: Pool) -> None:
        counter = pool.counter(5)
        pool.map(cargo.bump, [counter] * 40, chunk=1)
        assert counter.value == 4_005
        assert counter.add(-5) == 4_000
        counter.set(-(1 << 63))
        assert counter.value == -(1 << 63)

    def test_a_lock_dies_with_its_holder(self, workers: Pool) -> None:
        """A worker that is killed in the middle of a change stops nobody."""
        counter = workers.counter()
        (outcome,) = workers.outcomes(cargo.die_with_the_lock, [counter])
        assert outcome.kind is Kind.WORKER_LOST
        workers.map(cargo.bump, [counter] * 4, chunk=1)
        assert counter.value == 400

    def test_one_caller_alone_raises_a_flag(self, pool: Pool) -> None:
        flag = pool.flag()
        assert not flag.is_set()
        assert sum(pool.map(lambda _: flag.set(), range(20), chunk=1)) == 1
        assert flag.is_set()
        flag.clear()
        assert pool.map(lambda _: flag.is_set(), range(3)) == [False] * 3

    def test_they_belong_to_their_pool(self, workers: Pool) -> None:
        counter = workers.counter()
        with pytest.raises(NotSupported, match="belongs to its pool"):
            pickle.dumps(counter)
        with Pool(1) as other, pytest.raises(NotPicklable):
            other.map(cargo.bump, [counter])
        (outcome,) = workers.outcomes(cargo.same, [counter])
        assert not outcome.ok
        assert os.getpid()
