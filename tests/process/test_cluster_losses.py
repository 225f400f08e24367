"""What a pool on a cluster does when nodes are there, and silent."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from tests.process.nodes_here import NodesHere
from tests.process.waiting import PATIENCE_S, Bell, Gate, Watcher, ring, wait_at, wait_full_strength, wait_until

from allcores import BrokenPool, Limits, Pool, SetupError, UsageError
from allcores.adapters.cluster import backend, node, node_table, opening, scheduler_watch, silence
from allcores.adapters.cluster.base import Done, SchedulerSilent
from allcores.adapters.cluster.link import Link
from allcores.adapters.cluster.messages import Opening, Reply, Request, Revocation
from allcores.adapters.cluster.node_changes import NodeChanges
from allcores.adapters.cluster.packing import unpack
from allcores.backends import open as opener
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import Chunk, MapState


@pytest.fixture(autouse=True)
def nodes_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opener.CLUSTERS, "dask", ("tests.process.nodes_here", "given", "json", "dask"))
    monkeypatch.setattr(node_table, "ANSWER_NS", 3_000_000_000)
    # The pool of a node that was given up ends when it hears nothing.
    monkeypatch.setattr(node, "LEASE_S", 6.0)


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("first_lost", [1, 2, 3])
def test_a_node_that_does_not_answer_is_given_up(first_lost: int) -> None:
    """Also if the cluster still has it: what it held goes to the other."""
    cluster = NodesHere("ab", lambda name, number: name == "a" and number >= first_lost)
    with Pool(backend="dask", address=cluster) as pool:
        assert pool.map(double, range(300)) == [2 * number for number in range(300)]
        assert pool.submit(double, 4).result() == 8
        if first_lost < 3:  # else it may not have been asked so often
            # Perhaps after the other one: a node that is not asked for as long as is usual ends by itself here.
            wait_until(lambda: "a" in cluster.dropped)
    cluster.join()


class LateNodes(NodesHere):
    """The node `b` answers nothing before it may."""

    def __init__(self) -> None:
        super().__init__("ab", lambda name, number: False)
        self.may = threading.Event()

    def delay(self, node: str) -> str | None:
        return self.why if node == "b" else None

    def _carry(self, node: str, number: int, data: bytes, done: Done) -> None:
        assert node != "b" or self.may.wait(60)
        super()._carry(node, number, data, done)


def test_why_a_node_does_not_begin_is_told_while_the_pool_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and the other nodes work meanwhile; it is used when it begins."""
    monkeypatch.setattr(node_table, "DELAY_NS", 1)
    monkeypatch.setattr(node_table, "ANSWER_NS", 180_000_000_000)
    cluster = LateNodes()
    cluster.why = "others have all that it has"
    with pytest.warns(RuntimeWarning) as told, Pool(backend="dask", address=cluster) as pool:
        wait_until(lambda: len(told) > 0)
        assert pool.map(double, range(50)) == [2 * number for number in range(50)]
        cluster.may.set()
        wait_until(lambda: pool.statistics().workers == 2)
    assert [str(each.message) for each in told] == [
        "Node b of the test cluster at here has not begun with this pool: others have all that it has. The pool waits "
        "for it, 180 s at most."
    ]
    # That a pool ends is nothing that its user has to hear of.
    assert not caplog.records
    cluster.join()


def test_why_a_node_did_not_begin_is_told_when_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_table, "DELAY_NS", 1)
    monkeypatch.setattr(node_table, "NO_NODE_NS", 1)
    cluster = LateNodes()
    cluster.names, cluster.why = "b", "others have all that it has"
    with pytest.warns(RuntimeWarning), Pool(backend="dask", address=cluster) as pool:
        reason = (
            r"see why it does not come \(the last was lost: it has not answered for 3 s: others have all that it has\)"
        )
        with pytest.raises(BrokenPool, match=reason):
            pool.map(double, range(3))
    cluster.may.set()
    cluster.join()


def wait_at_gate(path: str) -> int:
    """Which worker waited."""
    Path(f"{path}-{os.getpid()}").touch()
    wait_at(path)
    return os.getpid()


def test_a_node_that_comes_late_has_its_part_of_the_calls_that_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also of those that the other one's worker, which is its only one, has before it."""
    monkeypatch.setattr(node_table, "ANSWER_NS", 180_000_000_000)
    cluster = LateNodes()
    with Gate(tmp_path / "gate") as gate, Pool(backend="dask", address=cluster) as pool:
        assert pool.map(double, [1]) == [2]
        calls = [pool.submit(wait_at_gate, gate.path) for _ in range(4)]
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        cluster.may.set()
        wait_until(lambda: len(list(tmp_path.iterdir())) == 3)
        gate.open()
        assert len({call.result() for call in calls}) == 2
    cluster.join()


class Told:
    """Stands for a node's pool and what works on it: tells in which order things are done, the first when it may."""

    holds = 0

    def __init__(self) -> None:
        self.done: list[str] = []
        self.changes = NodeChanges()
        self.may = threading.Event()
        self.is_asked = threading.Event()

    def share(self, contents: bytes) -> bytes:
        self.is_asked.set()
        assert self.may.wait(PATIENCE_S)
        self.done.append("share")
        return contents

    def begin(self, chunk: str) -> None:
        self.done.append(chunk)

    def close(self) -> None:
        self.may.set()

    def join(self) -> None:
        pass


def request_of(serial: int, **what: Any) -> Request:
    return Request("k", serial, None, [], [], [], [], [], [], False, False)._replace(**what)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> tuple[node.Node, Told]:
    told: Any = Told()
    monkeypatch.setattr(node.Node, "_open", lambda self, opening: None)
    found = node.Node("k", Opening(b"", 1, "", ""))
    found._pool, found._work = told, told
    return found, told


def test_requests_are_carried_out_one_after_the_other(opened: tuple[node.Node, Told]) -> None:
    """However late the first one ends: the second may need the function or the contents that came with it."""
    here, told = opened
    chunks: Any = ["chunk"]
    first = threading.Thread(target=here.exchange, args=(request_of(1, blobs=[(1, b"data")]),))
    second = threading.Thread(target=here.exchange, args=(request_of(2, chunks=chunks),))
    first.start()
    assert told.is_asked.wait(PATIENCE_S)
    second.start()
    wait_until(lambda: here._changed._waiters)  # type: ignore[attr-defined]
    assert told.done == []
    told.may.set()
    first.join()
    second.join()
    assert told.done == ["share", "chunk"]


def test_a_request_whose_forerunner_is_missing_is_not_carried_out(
    opened: tuple[node.Node, Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer says that the node cannot go on, so that its work goes elsewhere; an end needs no forerunner."""
    here, told = opened
    chunks: Any = ["chunk"]
    monkeypatch.setattr(node, "ORDER_S", 0.0)
    assert here.exchange(request_of(2, chunks=chunks)).serial == 0
    assert told.done == []
    assert here.exchange(request_of(3, ends=True)).serial == 1


def test_the_first_request_travels_alone() -> None:
    """It makes the pool there: one that overtook it would find none, and its node would be given up."""
    link = Link(1, "a", "k", Opening(b"", 1, "", ""))
    first = pickle.loads(link.request(1, bytes, keep=True) or b"")
    assert first.opening is not None
    link.revoked.append(Revocation(7, False, False))
    assert link.request(2, bytes) is None
    link.replied(1, Reply(1, True, None, 1, 0, []), 3)
    assert pickle.loads(link.request(4, bytes) or b"").serial == 2
    link.revoked.append(Revocation(8, False, False))
    assert pickle.loads(link.request(5, bytes) or b"").serial == 3


def test_what_is_not_packed_yet_waits_for_the_next_request() -> None:
    """Another thread has just put it there: the one that sends has packed what was there before."""
    link = Link(1, "a", "k", Opening(b"", 1, "", ""))
    function = Function(1, None, b"", "one", "function")
    chunks = [Chunk(MapState(1, chunker=Chunker()), function, number, [number], payload=b"p") for number in range(2)]
    chunks[1].payload = None
    link.chunks.extend(chunks)
    assert len(pickle.loads(link.request(1, bytes) or b"").chunks) == 1
    chunks[1].payload = b"p"
    link.replied(1, Reply(1, True, None, 1, 0, []), 2)
    assert len(pickle.loads(link.request(3, bytes) or b"").chunks) == 1


def test_a_pool_that_cannot_be_made_in_time_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program would wait for ever, and what came with its requests would be lost without a word."""
    monkeypatch.setattr(opening, "OPEN_MORE_S", 0.0)
    monkeypatch.setattr(node.Node, "_open", lambda self, opening: None)
    cluster = NodesHere("a", lambda name, number: False)
    words = r"within 0\.01 s: its machine is too busy, or the modules .* Limits\(setup_s=\.\.\.\) allows more"
    with Pool(backend="dask", address=cluster, limits=Limits(setup_s=0.01)) as pool:
        with pytest.raises(SetupError, match=words):
            pool.map(double, range(3))
    cluster.join()


def test_a_node_may_import_for_long_before_it_makes_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of a setup function, from a cold file system; it is asked again and again meanwhile."""
    may = threading.Event()

    def slow(*given: Any) -> Any:
        assert may.wait(PATIENCE_S)
        return unpack(*given)

    monkeypatch.setattr(node, "unpack", slow)
    monkeypatch.setattr(node, "HOLD_S", 0.01)
    monkeypatch.setattr(node, "MOST_HOLD_S", 0.01)
    cluster = NodesHere("a", lambda name, number: False)
    with Pool(backend="dask", address=cluster) as pool:
        call = pool.submit(double, 4)
        wait_until(lambda: cluster.sent("a") > 3)
        may.set()
        assert call.result(PATIENCE_S) == 8
    cluster.join()


def test_what_comes_before_the_pool_is_carried_out_when_it_is_made(
    opened: tuple[node.Node, Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, and before what comes later."""
    here, told = opened
    monkeypatch.setattr(here, "_work", None)
    told.may.set()
    chunks: Any = [["first"], ["second"], ["third"]]
    for serial, blobs in ((1, [(1, b"data")]), (2, [])):
        assert not here.exchange(request_of(serial, blobs=blobs, chunks=chunks[serial - 1])).ready
    assert told.done == []
    work: Any = told
    here._begin(work, work)
    here.exchange(request_of(3, chunks=chunks[2]))
    assert told.done == ["share", "first", "second", "third"]


def test_a_node_that_the_cluster_has_again_is_used_again() -> None:
    """One that was silent for a moment, say: of a cluster with one node nothing would be left."""
    watcher = Watcher()
    cluster = NodesHere("a", lambda name, number: False)
    with Pool(backend="dask", address=cluster, observers=[watcher]) as pool:
        assert pool.map(double, range(30)) == [2 * number for number in range(30)]
        cluster.names = ""
        watcher.wait_until(lambda: pool.statistics().workers == 0)
        future = pool.submit(double, 4)
        cluster.names = "a"
        assert future.result(60) == 8
    cluster.join()


def test_an_answer_without_workers_is_asked_again_if_there_are_some() -> None:
    """Dask's client has one place for its own answer, which has none in it, and for ours."""
    dask_cluster = pytest.importorskip("allcores.adapters.dask_cluster")
    answers = [{"workers": {}, "n_workers": 1}, {"workers": {"tcp://a": {"nthreads": 3}}, "n_workers": 1}]
    client: Any = SimpleNamespace(status="running", scheduler_info=lambda n_workers: answers.pop(0))
    cluster = dask_cluster.DaskCluster.__new__(dask_cluster.DaskCluster)
    cluster._client, cluster._seen, cluster._looked_s = client, {}, 0.0
    assert cluster.nodes() == {"tcp://a": 3}
    answers.append({"workers": {}, "n_workers": 0})
    assert cluster.nodes() == {}


def quick_but_for_the_last(item: tuple[str, int]) -> int:
    gate, number = item
    if number == 7:
        wait_at(gate)
    until = monotonic() + 0.002  # results of less than a millisecond are kept until the end of what they are in
    while monotonic() < until:
        pass
    return number


def test_what_has_ended_before_a_long_item_of_the_same_message_is_told(tmp_path: Path) -> None:
    cluster = NodesHere("a", lambda name, number: False)
    with Gate(tmp_path / "gate") as gate, Pool(backend="dask", address=cluster) as pool:
        found = pool.imap(quick_but_for_the_last, [(gate.path, number) for number in range(8)], chunk=8)
        assert [next(found) for _ in range(7)] == list(range(7))
        gate.open()
        assert list(found) == [7]
    cluster.join()


def wait_for(item: tuple[str, str, int]) -> int:
    bell, gate, number = item
    if number % 8 == 0:
        ring(bell, number)
        wait_at(gate)
    return number


def test_a_node_gets_more_while_long_items_of_what_it_has_go_on(tmp_path: Path) -> None:
    """Or its other cores would wait: it holds two chunks, and each of them may be open for its longest item alone."""
    cluster = NodesHere("a", lambda name, number: False)
    cluster.cores = 5
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Pool(backend="dask", address=cluster) as pool,
    ):
        items = [(bell.path, gate.path, number) for number in range(32)]
        found: list[int] = []
        reader = threading.Thread(target=lambda: found.extend(pool.imap(wait_for, items, chunk=8)))
        reader.start()
        assert {word for _, word in bell.hear(4)} == {"0", "8", "16", "24"}
        gate.open()
        reader.join()
        assert found == list(range(32))
    cluster.join()


@pytest.mark.parametrize(("names", "each_s", "report_s"), [("ab", 0.01, 0.25), ("abcd", 0.5, 2.0)])
def test_the_more_nodes_the_less_often_they_report(
    monkeypatch: pytest.MonkeyPatch, names: str, each_s: float, report_s: float
) -> None:
    """Or their messages would be all that the program has time for."""
    opened: list[float] = []
    monkeypatch.setattr(node.Node, "_open", lambda self, opening: opened.append(opening.report_s))
    monkeypatch.setattr(node_table, "REPORT_EACH_S", each_s)
    cluster = NodesHere(names, lambda name, number: False)
    with Pool(backend="dask", address=cluster):
        wait_until(lambda: len(opened) == len(names))
    assert set(opened) == {report_s}
    cluster.join()


def length_of_first(held: list[bytes]) -> int:
    """The state of a worker: how much it was given when it began."""
    return len(held[0]) if held else 0


def with_length(state: int, item: tuple[bytes, str, str]) -> tuple[int, int]:
    """What a worker began with, and what it is given now; waits until both nodes have one of these."""
    shared, bell, gate = item
    ring(bell, state)
    wait_at(gate)
    return state, len(shared)


@pytest.mark.parametrize("option", ["setup", "preload"])
def test_what_is_shared_is_there_for_setup_on_a_node_that_comes_later(option: str, tmp_path: Path) -> None:
    """Its contents travel with the first message, and need not come again for what is mapped then."""
    held: list[bytes] = []
    cluster = NodesHere("a", lambda name, number: False)
    watcher = Watcher()
    options: Any = {option: length_of_first, f"{option}_args": (held,), "observers": [watcher]}
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        with Pool(2, backend="dask", address=cluster, **options) as pool:
            first = pool.submit(with_length, (b"", bell.path, gate.path))
            assert [word for _, word in bell.hear()] == ["0"]
            held.append(pool.share(bytes(100_000)))
            cluster.names = "ab"
            wait_full_strength(pool, watcher)
            second = [pool.submit(with_length, (held[0], bell.path, gate.path)) for _ in range(3)]
            assert [word for _, word in bell.hear()] == ["100000"]
            gate.open()
            assert first.result(PATIENCE_S) == (0, 0)
            assert {future.result(PATIENCE_S)[1] for future in second} == {100_000}
            held.clear()
    cluster.join()


def test_a_cluster_without_a_node_does_not_say_how_many_workers_there_are() -> None:
    """A pool of one worker would use one of those that come, and nobody would be told."""
    with pytest.raises(UsageError, match=r"The dask cluster has no node yet, .*: say workers=\.\.\., or wait until"):
        with Pool(backend="dask", address=NodesHere("", lambda name, number: False)) as pool:
            pool.map(double, range(3))


class Closed:
    """A client of Dask that was closed."""

    status = "closed"

    def __repr__(self) -> str:
        return "<Client>"


def test_a_client_that_is_closed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    dask_cluster = pytest.importorskip("allcores.adapters.dask_cluster")
    monkeypatch.setattr(dask_cluster, "distributed", SimpleNamespace(Client=Closed))
    with pytest.raises(UsageError, match="address=<Client> is closed: give a Client that is connected"):
        dask_cluster.DaskCluster(Closed())


def scheduler_of(
    dask_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, dict[str, dict[str, float]], list[float]]:
    """A connection to one with two workers, what it says of these, and the time."""
    now = [0.0]
    monkeypatch.setattr(dask_cluster, "monotonic", lambda: now[0])
    workers = {name: {"nthreads": 2, "last_seen": 1_000.0} for name in ("tcp://a", "tcp://b")}
    answer = {"workers": workers, "n_workers": 2}
    cluster = dask_cluster.DaskCluster.__new__(dask_cluster.DaskCluster)
    cluster._client, cluster._seen = SimpleNamespace(status="running", scheduler_info=lambda n_workers: answer), {}
    cluster._looked_s = 0.0
    return cluster, workers, now


def test_a_clock_that_differs_from_the_schedulers_loses_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a worker was heard of last, the scheduler says by its own clock: one that says nothing new is silent."""
    dask_cluster = pytest.importorskip("allcores.adapters.dask_cluster")
    cluster, workers, now = scheduler_of(dask_cluster, monkeypatch)
    for _ in range(int(dask_cluster.SILENT_S)):
        assert cluster.nodes() == {"tcp://a": 2, "tcp://b": 2}
        now[0] += 1.0
        workers["tcp://a"]["last_seen"] += 1.0
    assert cluster.nodes() == {"tcp://a": 2}
    assert cluster.silence("tcp://b").startswith("it has said nothing for 30 s: its process is stopped")
    assert cluster.silence("tcp://c") is None
    workers["tcp://b"]["last_seen"] += 0.1
    assert cluster.nodes() == {"tcp://a": 2, "tcp://b": 2}


def test_a_scheduler_that_answers_late_loses_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped, or this program was: what workers have said meanwhile it may not have read yet."""
    dask_cluster = pytest.importorskip("allcores.adapters.dask_cluster")
    cluster, _, now = scheduler_of(dask_cluster, monkeypatch)
    assert len(cluster.nodes()) == 2
    now[0] += 10 * dask_cluster.SILENT_S
    assert len(cluster.nodes()) == 2


class Unheard(NodesHere):
    """A cluster whose scheduler cannot be asked for nodes until it may, except for the first time."""

    def __init__(self, how: Exception | None) -> None:
        super().__init__("a", lambda name, number: False)
        self._how = how
        self.may = threading.Event()
        self.may.set()
        #: how often it could not be asked, and how often it was looked whether it is there
        self.failed = self.looked = 0
        self.process = True

    def nodes(self) -> dict[str, int]:
        while not self.may.is_set():
            self.failed += 1
            if self._how is not None:
                raise self._how
            assert self.may.wait(PATIENCE_S)
        return super().nodes()

    def is_there(self) -> bool:
        self.looked += 1
        return self.process


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "SILENT_NS", 200_000_000)
    monkeypatch.setattr(scheduler_watch, "LOOK_S", 0.05)
    monkeypatch.setattr(backend, "MIND_NS", 50_000_000)


def ring_then_wait(bell: str, gate: str) -> str:
    ring(bell)
    wait_at(gate)
    return "done"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", [SchedulerSilent("it is connecting"), OSError("a library's own"), None])
def test_a_scheduler_that_answers_again_ends_nothing(how: Exception | None, tmp_path: Path) -> None:
    """It was looked for several times meanwhile, and its process was there."""
    cluster = Unheard(how)
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Pool(backend="dask", address=cluster) as pool,
    ):
        future = pool.submit(ring_then_wait, bell.path, gate.path)
        bell.hear()
        cluster.may.clear()
        wait_until(lambda: cluster.looked >= 3 and cluster.failed >= (1 if how is None else 3))
        cluster.may.set()
        gate.open()
        assert future.result(PATIENCE_S) == "done"
        assert pool.map(double, range(20)) == [2 * number for number in range(20)]
    cluster.join()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("how", "told"),
    [
        (SchedulerSilent("its scheduler does not answer"), "is lost: its scheduler does not answer"),
        (None, "is lost: nothing listens at its address any more"),
    ],
)
def test_a_scheduler_whose_process_is_gone_ends_the_pool(how: Exception | None, told: str, tmp_path: Path) -> None:
    cluster = Unheard(how)
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        with Pool(backend="dask", address=cluster) as pool:
            future = pool.submit(ring_then_wait, bell.path, gate.path)
            bell.hear()
            cluster.process = False
            cluster.may.clear()
            with pytest.raises(BrokenPool, match=told):
                future.result(PATIENCE_S)
            cluster.may.set()
            gate.open()
    cluster.join()
