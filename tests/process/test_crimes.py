"""Whatever a task does to its process, its item alone pays, and the outcome says what happened."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.contract.backends.support import needs_linux
from tests.process import crimes, scripts
from tests.process.waiting import Bell, Watcher, ring, wait_full_strength, wait_gone

from allcores import Kind, Limits, NotPicklable, Outcome, Pool, Retry, TaskExited, TaskTimeout, WorkerLost, events

#: for crimes that hang, and for the quick items beside them: a machine that is busy with others may stop one for long
TIMEOUT_S = 1.0
QUICK = Limits(grace_s=0.02, terminate_s=0.05)

#: each is tried after the other on one pool: a start of its own for each would take most of the time
WAYS = {
    "alone": ([], [], None, 0),
    "among others": ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], None, 0),
    "in a chunk": ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 11, 0),
    "with a retry": ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 11, 1),
}
#: of crimes of a kind, one is tried in each way, and the others in this one
ONE_WAY = ("in a chunk",)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def pool(watcher: Watcher) -> Iterator[Pool]:
    with Pool(2, limits=QUICK, observers=[watcher]) as pool:
        yield pool


def commit(
    pool: Pool, bad: Any, way: str, fn: Callable[[Any], Any] = crimes.run, honest: Any = None, **options: Any
) -> Outcome[Any]:
    """Have the bad item run in one of the ways; all other items must be unharmed. Its own outcome is returned."""
    before, after, chunk, retries = WAYS[way]
    items = [*before, bad, *after]
    retry = Retry(retries, wait_s=0)
    found = list(pool.outcomes(fn, items, chunk=chunk, retries=retry, **options))
    assert [outcome.index for outcome in found] == list(range(len(items)))
    outcome = found.pop(len(before))
    assert [each.kind for each in found] == [Kind.OK] * len(found), [each.error for each in found if each.error]
    honest = honest or (lambda number: number * 2)
    assert [each.value for each in found] == [honest(number) for number in before + after]
    assert all(each.attempts == 1 for each in found)
    assert outcome.attempts == (1 if outcome.ok else 1 + retries)
    return outcome


def check_unharmed(pool: Pool, watcher: Watcher) -> None:
    """Afterwards the pool is as good as new."""
    assert pool.map(crimes.run, range(20)) == [number * 2 for number in range(20)]
    wait_full_strength(pool, watcher)
    statistics = pool.statistics()
    assert (statistics.items_in_flight, statistics.bytes_in_flight) == (0, 0)


@dataclass(frozen=True)
class Fatal:
    """A crime that ends the process. exitcode, signal: what the error has to say. words: what its message says."""

    crime: str
    signal: str | None = None
    exitcode: int | None = None
    words: str = ""

    def __str__(self) -> str:
        return self.crime


FATAL = [
    Fatal("segfault", signal="SIGSEGV", words="native code"),
    Fatal("bus_error", signal="SIGBUS", words="mapped file"),
    Fatal("stack_overflow_in_c", signal="SIGSEGV"),
    Fatal("abort", signal="SIGABRT"),
    Fatal("exit_at_once", exitcode=3, words="os._exit"),
    Fatal("exit_at_once_with_success", exitcode=0, words="os._exit"),
    Fatal("exit_in_c", exitcode=5),
    Fatal("kill_itself", signal="SIGKILL", words="memory"),
    Fatal("terminate_itself", signal="SIGTERM"),
    Fatal("kill_its_group", signal="SIGKILL"),
    Fatal("alarm_without_handler", signal="SIGALRM", words="alarm"),
    Fatal("die_in_another_thread", signal="SIGSEGV"),
    Fatal("become_another_program", exitcode=1),
]


@pytest.mark.parametrize("fatal", FATAL, ids=str)
def test_a_process_that_ends(pool: Pool, watcher: Watcher, fatal: Fatal) -> None:
    """The item is lost, and its error tells by what."""
    ways = WAYS if fatal.crime in ("segfault", "exit_at_once", "kill_itself") else ("with a retry",)
    for number, way in enumerate(ways, 1):
        outcome = commit(pool, fatal.crime, way)
        error = outcome.error
        assert outcome.kind is Kind.WORKER_LOST
        assert isinstance(error, WorkerLost)
        assert (error.signal, error.exitcode) == (fatal.signal, fatal.exitcode)
        assert (error.index, error.attempts, error.worker) == (outcome.index, outcome.attempts, outcome.worker)
        message = str(error)
        assert f"items[{outcome.index}] ({fatal.crime!r})" in message
        assert (fatal.signal or str(fatal.exitcode)) in message
        assert fatal.words in message
        assert error.peak_memory is not None
        assert 1_000_000 < error.peak_memory < 1_000_000_000
        assert "peak memory" in message
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.signal, again.exitcode) == (message, fatal.signal, fatal.exitcode)
        check_unharmed(pool, watcher)
        assert pool.statistics().workers_lost == number
        # The last way is the one with retries.
        assert pool.statistics().retries == outcome.attempts - 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
def test_the_same_under_every_start_method(watcher: Watcher, method: str) -> None:
    with Pool(2, start_method=method, limits=QUICK, observers=[watcher]) as pool:
        wait_full_strength(pool, watcher)
        for crime in ("segfault", "exit_at_once", "kill_itself", "stop_itself", "close_all_descriptors"):
            outcome = commit(pool, crime, "in a chunk", timeout=TIMEOUT_S if crime == "stop_itself" else None)
            assert outcome.kind in (Kind.WORKER_LOST, Kind.TIMED_OUT, Kind.OK)
            if crime in ("segfault", "exit_at_once", "kill_itself"):
                assert outcome.kind is Kind.WORKER_LOST
            if crime == "stop_itself":
                assert outcome.kind is Kind.TIMED_OUT
            check_unharmed(pool, watcher)


def test_the_stack_of_a_crash_is_kept(pool: Pool) -> None:
    """A fatal signal in native code names the Python line that led there."""
    error = commit(pool, "segfault", "in a chunk").error
    assert isinstance(error, WorkerLost)
    assert error.stack is not None
    assert "in segfault" in error.stack
    assert "string_at" in str(error)


@pytest.mark.parametrize(("crime", "code"), [("exit_in_python", "4"), ("exit_with_a_sentence", "nothing more to do")])
def test_sys_exit_ends_neither_worker_nor_caller(pool: Pool, watcher: Watcher, crime: str, code: str) -> None:
    for way in WAYS:
        outcome = commit(pool, crime, way)
        assert isinstance(outcome.error, TaskExited)
        assert outcome.kind is Kind.WORKER_LOST
        assert "SystemExit" in str(outcome.error)
        assert code in str(outcome.error)
        assert isinstance(outcome.error.__cause__, SystemExit)
        check_unharmed(pool, watcher)
        assert pool.statistics().workers_started == 2


@pytest.mark.parametrize("crime", ["stop_itself", "hold_the_interpreter", "spin", "catch_everything", "block_signals"])
def test_a_process_that_hangs(pool: Pool, watcher: Watcher, crime: str) -> None:
    """The deadline ends it, whatever it is stuck in."""
    wait_full_strength(pool, watcher)
    for number, way in enumerate(WAYS if crime == "stop_itself" else ONE_WAY, 1):
        outcome = commit(pool, crime, way, timeout=TIMEOUT_S)
        error = outcome.error
        assert outcome.kind is Kind.TIMED_OUT
        assert isinstance(error, TaskTimeout)
        assert isinstance(error, TimeoutError)
        assert error.timeout == TIMEOUT_S
        assert (error.index, error.attempts, error.worker) == (outcome.index, outcome.attempts, outcome.worker)
        assert f"items[{outcome.index}] ({crime!r})" in str(error)
        check_unharmed(pool, watcher)
        assert pool.statistics().timed_out == number


@needs_linux
def test_too_much_memory(watcher: Watcher) -> None:
    """The worker above its limit is ended, and its item says so."""
    limits = Limits(memory_per_worker=200 * 1024**2, grace_s=0.02, terminate_s=0.05)
    with Pool(2, limits=limits, observers=[watcher]) as pool:
        for way in ("among others", "with a retry"):
            outcome = commit(pool, "eat_memory", way)
            assert outcome.kind is Kind.WORKER_LOST
            assert isinstance(outcome.error, WorkerLost)
            assert outcome.error.peak_memory is not None
            assert outcome.error.peak_memory > 200 * 1024**2
            assert "memory_per_worker" in str(outcome.error)
            assert re.search(r"\b200 MB", str(outcome.error))
            assert f"items[{outcome.index}]" in str(outcome.error)
            check_unharmed(pool, watcher)


@needs_linux
def test_endless_recursion_is_stopped_by_the_memory_limit(watcher: Watcher) -> None:
    limits = Limits(memory_per_worker=200 * 1024**2, grace_s=0.02, terminate_s=0.05)
    with Pool(2, limits=limits, observers=[watcher]) as pool:
        assert commit(pool, "recurse_for_ever", "in a chunk").kind is Kind.WORKER_LOST
        check_unharmed(pool, watcher)


# --- damage that is survived ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crime", "value"),
    [
        ("close_descriptors", "closed"),
        ("close_standard_streams", "silent"),
        ("write_into_low_descriptors", "written"),
        ("read_standard_input", ""),
        ("change_folder", "/"),
        ("set_signal_handlers", "set"),
        ("leave_an_alarm", "set"),
        ("change_umask_and_priority", "changed"),
        ("trace_everything", "traced"),
        ("leave_a_thread", "started"),
    ],
)
def test_damage_that_harms_nobody(pool: Pool, watcher: Watcher, crime: str, value: Any) -> None:
    """The item that did it has its result, and so have all others."""
    for way in WAYS if crime == "close_descriptors" else ONE_WAY:
        outcome = commit(pool, crime, way)
        assert (outcome.kind, outcome.value) == (Kind.OK, value), outcome.error
        check_unharmed(pool, watcher)


def test_a_task_that_patches_the_standard_library(pool: Pool, watcher: Watcher) -> None:
    """Its worker may not live long after that; nobody's item is lost."""
    for way in WAYS:
        assert commit(pool, "break_builtins", way).value == "patched"
        check_unharmed(pool, watcher)


def test_a_task_that_closes_every_descriptor(pool: Pool, watcher: Watcher) -> None:
    """The pipe is gone, too: what is finished is kept, the worker is replaced."""
    for way in WAYS:
        outcome = commit(pool, "close_all_descriptors", way)
        assert outcome.kind in (Kind.OK, Kind.WORKER_LOST)
        check_unharmed(pool, watcher)


def test_printing_megabytes(watcher: Watcher, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing that is printed gets between the results, and all of it comes through."""
    # A pool that starts here and not in a fixture: so its workers print where `capfd` looks.
    with Pool(2, observers=[watcher]) as pool:
        for way in ("alone", "in a chunk"):
            outcome = commit(pool, "print_much", way)
            assert (outcome.kind, outcome.value) == (Kind.OK, "printed")
            check_unharmed(pool, watcher)
    out, err = capfd.readouterr()
    assert (out.count("o"), out.count("O")) == (4_000_000, 4_000_000)
    assert (err.count("e"), err.count("E")) == (4_000_000, 4_000_000)


@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
@pytest.mark.parametrize("method", ["template", "fork", "spawn"])
def test_what_stands_in_for_standard_output_need_only_write(method: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Its worker is as good as before, and what it was written to is written out."""
    with Pool(1, start_method=method) as pool:
        crime = ["print_through_an_object"] * 3
        assert pool.map(crimes.run, crime, chunk=1) == ["printed"] * 3
        assert pool.map(crimes.run, crime) == ["printed"] * 3
        assert pool.statistics().workers_started == 1
    out, err = capfd.readouterr()
    assert (out.count("p"), err) == (600, "")


FORKED = """
import sys, allcores
from tests.process import crimes
print("header")
sys.stdin.readline()
with allcores.Pool(2, start_method=sys.argv[1]) as pool:
    found = pool.map(crimes.run, ["read_standard_input", "print_where_python_would"] * 2, chunk=1)
print([each for each in found if each != "printed"], sys.stdin.readline())
"""


@pytest.mark.parametrize("method", ["template", "fork", "spawn"])
def test_a_forked_worker_neither_reads_nor_writes_what_is_the_program_s(method: str, tmp_path: Path) -> None:
    """Of its input it has read ahead, and of its output some is still to be written."""
    (tmp_path / "script.py").write_text(FORKED)
    arguments = ["-W", "ignore", str(tmp_path / "script.py"), method]
    with scripts.running(arguments, folder=tmp_path, stdin=subprocess.PIPE) as process:
        ended = scripts.finish(process, "first\nsecond\nthird\n")
    assert (ended.err, ended.code) == ("", 0)
    lines = ended.out.splitlines()
    assert sorted(lines) == sorted(["header", "w" * 100, "w" * 100, "['', ''] second", ""]), lines


@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
@pytest.mark.parametrize("method", ["template", "fork", "spawn"])
def test_each_task_finds_the_same_process(method: str, tmp_path: Path) -> None:
    """Folder, umask, signals and timers are not the last task's, nor the program's, whichever task it is."""
    changed: dict[int, Any] = {
        signal.SIGCHLD: signal.SIG_IGN,
        signal.SIGHUP: signal.SIG_IGN,
        signal.SIGUSR1: lambda *_: None,
    }
    before = {number: signal.signal(number, handler) for number, handler in changed.items()}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR2})
    try:
        with Pool(1, start_method=method) as pool:
            (clean,) = pool.map(crimes.run, ["look_around"])
            assert pool.map(crimes.run, ["fail_in_a_child"]) == [3]
            for crime in (
                "change_folder",
                "set_signal_handlers",
                "leave_an_alarm",
                "disturb_signals",
                "change_umask_and_priority",
                ("change_folder_to_one_that_is_removed", str(tmp_path / "removed")),
            ):
                assert pool.map(crimes.run, [crime])
                assert pool.map(crimes.run, ["look_around"]) == [clean]
            assert pool.map(crimes.run, ["fail_in_a_child"]) == [3]
            assert pool.map(crimes.run, ["interrupt_itself"]) == ["not interrupted"]
            assert pool.map(crimes.run, ["end_a_program_by_sigint"]) == [-signal.SIGINT]
            (lost,) = pool.outcomes(crimes.run, ["segfault"])
            assert "string_at" in str(lost.error), "faulthandler has told where"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert clean["folder"] == os.getcwd()
    blocked, ignored = (int(line.split()[1], 16) for line in clean["kernel"] if line.startswith(("SigBlk", "SigIgn")))
    assert blocked == 0
    assert not ignored & (1 << (signal.SIGCHLD - 1) | 1 << (signal.SIGHUP - 1))


def test_a_slow_input_goes_on_when_a_worker_is_lost() -> None:
    """It is not pulled while no worker is idle, and nothing but the start of the next worker brings one."""

    def items() -> Iterator[str | int]:
        for item in ("exit_at_once", 1, 2):
            until = monotonic() + 0.05
            while monotonic() < until:
                pass
            yield item

    with Pool(1) as pool:
        lost, *fine = pool.outcomes(crimes.run, items(), chunk=1)
        assert (lost.kind, [each.value for each in fine]) == (Kind.WORKER_LOST, [2, 4])


@pytest.fixture(params=["ignored", "collected", "blocked"])
def children_of_the_program(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the program does about its children: nothing that it owes to anybody."""

    def collect(number: int, frame: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    before = signal.getsignal(signal.SIGCHLD)
    if request.param == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    else:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN if request.param == "ignored" else collect)
    yield request.param
    signal.signal(signal.SIGCHLD, before)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
@pytest.mark.parametrize("method", ["template", "fork", "spawn"])
@pytest.mark.parametrize("pidfd", [True, False], ids=["", "no pidfd"])
def test_deaths_are_noticed_whoever_collects_the_dead(
    method: str, pidfd: bool, children_of_the_program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where SIGCHLD is ignored, blocked, or handled by somebody who collects every child."""
    if not pidfd:
        if method != "fork":
            pytest.skip("the template has no use for pidfds")
        monkeypatch.setattr("allcores.backends.processes.fork_launcher.ForkLauncher.blind", True)
    with Pool(1, start_method=method) as pool:
        lost, fine = pool.outcomes(crimes.run, ["exit_at_once", 1], chunk=1)
        assert (lost.kind, fine.value) == (Kind.WORKER_LOST, 2)
        # What the dead one had forked is ended with it, as ever.
        with Bell(tmp_path / "bell") as bell:
            (lost,) = pool.outcomes(crimes.run, [("fork_ring_and_exit", bell.path)])
            assert lost.kind is Kind.WORKER_LOST
            wait_gone(bell.pids())
        if method == "fork":
            assert children_of_the_program != "ignored" or "how could not be told" in str(lost.error)
        else:
            # The template's own end is noticed as well.
            launcher = pool._driver.backend._worker_table.launcher  # type: ignore[attr-defined]
            os.kill(launcher.pid, signal.SIGKILL)
        assert pool.map(crimes.run, range(3)) == [0, 2, 4]


def test_a_fork_that_returns(pool: Pool, watcher: Watcher) -> None:
    """The copy of the worker answers nobody."""
    for way in WAYS:
        outcome = commit(pool, "fork_and_return", way)
        assert outcome.kind is Kind.OK
        # The pid is that of the worker itself.
        watcher.wait_until(lambda pid=outcome.value: pid in pids_of(watcher))  # type: ignore[misc]
        check_unharmed(pool, watcher)


def test_a_fork_that_raises(pool: Pool, watcher: Watcher) -> None:
    for way in WAYS:
        assert isinstance(commit(pool, "fork_and_raise", way).error, KeyError)
        check_unharmed(pool, watcher)


FORKING = """
import os, sys
import allcores

def fork(how):
    print("by the task,", end=" ")
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("by its child", how)
    if how == "raises":
        raise KeyError("of the child")
    if how != "returns":
        sys.exit({"code": 3, "words": "of the child", "nothing": None}[how])

with allcores.Pool(1, backend=sys.argv[1]) as pool:
    print(pool.map(fork, ["code", "words", "nothing", "raises", "returns"]))
"""


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
def test_a_fork_ends_as_python_would_end_it(backend: str, tmp_path: Path) -> None:
    """With the exit code of what it raises, and what it printed; the program that waits for it goes on."""
    (tmp_path / "script.py").write_text(FORKING)
    with scripts.running(["-W", "ignore", str(tmp_path / "script.py"), backend], folder=tmp_path) as process:
        ended = scripts.finish(process)
    assert ended.code == 0 and "[3, 1, 0, 1, 0]" in ended.out, ended
    for how in ("code", "words", "nothing", "raises"):
        assert ended.out.count(f"by its child {how}\n") == 1
    assert ended.err.splitlines()[0] == "of the child" and "KeyError: 'of the child'" in ended.err
    if backend == "processes":
        assert ended.out.count("by the task") == 5


def test_a_fork_among_many_quick_items(pool: Pool, tmp_path: Path) -> None:
    """The copy of the worker runs nothing of what follows in the chunk, although much of it was begun as one burst."""
    with Bell(tmp_path / "bell") as bell:
        items = [*range(1_000), None, *[bell.path] * 20]
        results = pool.map(crimes.quick, items, chunk=len(items))
        workers = {status.pid for status in pool.worker_status()}
        # The other worker takes what waits, if this one is kept from a processor.
        assert results[1_000] in workers and set(bell.pids(20)) <= workers
        pool.submit(ring, bell.path, "last").result()
        assert [word for _, word in bell.hear()] == ["last"]


@pytest.mark.parametrize(
    "crime", ["fork_a_child_that_stays", "fork_a_child_that_ignores_signals", "start_a_program_that_stays"]
)
@pytest.mark.parametrize("end", ["close", "crash", "timeout"])
def test_children_that_stay_are_gone_with_their_worker(watcher: Watcher, tmp_path: Path, crime: str, end: str) -> None:
    """A worker takes what it started with it: at its normal end, in a crash, at a deadline."""
    with Bell(tmp_path / "bell") as bell:
        with Pool(1, limits=QUICK, observers=[watcher]) as pool:
            outcome = commit(pool, (crime, bell.path), "in a chunk")
            assert outcome.kind is Kind.OK
            children = bell.pids()
            if end == "crash":
                commit(pool, "segfault", "alone")
            elif end == "timeout":
                commit(pool, "sleep_for_long", "alone", timeout=TIMEOUT_S)
            if end != "close":
                wait_gone(children)
                check = pool.map(crimes.run, [1])
                assert check == [2]
        wait_gone(children)


# --- things that arrive or leave badly ------------------------------------------------------------


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, KeyboardInterrupt, StopIteration, MemoryError])
def test_an_item_that_raises_when_it_is_unpickled(pool: Pool, watcher: Watcher, kind: type[BaseException]) -> None:
    bomb = crimes.RaisesWhenLoaded(kind)
    for way in WAYS if kind is RuntimeError else ONE_WAY:
        outcome = commit(pool, bomb, way, crimes.run_any, lambda number: "int")
        assert outcome.kind in (Kind.FAILED, Kind.WORKER_LOST)
        error = outcome.error
        if isinstance(error, TaskExited):
            error = error.__cause__
        assert type(error) is kind
        assert any("could not be unpickled" in note for note in error.__notes__)
        check_unharmed(pool, watcher)
        assert pool.statistics().workers_started == 2


@pytest.mark.parametrize(
    ("bomb", "sign"),
    [(crimes.ExitsWhenLoaded(), "9"), (crimes.SegfaultsWhenLoaded(), "SIGSEGV")],
    ids=["exits", "segfaults"],
)
def test_an_item_that_ends_the_process_when_it_is_unpickled(
    pool: Pool, watcher: Watcher, bomb: object, sign: str
) -> None:
    for way in WAYS:
        outcome = commit(pool, bomb, way, crimes.run_any, lambda number: "int")
        assert outcome.kind is Kind.WORKER_LOST
        assert isinstance(outcome.error, WorkerLost)
        assert sign in str(outcome.error)
        assert f"items[{outcome.index}]" in str(outcome.error)
        assert outcome.error.index == outcome.index
        check_unharmed(pool, watcher)


def test_an_item_that_hangs_when_it_is_unpickled(pool: Pool, watcher: Watcher) -> None:
    wait_full_strength(pool, watcher)
    for way in ("alone", "with a retry"):
        outcome = commit(pool, crimes.HangsWhenLoaded(), way, crimes.run_any, lambda number: "int", timeout=TIMEOUT_S)
        assert outcome.kind is Kind.TIMED_OUT
        assert f"items[{outcome.index}]" in str(outcome.error)
        check_unharmed(pool, watcher)


def test_an_item_that_cannot_be_shown(pool: Pool) -> None:
    """Messages do without its picture."""
    (outcome,) = pool.outcomes(crimes.run, [crimes.RaisesWhenShown()])
    assert "items[0]" in "\n".join(outcome.error.__notes__)  # type: ignore[union-attr]


@pytest.mark.parametrize("result", ["RaisesWhenLoaded", "SystemExit", "KeyboardInterrupt"])
def test_a_result_that_raises_when_it_is_unpickled(pool: Pool, watcher: Watcher, result: str) -> None:
    """It hurts neither its neighbours nor the caller's loop."""
    for way in WAYS:
        outcome = commit(pool, result, way, crimes.return_something, lambda number: number)
        assert outcome.kind is Kind.FAILED
        assert isinstance(outcome.error, Exception)
        assert "unpickl" in "\n".join([str(outcome.error), *getattr(outcome.error, "__notes__", ())]).lower()
        with pytest.raises(Exception, match="boom"):
            pool.map(crimes.return_something, [result])
        with pytest.raises(Exception, match="boom"):
            pool.submit(crimes.return_something, result).result()
        check_unharmed(pool, watcher)
        assert pool.statistics().workers_started == 2


def test_a_result_that_ends_the_process_when_it_is_pickled(pool: Pool, watcher: Watcher) -> None:
    for way in WAYS:
        outcome = commit(pool, "ExitsWhenPickled", way, crimes.return_something, lambda number: number)
        assert outcome.kind is Kind.WORKER_LOST
        assert "8" in str(outcome.error)
        assert f"items[{outcome.index}]" in str(outcome.error)
        check_unharmed(pool, watcher)


def test_a_result_that_hangs_when_it_is_pickled(pool: Pool, watcher: Watcher) -> None:
    wait_full_strength(pool, watcher)
    for way in ("alone", "with a retry"):
        outcome = commit(
            pool, "HangsWhenPickled", way, crimes.return_something, lambda number: number, timeout=TIMEOUT_S
        )
        assert outcome.kind is Kind.TIMED_OUT
        check_unharmed(pool, watcher)


def test_a_result_that_refuses_to_be_pickled(pool: Pool, watcher: Watcher) -> None:
    for way in WAYS:
        outcome = commit(pool, "RefusesToPickle", way, crimes.return_something, lambda number: number)
        assert outcome.kind is Kind.FAILED
        assert isinstance(outcome.error, NotPicklable)
        check_unharmed(pool, watcher)
        assert pool.statistics().workers_started == 2


# --- many of them ---------------------------------------------------------------------------------


@pytest.mark.quick
def test_every_item_is_a_crime(pool: Pool, watcher: Watcher) -> None:
    """A pool that loses a worker with each item still comes to the end."""
    names = ["segfault", "exit_at_once", "kill_itself", "abort"] * 4
    found = list(pool.outcomes(crimes.run, names, chunk=4))
    assert [outcome.kind for outcome in found] == [Kind.WORKER_LOST] * 16
    assert [getattr(outcome.error, "signal", None) for outcome in found] == ["SIGSEGV", None, "SIGKILL", "SIGABRT"] * 4
    check_unharmed(pool, watcher)


def test_one_crime_in_ten_in_a_long_unordered_stream(pool: Pool, watcher: Watcher) -> None:
    items = ["exit_at_once" if number % 10 == 3 else number for number in range(200)]
    found = sorted(pool.outcomes(crimes.run, iter(items), ordered=False), key=lambda outcome: outcome.index)
    assert [outcome.kind is Kind.WORKER_LOST for outcome in found] == [item == "exit_at_once" for item in items]
    assert [outcome.value for outcome in found if outcome.ok] == [item * 2 for item in items if item != "exit_at_once"]
    check_unharmed(pool, watcher)


@pytest.mark.quick
def test_map_raises_what_happened_and_the_pool_goes_on(pool: Pool, watcher: Watcher) -> None:
    with pytest.raises(WorkerLost, match="SIGSEGV"):
        pool.map(crimes.run, [1, 2, "segfault", 4])
    check_unharmed(pool, watcher)
    assert pool.map(crimes.run, [1, "segfault", 3], on_error="skip") == [2, 6]


def test_a_submitted_call_names_the_function(pool: Pool, watcher: Watcher) -> None:
    futures = [pool.submit(crimes.run, item) for item in (1, "exit_at_once", 3)]
    assert (futures[0].result(), futures[2].result()) == (2, 6)
    error = futures[1].exception()
    assert isinstance(error, WorkerLost)
    assert error.exitcode == 3
    assert error.index is None
    assert "run(" in str(error)
    check_unharmed(pool, watcher)


def test_lost_workers_may_be_left_out_of_retries(pool: Pool) -> None:
    retry = Retry(3, on_worker_lost=False, wait_s=0)
    (outcome,) = pool.outcomes(crimes.run, ["exit_at_once"], retries=retry)
    assert outcome.attempts == 1
    retry = Retry(3, on=KeyError, wait_s=0)
    (outcome,) = pool.outcomes(crimes.run, ["exit_at_once"], retries=retry)
    assert outcome.attempts == 4


# --- deaths outside of tasks ----------------------------------------------------------------------


def pids_of(watcher: Watcher) -> list[int]:
    return [event.pid for event in watcher.of(events.WorkerStarted)]


def wait_for_workers(watcher: Watcher, started: int) -> None:
    watcher.wait_for(events.WorkerStarted, started)


@pytest.mark.parametrize("method", ["template", "fork", "spawn"])
@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
def test_workers_that_die_while_idle_are_replaced(watcher: Watcher, method: str) -> None:
    with Pool(2, start_method=method, observers=[watcher]) as pool:
        wait_for_workers(watcher, 2)
        first = pids_of(watcher)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        wait_for_workers(watcher, 4)
        check_unharmed(pool, watcher)
        assert not set(pids_of(watcher)[2:]) & set(first)
        assert pool.statistics().workers_lost == 0


def test_a_worker_that_dies_just_as_it_gets_work(watcher: Watcher) -> None:
    """An item that no worker had begun is nobody's loss."""
    with Pool(1, observers=[watcher]) as pool:
        for number in range(10):
            wait_for_workers(watcher, number + 1)
            os.kill(pids_of(watcher)[-1], signal.SIGKILL)
            found = list(pool.outcomes(crimes.run, range(5)))
            assert [outcome.value for outcome in found] == [0, 2, 4, 6, 8]
        assert pool.statistics().workers_lost == 0


@pytest.mark.parametrize("timeout", [None, TIMEOUT_S])
def test_a_worker_that_is_stopped_while_idle(
    watcher: Watcher, timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was given and does not begin is run by another."""
    monkeypatch.setattr("allcores.scheduler.timeouts.START_NS", 300_000_000)
    with Pool(1, limits=QUICK, observers=[watcher]) as pool:
        wait_for_workers(watcher, 1)
        os.kill(pids_of(watcher)[0], signal.SIGSTOP)
        assert pool.map(crimes.run, [1, 2], timeout=timeout) == [2, 4]


def test_a_worker_that_is_killed_from_outside_while_it_is_being_ended(watcher: Watcher, tmp_path: Path) -> None:
    """It ignores SIGTERM; before its SIGKILL is due, somebody else's arrives."""
    patient = Limits(grace_s=0, terminate_s=30)
    with Bell(tmp_path / "bell") as bell, Pool(1, limits=patient, observers=[watcher]) as pool:
        future = pool.submit(crimes.run, ("ring_and_ignore", bell.path))
        (pid,) = bell.pids()
        future.cancel()
        os.kill(pid, signal.SIGKILL)
        wait_for_workers(watcher, 2)
        assert pool.map(crimes.run, [1]) == [2]


@pytest.mark.parametrize("chunk", [None, 11])
@pytest.mark.parametrize("method", ["template", "spawn"])
def test_a_task_that_kills_the_template(watcher: Watcher, tmp_path: Path, method: str, chunk: int | None) -> None:
    """A new template and new workers take over; work that was under way runs again."""
    with Pool(2, start_method=method, limits=QUICK, observers=[watcher]) as pool:
        items = [1, 2, 3, ("kill_its_parent_once", str(tmp_path / "done")), 4, 5]
        assert pool.map(crimes.run, items, chunk=chunk) == [2, 4, 6, "done", 8, 10]
        check_unharmed(pool, watcher)


def test_a_task_that_always_kills_the_template_is_given_up(watcher: Watcher) -> None:
    with Pool(2, limits=QUICK, observers=[watcher]) as pool:
        found = list(pool.outcomes(crimes.run, [1, 2, "kill_its_parent", 4, 5]))
        assert [outcome.kind for outcome in found] == [Kind.OK, Kind.OK, Kind.WORKER_LOST, Kind.OK, Kind.OK]
        assert "template" in str(found[2].error)
        check_unharmed(pool, watcher)


def test_an_idle_pool_whose_template_is_killed(watcher: Watcher) -> None:
    with Pool(2, observers=[watcher]) as pool:
        wait_for_workers(watcher, 2)
        (template,) = pool.map(crimes.run, ["look_for_parent"])
        os.kill(template, signal.SIGKILL)
        wait_for_workers(watcher, 4)
        check_unharmed(pool, watcher)


def test_crimes_from_many_threads(pool: Pool, watcher: Watcher) -> None:
    """Each thread gets its own answers while workers die under all of them."""

    def work(name: int) -> None:
        items: list[Any] = list(range(name * 100, name * 100 + 30))
        items[15] = "exit_at_once"
        found = list(pool.outcomes(crimes.run, items))
        results[name] = [outcome.value for outcome in found] == [
            None if item == "exit_at_once" else item * 2 for item in items
        ] and found[15].kind is Kind.WORKER_LOST

    results: dict[int, bool] = {}
    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(6), True)
    check_unharmed(pool, watcher)
