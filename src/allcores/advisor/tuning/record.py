"""The parts of what `allcores.tune` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from allcores.advisor.model.found import Growth
from allcores.advisor.model.intervals import Interval
from allcores.tuned.setting import PoolSetting


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting as it was measured in the latest stage that it came into.

    Attributes:
        setting: Which.
        stage: The number of that stage, from 1.
        item_seconds: Of an item, the median of its rounds.
        runs: How often it was run, in all stages.
        measured: Its speed-up over the loop, of the whole input; None if it did not come into the last stage.
    """

    setting: PoolSetting
    stage: int
    item_seconds: float
    runs: int
    measured: Interval | None


@dataclass(frozen=True, slots=True)
class TuningRecord:
    """What `Tuning` holds.

    Attributes:
        function: Its name.
        verdict: "parallel": the winner pays, and that was measured; "serial": stay with the loop; "unreliable": the
            machine was too busy, or there was too little time, to tell, and nothing is kept.
        backend: Of the winner: "serial", "threads" or "processes".
        workers: Of the winner; 1 in a loop.
        chunk: Of the winner, items that travel together; None: chunks size themselves.
        depth: Of the winner, chunks that a worker holds; None: as `Limits` has it.
        speedup: Of the winner over the loop, for the whole input; None if that was not measured.
        low: Lower end of its interval, which holds it in nine of ten cases; None.
        high: Upper end; None.
        kept: The file in which it is kept, for `Pool(tuned=...)`; None if it is not.
        reasons: Sentences.
        tried: All settings that were run, the best first.
        growth: What more workers would do; None for a loop.
        items: How many items there are; None if unknown.
        resumed: Runs that an earlier search, which was ended before its end, had measured.
        calls: How often the function was called, earlier search included.
        seconds: That it took, earlier search included.
        code: A program that uses it, to be pasted.
        machine: What it was measured on.
    """

    function: str
    verdict: Literal["parallel", "serial", "unreliable"]
    backend: str
    workers: int
    chunk: int | None
    depth: int | None
    speedup: float | None
    low: float | None
    high: float | None
    kept: str | None
    reasons: tuple[str, ...]
    tried: tuple[Tried, ...]
    growth: Growth | None
    items: int | None
    resumed: int
    calls: int
    seconds: float
    code: str
    machine: dict[str, Any]
