"""Large items and results: what arrives, what is left, and who sees whose writes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.process import cargo, scripts
from tests.process.waiting import PATIENCE_S, Bell, Gate, wait_gone

import allcores
from allcores import Kind, Limits, Pool, Retry

np = pytest.importorskip("numpy")

MEGABYTE = 1 << 20
METHODS = ["template", "spawn", "fork"]


def array(number: int, size: int = MEGABYTE) -> Any:
    return np.full(size // 8, float(number))


def in_use(pool: Pool) -> int:
    """Blocks that somebody holds, once everything that was said has been heard."""
    gc.collect()
    until = monotonic() + PATIENCE_S
    # Messages about blocks travel with others, and each worker has to be heard.
    while (blocks := pool.statistics().blocks) and monotonic() < until:
        pool.map(abs, range(4 * pool.workers), chunk=1)
    return blocks


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with Bell(tmp_path / "bell") as bell:
        yield bell


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
def test_arrays_pass_through_blocks(method: str) -> None:
    """There and back, and every block is free afterwards."""
    with Pool(2, start_method=method) as pool:
        stream = pool.imap(cargo.same, (array(number) for number in range(20)))
        for number, result in enumerate(stream):
            assert result.flags.writeable
            assert (result == number).all()
            result[0] = 5
            assert pool.statistics().block_bytes > 0
        del result, stream
        assert in_use(pool) == 0


@pytest.mark.parametrize(
    "value",
    [
        {"a": [np.arange(200_000), "text"], "b": np.ones((300, 500), order="F")},
        cargo.Box("box", np.arange(100_000)),
        (b"bytes" * 50_000, bytearray(b"more") * 50_000, "text" * 100_000),
        np.arange(400_000)[::2],
        np.arange(400_000).astype(">i4").reshape(4, -1).T,
        np.array(["a", None, 3] * 30_000, dtype=object),
        np.zeros((0, 5)),
    ],
    ids=["nested", "dataclass", "bytes", "steps", "transposed", "objects", "empty"],
)
def test_what_arrives_is_what_was_sent(pool: Pool, value: Any) -> None:
    (found,) = pool.map(cargo.same, [value])
    assert type(found) is type(value)
    if isinstance(value, cargo.Box):
        found, value = vars(found), vars(value)
    np.testing.assert_equal(found, value)


def test_a_task_may_write_to_its_argument(pool: Pool) -> None:
    """Nobody else sees it: not the caller, not other tasks, not a second attempt."""
    one = array(1)
    assert pool.map(cargo.spoil, [one] * 12, chunk=1) == [1.0] * 12
    assert pool.map(cargo.spoil, [one.copy() for _ in range(12)], chunk=3) == [1.0] * 12
    assert (one == 1.0).all()


def test_items_of_a_chunk_that_are_one_object_have_one_copy() -> None:
    """As the docs say: those that are to be apart travel apart."""
    one = array(1)
    with Pool(1) as alone:  # nobody takes over a part of the chunk
        assert alone.map(cargo.spoil, [one] * 4, chunk=4) == [1.0, -1.0, -1.0, -1.0]
        assert alone.map(cargo.spoil, [one] * 4, chunk=1) == [1.0] * 4
    assert (one == 1.0).all()


def test_a_generator_may_fill_one_buffer_again_and_again(pool: Pool) -> None:
    """It looks like the same array each time, and is not."""

    def numbers() -> Iterator[Any]:
        buffer = array(0, 2 * MEGABYTE)
        for number in range(30):
            buffer[:] = number
            yield buffer

    for chunk in (1, None):
        assert pool.map(cargo.first, numbers(), chunk=chunk) == [float(number) for number in range(30)]


def test_the_same_array_is_copied_once(pool: Pool) -> None:
    """Twice, to be exact: the second time it is noticed."""
    one = array(1, 8 * MEGABYTE)
    for _ in pool.imap(cargo.first, [one] * 20, chunk=1):
        assert pool.statistics().block_bytes < 3 * one.nbytes


def test_what_came_back_beyond_the_bound_goes_at_once() -> None:
    """A copy is kept in case the array comes again; the block of the first time is not, whatever comes next."""
    bound, one = 8 * MEGABYTE, array(1, 16 * MEGABYTE)
    with Pool(2, limits=Limits(block_bytes=bound)) as pool:
        assert pool.map(cargo.first, [one] * 12, chunk=1) == [1.0] * 12
        assert block_bytes(pool, one.nbytes) <= one.nbytes + MEGABYTE


def block_bytes(pool: Pool, expected: int) -> int:
    """Memory behind blocks once everything that was said has been heard; waits for it to be no more than expected."""
    until = monotonic() + PATIENCE_S
    while (found := pool.statistics().block_bytes) > expected and monotonic() < until:
        pool.map(abs, range(4 * pool.workers), chunk=1)
    return found


def test_what_a_task_keeps_stays_as_it_is(pool: Pool) -> None:
    """Its block is not given to others for as long as the task's process refers to it."""
    with Pool(1) as alone:
        alone.map(cargo.keep, [array(7)])
        for number in range(10, 20):
            alone.map(cargo.first, [array(number)])
        assert alone.map(cargo.look_at_kept, [0]) == [[(7.0, 7.0)]]


def test_results_may_be_kept_for_ever() -> None:
    """Those that find no room in shared memory come through the pipe, and memory for blocks stays bounded."""
    with Pool(2, limits=Limits(block_bytes=16 * MEGABYTE)) as pool:
        results = []
        for result in pool.imap(cargo.make, range(64)):
            results.append(result)
            assert pool.statistics().block_bytes <= 16 * MEGABYTE
        assert [result[-1] for result in results] == [float(number) for number in range(64)]
        del results, result
        assert in_use(pool) == 0


def test_many_arrays_in_little_shared_memory() -> None:
    with Pool(2, limits=Limits(block_bytes=16 * MEGABYTE)) as pool:
        found = [float(result[0]) for result in pool.imap(cargo.same, (array(n) for n in range(300)))]
        assert found == [float(number) for number in range(300)]
        assert in_use(pool) == 0
        assert pool.statistics().block_bytes <= 16 * MEGABYTE


def test_an_item_larger_than_all_shared_memory_allowed() -> None:
    with Pool(1, limits=Limits(block_bytes=MEGABYTE)) as pool:
        assert pool.map(cargo.total, [array(1, 8 * MEGABYTE)] * 3) == [float(MEGABYTE)] * 3


def test_without_shared_memory() -> None:
    with Pool(2, limits=Limits(block_bytes=0)) as pool:
        assert [r[0] for r in pool.map(cargo.same, [array(1), array(2)])] == [1.0, 2.0]
        assert pool.statistics().block_bytes == 0


def test_views_outlive_their_pool() -> None:
    with Pool(1) as pool:
        (result,) = pool.map(cargo.same, [array(3)])
    part = memoryview(result)[10:20]
    del result
    gc.collect()
    assert part.tolist() == [3.0] * 10


def test_a_view_outlives_its_worker(pool: Pool) -> None:
    """The memory of a worker that is gone stays while something refers to it, and goes then."""
    with Pool(1) as alone:
        (result,) = alone.map(cargo.make, [4])
        (outcome,) = alone.outcomes(cargo.die_if, [array(3)])
        assert outcome.kind is Kind.WORKER_LOST
        others = [alone.map(cargo.make, [number])[0] for number in range(5)]
        assert (result == 4.0).all()
        assert [other[0] for other in others] == [0.0, 1.0, 2.0, 3.0, 4.0]
        parent_memory = alone._driver.backend.parent_memory()
        assert parent_memory is not None
        assert parent_memory._orphans
        del result
        alone.map(abs, [1])
        assert not parent_memory._orphans


@pytest.mark.parametrize("crime", [cargo.die_if, cargo.return_and_die])
@pytest.mark.parametrize("chunk", [1, 8])
def test_a_crash_costs_one_item_and_no_block(pool: Pool, crime: Any, chunk: int) -> None:
    """Whether it dies with its argument in hands, or in the middle of handing over its result."""
    items = [array(number) for number in range(8)]
    outcomes = list(pool.outcomes(crime, items, chunk=chunk, retries=Retry(1, wait_s=0)))
    assert [outcome.kind for outcome in outcomes] == [Kind.OK] * 3 + [Kind.WORKER_LOST] + [Kind.OK] * 4
    assert [outcome.value for outcome in outcomes if outcome.ok] == [0.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0]
    assert outcomes[3].attempts == 2
    assert in_use(pool) == 0


def test_a_result_that_does_not_load_costs_itself_alone(pool: Pool) -> None:
    jobs = [(array(number), os.getpid()) for number in range(6)]
    outcomes = list(pool.outcomes(cargo.return_what_refuses, jobs, chunk=3))
    assert [outcome.ok for outcome in outcomes] == [True, True, True, False, True, True]
    assert isinstance(outcomes[3].error, ValueError)
    del outcomes
    assert in_use(pool) == 0


def test_cancelled_work_gives_its_blocks_back(pool: Pool) -> None:
    stream = pool.imap(cargo.first, (array(number) for number in range(1_000)))
    assert next(stream) == 0.0
    stream.close()
    assert in_use(pool) == 0


def test_a_large_closure_is_private_to_each_worker(pool: Pool) -> None:
    """It travels once per worker; what one worker writes to it no other one sees."""
    table = array(1)

    def spoil(_: int) -> tuple[int, float]:
        found = float(table[0])
        table[:] = os.getpid()
        return os.getpid(), found

    for pid, found in pool.map(spoil, range(20), chunk=1):
        assert found in (1.0, float(pid))
    assert (table == 1.0).all()


def test_a_program_without_memory_for_blocks(tmp_path: Path) -> None:
    """A limit on the size of files stands in for memory that is full: one warning, and pipes do it."""
    ending = scripts.run(
        "import resource, warnings, numpy, allcores\n"
        "from tests.process import cargo\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        "    with allcores.Pool(2) as pool:\n"
        "        pool.map(abs, [1])\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "        print(pool.map(cargo.total, [numpy.ones(100_000)] * 4))\n"
        "print(len(said), 'No shared memory could be had' in str(said[0].message))\n",
        tmp_path,
    )
    assert (ending.out, ending.err, ending.code) == ("[100000.0, 100000.0, 100000.0, 100000.0]\n1 True\n", "", 0)


def test_a_system_without_long_files(tmp_path: Path) -> None:
    ending = scripts.run(
        "import resource, numpy, allcores\n"
        "from tests.process import cargo\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))\n"
        "with allcores.Pool(1) as pool:\n"
        "    print(pool.map(cargo.total, [numpy.ones(100_000)]))\n"
        "    try:\n"
        "        pool.share(b'x')\n"
        "    except allcores.NotSupported as error:\n"
        "        print(error)\n",
        tmp_path,
    )
    assert ending.out.startswith("[100000.0]\nshare() needs memory without a name")
    assert (ending.err, ending.code) == ("", 0)


def test_a_tiny_dev_shm_does_not_matter() -> None:
    """As containers have it: 1 MB in a mount namespace of the program's own."""
    # No file: the tests' own may be there, and are not to be seen then.
    source = (
        "import os, numpy, allcores\n"
        "from tests.process import cargo\n"
        "assert os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize == 1 << 20\n"
        "with allcores.Pool(2) as pool:\n"
        "    big = pool.share(numpy.ones(1 << 20))\n"
        "    print(sum(result.nbytes for result in pool.imap(cargo.same, (big + n for n in range(10)))))\n"
        "    print(pool.map(cargo.total, [big] * 2))\n"
    )
    inner = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$0" -c "$1"'
    command = ["unshare", "-m", "sh", "-c", inner, sys.executable, source]
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace may be made here")
    environment = scripts.environment(TMPDIR="/tmp")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("83886080\n[1048576.0, 1048576.0]\n", "", 0)


def test_nothing_is_left_when_the_program_is_killed_in_the_middle(tmp_path: Path, bell: Bell) -> None:
    """Not in /dev/shm either: the leak check looks."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, numpy, allcores\n"
        "from tests.process import cargo, crimes\n"
        "from tests.process.waiting import ring\n"
        "pool = allcores.Pool(2)\n"
        "shared = pool.share(numpy.ones(1 << 20))\n"
        "for pid in set(pool.map(crimes.who, range(20))):\n"
        "    ring(sys.argv[1], pid)\n"
        "ring(sys.argv[1], 'ready')\n"
        "for _ in pool.imap(cargo.same, (numpy.ones(1 << 18) for _ in iter(int, 1))):\n"
        "    pass\n"
    )
    with scripts.running([str(script), bell.path], folder=tmp_path) as process:
        pids = []
        while (word := bell.hear()[0][1]) != "ready":
            pids.append(int(word))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_gone(set(pids))


def test_what_was_fetched_early_is_not_given_back_twice(tmp_path: Path) -> None:
    """A result behind which a long item runs is read from the outbox, and comes through the pipe once more."""
    with Pool(1) as pool, Gate(tmp_path / "gate") as gate:
        # The first is sent at once, since nothing was sent for long; the second, right after it, is not.
        stream = pool.imap(cargo.make_or_wait, [0, 1, gate.path, *range(2, 40)], chunk=3)
        assert (next(stream) == 0.0).all()
        first = next(stream)
        gate.open()
        assert next(stream) == "waited"
        others = list(stream)
        again = pool.map(cargo.make_or_wait, range(50, 60), chunk=1)
        assert (first == 1.0).all()
        assert [other[-1] for other in others] == [float(number) for number in range(2, 40)]
        assert [other[-1] for other in again] == [float(number) for number in range(50, 60)]


def test_a_forked_process_sees_results(pool: Pool) -> None:
    """Its copies of views are as good as the parent's."""
    (result,) = pool.map(cargo.same, [array(9)])
    pid = os.fork()
    if pid == 0:
        os._exit(0 if (result == 9.0).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_module_level_verbs() -> None:
    assert [float(r[0]) for r in allcores.map(cargo.make, range(4))] == [0.0, 1.0, 2.0, 3.0]
