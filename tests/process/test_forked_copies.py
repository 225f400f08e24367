"""What a process that the program forks sees of results: a copy of its own, of that moment."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.process import cargo
from tests.process.waiting import PATIENCE_S, Bell, Gate, wait_gone

from allcores import Pool
from allcores.shared_memory import arena
from allcores.system import procfs

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or not procfs.AVAILABLE, reason="needs fork and /proc")


class Child:
    """A fork of this process that does as it is told, one thing after the other."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_S)
        self.pid = os.fork()
        if not self.pid:
            try:
                ours.close()
                for step in steps:
                    if not theirs.recv(1):
                        break
                    theirs.sendall(repr(step()).encode())
            finally:
                os._exit(0)
        theirs.close()
        self._told = ours

    def next(self) -> str:
        """Do the next step; what it returned, in words."""
        self._told.sendall(b"!")
        return self._told.recv(1000).decode()

    def end(self) -> None:
        self._told.close()
        os.waitpid(self.pid, 0)


@contextmanager
def child(*steps: Callable[[], object]) -> Iterator[Child]:
    made = Child(*steps)
    try:
        yield made
    finally:
        made.end()


def open_files(kind: str = "allcores-board") -> list[str]:
    """The files of pools, or others, that this process has open."""
    found = []
    for path in procfs.descriptors(os.getpid()):
        try:
            if kind in os.readlink(path):
                found.append(path)
        except OSError:
            continue
    return found


def set_all(array: Any, value: float) -> float:
    array[:] = value
    return float(array[0])


@pytest.mark.parametrize("is_open", [True, False])
def test_what_one_writes_the_other_does_not_see(is_open: bool) -> None:
    """Also once the pool is closed."""
    with Pool(1) as pool:
        one, two = pool.map(cargo.make, [1, 2])
        if not is_open:
            pool.close()
        with child(lambda: set_all(one, 5), lambda: (float(one[-1]), float(two[-1]))) as forked:
            assert forked.next() == "5.0"
            assert (one == 1).all()
            set_all(two, 6)
            assert forked.next() == "(5.0, 2.0)"


def test_its_results_stay_as_they_are_when_they_are_gone_here() -> None:
    """Their memory is not used for others for as long as the fork is there, and is free again then."""
    with Pool(1) as pool:
        kept = [*pool.map(cargo.make, [1]), pool.share(np.full(1 << 17, 2.0))]
        with child(lambda: [(float(each.min()), float(each.max())) for each in kept]) as forked:
            kept.clear()
            gc.collect()
            for number in range(3, 10):
                pool.map(cargo.make, [number])
                pool.share(np.full(1 << 17, float(number)))
            assert pool.statistics().shared_bytes == 1 << 20
            assert forked.next() == "[(1.0, 1.0), (2.0, 2.0)]"
        until = monotonic() + PATIENCE_S
        while (pool.statistics().blocks or pool.statistics().shared_bytes) and monotonic() < until:
            pool.map(abs, range(4), chunk=1)
        assert (pool.statistics().blocks, pool.statistics().shared_bytes) == (0, 0)


def test_what_a_fork_of_a_fork_has_is_held_too() -> None:
    with Pool(1) as pool:
        (result,) = pool.map(cargo.make, [1])
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_S)
        first = os.fork()
        if not first:
            if not os.fork():
                ours.close()
                theirs.recv(1)
                theirs.sendall(b"right" if (result == 1).all() else b"wrong")
            os._exit(0)
        theirs.close()
        os.waitpid(first, 0)
        del result
        gc.collect()
        for number in range(2, 6):
            pool.map(cargo.make, [number])
        ours.sendall(b"!")
        assert ours.recv(10) == b"right"
        ours.close()


def test_a_program_may_close_what_tells_of_its_forks() -> None:
    """They are taken to be there, then; the number may be another file's."""
    with Pool(1) as pool:
        results = pool.map(cargo.make, [1])
        before = set(open_files("pipe:"))
        with child(lambda: float(results[0].min())) as forked:
            (own,) = set(open_files("pipe:")) - before
            number = int(os.path.basename(own))
            kept = os.dup(number)
            with open(__file__, "rb") as file:
                os.dup2(file.fileno(), number, inheritable=False)
            results.clear()
            for each in range(2, 8):
                assert float(pool.map(cargo.make, [each])[0][0]) == each
            assert forked.next() == "1.0"
        pool.map(abs, range(4), chunk=1)
        assert os.lseek(number, 0, os.SEEK_CUR) == 0
        os.dup2(kept, number, inheritable=False)
        os.close(kept)


def test_an_argument_stays_as_it_is_in_a_process_that_its_task_forked(tmp_path: Path) -> None:
    """It outlives the task, whose argument's memory is used for others once it is gone."""
    with Pool(1) as pool, Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        array = np.full(1 << 17, 1.0)
        assert pool.map(cargo.look_later, [(array, bell.path, gate.path)]) == [None]
        for number in range(2, 8):
            assert pool.map(cargo.first, [np.full(1 << 17, float(number))]) == [float(number)]
        gate.open()
        ((pid, word),) = bell.hear()
        assert word == "1.0 1.0"
        wait_gone([pid])
        until = monotonic() + PATIENCE_S
        while pool.statistics().blocks and monotonic() < until:
            pool.map(abs, range(4), chunk=1)
        assert pool.statistics().blocks == 0


def test_counters_are_one_for_all() -> None:
    """They, and arrays that are filled together, are shared on purpose."""
    with Pool(1) as pool:
        counter, array = pool.counter(), pool.empty_shared(1000)
        with child(lambda: counter.add(2), lambda: set_all(array, 4)) as forked:
            assert forked.next() == "2"
            assert forked.next() == "4.0"
            assert counter.add(1) == 3
            assert (array == 4).all()


def test_of_a_closed_pool_only_what_is_viewed_takes_memory() -> None:
    """And its file is open for no longer."""
    before = set(open_files())
    with Pool(2) as pool:
        results = pool.map(cargo.make, range(10))
        shared = pool.share(np.ones(1 << 17))
    (path,) = set(open_files()) - before
    assert 11 << 20 <= os.stat(path).st_blocks * 512 < 12 << 20
    del results[1:], shared
    gc.collect()
    assert 1 << 20 <= os.stat(path).st_blocks * 512 < 2 << 20
    assert (results[0] == 0).all()
    results.clear()
    gc.collect()
    assert set(open_files()) == before


def test_a_fork_gives_up_nothing_of_what_it_shares() -> None:
    """It lets go of its copies; what the program has stays."""
    with Pool(1) as pool:
        results = pool.map(cargo.make, [1, 2])
    with child(results.clear, gc.collect) as forked:
        forked.next()
        forked.next()
    assert [float(result.min()) for result in results] == [1.0, 2.0]


def test_a_program_with_many_closed_pools_has_descriptors_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of those whose files are closed are as good."""
    monkeypatch.setattr(arena, "MOST_LEFT", 2)
    before = set(open_files())
    kept = []
    for number in range(4):
        with Pool(1) as pool:
            kept += pool.map(cargo.make, [number])
    assert len(set(open_files()) - before) == 2
    with child(lambda: [float(each.max()) for each in kept]) as forked:
        assert forked.next() == "[0.0, 1.0, 2.0, 3.0]"
    del kept[:2]
    gc.collect()
    with Pool(1) as pool:
        kept += pool.map(cargo.make, [4])
    assert [float(each.min()) for each in kept] == [2.0, 3.0, 4.0]
