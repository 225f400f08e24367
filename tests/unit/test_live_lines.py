"""monitoring/live_lines.py and pool/worker_status.py: what a live view shows, as lines of text."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.monitoring.live_lines import Line, MapView, PoolView, panel, plain, worker_lines
from allcores.pool.worker_status import TEXT_CHARACTERS, WorkerStatus, item_text
from allcores.progress.estimate import Estimate


def text(line: Line) -> str:
    return "".join(piece for piece, _ in line)


def status_of(worker: int, seconds: float, state: str = "running", **more: Any) -> WorkerStatus:
    more = {"function": "work", "index": worker * 10, "item": "x.png"} | more if state == "running" else more
    return WorkerStatus(worker, 100 + worker, state, seconds, **more)


VIEW = PoolView(
    [MapView("pages", 30, 3, 120, 12.0, 2.5, Estimate(36, 20, 60))],
    [status_of(1, 1.5), status_of(2, 0.1, "idle")],
    {"ValueError": 2, "timed out": 1},
    retries=4,
    cores=1.9,
    budget=2,
    resident=300 << 20,
    largest=95 << 20,
    memory=8 << 30,
    memory_per_worker=100 << 20,
)


def test_everything_that_was_asked_for_is_there() -> None:
    lines = [text(line) for line in panel(VIEW, 120, 8)]
    assert "30 of 120 · 25 % · 2.5 items/s · 12 s · about 36 s (20–60) left" in lines[0]
    assert lines[1].strip() == "3 failed: 2 ValueError, 1 timed out · 4 retries"
    assert lines[2].strip() == "cores 1.9 of 2 · memory 300 MB of 8 GB · largest worker 95 MB of 100 MB"
    assert lines[3].split() == ["worker", "1", "0", "done", "1.5", "s", "items[10]", "'x.png'"]
    assert lines[4].split() == ["worker", "2", "0", "done", "idle"]


def test_an_actor_that_waits_is_named() -> None:
    """While a call of it runs, that says whose it is."""
    (line,) = worker_lines([status_of(3, 0.0, "idle", actor="Index")], 120, 8)
    assert text(line).split() == ["worker", "3", "0", "done", "idle:", "Index"]


def test_a_worker_near_its_limit_stands_out() -> None:
    (style,) = [style for piece, style in panel(VIEW, 120, 0)[2] if piece.startswith("largest")]
    assert style == "yellow"


def test_of_many_workers_the_longest_running_are_shown() -> None:
    """And how many do what, of the others."""
    workers = [status_of(number, number / 10) for number in range(1, 121)] + [
        status_of(n, 0.0, "idle") for n in range(121, 129)
    ]
    lines = [text(line) for line in worker_lines(workers, 100, 8)]
    assert len(lines) == 8
    assert [int(line.split()[1]) for line in lines[:7]] == [120, 119, 118, 117, 116, 115, 114]
    assert lines[7].strip() == "… 121 more workers: 113 running, 8 idle"


@given(st.integers(40, 200), st.text(max_size=300), st.integers(0, 10**6))
def test_no_line_is_wider_than_the_screen(width: int, item: str, index: int) -> None:
    for line in worker_lines([status_of(1, 2.0, item=item, index=index), status_of(2, 99.0, "setup")], width, 8):
        assert len(text(line)) <= width
        assert "\n" not in text(line)


def test_the_plain_line_is_one_line() -> None:
    """Progress, failures, and what takes long, for a log."""
    view = PoolView(VIEW.maps, [status_of(1, 15.0), status_of(2, 3.0)], VIEW.causes)
    line = plain(view)
    assert line == (
        "pages 30 of 120 · 25 % · 2.5 items/s · 12 s · about 36 s (20–60) left · "
        "3 failed: 2 ValueError, 1 timed out · longest: items[10] 'x.png' for 15 s"
    )


class Slow:
    def __repr__(self) -> str:
        raise AssertionError("nobody asked for this")


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (7, "7"),
        ("a", "'a'"),
        (PurePosixPath("a/b"), "a/b"),
        (PurePosixPath("a\x1b[2J"), "'a\\x1b[2J'"),
        ((1, "b"), "(1, 'b')"),
        (Slow(), "<Slow>"),
        ([Slow()] * 9, "[<Slow>, <Slow>, <Slow>, ...]"),
        pytest.param(10**5000, "<int of 16610 bits>", id="huge"),
    ],
)
def test_items_are_shown_without_being_asked(item: Any, shown: str) -> None:
    """A look at an item never runs its code: a large table's repr takes longer than the table's work."""
    assert item_text(item) == shown


@given(st.recursive(st.text() | st.binary() | st.floats() | st.integers(), st.lists))
def test_items_are_short(item: Any) -> None:
    assert len(item_text(item)) <= TEXT_CHARACTERS
