"""The verdict: what was predicted and what was measured together, and the machine's load."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.advisor.test_decision import MS, probes

from allcores.advisor.model.decision import decide
from allcores.advisor.model.probes import Machine, Travel
from allcores.advisor.model.verdict import Verdict, compared, conclude, of_whole_input


def test_what_pays_is_proven() -> None:
    given = probes()
    decision = decide(given)
    end = conclude(given, decision, {decision.chosen: [1.8, 1.85, 1.9, 1.82, 1.88]})
    assert end.verdict is Verdict.PARALLEL
    assert end.measured is not None
    assert end.measured.low == 1.8


def test_what_was_predicted_and_does_not_pay_is_not_recommended() -> None:
    given = probes()
    decision = decide(given)
    end = conclude(given, decision, {decision.chosen: [1.02, 1.0, 1.05, 1.01, 1.03]})
    assert end.verdict is Verdict.SERIAL
    assert end.prediction.setting.pattern == "serial"


def test_the_runner_up_may_win() -> None:
    given = probes(two_threads=1.9, late_ms=0.1)
    decision = decide(given)
    assert decision.second is not None
    end = conclude(given, decision, {decision.chosen: [1.2] * 5, decision.second: [1.9] * 5})
    assert end.verdict is Verdict.PARALLEL
    assert end.prediction is decision.second
    assert any("predicted to win" in reason for reason in end.reasons)


def test_a_busy_machine_gets_no_verdict() -> None:
    given = probes(machine=Machine(2, others=1.0, memory=8 << 30))
    decision = decide(given)
    for ratios in ([1.3] * 6, [0.9] * 6):
        end = conclude(given, decision, {decision.chosen: ratios})
        assert end.verdict is Verdict.UNRELIABLE
        assert "other programs used 1.0 of 2 cores" in end.reasons[0]


def test_a_loop_that_is_right_on_any_machine_is_said_on_a_busy_one() -> None:
    given = probes(0.2e-6, items=1000, machine=Machine(2, others=1.0), two_processes=0.2)
    decision = decide(given)
    assert conclude(given, decision, {}).verdict is Verdict.SERIAL


def test_some_load_makes_the_interval_wider() -> None:
    quiet, loaded = probes(), probes(machine=Machine(2, others=0.2, memory=8 << 30))
    ends = [
        conclude(each, decide(each), {decide(each).chosen: [1.8, 1.9, 2.0, 1.85, 1.95]}) for each in (quiet, loaded)
    ]
    assert ends[0].measured is not None
    assert ends[1].measured is not None
    assert ends[1].measured.half_width > ends[0].measured.half_width


def test_runs_on_both_sides_of_the_line_decide_nothing() -> None:
    given = probes()
    decision = decide(given)
    assert conclude(given, decision, {decision.chosen: [0.7, 1.6, 1.2, 0.9, 1.5]}).verdict is Verdict.UNRELIABLE


def test_what_was_predicted_and_measured_alike_needs_no_narrow_interval() -> None:
    """On a machine whose speed wanders: the trial says 1.95, the rounds more than 1, surely."""
    wandering = [1.02, 1.9, 1.1, 1.05, 1.7, 1.5, 1.2]
    for trial, verdict in ((1.95, Verdict.PARALLEL), (1.2, Verdict.UNRELIABLE)):
        given = probes(two_processes=trial)
        decision = decide(given)
        end = conclude(given, decision, {decision.chosen: wandering})
        assert end.measured is not None
        assert end.measured.low < 1.15 < end.measured.high
        assert end.verdict is verdict


NINE = [1.8, 1.85, 1.9, 1.82, 1.88, 1.84, 1.86, 1.83, 1.87]


def test_threads_that_are_no_different_from_processes_are_taken() -> None:
    """They copy nothing; and it is said that no difference was measured."""
    given = probes(two_threads=1.7, late_ms=0.1)
    decision = decide(given)
    assert decision.second is not None
    by_pattern = {each.setting.pattern: each for each in (decision.chosen, decision.second)}
    shaken = [
        ratio * factor for ratio, factor in zip(NINE, [0.99, 1.01, 0.98, 1.02, 1, 0.99, 1.0, 0.99, 1], strict=True)
    ]
    end = conclude(given, decision, {by_pattern["processes"]: NINE, by_pattern["threads"]: shaken})
    assert end.prediction is by_pattern["threads"]
    assert any("no difference was measured" in reason for reason in end.reasons)


def test_processes_that_are_proven_quicker_are_taken() -> None:
    given = probes(two_threads=1.9, late_ms=0.1)
    decision = decide(given)
    assert decision.second is not None
    by_pattern = {each.setting.pattern: each for each in (decision.chosen, decision.second)}
    slower = [ratio * 0.95 for ratio in NINE]
    end = conclude(given, decision, {by_pattern["processes"]: NINE, by_pattern["threads"]: slower})
    assert end.prediction is by_pattern["processes"]


def test_a_setting_beside_itself_is_compared_in_rounds() -> None:
    assert compared(NINE, NINE) is False
    assert compared(NINE, [0.9 * each for each in NINE]) is True
    assert compared(NINE[:6], NINE[:6]) is None


def test_nothing_to_compare_with_is_a_loop() -> None:
    given = probes(travel=Travel(problem="item 0 cannot be pickled", what="item"), two_processes=None)
    decision = decide(given)
    assert conclude(given, decision, {}).verdict is Verdict.SERIAL


def test_a_confirmation_that_could_not_be_made_is_no_proof() -> None:
    given = probes()
    decision = decide(given)
    end = conclude(given, decision, {}, hindered="an item takes 20 s, and there are 10 s")
    assert end.verdict is Verdict.UNRELIABLE
    assert end.reasons == ("an item takes 20 s, and there are 10 s",)


def test_the_start_counts_for_the_whole_input() -> None:
    given = probes(2 * MS, items=1000)
    assert of_whole_input(2.0, given, 0.0) == pytest.approx(2.0)
    assert of_whole_input(2.0, given, 1.0) == pytest.approx(1.0)
    assert of_whole_input(2.0, replace(given, items=None), 1.0) == 2.0


@pytest.mark.parametrize(
    ("start_s", "speedup", "verdict"),
    [(0.5, 1.17, Verdict.SERIAL), (0.01, 1.17, Verdict.PARALLEL), (0.5, 1.35, Verdict.PARALLEL)],
)
def test_a_gain_within_what_a_start_differs_by_is_none(start_s: float, speedup: float, verdict: Verdict) -> None:
    """Workers take most of the seconds to start; what was measured is one start, and the next one is another."""
    given = probes(2 * MS, items=500, start_s=start_s)
    decision = decide(given)
    processes = next(each for each in decision.predictions if each.setting.pattern == "processes")
    end = conclude(
        given, replace(decision, chosen=processes), {processes: [speedup * (1 + 0.002 * n) for n in range(9)]}
    )
    assert end.verdict is verdict
    assert any("one start differs" in reason for reason in end.reasons) is (verdict is Verdict.SERIAL)


def test_where_nothing_is_saved_the_start_is_not_the_reason() -> None:
    given = probes(2 * MS, items=500, start_s=0.5)
    decision = decide(given)
    processes = next(each for each in decision.predictions if each.setting.pattern == "processes")
    end = conclude(given, replace(decision, chosen=processes), {processes: [0.95] * 9})
    assert end.verdict is Verdict.SERIAL
    assert end.reasons[-1].endswith("measured 0.95x, and less than 1.15x is not worth it")


@given(st.lists(st.floats(0.1, 4), min_size=1, max_size=12), st.floats(0, 2))
def test_parallel_is_never_said_of_what_was_measured_slower(ratios: list[float], others: float) -> None:
    given = probes(machine=Machine(2, others=others, memory=8 << 30))
    decision = decide(given)
    end = conclude(given, decision, {decision.chosen: ratios})
    if end.verdict is Verdict.PARALLEL:
        assert sorted(ratios)[len(ratios) // 2] >= 1.0
        assert end.measured is not None
        assert end.measured.low > 1.0
