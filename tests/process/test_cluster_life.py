"""What a pool on a cluster outlives, and what it says before it begins: nodes of this very process."""

from __future__ import annotations

import os
import pickle
import re
import sys
import threading
import types
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.process import nodes_here
from tests.process.nodes_here import NodesHere
from tests.process.waiting import PATIENCE_S, Bell, Gate, Watcher, ring, wait_at, wait_until

import allcores
from allcores import BrokenPool, Kind, NotPicklable, Pool, SetupError, TaskCancelled, TaskTimeout, WorkerLost
from allcores.adapters.cluster import backend, doubtful, link, node, node_table, node_work, opening, scheduler_watch
from allcores.adapters.cluster import node as node_side
from allcores.adapters.cluster.base import Done, SchedulerLost
from allcores.adapters.cluster.messages import Opening, Request
from allcores.backends import open as opener
from allcores.events import WorkerEnded
from allcores.outcome import Failure
from allcores.pool.pool import driver_of, end_workers
from allcores.scheduler import exit_settlement
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.messages import Results
from allcores.system.clock import monotonic_ns
from allcores.transport import pickling
from allcores.transport.exceptions import add_note
from allcores.transport.surroundings import Surroundings


@pytest.fixture(autouse=True)
def nodes_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    # The pool of a node that was given up ends when it hears nothing.
    monkeypatch.setattr(node, "LEASE_S", 6.0)


def double(number: int) -> int:
    return 2 * number


def add(one: int, other: int) -> int:
    return one + other


def test_a_function_that_nobody_has_any_more_is_let_go_of() -> None:
    """Here and on the node: with what it holds, of a program that makes one for each map."""
    cluster = NodesHere("a", lambda name, number: False)
    with Pool(backend="dask", address=cluster) as pool:
        for more in range(5):
            assert pool.map(partial(add, more), [1]) == [1 + more]
        assert pool.map(double, [1]) == [2]
        # What is to be forgotten travels with the next message.
        assert pool.map(double, [2]) == [4]
        (here,) = node._nodes.values()
        assert here._work is not None
        assert len(here._work._functions) <= 2
    cluster.join()


def test_warning_filters_may_name_what_only_the_program_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node passes them on by their names, as the program does to its own workers; what is no filter stays here."""
    module = types.ModuleType("allcores_not_on_nodes")
    own = type("Own", (UserWarning,), {"__module__": module.__name__})
    monkeypatch.setattr(module, "Own", own, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    pattern = re.compile("of the program")
    filters: list[Any] = [
        ("ignore", None, own, None, 0),
        ("error", pattern, UserWarning, None, 7),
        "nothing of the kind",
    ]
    packed = link.packed_around(Surroundings("", {}, [], None, None, filters))
    monkeypatch.delitem(sys.modules, module.__name__)
    work = node_work.Work.__new__(node_work.Work)
    work._around, work._last_around = threading.local(), None
    work._set_around(packed)
    changes = pickle.loads(work._current().changes_since(Surroundings("", {}, [], None, None, None)))
    assert changes["filters"] == (
        True,
        [
            ("ignore", None, "allcores_not_on_nodes", "Own", None, 0),
            ("error", "of the program", "builtins", "UserWarning", None, 7),
        ],
    )


def test_a_node_ends_as_a_chunk_begins_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread is just about to start: it is not waited for, and nothing is raised."""
    cluster = NodesHere("a", lambda name, number: False)
    works: list[node_work.Work] = []
    begin, start, met = node_work.Work.begin, threading.Thread.start, threading.Event()

    def noted(self: node_work.Work, chunk: Any) -> None:
        works.append(self)
        begin(self, chunk)

    def joined(self: threading.Thread) -> None:
        if self.name == "allcores-chunk":
            works[-1].join()
            met.set()
        start(self)

    monkeypatch.setattr(node_work.Work, "begin", noted)
    monkeypatch.setattr(threading.Thread, "start", joined)
    with Pool(backend="dask", address=cluster) as pool:
        assert pool.map(double, range(3)) == [0, 2, 4]
    assert met.is_set()
    cluster.join()


@pytest.mark.parametrize("option", ["setup", "preload"])
def test_what_workers_begin_with_has_to_pickle(option: str) -> None:
    """It is said where the pool is made, as with processes, and the connection is closed."""
    cluster = NodesHere("a", lambda name, number: False)
    options: Any = {option: double, f"{option}_args": (threading.Lock(),)}
    with pytest.raises(NotPicklable, match=rf"\['{option}_args'\]\[0\]"):
        Pool(backend="dask", address=cluster, **options)
    assert cluster.is_closed


def test_what_cannot_be_pickled_any_more_for_a_node_that_comes_later_is_said() -> None:
    held: list[Any] = []
    cluster = NodesHere("a", lambda name, number: False)
    with Pool(2, backend="dask", address=cluster, setup=length_of_first, setup_args=(held,)) as pool:
        assert pool.map(with_number, [1]) == [1]
        held.append(threading.Lock())
        cluster.names = "ab"
        with pytest.raises(SetupError, match="cannot be pickled"):
            wait_until(lambda: pool.map(with_number, [1]) != [1])
    cluster.join()


def length_of_first(held: list[Any]) -> int:
    return len(held)


def with_number(state: int, number: int) -> int:
    return number


class Unreachable(NodesHere):
    """Its scheduler is gone when it is first asked."""

    def nodes(self) -> dict[str, int]:
        raise SchedulerLost("its scheduler does not answer")


def test_a_cluster_that_is_gone_when_a_pool_is_made_is_said() -> None:
    """In the words for one that is lost later, and the connection is closed."""
    cluster = Unreachable("a", lambda name, number: False)
    with pytest.raises(BrokenPool, match=r"^The test cluster at here is lost: its scheduler does not answer\."):
        Pool(backend="dask", address=cluster)
    assert cluster.is_closed


class Slow(NodesHere):
    """Says which nodes it has when it may."""

    def __init__(self, names: str) -> None:
        self.may, self.is_asked = threading.Event(), threading.Event()
        self.may.set()
        super().__init__(names, lambda name, number: False)

    def nodes(self) -> dict[str, int]:
        if not self.may.is_set():
            self.is_asked.set()
            assert self.may.wait(PATIENCE_S)
        return super().nodes()


def ring_and_wait(bell: str, gate: str) -> None:
    ring(bell)
    wait_at(gate)


def test_a_program_that_did_not_run_for_a_while_takes_no_cluster_for_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was stopped (Ctrl-Z), or a thread kept the interpreter to itself: the clock went on, and nobody was heard."""
    ahead = [0]
    for each in (backend, node_table, scheduler_watch):
        monkeypatch.setattr(each, "monotonic_ns", lambda: monotonic_ns() + ahead[0])
    cluster = Slow("a")
    cluster.cores = 2
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Pool(backend="dask", address=cluster) as pool,
    ):
        waits = pool.submit(ring_and_wait, bell.path, gate.path)
        bell.hear()
        cluster.may.clear()
        assert cluster.is_asked.wait(PATIENCE_S)
        ahead[0] = 600_000_000_000
        assert pool.submit(double, 2).result(PATIENCE_S) == 4
        cluster.may.set()
        gate.open()
        assert waits.result(PATIENCE_S) is None
    assert cluster.dropped == []
    cluster.join()


class FailingOnce(NodesHere):
    """Of one node. A request fails as the process that carries it ends, and with it goes what the node had."""

    def __init__(self, fails: int, by_error: bool) -> None:
        super().__init__("a", lambda name, number: False)
        self._fails, self._by_error = fails, by_error

    def _carry(self, node: str, number: int, data: bytes, done: Done) -> None:
        if number != self._fails:
            super()._carry(node, number, data, done)
            return
        for key in list(node_side._nodes):
            node_side._end(key)
        if self._by_error:
            done(None, RuntimeError("its process ended"))
        else:
            super()._carry(node, number, data, done)


@pytest.mark.parametrize("by_error", [True, False])
def test_a_node_that_was_lost_and_that_the_cluster_still_has_begins_anew(
    by_error: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ended, and there is another; or it heard nothing for long, for the program was stopped."""
    monkeypatch.setattr(node_table, "NO_NODE_NS", 10_000_000_000)
    cluster = FailingOnce(3, by_error)
    with Pool(backend="dask", address=cluster) as pool:
        for _ in range(4):
            assert pool.map(double, range(30)) == [2 * number for number in range(30)]
    assert cluster.dropped == ["a"]
    cluster.join()


def test_a_node_that_was_asked_nothing_for_long_is_no_fault_of_what_it_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time it has ended its pool: it begins anew, however often, and what it held may go on as before."""
    monkeypatch.setattr(link, "LEASE_S", 0.0)
    monkeypatch.setattr(node_table, "NO_NODE_NS", 10_000_000_000)
    monkeypatch.setattr(exit_settlement, "MAX_NODES_LOST", 0)
    doubted: list[link.Link] = []
    monkeypatch.setattr(link.Link, "doubt", doubted.append)
    cluster = FailingOnce(3, False)
    with Pool(backend="dask", address=cluster) as pool:
        for _ in range(4):
            assert pool.map(double, range(30), chunk=1) == [2 * number for number in range(30)]
    assert cluster.dropped == ["a"]
    assert doubted == []
    cluster.join()


class FailingAlways(NodesHere):
    """Gets ready, and does nothing else."""

    def _carry(self, node: str, number: int, data: bytes, done: Done) -> None:
        request: Request = pickle.loads(data)
        if request.chunks:
            done(None, RuntimeError("it has no room"))
        else:
            super()._carry(node, number, data, done)


def test_a_node_that_does_nothing_but_fail_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_table, "NO_NODE_NS", 1)
    monkeypatch.setattr(scheduler_watch, "LOOK_SOON_S", 0.01)
    cluster = FailingAlways("a", lambda name, number: False)
    with Pool(backend="dask", address=cluster) as pool, pytest.raises(BrokenPool, match="it has no room"):
        pool.map(double, range(3))
    cluster.join()


class BreaksOne(NodesHere):
    """Two nodes; with the third request to the first its pool has broken: no more processes can be started there."""

    def __init__(self, error: Exception) -> None:
        super().__init__("ab", lambda name, number: False)
        self._error = error

    def _carry(self, node: str, number: int, data: bytes, done: Done) -> None:
        if (node, number) == ("a", 3):
            key = pickle.loads(data).key
            driver = driver_of(node_side._nodes[key]._pool)  # type: ignore[arg-type]
            driver.turn(lambda scheduler, now: scheduler.break_off(self._error))
        super()._carry(node, number, data, done)


def test_a_node_whose_pool_breaks_is_lost_and_its_items_are_not() -> None:
    """It would be idle at once each time, and have all of them."""
    cluster = BreaksOne(BrokenPool("no more processes"))
    with Pool(backend="dask", address=cluster) as pool:

        def is_over() -> bool:
            assert pool.map(double, range(30), chunk=3) == [2 * number for number in range(30)]
            return bool(cluster.dropped)

        wait_until(is_over)
        assert [pool.submit(double, number).result() for number in range(5)] == [0, 2, 4, 6, 8]
    assert set(cluster.dropped) == {"a"}
    cluster.join()


def test_a_setup_that_fails_later_on_a_node_is_the_error_of_the_pool() -> None:
    """As with processes; it is no outcome of an item."""
    cluster = BreaksOne(SetupError("The setup function raised OSError: no file any more"))
    with Pool(backend="dask", address=cluster) as pool, pytest.raises(SetupError, match="no file any more"):
        wait_until(lambda: not all(each.ok for each in pool.outcomes(double, range(30), chunk=3)))
    cluster.join()


class OnceOnly:
    """Can be pickled once, and never read."""

    pickled = 0

    def __getstate__(self) -> dict[str, int]:
        type(self).pickled += 1
        if type(self).pickled > 1:
            raise TypeError("once only")
        return {"number": 1}

    def __setstate__(self, state: dict[str, int]) -> None:
        raise ValueError("it cannot be read")


def text_of(item: object) -> str:
    return type(item).__name__


def test_an_item_that_cannot_be_pickled_again_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that cannot be read together are sent one by one, for which each is pickled anew."""
    monkeypatch.setattr(OnceOnly, "pickled", 0)
    cluster = NodesHere("a", lambda name, number: False)
    with Pool(backend="dask", address=cluster) as pool:
        found = list(pool.outcomes(text_of, [1, OnceOnly(), 2], chunk=3))
        assert [(each.value, str(each.error)) for each in found if each.ok] == [("int", "None")] * 2
        assert [str(each.error) for each in found if not each.ok] == ["once only"]
        assert pool.map(double, [4]) == [8]
    cluster.join()


class Restarting(NodesHere):
    """Each look finds another node in place of the one before, which ended when it was asked for its pool."""

    looks = 0

    def nodes(self) -> dict[str, int]:
        self.looks += 1
        return {f"a{self.looks}": 1}

    def _carry(self, node: str, number: int, data: bytes, done: Done) -> None:
        """Its process has ended: nobody answers."""


def test_nodes_that_end_over_what_workers_begin_with_do_not_do_so_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of Dask that are started anew: to read the setup function may be what ends them."""
    monkeypatch.setattr(scheduler_watch, "LOOK_S", 0.02)
    monkeypatch.setattr(scheduler_watch, "LOOK_SOON_S", 0.02)
    cluster = Restarting("", lambda name, number: False)
    with Pool(1, backend="dask", address=cluster) as pool, pytest.raises(BrokenPool, match="before they were ready"):
        pool.map(double, range(3))
    cluster.join()


class EndsItsReader:
    """To read it ends the process, as a library that crashes does."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__dict__.update(state)
        if self.number == 5:
            os._exit(7)

    def __call__(self, number: int) -> int:
        return self.number + number


def number_of(item: EndsItsReader) -> int:
    return item.number


@pytest.mark.parametrize("chunk", [1, 4])
def test_an_item_that_ends_who_reads_it_costs_itself_alone(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """What a node was lost with is read by one of its workers first. (The node is this very process.)"""
    monkeypatch.setattr(link, "is_doubtful", lambda chunk: True)
    cluster = NodesHere("a", lambda name, number: False)
    with Pool(backend="dask", address=cluster) as pool:
        found = list(pool.outcomes(number_of, [EndsItsReader(number) for number in range(8)], chunk=chunk))
        call = pool.submit(number_of, EndsItsReader(5))
        with pytest.raises(WorkerLost, match="exit code 7"):
            call.result(PATIENCE_S)
        (last,) = pool.outcomes(EndsItsReader(5), [1])
    assert [each.index for each in found if not each.ok] == [5]
    assert [each.value for each in found if each.ok] == [0, 1, 2, 3, 4, 6, 7]
    for lost in (found[5], last):
        assert lost.kind is Kind.WORKER_LOST
        assert isinstance(lost.error, WorkerLost) and lost.error.exitcode == 7
    assert str(found[5].error).startswith("Unpickling items[5] (") and "exit code 7" in str(found[5].error)
    assert str(last.error).startswith("Unpickling the function for items[0] (1) ")
    cluster.join()


class RaisesToItsReader:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __setstate__(self, state: dict[str, BaseException]) -> None:
        raise state["error"]


def seven() -> int:
    return 7


def no_contents(number: int) -> memoryview:
    raise AssertionError(f"nothing is shared: {number}")


@pytest.mark.parametrize("options", [{}, {"setup": seven}, {"preload": seven}], ids=["none", "setup", "preload"])
def test_a_worker_of_any_node_reads_first_what_ends_its_reader(options: dict[str, Any]) -> None:
    """Also where calls get what setup or preload returned; what the unpickling merely raises, the node is to meet."""
    with Pool(1, **options) as pool:
        reader = doubtful.Reader(pool, no_contents)
        ended = reader.end(pickle.dumps([EndsItsReader(5)]), PATIENCE_S)
        assert isinstance(ended, WorkerLost) and ended.exitcode == 7
        for harmless in (EndsItsReader(4), RaisesToItsReader(SystemExit(3)), RaisesToItsReader(TypeError("no"))):
            assert reader.end(pickle.dumps(harmless), PATIENCE_S) is None


class CountsItsReaders:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, Path]) -> None:
        with state["path"].open("ab") as file:
            file.write(b".")


def test_what_has_ended_no_worker_is_not_read_there_again(tmp_path: Path) -> None:
    """Each part of a chunk that was cut comes with all of its items. What has ended a worker is told each time."""
    data, bad = pickle.dumps(CountsItsReaders(tmp_path / "read")), pickle.dumps(EndsItsReader(5))
    with Pool(1) as pool:
        reader = doubtful.Reader(pool, no_contents)
        assert [reader.end(data, None) for _ in range(3)] == [None, None, None]
        assert all(isinstance(reader.end(bad, None), WorkerLost) for _ in range(2))
        for number in range(doubtful.MOST_HARMLESS):
            reader.end(pickle.dumps(number), None)
        reader.end(data, None)
    assert (tmp_path / "read").read_bytes() == b".."


def takes_nothing() -> None:
    """Stands for a reader that is not called as it should be."""


def test_a_reader_that_does_not_read_is_no_leave_for_the_node_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nodes would end one after the other, and nobody would see that nothing was read before."""
    monkeypatch.setattr(doubtful, "read", takes_nothing)
    with Pool(1) as pool, pytest.raises(TypeError, match="takes_nothing"):
        doubtful.Reader(pool, no_contents).end(pickle.dumps([1]), PATIENCE_S)


def add_seven(held: int, number: int) -> int:
    return held + number


def add_in_a_map(held: int, number: int) -> list[int]:
    return [held, *allcores.map(add_seven, [number])]


def test_the_modules_functions_work_on_a_cluster_and_in_its_tasks() -> None:
    """What `setup` returned is given to both."""
    module: Any = allcores
    cluster = NodesHere("a", lambda name, number: False)
    allcores.configure(backend="dask", address=cluster, setup=seven)
    try:
        assert module.map(add_in_a_map, [1, 2]) == [[7, 8], [7, 9]]
    finally:
        allcores.configure()
    cluster.join()


def test_an_address_in_the_name_of_the_backend_is_taken_for_the_module_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    cluster = NodesHere("a", lambda name, number: False)

    def given(address: str) -> NodesHere:
        asked.append(address)
        return cluster

    monkeypatch.setattr(nodes_here, "given", given)
    allcores.configure(backend="dask://10.0.0.1:8786")
    try:
        assert allcores.map(double, [1, 2]) == [2, 4]
    finally:
        allcores.configure()
    cluster.join()
    assert asked == ["10.0.0.1:8786"]


def test_what_was_with_a_node_that_was_lost_is_doubtful_and_so_is_its_function() -> None:
    """Until something of the function has come back."""
    function = Function(1, None, b"", "one", "function")
    chunk = Chunk(MapState(1, chunker=Chunker()), function, 0, [1, 2])
    assert not link.is_doubtful(chunk)
    assert link.is_doubtful(chunk.part(0, 1, requeues=1))
    function.doubtful = True
    assert link.is_doubtful(chunk)


def noted(error: BaseException, note: str) -> BaseException:
    add_note(error, note)
    return error


@pytest.mark.parametrize(
    ("failure", "stays"),
    [
        (None, False),
        (Failure(0, Kind.FAILED, ValueError("no")), False),
        (Failure(0, Kind.TIMED_OUT, TaskTimeout("no", timeout=1.0)), False),
        (Failure(0, Kind.WORKER_LOST, WorkerLost("no")), False),
        (Failure(0, Kind.FAILED, noted(TypeError("no"), pickling.RESULT_UNWRITTEN)), False),
        (Failure(0, Kind.WORKER_LOST, noted(WorkerLost("no"), pickling.ITEM_UNREAD)), True),
        (Failure(0, Kind.WORKER_LOST, noted(WorkerLost("no"), pickling.FUNCTION_UNREAD)), True),
        (Failure(0, Kind.FAILED, ValueError("no"), unpickling=True), True),
        (Failure(0, Kind.CANCELLED, TaskCancelled("no")), True),
    ],
    ids=lambda value: getattr(getattr(value, "kind", None), "value", str(value)),
)
def test_a_function_that_was_called_is_doubtful_no_more(failure: Failure | None, stays: bool) -> None:
    """Also where all its items fail: each of its chunks would be read twice until the end of the map."""
    function = Function(1, None, b"", "one", "function")
    chunk = Chunk(MapState(1, chunker=Chunker()), function, 0, [1])
    function.doubtful = True
    lost = link.Link(1, "a", "k", Opening(b"", 1, "", ""))
    lost.worked(chunk, Results(1, 0, 0, 1, 0, failures=None if failure is None else [failure]))
    assert function.doubtful is stays


def test_other_versions_on_a_node_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the two pickle for each other is that of one version."""
    monkeypatch.setattr(opening, "versions", lambda: ("0.1", "3.9"))
    cluster = NodesHere("a", lambda name, number: False)
    words = r"has allcores .* on Python .*, and this program allcores 0\.1 on Python 3\.9: both need the same"
    with Pool(backend="dask", address=cluster) as pool, pytest.raises(SetupError, match=words):
        pool.map(double, range(3))
    cluster.join()


class EndsWorkers:
    """As it is pickled for a node, all workers are told to end, as another thread may do it in that moment."""

    pool: Pool | None = None

    def __reduce__(self) -> Any:
        if EndsWorkers.pool is not None:
            end_workers(EndsWorkers.pool, "a test", at_once=True)
        return EndsWorkers, ()


def test_a_worker_that_is_told_to_end_as_it_gets_a_node_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a node would begin with a pool that nobody wants."""
    cluster, watcher = NodesHere("", lambda name, number: False), Watcher()
    options: Any = {"setup": length_of_first, "setup_args": ([EndsWorkers()],), "observers": [watcher]}
    with Pool(1, backend="dask", address=cluster, **options) as pool:
        monkeypatch.setattr(EndsWorkers, "pool", pool)
        cluster.names = "a"
        watcher.wait_for(WorkerEnded)
        monkeypatch.setattr(EndsWorkers, "pool", None)
    assert cluster.sent("a") == 0
    cluster.join()


count = 0


def counted(number: int) -> int:
    global count
    count += 1
    return number


@pytest.mark.parametrize("calls", [False, True], ids=["a map", "calls"])
def test_what_a_function_changes_in_vain_on_a_node_is_said_in_the_program(calls: bool) -> None:
    """Once, as with processes; on the node it would be read by nobody, or be the error of an item there."""
    cluster = NodesHere("a", lambda name, number: False)
    with Pool(backend="dask", address=cluster) as pool:
        with pytest.warns(allcores.LostChangeWarning, match="^counted has changed 'count' in a worker process") as told:
            if calls:
                assert [pool.submit(counted, number).result(PATIENCE_S) for number in range(20)] == list(range(20))
            else:
                assert [each.value for each in pool.outcomes(counted, range(20))] == list(range(20))
        # Where the program reads results: the node is this very process here.
        assert [each.filename for each in told] == [__file__]
        assert pool.map(counted, range(20)) == list(range(20))
    cluster.join()
