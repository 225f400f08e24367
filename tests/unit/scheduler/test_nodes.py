"""The scheduler, where workers are nodes of a cluster that have pools of their own."""

from __future__ import annotations

from tests.unit.scheduler.harness import Harness, take_all
from tests.unit.simulation import MILLI

from allcores.errors import BrokenPool, TaskCancelled
from allcores.outcome import Failure, Kind
from allcores.scheduler.exit_settlement import MAX_NODES_LOST
from allcores.scheduler.messages import Launch, Revoke, SetLimit
from allcores.scheduler.node_chunk_size import NodeChunker
from allcores.scheduler.work_stealing import NODE_NS
from allcores.scheduler.workers import MOST_FAILED_STARTS_LATER, MOST_KILLED_STARTS
from allcores.transport.positions import mark


def nodes(count: int, cores: int = 2) -> Harness:
    harness = Harness(count)
    harness.state.are_nodes(cores)
    return harness


def test_a_lost_node_charges_no_item() -> None:
    harness = nodes(1)
    map_state = harness.map_state()
    harness.add(map_state, 5)
    harness.add(map_state, 3)
    harness.results(1, 1, 0, 2, ended=False)
    harness.commands()
    harness.gone(1, unattributed=True, idle=True)
    assert take_all(map_state) == [(0, 2, [])]
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [(2, 3, 1), (5, 3, 1)]
    assert harness.commands() == [Launch(2)]
    harness.ready(2)
    assert harness.sent() == [(2, 2, 3, 1), (2, 5, 3, 1)]


def test_an_item_that_was_on_too_many_lost_nodes_is_given_up() -> None:
    """For it may be what ends them. After some losses each item travels by itself."""
    harness = nodes(1)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    for loss in range(MAX_NODES_LOST + 1):
        harness.gone(loss + 1, idle=True)
        harness.ready(loss + 2)
    assert take_all(map_state) == [(0, 1, [Kind.WORKER_LOST]), (1, 1, [Kind.WORKER_LOST])]


def test_what_was_on_nodes_that_the_program_neglected_is_not_given_up() -> None:
    """They ended their pools since they were asked nothing, which is no fault of an item."""
    harness = nodes(1)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    for loss in range(3 * MAX_NODES_LOST):
        harness.gone(loss + 1, unattributed=True, idle=True)
        harness.ready(loss + 2)
    assert take_all(map_state) == []
    assert harness.sent()[-1][1:] == (0, 2, 1)


def test_a_worker_that_waits_for_a_node_waits_as_long_as_it_takes() -> None:
    """The seconds of a setup are those of the node's own pool, once there is a node: until then hours may pass."""
    harness = Harness(0)
    harness.state.are_nodes(2)
    harness.state.workers = 2
    harness.scheduler.fill(harness.now)
    harness.ready(1)
    harness.commands()
    harness.pass_time(3 * MOST_FAILED_STARTS_LATER * int(harness.state.limits.setup_s * 1e9))
    assert harness.commands() == []
    assert harness.state.broken is None


def test_nodes_that_are_lost_before_they_are_ready_break_the_pool_in_the_end() -> None:
    """What they begin with may be what ends them; not while others work, whatever becomes of those that come."""
    harness = nodes(2)
    for worker in range(2, 2 * MOST_FAILED_STARTS_LATER):
        harness.gone(worker, idle=True, killed=True)
    assert harness.state.broken is None
    harness = Harness(1, ready=False)
    harness.state.are_nodes(2)
    for worker in range(1, MOST_KILLED_STARTS):
        harness.gone(worker, idle=True, killed=True)
        assert harness.state.broken is None
    harness.gone(MOST_KILLED_STARTS, idle=True, killed=True)
    assert isinstance(harness.state.broken, BrokenPool)


def test_a_node_has_no_deadline_to_keep_but_its_own() -> None:
    harness = nodes(1)
    map_state = harness.map_state(timeout_ns=10 * MILLI)
    harness.add(map_state, 3)
    harness.commands()
    harness.pass_time(60_000 * MILLI)
    assert harness.commands() == []


def test_calls_go_to_a_node_beyond_its_depth() -> None:
    harness = nodes(1, cores=16)
    calls = harness.map_state(calls=True)
    for _ in range(40):
        harness.add(calls)
    assert len(harness.sent()) == 32


def test_an_idle_node_gets_what_another_has_not_started() -> None:
    """What comes back as cancelled is pending again, and is no outcome."""
    harness = nodes(2)
    map_state = harness.map_state()
    harness.add(map_state, 4)
    harness.add(map_state, 1)
    first, second = (worker for worker, _, _, _ in harness.sent())
    harness.end_of_input(map_state)
    harness.results(second, 1, 0, 1)
    harness.pass_time(2 * NODE_NS)
    assert harness.commands() == [Revoke(first, 1, running=False, for_others=True)]
    failures = [Failure(offset, Kind.CANCELLED, TaskCancelled("not started")) for offset in (2, 3)]
    harness.results(first, 1, 0, 4, failures=failures)
    assert sorted((at, size) for _, at, size, _ in harness.sent()) == [(2, 1), (3, 1)]
    assert take_all(map_state) == [(0, 2, [])]
    harness.pass_time(10 * NODE_NS)
    assert not any(isinstance(order, (Revoke, SetLimit)) for order in harness.commands())


def test_a_node_that_gives_nothing_back_is_asked_again_and_more_rarely() -> None:
    """It may have been about to start it; a node that comes late is idle until it gets something."""
    harness = Harness(2, ready=False)
    harness.state.are_nodes(2)
    harness.ready(1)
    calls = harness.map_state(calls=True)
    for _ in range(4):
        harness.add(calls)
    assert [worker for worker, _, _, _ in harness.sent()] == [1, 1, 1, 1]
    harness.ready(2)
    asked: list[int] = []
    for look in range(1, 20):
        harness.pass_time(NODE_NS)
        orders = harness.commands()
        assert orders in ([], [Revoke(1, each, running=False, for_others=True) for each in (3, 4)])
        asked += [look] * bool(orders)
    assert len(asked) == 3
    assert asked[0] <= 2 < asked[1] <= 5 < asked[2]
    harness.results(1, 4, 0, 1, failures=[Failure(0, Kind.CANCELLED, TaskCancelled("not started"))])
    assert [(worker, at) for worker, at, _, _ in harness.sent()] == [(2, 3)]


def test_behind_a_long_call_nothing_waits_on_a_node_of_one_core() -> None:
    """Another node may have it; where there are no others, it stays."""
    for returns, wanted in ((True, [SetLimit(1, mark(1, 1))]), (False, [])):
        harness = Harness(1)
        harness.state.returns_unstarted = returns
        calls = harness.map_state(calls=True)
        harness.add(calls)
        harness.add(calls)
        assert len(harness.sent()) == 2
        harness.at(1, 1, 0)
        harness.pass_time(1_000 * MILLI)
        assert [order for order in harness.commands() if isinstance(order, SetLimit)] == wanted


def test_what_is_cancelled_ends_on_the_node() -> None:
    harness = nodes(1)
    map_state = harness.map_state()
    harness.add(map_state, 4)
    harness.commands()
    harness.scheduler.cancel(map_state, harness.now)
    assert harness.commands() == [Revoke(1, 1, running=True)]


def test_a_stopped_stream_keeps_what_runs_on_the_node() -> None:
    harness = nodes(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.commands()
    harness.scheduler.stop(map_state, harness.now)
    assert harness.commands() == [Revoke(1, 1, running=False)]
    failures = [Failure(offset, Kind.CANCELLED, TaskCancelled("not started")) for offset in (1, 2)]
    harness.results(1, 1, 0, 3, failures=failures)
    assert take_all(map_state) == [(0, 1, []), (1, 2, [Kind.CANCELLED, Kind.CANCELLED])]


def test_a_chunk_is_work_for_all_cores_of_a_node() -> None:
    one, four = NodeChunker(None, 1), NodeChunker(None, 4)
    for chunker in (one, four):
        chunker.observe(100, 100 * MILLI, 0)
    assert one.size(workers=2) == 100
    assert four.size(workers=2) == 400


def test_chunks_of_many_nodes_have_more_work() -> None:
    """So that messages a second do not grow with the nodes."""
    for count, seconds in ((1, 1), (50, 1), (100, 2), (1_000, 20)):
        chunker = NodeChunker(None, 4)
        for _ in range(30):
            chunker.observe(1_000, 1_000 * 1_000 * MILLI * count, 0)
        chunker.size(workers=count)
        assert chunker.target_ns == seconds * 1_000 * MILLI


def test_a_chunk_whose_rest_runs_does_not_count_for_what_a_node_may_hold() -> None:
    """Its slowest item must not keep the node's other cores waiting; told twice it counts once."""
    harness = nodes(1)
    map_state = harness.map_state()
    for _ in range(6):
        harness.add(map_state, 4)
    assert [at for _, at, _, _ in harness.sent()] == [0, 4]
    harness.results(1, 1, 0, 3, ended=False, tail=True)
    harness.results(1, 1, 3, 0, ended=False, tail=True)
    assert [at for _, at, _, _ in harness.sent()] == [8]
    harness.results(1, 2, 0, 0, ended=False, tail=True)
    assert [at for _, at, _, _ in harness.sent()] == [12]
    harness.results(1, 1, 3, 1)
    harness.results(1, 2, 0, 4)
    assert harness.sent() == []
    harness.results(1, 3, 0, 4)
    assert [at for _, at, _, _ in harness.sent()] == [16]
