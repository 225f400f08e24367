"""What follows from the constants for a large cluster: tables and pictures of docs/design/scale.md.

Everything here is computed, by `model.py`, from `measured.json` and `checked.json`: the same files give the same page.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.scale import check, measure
from benchmarks.scale.costs import CHECKED, MEASURED, Costs
from benchmarks.scale.model import Cluster, Result, Rule, Run, as_it_is, of_seconds
from benchmarks.scale.plots import Axis, Line, chart
from benchmarks.scale.times import Times

#: the cluster in question: machines, cores of each, items, and the part of its machines that is lost an hour
MACHINES, CORES, ITEMS, LOST = 1_000, 64, 1_000_000_000, 0.001
#: seconds of an item on the average, unless it is said
MEAN_S = 0.1
#: as many items in flight as there may be, where that is not the question
MANY = 10**9
#: seconds of a node's work that a chunk is to have there
LONG_S = 20.0
#: a program is not to be busy for more of its time
BUSY = 0.7
#: machines below one driver
NODES = (10, 20, 50, 100, 200, 500, 1_000)


def _cluster(nodes: int, chunk_s: float | None = None, **more: Any) -> Cluster:
    """Reports twice in a chunk, where chunks have a length that is asked for."""
    if chunk_s is not None:
        more["report_s"] = chunk_s / 2
    return Cluster(nodes, CORES, **{"in_flight": MANY, "start_s": Costs.measured().start_s} | more)


def _played(nodes: int, minutes: float, mean_s: float, rule: Rule, cluster: Cluster) -> Result:
    """A run with work for so many minutes of all cores."""
    items = int(minutes * 60 * nodes * CORES / mean_s)
    return Run(items, Times(mean_s), cluster, Costs.measured(), rule).play()


def _head(*columns: str) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]


def saturation() -> tuple[list[str], str]:
    """How much of the cores one driver keeps at work, by the number of machines."""
    rows = _head("machines", "chunks as they are", "of 1 s", "of 20 s", "driver busy, as they are", "scheduler busy")
    ways: dict[str, list[tuple[float, float]]] = {"as they are": [], "of 1 s": [], "of 20 s": []}
    for nodes in NODES:
        own = _played(nodes, 10, MEAN_S, as_it_is, _cluster(nodes))
        some = _played(nodes, 1, MEAN_S, of_seconds(1), _cluster(nodes, 1))
        long = _played(nodes, 10, MEAN_S, of_seconds(LONG_S), _cluster(nodes, LONG_S))
        for name, result in zip(ways, (own, some, long), strict=True):
            ways[name].append((nodes, result.cores_used))
        rows.append(
            f"| {nodes:,} | {own.cores_used:.0%} | {some.cores_used:.0%} | {long.cores_used:.0%} "
            f"| {own.driver_used:.0%} | {own.scheduler_used:.0%} |"
        )
    picture = chart(
        "Cores at work below one driver, items of 0.1 s",
        Axis("machines of 64 cores", NODES, log=True),
        Axis("part of the cores' time", (0, 0.25, 0.5, 0.75, 1), percent=True),
        [Line(f"chunks {name}", points) for name, points in ways.items()],
    )
    return rows, picture


def grown(length: float, mean: float) -> Result:
    """A run on a thousand machines with so many seconds of work in a chunk, long enough for some chunks of each."""
    return _played(MACHINES, max(1.0, length / 4), mean, of_seconds(length), _cluster(MACHINES, length))


def growth() -> tuple[list[str], str]:
    """How much of the cores a thousand machines use, by the work in a chunk."""
    lengths = (1, 2, 5, 10, 20, 50, 100)
    means = {0.01: "10 ms", 0.1: "0.1 s", 1.0: "1 s"}
    rows = _head(
        "work in a chunk, s", *(f"items of {name}" for name in means.values()), "messages a second, 0.1 s", "in flight"
    )
    ways: dict[float, list[tuple[float, float]]] = {mean: [] for mean in means}
    for length in lengths:
        found = {mean: grown(length, mean) for mean in means}
        for mean, result in found.items():
            ways[mean].append((length, result.cores_used))
        middle = found[MEAN_S]
        each = " | ".join(f"{result.cores_used:.0%}" for result in found.values())
        rows.append(f"| {length} | {each} | {middle.messages / middle.seconds:,.0f} | {middle.most_out:,} |")
    picture = chart(
        "Cores at work, 1,000 machines below one driver",
        Axis("seconds of a machine's work in a chunk", lengths, log=True),
        Axis("part of the cores' time", (0, 0.25, 0.5, 0.75, 1), percent=True),
        [Line(f"items of {name}", ways[mean]) for mean, name in means.items()],
    )
    return rows, picture


def losses() -> list[str]:
    """What machines that are lost cost, by how many are and by the work in a chunk."""
    rows = _head("lost an hour", "20 s in a chunk: run again", "60 s", "cores at work, with 20 s")
    for lost in (0.0, LOST, 0.1, 1.0):
        found = {
            length: _played(MACHINES, 10, MEAN_S, of_seconds(length), _cluster(MACHINES, length, lost=lost))
            for length in (LONG_S, 60.0)
        }
        again = " | ".join(f"{result.again / result.settled:.3%}" for result in found.values())
        rows.append(f"| {lost:.1%} | {again} | {found[LONG_S].cores_used:.0%} |")
    return rows


def whole() -> list[str]:
    """The run in question, by one driver and by several."""
    rows = _head(
        "drivers", "minutes", "cores at work", "driver busy", "scheduler busy", "messages", "lost", "run again"
    )
    ideal = ITEMS * MEAN_S / (MACHINES * CORES)
    rows.append(f"| none: the work alone | {ideal / 60:.1f} | 100% | | | | | |")
    for drivers in (1, 4, 16):
        nodes = MACHINES // drivers
        costs = Costs.measured()
        # With a journal, each driver its own.
        costs = replace(costs, driver_item_s=costs.driver_item_s + costs.journal_item_s)
        share = ITEMS * nodes // MACHINES
        cluster = _cluster(nodes, LONG_S, lost=LOST)
        parts = [Run(share, Times(MEAN_S), cluster, costs, of_seconds(LONG_S), seed).play() for seed in range(drivers)]
        last = max(parts, key=lambda part: part.seconds)
        work = sum(part.cores_used * part.seconds for part in parts) / drivers
        rows.append(
            f"| {drivers} | {last.seconds / 60:.1f} | {work / last.seconds:.0%} | {last.driver_used:.0%} "
            f"| {last.scheduler_used:.0%} | {sum(part.messages for part in parts):,} "
            f"| {sum(part.nodes_lost for part in parts)} | {sum(part.again for part in parts):,} |"
        )
    return rows


def journals() -> list[str]:
    """How many journals it takes, so that none is busy for more than `BUSY` of the time."""
    costs = Costs.measured()
    rows = _head("an item takes", "items a second", "one journal writes, MB/s", "its driver is to be busy", "journals")
    for mean_s, name in ((1.0, "1 s"), (0.1, "0.1 s"), (0.01, "10 ms"), (0.001, "1 ms")):
        rate = MACHINES * CORES / mean_s
        busy = rate * (costs.driver_item_s + costs.journal_item_s)
        written = rate * costs.journal_item_bytes / 1e6
        rows.append(f"| {name} | {rate:,.0f} | {written:,.1f} | {busy:.0%} | {max(1, math.ceil(busy / BUSY)):,} |")
    return rows


def resuming() -> tuple[list[str], str]:
    """How soon the run in question goes on when its drivers were killed at its end, and its output is put together."""
    costs = Costs.measured()
    rows = _head("journals", "items in each", "until it goes on, s", "until the output is put together, s")
    goes_on: list[tuple[float, float]] = []
    put: list[tuple[float, float]] = []
    counts = (1, 2, 4, 8, 16, 32, 64)
    for count in counts:
        items = ITEMS // count
        until = costs.resume_s + costs.resume_item_s * items + costs.start_s
        made = costs.publish_item_s * items
        goes_on.append((count, until))
        put.append((count, made))
        rows.append(f"| {count} | {items:,} | {until:,.0f} | {made:,.0f} |")
    picture = chart(
        "Going on after all drivers were killed, 1,000 million items settled",
        Axis("journals, each with its part of the items", counts, log=True),
        Axis("seconds", (1, 10, 100, 1_000), log=True),
        [Line("until items run again", goes_on), Line("until the outputs are put together", put)],
    )
    return rows, picture


def _about(facts: dict[str, Any]) -> list[str]:
    machine = facts["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    low, high = facts["load"]
    return [
        f"Measured {facts['measured']} on {machine['processor']}, {machine['cores']} cores, {machine['memory']}, "
        f"{machine['system']}, {machine['Python']}, {versions}; {facts['rounds']} rounds. "
        f"Other work ran on the machine meanwhile: its load was {low} to {high}."
    ]


def measured(path: Path) -> list[str]:
    """What was measured."""
    facts = json.loads(path.read_text())
    return [*_about(facts), "", *measure.table(facts)]


def checked(path: Path) -> list[str]:
    """Real runs beside the model."""
    facts = json.loads(path.read_text())
    return [*_about(facts), "", *check.table(facts)]


def tables() -> tuple[dict[str, list[str]], dict[str, str]]:
    """By their names: tables and notes of the page, and pictures."""
    reached, first = saturation()
    grown, second = growth()
    resumed, third = resuming()
    texts = {
        "measured": measured(MEASURED),
        "checked": checked(CHECKED),
        "saturation": reached,
        "growth": grown,
        "losses": losses(),
        "whole": whole(),
        "journals": journals(),
        "resuming": resumed,
    }
    return texts, {"saturation": first, "growth": second, "resuming": third}


def filled(page: str, texts: dict[str, list[str]]) -> str:
    """A page with its tables made anew, each between two marks."""
    for name, lines in texts.items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        text = "\n".join([begin, "", *lines, "", end])
        page, count = pattern.subn(lambda _, text=text: text, page)  # type: ignore[misc]
        assert count == 1, f"the page has no place for {name}"
    return page


def write(docs: Path) -> list[Path]:
    """Make the page's tables and its pictures anew; returns what was written."""
    texts, pictures = tables()
    page = docs / "design" / "scale.md"
    page.write_text(filled(page.read_text(), texts))
    written = [page]
    for name, picture in pictures.items():
        path = docs / "images" / f"scale-{name}.svg"
        path.write_text(picture)
        written.append(path)
    return written
