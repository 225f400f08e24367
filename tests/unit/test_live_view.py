"""What a live view knows of a pool, without a terminal."""

from __future__ import annotations

import io
import mmap
import os
import sys
from typing import Any

import pytest

from allcores.errors import UsageError
from allcores.events import MapEnded, MapStarted, TaskRetried
from allcores.monitoring import LiveView
from allcores.outcome import Kind
from allcores.system import process_stats
from allcores.system.process_stats import Gauge

console = pytest.importorskip("rich.console")

SIZE = 64 << 20


def test_retries_are_those_of_the_maps_that_are_shown() -> None:
    view = LiveView(console=console.Console(file=io.StringIO()), plain_s=1000.0)
    for number in (1, 2):
        view(MapStarted(number, 1))
        shown = view.view()
        assert shown is not None and shown.retries == 0
        view(TaskRetried(number, 0, 1, Kind.FAILED, ValueError(), 0.0))
        shown = view.view()
        assert shown is not None and shown.retries == 1
        view(MapEnded(number, 1, 0, False))


@pytest.mark.parametrize("plain_s", [0, 0.0, -1, float("nan"), "30", True])
def test_a_log_is_not_flooded(plain_s: Any) -> None:
    """Lines without a pause between them would fill the disk; None has none."""
    with pytest.raises(UsageError, match="plain_s"):
        LiveView(plain_s=plain_s)


def test_a_pause_as_long_as_any() -> None:
    """Infinity is as good as None, and no error of a thread."""
    view = LiveView(console=console.Console(file=io.StringIO()), plain_s=float("inf"))
    view(MapStarted(1, 1))
    view(MapEnded(1, 1, 0, False))


@pytest.mark.skipif(sys.platform != "linux", reason="there is /proc")
def test_memory_that_processes_share_is_no_worker_s() -> None:
    """As `Limits(memory_per_worker=...)` counts it, beside which it is shown."""
    gauge = Gauge()
    gauge.look([os.getpid()], 0.0)
    before = gauge.resident[os.getpid()]
    with mmap.mmap(-1, SIZE) as shared:
        shared[:: mmap.PAGESIZE] = b"x" * (SIZE // mmap.PAGESIZE)
        gauge.look([os.getpid()], 1.0)
        assert gauge.resident[os.getpid()] < before + SIZE // 2


@pytest.mark.skipif(sys.platform != "linux", reason="there is /proc")
def test_what_is_read_while_another_thread_looks_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    gauge, seen = Gauge(), list[list[int]]()
    gauge.look([os.getpid()], 0.0)
    stat = process_stats.stat

    def looked(pid: int) -> process_stats.ProcessStat | None:
        seen.append(list(gauge.resident))
        return stat(pid)

    monkeypatch.setattr(process_stats, "stat", looked)
    gauge.look([os.getpid(), os.getppid()], 1.0)
    assert seen == [[os.getpid()]] * 2
