"""One search of settings: what is next is measured, and written down at once, so that it goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from allcores.advisor.measuring.machine import Load
from allcores.advisor.measuring.no_answer import NoAnswer
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model import costs, search
from allcores.advisor.model.decision import decide
from allcores.advisor.model.memory import room_for
from allcores.advisor.model.search import Ground, Search, Stage
from allcores.advisor.probing import Probing
from allcores.advisor.tuning.pools import Pools
from allcores.errors import BrokenPool
from allcores.tuned.journal import SearchJournal
from allcores.tuned.setting import setting_from

#: part of the budget for the probes, and seconds
PROBE_PART, MOST_PROBE_S = 0.2, 10.0
#: but so many at least, or that part: with fewer a busy machine has not started a worker by then
LEAST_PROBE_S, LEAST_PROBE_PART = 3.0, 0.8
#: of a function that keeps its results: each run after the first would be of items that it knows
REMEMBERS = (
    "a second call on the same item takes next to nothing, as the function keeps results, and a search calls it on the"
    " same items again and again: tune what computes them (fn.__wrapped__, under functools.cache), or ask advise, which"
    " measures it with items that it has not seen"
)
#: seconds, more than any search takes
FOREVER_S = 1e9


class Searching:
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
