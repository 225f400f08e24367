"""The search for the best setting, played against machines whose speeds are known. No clock, no process."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from allcores.advisor.model import search as model
from allcores.advisor.model.found import Found, found_by, growth
from allcores.advisor.model.search import Ground, Search, Stage, Step, next_step, space
from allcores.advisor.model.verdict import Verdict
from allcores.tuned.setting import PoolSetting

GROUND = Ground(items=20_000, at_hand=20_000, item_s=100e-6, item_bytes=20, cores=4, threads=False, model_chunk=100)
#: seconds that a chunk costs in the parent
CHUNK_S = 120e-6


def machine(ground: Ground) -> Callable[[PoolSetting], float]:
    """Seconds of an item on a machine with a parent that sends chunks, and cores that workers share."""

    def item_s(setting: PoolSetting) -> float:
        if setting.backend == "serial":
            return ground.item_s
        workers = setting.workers if ground.waits else min(setting.workers, ground.cores)
        chunk = setting.chunk or max(1, int(0.02 / ground.item_s))
        waiting = 40e-6 / chunk if setting.depth == 1 else 0.0
        return max(ground.item_s / workers * 1.03, CHUNK_S / chunk) + waiting + 0.2e-6

    return item_s


class Play:
    """A search that is run against a machine; its seconds are counted, not waited for."""

    def __init__(self, ground: Ground, budget_s: float, noise: float = 0.0, seed: int = 0) -> None:
        self.search = Search(ground, space(ground, budget_s))
        self.left_s = budget_s
        self.steps: list[Stage | Step] = []
        self._item_s = machine(ground)
        self._noise = noise
        self._numbers = random.Random(seed)

    def play(self, most: int = 100_000) -> Play:
        """Until it is over, or so many steps were made."""
        while len(self.steps) < most:
            step = next_step(self.search, self.left_s)
            if step is None:
                return self
            self.steps.append(step)
            if isinstance(step, Stage):
                self.search.stages.append(step)
                continue
            item_s = self._item_s(step.setting) * math.exp(self._numbers.gauss(0, self._noise))
            self.left_s -= min(item_s * step.items, step.most_s)
            assert (step.stage, step.round, step.setting) not in self.search.runs, "nothing is measured twice"
            self.search.runs[step.stage, step.round, step.setting] = item_s
            if step.setting.backend != "serial":
                self.search.starts.setdefault(step.setting.place, 0.03)
        raise AssertionError("it does not end")

    def found(self, others: float = 0.0) -> Found:
        return found_by(self.search, others)


def exhaustive(ground: Ground, budget_s: float) -> float:
    """Seconds of the whole input with the best of all settings, depths included."""
    item_s = machine(ground)
    settings = space(ground, budget_s)
    every = [each for setting in settings for each in (setting, *model.refined([setting]))]
    assert ground.items is not None
    return min(0.03 * (each.backend != "serial") + ground.items * item_s(each) for each in every)


grounds = st.builds(
    Ground,
    items=st.integers(1, 10**7),
    at_hand=st.integers(1, 10**6),
    item_s=st.floats(1e-7, 5.0),
    first_s=st.floats(0, 3),
    item_bytes=st.floats(0, 1e8),
    cores=st.integers(1, 64),
    waits=st.booleans(),
    threads=st.booleans(),
    processes=st.booleans(),
    most_workers=st.integers(1, 200),
    model_chunk=st.none() | st.integers(1, 10_000),
    hopeless=st.booleans(),
).map(lambda ground: replace(ground, at_hand=min(ground.at_hand, ground.items or 1)))


@pytest.mark.parametrize("cores", [2, 4, 32])
@pytest.mark.parametrize("item_s", [2e-6, 50e-6, 1e-3, 50e-3])
def test_what_it_finds_is_within_3_percent_of_the_best_of_all(item_s: float, cores: int) -> None:
    """On a machine whose runs differ by 2 %, for nine of ten seeds at least, in a quarter of an exhaustive search."""
    ground = replace(GROUND, item_s=item_s, cores=cores, items=int(20 / item_s), at_hand=min(10**6, int(20 / item_s)))
    settings = space(ground, 30)
    item = machine(ground)
    every = [each for setting in settings for each in (setting, *model.refined([setting]))]
    assert ground.items is not None
    budget_s = 0.25 * 3 * sum(ground.items * item(each) for each in every)
    good = 0
    for seed in range(20):
        play = Play(ground, min(60.0, budget_s), 0.02, seed).play()
        winner = play.found().setting
        seconds = 0.03 * (winner.backend != "serial") + ground.items * item(winner)
        good += seconds <= 1.03 * exhaustive(ground, min(60.0, budget_s))
    assert good >= 18


def test_who_wins_is_told_with_its_gain() -> None:
    found = Play(GROUND, 20.0, 0.01).play().found()
    assert found.verdict is Verdict.PARALLEL
    assert found.setting.backend == "processes"
    assert found.setting.workers >= 4
    assert found.measured is not None
    assert 3.3 < found.measured.low <= found.measured.speedup <= found.measured.high < 4.2


def test_tiny_items_stay_in_a_loop() -> None:
    found = Play(replace(GROUND, item_s=0.15e-6, items=10**6, at_hand=10**6), 20.0, 0.01).play().found()
    assert found.verdict is Verdict.SERIAL
    assert found.setting == PoolSetting("serial")


def test_where_nothing_can_help_nothing_is_searched_and_no_load_hides_it() -> None:
    play = Play(replace(GROUND, item_s=0.1e-6, hopeless=True), 20.0).play()
    assert play.steps == []
    found = play.found(others=3.9)
    assert found.verdict is Verdict.SERIAL
    assert found.reasons[0].startswith("an item takes 100 ns, and even if")
    alone = Play(replace(GROUND, processes=False), 20.0).play().found()
    assert (alone.verdict, alone.reasons) == (Verdict.SERIAL, ("no other way to run it can be used",))


def test_too_little_time_is_no_verdict() -> None:
    found = Play(replace(GROUND, item_s=2.0, items=50, at_hand=50), 4.0).play().found()
    assert found.verdict is Verdict.UNRELIABLE
    assert not found.busy
    assert "budget" in found.reasons[0]


def test_a_busy_machine_gets_no_verdict_and_what_it_measured_is_not_kept() -> None:
    found = Play(GROUND, 20.0, 0.01).play().found(others=1.5)
    assert found.verdict is Verdict.UNRELIABLE
    assert found.busy
    assert "other programs used 1.5 of 4 cores" in found.reasons[0]


def test_who_waits_does_not_mind_a_busy_machine_and_gets_many_workers() -> None:
    ground = replace(GROUND, item_s=10e-3, items=2_000, at_hand=2_000, waits=True, threads=True)
    found = Play(ground, 20.0, 0.01).play().found(others=3.0)
    assert found.verdict is Verdict.PARALLEL
    assert found.setting.workers >= 16


def test_of_settings_that_are_as_fast_the_simplest_is_taken() -> None:
    """Two that differ by nothing but noise: chunks that size themselves rather than a number."""
    plain, fixed = PoolSetting("processes", 4), PoolSetting("processes", 4, 64, 8)
    loop = PoolSetting("serial")
    found = Search(GROUND, (loop, plain, fixed), [Stage((loop, plain, fixed), 100, 7, last=True)])
    for turn in range(7):
        found.runs |= {(0, turn, loop): 1.0, (0, turn, plain): 0.252, (0, turn, fixed): 0.25}
    assert model.winner_of(found, 0) == plain
    for turn in range(7):
        found.runs[0, turn, plain] = 0.27
    assert model.winner_of(found, 0) == fixed


@given(grounds, st.floats(2, 120), st.integers(0, 2**32))
@hypothesis_settings(max_examples=30, deadline=None)
def test_every_search_ends_within_its_time(ground: Ground, budget_s: float, seed: int) -> None:
    """Whatever the function: each setting once in each round, all on the same items, no more than there are."""
    play = Play(ground, budget_s, 0.1, seed).play()
    assert play.left_s >= -1e-6
    assert all(1 <= stage.items <= ground.at_hand for stage in play.search.stages)
    assert sum(stage.last for stage in play.search.stages) <= 1
    for stage in play.search.stages[1:]:
        assert len(set(stage.settings)) == len(stage.settings)
    play.found()
    growth(play.search, play.found().setting.backend)


@given(st.integers(0, 2**32), st.floats(0, 1))
@hypothesis_settings(max_examples=30, deadline=None)
def test_a_search_that_was_killed_goes_on_as_it_would_have(seed: int, part: float) -> None:
    """Its next step is a function of what was measured and of the seconds that are left."""
    whole = Play(GROUND, 10.0, 0.05, seed).play()
    steps = int(part * len(whole.steps))
    resumed = Search(GROUND, space(GROUND, 10.0))
    left_s = 10.0
    for step in whole.steps[:steps]:
        assert next_step(resumed, left_s) == step
        if isinstance(step, Stage):
            resumed.stages.append(step)
        else:
            item_s = whole.search.runs[step.stage, step.round, step.setting]
            resumed.runs[step.stage, step.round, step.setting] = item_s
            left_s -= min(item_s * step.items, step.most_s)
            if step.setting.backend != "serial":
                resumed.starts.setdefault(step.setting.place, 0.03)
    expected = whole.steps[steps] if steps < len(whole.steps) else None
    assert next_step(copy.deepcopy(resumed), left_s) == expected


def test_every_second_round_is_reversed_and_pools_stay_together() -> None:
    settings = tuple(PoolSetting("processes", workers, chunk) for workers in (2, 4) for chunk in (1, 8, 64))
    stage = Stage(settings, 100, 4)
    first, second, third = (model.order_of(stage, 0, turn) for turn in range(3))
    assert second == first[::-1]
    assert sorted(map(str, third)) == sorted(map(str, first))
    assert len({each.workers for each in first[:3]}) == 1
    assert any(model.order_of(stage, number, 0) != first for number in range(5))


def test_what_is_hopeless_is_cut_short_and_the_loop_never() -> None:
    play = Play(GROUND, 20.0)
    play.play()
    runs = [step for step in play.steps if isinstance(step, Step)]
    assert {step.setting.backend for step in runs} == {"serial", "processes"}
    for step in runs:
        if step.setting.backend != "serial":
            assert step.most_s <= max(model.CUT * GROUND.item_s * step.items, 5 * model.LEAST_RUN_S) + 1e-9


@pytest.mark.parametrize(
    ("ground", "wanted"),
    [
        (Ground(100, 100, 1e-3, cores=1, threads=False), {1, 2}),
        (Ground(100, 100, 1e-3, cores=2, threads=False), {1, 2, 3}),
        (Ground(100, 100, 1e-3, cores=4, threads=False), {1, 2, 4, 5}),
        (Ground(1_000, 1_000, 1e-3, cores=32, threads=False), {1, 8, 16, 32, 33}),
        (Ground(3, 3, 1e-3, cores=32, threads=False), {1, 3}),
        (Ground(100, 100, 1e-3, cores=8, threads=False, most_workers=3), {1, 3}),
        (Ground(100, 100, 1e-3, cores=2, waits=True, processes=False), {2, 8, 32, 64}),
        (Ground(100, 100, 1e-3, cores=2, threads=False, processes=False), set()),
    ],
)
def test_numbers_of_workers_fit_the_machine_the_memory_and_the_items(ground: Ground, wanted: set[int]) -> None:
    assert {each.workers for each in space(ground, 30)[1:]} == wanted


@given(grounds, st.floats(2, 120))
def test_no_chunk_is_larger_than_pays_or_fits(ground: Ground, budget_s: float) -> None:
    for each in space(ground, budget_s)[1:]:
        if each.chunk is not None and each.chunk > 1:
            assert each.chunk * ground.item_s <= model.MOST_CHUNK_S + 1e-9
            assert each.chunk * ground.item_bytes <= model.MOST_CHUNK_BYTES
            assert each.chunk * each.workers * model.RUN_CHUNKS <= ground.at_hand


def test_three_numbers_of_workers_are_extrapolated_and_two_are_not() -> None:
    four = Play(GROUND, 20.0).play()
    found = growth(four.search, "processes")
    assert found is not None and found.scaling is not None
    assert set(found.rates) == {1, 2, 4}  # a fifth worker shares a core
    assert set(found.further) == {8, 16}
    for key in [each for each in four.search.runs if each[2].workers == 4]:
        four.search.runs[key] = model.NEVER_S  # where no item returned
    found = growth(four.search, "processes")
    assert found is not None and set(found.rates) == {1, 2} and found.scaling is None
    two = Play(replace(GROUND, cores=2), 20.0).play()
    found = growth(two.search, "processes")
    assert found is not None and found.scaling is None and not found.further
    assert found.reason is not None and found.reason.startswith("not extrapolated: 2 numbers of workers")
    assert growth(two.search, "serial") is None


def test_a_search_that_is_unclear_after_all_its_rounds_is_over_whatever_the_time() -> None:
    loop, other = PoolSetting("serial"), PoolSetting("processes", 4)
    stage = Stage((loop, other), 100, model.LAST_ROUNDS, last=True)
    found = Search(GROUND, (loop, other), [stage])
    numbers = random.Random(1)
    for turn in range(stage.rounds):
        step = next_step(found, 1e9)
        assert isinstance(step, Step) and step.round == turn
        found.runs |= {(0, turn, loop): 1.0, (0, turn, other): math.exp(numbers.gauss(0, 1))}
    assert next_step(found, 1e9) is None
    assert found_by(found, 0.0).verdict is not Verdict.PARALLEL


def last_stage(ground: Ground, loop_s: float, other_s: float, rounds: int) -> Search:
    """A search in its last stage, of the loop and two processes whose pool was there after 0.3 s."""
    loop, other = PoolSetting("serial"), PoolSetting("processes", 2)
    found = Search(ground, (loop, other), [Stage((loop, other), 10, model.LAST_ROUNDS, last=True)])
    found.starts[other.place] = 0.3
    for turn in range(rounds):
        found.runs |= {(0, turn, loop): loop_s, (0, turn, other): other_s}
    return found


@pytest.mark.parametrize(
    ("items", "verdict"), [(20, Verdict.SERIAL), (2_000, Verdict.PARALLEL), (None, Verdict.PARALLEL)]
)
def test_the_start_of_workers_counts_for_the_whole_input(items: int | None, verdict: Verdict) -> None:
    """Twice as fast once they are there: that pays for many items, for an unknown number, and not for a few."""
    ground = replace(GROUND, items=items, cores=2)
    assert found_by(last_stage(ground, 10e-3, 5e-3, 7), 0.0).verdict is verdict


def test_so_does_what_the_first_call_loads_in_a_loop() -> None:
    ground = replace(GROUND, items=20, cores=2, first_s=1.0)
    assert found_by(last_stage(ground, 10e-3, 5e-3, 7), 0.0).verdict is Verdict.PARALLEL


@pytest.mark.parametrize(("rounds", "verdict"), [(0, None), (1, None), (2, None), (3, Verdict.PARALLEL)])
def test_fewer_than_three_rounds_are_no_verdict(rounds: int, verdict: Verdict | None) -> None:
    found = found_by(last_stage(replace(GROUND, cores=2), 10e-3, 5e-3, rounds), 0.0)
    assert found.verdict is (verdict or Verdict.UNRELIABLE)
    if verdict is None:
        assert found.reasons[0].startswith(f"{rounds} round{'s' if rounds != 1 else ''} of the last stage were run")


@pytest.mark.slow
def test_a_setting_beside_itself_is_no_gain() -> None:
    """A hundred searches among settings that are all as fast as the loop: none says that one of them pays."""
    loop, *others = (PoolSetting("serial"), PoolSetting("processes", 2), PoolSetting("processes", 2, 64))
    stage = Stage((loop, *others), 100, model.LAST_ROUNDS, last=True)
    verdicts = []
    for seed in range(100):
        numbers = random.Random(seed)
        found = Search(GROUND, (loop, *others), [stage])
        while (step := next_step(found, 1e9)) is not None:
            assert isinstance(step, Step)
            found.runs[step.stage, step.round, step.setting] = math.exp(numbers.gauss(0, 0.05))
        verdicts.append(found_by(found, 0.0).verdict)
    assert verdicts.count(Verdict.SERIAL) >= 95
    assert Verdict.PARALLEL not in verdicts
