"""The advice as one JSON object; `advice.schema.json` beside this file describes it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from allcores.advisor.core_seconds import CoreSeconds
from allcores.advisor.model.decision import Setting
from allcores.advisor.model.intervals import Interval
from allcores.advisor.model.memory import Memory
from allcores.advisor.model.verdict import LibraryWay
from allcores.advisor.record import AdviceRecord

#: changes when a key goes or means something else
VERSION = 1


def as_object(advice: AdviceRecord) -> dict[str, Any]:
    """Plain values: what is infinite or unknown is null."""
    return {
        "version": VERSION,
        "function": advice.function,
        "verdict": advice.verdict,
        "recommendation": _setting(advice.recommendation),
        "predicted": _interval(advice.predicted),
        "measured": None if advice.measured is None else _interval(advice.measured),
        "calls": advice.calls,
        "called_on": [list(each) for each in advice.called_on],
        "seconds": round(advice.seconds, 3),
        "items": None if advice.probes is None else advice.probes.items,
        "needed": advice.needed,
        "reasons": list(advice.reasons),
        "pitfalls": [{"name": each.name, "fix": each.fix} for each in advice.pitfalls],
        "patterns": [
            {
                **_setting(each.setting),
                "predicted": _interval(each.predicted),
                "measured": None if each.measured is None else _interval(each.measured),
                "seconds": each.seconds,
                "limit": each.limit,
            }
            for each in advice.patterns
        ],
        "what_ifs": [
            {
                "name": each.name,
                "predicted": _interval(each.predicted),
                "try": each.try_it,
                "extrapolated": each.extrapolated,
            }
            for each in advice.what_ifs
        ],
        "impossible": {} if advice.decision is None else dict(advice.decision.impossible),
        "kind": None if advice.decision is None else advice.decision.kind,
        "probes": None if advice.probes is None else _plain(dataclasses.asdict(advice.probes)),
        "runs": [dataclasses.asdict(run) for run in advice.runs],
        "core_seconds": None if advice.core_seconds is None else _core_seconds(advice.core_seconds),
        "library": None if advice.library is None else _library(advice.library),
        "memory": None if advice.memory is None else _memory(advice.memory),
        "machine": _plain(advice.machine),
        "code": advice.code,
    }


def _core_seconds(recorded: CoreSeconds) -> dict[str, Any]:
    return {
        "workers": recorded.workers,
        "seconds": recorded.seconds,
        "items": recorded.items,
        "uses": [{"key": use.key, "meaning": use.meaning, "seconds": use.seconds} for use in recorded.uses],
    }


def _memory(memory: Memory) -> dict[str, Any]:
    return {"peak": memory.peak, **dataclasses.asdict(memory)}


def _library(way: LibraryWay) -> dict[str, Any]:
    return {
        "name": way.name,
        "code": way.code,
        "measured": _interval(way.measured),
        "whole": way.whole,
        "cores": way.cores,
    }


def _setting(setting: Setting) -> dict[str, Any]:
    return {
        "pattern": setting.pattern,
        "workers": setting.workers,
        "chunk": setting.chunk,
        "share": setting.share,
        "preload": setting.preload,
    }


def _interval(interval: Interval) -> dict[str, Any]:
    return {name: _number(getattr(interval, name)) for name in ("speedup", "low", "high")}


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
