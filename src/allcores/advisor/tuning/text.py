"""What was found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from allcores.advisor.tuning.record import TuningRecord
from allcores.formatting import counted, pace_text, precise_seconds_text, seconds_text
from allcores.tuned.setting import PoolSetting

#: what a verdict says first
HEADS = {
    "parallel": "{setting}, {speedup:.2f} times as fast as a loop.",
    "serial": "Don't: stay with the loop.",
    "unreliable": "No verdict, and nothing kept.",
}
#: settings that are shown
MOST_SHOWN = 12


def as_text(tuning: TuningRecord) -> str:
    """Lines without a newline at the end."""
    return "\n".join(_lines(tuning))


def head_of(tuning: TuningRecord) -> str:
    """What is said first."""
    setting = PoolSetting(tuning.backend, tuning.workers, tuning.chunk, tuning.depth)
    return HEADS[tuning.verdict].format(setting=setting.text, speedup=tuning.speedup or 1.0)


def _lines(tuning: TuningRecord) -> Iterator[str]:
    yield f"{tuning.function}: {head_of(tuning)}"
    for reason in tuning.reasons:
        yield f"  {reason}"
    yield ""
    if tuning.tried:
        yield f"  {'':<40}{'an item':>10}{'measured':>22}  runs"
        for each in tuning.tried[:MOST_SHOWN]:
            measured = ""
            if each.measured is not None:
                measured = f"{each.measured.speedup:.2f} ({each.measured.low:.2f}-{each.measured.high:.2f})"
            seconds = precise_seconds_text(each.item_seconds)
            yield f"  {each.setting.text:<40}{seconds:>10}{measured:>22}  {each.runs}"
        if len(tuning.tried) > MOST_SHOWN:
            yield f"  and {counted(len(tuning.tried) - MOST_SHOWN, 'other')}, which were slower"
        yield ""
    yield from _growth(tuning)
    again = f", {counted(tuning.resumed, 'run')} of them measured earlier" if tuning.resumed else ""
    runs = counted(sum(each.runs for each in tuning.tried), "run")
    yield f"  {runs}{again}; {counted(tuning.calls, 'call')} in {seconds_text(tuning.seconds)}."
    if tuning.kept is not None:
        yield f"  Kept in {tuning.kept}"
    yield ""
    for line in tuning.code.rstrip("\n").split("\n"):
        yield f"    {line}" if line else ""


def _growth(tuning: TuningRecord) -> Iterator[str]:
    growth = tuning.growth
    if growth is None:
        return
    paces = ", ".join(f"{workers}: {pace_text(rate)}" for workers, rate in sorted(growth.rates.items()))
    yield f"  {growth.backend} by number: {paces or 'not measured'}"
    if growth.scaling is None:
        yield f"  {growth.reason}"
    else:
        further = ", ".join(f"{workers}: {pace_text(rate)}" for workers, rate in sorted(growth.further.items()))
        peak = growth.scaling.most_useful
        most = "" if peak is None else f"; slower beyond {peak:,}"
        yield f"  extrapolated, with a core for each: {further}{most}"
        yield (
            f"  contention {growth.scaling.contention:.3f}, coherence {growth.scaling.coherence:.5f};"
            f" the fit is off by {100 * growth.scaling.off:.0f} % at most"
        )
    yield ""
