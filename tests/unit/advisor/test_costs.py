"""Formulas brought to what a trial has measured, and where a prediction is less sure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.unit.advisor.test_decision import MS, any_probes, probes

from allcores.advisor.model import costs
from allcores.advisor.model.costs import Fit, fit, loop_seconds, processes_cost
from allcores.advisor.model.decision import Setting, decide, deviation
from allcores.advisor.model.probes import Machine, Probes, Timing, Traits, Travel, Trial
from allcores.advisor.model.verdict import start_of
from allcores.advisor.model.what_if import what_ifs


def of_the_trial(given: Probes) -> float:
    """The speed-up that the formulas give for what a trial has run."""
    trial = given.processes[0]
    here = replace(given, items=trial.items, start_s=0.0, warm_start_s=None, timing=replace(given.timing, first_s=0.0))
    return loop_seconds(here) / processes_cost(here, trial.workers, chunk=trial.chunk).seconds


@pytest.mark.parametrize("speedup", [0.3, 0.9, 1.4, 1.95, 2.6])
@pytest.mark.parametrize(
    "travel",
    [Travel(5, 8, 0.3e-6, 0.3e-6, 0.5e-6), Travel(3, 60_000, 1e-6, 1.4 * MS, 0.9 * MS), Travel(8, 8, 2 * MS, 0, 0)],
    ids=["small", "large results", "a slow way"],
)
def test_a_trial_is_predicted_as_it_was_measured(speedup: float, travel: Travel) -> None:
    """Whichever limit counts: the way, which was measured without work, does not have the last word."""
    given = probes(travel=travel, processes=(Trial(2, speedup, 200, chunk=4),))
    assert of_the_trial(given) == pytest.approx(speedup, rel=1e-3)


def test_items_of_microseconds_are_predicted_by_what_they_did() -> None:
    """Each takes as long as its way; the parent sends while workers compute."""
    travel = Travel(5, 5, 2e-6, 1e-6, 0.6e-6)
    given = probes(3e-6, items=1_000_000, travel=travel, processes=(Trial(2, 1.5, 100_000, chunk=3_000),), start_s=0.1)
    prediction = decide(given).predictions[1]
    assert prediction.interval.speedup == pytest.approx(3 / (3 / 1.5 + 0.1), rel=0.05)


@given(any_probes(), st.floats(0.2, 3.0), st.integers(1, 10_000), st.integers(1, 200))
def test_a_fit_gives_what_was_measured_or_is_at_its_end(given: Probes, speedup: float, items: int, chunk: int) -> None:
    assume(given.machine.others < costs.BUSY_PART * given.machine.cores)
    given = replace(given, processes=(Trial(2, speedup, items, chunk=chunk),))
    found = fit(given, 2)
    assert costs.LEAST_SLOWDOWN <= found.slow <= costs.MOST_SLOWDOWN
    assert 0 <= found.way <= costs.MOST_SLOWDOWN
    if found.slow > 1.01 * costs.LEAST_SLOWDOWN and found.way < 0.99 * costs.MOST_SLOWDOWN:
        assert of_the_trial(given) == pytest.approx(speedup, rel=0.01)


def test_what_others_did_meanwhile_is_not_fitted() -> None:
    busy = Machine(2, others=1.0, memory=8 << 30)
    assert fit(probes(machine=busy, two_processes=0.5), 2) == Fit(costs.USUAL_SLOWDOWN)
    assert fit(probes(two_processes=None), 2) == Fit(costs.USUAL_SLOWDOWN)


def test_each_further_worker_slows_down_as_much_as_the_second() -> None:
    """Two were 1.8 times as fast as one, so four are not four times as fast."""
    given = probes(two_processes=1.8, machine=Machine(4, memory=8 << 30))
    slow = fit(given, 2).slow
    assert slow > 1.02
    assert fit(given, 4).slow == pytest.approx(1 + 3 * (slow - 1))


def test_what_was_changed_after_a_trial_is_not_fitted_to_it() -> None:
    """Results that take the way would look like work that takes longer once they are compact."""
    travel = Travel(3, 60_000, 1e-6, 1.4 * MS, 0.9 * MS)
    given = probes(1.8 * MS, travel=travel, two_processes=0.95)
    compact = next(each for each in what_ifs(given, decide(given)) if each.name == "compact results")
    assert compact.predicted.speedup > 1.5


# --- how sure ---------------------------------------------------------------------------------------


def width(given: Probes, pattern: str = "processes") -> float:
    return next(each for each in decide(given).predictions if each.setting.pattern == pattern).interval.half_width


def test_a_quiet_function_has_a_narrow_interval() -> None:
    assert width(probes(items=100_000)) <= 0.12


LESS_SURE = {
    "a start that is half of it": probes(items=200, start_s=0.2),
    "a way that is half of it": probes(travel=Travel(3, 60_000, 1e-6, 1.4 * MS, 0.9 * MS), two_processes=0.95),
    "page faults": probes(timing=Timing(100, 2 * MS, 2 * MS, system_s=1 * MS, spread=0.08)),
    "pairs that are apart": probes(processes=(Trial(2, 1.9, 100, deviation=0.2),)),
    "others' work": probes(machine=Machine(2, others=0.3, memory=8 << 30)),
    "uneven items": probes(timing=Timing(100, 2 * MS, 2 * MS, spread=1.5)),
}


@pytest.mark.parametrize("name", LESS_SURE)
def test_what_is_less_sure_has_a_wider_interval(name: str) -> None:
    assert width(LESS_SURE[name]) > 1.1 * width(probes(items=100_000))


def test_a_device_is_less_sure_than_a_sleep() -> None:
    waits = probes(50 * MS, busy=0.0, switches=1, late_ms=0.1, threads=(Trial(2, 2.0, 8),))
    sleeps = replace(waits, traits=Traits(sleeps=True))
    assert width(waits, "threads") > 1.2 * width(sleeps, "threads")


def test_threads_are_as_sure_as_their_own_trial() -> None:
    """Not as that of processes."""
    apart = probes(late_ms=0.1, threads=(Trial(2, 1.9, 100, deviation=0.2),))
    assert deviation(apart, "threads") > deviation(apart)


@given(any_probes())
def test_a_deviation_is_at_least_the_models(given: Probes) -> None:
    assert deviation(given) >= 0
    assert deviation(given, cost=processes_cost(given, 2)) >= deviation(given)


def test_items_that_wait_end_together() -> None:
    """33 of them in 32 threads take as long as 64."""
    trials = (Trial(2, 2.0, 8), Trial(8, 7.9, 32), Trial(32, 31.0, 64))
    given = probes(50 * MS, items=33, busy=0.0, switches=1, late_ms=0.1, threads=trials)
    seconds = costs.threads_seconds(given, 32)
    assert seconds is not None
    assert 0.1 <= seconds < 0.12
    assert costs.last_round(given, 32) == pytest.approx(64 / 33)
    assert costs.last_round(replace(given, items=64), 32) == 1.0
    assert costs.last_round(replace(given, items=None), 32) == 1.0
    assert costs.last_round(probes(items=33), 32) == 1.0


def test_the_start_of_threads_counts_for_the_whole_input() -> None:
    trials = (Trial(2, 2.0, 8), Trial(32, 31.0, 64))
    quick = probes(10 * MS, items=64, busy=0.0, switches=1, late_ms=0.1, threads=trials)
    slow = replace(quick, threads_start_s=20 * MS, thread_start_s=1 * MS)
    assert costs.threads_start(quick, 32) == costs.THREADS_START_S
    assert costs.threads_start(slow, 2) == pytest.approx(20 * MS)
    assert costs.threads_start(slow, 32) == pytest.approx(50 * MS)
    seconds = [costs.threads_seconds(given, 32) or 0.0 for given in (quick, slow)]
    assert seconds[1] - seconds[0] == pytest.approx(48 * MS)
    wide, narrow = (
        next(each for each in decide(given).predictions if each.setting == Setting("threads", 32))
        for given in (slow, quick)
    )
    assert wide.interval.half_width > narrow.interval.half_width
    assert start_of(slow, wide) == pytest.approx(50 * MS)


def test_page_faults_that_a_trial_was_spared_may_not_be_again() -> None:
    """Threads of a warm program keep the pages of large arrays; those of a fresh one find them anew, as a loop does."""
    timing = Timing(100, 3 * MS, 3 * MS, system_s=2 * MS)
    trial = Trial(2, 4.5, 32, spared_s=2 * MS)
    given = probes(timing=timing, late_ms=0.1, items=10_000, threads=(trial,))
    none = replace(given, threads=(replace(trial, spared_s=0.0),))
    assert costs.spared(none, none.threads[0]) == 1.0
    # 0.67 ms an item, or that and half of 2 ms
    assert costs.spared(given, trial) == pytest.approx(1 + 1 / (3 / 4.5))
    assert costs.reached_by(none, none.threads[0]) == 4.5
    assert 1.8 < costs.reached_by(given, trial) < 2.4
    found = next(each for each in decide(given).predictions if each.setting.pattern == "threads").interval
    assert found.low < 1.8 and found.high > 3
    assert width(given, "threads") > 1.2 * width(none, "threads")


def test_no_more_is_spared_than_the_kernel_took_in_the_loop() -> None:
    given = probes(late_ms=0.1, threads=(Trial(2, 1.9, 32, spared_s=1.0),))
    assert costs.spared(given, given.threads[0]) == pytest.approx(
        1 + given.timing.system_s / 2 / (given.timing.wall_s / 1.9)
    )


def test_a_library_with_threads_of_its_own_is_not_proven_by_page_faults_that_were_spared() -> None:
    """Two threads were 1.75 times as fast for the pages that they had; without them they compete for the cores."""
    timing = Timing(100, 2 * MS, 4 * MS, system_s=0.9 * MS)
    threaded = probes(timing=timing, late_ms=0.1, threads=(Trial(2, 1.75, 32),))
    assert "threads" not in decide(threaded).impossible
    spared = replace(threaded, threads=(Trial(2, 1.75, 32, spared_s=0.9 * MS),))
    assert "threads" in decide(spared).impossible


def test_what_a_loop_keeps_the_parent_keeps() -> None:
    """Pages for large results are found where they stay; a worker's allocator has those of the one before."""
    travel = Travel(3, 60_000, 1e-6, 0.2 * MS, 0.2 * MS)
    kept = probes(0.5 * MS, items=1_000, travel=travel, two_processes=None)
    dropped = replace(kept, timing=replace(kept.timing, dropped_s=0.2 * MS))
    before, after = (processes_cost(each, 2, fitted=Fit(1.0)) for each in (kept, dropped))
    assert before.work - after.work == pytest.approx(0.3)
    assert after.transport_out - before.transport_out == pytest.approx(0.3)
    assert costs.at_best(dropped, 2) > costs.at_best(kept, 2)
    assert costs.at_best(dropped, 2, "threads") == costs.at_best(kept, 2, "threads")


def test_calls_whose_results_are_dropped_do_not_take_longer() -> None:
    """What was measured so is noise."""
    timing = Timing(100, 2 * MS, 2 * MS, dropped_s=2.1 * MS)
    assert timing.worker_s == 2 * MS
    assert Timing(100, 2 * MS, 2 * MS).worker_s == 2 * MS


def test_where_the_way_is_the_most_it_is_what_takes_longer() -> None:
    """Of a trial that was slower than the formulas, the work has its part."""
    travel = Travel(3, 60_000, 1e-6, 3 * MS, 1 * MS)
    mostly_way = fit(probes(1 * MS, travel=travel, two_processes=0.2), 2)
    mostly_work = fit(probes(1 * MS, two_processes=1.5), 2)
    assert mostly_way.way - 1 > 3 * (mostly_way.slow - 1) > 0
    assert mostly_work.way == pytest.approx(mostly_work.slow, rel=0.05)


def test_a_parent_that_has_slept_needs_longer_for_a_chunk() -> None:
    """Its caches are the workers' by then; one that is busy with chunks all the time keeps them."""
    of_long, of_short = probes(10 * MS, items=1_000), probes(0.01 * MS, items=1_000)
    unfitted = Fit(1.0)
    asleep = processes_cost(of_long, 2, chunk=1, fitted=unfitted).dispatch
    awake = processes_cost(of_short, 2, chunk=1, fitted=unfitted).dispatch
    assert asleep == pytest.approx(1_000 * (costs.CHUNK_S + costs.WOKEN_S))
    assert awake == pytest.approx(1_000 * (costs.CHUNK_S + 0.005 * costs.WOKEN_S))


@pytest.mark.parametrize(("items", "workers", "most"), [(3, 2, 1.5), (5, 4, 2.5), (4, 4, 4.0), (9, 4, 3.0)])
def test_a_few_items_are_no_quicker_than_the_worker_that_has_most_of_them(
    items: int, workers: int, most: float
) -> None:
    """Two workers take as long for three items as for four."""
    given = probes(1.0, items=items, start_s=0.0, two_processes=None, two_threads=2.0, late_ms=0.1)
    given = replace(given, machine=replace(given.machine, cores=workers))
    assert 0.6 * most <= items / costs.processes_cost(given, workers).seconds <= most
    seconds = costs.threads_seconds(given, workers)
    assert seconds is not None
    assert items / seconds <= most
