"""Ctrl-C as a thread begins. Python waits in the middle of that: the thread runs, and who starts it is interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.process import pool_tasks as tasks
from tests.process.interrupting import python_handler
from tests.process.waiting import wait_until

from allcores import Pool
from allcores.adapters.multiprocessing import Pool as DropIn
from allcores.jobs.commit_socket import CommitServer
from allcores.pipelines.stage_view import StageView
from allcores.sinks.json_stream import JsonLinesSink


@contextmanager
def pressed_as_it_begins(monkeypatch: pytest.MonkeyPatch, name: str, when: str, *, ends: bool = True) -> Iterator[None]:
    """Ctrl-C once, before or after the first thread of a name has begun; that one ends, if it is to."""
    begin = threading.Thread.start
    pressed: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        if thread.name != name or pressed:
            begin(thread)
            return
        pressed.append(thread)
        if when == "after":
            begin(thread)
        signal.raise_signal(signal.SIGINT)
        if when == "before":
            begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with python_handler(), pytest.raises(KeyboardInterrupt):
        yield
    assert pressed
    wait_until(lambda: not (ends and pressed[0].is_alive()))


@pytest.mark.parametrize("backend", ["processes", "threads"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_thread_of_a_pool(monkeypatch: pytest.MonkeyPatch, backend: str, when: str) -> None:
    """The pool ends as it began."""
    with pressed_as_it_begins(monkeypatch, "allcores-interrupted", when):
        Pool(1, backend=backend, name="interrupted")


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_thread_that_pulls_an_input(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    with DropIn(1) as pool:
        with pressed_as_it_begins(monkeypatch, "allcores-pool-input", when):
            pool.imap(tasks.square, iter(range(3)))
        assert list(pool.imap(tasks.square, iter(range(3)))) == [0, 1, 4]


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_thread_that_calls_back(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """It stays the only one, for callbacks come in turn."""
    told: list[BaseException] = []
    work: Any = "not callable"
    with DropIn(1) as pool:
        with pressed_as_it_begins(monkeypatch, "allcores-pool-callbacks", when, ends=False):
            pool.map_async(work, [1], error_callback=told.append)
        pool.map_async(work, [1], error_callback=told.append).wait()
        assert len(told) == 2
        assert [thread.name for thread in threading.enumerate()].count("allcores-pool-callbacks") == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_thread_of_a_call_of_joblib(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    joblib = pytest.importorskip("joblib")
    from allcores.adapters import joblib as adapter

    before = dict(joblib.parallel.BACKENDS)
    adapter.register()
    try:
        with joblib.parallel_config("allcores", n_jobs=2):
            with pressed_as_it_begins(monkeypatch, "allcores-joblib", when):
                joblib.Parallel()(joblib.delayed(tasks.square)(number) for number in range(3))
            assert joblib.Parallel()(joblib.delayed(tasks.square)(number) for number in range(3)) == [0, 1, 4]
    finally:
        adapter.close()
        joblib.parallel.BACKENDS.clear()
        joblib.parallel.BACKENDS.update(before)


def _show(_: Path) -> None:
    StageView(lambda: ()).__enter__()


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("allcores-stages", _show),
        ("allcores-sink", lambda folder: JsonLinesSink.open(str(folder / "out"))),
        ("allcores-jobs-commits", lambda folder: CommitServer(str(folder), None, lambda: None)),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_another_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, begin: Callable[[Path], object], when: str
) -> None:
    with pressed_as_it_begins(monkeypatch, name, when):
        begin(tmp_path)
