"""Nobody outlives anybody, and nothing hangs: ends of parents, Ctrl-C, forks, interpreters."""

from __future__ import annotations

import fcntl
import functools
import gc
import logging
import multiprocessing
import os
import pty
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest
from tests.process import crimes, scripts
from tests.process.forking import fork
from tests.process.waiting import Bell, Gate, Watcher, wait_at, wait_full_strength, wait_gone

import allcores
from allcores import BrokenPool, Limits, Pool, PoolClosed
from allcores.pool import result_stream

#: why a program of this CPython cannot do something at its end; empty on all others
NO_MORE_THREADS = (
    "this CPython starts no thread once the main thread has ended (gh-113964, fixed in 3.12.3)"
    if (3, 12, 0) <= sys.version_info[:3] < (3, 12, 3)
    else ""
)


METHODS = ["template", "spawn", "fork"]


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with Bell(tmp_path / "bell") as bell:
        yield bell


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path / "gate") as gate:
        yield gate


# --- the parent is killed -------------------------------------------------------------------------

KILLED = """
import sys
import allcores
from tests.process import crimes

method, bell, task = sys.argv[1:]
pool = allcores.Pool(2, start_method=method)
stream = pool.imap(crimes.run, [(task, bell)] * 10, chunk=1)
next(stream)
"""


@pytest.mark.parametrize("task", ["fork_and_hang", "start_a_program_and_hang"])
@pytest.mark.parametrize("method", METHODS)
def test_kill_9_of_the_parent_leaves_nothing(tmp_path: Path, bell: Bell, method: str, task: str) -> None:
    """Neither workers, nor template, nor what tasks have forked or started."""
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    with scripts.running([str(script), method, bell.path, task], folder=tmp_path) as process:
        pids = {*bell.pids(4), *descendants(process.pid)}
        assert len(pids) >= 4
        process.kill()
        wait_gone(pids)


@pytest.mark.parametrize("crime", ["stop_itself", "hold_the_interpreter", "block_signals"])
def test_kill_9_of_the_parent_while_workers_are_stuck(tmp_path: Path, bell: Bell, crime: str) -> None:
    """Those that would not notice anything, nor let themselves be asked."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, allcores\n"
        "from tests.process import crimes\n"
        "allcores.Pool(2).map(crimes.run, [('ring_and_commit', *sys.argv[1:])] * 2, chunk=1)\n"
    )
    with scripts.running([str(script), bell.path, crime], folder=tmp_path) as process:
        pids = {*bell.pids(2), *descendants(process.pid)}
        process.kill()
        wait_gone(pids)


@pytest.mark.quick
def test_kill_9_of_the_parent_of_nested_pools(tmp_path: Path, bell: Bell) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, allcores\n"
        "from tests.process import crimes\n"
        "def nest(bell):\n"
        "    allcores.Pool(2).map(crimes.run, [('ring_and_hang', bell)] * 2, chunk=1)\n"
        "allcores.Pool(1).map(nest, [sys.argv[1]])\n"
    )
    with scripts.running([str(script), bell.path], folder=tmp_path) as process:
        pids = {*bell.pids(2), *descendants(process.pid)}
        assert len(pids) >= 5
        process.kill()
        wait_gone(pids)


def test_kill_9_of_an_idle_pools_parent(tmp_path: Path, bell: Bell) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, allcores\n"
        "from tests.process.waiting import ring\n"
        "allcores.map(abs, range(10))\n"
        "ring(sys.argv[1])\n"
        "sys.stdin.read()\n"
    )
    with scripts.running([str(script), bell.path], folder=tmp_path, stdin=-1) as process:
        bell.hear()
        pids = descendants(process.pid)
        assert pids
        process.kill()
        wait_gone(pids)


def descendants(pid: int) -> set[int]:
    """Children, children of children, and so on, as of now."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


# --- Ctrl-C ---------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys
# The first terminal that the leader of a session opens is its own: Ctrl-C there reaches us.
os.open(os.ttyname(0), os.O_RDWR)
import allcores
from tests.process import crimes
from tests.process.waiting import ring

bell, gate, verb, endless = sys.argv[1], sys.argv[2], sys.argv[3], "endless" in sys.argv
with open(bell, "wb") as file:
    pass

def interrupt(number, frame):
    ring(bell, "interrupted")
    raise KeyboardInterrupt

def numbers():
    number = 0
    while True:
        yield number
        number += 1

def work(number):
    if number < 2:
        crimes.ring_and_wait(bell, gate)
    return number

signal.signal(signal.SIGINT, interrupt)
# Few in flight: so that the second item is not left behind the first one.
limits = allcores.Limits(items_in_flight=8, grace_s=0.02, terminate_s=0.05)
with allcores.Pool(2, limits=limits) as pool:
    values = []
    try:
        if verb == "map":
            values = pool.map(work, numbers(), chunk=1)
        else:
            values.extend(getattr(pool, verb)(work, numbers(), chunk=1))
    except KeyboardInterrupt as error:
        if verb == "map":
            print(type(error).__name__)
            values = error.done
        if verb == "imap_unordered":
            values.sort()
        # Without order there may be gaps: what was not started is not there.
        print(values[:2], len(values) < 10_000, verb == "imap_unordered" or values == list(range(len(values))))
        sys.stdout.flush()
"""


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


@pytest.fixture
def interrupted(tmp_path: Path, bell: Bell, gate: Gate, terminal: tuple[int, int]) -> Callable[[str], Any]:
    """The program above, in a session and a terminal of its own; ctrl-C is a key there."""

    def start(verb: str) -> Any:
        script = tmp_path / "script.py"
        script.write_text(INTERRUPTED)
        arguments = [str(script), bell.path, gate.path, verb]
        return scripts.running(arguments, folder=tmp_path, stdin=terminal[1], start_new_session=True)

    return start


@pytest.mark.parametrize("verb", ["map", "imap", "imap_unordered"])
def test_ctrl_c_once_finishes_what_runs(
    interrupted: Callable[[str], Any], bell: Bell, gate: Gate, terminal: tuple[int, int], verb: str
) -> None:
    """Two items run; they are finished, and their results are there. An endless input is left."""
    with interrupted(verb) as process:
        pids = bell.pids(2)
        os.write(terminal[0], b"\x03")
        assert bell.hear() == [(process.pid, "interrupted")]
        gate.open()
        ending = scripts.finish(process)
        wait_gone(pids)
    expected = ["Interrupted"] if verb == "map" else []
    *rest, values = ending.lines
    assert rest == expected, ending.err
    # Without order either may come first.
    assert values in ("[0, 1] True True", "[1, 0] True True" if verb == "imap_unordered" else ""), ending.err
    assert (ending.code, ending.err) == (0, "")


@pytest.mark.parametrize("verb", ["map", "imap"])
def test_ctrl_c_twice_stops_now(
    interrupted: Callable[[str], Any], bell: Bell, gate: Gate, terminal: tuple[int, int], verb: str
) -> None:
    """What runs would run for ever: the gate stays shut."""
    with interrupted(verb) as process:
        pids = bell.pids(2)
        os.write(terminal[0], b"\x03")
        assert bell.hear() == [(process.pid, "interrupted")]
        # A second key while the first one's handler still runs would be one KeyboardInterrupt, not two:
        # a person is slower than that.
        threading.Event().wait(1.0)
        os.write(terminal[0], b"\x03")
        assert bell.hear() == [(process.pid, "interrupted")]
        ending = scripts.finish(process)
        wait_gone(pids)
    assert ending.lines == [*(["Interrupted"] if verb == "map" else []), "[] True True"], ending.err
    assert (ending.code, ending.err) == (0, "")


def test_ctrl_c_that_nobody_catches(tmp_path: Path, bell: Bell, gate: Gate) -> None:
    """The program ends as any other: with a traceback, and alone."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, allcores\n"
        "from tests.process import crimes\n"
        "allcores.map(crimes.run, [('ring_and_wait', *sys.argv[1:])] * 10, chunk=1)\n"
    )
    arguments = [str(script), bell.path, gate.path]
    with scripts.running(arguments, folder=tmp_path, start_new_session=True) as process:
        pids = {*bell.pids(1), *descendants(process.pid)}
        os.killpg(process.pid, signal.SIGINT)
        os.killpg(process.pid, signal.SIGINT)
        gate.open()
        ending = scripts.finish(process)
        wait_gone(pids)
    assert ending.code in (1, -signal.SIGINT)
    assert ending.err.rstrip().splitlines()[-1].startswith(("allcores.errors.Interrupted", "KeyboardInterrupt"))


@pytest.mark.quick
def test_ctrl_c_while_a_future_is_awaited(tmp_path: Path, bell: Bell, gate: Gate) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, allcores\n"
        "from tests.process import crimes\n"
        "with allcores.Pool(1) as pool:\n"
        "    try:\n"
        "        pool.submit(crimes.ring_and_hang, sys.argv[1]).result()\n"
        "    except KeyboardInterrupt:\n"
        "        print('stopped')\n"
    )
    with scripts.running([str(script), bell.path], folder=tmp_path, start_new_session=True) as process:
        pids = bell.pids()
        os.killpg(process.pid, signal.SIGINT)
        ending = scripts.finish(process)
        wait_gone(pids)
    assert (ending.out, ending.err, ending.code) == ("stopped\n", "", 0)


def test_sigterm_of_the_parent_leaves_nothing(tmp_path: Path, bell: Bell) -> None:
    """A service manager stops the program; Python runs no exit handlers then."""
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    arguments = [str(script), "template", bell.path, "fork_and_hang"]
    with scripts.running(arguments, folder=tmp_path, start_new_session=True) as process:
        pids = {*bell.pids(4), *descendants(process.pid)}
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(120) == -signal.SIGTERM
        wait_gone(pids)


# --- forks ----------------------------------------------------------------------------------------


def assert_equal(one: object, other: object) -> None:
    """For a lambda."""
    assert one == other


class TestForks:
    @pytest.mark.parametrize(
        "options",
        [{}, {"start_method": "fork"}, {"start_method": "spawn"}, {"backend": "threads"}, {"backend": "serial"}],
        ids=str,
    )
    @pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
    def test_a_pool_starts_anew_in_a_forked_process(self, options: dict[str, Any]) -> None:
        """With workers and settings of its own; streams and calls of the parent's are the parent's."""
        with Pool(2, setup=functools.partial(int, 5), limits=Limits(items_in_flight=77), **options) as pool:
            assert pool.map(pow, range(10)) == [5**number for number in range(10)]
            stream = pool.imap(pow, iter(range(1000)))
            future = pool.submit(pow, 1)
            next(stream)

            def child() -> None:
                assert not pool.closed
                with pytest.raises(PoolClosed, match="forked"):
                    list(stream)
                if not future.done():
                    with pytest.raises(PoolClosed, match="forked"):
                        future.result()
                future.cancel()
                stream.close()
                assert pool.map(pow, range(10)) == [5**number for number in range(10)]
                assert pool.submit(pow, 2).result() == 25
                assert [each.value for each in pool.outcomes(pow, [1])] == [5]
                if not options:
                    # And once more, in a fork of the fork.
                    assert fork(lambda: assert_equal(pool.map(pow, [2]), [25])) == 0
                pool.close()
                assert pool.closed
                with pytest.raises(PoolClosed):
                    pool.map(pow, [1])
                gc.collect()

            assert fork(child) == 0
            assert list(stream) == [5**number for number in range(1, 1000)]
            assert future.result() == 5
            assert pool.map(pow, range(10)) == [5**number for number in range(10)]

    def test_a_forked_process_that_closes_an_unused_pool_starts_nothing(self) -> None:
        """Leaving the block in the copy, say."""
        with Pool(2) as pool:
            assert pool.map(crimes.run, [1]) == [2]

            def child() -> None:
                pool.close()
                assert pool.closed
                with pytest.raises(PoolClosed):
                    pool.map(crimes.run, [1])

            assert fork(child) == 0
            assert pool.map(crimes.run, [1]) == [2]
        assert fork(lambda: assert_equal(pool.closed, True)) == 0

    def test_an_executor_starts_anew_in_a_forked_process(self) -> None:
        """As a module-level one does in the workers of a server."""
        with allcores.Executor(1) as executor:
            parents = executor.submit(crimes.run, 1)

            def child() -> None:
                assert executor.submit(crimes.run, 2).result() == 4
                assert list(executor.map(crimes.run, [3])) == [6]
                if not parents.done():
                    with pytest.raises(PoolClosed):
                        parents.result()
                executor.shutdown()

            assert fork(child) == 0
            assert parents.result() == 2

    @pytest.mark.quick
    def test_a_forked_process_makes_a_pool_of_its_own(self) -> None:
        with Pool(2) as pool:
            assert pool.map(crimes.run, [1]) == [2]

            def child() -> None:
                with Pool(2) as own:
                    assert own.map(crimes.run, range(20)) == [number * 2 for number in range(20)]

            assert fork(child) == 0
            assert pool.map(crimes.run, [1]) == [2]

    def test_the_shared_pool_of_a_forked_process_is_another(self) -> None:
        assert allcores.map(crimes.run, [1]) == [2]

        def child() -> None:
            assert allcores.map(crimes.run, range(20)) == [number * 2 for number in range(20)]
            from allcores.pool.default_pool import shutdown_shared

            shutdown_shared()

        assert fork(child) == 0
        assert allcores.map(crimes.run, [1]) == [2]

    def test_a_fork_while_the_pool_is_busy(self) -> None:
        """Whatever lock is held at that moment, the child does not wait for it."""
        with Pool(2) as pool:
            over = threading.Event()

            def work() -> None:
                while not over.is_set():
                    assert pool.map(crimes.run, range(50)) == [number * 2 for number in range(50)]

            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()

            def child() -> None:
                pool.statistics()
                pool.close()
                with pytest.raises(PoolClosed):
                    pool.map(crimes.run, [1])

            try:
                assert [fork(child) for _ in range(10)] == [0] * 10
            finally:
                over.set()
                for thread in threads:
                    thread.join()

    def test_a_fork_while_the_pool_starts(self, tmp_path: Path) -> None:
        """It waits: its child would keep the pipe by which the launch learns that the template has started."""
        ending = scripts.run(
            "import os, signal, subprocess, threading, allcores\n"
            "from tests.process import crimes\n"
            "children, tries, forked = [], threading.Event(), threading.Event()\n"
            "def fork():\n"
            "    children.append(os.fork())\n"
            "    if not children[-1]:\n"
            "        signal.pause()\n"
            "    forked.set()\n"
            "start = subprocess._fork_exec\n"
            "def disturbed(*arguments):\n"
            "    os.register_at_fork(before=tries.set)\n"
            "    threading.Thread(target=fork).start()\n"
            "    tries.wait(120)\n"
            "    # All it needs, if nothing holds it back.\n"
            "    forked.wait(0.5)\n"
            "    subprocess._fork_exec = start\n"
            "    return start(*arguments)\n"
            "subprocess._fork_exec = disturbed\n"
            "with allcores.Pool(1) as pool:\n"
            "    print(pool.map(crimes.run, [1]), forked.wait(120))\n"
            "os.kill(children[0], signal.SIGKILL)\n"
            "os.waitpid(children[0], 0)\n",
            tmp_path,
        )
        assert (ending.out, ending.err, ending.code) == ("[2] True\n", "", 0)

    def test_a_process_of_multiprocessing(self) -> None:
        """Forked by the standard library: its own pool works, and so does the inherited one."""
        with Pool(1) as pool:
            pool.map(crimes.run, [1])
            context = multiprocessing.get_context("fork")
            ours, theirs = context.Pipe()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                process = context.Process(target=use_in_process, args=(pool, theirs))
                process.start()
            assert ours.recv() == ([2], [2, 4])
            process.join()
            assert process.exitcode == 0
            process.close()
            ours.close()
            theirs.close()
            assert pool.map(crimes.run, [1]) == [2]

    def test_a_forked_process_that_lives_on_does_not_keep_workers_alive(self, gate: Gate) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with Pool(2) as pool:
                pids = set(pool.map(crimes.who, range(10)))
                pid = os.fork()
                if pid == 0:
                    wait_at(gate.path)
                    os._exit(0)
        wait_gone(pids)
        gate.open()
        os.waitpid(pid, 0)

    @pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
    @pytest.mark.parametrize("method", METHODS)
    def test_a_fork_of_a_fork_closes_nothing_twice(self, method: str) -> None:
        """The numbers of what its parent has let go of may belong to somebody else by then."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with Pool(1, start_method=method) as pool:
                assert pool.map(abs, [1]) == [1]
                pid = os.fork()
                if pid == 0:
                    # Every number that is free now is taken.
                    null = os.open(os.devnull, os.O_RDONLY)
                    taken = [os.dup(null) for _ in range(100)]
                    taken += [fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, 400) for _ in range(100)]
                    grandchild = os.fork()
                    if grandchild == 0:
                        try:
                            for descriptor in taken:
                                os.fstat(descriptor)
                        except OSError:
                            os._exit(9)
                        os._exit(0)
                    os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def test_a_forked_process_ends_normally_with_pools_at_work(self, tmp_path: Path, bell: Bell) -> None:
        """Its exit handlers do not wait for futures that are its parent's."""
        ending = scripts.run(
            "import os, sys, allcores\n"
            "from tests.process import crimes\n"
            "executor = allcores.Executor(1)\n"
            "pool = allcores.Pool(1)\n"
            "stream = pool.imap(crimes.run, [1, ('ring_and_hang', sys.argv[1])])\n"
            "next(stream)\n"
            "future = executor.submit(crimes.ring_and_hang, sys.argv[1])\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    sys.exit(7)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)\n"
            "os._exit(0)\n",
            tmp_path,
            bell.path,
        )
        assert ending.out == "7\n", ending.err

    @pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
    @pytest.mark.parametrize("method", METHODS)
    def test_workers_start_while_other_threads_hold_locks(self, method: str) -> None:
        """Threads that log, print, import, and use pools themselves, all the time."""
        over = threading.Event()
        log = logging.getLogger("allcores.test.noise")
        handler = logging.StreamHandler(open(os.devnull, "w"))  # noqa: SIM115
        log.addHandler(handler)
        log.propagate = False

        def noise() -> None:
            while not over.is_set():
                log.error("noise")

        def import_much() -> None:
            while not over.is_set():
                sys.modules.pop("this_is_never_there", None)
                try:
                    __import__("this_is_never_there")
                except ImportError:
                    pass

        threads = [threading.Thread(target=target) for target in (noise, noise, import_much)]
        for thread in threads:
            thread.start()
        try:
            with Pool(2, start_method=method) as other:
                with Pool(2, start_method=method, limits=Limits(items_per_worker=3)) as pool:
                    stream = other.imap(crimes.run, iter(range(100)))
                    assert pool.map(crimes.log_and_double, range(20)) == [number * 2 for number in range(20)]
                    assert list(stream) == [number * 2 for number in range(100)]
        finally:
            over.set()
            for thread in threads:
                thread.join()
            log.removeHandler(handler)
            handler.stream.close()


def use_in_process(pool: Pool, pipe: Any) -> None:
    inherited = pool.map(crimes.run, [1])
    with Pool(1) as own:
        pipe.send((inherited, own.map(crimes.run, [1, 2])))
    pool.close()


# --- pools that nobody closes ---------------------------------------------------------------------


class TestDropped:
    def test_a_pool_that_is_dropped_closes_itself(self) -> None:
        pool = Pool(2)
        pids = set(pool.map(crimes.who, range(10)))
        del pool
        wait_gone(pids)

    def test_also_if_it_was_never_used(self) -> None:
        Pool(2)

    def test_its_stream_and_its_future_keep_it(self) -> None:
        assert list(Pool(2).imap(crimes.run, range(100))) == [number * 2 for number in range(100)]
        assert sorted(Pool(2).imap_unordered(crimes.run, iter(range(100)))) == [number * 2 for number in range(100)]
        assert Pool(2).submit(crimes.run, 1).result(120) == 2

    def test_a_pool_in_a_cycle_that_is_collected_wherever(self) -> None:
        """The collector may run on any thread, the pool's own among them, with its lock held."""
        for _ in range(5):
            watcher = Watcher()
            pool = Pool(1, observers=[watcher])
            wait_full_strength(pool, watcher)
            stream = pool.imap(crimes.run, range(2000))
            next(stream)
            cycle: list[Any] = [pool, stream]
            cycle.append(cycle)
            before = gc.get_threshold()
            gc.set_threshold(1, 1, 1)
            try:
                del pool, stream, cycle
                # Others of the same kind at work, so that the collector has occasions.
                with Pool(1) as other:
                    assert sum(other.imap(crimes.run, range(100))) == 9900
            finally:
                gc.set_threshold(*before)
        gc.collect()

    def test_a_stream_that_is_dropped_unread(self) -> None:
        with Pool(2) as pool:
            for _ in range(20):
                pool.imap(crimes.run, range(10))
            assert pool.map(crimes.run, [1]) == [2]


#: what workers do when the interpreter ends
AT_THE_END = {
    "idle": "pool = Pool(2); pool.map(crimes.run, range(10))",
    "busy": "pool = Pool(2); stream = pool.imap_unordered(crimes.run, itertools.count()); next(stream)",
    "deaf": "pool = Pool(2); futures = [pool.submit(crimes.run, 'catch_everything') for _ in range(5)]",
    "in setup": "pool = Pool(2, setup=time.sleep, setup_args=(1000,))",
}
#: who holds the pool then
HOLDERS = [
    "pool = Pool(2)",
    "allcores.map(crimes.run, range(10))",
    "stream = Pool(2).imap(crimes.run, itertools.count()); next(stream)",
    "stream = allcores.imap(crimes.run, [1, ('catch_everything',)], chunk=1); next(stream)",
    "pool = Pool(2); sys.exit()",
    "pool = Pool(2); pool.map(crimes.run, [1]); cycle = [pool]; cycle.append(cycle); del pool, cycle",
]


@pytest.mark.parametrize(
    ("method", "open_things"),
    [
        *(pytest.param(method, AT_THE_END[what], id=f"{method}-{what}") for method in METHODS for what in AT_THE_END),
        *(("template", holder) for holder in HOLDERS),
    ],
)
def test_an_interpreter_ends_whatever_is_open(tmp_path: Path, method: str, open_things: str) -> None:
    """Unclosed pools, running streams, idle or busy: none keeps a program alive, none warns."""
    source = (
        "import itertools, sys, time, functools, allcores\n"
        "from tests.process import crimes\n"
        f"Pool = functools.partial(allcores.Pool, start_method={method!r})\n"
        "print('here', flush=True)\n"
        f"{open_things}\n"
    )
    ending = scripts.run(source, tmp_path)
    assert (ending.out, ending.err, ending.code) == ("here\n", "", 0)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # A thread that reads a stream is waited for, as every thread is; an executor's futures, too.
        (
            "def read():\n    print(sum(allcores.imap(crimes.run, range(1000))))\n"
            "threading.Thread(target=read).start()\n",
            "999000\n",
        ),
        (
            "executor = allcores.Executor(2)\n"
            "future = executor.submit(crimes.run, 4)\n"
            "future.add_done_callback(lambda future: print(future.result(), flush=True))\n",
            "8\n",
        ),
        # Daemon threads are not.
        (
            "threading.Thread(target=lambda: allcores.map(crimes.run, ['spin']), daemon=True).start()\n",
            "",
        ),
        (
            "started = threading.Event()\ndef items():\n    yield 'spin'\n    started.set()\n    yield 'spin'\n"
            "threading.Thread(target=lambda: allcores.map(crimes.run, items()), daemon=True).start()\nstarted.wait()\n",
            "",
        ),
        (
            "pool = allcores.Pool(2)\nstarted = threading.Event()\ndef items():\n    yield 'spin'\n    started.set()\n"
            "    yield 'spin'\n"
            "threading.Thread(target=lambda: pool.map(crimes.run, items()), daemon=True).start()\nstarted.wait()\n",
            "",
        ),
        (
            "pool = allcores.Pool(1)\nstarted = threading.Event()\ndef call():\n"
            "    future = pool.submit(crimes.run, 'spin')\n    started.set()\n    future.result()\n"
            "threading.Thread(target=call, daemon=True).start()\nstarted.wait()\n",
            "",
        ),
        # Exit handlers may still use pools that exist.
        (
            "pool = allcores.Pool(1)\natexit.register(lambda: print(pool.map(crimes.run, [1])))\n",
            "[2]\n",
        ),
    ],
    ids=["thread", "executor", "daemon", "daemon in a map", "daemon with a pool", "daemon with a call", "atexit"],
)
def test_what_an_interpreter_waits_for_at_its_end(tmp_path: Path, source: str, expected: str) -> None:
    if "Thread(target=read)" in source and NO_MORE_THREADS:
        pytest.skip(NO_MORE_THREADS)
    ending = scripts.run(f"import atexit, threading, allcores\nfrom tests.process import crimes\n{source}", tmp_path)
    assert (ending.out, ending.err, ending.code) == (expected, "", 0)


def test_the_last_exit_handler_may_be_the_first_to_use_a_pool(tmp_path: Path) -> None:
    """A handler that was registered before there was any pool runs behind all that would close one: in silence."""
    if NO_MORE_THREADS:
        pytest.skip(NO_MORE_THREADS)
    source = "import atexit, allcores\ndef same(item):\n    return item\n"
    ending = scripts.run(f"{source}atexit.register(lambda: print(allcores.map(same, [1])))\n", tmp_path)
    assert (ending.out, ending.err, ending.code) == ("[1]\n", "", 0)


def test_a_pool_is_closed_at_exit_though_its_lock_is_taken_for_a_moment() -> None:
    """Where no thread can be started any more, as at the end of a program, the lock is waited for."""
    pool = Pool(1)
    assert pool.map(crimes.run, [1]) == [2]
    driver = pool._driver
    taken = threading.Event()

    def take_a_turn() -> None:
        with driver.lock:
            taken.set()
            threading.Event().wait(0.05)

    other = threading.Thread(target=take_a_turn)
    other.start()
    assert taken.wait(120)
    before = set(threading.enumerate())
    pool._finalizer()
    assert driver.closed
    assert not {thread.name for thread in set(threading.enumerate()) - before}
    other.join()


def test_a_pool_whose_warning_is_an_error_leaves_nothing() -> None:
    """The leak check looks."""
    other = threading.Event()
    thread = threading.Thread(target=other.wait)
    thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RuntimeWarning, match="copies a process that has other threads"):
                Pool(1, start_method="fork")
    finally:
        other.set()
        thread.join()


def test_a_pool_that_gets_no_thread_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and nothing is left (the leak check looks)."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(BrokenPool, match=r"thread cannot be started: can't start new thread\. "):
        Pool(2)


def test_closed_standard_streams(tmp_path: Path) -> None:
    """A daemon's pool: descriptors 0 to 2 are closed, and their numbers are given to others."""
    script = tmp_path / "script.py"
    result = tmp_path / "result"
    script.write_text(
        "import os, sys\n"
        "os.closerange(0, 3)\n"
        "import allcores\n"
        "from tests.process import crimes\n"
        "with allcores.Pool(2) as pool:\n"
        "    found = pool.map(crimes.run, range(100))\n"
        "open(sys.argv[1], 'w').write(str(sum(found)))\n"
    )
    with scripts.running([str(script), str(result)], folder=tmp_path, stdin=DEVNULL) as process:
        scripts.finish(process)
    assert result.read_text() == "9900"


def test_results_that_are_let_go_as_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of modules are None by then; nothing is told of the results that nobody has read."""
    with Pool(backend="serial") as pool:
        reading = iter(pool.imap(abs, range(10)))
        assert next(reading) == 0
        monkeypatch.setattr(result_stream, "hide", None)
        reading.close()  # type: ignore[attr-defined]
