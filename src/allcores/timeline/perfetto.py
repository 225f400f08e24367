"""A timeline as Chrome trace events, which Perfetto (ui.perfetto.dev) and chrome://tracing show.

Lanes are threads, spans complete events ("X"), failures instants ("i"), memory and pace counters ("C").
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from allcores.errors import UsageError
from allcores.system.whole_files import whole_text
from allcores.timeline.breakdown import breakdown
from allcores.timeline.reader import Recording

#: processes of the trace: the workers, and the program that reads the results
WORKERS, PARENT = 1, 2


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _meta(what: str, pid: int, tid: int, name: Any) -> dict[str, Any]:
    key = "sort_index" if what.endswith("sort_index") else "name"
    return {"name": what, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": {key: name}}


def trace_events(recording: Recording) -> Iterator[dict[str, Any]]:
    """The events, one by one; `ts` and `dur` are µs."""
    yield _meta("process_name", WORKERS, 0, f"{recording.pool}: workers ({recording.backend})")
    yield _meta("process_name", PARENT, 0, f"{recording.pool}: parent")
    yield _meta("thread_name", PARENT, 1, "input")
    for number, lane in sorted(recording.lanes.items()):
        name = f"lane {number}" if lane.actor is None else f"lane {number}: {lane.actor}"
        yield _meta("thread_name", WORKERS, number, name)
        yield _meta("thread_sort_index", WORKERS, number, number)
        for seat in lane.seats:
            if seat.ready > seat.since:
                yield {
                    **_event("X", "start-up", "start", seat.since, WORKERS, number),
                    "dur": _microseconds(seat.ready - seat.since),
                    "args": {"worker": seat.worker, "pid": seat.pid},
                }
        for span in lane.spans:
            failed = f", {span.failed} failed" if span.failed else ""
            yield {
                **_event(
                    "X", f"{span.items} item{'s' * (span.items != 1)}{failed}", "work", span.begin, WORKERS, number
                ),
                "dur": _microseconds(max(0.0, span.end - span.begin)),
                "args": {
                    "map": span.map_number,
                    "worker": span.worker,
                    "items": span.items,
                    "failed": span.failed,
                    "seconds in the function": round(span.busy, 6),
                    "bytes": span.size,
                },
            }
    for read in recording.reads:
        yield {
            **_event("X", f"read {read.items} items", "input", read.begin, PARENT, 1),
            "dur": _microseconds(max(0.0, read.end - read.begin)),
            "args": {"map": read.map_number, "in the input": read.pull, "pickling": read.pack, "held back": read.held},
        }
    for mark in recording.marks:
        place = (WORKERS, mark.lane) if mark.lane is not None else (PARENT, 1)
        yield {**_event("i", mark.what, "failure", mark.time, *place), "s": "t", "args": {"text": mark.text}}
    for sample in recording.memory:
        values = {"parent": sample.parent, "workers": sample.workers}
        yield {**_event("C", "resident bytes", "memory", sample.time, PARENT, 0), "args": values}
    summed = breakdown(recording)
    for number, rate in enumerate(summed.rates):
        time = summed.begin + number * summed.width
        yield {**_event("C", "items per second", "pace", time, PARENT, 0), "args": {"items": round(rate, 3)}}


def _event(phase: str, name: str, category: str, time: float, pid: int, tid: int) -> dict[str, Any]:
    return {"name": name, "cat": category, "ph": phase, "ts": _microseconds(max(0.0, time)), "pid": pid, "tid": tid}


def save_trace(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Write a trace: it takes the place of the file whole, or that stays as it was.

    Raises:
        UsageError: If the file cannot be written.
    """
    recording.check_elsewhere(path)
    try:
        with whole_text(path) as file:
            file.write('{"displayTimeUnit":"ms","otherData":')
            facts = {key: str(value) for key, value in recording.header.items()}
            file.write(json.dumps(facts) + ',"traceEvents":[\n')
            for number, event in enumerate(trace_events(recording)):
                file.write(",\n" * bool(number) + json.dumps(event, separators=(",", ":")))
            file.write("\n]}\n")
    except OSError as error:
        raise UsageError(f"The trace {os.fspath(path)!r} cannot be written: {error.strerror}.") from None
