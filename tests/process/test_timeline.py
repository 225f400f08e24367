"""Timelines of real pools: what a run leaves behind, whatever becomes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.process.indexes import Index
from tests.process.waiting import Bell, Gate, ring, wait_at

import allcores
from allcores.events import InputRead, PoolEvent, WorkReported
from allcores.timeline.breakdown import breakdown
from allcores.timeline.perfetto import trace_events
from allcores.timeline.reader import Recording

ROOT = Path(__file__).resolve().parents[2]


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def picky(number: int) -> int:
    if number % 10 == 3:
        raise ValueError(f"no price for {number}")
    return number


def deadly(number: int) -> int:
    if number == 5:
        os._exit(3)
    return number


def stay(job: tuple[str, str]) -> str:
    ring(job[0])
    wait_at(job[1])
    return job[1]


def drip(count: int) -> Iterator[float]:
    for _ in range(count):
        time.sleep(0.02)
        yield 0.001


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
@pytest.mark.parametrize("verb", ["imap", "imap_unordered", "outcomes"])
@pytest.mark.quick
def test_every_attempt_is_recorded_once(backend: str, verb: str) -> None:
    """On each backend: in spans, in the histogram, in the counts; failures with their cause and first item."""
    timeline = allcores.Timeline()
    with allcores.Pool(2, backend=backend, observers=[timeline]) as pool:
        options = {} if verb == "outcomes" else {"on_error": "skip"}
        assert len(list(getattr(pool, verb)(picky, range(500), **options))) in (450, 500)
    recording = timeline.recording()
    assert recording.complete
    spans = [span for lane in recording.lanes.values() for span in lane.spans]
    assert sum(span.items for span in spans) == 500 == recording.counts["attempts"]
    assert sum(span.failed for span in spans) == 50 == recording.counts["failed"]
    assert sum(recording.histogram.values()) == 500
    (cause,) = recording.causes
    assert (cause.failures, cause.item) == (50, 3) or verb == "imap_unordered"
    assert recording.maps[1].done == 500
    assert {one_map.input_end is not None for one_map in recording.maps.values()} == {True}


def test_seconds_go_where_they_were_spent(tmp_path: Path) -> None:
    """A slow input is waited for; the last item keeps one worker busy and the other idle."""
    timeline = allcores.Timeline()
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "warm") as warm, Gate(tmp_path / "gate") as gate:
        with allcores.Pool(2, observers=[timeline]) as pool:
            # Both workers have imported this module then: on a slow machine that takes longer than what is measured.
            calls = [pool.submit(stay, (bell.path, warm.path)) for _ in range(2)]
            bell.hear(2)
            warm.open()
            assert [call.result() for call in calls] == [warm.path] * 2
            pool.map(nap, drip(20))
            stream = pool.imap_unordered(stay, [(bell.path, gate.path), *[(bell.path, warm.path)] * 2], chunk=1)
            assert [next(stream), next(stream)] == [warm.path] * 2
            bell.hear(3)  # all have begun, also the one that waits
            # This is what is measured: from now on one worker has nothing to do.
            time.sleep(0.5)
            gate.open()
            assert list(stream) == [gate.path]
    recording = timeline.recording()
    summed = breakdown(recording)
    uses = {use.key: use.seconds for use in summed.uses}
    assert summed.busy == pytest.approx(sum(span.busy for lane in recording.lanes.values() for span in lane.spans))
    # Each worker waits for the input of the first map 0.4 s, less what its naps take.
    assert uses["input"] > 0.3
    assert uses["tail"] >= 0.5
    assert sum(uses.values()) == pytest.approx(
        2 * summed.seconds + max(0, recording.cores - 2) * summed.seconds, rel=0.02
    )
    slow = next(each for each in recording.slowest if each.map_number == max(recording.maps))
    assert (slow.first, slow.items) == (0, 1)
    assert slow.seconds >= 0.5 and slow.name.startswith("(")


def test_a_lost_worker_leaves_its_lane_to_the_next() -> None:
    """And the item that killed it, and its retry, are told."""
    timeline = allcores.Timeline()
    with allcores.Pool(1, observers=[timeline]) as pool:
        outcomes = list(pool.outcomes(deadly, range(10), retries=1))
    assert [outcome.ok for outcome in outcomes] == [number != 5 for number in range(10)]
    recording = timeline.recording()
    assert recording.counts["retries"] == 1
    # The second replacement may come too late for the pool's end.
    assert recording.counts["workers_started"] >= 2
    assert len(recording.lanes[1].gone) >= 2
    assert len(recording.lanes) <= 2
    assert recording.causes[0].kind == "worker_lost"
    assert (recording.causes[0].failures, recording.causes[0].retries) == (1, 1)
    assert sum(span.failed for lane in recording.lanes.values() for span in lane.spans) == 2


def test_an_item_that_timed_out_is_on_its_lane() -> None:
    """With the seconds that it took."""
    timeline = allcores.Timeline()
    with allcores.Pool(1, observers=[timeline]) as pool:
        list(pool.outcomes(nap, [0.0, 60.0], timeout=0.5))
    recording = timeline.recording()
    assert recording.causes[0].kind == "timed_out"
    assert sum(span.busy for lane in recording.lanes.values() for span in lane.spans) >= 0.5


def test_what_was_recorded_survives_kill(tmp_path: Path) -> None:
    """kill -9 in the middle of a run: all but the last moments can be read."""
    path = tmp_path / "run.jsonl.gz"
    program = (
        "import sys, time, allcores\n"
        "from tests.process.test_timeline import nap\n"
        f"with allcores.Pool(2, observers=[allcores.Timeline({str(path)!r})]) as pool:\n"
        "    for number, _ in enumerate(pool.imap(nap, (0.01 for _ in range(10**6)))):\n"
        "        if number == 200: print('go', flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, cwd=ROOT)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        process.send_signal(signal.SIGKILL)
    recording = Recording.load(path)
    assert not recording.complete
    assert len(recording.maps) == 1
    assert sum(span.items for lane in recording.lanes.values() for span in lane.spans) > 20
    assert breakdown(recording).busy > 0


def test_news_of_work_can_be_had_by_any_observer() -> None:
    """Attempts and input, in few pieces however many items there are."""
    events: list[PoolEvent] = []
    with allcores.Pool(2, observers=[events.append]) as pool:
        pool.map(abs, range(100_000))
    work = [each for each in events if isinstance(each, WorkReported)]
    read = [each for each in events if isinstance(each, InputRead)]
    assert sum(each.attempts for each in work) == 100_000 == sum(each.items for each in read)
    assert all(each.begin_ns <= each.end_ns for each in work)
    assert [each.ended for each in read][-1]
    assert len(work) + len(read) < 2_000


def test_submitted_calls_are_recorded() -> None:
    """They belong to no map, and are on the lanes all the same."""
    timeline = allcores.Timeline()
    with allcores.Pool(1, observers=[timeline]) as pool:
        assert [pool.submit(nap, 0.01).result() for _ in range(5)] == [0.01] * 5
    assert timeline.recording().counts["attempts"] == 5


def test_the_sampling_thread_ends_with_the_pool() -> None:
    """Also if the timeline is never closed by hand."""
    timeline = allcores.Timeline()
    with allcores.Pool(1, observers=[timeline]) as pool:
        pool.map(abs, range(10))
        assert "allcores-timeline" in {thread.name for thread in threading.enumerate()}
    assert "allcores-timeline" not in {thread.name for thread in threading.enumerate()}


def test_a_full_disk_ends_the_recording_not_the_run() -> None:
    """A warning says so, once."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with pytest.warns(RuntimeWarning, match="timeline '/dev/full' ends here"):
        with allcores.Pool(2, observers=[allcores.Timeline("/dev/full")]) as pool:
            assert pool.map(abs, range(1000)) == list(range(1000))


def test_an_actor_has_a_lane() -> None:
    """Named, and beside those of the pool's workers; the object that is built anew goes on in it."""
    timeline = allcores.Timeline()
    with allcores.Pool(1, observers=[timeline]) as pool, pool.actor(Index) as index:
        assert pool.map(abs, range(5)) == list(range(5))
        assert index.add().result() == 1
        assert isinstance(index.die().exception(), allcores.WorkerLost)
        assert index.add().result() == 1
    lanes = timeline.recording().lanes
    assert {number: lane.actor for number, lane in lanes.items()} == {1: None, 2: "Index"}
    assert sum(span.items for span in lanes[1].spans) == 5
    assert len(lanes[2].seats) == 2 and lanes[2].spans


def test_trace_keeps_the_rules_of_its_format(tmp_path: Path) -> None:
    """Of the Trace Event Format: phases with their fields, µs, lanes that do not overlap themselves."""
    timeline = allcores.Timeline()
    with allcores.Pool(2, observers=[timeline]) as pool:
        list(pool.outcomes(picky, range(200), retries=1))
    path = tmp_path / "trace.json"
    timeline.save_trace(path)
    trace = json.loads(path.read_text())
    assert trace["displayTimeUnit"] in ("ms", "ns")
    assert trace["traceEvents"] == json.loads(json.dumps(list(trace_events(timeline.recording()))))
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    names = set()
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str)
        assert isinstance(event["ts"], int | float)
        assert event["ts"] >= 0
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        match event["ph"]:
            case "X":
                assert event["dur"] >= 0
                if event["cat"] in ("work", "start"):
                    lanes.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["dur"]))
            case "i":
                assert event["s"] in ("t", "p", "g")
            case "C":
                assert all(isinstance(value, int | float) for value in event["args"].values())
            case "M":
                names.add((event["name"], event["pid"], event["tid"]))
            case other:
                pytest.fail(f"phase {other!r}")
    assert lanes
    for place, spans in lanes.items():
        assert ("thread_name", *place) in names
        spans.sort()
        for (begin, length), (then, _) in pairwise(spans):
            # Both ends are rounded to whole µs.
            assert begin + length <= then + 2
    failures = [event for event in trace["traceEvents"] if event["ph"] == "i" and event["name"] == "failed"]
    assert len(failures) == 20
