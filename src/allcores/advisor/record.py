"""The parts of an advice: the verdict with everything that it was made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from allcores.advisor.confirm import Run
from allcores.advisor.core_seconds import CoreSeconds
from allcores.advisor.model.decision import Decision, Setting
from allcores.advisor.model.intervals import Interval
from allcores.advisor.model.memory import Memory
from allcores.advisor.model.pitfalls import Pitfall
from allcores.advisor.model.probes import Probes
from allcores.advisor.model.verdict import LibraryWay
from allcores.advisor.model.what_if import WhatIf


@dataclass(frozen=True, slots=True)
class Pattern:
    """A way to run the function, as it was predicted and as it was measured.

    Attributes:
        setting: How.
        predicted: Speed-up over the loop, for the whole input.
        measured: The same, measured; None if this one was not run.
        seconds: Of the whole input, predicted; None if its length is unknown.
        limit: What holds it up.
    """

    setting: Setting
    predicted: Interval
    measured: Interval | None
    seconds: float | None
    limit: str


@dataclass(frozen=True, slots=True)
class AdviceRecord:
    """What `Advice` holds.

    Attributes:
        function: Its name.
        verdict: "parallel": the recommended setting pays, and that was measured; "serial": stay with the loop;
            "unreliable": the machine was too busy, or there was too little time, to tell.
        recommendation: The setting: pattern, workers, chunk, share, preload.
        predicted: Its speed-up over the loop as predicted, with the ends of a 90 % interval.
        measured: The same as measured; None if nothing was run.
        needed: For "serial": how large the input, or how slow an item, must be; None if nothing would help.
        reasons: Why, as sentences with figures.
        pitfalls: Known ways to lose that this function meets, each with its fix.
        patterns: All that were looked at, the recommended one first.
        what_ifs: What would change with more cores, more items, smaller results and the like.
        code: A program that does as recommended, to be pasted. `function` stands for one that a name alone does not
            give: a lambda, a partial, a method of an object.
        calls: How often the function was called; items that were on their way when a trial was cut short count.
        called_on: First and last index of ranges of items that it was called with; at most 20 ranges.
        seconds: That it took.
        probes: All that was measured of the function.
        decision: What was predicted from it.
        runs: The runs of the confirmation, in their order.
        core_seconds: Where the workers' seconds went in a run of the recommended setting, or of the best one with
            workers, from their start; None if there was no time for it, or none was confirmed.
        library: The library's own way to use all cores beside the loop, where the function has an object that offers
            one; None without.
        machine: What it was measured on.
        memory: What the processes that are recommended, or would come next, take at their largest; None if there are
            none, or the system does not tell.
    """

    function: str
    verdict: Literal["parallel", "serial", "unreliable"]
    recommendation: Setting
    predicted: Interval
    measured: Interval | None
    needed: str | None
    reasons: tuple[str, ...]
    pitfalls: tuple[Pitfall, ...]
    patterns: tuple[Pattern, ...]
    code: str
    calls: int
    called_on: tuple[tuple[int, int], ...]
    seconds: float
    probes: Probes | None = None
    decision: Decision | None = None
    what_ifs: tuple[WhatIf, ...] = ()
    runs: tuple[Run, ...] = ()
    core_seconds: CoreSeconds | None = None
    library: LibraryWay | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    memory: Memory | None = None
