"""The model: what was measured goes in, a recommendation comes out. No clock, no process."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.advisor.model import costs
from allcores.advisor.model.decision import WORTH, Decision, decide, kind_of, needed
from allcores.advisor.model.probes import Machine, Probes, Timing, Travel, Trial, together

MS = 1e-3


def probes(
    wall_s: float = 2 * MS,
    *,
    items: int | None = 5_000,
    busy: float = 1.0,
    switches: float = 0.0,
    late_ms: float | None = 5.2,
    two_threads: float | None = 0.98,
    two_processes: float | None = 1.95,
    **given: object,
) -> Probes:
    """A function as it was measured on two quiet cores; by default a loop in pure Python of 2 ms."""
    tried = max(100, int(0.2 / wall_s))  # a shorter trial is not made
    threads = () if two_threads is None else (Trial(2, two_threads, tried),)
    processes = () if two_processes is None else (Trial(2, two_processes, tried),)
    found = Probes(
        items=items,
        timing=Timing(100, wall_s, wall_s * busy, switches=switches, spread=0.08),
        machine=Machine(2, memory=8 << 30),
        travel=Travel(5, 8, 0.3e-6, 0.3e-6, 0.5e-6),
        late_s=None if late_ms is None else late_ms * MS,
        threads=threads,
        processes=processes,
        worker_bytes=20 << 20,
    )
    return replace(found, **given)  # type: ignore[arg-type]


#: measured on two cores: CPU seconds a second, switches, lateness in ms, two threads, two processes -> kind, pattern
MEASURED = {
    "a loop in Python": (1.0, 0, 5.19, 0.99, 1.98, "python", "processes"),
    "a regular expression, 0.7 MB": (1.0, 0, 51.2, 0.97, 1.96, "python", "processes"),
    "large JSON": (1.0, 0, 27.6, 1.02, 1.85, "python", "processes"),
    "SHA-256 of 64 bytes, many": (1.0, 0, 5.3, 0.96, 1.96, "python", "processes"),
    "matmul, BLAS with one thread": (1.0, 0, 0.09, 1.97, 1.94, "released", "threads"),
    "matmul, BLAS with two": (1.98, 0, 0.06, 0.95, 1.01, "threaded", "library"),
    "matmul, BLAS with two, threads that did well": (1.98, 0, 0.06, 1.4, 1.25, "threaded", "processes"),
    "matmul, BLAS whose threads only spin": (1.4, 0, 0.09, 1.95, 1.6, "threaded", "threads"),
    "zlib": (1.0, 0, 0.08, 1.57, 1.80, "python", "processes"),
    "SHA-256 of 8 MB": (1.0, 0, 0.11, 2.0, 1.85, "released", "threads"),
    "sleep": (0.0, 1, 0.08, 2.0, 2.0, "waiting", "threads"),
    "write and fsync": (0.29, 160, 0.09, 1.17, 1.24, "device", "processes"),
    "half Python, half zlib": (1.0, 0, 3.5, 1.06, 1.92, "python", "processes"),
    "spaCy": (1.0, 0, 0.40, 0.64, 1.88, "python", "processes"),
    "memory-bound": (1.0, 0, 0.1, 1.1, 1.05, "memory", "serial"),
}


def test_threads_beside_a_librarys_own_have_to_be_proven() -> None:
    """One good trial of several that differ is chance."""
    given = probes(10 * MS, busy=1.4, late_ms=0.1, two_threads=1.9, two_processes=1.3)
    shaken = replace(given, threads=(replace(given.threads[0], deviation=0.2),))
    assert decide(given).chosen.setting.pattern == "threads"
    assert "threads" in decide(shaken).impossible


#: functions in Python as a build without the lock would have them measured: lateness in ms, two threads, two processes
UNLOCKED = {
    "nothing is shared": (0.08, 1.9, 1.9),
    "processes have their way to go": (0.08, 1.9, 1.8),
    "another thread comes at once": (0.0, 1.9, 1.7),
    "nobody has tried when one comes": (None, 1.9, 1.9),
}


@pytest.mark.parametrize("name", UNLOCKED)
def test_threads_are_for_a_function_that_holds_no_lock(name: str) -> None:
    """What Python it is is never asked: what two threads did decides."""
    late, threads, processes = UNLOCKED[name]
    given = probes(10 * MS, late_ms=late, two_threads=threads, two_processes=processes)
    decision = decide(given)
    assert decision.kind == "released"
    assert decision.chosen.setting.pattern == "threads"
    assert "threads" not in decision.impossible


@pytest.mark.parametrize("name", MEASURED)
def test_what_was_measured_is_told_apart(name: str) -> None:
    busy, switches, late, threads, processes, kind, pattern = MEASURED[name]
    given = probes(10 * MS, busy=busy, switches=switches, late_ms=late, two_threads=threads, two_processes=processes)
    assert kind_of(given) == kind
    decision = decide(given)
    assert decision.chosen.setting.pattern == pattern, decision


def test_a_loop_held_up_by_others_does_not_wait() -> None:
    """CPU seconds below the wall's alone say nothing on a busy machine: who waits gives up the core."""
    assert kind_of(probes(busy=0.35, switches=0.0)) == "python"


def test_little_work_stays_in_a_loop_and_says_how_much_would_do() -> None:
    given = probes(items=50)
    decision = decide(given)
    assert decision.chosen.setting.pattern == "serial"
    text = needed(given, decision)
    assert text is not None
    assert "it pays from about" in text
    assert "there are 50" in text


def test_what_is_needed_is_where_it_begins_to_pay() -> None:
    """With that many items the same function is given to processes, with two thirds of them it is not."""
    given = probes(items=50)
    cost = costs.processes_cost(replace(given, items=None, start_s=0.0), 2)
    count = costs.least_items(given.start_s, given.timing.wall_s, costs.MANY * 2 * MS / cost.seconds, WORTH)
    assert count is not None
    assert decide(replace(given, items=count * 11 // 10)).chosen.setting.pattern == "processes"
    assert decide(replace(given, items=count * 2 // 3)).chosen.setting.pattern == "serial"


def test_tiny_items_stay_in_a_loop_however_many() -> None:
    given = probes(0.22e-6, items=1_000_000, two_processes=0.4)
    decision = decide(given)
    assert decision.chosen.setting.pattern == "serial"
    text = needed(given, decision)
    assert text is not None
    assert "it would pay if an item took" in text
    assert decision.certain


def test_on_a_busy_machine_a_loop_is_certain_only_where_nothing_could_help() -> None:
    """However long the way was measured to be meanwhile."""
    slow_way = Travel(5, 8, 5 * MS, 5 * MS, 5 * MS, 1e-6)
    busy = Machine(2, others=1.5, memory=8 << 30)
    assert not decide(probes(travel=slow_way, machine=busy, two_processes=0.2)).certain
    assert decide(probes(0.2e-6, travel=slow_way, machine=busy, items=10**6, two_processes=0.2)).certain
    assert decide(probes(items=10, travel=slow_way, machine=busy, two_processes=0.2)).certain


def test_large_results_are_named_as_the_limit() -> None:
    given = probes(1.8 * MS, travel=Travel(3, 60_000, 1e-6, 1.4 * MS, 0.9 * MS), two_processes=0.95)
    decision = decide(given)
    assert decision.chosen.setting.pattern == "serial"
    assert "results" in decision.predictions[1].limit


def test_what_is_in_every_item_is_shared() -> None:
    given = probes(travel=Travel(8 << 20, 8, 8 * MS, 0.3e-6, 2e-6, common_bytes=8 << 20), two_processes=None)
    setting = decide(given).chosen.setting
    assert setting.pattern == "processes"
    assert setting.share


def test_a_load_is_made_before_the_workers_are_forked() -> None:
    given = probes(start_s=3.2, warm_start_s=1.8, timing=Timing(100, 2 * MS, 2 * MS, first_s=1.5), items=4_000)
    assert decide(given).chosen.setting.preload
    assert not decide(replace(given, warm_start_s=None)).chosen.setting.preload


def test_a_preload_that_makes_the_start_longer_is_not_used() -> None:
    """A library that has started threads cannot be forked: pandas does, and each worker loads it once more."""
    given = probes(start_s=0.7, warm_start_s=1.5, timing=Timing(100, 2 * MS, 2 * MS, first_s=0.5), items=700)
    chosen = decide(given).chosen
    assert chosen.setting.pattern == "processes"
    assert not chosen.setting.preload
    assert decide(replace(given, warm_start_s=0.6)).chosen.setting.preload


def test_threads_are_confirmed_where_their_trial_does_not_rule_them_out() -> None:
    """Memory-bound arrays: the lock is given up, and pairs of the trial are far apart."""
    unsure = probes(late_ms=0.7, processes=(Trial(2, 1.4, 60, deviation=0.1),), threads=(Trial(2, 1.1, 60, 0.15),))
    decision = decide(unsure)
    assert decision.chosen.setting.pattern == "processes"
    assert decision.second is not None
    assert decision.second.setting.pattern == "threads"
    sure = replace(unsure, threads=(Trial(2, 0.65, 60, 0.1),))
    assert "threads" in decide(sure).impossible


def test_who_holds_the_lock_is_given_no_threads_however_the_trial_went() -> None:
    held = probes(late_ms=5.0, threads=(Trial(2, 1.1, 60, 0.05),))
    assert "threads" in decide(held).impossible


def test_what_cannot_travel_is_not_given_to_processes() -> None:
    problem = "item 0 cannot be pickled: it is a _thread.lock"
    decision = decide(probes(travel=Travel(problem=problem, what="item"), two_processes=None))
    assert decision.chosen.setting.pattern == "serial"
    assert problem in decision.impossible["processes"]


def test_memory_caps_the_workers() -> None:
    given = probes(machine=Machine(8, memory=4 << 30), worker_bytes=1 << 30)
    decision = decide(given)
    assert decision.chosen.setting.workers == 3
    assert any("3 workers" in reason for reason in decision.reasons)
    none = decide(replace(given, worker_bytes=3 << 30))
    assert "processes" in none.impossible


def test_who_waits_gets_as_many_threads_as_help() -> None:
    trials = (Trial(2, 2.0, 8), Trial(8, 7.9, 32), Trial(32, 8.1, 64))
    decision = decide(probes(50 * MS, busy=0.0, switches=1, late_ms=0.1, threads=trials))
    assert decision.chosen.setting.pattern == "threads"
    assert decision.chosen.setting.workers == 8


times = st.floats(1e-7, 10.0)
speedups = st.floats(0.3, 2.1)


@st.composite
def any_probes(draw: st.DrawFn) -> Probes:
    wall = draw(times)
    cores = draw(st.integers(1, 64))
    found = probes(
        wall,
        items=draw(st.none() | st.integers(1, 10**7)),
        busy=draw(st.floats(0.0, 4.0)),
        switches=draw(st.floats(0, 200)),
        late_ms=draw(st.none() | st.floats(0, 100)),
        two_threads=draw(st.none() | speedups),
        two_processes=draw(st.none() | speedups),
        travel=Travel(
            draw(st.floats(0, 1e9)),
            draw(st.floats(0, 1e9)),
            draw(st.floats(0, 1.0)),
            draw(st.floats(0, 1.0)),
            draw(st.floats(0, 1.0)),
            draw(st.floats(0, 1.0)),
            draw(st.integers(0, 1 << 30)),
        ),
        machine=Machine(cores, draw(st.floats(0, 64)), draw(st.none() | st.integers(1, 1 << 40))),
        start_s=draw(st.floats(0, 60)),
        warm_start_s=draw(st.none() | st.floats(0, 60)),
        worker_bytes=draw(st.integers(0, 1 << 40)),
    )
    dropped_s = draw(st.just(0.0) | st.floats(0.05, 1.2).map(lambda part: part * wall))
    return replace(found, timing=replace(found.timing, dropped_s=dropped_s))


@given(any_probes())
def test_whatever_was_measured_there_is_a_decision(given: Probes) -> None:
    decision: Decision = decide(given)
    chosen = decision.chosen
    assert chosen in decision.predictions
    for each in decision.predictions:
        assert 0 <= each.interval.low <= each.interval.speedup <= each.interval.high
        assert each.setting.workers >= 1
        assert each.setting.chunk is None or each.setting.chunk >= 1
    if chosen.setting.workers > 1:
        assert chosen.interval.speedup >= WORTH
    assert decision.second is None or decision.second in decision.predictions
    needed(given, decision)


@given(any_probes(), st.integers(2, 64))
def test_seconds_of_workers_add_up(given: Probes, workers: int) -> None:
    """What workers do, and what they wait, is workers x seconds."""
    cost = costs.processes_cost(given, workers)
    used = cost.work + cost.worker_transport + workers * cost.start + cost.idle
    assert used >= workers * cost.seconds * 0.999
    assert cost.seconds >= cost.start
    assert cost.seconds >= (cost.work + cost.worker_transport) / workers


@given(any_probes(), st.integers(2, 32))
def test_more_work_an_item_never_makes_processes_worse(given: Probes, workers: int) -> None:
    steady = replace(given, start_s=0.0, warm_start_s=None, timing=replace(given.timing, spread=0.0))
    timing = steady.timing
    slower = replace(steady, timing=replace(timing, wall_s=4 * timing.wall_s, dropped_s=4 * timing.dropped_s))

    def gain(each: Probes) -> float:
        return costs.loop_seconds(each) / costs.processes_cost(each, workers, chunk=1, fitted=costs.Fit(1.0)).seconds

    assert gain(slower) >= 0.999 * gain(steady)


@given(any_probes(), st.integers(2, 64))
def test_a_chunk_is_between_one_and_all(given: Probes, workers: int) -> None:
    chunk = costs.chunk_for(given, workers)
    assert 1 <= chunk <= costs.count_of(given)
    moved = given.travel.bytes_in - given.travel.common_bytes + given.travel.bytes_out
    assert chunk == 1 or moved <= 0 or chunk * moved <= costs.MOST_CHUNK_BYTES * 1.001


@given(st.floats(1.01, 2.0), st.integers(2, 128))
def test_the_law_goes_through_what_was_measured(two: float, workers: int) -> None:
    assert costs.usl(two, 2) == pytest.approx(two)
    assert costs.usl(two, workers) <= workers + 1e-9


def test_pairs_that_are_apart_make_a_wider_prediction() -> None:
    """A burst in one of three pairs moves nothing but the width; three that agree keep it."""
    burst = together([Trial(2, 1.9, 100), Trial(2, 0.8, 100), Trial(2, 1.95, 100)])
    quiet = together([Trial(2, 1.9, 100), Trial(2, 1.88, 100), Trial(2, 1.95, 100)])
    assert burst.speedup == quiet.speedup == pytest.approx(1.9)
    wide, narrow = (decide(replace(probes(), processes=(trial,))).chosen.interval for trial in (burst, quiet))
    assert wide.speedup == pytest.approx(narrow.speedup)
    assert wide.half_width > 2 * narrow.half_width
    assert together([Trial(2, 1.7, 100)]).deviation == 0.0


def test_on_a_busy_machine_memory_is_not_called_the_limit() -> None:
    """Trials of two at a time show no gain there, whatever the function does."""
    given = probes(late_ms=0.5, two_threads=0.9, two_processes=1.0)
    assert kind_of(given) == "memory"
    assert kind_of(replace(given, machine=Machine(2, others=1.0, memory=8 << 30))) == "python"


def test_the_lock_is_named_only_where_it_was_seen_to_be_held() -> None:
    assert "lock" in decide(probes(late_ms=5.0)).reasons[0]
    assert "lock" not in decide(probes(late_ms=0.4)).reasons[0]
