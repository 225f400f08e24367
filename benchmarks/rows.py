"""What a benchmark hands back: rows of samples, and whether the aims were reached.

A row holds one sample per contender and round. Contenders take turns (A B C A B C ...), so that a
machine that is slow for a while is slow for all of them, and a ratio is taken round by round before
its median is.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.settings import Settings


@dataclass(frozen=True)
class Spread:
    """Median, least and largest of the samples that could be taken."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Iterable[float | None]) -> Spread | None:
        """None when there is no sample."""
        values = [sample for sample in samples if sample is not None and math.isfinite(sample)]
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass(frozen=True)
class Verdict:
    """One aim and what became of it.

    reached: by the median; None if it could not be measured.
    rounds_reached: in how many of `rounds` the round's own value reached it.
    """

    aim: str
    bound: str
    spread: Spread | None
    reached: bool | None
    rounds_reached: int
    rounds: int

    def word(self) -> str:
        """'reached', 'missed' or 'not measured'."""
        return "not measured" if self.reached is None else "reached" if self.reached else "missed"


@dataclass
class Row:
    """One kind of work, measured with each contender.

    samples: contender -> one value a round, in `unit`; None where it failed.
    notes: contender -> why a value is missing, or what to know about it.
    background: cores that other programs used, measurement by measurement.
    comparable: False where contenders had different amounts to do, so that ratios mean nothing.
    table: for rows that are a table of words and not of numbers: line -> column -> word.
    """

    name: str
    title: str
    unit: str
    how: str
    samples: dict[str, list[float | None]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    aims: list[Verdict] = field(default_factory=list)
    table: dict[str, dict[str, str]] = field(default_factory=dict)
    background: list[float] = field(default_factory=list)
    comparable: bool = True

    def spread(self, contender: str) -> Spread | None:
        """The contender's spread, None if it was not measured."""
        return Spread.of(self.samples.get(contender, ()))

    def best(self, contenders: Iterable[str]) -> str | None:
        """The contender with the smallest median among those that were measured."""
        medians = {name: spread.median for name in contenders if (spread := self.spread(name)) is not None}
        return min(medians, key=lambda name: medians[name]) if medians else None

    def ratios(self, above: str, below: str) -> list[float | None]:
        """`above` divided by `below`, round by round."""
        return [
            a / b if a is not None and b else None
            for a, b in zip(self.samples.get(above, ()), self.samples.get(below, ()), strict=False)
        ]

    def judge(
        self,
        aim: str,
        values: Iterable[float | None],
        *,
        most: float | None = None,
        least: float | None = None,
    ) -> None:
        """Add the verdict on an aim: the median of `values` must be at most `most` or at least `least`."""
        taken = [value for value in values if value is not None]

        def good(value: float) -> bool:
            return (most is None or value <= most) and (least is None or value >= least)

        spread = Spread.of(taken)
        self.aims.append(
            Verdict(
                aim=aim,
                bound=f"≤ {most:g}" if most is not None else f"≥ {least:g}",
                spread=spread,
                reached=None if spread is None else good(spread.median),
                rounds_reached=sum(map(good, taken)),
                rounds=len(taken),
            )
        )

    def as_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, with the spreads worked out."""
        spreads = {name: asdict(spread) for name in self.samples if (spread := self.spread(name)) is not None}
        return {**asdict(self), "spreads": spreads}


def in_turn(
    row: Row,
    contenders: Mapping[str, Callable[[], float]],
    rounds: int,
    settings: Settings,
    *,
    shuffled: bool = False,
) -> None:
    """Fill `row.samples`: in each round each contender is measured once, in the given order or in another each time.

    A contender that fails is noted and left out from then on.
    """
    for name in contenders:
        row.samples.setdefault(name, [])
    failed: set[str] = set()
    quiet, say = settings.quiet, settings.say
    quiet.seen.clear()
    for number in range(rounds):
        turns = list(contenders.items())
        if shuffled:
            random.shuffle(turns)
        for name, measure in turns:
            sample: float | None = None
            if name not in failed:
                try:
                    sample = quiet.undisturbed(measure)
                except Exception as error:  # a peer may fail in any way; the others go on
                    failed.add(name)
                    row.notes[name] = f"{type(error).__name__}: {error}"
                    say(f"{row.name}: {name} failed: {row.notes[name]}")
            row.samples[name].append(sample)
        latest = {name: samples[-1] for name, samples in row.samples.items() if name in contenders}
        values = "  ".join(f"{name} {'-' if v is None else format(v, '.4g')}" for name, v in latest.items())
        say(f"{row.name} {number + 1}/{rounds} ({row.unit}): {values}")
    row.background += quiet.seen
