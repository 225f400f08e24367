"""What a search has found: the winner and what it gains, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from allcores.advisor.model.costs import BUSY_PART
from allcores.advisor.model.decision import WORTH
from allcores.advisor.model.intervals import Interval
from allcores.advisor.model.scaling import LEAST_COUNTS, Scaling, fit, further
from allcores.advisor.model.search import NEVER_S, Search, speedup_of, winner_of
from allcores.advisor.model.verdict import UNSURE, Verdict
from allcores.formatting import counted, precise_seconds_text
from allcores.tuned.setting import PoolSetting

#: rounds of the last stage without which there is no verdict
LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search.

    Attributes:
        verdict: As of advice: parallel, serial, or unreliable.
        setting: The winner; the best so far where there is no verdict.
        measured: Its speed-up over the loop; None if the last stage was not reached.
        reasons: Sentences.
        busy: The machine was: what was measured is good for nothing.
    """

    verdict: Verdict
    setting: PoolSetting
    measured: Interval | None
    reasons: tuple[str, ...] = ()
    busy: bool = False


def found_by(search: Search, others: float) -> Found:
    """What came out.

    Args:
        search: The whole of it.
        others: Cores' worth of work of other programs meanwhile.
    """
    loop = search.settings[0]
    ground = search.ground
    number = len(search.stages) - 1
    best = next((ranked[0] for stage in range(number, -1, -1) if (ranked := search.ranked(stage))), loop)
    measured = None
    reasons: list[str] = []
    is_last = number >= 0 and search.stages[number].last
    winner = winner_of(search, number) if is_last else None
    if winner is not None:
        best, measured = winner, speedup_of(search, number, winner)
    if len(search.settings) == 1:
        reason = (
            f"an item takes {precise_seconds_text(ground.item_s)}, and even if nothing but that and the way to workers"
            " took time, they would not be worth it"
            if ground.hopeless
            else "no other way to run it can be used"
        )
        return Found(Verdict.SERIAL, loop, Interval(1.0, 1.0, 1.0), (reason,))
    if others >= BUSY_PART * ground.cores and not ground.waits:
        return Found(
            Verdict.UNRELIABLE,
            best,
            measured,
            (
                f"other programs used {others:.1f} of {counted(ground.cores, 'core')} meanwhile: tune again when the"
                " machine is quiet",
            ),
            busy=True,
        )
    rounds = _rounds(search, number) if is_last else 0
    if winner is None or measured is None or rounds < LEAST_ROUNDS:
        where = f"{counted(rounds, 'round')} of the last stage were" if is_last else "the last stage was not"
        return Found(
            Verdict.UNRELIABLE,
            best,
            measured,
            (f"{where} run in the time that was given: give it more (budget); it goes on with what is measured",),
        )
    if others >= 0.05:
        measured = measured.widened(min(0.3, others / ground.cores))
        reasons.append(f"other programs used {others:.1f} cores meanwhile; the interval is wider for it")
    if winner == loop:
        return Found(Verdict.SERIAL, loop, Interval(1.0, 1.0, 1.0), (*reasons, "nothing was faster than the loop"))
    if measured.low < WORTH < measured.high and measured.half_width > UNSURE:
        reasons.append(
            f"{winner.text} measured {measured.speedup:.2f}x with 90 % between {measured.low:.2f} and"
            f" {measured.high:.2f}, on both sides of {WORTH}: give it more time (budget)"
        )
        return Found(Verdict.UNRELIABLE, winner, measured, tuple(reasons))
    if measured.speedup < WORTH:
        reasons.append(f"{winner.text} measured {measured.speedup:.2f}x, and less than {WORTH}x is not worth it")
        return Found(Verdict.SERIAL, loop, Interval(1.0, 1.0, 1.0), tuple(reasons))
    if measured.low <= 1.0:
        return Found(Verdict.UNRELIABLE, winner, measured, (*reasons, "the runs differ too much to tell"))
    return Found(Verdict.PARALLEL, winner, measured, tuple(reasons))


def _rounds(search: Search, number: int) -> int:
    stage = search.stages[number]
    return sum(all((number, turn, each) in search.runs for each in stage.settings) for turn in range(stage.rounds))


# --- more workers ---------------------------------------------------------------------------------


def rates(search: Search, backend: str) -> dict[int, float]:
    """Workers -> items a second, the best of each number; of a function that computes, with a core for each worker."""
    found: dict[int, float] = {}
    for each in {setting for stage in search.stages for setting in stage.settings}:
        seconds = search.latest(each)
        if each.backend != backend or seconds is None or not 0 < seconds < NEVER_S:
            continue
        if search.ground.waits or each.workers <= search.ground.cores:
            found[each.workers] = max(found.get(each.workers, 0.0), 1 / seconds)
    return found


@dataclass(frozen=True, slots=True)
class Growth:
    """What more workers would do.

    Attributes:
        backend: Which.
        rates: Workers -> items a second, measured.
        scaling: The fitted law; None if it is not extrapolated.
        further: Workers -> items a second, extrapolated.
        reason: Why not; None.
    """

    backend: str
    rates: dict[int, float]
    scaling: Scaling | None
    further: dict[int, float]
    reason: str | None = None


def growth(search: Search, backend: str) -> Growth | None:
    """How items a second grow with workers; None for a loop."""
    if backend == "serial":
        return None
    measured = rates(search, backend)
    scaling = fit(measured)
    if scaling is None:
        beyond = "" if search.ground.waits else ", a core for each"
        counts = counted(len(measured), "number")
        reason = f"not extrapolated: {counts} of workers measured{beyond}, and {LEAST_COUNTS} are needed"
        return Growth(backend, measured, None, {}, reason)
    return Growth(backend, measured, scaling, {count: scaling.rate(count) for count in further(measured)})
