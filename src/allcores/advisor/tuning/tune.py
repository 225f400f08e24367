"""`allcores.tune`: measure settings, one run after the other, and keep the best."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from time import perf_counter
from typing import Any

from allcores.advisor.asked import checked_name, name_in_code
from allcores.advisor.measuring import machine
from allcores.advisor.measuring.machine import Load
from allcores.advisor.measuring.no_answer import NoAnswer
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model import costs, search
from allcores.advisor.model.code import Names
from allcores.advisor.model.decision import decide
from allcores.advisor.model.found import Found, found_by, growth
from allcores.advisor.model.memory import room_for
from allcores.advisor.model.pitfalls import CHANGES
from allcores.advisor.model.search import Ground, Search, Stage
from allcores.advisor.model.verdict import Verdict
from allcores.advisor.probing import Probing
from allcores.advisor.tuning.code import code_for_tuned
from allcores.advisor.tuning.known import known_by
from allcores.advisor.tuning.pools import Pools
from allcores.advisor.tuning.record import Tried
from allcores.advisor.tuning.tuning import Tuning
from allcores.errors import BrokenPool, UsageError
from allcores.system.caller import warn
from allcores.system.tracebacks import hiding
from allcores.tuned import facts
from allcores.tuned.files import Kept, Place
from allcores.tuned.journal import SearchJournal
from allcores.tuned.setting import PoolSetting, setting_from

#: seconds for everything, and the least that can be asked for
BUDGET_S, LEAST_BUDGET_S = 30.0, 2.0
#: part of them for the probes, and seconds
PROBE_PART, MOST_PROBE_S = 0.2, 10.0
#: but so many at least, or that part: with fewer a busy machine has not started a worker by then
LEAST_PROBE_S, LEAST_PROBE_PART = 3.0, 0.8
#: seconds that are kept for the end
SPARE_S = 0.2
#: of a function that keeps its results: each run after the first would be of items that it knows
REMEMBERS = (
    "a second call on the same item takes next to nothing, as the function keeps results, and a search calls it on the"
    " same items again and again: tune what computes them (fn.__wrapped__, under functools.cache), or ask advise, which"
    " measures it with items that it has not seen"
)
#: seconds, more than any search takes
FOREVER_S = 1e9


@hiding
def tune(
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    budget: float = BUDGET_S,
    total: int | None = None,
) -> Tuning:
    """Search the fastest setting for a function on this machine, and keep it for `Pool(tuned=fn)`.

    Backend, workers, chunk and depth are tried on real items: all of them on some, the better half on more, the last
    few against the loop until it is clear. The function is called many times on the same items, so it should be one
    that may be. What is measured is kept at once: after a kill the same call goes on, and measures nothing twice.

    Args:
        fn: The function, of one item.
        items: The input. A sequence is looked into all over; of any other iterable the first items are read, for a
            second at most, and so are those of a sequence that takes long to give one (it reads them from a disk).
        budget: Seconds for everything, those before a kill included; at least 2.
        total: How many items there are, if `items` cannot tell.

    Returns:
        The winner with its speed-up over the loop, all that was tried, and what more workers would do.

    Raises:
        UsageError: There are no items, an option makes no sense, the function raises for every item that was tried,
            another process tunes it, or the folder of kept settings cannot be used or trusted.
    """
    name = checked_name(fn, budget=budget, least_budget=LEAST_BUDGET_S, total=total)
    names = Names(name_in_code(fn))

    def tell(clause: str) -> None:
        warn(f"tune: the function {clause}. It is called many times on the same items from here on.")

    return tune_named(fn, items, names, name, began=perf_counter(), budget=budget, total=total, tell=tell)


def tune_named(
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    names: Names,
    shown: str,
    *,
    began: float,
    budget: float,
    total: int | None,
    tell: Callable[[str], None],
    say: Callable[[str], object] = lambda sentence: None,
) -> Tuning:
    """The same with names for the code, a budget that has begun already, and listeners. See `tune` and `Probing`."""
    now = facts.facts_of(fn)  # before any call: what a function does to its module is not its code
    place = Place(fn)
    place.make()
    with ExitStack() as stack:
        stack.callback(place.locked().release)
        place.check(place.path)
        sample = Sample(items, total=total)
        if not sample.count:
            raise UsageError("there are no items: tuning needs some to measure the function with")
        head = {"version": 1, "facts": now.as_dict(), "input": known_by(sample)}
        journal = SearchJournal(place, head)
        stack.callback(journal.close)
        measuring = _Measuring(fn, sample, journal, budget - SPARE_S, began, tell)
        stack.callback(measuring.close)
        if journal.replaced:
            say("the search that was begun for this function was of another input, code or machine: it begins anew")
        if journal.lines:
            say(f"going on with a search that was begun: {measuring.resumed} runs are measured")
        try:
            measuring.begin()
        except NoAnswer as reason:
            journal.end()
            return _no_answer(str(reason), shown, names, sample, perf_counter() - began)
        measuring.run()
        found = found_by(measuring.search, max(measuring.earlier_others, measuring.load.others()))
        kept = None
        if found.verdict is not Verdict.UNRELIABLE:
            place.keep(Kept(found.setting, now, found.measured.speedup if found.measured else None, time.time()))
            kept = place.path
        if kept is not None or found.busy or measuring.is_over:
            # it was found; or its measurements are good for nothing; or more time would not measure more
            journal.end()
        return _tuning(found, measuring, kept, shown, names)


class _Measuring:
    """One search: reads what was measured, measures what is next, and writes it down.

    Args:
        fn: The function.
        sample: Its items.
        journal: Where measurements are kept.
        budget: Seconds for all of it.
        began: When that began, as `perf_counter` tells it.
        tell: Is told what the function does outside, as by `Probing`.
    """

    def __init__(
        self,
        fn: Callable[[Any], Any],
        sample: Sample,
        journal: SearchJournal,
        budget: float,
        began: float,
        tell: Callable[[str], None],
    ) -> None:
        self.load = Load()
        self.search = Search(Ground(sample.total, sample.count, 1.0), ())
        self.calls = 0
        self.spent = 0.0
        #: cores' worth of other programs' work, as the process saw it that began this search
        self.earlier_others = 0.0
        self._fn = fn
        self._sample = sample
        self._journal = journal
        self._tell = tell
        self._budget = budget
        self._began = began
        self._pools = Pools(fn, self.load.cores)
        self.resumed = sum("run" in line for line in journal.lines)

    def close(self) -> None:
        """End the workers."""
        self._pools.close()

    @property
    def seconds(self) -> float:
        """Seconds so far, those of an earlier process included."""
        return self.spent + perf_counter() - self._began

    @property
    def is_over(self) -> bool:
        """Nothing is left to measure, however much time there were."""
        return search.next_step(self.search, FOREVER_S) is None

    def begin(self) -> None:
        """Take in what was measured; without anything, probe the function.

        Raises:
            NoAnswer: One item takes longer than there is time, or nothing once it was called.
        """
        for line in self._journal.lines:
            _take_in(self.search, line)
            self.calls += int(line.get("calls", 0))
            self.spent += float(line.get("spent", 0.0))
            self.earlier_others = float(line.get("others", 0.0))
        self._sample.copied = self.search.ground.changes
        if self.search.settings:
            self._sample.cut(self.search.ground.at_hand)  # the items of a round are the same for all of its settings
        if not self.search.settings:
            self.search.ground = self._probed()
            self.search.settings = search.space(self.search.ground, self._budget)
            self._note({"settings": [each.as_dict() for each in self.search.settings], **_ground(self.search.ground)})

    def run(self) -> None:
        """Measure until it is clear, or the seconds are over."""
        warm = [item for _, item in self._sample.look(min(64, self._sample.count))]
        while True:
            step = search.next_step(self.search, self._budget - self.seconds)
            if step is None:
                return
            if isinstance(step, Stage):
                self.search.stages.append(step)
                self._note(
                    {
                        "stage": [each.as_dict() for each in step.settings],
                        "items": step.items,
                        "rounds": step.rounds,
                        "last": step.last,
                    }
                )
                continue
            items = self._items(step.stage, step.round, step.items)
            start_s: float | None = None
            try:
                start_s = self._pools.ready(step.setting, warm)
                done, seconds = self._pools.run(step.setting, items, step.most_s)
            except BrokenPool:
                # So many workers cannot be had here, or do not stay: that setting does nothing, and others may do.
                self._pools.drop(step.setting)
                done, seconds = 0, step.most_s
            if start_s is not None:
                self.search.starts.setdefault(step.setting.place, start_s)
            self.search.runs[step.stage, step.round, step.setting] = _item_s(seconds, done)
            self._note(
                {
                    "run": [step.stage, step.round],
                    "setting": step.setting.as_dict(),
                    "items": done,
                    "seconds": seconds,
                    "start": start_s,
                },
                # items that failed were called, too
                calls=(len(items) if seconds <= step.most_s else done)
                + (0 if start_s is None else step.setting.workers),
            )

    def _items(self, stage: int, turn: int, count: int) -> list[Any]:
        """The items of a round: the same for all of its settings, and after a kill."""
        total = self._sample.count
        first = (stage * 7_919 + turn) * count % total
        taken = self._sample.look_from(first, count)
        return [item for _, item in taken]

    def _note(self, line: dict[str, Any], *, calls: int = 0) -> None:
        """Write a line, with the seconds and calls since the last one."""
        now = perf_counter()
        passed, self._began = now - self._began, now
        self.spent += passed
        self.calls += calls
        self._journal.add({**line, "spent": passed, "calls": calls, "others": self.load.others()})

    def _probed(self) -> Ground:
        """What the advisor's probes tell of the function."""
        least = min(LEAST_PROBE_S, LEAST_PROBE_PART * self._budget)
        seconds = max(least, min(PROBE_PART * self._budget, MOST_PROBE_S))
        probing = Probing(self._fn, self._sample, began=perf_counter(), budget=seconds, tell=self._tell)
        try:
            probes = probing.run()
        finally:
            probing.close()
        if probes.traits.remembers:
            raise NoAnswer(REMEMBERS)
        self.calls += sum(self._sample.calls.values())
        decision = decide(probes)
        # Nothing is left out for a trial that found no gain, for that is what is measured now; only what cannot be.
        most = room_for(probes)
        processes = probes.travel.problem is None and most >= 1
        return Ground(
            items=self._sample.total,
            at_hand=self._sample.count,
            item_s=probes.timing.wall_s,
            first_s=probes.timing.first_s,
            item_bytes=probes.travel.bytes_in + probes.travel.bytes_out,
            cores=probes.machine.cores,
            waits=decision.kind in ("waiting", "device"),
            threads=bool(probes.threads) and "threads" not in decision.impossible,
            processes=processes,
            most_workers=max(1, most),
            hopeless=decision.certain,
            changes=probes.traits.changes,
            model_chunk=costs.chunk_for(probes, max(2, probes.machine.cores)) if processes else None,
        )


_GROUND = (
    "items",
    "at_hand",
    "item_s",
    "first_s",
    "item_bytes",
    "cores",
    "waits",
    "threads",
    "processes",
    "most_workers",
    "model_chunk",
    "hopeless",
    "changes",
)


def _ground(ground: Ground) -> dict[str, Any]:
    return {"ground": {name: getattr(ground, name) for name in _GROUND}}


def _take_in(found: Search, line: dict[str, Any]) -> None:
    """Take a line of the journal into a search."""
    if "settings" in line:
        found.ground = Ground(**line["ground"])
        found.settings = tuple(setting_from(each) for each in line["settings"])
    elif "stage" in line:
        settings = tuple(setting_from(each) for each in line["stage"])
        found.stages.append(Stage(settings, line["items"], line["rounds"], line["last"]))
    elif "run" in line:
        stage, turn = line["run"]
        setting = setting_from(line["setting"])
        found.runs[stage, turn, setting] = _item_s(line["seconds"], line["items"])
        if line["start"] is not None:
            found.starts.setdefault(setting.place, line["start"])


def _item_s(seconds: float, done: int) -> float:
    """Seconds of an item; very many if none returned."""
    return max(seconds, 1e-9) / done if done else search.NEVER_S


def _tuning(found: Found, measuring: _Measuring, kept: str | None, shown: str, names: Names) -> Tuning:
    setting, searched = found.setting, measuring.search
    measured = found.measured
    return Tuning(
        function=shown,
        verdict=found.verdict.value,
        backend=setting.backend,
        workers=setting.workers,
        chunk=setting.chunk,
        depth=setting.depth,
        speedup=None if measured is None else measured.speedup,
        low=None if measured is None else measured.low,
        high=None if measured is None else measured.high,
        kept=kept,
        reasons=(*found.reasons, *([CHANGES[0].upper() + CHANGES[1:]] if searched.ground.changes else [])),
        tried=tuple(_tried(searched)),
        growth=growth(searched, setting.backend),
        items=searched.ground.items,
        resumed=measuring.resumed,
        calls=measuring.calls,
        seconds=measuring.seconds,
        code=code_for_tuned(setting, names, kept=kept is not None),
        machine={"cores": measuring.load.cores, "others": measuring.load.others(), **machine.facts()},
    )


def _tried(searched: Search) -> list[Tried]:
    """All settings that were run: those of later stages first, and of a stage the best."""
    tried: list[Tried] = []
    seen: set[PoolSetting] = set()
    for number in range(len(searched.stages) - 1, -1, -1):
        stage = searched.stages[number]
        for each in searched.ranked(number):
            if each in seen:
                continue
            seen.add(each)
            seconds = searched.measured(number, each)
            assert seconds is not None
            runs = sum(setting == each for _, _, setting in searched.runs)
            has_rounds = stage.last and search.rounds_of(searched, number, each)
            measured = search.speedup_of(searched, number, each) if has_rounds else None
            tried.append(Tried(each, number + 1, seconds, runs, measured))
    return tried


def _no_answer(reason: str, shown: str, names: Names, sample: Sample, seconds: float) -> Tuning:
    """No verdict, and why."""
    return Tuning(
        function=shown,
        verdict=Verdict.UNRELIABLE.value,
        backend="serial",
        workers=1,
        chunk=None,
        depth=None,
        speedup=None,
        low=None,
        high=None,
        kept=None,
        reasons=(reason,),
        tried=(),
        growth=None,
        items=sample.total,
        resumed=0,
        calls=sum(sample.calls.values()),
        seconds=seconds,
        code=code_for_tuned(PoolSetting("serial"), names, kept=False),
        machine={"cores": os.cpu_count(), **machine.facts()},
    )
