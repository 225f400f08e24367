"""What was tried, as a picture has it: for each kind and number of workers, how the speed goes with the chunk."""

from __future__ import annotations

import math
from dataclasses import dataclass

from allcores.advisor.model.found import Growth
from allcores.advisor.tuning.record import Tried, TuningRecord
from allcores.formatting import counted


@dataclass(frozen=True, slots=True)
class Series:
    """Settings that differ in their chunk alone.

    Attributes:
        name: "2 processes", "2 processes, depth of 8".
        tried: They, the smallest chunk first; the one whose chunks size themselves is the last.
    """

    name: str
    tried: tuple[Tried, ...]


def loop_seconds(tuning: TuningRecord) -> float | None:
    """Seconds of an item in the loop; None if it was not run."""
    return next((each.item_seconds for each in tuning.tried if each.setting.backend == "serial"), None)


def series_of(tuning: TuningRecord) -> list[Series]:
    """All that was tried besides the loop, the series with the fastest setting first."""
    found: dict[str, list[Tried]] = {}
    for each in tuning.tried:
        if each.setting.backend == "serial":
            continue
        noun = ("thread",) if each.setting.backend == "threads" else ("process", "processes")
        depth = "" if each.setting.depth is None else f", depth of {each.setting.depth}"
        found.setdefault(f"{counted(each.setting.workers, *noun)}{depth}", []).append(each)
    ordered = sorted(found.items(), key=lambda pair: min(each.item_seconds for each in pair[1]))
    return [Series(name, tuple(sorted(tried, key=_by_chunk))) for name, tried in ordered]


def chunk_text(tried: Tried) -> str:
    """Its chunk: "64", "sizes itself"."""
    return "sizes itself" if tried.setting.chunk is None else f"{tried.setting.chunk:,}"


def speed(tuning: TuningRecord, tried: Tried) -> float | None:
    """How many times as fast as the loop an item went, workers' start apart; None where no item returned."""
    loop = loop_seconds(tuning)
    if loop is None or not 0 < tried.item_seconds < math.inf:
        return None
    return loop / tried.item_seconds


def further_of(growth: Growth | None) -> list[tuple[int, float, bool]]:
    """Workers, items a second, and whether that was extrapolated and not measured."""
    if growth is None:
        return []
    measured = [(workers, rate, False) for workers, rate in sorted(growth.rates.items())]
    return [*measured, *((workers, rate, True) for workers, rate in sorted(growth.further.items()))]


def _by_chunk(tried: Tried) -> float:
    return math.inf if tried.setting.chunk is None else tried.setting.chunk
