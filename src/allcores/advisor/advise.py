"""`allcores.advise`: probe, predict, confirm, tell."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from time import perf_counter
from typing import Any

from allcores.advisor import library_way
from allcores.advisor.advice import Advice
from allcores.advisor.asked import checked_name, name_in_code
from allcores.advisor.confirm import Confirmation, confirm
from allcores.advisor.measuring import machine, switches, travel
from allcores.advisor.measuring.no_answer import TooSlow
from allcores.advisor.measuring.patience import PART
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model.code import Common, Names, code_for
from allcores.advisor.model.decision import Decision, Prediction, Setting, decide, needed
from allcores.advisor.model.intervals import Interval, ratio_interval
from allcores.advisor.model.memory import Memory, memory_of
from allcores.advisor.model.pitfalls import pitfalls
from allcores.advisor.model.probes import Probes
from allcores.advisor.model.verdict import Conclusion, LibraryWay, Verdict, beside_library, conclude
from allcores.advisor.model.what_if import what_ifs
from allcores.advisor.probing import Probing
from allcores.advisor.record import Pattern
from allcores.system.caller import warn
from allcores.system.tracebacks import hiding

#: seconds for everything, and the least that can be asked for
BUDGET_S, LEAST_BUDGET_S = 10.0, 1.0
#: seconds that are kept for the end: workers are ended, the result is put together
SPARE_S = 0.25
#: of the seconds that are left for the confirmation, what a library's own way gets if there is one
LIBRARY_PART = 0.3
#: a predicted speed-up below which a setting is not even tried: the way costs several times the work
HOPELESS = 0.25


@hiding
def advise(
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    budget: float = BUDGET_S,
    repeat: bool = True,
    total: int | None = None,
) -> Advice:
    """Measure a function over some of its items, and say what pays: a loop, threads, processes, and with which numbers.

    The function is called: in a worker, in a loop, in threads and in workers, so it should be one that may be. What is
    recommended was run on real items against the loop, in rounds of shuffled and balanced order; where the machine
    was too busy to tell, it says so. It takes at most `budget` seconds: 10 are 5 % of an input of 200 s.

    A function that writes files, starts processes, connects or gives other results each time is told by a
    RuntimeWarning after its first two calls, before there are many. One that changes its items is called with copies.

    Args:
        fn: The function, of one item.
        items: The input. A sequence is looked into all over; of any other iterable the first items are read, for a
            second at most, and so are those of a sequence that takes long to give one (it reads them from a disk).
        budget: Seconds for everything; at least 1.
        repeat: Items may be called more than once, by which the same can be compared with the same. False: each item
            is called once at most, in all measurements together.
        total: How many items there are, if `items` cannot tell.

    Returns:
        The verdict, the recommended setting, its predicted and measured speed-up, pitfalls, and code to paste.

    Raises:
        UsageError: There are no items, or none comes within half of the budget, an option makes no sense, or the
            function raises for every item that was tried, or is, or returns, a coroutine or a generator, which compute
            nothing when they are made.
    """
    name = checked_name(fn, budget=budget, least_budget=LEAST_BUDGET_S, total=total)
    names = Names(name_in_code(fn))
    more = "some of them more than once (repeat=False calls none twice)" if repeat else "none of them twice"

    def tell(clause: str) -> None:
        warn(f"advise: the function {clause}. It is called on many items from here on, {more}.")

    return advise_named(
        fn, items, names, name, began=perf_counter(), budget=budget, repeat=repeat, total=total, tell=tell
    )


def advise_named(
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    names: Names,
    shown: str,
    *,
    began: float,
    budget: float,
    repeat: bool,
    total: int | None,
    tell: Callable[[str], None],
) -> Advice:
    """The same with names for the code, a budget that has begun already, and `tell` as of `Probing`. See `advise`."""
    patience_s = PART * (budget - (perf_counter() - began))
    sample = Sample(items, total=total, repeat=repeat, patience_s=patience_s)
    probing = Probing(fn, sample, began=began, budget=budget - SPARE_S, tell=tell)
    try:
        try:
            probes = probing.run()
        except TooSlow as slow:
            return _too_slow(str(slow), shown, names, sample, perf_counter() - began)
        decision = decide(probes)
        some = [item for _, item in sample.look(1)]
        switch = switches.find(fn, some, probes.machine.cores) if repeat else None
        kept_s = LIBRARY_PART * probing.left() if switch is not None else 0.0
        confirmation = _confirm(fn, sample, probes, decision, probing, kept_s)
        library = (
            library_way.measure(fn, names.function, sample, probes, probing.left()) if switch is not None else None
        )
        probes = _with_load(probes, probing)
        conclusion = conclude(probes, decision, confirmation.ratios, hindered=confirmation.hindered)
        if library is not None:
            conclusion = beside_library(conclusion, library, decision.predictions[0].seconds)
        elif switch is not None:
            untried = f"{switch.name} was not measured: it failed, or there was no time for it (give it more: budget)"
            conclusion = replace(conclusion, reasons=(*conclusion.reasons, untried))
        common = _common(sample, probing.shared)
    finally:
        probing.close()
    return _advice(probes, decision, confirmation, conclusion, library, shown, names, sample, common, began)


def _confirm(
    fn: Callable[[Any], Any], sample: Sample, probes: Probes, decision: Decision, probing: Probing, kept_s: float
) -> Confirmation:
    """Run the first choice and the runner-up, if there is any hope for one of them."""
    wanted = [decision.chosen] if decision.second is None else [decision.chosen, decision.second]
    settings = [each for each in wanted if each.setting.workers > 1 and each.interval.speedup > HOPELESS]
    if not settings:
        return Confirmation()
    pools = {False: probing.pool, True: probing.preloaded}
    return confirm(
        fn,
        sample,
        probes,
        settings,
        pools={preloaded: pool for preloaded, pool in pools.items() if pool is not None},
        shared=probing.shared,
        left=lambda: probing.left() - kept_s,
    )


def _common(sample: Sample, shared: Any) -> Common | None:
    """Where the object is that is in every item."""
    if shared is None:
        return None
    first = sample.first()
    return Common(type(first).__name__, travel.place_of(first, shared))


def _with_load(probes: Probes, probing: Probing) -> Probes:
    return replace(probes, machine=replace(probes.machine, others=probing.load.others()))


def _advice(
    probes: Probes,
    decision: Decision,
    confirmation: Confirmation,
    conclusion: Conclusion,
    library: LibraryWay | None,
    shown: str,
    names: Names,
    sample: Sample,
    common: Common | None,
    began: float,
) -> Advice:
    chosen = conclusion.prediction
    patterns = [chosen, *(each for each in decision.predictions if each is not chosen)]
    reasons = [*decision.reasons, *conclusion.reasons]
    serial = conclusion.verdict is Verdict.SERIAL
    return Advice(
        function=shown,
        verdict=conclusion.verdict.value,
        recommendation=chosen.setting,
        predicted=chosen.interval,
        measured=conclusion.measured if not serial else Interval(1.0, 1.0, 1.0),
        needed=needed(probes, decision) if serial else None,
        reasons=tuple(reasons),
        pitfalls=pitfalls(probes, decision),
        patterns=tuple(_pattern(each, decision, confirmation) for each in patterns),
        code=code_for(
            chosen.setting,
            names,
            common=common,
            library=library.code if library is not None else "",
            in_order=sample.in_order,
        ),
        calls=sum(sample.calls.values()),
        called_on=tuple((first, last) for first, last in sample.called_on()),
        seconds=perf_counter() - began,
        probes=probes,
        decision=decision,
        what_ifs=what_ifs(probes, decision),
        runs=tuple(confirmation.runs),
        core_seconds=confirmation.core_seconds,
        library=library,
        machine={"cores": probes.machine.cores, "others": probes.machine.others, **machine.facts()},
        memory=_memory(probes, patterns),
    )


def _memory(probes: Probes, patterns: list[Prediction]) -> Memory | None:
    """Of the processes that are recommended, or would come next."""
    for each in patterns:
        if each.setting.pattern == "processes":
            return memory_of(probes, each.setting.workers, preload=each.setting.preload)
    return None


def _pattern(prediction: Prediction, decision: Decision, confirmation: Confirmation) -> Pattern:
    ratios = confirmation.ratios.get(prediction)
    measured = ratio_interval(ratios) if ratios else None
    if prediction.setting.pattern == "library" and prediction.setting.workers > 1:
        measured = prediction.interval
    if prediction is decision.predictions[0]:
        measured = Interval(1.0, 1.0, 1.0)
    seconds = prediction.seconds if math.isfinite(prediction.seconds) else None
    return Pattern(prediction.setting, prediction.interval, measured, seconds, prediction.limit)


def _too_slow(reason: str, shown: str, names: Names, sample: Sample, seconds: float) -> Advice:
    """No verdict, for one item took all the time there was."""
    loop = Setting("serial")
    return Advice(
        function=shown,
        verdict=Verdict.UNRELIABLE.value,
        recommendation=loop,
        predicted=Interval(1.0, 1.0, 1.0),
        measured=None,
        needed=None,
        reasons=(reason,),
        pitfalls=(),
        patterns=(Pattern(loop, Interval(1.0, 1.0, 1.0), None, None, "one core"),),
        code=code_for(loop, names),
        calls=sum(sample.calls.values()),
        called_on=tuple((first, last) for first, last in sample.called_on()),
        seconds=seconds,
        machine={"cores": os.cpu_count(), **machine.facts()},
    )
