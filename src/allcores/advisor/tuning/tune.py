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
from allcores.advisor.measuring.no_answer import NoAnswer
from allcores.advisor.measuring.patience import PART
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model import search
from allcores.advisor.model.code import Names
from allcores.advisor.model.found import Found, found_by, growth
from allcores.advisor.model.pitfalls import CHANGES
from allcores.advisor.model.search import Search
from allcores.advisor.model.verdict import Verdict
from allcores.advisor.tuning.code import code_for_tuned
from allcores.advisor.tuning.known import known_by
from allcores.advisor.tuning.record import Tried
from allcores.advisor.tuning.searching import Searching
from allcores.advisor.tuning.tuning import Tuning
from allcores.errors import UsageError
from allcores.system.caller import warn
from allcores.system.tracebacks import hiding
from allcores.tuned import facts
from allcores.tuned.files import Kept, Place
from allcores.tuned.journal import SearchJournal
from allcores.tuned.setting import PoolSetting

#: seconds for everything, and the least that can be asked for
BUDGET_S, LEAST_BUDGET_S = 30.0, 2.0
#: seconds that are kept for the end
SPARE_S = 0.2


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
        sample = Sample(items, total=total, patience_s=PART * (budget - (perf_counter() - began)))
        if not sample.count:
            raise UsageError("there are no items: tuning needs some to measure the function with")
        head = {"version": 1, "facts": now.as_dict(), "input": known_by(sample)}
        journal = SearchJournal(place, head)
        stack.callback(journal.close)
        searching = Searching(fn, sample, journal, budget - SPARE_S, began, tell)
        stack.callback(searching.close)
        if journal.replaced:
            say("the search that was begun for this function was of another input, code or machine: it begins anew")
        if journal.lines:
            say(f"going on with a search that was begun: {searching.resumed} runs are measured")
        try:
            searching.begin()
        except NoAnswer as reason:
            journal.end()
            return _no_answer(str(reason), shown, names, sample, perf_counter() - began)
        searching.run()
        found = found_by(searching.search, max(searching.earlier_others, searching.load.others()))
        kept = None
        if found.verdict is not Verdict.UNRELIABLE:
            place.keep(Kept(found.setting, now, found.measured.speedup if found.measured else None, time.time()))
            kept = place.path
        if kept is not None or found.busy or searching.is_over:
            # it was found; or its measurements are good for nothing; or more time would not measure more
            journal.end()
        return _tuning(found, searching, kept, shown, names)


def _tuning(found: Found, searching: Searching, kept: str | None, shown: str, names: Names) -> Tuning:
    setting, searched = found.setting, searching.search
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
        resumed=searching.resumed,
        calls=searching.calls,
        seconds=searching.seconds,
        code=code_for_tuned(setting, names, kept=kept is not None),
        machine={"cores": searching.load.cores, "others": searching.load.others(), **machine.facts()},
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
