"""The advice for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from allcores.advisor.core_seconds import CoreSeconds
from allcores.advisor.model.decision import Setting
from allcores.advisor.model.intervals import Interval
from allcores.advisor.model.memory import Memory
from allcores.advisor.record import AdviceRecord
from allcores.formatting import counted, precise_seconds_text, seconds_text, size_text

#: what a verdict says first
HEADS = {
    "parallel": "It pays: {setting}, {measured} times as fast as a loop.",
    "serial": "Don't: stay with the loop.",
    "unreliable": "No verdict: it could not be measured reliably.",
}


def as_text(advice: AdviceRecord) -> str:
    """Lines without a newline at the end."""
    return "\n".join(_lines(advice))


def _lines(advice: AdviceRecord) -> Iterator[str]:
    measured = advice.measured or advice.predicted
    head = HEADS[advice.verdict].format(setting=setting_text(advice.recommendation), measured=f"{measured.speedup:.2f}")
    yield f"{advice.function}: {head}"
    if advice.recommendation.pattern == "library" and advice.verdict == "serial":
        yield "  Its library uses the cores already."
    if advice.needed is not None:
        yield f"  {advice.needed[0].upper()}{advice.needed[1:]}."
    yield ""
    yield f"  {'':<34}{'takes':>9}{'predicted':>21}{'measured':>21}  limit"
    for each in advice.patterns:
        seconds = "" if each.seconds is None or not math.isfinite(each.seconds) else precise_seconds_text(each.seconds)
        name, reached = setting_text(each.setting), interval_text(each.measured)
        yield f"  {name:<34}{seconds:>9}{interval_text(each.predicted):>21}{reached:>21}  {each.limit}"
    if advice.decision is not None:
        for name, why in advice.decision.impossible.items():
            yield f"  {name:<34}cannot be used: {why}"
    yield ""
    for reason in advice.reasons:
        yield f"  - {reason}"
    for pitfall in advice.pitfalls:
        yield f"  ! {pitfall.name}: {pitfall.fix}"
    yield ""
    if advice.core_seconds is not None:
        yield f"  {core_seconds_text(advice.core_seconds)}"
    if advice.memory is not None:
        yield f"  {memory_text(advice.memory)}"
    calls, took = counted(advice.calls, "time"), seconds_text(advice.seconds)
    yield f"  The function was called {calls} on {called_on_text(advice)}, in {took}."
    yield ""
    unproven = unproven_text(advice)
    if unproven:
        yield f"  {unproven}"
    for line in advice.code.rstrip("\n").split("\n"):
        yield f"    {line}" if line else ""


def setting_text(setting: Setting) -> str:
    """A setting in words: "2 processes, chunk of 25, preloaded"."""
    if setting.pattern == "library":
        return "as it is" if setting.workers == 1 else f"the library's own way, {setting.workers} cores"
    if setting.workers == 1:
        return "loop"
    noun = "threads" if setting.pattern == "threads" else "processes"
    text = f"{setting.workers} {noun}"
    if setting.chunk is not None:
        text += f", chunk of {setting.chunk:,}"
    if setting.share:
        text += ", shared"
    if setting.preload:
        text += ", preloaded"
    return text


def core_seconds_text(recorded: CoreSeconds) -> str:
    """Where workers' seconds went, the most first: "2 workers x 1.2 s over 400 items: function 93 %, ..."."""
    total = recorded.workers * recorded.seconds
    parts = sorted(recorded.uses, key=lambda use: -use.seconds)
    shown = [f"{use.title[0].lower()}{use.title[1:]} {100 * use.seconds / total:.0f} %" for use in parts]
    begin = f"Recorded: {recorded.workers} workers x {precise_seconds_text(recorded.seconds)}"
    return f"{begin} over {counted(recorded.items, 'item')}: {', '.join(shown)}."


def memory_text(memory: Memory) -> str:
    """What workers take: "Memory of 2 processes at its largest: about 310 MB (2 x 120 MB, 70 MB besides) ..."."""
    parts = [f"{memory.workers} x {size_text(memory.worker)}", f"{size_text(memory.rest)} besides"]
    if memory.results > memory.peak / 20:
        parts.append(f"{size_text(memory.results)} of results")
    of = "" if memory.available is None else f"; {size_text(memory.available)} are available"
    head = f"Memory of {memory.workers} processes at its largest, predicted: {size_text(memory.peak)}"
    return f"{head} ({', '.join(parts)}){of}."


def interval_text(interval: Interval | None) -> str:
    """A speed-up with its interval: "1.85 (1.70-2.02)"."""
    if interval is None:
        return "not run"
    if interval.low == interval.high:
        return f"{interval.speedup:.2f}"
    return f"{interval.speedup:.2f} ({interval.low:.2f}-{interval.high:.2f})"


def unproven_text(advice: AdviceRecord) -> str:
    """What stands above code that was not proven to be worth it; nothing where it was."""
    unproven = advice.verdict == "unreliable" and advice.recommendation.workers > 1
    return "Not proven, but what the prediction favours:" if unproven else ""


def called_on_text(advice: AdviceRecord) -> str:
    """Which items: "items 0-9 and 12", "item 0", or that there is none."""
    ranges = advice.called_on
    if not ranges:
        return "no item"
    shown = [f"{first:,}" if first == last else f"{first:,}-{last:,}" for first, last in ranges[:6]]
    rest = "" if len(ranges) <= 6 else " and others"
    noun = "item" if len(ranges) == 1 and ranges[0][0] == ranges[0][1] else "items"
    return f"{noun} {', '.join(shown)}{rest}"
