"""A thread that cannot be had ("can't start new thread") leaves nothing open, and hides nothing."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allcores.adapters.cluster import node
from allcores.adapters.cluster.messages import Opening, Request
from allcores.cli import interrupt
from allcores.events import PoolOpened
from allcores.jobs.commit_socket import CommitServer
from allcores.pipelines.stage_view import StageView
from allcores.sinks.json_stream import JsonLinesSink
from allcores.timeline.recorder import Timeline
from allcores.worker import inherited


@pytest.fixture(autouse=True)
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def open_files(action: Callable[[], object]) -> int:
    """How many more descriptors there are after it has failed."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RuntimeError, match="start new thread"):
        action()
    return len(os.listdir("/proc/self/fd")) - before


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
@pytest.mark.parametrize("made", [JsonLinesSink.open, CommitServer])
def test_nothing_stays_open(tmp_path: Path, made: Any) -> None:
    arguments: tuple[Any, ...] = (str(tmp_path / "out"),)
    if made is CommitServer:
        arguments = (str(tmp_path), None, lambda: None)
    assert open_files(lambda: made(*arguments)) == 0


def test_what_only_shows_how_far_it_is_ends_no_work() -> None:
    with StageView(lambda: ()):
        pass


def test_a_timeline_is_closed_as_ever() -> None:
    timeline = Timeline()
    with pytest.raises(RuntimeError, match="start new thread"):
        timeline(PoolOpened("pool", "threads", 1))
    timeline.close()


def test_a_signal_that_cannot_have_the_run_finished_ends_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with interrupt.Interrupts() as interrupts:
            interrupts.stop_with(lambda: None)
            with pytest.raises(interrupt.StopNow):
                os.kill(os.getpid(), signal.SIGTERM)
            assert interrupts.stopping
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_failure_is_told_though_queues_cannot_be_waited_for() -> None:
    inherited.end_soon()


def test_a_node_that_nobody_would_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle:
        closed = False

        def __init__(self, key: str, opening: Opening) -> None:
            made.append(self)

        def close(self) -> None:
            self.closed = True

    made: list[Idle] = []
    monkeypatch.setattr(node, "Node", Idle)
    opening = Request("refused", 1, Opening(b"", 1, "", ""), [], [], [], [], [], [], False, False)
    with pytest.raises(RuntimeError, match="start new thread"):
        node.exchange(pickle.dumps(opening))
    assert "refused" not in node._nodes
    assert [each.closed for each in made] == [True]
