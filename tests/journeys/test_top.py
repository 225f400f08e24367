"""`allcores top`, as a shell in another terminal sees it."""

from __future__ import annotations

import functools
import json
import os
import pty
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pyte
import pytest
from tests.process.scripts import Ended
from tests.process.waiting import PATIENCE_S, Bell, Gate, ring, wait_at, wait_until
from tests.process.warm import Interpreter

from allcores import Pool
from allcores.cli import top as top_command
from allcores.cli.exits import Exit
from allcores.errors import NotSupported
from allcores.monitoring import other_pools
from allcores.monitoring.top_view import as_text, overview
from allcores.transport import status_board

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys, allcores
from tests.process.waiting import ring, wait_at

def wait(number):
    ring(sys.argv[1], number)
    wait_at(sys.argv[2])
    if number == 0:
        raise ValueError
    return number

with allcores.Pool(2, name="crawl", limits=allcores.Limits(memory_per_worker=10**9)) as pool:
    pool.map(abs, range(100))
    ring(sys.argv[1], "ready")
    for outcome in pool.outcomes(wait, range(2), chunk=1):
        pass
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Program:
    """A pool of two workers, in a process of its own, that waits at a gate with both."""

    def __init__(self, process: subprocess.Popen[bytes], gate: Gate) -> None:
        self.process = process
        self.pid = process.pid
        self.gate = gate

    def end(self) -> None:
        self.gate.open()
        assert self.process.wait(120) == 0


@pytest.fixture
def ending_program(tmp_path: Path) -> Iterator[Program]:
    """For a test that ends it."""
    with running(tmp_path) as program:
        yield program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """For tests that only look."""
    with running(tmp_path_factory.mktemp("program")) as program:
        yield program


@contextmanager
def running(folder: Path) -> Iterator[Program]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    with Bell(folder / "bell") as bell, Gate(folder / "gate") as gate:
        command = [sys.executable, str(script), bell.path, gate.path]
        process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT)
        try:
            bell.hear(3)
            yield Program(process, gate)
        finally:
            gate.open()
            process.kill()
            process.wait()


Top = Callable[..., Ended]


@pytest.fixture
def top(warm: Interpreter, tmp_path: Path) -> Top:
    """`python -m allcores top` with words."""
    return functools.partial(warm.run, "top", folder=tmp_path)


@pytest.mark.quick
def test_a_snapshot_for_machines(top: Top, program: Program) -> None:
    """Whose pool it is, how far it is, and what each worker runs, without a word from the pool."""
    done = top("--json", str(program.pid))
    assert done.code == Exit.OK, done.err
    (pool,) = json.loads(done.out)["pools"]
    assert (pool["pid"], pool["name"], pool["size"]) == (program.pid, "crawl", 2)
    assert (pool["done"], pool["failed"], pool["memory_per_worker"]) == (100, 0, 10**9)
    assert "script.py" in pool["command"]
    workers = pool["workers"]
    assert sorted(worker["index"] for worker in workers) == [0, 1]
    assert {worker["state"] for worker in workers} == {"running"}
    assert sum(worker["done"] for worker in workers) == 100
    assert all(worker["resident"] > 1 << 20 and worker["cores"] >= 0 for worker in workers)
    assert all(0 < worker["seconds"] < 3600 for worker in workers)


def test_a_snapshot_for_people(top: Top, program: Program) -> None:
    done = top("--once", str(program.pid))
    assert done.code == Exit.OK, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith(f"crawl · process {program.pid} · ")
    assert "100 items done" in lines[1]
    assert "2 of 2 workers busy" in lines[2]
    assert lines[3].split() == ["worker", "pid", "items", "done", "cores", "memory", "for", "state"]
    assert sorted(line[-16:] for line in lines[4:]) == ["running items[0]", "running items[1]"]


def test_all_pools_of_the_user_are_found(top: Top, program: Program) -> None:
    pools = json.loads(top("--json").out)["pools"]
    assert [pool["name"] for pool in pools if pool["pid"] == program.pid] == ["crawl"]


def test_it_ends_with_the_pool(ending_program: Program) -> None:
    """In a terminal it draws until the pool is gone, then says so and ends with 0."""
    descriptor, theirs = pty.openpty()
    command = [sys.executable, "-m", "allcores", "top", str(ending_program.pid), "--interval", "0.2"]
    environment = ENVIRONMENT | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    shown = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen = pyte.Screen(100, 30)
    stream = pyte.ByteStream(screen)
    until, opened = monotonic() + PATIENCE_S, False
    try:
        while monotonic() < until and select.select([descriptor], [], [], until - monotonic())[0]:
            try:
                stream.feed(os.read(descriptor, 65_536))
            except OSError:  # the other end is closed
                break
            if not opened and sum("items[" in line for line in screen.display) == 2:
                opened = True
                ending_program.end()
    finally:
        os.close(descriptor)
        if not opened:
            shown.kill()
        status = shown.wait(120)
    assert opened
    assert status == Exit.OK
    assert any(f"pool 'crawl' of process {ending_program.pid} has ended" in line for line in screen.display)


@pytest.mark.parametrize(
    "environment", [{"TERM": "dumb"}, {"TERM": "unknown"}, {"TERM": "xterm", "TTY_COMPATIBLE": "0"}]
)
def test_a_terminal_that_cannot_go_back_gets_a_snapshot(program: Program, environment: dict[str, str]) -> None:
    """In the shell of Emacs, say, nothing can be drawn again and again: it shows once, and ends."""
    descriptor, theirs = pty.openpty()
    command = [sys.executable, "-m", "allcores", "top", str(program.pid)]
    shown = subprocess.Popen(command, env=ENVIRONMENT | environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        assert shown.wait(PATIENCE_S) == Exit.OK
        text = os.read(descriptor, 65_536).decode()
    finally:
        os.close(descriptor)
        if shown.poll() is None:
            shown.kill()
            shown.wait()
    assert text.startswith(f"crawl · process {program.pid} · ")
    assert "\x1b" not in text


def test_a_pool_that_is_gone_is_not_shown(ending_program: Program) -> None:
    (place,), _ = other_pools.find(ending_program.pid)
    assert other_pools.read(place) is not None
    ending_program.end()
    assert other_pools.read(place) is None


@pytest.mark.parametrize(
    ("pid", "sentence"),
    [(os.getpid(), "has no pool of worker processes"), (2**22 + 7, "there is no process")],
    ids=["no pool", "no process"],
)
def test_where_there_is_nothing_it_says_so(top: Top, pid: int, sentence: str) -> None:
    done = top(str(pid))
    assert done.code == Exit.NO_POOL
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1
    assert json.loads(top("--json", str(pid)).out) == {"pools": []}


def test_another_system_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_pools, "LINUX", False)
    with pytest.raises(NotSupported, match="Linux only"):
        other_pools.find()


def test_a_board_of_another_version_is_not_read(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    now = status_board.VERSION
    monkeypatch.setattr("allcores.transport.status_board.VERSION", 99)
    (place,), _ = other_pools.find(program.pid)
    with pytest.raises(NotSupported, match=f"version {now}, this allcores reads version 99"):
        other_pools.read(place)


@pytest.mark.parametrize("error", [NotSupported("of version 99"), struct.error("too short"), OverflowError("too long")])
def test_a_board_that_cannot_be_read_hides_no_other(
    error: Exception, program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, once; the others are shown."""
    places, hidden = other_pools.find(program.pid)
    strange = other_pools.Place(1, 3, (0, 0))
    read = other_pools.read

    def read_or_fail(place: other_pools.Place) -> other_pools.PoolSeen | None:
        if place == strange:
            raise error
        return read(place)

    monkeypatch.setattr(other_pools, "find", lambda pid: ([strange, *places], hidden))
    monkeypatch.setattr(other_pools, "read", read_or_fail)
    view = top_command.Top(None)
    assert [row.pid for row in view.look()] == [program.pid]
    assert [row.pid for row in view.look()] == [program.pid]
    assert capsys.readouterr().err.count(str(error)) == 1


def test_looking_leaves_no_memory_behind(program: Program) -> None:
    """A look gives memory to no page of the board that nobody wrote, and keeps nothing open."""
    (place,), _ = other_pools.find(program.pid)
    before = blocks(place)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        assert other_pools.read(place) is not None
    assert blocks(place) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_batch_is_named_by_all_its_items(tmp_path: Path) -> None:
    """By `allcores top` and by the pool's own status, as Python's slices are written."""
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, Pool(1) as pool:
        stream = pool.imap(functools.partial(wait_together, bell.path, gate.path), range(8), batch=4, chunk=8)
        reader = threading.Thread(target=lambda: list(stream))
        reader.start()
        bell.hear()
        (place,), _ = other_pools.find(os.getpid())
        seen = other_pools.read(place)
        assert seen is not None
        (worker,) = seen.workers
        assert (worker.index, worker.count) == (0, 4)
        top = top_command.Top(os.getpid())
        assert as_text(overview(top.look(), 120, None)).endswith("running items[0:4]")
        (status,) = pool.worker_status()
        assert (status.index, status.batch, status.text) == (0, 4, "items[0:4]")
        gate.open()
        reader.join()


def wait_together(bell: str, gate: str, numbers: list[int]) -> list[int]:
    ring(bell, 0)
    wait_at(gate)
    return numbers


def blocks(place: Any) -> int:
    return os.stat(f"/proc/{place.pid}/fd/{place.descriptor}").st_blocks


def hang(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_workers_that_are_gone_are_not_shown() -> None:
    """A slot whose worker was ended says no more whose it was; its successor has another."""
    with Pool(1) as pool:
        assert not next(pool.outcomes(hang, [60], timeout=0.2)).ok
        pids = pool.map(hang, [0])
        (place,), _ = other_pools.find(os.getpid())

        def only_the_new_one_is_shown() -> bool:
            seen = other_pools.read(place)
            assert seen is not None
            shown = [(worker.worker, worker.pid) for worker in seen.workers]
            return (shown, seen.done, seen.failed) == ([(2, pids[0])], 2, 1)

        # The old one is on its way out, and counts are written a little after the results.
        wait_until(only_the_new_one_is_shown)
