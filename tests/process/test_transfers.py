"""Killed at every moment of a transfer, at either end: the others' arrays are right, and nothing is left."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.process import cargo, scripts
from tests.process.waiting import PATIENCE_S, Bell, Watcher, wait_full_strength, wait_gone

from allcores import Kind, Limits, Pool, failpoints
from allcores.failpoints import TRANSFER

np = pytest.importorskip("numpy")

#: moments of those who share, which workers never do
SHARERS = ("share.made", "share.gone")


def arrays(count: int, first: int = 0) -> Iterator[Any]:
    return (np.full(1 << 15, float(number)) for number in range(first, first + count))


def arrays_until(flag: Path, at_most: int = 1000) -> Iterator[Any]:
    """Arrays until somebody was killed, and some more."""
    yield from itertools.takewhile(lambda _: not flag.exists(), arrays(at_most))
    yield from (np.full(1 << 15, -1.0) for _ in range(20))


def wait_until_free(pool: Pool) -> None:
    """No block is in use once everything that was said has been heard: messages about them travel with others."""
    until = monotonic() + PATIENCE_S
    while pool.statistics().blocks and monotonic() < until:
        gc.collect()
        pool.map(abs, range(4 * pool.workers), chunk=1)
    assert pool.statistics().blocks == 0


@pytest.mark.parametrize("point", [point for point in TRANSFER if point not in SHARERS])
def test_a_worker_is_killed_there(point: str, tmp_path: Path) -> None:
    """At most the item in hand is lost, all others are right, the pool goes on, and every block comes back."""
    flag = tmp_path / "killed"
    # Few at a time, so that blocks are used again.
    limits = Limits(items_in_flight=4)
    watcher = Watcher()
    setup_args = (point, str(flag))
    with Pool(2, setup=cargo.arm, setup_args=setup_args, limits=limits, observers=[watcher]) as pool:
        lost = []
        for outcome in pool.outcomes(cargo.same, arrays_until(flag), chunk=1):
            # One by one: what is dropped is the worker's again while it works on others.
            if outcome.ok:
                assert (outcome.value == outcome.item).all()
            else:
                lost.append(outcome.kind)
            del outcome
        assert flag.exists(), "nobody came by"
        assert lost in ([], [Kind.WORKER_LOST])
        again = pool.map(cargo.same, arrays(24, 100), chunk=1)
        assert [float(array[-1]) for array in again] == [float(number) for number in range(100, 124)]
        wait_full_strength(pool, watcher)
        assert pool.statistics().workers_started == 3
        del again
        wait_until_free(pool)


@pytest.mark.parametrize("point", TRANSFER)
def test_the_program_is_killed_there(point: str, tmp_path: Path) -> None:
    """Its workers end at once, and no memory, file or process is left: the leak check looks."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, numpy, allcores\n"
        "from allcores import failpoints\n"
        "from tests.process import cargo, crimes\n"
        "from tests.process.waiting import ring\n"
        "pool = allcores.Pool(2)\n"
        "for pid in set(pool.map(crimes.who, range(20), chunk=1)):\n"
        "    ring(sys.argv[1], pid)\n"
        "ring(sys.argv[1], 'ready')\n"
        "failpoints.install(cargo.killing(sys.argv[2], sys.argv[3]))\n"
        "while True:\n"
        "    shared = pool.share(numpy.ones(1 << 15))\n"
        "    for result in pool.imap(cargo.same, (numpy.ones(1 << 15) for _ in range(12)), chunk=1):\n"
        "        pass\n"
        "    pool.map(cargo.total, [shared] * 4)\n"
    )
    with Bell(tmp_path / "bell") as bell:
        arguments = [str(script), bell.path, point, str(tmp_path / "killed")]
        with scripts.running(arguments, folder=tmp_path) as process:
            pids = set()
            while (word := bell.hear()[0][1]) != "ready":
                pids.add(int(word))
            assert process.wait(PATIENCE_S) == -9
            wait_gone(pids)
    assert (tmp_path / "killed").exists()


@pytest.mark.quick
def test_every_failpoint_is_reached(tmp_path: Path) -> None:
    """Those of the list are those of a transfer, in the program and in its workers."""
    here: set[str] = set()
    noted = tmp_path / "moments"
    failpoints.install(here.add)
    try:
        with Pool(2, setup=cargo.note_moments, setup_args=(str(noted),)) as pool:
            for _ in range(2):
                shared = pool.share(np.ones(1 << 15))
                pool.map(cargo.same, [*arrays(8), shared], chunk=1)
                del shared
    finally:
        failpoints.install(None)
    assert here == set(TRANSFER)
    assert set(noted.read_text().split()) == set(TRANSFER) - set(SHARERS)
