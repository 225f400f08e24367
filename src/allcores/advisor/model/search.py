"""The search for the best setting: what was measured goes in, what to measure next comes out.

Successive halving (Jamieson and Talwalkar, 2016): all settings run some items, the better half runs more of them, until
a few are left, which run against the loop until it is clear. Within a round the order is shuffled by pool, and each
second round has it reversed: whatever drifts meets all alike. Depth is tried with the best few only.

Nothing here has a clock: a search that was killed is the same search once its measurements are given again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from allcores.advisor.model.intervals import LEAST_DIFFERENCE, Interval, differs, ratio_interval
from allcores.tuned.setting import PoolSetting

#: settings that come into the last stage, besides the loop
FINALISTS = 3
#: those of them whose depth is varied, and how
REFINED, DEPTHS = 2, (1, 8)
#: part of the seconds that is kept for the last stage
LAST_PART = 0.4
#: a setting that takes so many times as long as the best is out, and its run is cut short
HOPELESS, CUT = 1.5, 2.5
#: rounds of a stage; of the last one, which ends earlier if it is clear
FIRST_ROUNDS, ROUNDS, LAST_ROUNDS, CLEAR_ROUNDS = 1, 2, 25, 7
#: half of an interval, as part of the speed-up, that is narrow
NARROW = 0.025
#: chunks for each worker in a run, at least, so that its end does not decide
RUN_CHUNKS = 2
#: seconds of a run that say something
LEAST_RUN_S = 0.02
#: chunks that are tried, besides those that size themselves and what the model says
CHUNKS = (1, 8, 64, 512, 4096)
#: part of the budget that the work of one chunk may be at most, and seconds: longer ones have no cost left to save
CHUNK_PART, MOST_CHUNK_S = 1 / 400, 0.05
#: bytes of a chunk at most, items and results
MOST_CHUNK_BYTES = 8 << 20
#: seconds of an item where none returned
NEVER_S = 1e6
#: seconds that may be too few for a run by this factor
SLACK = 1.15


@dataclass(frozen=True, slots=True)
class Ground:
    """What is known of a function before its settings are searched.

    Attributes:
        items: How many there are; None if unknown.
        at_hand: How many can be run.
        item_s: Seconds of one in the loop.
        first_s: Seconds of the first call beyond those of a later one.
        item_bytes: Of an item and its result, pickled.
        cores: Of the core budget.
        waits: It waits for most of its time, so it needs no core.
        threads, processes: Whether these can be used.
        most_workers: As many as fit into memory.
        model_chunk: What the model recommends; None.
        changes: The function changes its items.
        hopeless: Whatever the machine does, no workers can be worth it: processor seconds alone tell that.
    """

    items: int | None
    at_hand: int
    item_s: float
    first_s: float = 0.0
    item_bytes: float = 0.0
    cores: int = 1
    waits: bool = False
    threads: bool = True
    processes: bool = True
    most_workers: int = 1 << 20
    model_chunk: int | None = None
    hopeless: bool = False
    changes: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """Settings that run the same items, in rounds."""

    settings: tuple[PoolSetting, ...]
    items: int
    rounds: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A run that is next: of so many items of a round, within so many seconds; what is not done by then is not."""

    stage: int
    round: int
    setting: PoolSetting
    items: int
    most_s: float


@dataclass(slots=True)
class Search:
    """A search: its settings, and all that was measured.

    Attributes:
        ground: What is known.
        settings: All of the first stage.
        stages: Those that have begun.
        runs: (stage, round, setting) -> seconds of an item.
        starts: Place of a setting -> seconds until its pool was there.
    """

    ground: Ground
    settings: tuple[PoolSetting, ...]
    stages: list[Stage] = field(default_factory=list)
    runs: dict[tuple[int, int, PoolSetting], float] = field(default_factory=dict)
    starts: dict[tuple[str, int, int | None], float] = field(default_factory=dict)

    def score(self, setting: PoolSetting, item_s: float) -> float:
        """Seconds of the whole input; of one item if its length is unknown."""
        if self.ground.items is None:
            return item_s
        start = self.ground.first_s if setting.backend == "serial" else self.starts.get(setting.place, 0.0)
        return start + self.ground.items * item_s

    def measured(self, stage: int, setting: PoolSetting) -> float | None:
        """Seconds of an item in a stage, the median of its rounds; None if it was not run."""
        turns = range(self.stages[stage].rounds)
        found = sorted(self.runs[stage, turn, setting] for turn in turns if (stage, turn, setting) in self.runs)
        if not found:
            return None
        middle = len(found) // 2
        return found[middle] if len(found) % 2 else math.sqrt(found[middle - 1] * found[middle])

    def latest(self, setting: PoolSetting) -> float | None:
        """The same in the latest stage in which it was run."""
        for number in range(len(self.stages) - 1, -1, -1):
            found = self.measured(number, setting)
            if found is not None:
                return found
        return None

    def ranked(self, stage: int) -> list[PoolSetting]:
        """The settings of a stage that were run, the best first."""
        found = [
            (self.score(each, seconds), simplicity(each), each)
            for each in self.stages[stage].settings
            if (seconds := self.measured(stage, each)) is not None
        ]
        return [each for _, _, each in sorted(found, key=lambda one: one[:2])]


def simplicity(setting: PoolSetting) -> tuple[int, int, bool, int, bool, int]:
    """Less is simpler: what is preferred among settings that are as fast."""
    order = ("serial", "threads", "processes").index(setting.backend)
    chunk, depth = setting.chunk, setting.depth
    return order, setting.workers, chunk is not None, chunk or 0, depth is not None, depth or 0


# --- which settings there are ---------------------------------------------------------------------


def space(ground: Ground, budget_s: float) -> tuple[PoolSetting, ...]:
    """All settings of the first stage: backend x workers x chunk; the loop is the first."""
    found = [PoolSetting("serial")]
    if ground.hopeless:
        return tuple(found)
    for backend, possible in (("threads", ground.threads), ("processes", ground.processes)):
        if not possible:
            continue
        for workers in worker_counts(ground, backend):
            found += [PoolSetting(backend, workers, chunk) for chunk in chunks(ground, workers, budget_s)]
    return tuple(found)


def worker_counts(ground: Ground, backend: str) -> list[int]:
    """Numbers of workers worth trying: about as many as cores; more where the function waits."""
    cores = ground.cores
    if ground.waits:
        wanted = {2, 8, 32, 64} if backend == "threads" else {cores, 2 * cores, 4 * cores}
    else:
        wanted = {1, cores // 4 if cores >= 16 else cores // 2, cores // 2, cores, cores + 1}
        if backend == "threads":
            wanted -= {1}
    most = min(ground.most_workers, ground.at_hand, ground.items or ground.at_hand)
    return sorted({min(workers, most) for workers in wanted if workers >= 1} - {0})


def chunks(ground: Ground, workers: int, budget_s: float) -> list[int | None]:
    """Chunks worth trying: as they size themselves, and some numbers that leave every worker several."""
    most = min(CHUNK_PART * budget_s, MOST_CHUNK_S) / max(ground.item_s, 1e-9)
    if ground.item_bytes > 0:
        most = min(most, MOST_CHUNK_BYTES / ground.item_bytes)
    most = min(most, ground.at_hand / (RUN_CHUNKS * workers))
    wanted = {*CHUNKS, *(() if ground.model_chunk is None else (ground.model_chunk,))}
    return [None, *sorted(each for each in wanted if each == 1 or each <= most)]


def refined(settings: Iterable[PoolSetting]) -> list[PoolSetting]:
    """The same with other depths; where chunks size themselves, too, as depth is counted in them."""
    return [
        replace_depth(each, depth)
        for each in settings
        if each.backend != "serial" and each.depth is None
        for depth in DEPTHS
    ]


def replace_depth(setting: PoolSetting, depth: int | None) -> PoolSetting:
    """The setting with another depth."""
    return PoolSetting(setting.backend, setting.workers, setting.chunk, depth)


# --- what is next ---------------------------------------------------------------------------------


def next_step(search: Search, left_s: float) -> Stage | Step | None:
    """What to do next: begin a stage, run a setting; None if it is over, by its result or for want of time.

    Args:
        search: All so far.
        left_s: Seconds that are left.
    """
    if len(search.settings) == 1:
        return None  # there is nothing to choose from
    if not search.stages:
        return _stage(search, list(search.settings), left_s, FIRST_ROUNDS)
    number = len(search.stages) - 1
    stage = search.stages[-1]
    step = _next_run(search, number, stage, left_s)
    if step is not None:
        return step if step.most_s > 0 else None
    if stage.last:
        return None
    kept = survivors(search, number)
    if not kept:
        return None
    is_refined = any(each.depth is not None for one in search.stages for each in one.settings)
    if len(kept) > FINALISTS:
        return _stage(search, kept, left_s, ROUNDS)
    added = [] if is_refined else refined(kept[:REFINED])
    if added:
        return _stage(search, [*kept, *added], left_s, ROUNDS)
    loop = search.settings[0]
    return _stage(search, [*kept, *([] if loop in kept else [loop])], left_s, LAST_ROUNDS, last=True)


def survivors(search: Search, number: int) -> list[PoolSetting]:
    """The better half of a stage, the best first; at least as many as come into the last one, but none without hope."""
    ranked = search.ranked(number)
    if not ranked:
        return []
    count = max(FINALISTS, math.ceil(len(ranked) / 2)) if len(ranked) > FINALISTS else len(ranked)
    if count == len(ranked) > FINALISTS:
        count -= 1
    scores = {each: search.score(each, search.measured(number, each) or 0.0) for each in ranked}
    best = scores[ranked[0]]
    return [each for each in ranked[:count] if scores[each] <= HOPELESS * best]


def _next_run(search: Search, number: int, stage: Stage, left_s: float) -> Step | None:
    """The run of a stage that is next; with no seconds if there is no time for it. None if the stage is over."""
    for turn in range(stage.rounds):
        if all((number, turn, each) in search.runs for each in stage.settings):
            continue
        missing = [each for each in order_of(stage, number, turn) if (number, turn, each) not in search.runs]
        begins = len(missing) == len(stage.settings)
        if begins and stage.last and turn >= CLEAR_ROUNDS and is_clear(search, number):
            return None
        setting = missing[0]
        done = [search.runs[number, turn, each] for each in stage.settings if (number, turn, each) in search.runs]
        best = min(done, default=search.ground.item_s)
        expected = expectation(search, setting) * stage.items
        if expected * SLACK > left_s or (
            # a round of the last stage that cannot be finished says nothing
            begins and stage.last and SLACK * sum(expectation(search, each) for each in missing) * stage.items > left_s
        ):
            return Step(number, turn, setting, stage.items, 0.0)
        # the loop is never cut short: it is what all are compared with
        most = left_s if setting.backend == "serial" else max(CUT * best * stage.items, 5 * LEAST_RUN_S)
        return Step(number, turn, setting, stage.items, min(most, left_s))
    return None


def order_of(stage: Stage, number: int, turn: int) -> list[PoolSetting]:
    """The order of a round: pools shuffled, and settings within each; every second round is the one before reversed."""
    numbers = random.Random(number * 1_000 + turn // 2)
    places: dict[tuple[str, int, int | None], list[PoolSetting]] = {}
    for each in stage.settings:
        places.setdefault(each.place, []).append(each)
    groups = list(places.values())
    numbers.shuffle(groups)
    order = []
    for group in groups:
        numbers.shuffle(group)
        order += group
    return order[::-1] if turn % 2 else order


def expectation(search: Search, setting: PoolSetting) -> float:
    """Seconds of an item that a setting is expected to take: as measured, else as with its like, else a guess."""
    found = search.latest(setting)
    if found is None and setting.depth is not None:
        found = search.latest(replace_depth(setting, None))
    if found is not None:
        return found
    ground = search.ground
    if setting.backend == "serial":
        return ground.item_s
    if ground.waits:
        return ground.item_s / setting.workers
    return max(ground.item_s / min(setting.workers, ground.cores), 1e-6)


def _stage(search: Search, settings: list[PoolSetting], left_s: float, rounds: int, *, last: bool = False) -> Stage:
    """A stage that fits into its part of the seconds that are left; settings for which there is no time stay out."""
    seconds = 0.9 * left_s if last else (1 - LAST_PART) * left_s / stages_left(settings)
    planned = CLEAR_ROUNDS + 2 if last else rounds
    each_s = {each: min(expectation(search, each), CUT * search.ground.item_s) for each in settings}
    while True:
        least = least_items(search.ground, settings)
        # what the settings' workers and chunks need comes first, and settings are dropped for it
        if len(settings) <= FINALISTS + 1 or planned * least * sum(each_s[each] for each in settings) <= 2 * seconds:
            break
        # the largest chunk asks for most; of those the last, which has most workers
        dropped = max(settings[1:], key=lambda each: (_needs(each), each.workers))
        settings = [each for each in settings if each != dropped]
    count = int(seconds / (planned * max(sum(each_s[each] for each in settings), 1e-12)))
    quickest = min(each_s[each] for each in settings)
    count = max(count, least, min(int(LEAST_RUN_S / max(quickest, 1e-12)), int(3 * count) + 1))
    return Stage(tuple(settings), max(1, min(count, search.ground.at_hand)), rounds, last)


def stages_left(settings: Sequence[PoolSetting]) -> int:
    """Stages until the last one, that with other depths counted."""
    return max(1, math.ceil(math.log2(max(1.0, len(settings) / FINALISTS))) + 1)


def _needs(setting: PoolSetting) -> int:
    return RUN_CHUNKS * setting.workers * (setting.chunk or 1)


def least_items(ground: Ground, settings: Iterable[PoolSetting]) -> int:
    """Items of a run, at least: every worker of each setting has some chunks."""
    return min(ground.at_hand, max(map(_needs, settings), default=1))


# --- what came out --------------------------------------------------------------------------------


def rounds_of(search: Search, number: int, setting: PoolSetting) -> list[float]:
    """Seconds of the whole input in each round of a stage that all of its settings have finished."""
    stage = search.stages[number]
    return [
        search.score(setting, search.runs[number, turn, setting])
        for turn in range(stage.rounds)
        if all((number, turn, each) in search.runs for each in stage.settings)
    ]


def ratios(search: Search, number: int, one: PoolSetting, other: PoolSetting) -> list[float]:
    """How many times as long as another a setting took, round by round."""
    pairs = zip(rounds_of(search, number, one), rounds_of(search, number, other), strict=True)
    return [mine / max(theirs, 1e-12) for mine, theirs in pairs]


def winner_of(search: Search, number: int) -> PoolSetting | None:
    """The best of a stage; of those that are as fast, within 1 %, the simplest. None if no round was finished."""
    stage = search.stages[number]
    if not rounds_of(search, number, stage.settings[0]):
        return None
    best = search.ranked(number)[0]
    near = [
        each
        for each in stage.settings
        if ratio_interval(ratios(search, number, each, best)).speedup <= 1 + LEAST_DIFFERENCE / 2
    ]
    return min([best, *near], key=simplicity)


def is_clear(search: Search, number: int) -> bool:
    """Whether more rounds would change nothing: the gain is known well, and who wins, or that it does not matter."""
    winner = winner_of(search, number)
    if winner is None:
        return False
    loop = search.settings[0]
    if winner != loop and speedup_of(search, number, winner).half_width >= NARROW:
        return False
    for each in search.stages[number].settings:
        found = ratios(search, number, each, winner)
        if each != winner and not differs(found) and ratio_interval(found).half_width >= NARROW:
            return False
    return True


def speedup_of(search: Search, number: int, setting: PoolSetting) -> Interval:
    """Over the loop, for the whole input, with the ends of 90 %; both are in that stage, and finished a round."""
    return ratio_interval(ratios(search, number, search.settings[0], setting))
