"""Pool.worker_status(), the live view, and what they cost nobody: with real workers."""

from __future__ import annotations

import io
import os
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pyte
import pytest
from rich.console import Console
from tests.process.waiting import Bell, Gate, ring, wait_at, wait_until

import allcores
from allcores import LiveView, Pool, WorkerStatus
from allcores.events import MapEnded, PoolEvent, Progress

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def wait(item: tuple[str, str, int]) -> int:
    bell, gate, number = item
    ring(bell, number)
    wait_at(gate)
    return number


def fail(number: int) -> int:
    if number % 3 == 0:
        raise ValueError(number)
    return number


def running(pool: Pool) -> list[WorkerStatus]:
    return [status for status in pool.worker_status() if status.state == "running"]


@pytest.mark.parametrize("backend", ["processes", "threads"])
def test_a_status_says_what_runs_where(tmp_path: Path, backend: str) -> None:
    """While two items wait at a gate, their status names them, their function and their processes."""
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, Pool(2, backend=backend) as pool:
        items = [(bell.path, gate.path, number) for number in range(2)]
        stream = pool.imap(wait, items, chunk=1)
        reader = threading.Thread(target=lambda: list(stream))
        reader.start()
        pids = sorted(bell.pids(2))
        found = running(pool)
        assert sorted(status.index for status in found if status.index is not None) == [0, 1]
        assert {status.function for status in found} == {"wait"}
        assert {status.attempt for status in found} == {1}
        assert sorted(status.item[2] for status in found) == [0, 1]
        assert all(status.seconds < 3600 and status.text.startswith(f"items[{status.index}] (") for status in found)
        if backend == "processes":
            assert sorted(status.pid or 0 for status in found) == pids
        else:
            assert {status.pid for status in found} == {None}
        gate.open()
        reader.join()
        wait_until(lambda: running(pool) == [])
    assert pool.worker_status() == []


def test_a_call_has_no_index(tmp_path: Path) -> None:
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, Pool(1) as pool:
        future = pool.submit(wait, (bell.path, gate.path, 1))
        bell.hear()
        (status,) = running(pool)
        assert (status.index, status.text) == (None, "wait(...)")
        gate.open()
        assert future.result() == 1


def test_the_serial_backend_has_a_status_too() -> None:
    with Pool(backend="serial") as pool:
        seen: list[WorkerStatus] = []
        pool.map(lambda number: seen.extend(pool.worker_status()), [5])
        assert [(status.state, status.index, status.item) for status in seen] == [("running", 0, 5)]


def test_item_times_are_counted() -> None:
    """Each item is in one bucket."""
    with Pool(2) as pool:
        pool.map(abs, range(1000))
        times = pool.item_times()
    assert sum(count for _, count in times) == 1000
    assert times == sorted(times)


class Screen:
    """A terminal of so many cells, to look at."""

    def __init__(self, rows: int = 24, columns: int = 100) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)
        self._lock = threading.Lock()
        self.written = threading.Event()
        self.console = Console(file=self, force_terminal=True, width=columns, height=rows)  # type: ignore[arg-type]

    def write(self, text: str) -> int:
        with self._lock:
            self._stream.feed(text.replace("\n", "\r\n"))
        self.written.set()
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        with self._lock:
            return [line.rstrip() for line in self._screen.display if line.strip()]

    def wait_for(self, there: Callable[[list[str]], bool]) -> list[str]:
        """The lines, once they are as wanted."""
        for _ in range(200):
            self.written.clear()
            lines = self.lines()
            if there(lines):
                return lines
            self.written.wait(0.5)
        raise AssertionError("\n".join(self.lines()))


def test_the_live_view_shows_a_run_and_leaves_its_sum(tmp_path: Path) -> None:
    """Workers while it runs; afterwards the counts and the failures by cause, and no worker."""
    screen = Screen()
    view = LiveView("pages", console=screen.console)
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, Pool(2, observers=[view]) as pool:
        items = [(bell.path, gate.path, number) for number in range(2)]
        reader = threading.Thread(target=lambda: pool.map(wait, items, chunk=1))
        reader.start()
        bell.hear(2)
        lines = screen.wait_for(lambda lines: sum("items[" in line for line in lines) == 2)
        assert lines[0].startswith("pages ─")
        assert "0 of 2 · 0 %" in lines[0]
        screen.wait_for(lambda lines: any("cores" in line and "memory" in line for line in lines))
        gate.open()
        reader.join()
        # Which thread tells the view of the end, this one or the pool's, is not said.
        lines = screen.wait_for(lambda lines: lines[-1].startswith("pages ━━━"))
        assert "2 of 2 · 100 %" in lines[-1]
        assert not any("worker" in line for line in lines)
        list(pool.outcomes(fail, range(9)))
        screen.wait_for(lambda lines: lines[-1].strip() == "3 failed: 3 ValueError")
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("allcores")])


def test_many_workers_stay_within_the_screen(tmp_path: Path) -> None:
    screen = Screen(rows=12, columns=70)
    view = LiveView(console=screen.console, workers=50)
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        with Pool(24, backend="threads", observers=[view]) as pool:
            items = [(bell.path, gate.path, number) for number in range(24)]
            reader = threading.Thread(target=lambda: pool.map(wait, items, chunk=1))
            reader.start()
            bell.hear(24)
            lines = screen.wait_for(lambda lines: any("more workers" in line for line in lines))
            assert len(lines) < 12
            gate.open()
            reader.join()


@pytest.mark.quick
def test_where_nobody_looks_it_writes_plain_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Now and then, without control characters."""
    view = LiveView("pages", console=Console(file=io.StringIO()), plain_s=0.01)
    assert not view.visible
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, Pool(1, observers=[view]) as pool:
        reader = threading.Thread(target=lambda: pool.map(wait, [(bell.path, gate.path, 1)]))
        reader.start()
        bell.hear()
        text = ""
        while "\n" not in text:
            text += capfd.readouterr().err
        gate.open()
        reader.join()
    assert text.startswith("allcores: pages 0 of 1 · 0 %")
    assert "\x1b" not in text


def test_a_map_that_is_given_up_ends_the_view() -> None:
    """So does the pool's end; no thread is left (the leak check looks)."""
    screen = Screen()
    pool = Pool(1, observers=[LiveView(console=screen.console)])
    stream = pool.imap(abs, range(10**6))
    next(stream)
    pool.close()
    stream.close()
    screen.wait_for(lambda lines: any("stopped" in line for line in lines))


def test_an_observer_that_wants_it_is_given_the_pool() -> None:
    class Asks:
        def __init__(self) -> None:
            self.seen: list[int] = []
            self.pool: Pool | None = None

        def attach(self, pool: Pool) -> None:
            self.pool = pool

        def __call__(self, event: PoolEvent) -> None:
            if isinstance(event, (Progress, MapEnded)) and self.pool is not None:
                self.seen.append(self.pool.statistics().items_done)

    asks = Asks()
    with Pool(1, observers=iter([asks])) as pool:
        assert pool.map(abs, [1, 2]) == [1, 2]
        assert asks.pool is pool
    assert asks.seen[-1] == 2


def test_status_is_there_in_a_forked_copy_too(tmp_path: Path) -> None:
    """A copy of the program has no workers, and is not stuck over it."""
    with Pool(1) as pool:
        pool.map(abs, [1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads, since Python 3.12
            pid = os.fork()
        if pid == 0:
            os._exit(len(pool.worker_status()))
        assert os.waitpid(pid, 0)[1] == 0
    assert allcores.Pool is Pool
