"""The verdict, from the decision and what the confirming runs measured."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from allcores.advisor.model.costs import BUSY_PART, threads_start
from allcores.advisor.model.decision import START_PART, WORTH, Decision, Prediction, Setting
from allcores.advisor.model.intervals import LEAST_COMPARED, NINETY, Interval, differs, ratio_interval
from allcores.advisor.model.probes import Probes

#: an interval whose ends are further from its middle than this part, and that holds the line, decides nothing
UNSURE = 0.15
#: from which on what a start may differ by is counted in: a tenth of the seconds are the start
START_SHOWS = 0.03
#: a speed-up from which on a loop is not recommended for it
SURE_OF_START = 1.3
#: settings that are no further from each other, and not proven to be different, are as good as each other
SAME = 0.03


class Verdict(enum.StrEnum):
    """What comes out of it."""

    PARALLEL = "parallel"
    SERIAL = "serial"
    UNRELIABLE = "unreliable"


@dataclass(frozen=True, slots=True)
class LibraryWay:
    """A library's own way to use all cores, as it was measured beside the loop.

    Attributes:
        name: Of the way.
        code: As it is written in a program.
        measured: Speed-up over the same work in a loop, for the whole input, its start included.
        whole: It does all that the function does, so it can stand in its place.
        cores: That it had.
    """

    name: str
    code: str
    measured: Interval
    whole: bool
    cores: int


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The end of it.

    Attributes:
        verdict: What to do.
        prediction: Of the recommended setting.
        measured: Of the recommended setting, over the loop, for the whole input; None if nothing was confirmed.
        reasons: Sentences that came with the confirmation.
    """

    verdict: Verdict
    prediction: Prediction
    measured: Interval | None
    reasons: tuple[str, ...]


def of_whole_input(steady: float, probes: Probes, start_s: float) -> float:
    """The speed-up of the whole input, start included, from that of a part of it with workers that are there."""
    if probes.items is None or steady <= 0:
        return steady
    loop = probes.items * probes.timing.wall_s
    if loop <= 0:
        return 0.0
    return (loop + probes.timing.first_s) / (start_s + loop / steady)


def start_of(probes: Probes, prediction: Prediction) -> float:
    """Seconds until the workers of a setting are there."""
    setting = prediction.setting
    if setting.pattern == "threads":
        return threads_start(probes, setting.workers) + probes.timing.first_s
    if setting.pattern != "processes":
        return 0.0
    return probes.warm_start_s if setting.preload and probes.warm_start_s is not None else probes.start_s


def _start_part(probes: Probes, best: Prediction, speedup: float) -> float:
    """How far the speed-up of the whole input may be off because a start differs from the one that was measured."""
    if best.setting.pattern not in ("processes", "threads") or probes.items is None:
        return 0.0
    seconds = (probes.items * probes.timing.wall_s + probes.timing.first_s) / max(speedup, 1e-9)
    return NINETY * START_PART * min(1.0, start_of(probes, best) / max(seconds, 1e-9))


def conclude(
    probes: Probes,
    decision: Decision,
    measured: Mapping[Prediction, Sequence[float]],
    *,
    hindered: str | None = None,
) -> Conclusion:
    """The verdict.

    Args:
        probes: What was measured of the function.
        decision: What was predicted.
        measured: Setting -> speed-ups over the loop of the whole input, one for each pair of runs.
        hindered: Why the confirmation could not be made, as a sentence; None if it was.
    """
    reasons: list[str] = []
    loop = decision.predictions[0]
    intervals = {prediction: ratio_interval(list(ratios)) for prediction, ratios in measured.items() if ratios}
    best = max(intervals, key=lambda each: intervals[each].speedup, default=None)
    if best is not None:
        best = _simplest(best, measured, reasons)
    others = probes.machine.others / max(1, probes.machine.cores)
    # Who waits needs no core, so others cannot take it.
    if others >= BUSY_PART and not decision.certain and decision.kind != "waiting":
        reasons.append(
            f"other programs used {probes.machine.others:.1f} of {probes.machine.cores} cores meanwhile: measure again"
            " when the machine is quiet"
        )
        return Conclusion(Verdict.UNRELIABLE, decision.chosen, intervals.get(decision.chosen), tuple(reasons))
    if hindered is not None:
        reasons.append(hindered)
        if decision.chosen is loop and decision.second is None:
            return Conclusion(Verdict.SERIAL, loop, None, tuple(reasons))
        if best is None:
            return Conclusion(Verdict.UNRELIABLE, decision.chosen, None, tuple(reasons))
    if best is None:
        verdict = Verdict.SERIAL if decision.chosen is loop else Verdict.UNRELIABLE
        return Conclusion(verdict, decision.chosen, None, tuple(reasons))
    interval = intervals[best]
    if others >= 0.05:
        # their load has been anywhere between none and this during a pair
        interval = interval.widened(min(0.3, others))
        reasons.append(f"other programs used {probes.machine.others:.1f} cores meanwhile; the interval is wider for it")
    rounds = interval
    start = _start_part(probes, best, interval.speedup)
    if start >= START_SHOWS:
        interval = interval.widened(start)
    if best is not decision.chosen and decision.chosen is not loop and decision.chosen in intervals:
        reasons.append(
            f"{_named(decision.chosen)} was predicted to win and measured {intervals[decision.chosen].speedup:.2f}x"
        )
    if start >= START_SHOWS and interval.low <= 1.0 and WORTH <= interval.speedup < SURE_OF_START:
        reasons.append(
            f"{_named(best)} measured {interval.speedup:.2f}x, most of it their start: what they save is less than"
            " one start differs from another"
        )
        return Conclusion(Verdict.SERIAL, loop, Interval(1.0, 1.0, 1.0), tuple(reasons))
    crosses = rounds.low < WORTH < rounds.high
    # Two measurements of their own, the trial and the rounds, say the same.
    agreed = best.interval.low >= WORTH and interval.speedup >= WORTH and rounds.low > 1.0
    if crosses and rounds.half_width > UNSURE and not agreed:
        reasons.append(
            f"measured {interval.speedup:.2f}x with 90 % between {rounds.low:.2f} and {rounds.high:.2f}, on both"
            f" sides of {WORTH}: give it more time (budget)"
        )
        return Conclusion(Verdict.UNRELIABLE, best, interval, tuple(reasons))
    if interval.speedup >= WORTH and rounds.low > 1.0:
        return Conclusion(Verdict.PARALLEL, best, interval, tuple(reasons))
    if interval.speedup >= WORTH:
        reasons.append("the runs differ too much to tell")
        return Conclusion(Verdict.UNRELIABLE, best, interval, tuple(reasons))
    reasons.append(f"{_named(best)} measured {interval.speedup:.2f}x, and less than {WORTH}x is not worth it")
    return Conclusion(Verdict.SERIAL, loop, Interval(1.0, 1.0, 1.0), tuple(reasons))


def compared(ratios: Sequence[float], others: Sequence[float]) -> bool | None:
    """Whether two settings that were run in the same rounds are of different speed; None where too few rounds tell.

    Args:
        ratios: Speed-ups of the one over the loop, a round each.
        others: Of the other, in the same rounds.
    """
    if min(len(ratios), len(others)) < LEAST_COMPARED:
        return None
    return differs([one / other for one, other in zip(ratios, others, strict=False)])


def _simplest(best: Prediction, measured: Mapping[Prediction, Sequence[float]], reasons: list[str]) -> Prediction:
    """The best, or threads that are no different from it: they copy nothing."""
    for each, ratios in measured.items():
        if each is best or compared(measured[best], ratios) is not False:
            continue
        interval = ratio_interval([one / other for one, other in zip(measured[best], ratios, strict=False)])
        if interval.speedup < 1 + SAME:
            reasons.append(
                f"between {_named(best)} and {_named(each)} no difference was measured"
                f" ({interval.speedup:.2f}, {interval.low:.2f}-{interval.high:.2f})"
            )
            if each.setting.pattern == "threads":
                return each
    return best


def beside_library(conclusion: Conclusion, way: LibraryWay, loop_s: float) -> Conclusion:
    """The same, once a library's own way to use all cores was measured: what is better is recommended.

    Args:
        conclusion: Without it.
        way: What was measured.
        loop_s: Seconds of the loop over the whole input.
    """
    measured = way.measured
    text = f"{way.name} on {way.cores} cores is {measured.speedup:.2f} times as fast as its own loop"
    part = "" if way.whole else ", which is a part of the function"
    reasons = (*conclusion.reasons, f"{text}{part} ({measured.low:.2f}-{measured.high:.2f}): {way.code}")
    own = 1.0 if conclusion.measured is None else conclusion.measured.speedup
    proven = measured.low > 1.0 and measured.speedup >= WORTH
    if not way.whole or not proven or measured.speedup <= own or conclusion.verdict is Verdict.UNRELIABLE:
        return replace(conclusion, reasons=reasons)
    setting = Setting("library", way.cores)
    prediction = Prediction(setting, measured, loop_s / measured.speedup, "the library")
    return Conclusion(Verdict.PARALLEL, prediction, measured, reasons)


def _named(prediction: Prediction) -> str:
    setting = prediction.setting
    return setting.pattern if setting.workers == 1 else f"{setting.workers} {setting.pattern}"
