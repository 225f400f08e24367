"""A timeline's promises that need no process: what is counted, what is bounded, what is read back."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.cli.exits import Exit
from allcores.cli.main import main
from allcores.errors import UsageError
from allcores.events import (
    InputRead,
    MapEnded,
    MapStarted,
    PoolEnded,
    PoolEvent,
    PoolOpened,
    TaskFailed,
    WorkerEnded,
    WorkerStarted,
    WorkRecord,
    WorkReported,
)
from allcores.outcome import Kind, Outcome
from allcores.scheduler.activity import WORK_NS, ActivityBatcher
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.worker_state import WorkerState
from allcores.system.clock import monotonic_ns
from allcores.timeline import Timeline, file, recorder
from allcores.timeline.aggregates import (
    GROUP,
    MOST_CAUSES,
    MOST_SLOWEST,
    ROUTINE_NS,
    Causes,
    Histogram,
    Slowest,
    bucket_ns,
    name_of,
)
from allcores.timeline.breakdown import breakdown
from allcores.timeline.html_report import as_html
from allcores.timeline.perfetto import trace_events
from allcores.timeline.reader import Recording
from allcores.worker import chunk_runner

MS = 1_000_000


def report(
    worker: int, begin_ns: int, end_ns: int, items: int = 1, *, first: int = 0, map_state: int = 1
) -> WorkReported:
    record = WorkRecord(first, items, end_ns - begin_ns, None, range(items), 0)
    return WorkReported(worker, map_state, items, 0, begin_ns, end_ns, end_ns - begin_ns, 10 * items, [record])


def rows(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def recorded(*events: PoolEvent, path: Path | None = None) -> Recording:
    timeline = Timeline(path, memory=False)
    for each in (PoolOpened("pool", "processes", 2), *events, PoolEnded("pool")):
        timeline(each)
    return timeline.recording()


# --- what is counted ---


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200))
def test_histogram_counts_every_item_in_its_bucket(durations: list[int]) -> None:
    """However they come, as many are counted as there were, and none where it does not belong."""
    one_by_one, together = Histogram(), Histogram()
    for ns in durations:
        one_by_one.add(ns, 1)
        (bucket,) = {bucket for bucket in one_by_one.buckets if bucket_ns(bucket)[0] <= ns < bucket_ns(bucket)[1]}
        assert bucket == (ns * ns).bit_length()
    together.add_each(durations, sum(durations), max(durations))
    assert sum(together.buckets.values()) == len(durations)
    if sum(durations) >= 10_000 * len(durations):
        assert together.buckets == one_by_one.buckets


@given(st.lists(st.integers(0, 10**9), max_size=100))
def test_slowest_are_the_slowest(durations: list[int]) -> None:
    """As many as there is room for, with the right indexes."""
    slowest = Slowest()
    for first in range(0, len(durations), 7):
        part = durations[first : first + 7]
        slowest.look_at(WorkRecord(first, len(part), sum(part), part, list(range(len(durations))), first), 1, 1)
    kept = sorted(slowest.heap, reverse=True)
    assert [entry[0] for entry in kept] == sorted(durations, reverse=True)[:MOST_SLOWEST]
    assert all(durations[entry[3]] == entry[0] and entry[6] == str(entry[3]) for entry in kept)


def test_a_slow_item_among_quick_ones_is_found() -> None:
    """A record with one time for all: what is beyond the routine was spent in its last few items."""
    slowest, histogram = Slowest(), Histogram()
    slowest.estimate(WorkRecord(100, 50, 300 * MS, None, range(200), 100), 1, 1, histogram)
    ((ns, _, _, first, few, _, _),) = slowest.heap
    assert (first, few) == (142, 8)
    assert ns == 300 * MS - ROUTINE_NS
    assert sum(histogram.buckets.values()) == 50


def test_causes_are_told_apart_by_words_not_numbers() -> None:
    """And there are never more than are kept."""
    long = Causes()
    for number in (1, 20, 3000):
        long.add(Kind.FAILED, ValueError(f"item {number}: {'x' * 300}"), 1, number, 1, "", retry=False)
    assert len(long.known) == 1
    causes = Causes()
    for number in range(1000):
        causes.add(Kind.FAILED, ValueError(f"no price for {number} in 'file {number}'"), 1, number, 1, "", retry=False)
    ((kind, text, failures, _, _, index, _, _),) = causes.known.values()
    assert (kind, failures, index) == ("failed", 1000, 0)
    assert text == "ValueError: no price for 0 in 'file 0'"
    for number in range(500):
        causes.add(Kind.FAILED, KeyError("x" + "y" * number), 1, number, 1, "", retry=False)
        causes.add(Kind.FAILED, ValueError("x" + "y" * number), 1, number, 1, "", retry=False)
    assert len(causes.known) <= MOST_CAUSES + 1
    assert sum(cause[2] for cause in causes.known.values()) == 2000


def test_names_of_items_cost_little() -> None:
    """Of what may be large, only the type; of a long path, the end."""
    assert name_of(b"x" * 10**8) == "bytes"
    assert name_of([0] * 10**6) == "list"
    assert name_of(10**10_000) == "int"
    assert name_of("a" * 50 + "/" + "b" * 50 + ".html").endswith("b.html")
    assert len(name_of("a" * 10**7)) <= 60
    assert name_of(("x", 1)) == "(x, 1)"


# --- what is bounded ---


def test_spans_are_merged_as_a_run_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of reports makes a file of bounded size, and no item is lost from it. Here it is a tenth, of a tenth."""
    monkeypatch.setattr(recorder, "PARTS", recorder.PARTS // 10)
    path = tmp_path / "day.jsonl"
    timeline = Timeline(path, memory=False)
    timeline(PoolOpened("pool", "processes", 1))
    timeline(MapStarted(1, None))
    number, now = 20_000, monotonic_ns()
    for _ in range(number):
        timeline(report(1, now, now + 432 * MS))
        now += 432 * MS
    timeline(PoolEnded("pool"))
    recording = timeline.recording()
    (lane,) = recording.lanes.values()
    assert sum(span.items for span in lane.spans) == number == recording.counts["attempts"]
    assert len(lane.spans) < 5 * recorder.PARTS
    assert path.stat().st_size < 600_000
    assert sum(span.busy for span in lane.spans) == pytest.approx(number * 0.432)
    assert len(as_html(recording)) < 500_000


@pytest.mark.parametrize("several", ["in turn", "one after the other"])
def test_many_maps_make_a_file_no_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: str) -> None:
    """Two at a time on one pool (of a pipeline), and a new one for each report: they are merged as those of one are."""
    monkeypatch.setattr(recorder, "PARTS", recorder.PARTS // 10)
    path = tmp_path / "day.jsonl"
    timeline = Timeline(path, memory=False)
    timeline(PoolOpened("pool", "processes", 1))
    number, now = 20_000, timeline._origin
    for each in range(1, number + 1):
        map_state = each % 2 + 1 if several == "in turn" else each
        timeline(MapStarted(map_state, 1))
        timeline(InputRead(map_state, 1, now, now + 432 * MS, 432 * MS, 0, 0, False))
        timeline(report(1, now, now + 432 * MS, map_state=map_state))
        now += 432 * MS
    timeline(PoolEnded("pool"))
    recording = timeline.recording()
    (lane,) = recording.lanes.values()
    assert sum(span.items for span in lane.spans) == number == sum(read.items for read in recording.reads)
    assert len(lane.spans) < 5 * recorder.PARTS
    assert len(recording.reads) < 5 * recorder.PARTS


def test_a_short_run_tells_maps_apart() -> None:
    now = monotonic_ns()
    reports = [report(1, now + n * MS, now + (n + 1) * MS, map_state=n % 2 + 1) for n in range(10)]
    recording = recorded(MapStarted(1, 5), MapStarted(2, 5), *reports)
    assert [span.map_number for span in recording.lanes[1].spans] == [1, 2] * 5


def test_rows_of_failures_and_workers_are_capped() -> None:
    """Counts go on where rows end."""
    events: list[PoolEvent] = []
    for number in range(1, 3001):
        events += [WorkerStarted(number, None), WorkerEnded(number, "it was recycled")]
        outcome: Outcome[Any] = Outcome(number, Kind.FAILED, error=ValueError("no"), item=number, worker=number)
        events.append(TaskFailed(1, outcome))
    recording = recorded(*events)
    assert recording.counts["workers_started"] == 3000
    assert recording.causes[0].failures == 3000
    assert len(recording.lanes) == 2
    assert len(recording.marks) <= 2 * recorder.MOST_ROWS
    assert len(as_html(recording)) < 2_000_000


def test_of_many_maps_those_that_are_told_of_have_their_end() -> None:
    """Also where it comes after the ends of very many others; the others are counted."""
    events: list[PoolEvent] = [MapStarted(1, 1)]
    for number in range(2, 3002):
        events += [MapStarted(number, 1), InputRead(number, 1, 0, 0, 0, 0, 0, True), MapEnded(number, 1, 0, False)]
    events += [InputRead(1, 1, 0, 0, 0, 0, 0, True), MapEnded(1, 1, 0, False)]
    recording = recorded(*events)
    assert len(recording.maps) == recorder.MOST_ROWS
    assert all(each.end is not None and each.input_end is not None for each in recording.maps.values())
    assert recording.rows["flow"] == recording.rows["done"] == 3001
    html = as_html(recording)
    assert "2,951 more maps are not listed." in html
    assert "not ended" not in html


def test_reports_shortly_one_after_the_other_are_told_once() -> None:
    """Work is told when it makes up WORK_NS, when its map or worker ends, and before a gap; never per item."""
    activity_batcher, worker_state, map_state = ActivityBatcher(), WorkerState(1, 0), MapState(1, chunker=Chunker())
    chunk = Chunk(map_state, Function(1, abs, b"", "one", "abs"), 0, list(range(100)))
    events: list[PoolEvent] = []
    for number in range(40):
        activity_batcher.note(worker_state, chunk, number, 1, 0, 1000, 10, None, (number + 1) * WORK_NS // 20)
        activity_batcher.tell(events)
    assert [each.attempts for each in events if isinstance(each, WorkReported)] == [20, 20]
    activity_batcher.note(worker_state, chunk, 40, 1, 1, 1000, 10, None, 40 * WORK_NS // 20 + 1)
    activity_batcher.tell(events)
    assert len(events) == 2
    activity_batcher.settle(map_state)
    activity_batcher.tell(events)
    assert isinstance(events[2], WorkReported)
    assert events[2].failed == 1
    assert events[2].records[0].first == 40


# --- what is read back ---


@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz"])
def test_a_file_that_was_cut_off_anywhere_can_be_read(tmp_path: Path, name: str) -> None:
    """Whole rows count, a torn one does not, and nothing else is lost."""
    path, now = tmp_path / name, monotonic_ns()
    events: list[Any] = [
        MapStarted(1, 10),
        *(report(1, now + n * 10 * MS, now + (n + 1) * 10 * MS, first=n) for n in range(10)),
    ]
    complete = recorded(*events, path=path)
    assert complete.complete
    content = path.read_bytes()
    cuts = range(len(content) // 2, len(content), 7)
    for cut in cuts:
        path.write_bytes(content[:cut])
        try:
            cut_off = Recording.load(path)
        except UsageError:
            # Gzipped, so short a file has nothing that can be unpacked yet.
            assert name.endswith(".gz")
            continue
        # Behind the last row there is gzip's own end.
        assert not cut_off.complete or cut > len(content) - 12
        assert cut_off.header == complete.header
        spans = [span for lane in cut_off.lanes.values() for span in lane.spans]
        ends = [(span.items, pytest.approx(span.end)) for span in complete.lanes[1].spans]
        found: list[Any] = [(span.items, span.end) for span in spans]
        assert found == ends[: len(spans)]
        assert cut_off.counts["attempts"] >= sum(span.items for span in spans)


def test_gzip_can_unpack_it(tmp_path: Path) -> None:
    """It is an ordinary gzip file of lines of JSON."""
    path = tmp_path / "run.jsonl.gz"
    recorded(MapStarted(1, 10), path=path)
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert json.loads(lines[0])["format"] == "allcores.timeline"
    assert json.loads(lines[-1])[0] == "end"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is no timeline"),
        ("hello\n", "is no timeline"),
        ('{"a": 1}\n', "is no timeline"),
        ('{"format": "allcores.timeline", "version": 2}\n', "version 2"),
        ('{"format": "allcores.timeline", "version": 1}\n["span", 1]\n', "damaged row"),
    ],
)
def test_what_is_no_timeline_is_refused_in_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    """That names the file."""
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match=sentence) as raised:
        Recording.load(path)
    assert str(path) in str(raised.value)


HEAD = '{"format": "allcores.timeline", "version": 1}\n'
WHOLE = HEAD + '["pool", 0, "p", "processes", 2]\n["worker", 5, 1, 1, 77]\n["flow", 6, 1, 10]\n'
DAMAGED = [
    HEAD.replace("}", ', "created": "yesterday"}'),
    HEAD.replace("}", ', "created": 1e300}'),
    HEAD.replace("}", ', "cores": [2]}'),
    HEAD.replace("}", ', "cores": 1e999}'),
    HEAD + '["pool", 0, "p", "processes", 1000000000]\n',
    HEAD + '["pool", 0, "p", "processes", "two"]\n',
    HEAD + '["pool", NaN, "p", "processes", 2]\n',
    WHOLE + '["span", "one", 1, 1, 5, 9, 1, 1, 1, 0, 1]\n',
    WHOLE + '["span", 1, 1, 1, 5, 1e999, 1, 1, 1, 0, 1]\n',
    WHOLE + '["span", -1, 1, 1, 5, 9, 1, 1, 1, 0, 1]\n',
    WHOLE + '["fail", 7, 1, 1, 1, ["failed"], 5]\n',
    WHOLE + '["gone", 7, 1, 1]\n',
    WHOLE + '["memory", 7, "much", 1, 1, 1]\n',
    WHOLE + '["done", 7, [1], 1, 0, false]\n',
    WHOLE + '["totals", 7, {"histogram": [[1000000000, 1]]}]\n',
    WHOLE + '["totals", 7, {"histogram": [["x", 1]]}]\n',
    WHOLE + '["totals", 7, {"histogram": 5}]\n',
    WHOLE + '["totals", 7, {"slowest": [[1]]}]\n',
    WHOLE + '["totals", 7, {"causes": [["failed", "x", "many", 0, 1, 1, 1, ""]]}]\n',
    WHOLE + '["totals", 7, []]\n',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_damage_is_told_in_a_sentence(tmp_path: Path, content: str) -> None:
    """At the shell as well, with exit code 2; it takes no memory and no time."""
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match="damaged"):
        Recording.load(path)
    assert main(["trace", str(path), "-o", str(tmp_path / "out.json")]) == Exit.USAGE


def test_flipped_bits_are_read_or_told_of(tmp_path: Path) -> None:
    """Whatever the place: a report of what is left, or a sentence."""
    path = tmp_path / "x.jsonl"
    recorded(MapStarted(1, 10), report(1, 5 * MS, 20 * MS), MapEnded(1, 10, 0, False), path=path)
    raw = path.read_bytes()
    told = 0
    for place in range(0, len(raw), 3):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = Recording.load(path)
            breakdown(found)
            list(trace_events(found))
        except UsageError:
            told += 1
    assert told


@pytest.mark.parametrize("line", [b"\n", b'["end", 1]\n', b" ", b'["end", 1]' + b" " * 50_000 + b"\n"])
def test_a_small_file_that_unpacks_to_much_is_not_read(
    tmp_path: Path, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that has a line without an end: neither memory nor time goes into it."""
    monkeypatch.setattr(file, "MOST_BYTES", 4_000_000)
    monkeypatch.setattr(file, "MOST_LINE_BYTES", 1_000_000)
    monkeypatch.setattr(file, "MOST_LINES", 10_000)
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(HEAD.encode() + line * (8_000_000 // len(line))))
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=r"more than .* (MB|bytes|lines)"):
            Recording.load(path)
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def test_a_report_never_replaces_its_timeline(tmp_path: Path) -> None:
    """Whatever it is called."""
    path = tmp_path / "x.jsonl"
    path.write_text(WHOLE)
    (tmp_path / "link").symlink_to(path)
    for command in ("report", "trace"):
        assert main([command, str(path), "-o", str(tmp_path / "link")]) == Exit.USAGE
    assert path.read_text() == WHOLE


def test_rows_of_later_versions_are_left_out(tmp_path: Path) -> None:
    """A row that is not known, or has more values, does no harm."""
    path = tmp_path / "x.jsonl"
    recorded(MapStarted(1, 10), path=path)
    lines = path.read_text().splitlines()
    lines.insert(2, '["weather", 5, "sunny"]')
    lines = [line.replace('["flow",', '["flow",').replace(",1,10]", ',1,10,"more"]') for line in lines]
    path.write_text("\n".join(lines) + "\n")
    assert Recording.load(path).maps[1].total == 10


def test_a_folder_stands_for_the_timeline_in_it(tmp_path: Path) -> None:
    """And one without says so."""
    recorded(MapStarted(1, 10), path=tmp_path / "timeline.jsonl")
    assert Recording.load(tmp_path).maps[1].total == 10
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="was not recorded"):
        Recording.load(tmp_path / "empty")


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    """Not in the middle of the run."""
    with pytest.raises(UsageError, match=r"run\.jsonl.*cannot be written"):
        Timeline(tmp_path / "missing" / "run.jsonl")


def test_one_timeline_watches_one_pool() -> None:
    """The second pool is refused: the workers' numbers would mean two things."""
    timeline = Timeline(memory=False)
    timeline(PoolOpened("one", "serial", 1))
    with pytest.raises(UsageError, match="'one'"):
        timeline(PoolOpened("two", "serial", 1))
    timeline.close()


# --- where the time went ---


def file_of(tmp_path: Path, *extra: list[object]) -> Recording:
    path = tmp_path / "made.jsonl"
    header = {"format": "allcores.timeline", "version": 1, "cores": 2}
    path.write_text("".join(json.dumps(row) + "\n" for row in [header, ["pool", 0, "p", "processes", 2], *extra]))
    return Recording.load(path)


SECOND = 1_000_000


def span(lane: int, begin: float, end: float, busy: float, items: int = 10) -> list[object]:
    return ["span", lane, lane, 1, int(begin * SECOND), int(end * SECOND), int(busy * SECOND), 0, items, 0, 100]


def test_time_is_accounted_for_exactly_once(tmp_path: Path) -> None:
    """Start-up, function, transport, waiting for input, the end: each second of each worker is in one of them."""
    recording = file_of(
        tmp_path,
        ["worker", SECOND, 1, 1, 11],
        ["worker", SECOND, 2, 2, 12],
        ["flow", 0, 1, None],
        span(1, 1, 4, 2.5),
        span(2, 1, 4, 2.5),
        # The input was asked for all of this second and gave nothing.
        ["read", 1, 4 * SECOND, 5 * SECOND, 10, SECOND, 0, 0],
        ["input", 5 * SECOND, 1],
        span(1, 5, 10, 5),
        span(2, 5, 6, 1),
        ["done", 10 * SECOND, 1, 40, 0, False],
        ["totals", 10 * SECOND, {"attempts": 40, "failed": 0}],
        ["end", 12 * SECOND],
    )
    summed = breakdown(recording)
    assert summed.seconds == 10
    assert {use.key: pytest.approx(use.seconds, abs=0.05) for use in summed.uses} == {
        "function": 11,
        "transport": 1,
        "start": 2,
        "input": 2,
        "tail": 4,
    }
    assert summed.available == pytest.approx(20, abs=0.05)
    assert summed.efficiency == pytest.approx(0.55)
    assert "at the end" in summed.limit
    assert sum(summed.rates) * summed.width == pytest.approx(40)


def test_a_span_of_several_maps_says_so(tmp_path: Path) -> None:
    assert "10 items, several maps, worker 1:" in as_html(
        file_of(tmp_path, ["span", 1, 1, 0, 0, SECOND, SECOND, 0, 10, 0, 100])
    )


def test_more_workers_than_cores_are_measured_by_what_they_could_do(tmp_path: Path) -> None:
    """Ten naps at a time on one core are not an efficiency of 1000 %."""
    recording = file_of(
        tmp_path, ["flow", 0, 1, None], span(1, 0, 4, 4), span(2, 0, 4, 2), ["done", 4 * SECOND, 1, 20, 0, False]
    )
    recording.header["cores"] = 1
    summed = breakdown(recording)
    assert summed.efficiency == pytest.approx(0.75)
    assert summed.whose == "workers'"


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (["read", 1, 0, 10 * SECOND, 10, 9 * SECOND, 0, 0], "waiting for the input"),
        (["read", 1, 0, 10 * SECOND, 10, 0, 9 * SECOND, 0], "waiting for the parent"),
        (["read", 1, 0, 10 * SECOND, 10, 0, 0, 9 * SECOND], "held back"),
    ],
)
def test_idle_workers_have_a_reason(tmp_path: Path, read: list[object], words: str) -> None:
    """It is what the reading thread did meanwhile."""
    recording = file_of(
        tmp_path,
        ["worker", 0, 1, 1, 11],
        ["worker", 0, 2, 2, 12],
        ["flow", 0, 1, None],
        read,
        span(1, 0, 10, 10),
        ["input", 10 * SECOND, 1],
        ["done", 10 * SECOND, 1, 10, 0, False],
        ["end", 10 * SECOND],
    )
    assert words in breakdown(recording).limit


@pytest.mark.parametrize("short", [True, False])
def test_a_processor_that_no_sample_could_see_is_not_missed(tmp_path: Path, short: bool) -> None:
    """Workers that live for half a second, and a sample each half second: half of what they use is in none."""
    lives = [(n * SECOND // 2, (n + 1) * SECOND // 2, n + 1) for n in range(20)] if short else [(0, 10 * SECOND, 1)]
    recording = file_of(
        tmp_path,
        ["flow", 0, 1, None],
        *(["worker", begin, 1, worker, 10 + worker] for begin, _, worker in lives),
        *(["memory", n * SECOND // 2 + SECOND // 4, 1, 1, 1, n * SECOND // 4] for n in range(20)),
        *(["span", 1, worker, 1, begin, end, end - begin, 0, 1, 0, 1] for begin, end, worker in lives),
        *(["gone", end, 1, worker, "it was recycled"] for _, end, worker in lives),
        ["done", 10 * SECOND, 1, 20, 0, False],
        ["end", 10 * SECOND],
    )
    recording.header["cores"] = recording.workers = 1
    summed = breakdown(recording)
    assert ("had a processor for" in summed.limit) != short, summed.limit
    assert ("at least 4.75 s" in as_html(recording)) == short


def test_a_report_seen_late_takes_no_time_from_the_next(tmp_path: Path) -> None:
    """The parent saw the first report late: the second item's seconds are its own, and none counts twice."""
    now = monotonic_ns()
    recording = recorded(
        MapStarted(1, 2),
        WorkerStarted(1, None),
        InputRead(1, 2, now, now, 0, 0, 0, True),
        # 100 ms of work each, back to back; the first one's report was seen 80 ms late.
        WorkReported(1, 1, 1, 0, now, now + 180 * MS, 100 * MS, 0, [WorkRecord(0, 1, 100 * MS, None, "ab", 0)]),
        WorkReported(
            1, 1, 1, 0, now + 180 * MS, now + 200 * MS, 100 * MS, 0, [WorkRecord(1, 1, 100 * MS, None, "ab", 0)]
        ),
        MapEnded(1, 2, 0, False),
    )
    spans = recording.lanes[1].spans
    assert [span.occupied for span in spans] == pytest.approx([0.1, 0.1], abs=1e-5)
    assert spans[0].end == spans[1].begin


def test_calls_at_a_time_on_one_lane_take_no_more_than_passed() -> None:
    """Sixteen naps at a time of an actor: its process was in its function for as long as they took."""
    now = monotonic_ns() + 1000 * MS
    naps = [
        WorkReported(
            3, 1, 1, 0, now + (n > 0) * (500 + n - 1) * MS, now + (500 + n) * MS, 500 * MS, 0,
            [WorkRecord(n, 1, 500 * MS, None, range(16), n)],
        )
        for n in range(16)
    ]  # fmt: skip
    recording = recorded(WorkerStarted(3, None, "Model"), *naps)
    spans = recording.lanes[3].spans
    assert spans[0].begin >= 0
    assert all(one.end <= other.begin + 1e-9 for one, other in pairwise(spans))
    assert sum(span.busy for span in spans) == pytest.approx(0.515, abs=1e-4)
    summed = breakdown(recording)
    assert summed.busy <= summed.seconds
    assert summed.efficiency <= 1.0
    assert all(event["ts"] >= 0 and event["dur"] <= 0.6e6 for event in trace_events(recording) if event["ph"] == "X")


def test_a_report_has_only_what_is_in_it() -> None:
    """Texts of items and errors are shown, never taken for HTML."""
    outcome: Outcome[Any] = Outcome(
        3, Kind.FAILED, error=ValueError("<script>alert(1)</script>\x00"), item="<b>", worker=1
    )
    html = as_html(recorded(MapStarted(1, 10), WorkerStarted(1, None), TaskFailed(1, outcome)))
    assert "<script" not in html
    assert "\x00" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>" not in html


def test_a_report_of_nothing_says_so() -> None:
    """A pool that was opened and closed; an item of less than a microsecond is not nothing."""
    assert "Nothing was run." in as_html(recorded())
    now = monotonic_ns()
    assert "Nothing was run." not in as_html(recorded(MapStarted(1, 1), report(1, now, now + 300)))


def test_what_is_assumed_of_workers_is_so() -> None:
    """Times of single items are estimated from what a worker seals at once, and times together."""
    assert ROUTINE_NS == chunk_runner.SEAL_NS + chunk_runner.BURST_NS
    assert GROUP == chunk_runner.GROUP
