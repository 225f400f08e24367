"""The advice as one HTML file: no script, nothing loaded from anywhere, light and dark, for phones too."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allcores.advisor.core_seconds import CoreSeconds
from allcores.advisor.model import costs
from allcores.advisor.model.decision import Setting
from allcores.advisor.model.probes import Probes
from allcores.advisor.record import AdviceRecord, Pattern
from allcores.advisor.text import HEADS, called_on_text, interval_text, memory_text, setting_text, unproven_text
from allcores.timeline.html_report import environment, write_page

#: runs that are listed
MOST_RUNS = 60
#: what the figures of the machine are called
FACTS = {"others": "cores used by other programs", "python": "Python", "load": "load of 1, 5, 15 min", "mhz": "MHz"}
#: a part that is below this is not drawn
LEAST_PART = 0.001


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar.

    Attributes:
        key: The class of its colour.
        name: For people.
        seconds: How long.
        part: Of the whole, in percent.
        meaning: What it is.
    """

    key: str
    name: str
    seconds: float
    part: float
    meaning: str


def as_html(advice: AdviceRecord) -> str:
    """The page.

    Raises:
        ImportError: Without Jinja2 (`pip install 'allcores[report]'`).
    """
    template = environment(Path(__file__).with_name("templates")).get_template("advice.html.j2")
    return template.render(_facts(advice))


def save(advice: AdviceRecord, path: str | os.PathLike[str]) -> None:
    """Write the page.

    Raises:
        ImportError: Without Jinja2.
        UsageError: If the file cannot be written.
    """
    write_page(as_html(advice), path, "advice")


def of_a_call(probes: Probes) -> list[Part]:
    """Where the microseconds of one call go if it is made by a worker process."""
    timing, travel = probes.timing, probes.travel
    system = min(timing.system_s, timing.wall_s)
    computed = max(0.0, min(timing.cpu_s, timing.wall_s) - system)
    waits = max(0.0, timing.wall_s - computed - system) if timing.waits or timing.cpu_s < timing.wall_s else 0.0
    return _parts(
        [
            ("input", "Item to the worker", travel.way_in_s, "the parent pickles it, and it goes through a pipe"),
            ("transport", "Unpickling, pickling", travel.worker_s, "in the worker: the item, and the result"),
            ("function", "The function computes", computed, "processor seconds in the program"),
            ("start", "In the kernel", system, "processor seconds of the system, for the function"),
            ("held", "The function waits", waits, "for a device, the network, or a clock"),
            ("parent", "Result to the parent", travel.way_out_s, "through a pipe, and unpickled there"),
        ]
    )


def of_workers(probes: Probes, setting: Setting) -> list[Part]:
    """Where the workers' seconds go over the whole input, as predicted; they add up to workers x seconds."""
    cost = costs.processes_cost(
        probes, setting.workers, chunk=setting.chunk, preload=setting.preload, share=setting.share
    )
    tail = min(cost.idle, setting.workers * cost.tail)
    return _parts(
        [
            ("function", "Function", cost.work, "in the function"),
            ("transport", "Pickling", cost.worker_transport, "unpickling items and pickling results"),
            ("start", "Start-up", cost.start * setting.workers, "until workers are there"),
            ("parent", "Waiting for the parent", cost.idle - tail, "idle, while the parent pickles or reads"),
            ("tail", "Idle at the end", tail, "idle, when there are no more items"),
        ]
    )


def of_recorded(recorded: CoreSeconds) -> list[Part]:
    """Where the workers' seconds went in the run that was recorded; they add up to workers x seconds."""
    return _parts([(use.key, use.title, use.seconds, use.meaning) for use in recorded.uses])


def _parts(rows: list[tuple[str, str, float, str]]) -> list[Part]:
    total = sum(row[2] for row in rows)
    if total <= 0:
        return []
    parts = [Part(key, name, seconds, 100 * seconds / total, meaning) for key, name, seconds, meaning in rows]
    return [part for part in parts if part.part >= 100 * LEAST_PART]


def _facts(advice: AdviceRecord) -> dict[str, Any]:
    """What the template is given."""
    measured = advice.measured or advice.predicted
    head = HEADS[advice.verdict].format(setting=setting_text(advice.recommendation), measured=f"{measured.speedup:.2f}")
    processes = [each.setting for each in advice.patterns if each.setting.pattern == "processes"]
    probes = advice.probes
    endless = probes is None or probes.items is None
    intervals = [each.predicted for each in advice.patterns] + [
        each.measured for each in advice.patterns if each.measured
    ]
    top = 1.05 * max([1.0, *(interval.high for interval in intervals if math.isfinite(interval.high))])
    return {
        "advice": advice,
        "head": head,
        "needed": None if advice.needed is None else advice.needed[0].upper() + advice.needed[1:] + ".",
        "call": [] if probes is None else of_a_call(probes),
        "call_s": 0.0 if probes is None else sum(part.seconds for part in of_a_call(probes)),
        "workers": [] if endless or not processes or probes is None else of_workers(probes, processes[0]),
        "workers_setting": setting_text(processes[0]) if processes else "",
        "recorded": [] if advice.core_seconds is None else of_recorded(advice.core_seconds),
        "rows": [_row(each, top) for each in advice.patterns],
        "one": 100 / top,
        "what_ifs": [(each, interval_text(each.predicted)) for each in advice.what_ifs],
        "impossible": {} if advice.decision is None else advice.decision.impossible,
        "unproven": unproven_text(advice),
        "machine": machine_facts(advice.machine),
        "called_on": called_on_text(advice),
        "memory": "" if advice.memory is None else memory_text(advice.memory),
        "runs": advice.runs[:MOST_RUNS],
        "runs_left_out": max(0, len(advice.runs) - MOST_RUNS),
    }


def machine_facts(machine: Mapping[str, object]) -> dict[str, object]:
    """Figures of the machine by their names for people; the load of one, five and fifteen minutes is three."""
    return {
        FACTS.get(name, name): ", ".join(str(each) for each in value) if isinstance(value, list) else value
        for name, value in machine.items()
    }


def _row(pattern: Pattern, top: float) -> dict[str, Any]:
    def span(interval: Any) -> dict[str, float] | None:
        if interval is None:
            return None
        left, right = (100 * min(value, top) / top for value in (interval.low, interval.high))
        return {"left": left, "width": max(0.4, right - left), "at": 100 * min(interval.speedup, top) / top}

    return {
        "name": setting_text(pattern.setting),
        "predicted": interval_text(pattern.predicted),
        "measured": interval_text(pattern.measured),
        "seconds": pattern.seconds,
        "limit": pattern.limit,
        "predicted_span": span(pattern.predicted),
        "measured_span": span(pattern.measured),
    }
