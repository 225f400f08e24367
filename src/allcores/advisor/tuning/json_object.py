"""What was found as one JSON object; `tuning.schema.json` beside this file describes it."""

from __future__ import annotations

import math
from typing import Any

from allcores.advisor.model.found import Growth
from allcores.advisor.model.intervals import Interval
from allcores.advisor.tuning.record import TuningRecord

#: changes when a key goes or means something else
VERSION = 1


def as_object(tuning: TuningRecord) -> dict[str, Any]:
    """Plain values: what is unknown is null."""
    measured = None
    if tuning.speedup is not None and tuning.low is not None and tuning.high is not None:
        measured = interval_object(Interval(tuning.speedup, tuning.low, tuning.high))
    return {
        "version": VERSION,
        "function": tuning.function,
        "verdict": tuning.verdict,
        "setting": {
            "backend": tuning.backend,
            "workers": tuning.workers,
            "chunk": tuning.chunk,
            "depth": tuning.depth,
        },
        "measured": measured,
        "kept": tuning.kept,
        "reasons": list(tuning.reasons),
        "tried": [
            {
                **each.setting.as_dict(),
                "stage": each.stage,
                "item_seconds": each.item_seconds,
                "runs": each.runs,
                "measured": None if each.measured is None else interval_object(each.measured),
            }
            for each in tuning.tried
        ],
        "growth": None if tuning.growth is None else _growth(tuning.growth),
        "items": tuning.items,
        "resumed": tuning.resumed,
        "calls": tuning.calls,
        "seconds": round(tuning.seconds, 3),
        "machine": tuning.machine,
        "code": tuning.code,
    }


def _growth(growth: Growth) -> dict[str, Any]:
    scaling = growth.scaling
    return {
        "backend": growth.backend,
        "measured": {str(workers): rate for workers, rate in sorted(growth.rates.items())},
        "extrapolated": {str(workers): rate for workers, rate in sorted(growth.further.items())},
        "contention": None if scaling is None else scaling.contention,
        "coherence": None if scaling is None else scaling.coherence,
        "off": None if scaling is None else scaling.off,
        "most_useful": None if scaling is None else scaling.most_useful,
        "reason": growth.reason,
    }


def interval_object(interval: Interval) -> dict[str, float | None]:
    """The three numbers of an interval."""
    return {
        name: round(value, 4) if math.isfinite(value := getattr(interval, name)) else None
        for name in ("speedup", "low", "high")
    }
