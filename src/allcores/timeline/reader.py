"""A timeline read back: what was recorded, as plain facts. Times are seconds since the timeline was made."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from allcores.errors import UsageError
from allcores.timeline.file import MOST, MOST_LANES, is_number, load, rows_of


class Span(NamedTuple):
    """Work on a lane, from begin to end without a gap longer than the recorder's resolution.

    Attributes:
        busy: Seconds in the function.
        idle: Seconds in small gaps.
        items: Attempts.
        size: Pickled bytes.
    """

    worker: int
    map_number: int
    begin: float
    end: float
    busy: float
    idle: float
    items: int
    failed: int
    size: int

    @property
    def occupied(self) -> float:
        """Seconds with work: in the function, or on the way to and from it."""
        return self.end - self.begin - self.idle


class Seat(NamedTuple):
    """A worker on its lane.

    Attributes:
        since: When its place was free for it.
        ready: When it was ready to work.
    """

    worker: int
    pid: int | None
    since: float
    ready: float


class Read(NamedTuple):
    """The reading thread pulled input: pull, pack (pickling and handing over) and held seconds within begin..end."""

    map_number: int
    begin: float
    end: float
    items: int
    pull: float
    pack: float
    held: float


class Mark(NamedTuple):
    """Something that happened at one time on a lane, or on none (None)."""

    time: float
    lane: int | None
    what: str
    text: str


class Memory(NamedTuple):
    """Resident bytes of the parent, of all workers, of the largest; processor seconds of all workers so far."""

    time: float
    parent: int
    workers: int
    largest: int
    cpu: float


class Cause(NamedTuple):
    """Failures with one cause. flow, item, worker, name: of the first."""

    kind: str
    text: str
    failures: int
    retries: int
    map_number: int
    item: int
    worker: int | None
    name: str


class Slow(NamedTuple):
    """An item that took long.

    Attributes:
        items: 1; more if it was one of so many; negative if so many had this mean.
    """

    seconds: float
    map_number: int
    first: int
    items: int
    worker: int
    name: str


@dataclass(slots=True)
class MapFacts:
    """A map.

    Attributes:
        input_end: None if it did not come that far.
        end: None if it did not come that far.
    """

    number: int
    begin: float
    total: int | None
    input_end: float | None = None
    end: float | None = None
    done: int = 0
    failed: int = 0
    cancelled: bool = False


@dataclass(slots=True)
class Lane:
    """One worker after the other."""

    number: int
    spans: list[Span] = field(default_factory=list)
    seats: list[Seat] = field(default_factory=list)
    #: (when, worker, reason) of those that are gone
    gone: list[tuple[float, int, str]] = field(default_factory=list)
    #: the class whose object its workers are for; None: they are the pool's
    actor: str | None = None


@dataclass(slots=True)
class Recording:
    """A timeline as it was recorded.

    Attributes:
        name: Of the file.
        complete: It was closed; otherwise the program was ended before, or still runs.
        workers: Of the pool.
        cores: The core budget.
        counts: Totals (attempts, failed, retries, workers_started, ...).
        rows: How many there would be of each word, had all been written.
        histogram: Bucket -> items, see `timeline.aggregates.Histogram`.
    """

    name: str
    header: dict[str, Any]
    pool: str = "pool"
    backend: str = "processes"
    workers: int = 0
    begin: float = 0.0
    end: float = 0.0
    complete: bool = False
    lanes: dict[int, Lane] = field(default_factory=dict)
    maps: dict[int, MapFacts] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    histogram: dict[int, int] = field(default_factory=dict)
    slowest: list[Slow] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)

    @property
    def cores(self) -> int:
        """The core budget of the program that was recorded."""
        return max(1, int(self.header.get("cores") or 1))

    def check_elsewhere(self, path: str | os.PathLike[str]) -> None:
        """Raise UsageError if writing `path` would overwrite the timeline itself."""
        try:
            same = os.path.samefile(self.name, path)
        except (OSError, ValueError):
            return  # one of them is not there
        if same:
            raise UsageError(f"{os.fspath(path)!r} is the timeline, and would be overwritten: choose another file.")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a timeline's file, or the one in a run's folder.

        Raises:
            UsageError: If there is none, or it is none.
        """
        name, pieces = load(path)
        return cls.of(rows_of(pieces, name), name)

    @classmethod
    def of(cls, rows: Iterable[Any], name: str) -> Recording:
        """Put rows together. A row that is not known is left out: later versions may have more."""
        iterator = iter(rows)
        recording = cls(name, next(iterator))
        for row in iterator:
            take = _TAKES.get(row[0]) if isinstance(row, list) and row else None
            if take is not None:
                try:
                    if not _fits(row):
                        raise ValueError("values of other types than the format has")
                    take(recording, *row[1:])
                except (TypeError, ValueError, ArithmeticError, LookupError) as error:
                    shown = repr(row)
                    shown = shown if len(shown) <= 200 else f"{shown[:199]}…"
                    raise UsageError(f"The timeline {name!r} has a damaged row: {shown}.") from error
        recording._finish()
        return recording

    # --- rows, as docs/timeline-format.md lists them; times are µs ---

    def _lane(self, number: int) -> Lane:
        return self.lanes.setdefault(number, Lane(number))

    def _seen(self, us: float) -> float:
        time = us / 1e6
        self.end = max(self.end, time)
        return time

    def _pool(self, us: int, name: str, backend: str, workers: int, *_: Any) -> None:
        self.begin, self.pool, self.backend, self.workers = self._seen(us), name, backend, workers
        for number in range(1, workers + 1):
            self._lane(number)

    def _worker(self, us: int, lane: int, worker: int, pid: int | None, actor: str | None = None, *_: Any) -> None:
        place = self._lane(lane)
        place.actor = actor
        ready = self._seen(us)
        # A lane that there was from the beginning has been waiting since then; others are made for their worker.
        since = place.gone[-1][0] if place.gone else self.begin if lane <= self.workers else ready
        place.seats.append(Seat(worker, pid, since, ready))

    def _gone(self, us: int, lane: int, worker: int, reason: str, *_: Any) -> None:
        time = self._seen(us)
        self._lane(lane).gone.append((time, worker, reason))
        self.marks.append(Mark(time, lane, "ended", f"worker {worker} ended: {reason}"))

    def _map(self, us: int, number: int, total: int | None, *_: Any) -> None:
        self.maps[number] = MapFacts(number, self._seen(us), total)

    def _input(self, us: int, number: int, *_: Any) -> None:
        if number in self.maps:
            self.maps[number].input_end = self._seen(us)

    def _done(self, us: int, number: int, done: int, failed: int, cancelled: bool, *_: Any) -> None:
        map_number = self.maps.get(number)
        if map_number is not None:
            map_number.end, map_number.done, map_number.failed, map_number.cancelled = (
                self._seen(us),
                done,
                failed,
                cancelled,
            )

    def _span(
        self, lane: int, worker: int, map_number: int, begin: int, end: int, busy: int, idle: int, items: int,
        failed: int, size: int, *_: Any,
    ) -> None:  # fmt: skip
        span = Span(worker, map_number, begin / 1e6, self._seen(end), busy / 1e6, idle / 1e6, items, failed, size)
        self._lane(lane).spans.append(span)

    def _read(
        self, map_number: int, begin: int, end: int, items: int, pull: int, pack: int, held: int, *_: Any
    ) -> None:
        self.reads.append(Read(map_number, begin / 1e6, self._seen(end), items, pull / 1e6, pack / 1e6, held / 1e6))

    def _fail(
        self, us: int, map_number: int, index: int, lane: int | None, kind: str, text: str, name: str = "", *_: Any
    ) -> None:
        self.marks.append(Mark(self._seen(us), lane, kind, f"item {index}{named(name)}: {text}"))

    def _retry(
        self, us: int, map_number: int, index: int, attempt: int, kind: str, text: str, wait: int, *_: Any
    ) -> None:
        self.marks.append(Mark(self._seen(us), None, "retry", f"item {index}, attempt {attempt} {kind}: {text}"))

    def _memory(self, us: int, parent: int, workers: int, largest: int, cpu: int, *_: Any) -> None:
        self.memory.append(Memory(self._seen(us), parent, workers, largest, cpu / 1e6))

    def _totals(self, us: int, totals: dict[str, Any], *_: Any) -> None:
        self._seen(us)
        self.histogram = {_bounded(bucket, 256): _bounded(count) for bucket, count in totals.get("histogram", ())}
        self.slowest = [
            Slow(
                _bounded(ns) / 1e9, _bounded(map_number), _bounded(first), _bounded(items), _bounded(worker), str(name)
            )
            for ns, map_number, first, items, worker, name in (entry[:6] for entry in totals.get("slowest", ()))
        ]
        self.causes = [
            Cause(
                str(kind), str(text), _bounded(failures), _bounded(retries), _bounded(map_number), _bounded(item),
                None if worker is None else _bounded(worker), str(name),
            )
            for kind, text, failures, retries, map_number, item, worker, name in (
                entry[:8] for entry in totals.get("causes", ())
            )
        ]  # fmt: skip
        rows = totals.get("rows")
        self.rows = {str(word): _bounded(count) for word, count in rows.items()} if isinstance(rows, dict) else {}
        self.counts = {key: _bounded(value) for key, value in totals.items() if isinstance(value, int)}

    def _end(self, us: int, *_: Any) -> None:
        self._seen(us)
        self.complete = True

    def _finish(self) -> None:
        self.workers = self.workers or len(self.lanes)
        for lane in self.lanes.values():
            lane.spans.sort(key=lambda span: span.begin)
            _set_straight(lane.spans)
            # It may have been given work a moment before the event of its start arrived.
            first = {span.worker: span.begin for span in reversed(lane.spans)}
            lane.seats = [
                seat._replace(ready=max(seat.since, min(seat.ready, first.get(seat.worker, seat.ready))))
                for seat in lane.seats
            ]
        self.marks.sort(key=lambda mark: mark.time)
        if not self.complete:
            # Killed before it could count: spans are all there is to go by.
            spans = [span for lane in self.lanes.values() for span in lane.spans]
            self.counts["attempts"] = max(self.counts.get("attempts", 0), sum(span.items for span in spans))
            self.counts["failed"] = max(self.counts.get("failed", 0), sum(span.failed for span in spans))


#: as far as clocks and whole µs may be off, seconds; and that part of a row of spans
_OFF_S, _OFF_PART = 0.002, 0.02


def _set_straight(spans: list[Span]) -> None:
    """Give back what reports that were seen late took from those after them.

    A span with more seconds in the function than between its ends began before the report before it was seen. What
    follows an idle moment began no earlier: where spans in a row would have, several items ran at a time on that lane
    (calls of an actor, a node's cores), whose seconds in the function are more than passed. Then those that passed are
    the lane's.
    """
    first = 0
    for number in range(1, len(spans) + 1):
        if number == len(spans) or spans[number].begin - spans[number - 1].end > 2e-6:
            spans[first:number] = _row_set_straight(spans[first:number])
            first = number


def _row_set_straight(spans: list[Span]) -> list[Span]:
    """The same for spans of which each begins where the one before it ends."""
    found: list[Span] = []
    limit = float("inf")
    for span in reversed(spans):
        end = min(span.end, limit)
        limit = min(span.begin, end - span.busy - span.idle)
        found.append(span._replace(begin=limit, end=end))
    begin, end = spans[0].begin, spans[-1].end
    if limit < begin - _OFF_S - _OFF_PART * (end - begin):
        return [span._replace(busy=min(span.busy, span.occupied)) for span in spans]
    return [
        span._replace(begin=max(begin, span.begin), end=max(begin, span.end), busy=span.busy) for span in found[::-1]
    ]


def named(name: str) -> str:
    """An item's name behind its index, if it has one."""
    return f" ({name})" if name else ""


#: the values of each row: a number (n), a lane (l), text (s), an object (d); capitals may be null
_SHAPES = {
    "pool": "nssl", "worker": "nlnN", "gone": "nlns", "flow": "nnN", "input": "nn", "done": "nnnnn",
    "span": "lnnnnnnnnn", "read": "nnnnnnn", "fail": "nnnLss", "retry": "nnnnssn", "memory": "nnnnn",
    "totals": "nd", "end": "n",
}  # fmt: skip


def _fits(row: list[Any]) -> bool:
    """True if a row has the values that it should, as far as types and sizes go."""
    shape = _SHAPES[row[0]]
    return len(row) > len(shape) and all(map(_is, shape, row[1:]))


def _is(shape: str, value: Any) -> bool:
    if value is None:
        return shape.isupper()
    if shape in "lL":
        return isinstance(value, int) and 0 <= value <= MOST_LANES
    if shape in "nN":
        return is_number(value)
    return isinstance(value, str if shape == "s" else dict)


def _bounded(value: Any, most: int = MOST) -> int:
    """`value` if it is a whole number of no more than that.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, int) or not -most <= value <= most:
        raise ValueError(f"{value!r} is no such number")
    return value


_TAKES: dict[str, Any] = {
    "pool": Recording._pool,
    "worker": Recording._worker,
    "gone": Recording._gone,
    "flow": Recording._map,
    "input": Recording._input,
    "done": Recording._done,
    "span": Recording._span,
    "read": Recording._read,
    "fail": Recording._fail,
    "retry": Recording._retry,
    "memory": Recording._memory,
    "totals": Recording._totals,
    "end": Recording._end,
}
