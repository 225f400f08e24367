"""The scheduler: deadlines."""

from __future__ import annotations

import pytest
from tests.unit.scheduler.harness import SECOND, Boom, Harness, lonely, take_all
from tests.unit.simulation import MILLI

from allcores.errors import TaskTimeout
from allcores.events import TaskRetried
from allcores.limits import Retry
from allcores.outcome import Failure, Kind
from allcores.scheduler.messages import Kill, Launch
from allcores.scheduler.timeouts import START_NS
from allcores.scheduler.worker_state import Termination
from allcores.transport.positions import PHASE_CONTEXT, PHASE_FUNCTION, PHASE_IDLE, PHASE_LOADING, PHASE_OUTPUT


def test_a_deadline_is_for_each_item() -> None:
    """An item has its seconds from its own start; a chunk may take longer than that."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 5)
    harness.commands()
    for position in range(5):
        harness.at(1, 1, position)
        harness.pass_time(SECOND * 9 // 10)
    assert harness.commands() == []
    harness.pass_time(SECOND * 3 // 10)
    assert isinstance(harness.commands()[0], Kill)


def test_a_program_that_was_stopped_has_not_used_up_the_seconds_of_its_items() -> None:
    """A container that is paused, say: all its processes are. What runs has its seconds once more, and not twice."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 2)
    harness.at(1, 1, 0)
    harness.commands()
    harness.tick(60 * SECOND)
    assert harness.commands() == []
    harness.pass_time(SECOND * 9 // 10)
    assert harness.commands() == []
    harness.tick(60 * SECOND)
    assert harness.commands() == [Kill(1, "items[0] timed out"), Launch(2)]


def test_a_timeout_ends_one_item() -> None:
    """The item that used up its seconds gets TaskTimeout with the facts; the others run elsewhere, uncharged."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND, ordered=False)
    harness.add(map_state, 3)
    harness.at(1, 1, 1)
    harness.commands()
    harness.pass_time(SECOND + MILLI)
    assert harness.commands() == [Kill(1, "items[1] timed out"), Launch(2)]
    harness.results(1, 1, 0, 1, ended=False)
    harness.gone(1)
    assert take_all(map_state)[:1] == [(0, 1, [])]
    harness.ready(2)
    assert harness.sent() == [(2, 2, 1, 1)]
    assert harness.state.counters.count(Kind.TIMED_OUT) == 1


def test_the_facts_of_a_timeout() -> None:
    """TaskTimeout carries index, seconds, attempts and worker."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 3)
    harness.results(1, 1, 0, 3)
    harness.add(map_state, 3)
    take_all(map_state)
    harness.at(1, 2, 0)
    harness.pass_time(SECOND + MILLI)
    harness.gone(1)
    segment = lonely(map_state)
    assert segment.failures is not None
    (failure,) = segment.failures
    assert isinstance(failure.error, TaskTimeout)
    facts = failure.error
    assert (facts.index, facts.timeout, facts.attempts, facts.worker) == (3, 1.0, 1, 1)
    assert segment.durations == [SECOND + MILLI]


def test_an_item_that_beats_its_end_counts() -> None:
    """An item that is finished between the verdict and the end of its worker keeps its outcome."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 3)
    harness.at(1, 1, 0)
    harness.pass_time(SECOND + MILLI)
    harness.results(1, 1, 0, 1, ended=False)
    harness.at(1, 1, 1)
    harness.gone(1)
    assert take_all(map_state) == [(0, 1, [])]
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [(1, 2, 1)]


def test_a_short_deadline_is_kept_behind_a_long_one() -> None:
    """A deadline is kept to the millisecond, whatever deadlines this worker was watched for before."""
    for earlier_is_done in (True, False):
        harness = Harness(1)
        long, short = harness.map_state(timeout_ns=60 * SECOND), harness.map_state(timeout_ns=SECOND // 10)
        harness.add(long)
        if not earlier_is_done:
            harness.add(short)
        harness.results(1, 1, 0, 1)
        if earlier_is_done:
            harness.add(short)
        harness.commands()
        harness.at(1, 2, 0)
        harness.pass_time(SECOND)
        assert any(isinstance(order, Kill) for order in harness.commands()), "a second later, it still runs"


def test_a_long_deadline_costs_few_looks() -> None:
    """Watching a worker through many quick chunks sets no alarm per chunk."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=60 * SECOND)
    for sequence in range(1, 200):
        harness.add(map_state)
        harness.results(1, sequence, 0, 1)
    assert len(harness.state.timers.heap) < 10


def test_loading_that_takes_too_long_is_not_the_first_items_fault() -> None:
    """When the deadline passed while a chunk of several was unpickled, its items run one by one, uncharged."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 3)
    harness.at(1, 1, 0, phase=PHASE_LOADING)
    harness.pass_time(SECOND + MILLI)
    # Meanwhile, before the signal reached it, it got on to the first item.
    harness.at(1, 1, 0)
    harness.gone(1)
    assert take_all(map_state) == []
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [
        (0, 1, 1),
        (1, 1, 1),
        (2, 1, 1),
    ]


def test_a_worker_that_never_starts_its_chunk_is_ended() -> None:
    """A worker stopped while it was idle keeps its items from nobody: it is ended, and nobody is charged."""
    harness = Harness(1)
    map_state = harness.map_state(timeout_ns=SECOND)
    harness.add(map_state, 2)
    harness.at(1, 0, 0, phase=PHASE_IDLE)
    harness.commands()
    harness.pass_time(2 * START_NS)
    assert any(isinstance(order, Kill) for order in harness.commands())
    harness.gone(1, idle=True)
    assert take_all(map_state) == []
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [(0, 2, 1)]


@pytest.mark.parametrize("phase", [PHASE_FUNCTION, PHASE_CONTEXT])
def test_unpickling_a_function_is_not_idling(phase: int) -> None:
    """A module that takes a minute to be imported is waited for; one that hangs is not, and its first item fails."""
    harness = Harness(1, setup_s=100.0)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    harness.at(1, 0, 0, phase=phase, since=0)
    harness.commands()
    harness.pass_time(9 * START_NS, alarms=10_000)
    assert harness.commands() == []
    harness.pass_time(2 * START_NS, alarms=10_000)
    what = "context variables" if phase == PHASE_CONTEXT else "function"
    assert harness.commands() == [Kill(1, f"unpickling the {what} for items[0] took too long"), Launch(2)]
    harness.gone(1, idle=True)
    ((start, count, kinds),) = take_all(map_state)
    assert (start, count, kinds) == (0, 1, [Kind.WORKER_LOST])
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [(1, 1, 1)]


def test_each_function_has_its_seconds() -> None:
    """What one function has taken to be unpickled is not counted for the next one."""
    harness = Harness(1, setup_s=100.0)
    map_state = harness.map_state()
    for number in range(1, 6):
        harness.add(map_state)
        harness.at(1, number - 1, 0, phase=PHASE_FUNCTION, since=0)
        harness.pass_time(6 * START_NS, alarms=10_000)
        harness.at(1, number, 0)
        harness.pass_time(SECOND)
        harness.at(1, number, 0, phase=PHASE_IDLE)
        harness.results(1, number, 0, 1)
    assert not any(isinstance(order, Kill) for order in harness.commands())


def test_the_seconds_of_a_function_begin_with_it() -> None:
    """Also where nothing was seen of the end of the last one: the worker was idle by the next look, for long."""
    harness = Harness(1, setup_s=100.0)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.at(1, 0, 0, phase=PHASE_FUNCTION, since=0)
    harness.pass_time(SECOND)
    harness.at(1, 1, 0, phase=PHASE_IDLE)
    harness.results(1, 1, 0, 1)
    harness.pass_time(200 * SECOND, alarms=10_000)
    harness.add(map_state)
    harness.at(1, 1, 0, phase=PHASE_FUNCTION, since=0)
    harness.commands()
    harness.pass_time(90 * SECOND, alarms=10_000)
    assert harness.commands() == []


def test_what_follows_a_long_import_is_no_late_beginning() -> None:
    """The chunk was sent long ago, and is read only now."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    harness.at(1, 0, 0, phase=PHASE_FUNCTION, since=0)
    harness.commands()
    harness.pass_time(3 * START_NS, alarms=10_000)
    harness.at(1, 0, 0, phase=PHASE_IDLE)
    harness.pass_time(START_NS // 2, alarms=10_000)
    assert harness.commands() == []
    harness.pass_time(START_NS, alarms=10_000)
    assert any(isinstance(order, Kill) for order in harness.commands())


@pytest.mark.parametrize("what", ["its output is not read", "its chunk is on its way"])
def test_a_worker_that_waits_for_others_is_not_idling(what: str) -> None:
    """As long as that goes on; and a chunk of which nothing more gets through is not on its way."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    if what == "its output is not read":
        harness.at(1, 0, 0, phase=PHASE_OUTPUT, since=0)
    else:
        harness.at(1, 0, 0, phase=PHASE_IDLE)
        left = iter(range(1 << 30, 0, -1000))
        harness.state.unsent = lambda worker: next(left)
    harness.commands()
    harness.pass_time(20 * START_NS, alarms=100_000)
    assert harness.commands() == []
    harness.at(1, 0, 0, phase=PHASE_IDLE)
    harness.state.unsent = lambda worker: 1000
    harness.pass_time(2 * START_NS, alarms=10_000)
    assert any(isinstance(order, Kill) for order in harness.commands())


def test_a_worker_that_is_stopped_as_it_unpickles_a_function() -> None:
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 2)
    harness.at(1, 0, 0, phase=PHASE_FUNCTION, since=0)
    harness.commands()
    harness.state.is_stopped = lambda worker: True
    harness.pass_time(START_NS)
    assert any(isinstance(order, Kill) for order in harness.commands())
    harness.gone(1, idle=True)
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [(0, 2, 1)]


def test_a_worker_that_is_stopped_as_it_sends_its_last_outcome() -> None:
    """The board says still that it is at work, on what is settled: nothing else would ever end it."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.at(1, 1, 0, since=1)
    harness.results(1, 1, 0, 1)
    harness.add(map_state)
    harness.commands()
    harness.state.is_stopped = lambda worker: True
    harness.pass_time(START_NS)
    assert any(isinstance(order, Kill) for order in harness.commands())
    harness.gone(1)
    assert [(chunk.first, len(chunk.items), chunk.attempt) for chunk in map_state.pending] == [(1, 1, 1)]


def test_waiting_behind_a_long_item_is_not_idling() -> None:
    """A worker is not ended for a chunk that it could not begin before, however long that one has waited."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.now += MILLI
    harness.add(map_state)
    harness.at(1, 1, 0)
    harness.commands()
    harness.pass_time(2 * START_NS - 2 * MILLI)
    # The first chunk ends. Before the worker has begun the second one, the alarm rings.
    harness.at(1, 1, 0, phase=PHASE_IDLE)
    harness.results(1, 1, 0, 1)
    harness.pass_time(START_NS // 2)
    assert not any(isinstance(order, Kill) for order in harness.commands())
    harness.pass_time(START_NS)
    assert any(isinstance(order, Kill) for order in harness.commands())


def test_a_terminated_worker_is_given_nothing() -> None:
    """Its replacement starts at once; until it is reaped, its results count, but it gets no more work."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state)
    harness.add(map_state)
    harness.commands()
    worker_state = harness.state.worker_states[1]
    harness.scheduler.terminate(
        worker_state, Termination(Kind.WORKER_LOST, Boom(), "too much memory", 2, 0), harness.now
    )
    harness.add(map_state)
    assert harness.commands() == [Kill(1, "too much memory"), Launch(2)]
    harness.results(1, 1, 0, 1)
    assert harness.sent() == []
    assert take_all(map_state) == [(0, 1, [])]
    harness.at(1, 2, 0)
    harness.gone(1)
    assert take_all(map_state) == [(1, 1, [Kind.WORKER_LOST])]
    assert harness.commands() == []
    assert len(harness.state.worker_states) == 1


@pytest.mark.parametrize("retry", [Retry(times=3), Retry(times=3, on_timeout=False)])
def test_what_is_raised_after_the_deadline_is_the_deadlines(retry: Retry) -> None:
    """An item that is being ended may raise (from a handler of SIGTERM): it timed out. What others raise is theirs."""
    harness = Harness(1)
    map_state = harness.map_state(retry=retry, timeout_ns=SECOND)
    harness.add(map_state, 3)
    harness.at(1, 1, 1)
    harness.commands()
    harness.pass_time(2 * SECOND)
    assert any(isinstance(order, Kill) for order in harness.commands())
    failures = [Failure(1, Kind.FAILED, SystemExit(7)), Failure(2, Kind.FAILED, Boom())]
    harness.results(1, 1, 0, 3, failures=failures, total_ns=2 * SECOND)
    harness.gone(1)
    retried = [(event.index, event.kind) for event in harness.state.events if isinstance(event, TaskRetried)]
    if retry.on_timeout:
        assert retried == [(1, Kind.TIMED_OUT), (2, Kind.FAILED)]
        assert take_all(map_state) == [(0, 1, [])]
    else:
        assert retried == [(2, Kind.FAILED)]
        assert take_all(map_state) == [(0, 2, [Kind.TIMED_OUT])]


def test_what_was_raised_before_the_deadline_is_the_items_own() -> None:
    """It had raised by itself, and only the report was late: the worker's clock says so."""
    for number, items in enumerate((1, 3), 1):
        harness = Harness(1)
        map_state = harness.map_state(timeout_ns=SECOND)
        harness.add(map_state, items)
        harness.at(1, 1, 0)
        harness.commands()
        harness.pass_time(2 * SECOND)
        assert any(isinstance(order, Kill) for order in harness.commands())
        durations = [SECOND // 2] * items
        failures = [Failure(0, Kind.FAILED, Boom())]
        harness.results(1, 1, 0, items, failures=failures, total_ns=sum(durations), durations=durations)
        assert take_all(map_state) == [(0, items, [Kind.FAILED])], number


@pytest.mark.parametrize("preempted", [False, True])
@pytest.mark.parametrize("together", [1, 2])
def test_what_is_raised_by_what_is_being_ended_comes_again_if_nobody_is_charged(preempted: bool, together: int) -> None:
    """For want of memory, or because it is not known which of a batch is at fault."""
    harness = Harness(1)
    map_state = harness.map_state()
    harness.add(map_state, 3)
    harness.at(1, 1, 0, together=together)
    termination = Termination(Kind.WORKER_LOST, Boom(1), "why", 1, 0, preempted=preempted, together=together)
    harness.scheduler.terminate(harness.state.worker_states[1], termination, harness.now)
    failures = [Failure(n, Kind.FAILED, SystemExit(7)) for n in range(together)]
    harness.results(1, 1, 0, 3, failures=failures)
    if preempted or together > 1:
        assert take_all(map_state) == []
        assert sorted(chunk.first for chunk in map_state.pending) == list(range(together))
        assert {(chunk.attempt, chunk.preempted) for chunk in map_state.pending} == {(1, int(preempted))}
    else:
        assert take_all(map_state) == [(0, 3, [Kind.WORKER_LOST])]


def test_a_look_for_what_waits_behind_finds_it_excused() -> None:
    """The program was stopped; what has fewer seconds, and is next, has the worker looked at before they are over."""
    harness = Harness(1)
    long, short = harness.map_state(timeout_ns=10 * SECOND), harness.map_state(timeout_ns=SECOND // 2)
    harness.add(long)
    harness.add(short)
    harness.at(1, 1, 0)
    harness.commands()
    harness.tick(60 * SECOND)
    harness.pass_time(9 * SECOND)
    assert harness.commands() == []
    harness.pass_time(2 * SECOND)
    assert harness.commands() == [Kill(1, "items[0] timed out"), Launch(2)]


def test_calls_beside_each_other_have_their_seconds_once_more() -> None:
    """Where the program was stopped; each of them, and not twice."""
    harness = Harness(1)
    harness.state.concurrent = 4
    calls = harness.map_state(calls=True, timeout_ns=SECOND)
    harness.add(calls)
    harness.add(calls)
    harness.at(1, 2, 0)
    harness.commands()
    harness.tick(60 * SECOND)
    harness.pass_time(SECOND * 9 // 10)
    assert harness.commands() == []
    harness.tick(60 * SECOND)
    assert any(isinstance(order, Kill) for order in harness.commands())


def test_a_program_that_was_stopped_as_a_worker_imports_has_not_used_up_its_seconds() -> None:
    harness = Harness(1, setup_s=100.0)
    harness.add(harness.map_state(), 2)
    harness.at(1, 0, 0, phase=PHASE_FUNCTION, since=0)
    harness.commands()
    harness.pass_time(5 * START_NS, alarms=10_000)
    harness.tick(3600 * SECOND)
    assert harness.commands() == []
    harness.pass_time(4 * START_NS, alarms=10_000)
    assert harness.commands() == []
    harness.pass_time(2 * START_NS, alarms=10_000)
    assert any(isinstance(order, Kill) for order in harness.commands())


def test_a_program_that_was_stopped_before_a_worker_began_does_not_end_it() -> None:
    harness = Harness(1)
    harness.add(harness.map_state(), 2)
    harness.at(1, 0, 0, phase=PHASE_IDLE)
    harness.commands()
    harness.tick(3600 * SECOND)
    harness.pass_time(START_NS // 2, alarms=10_000)
    assert harness.commands() == []
    harness.pass_time(START_NS, alarms=10_000)
    assert any(isinstance(order, Kill) for order in harness.commands())
