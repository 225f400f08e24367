"""The leak check: a process, thread, descriptor or shared memory block that outlives its test fails it.

Processes are found as descendants, and by a mark in their environment, which every descendant inherits, so
that an orphan whose parent died is found, too. Without /proc (macOS, Windows) only threads and children of
multiprocessing are checked.

The names in this file are for the checker; tests that wait for processes have their own tools.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    # The same examples in every run, and no deadlines: a busy machine must not fail a test.
    "allcores",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
# More, and different ones: HYPOTHESIS_PROFILE=search
settings.register_profile("search", parent=settings.get_profile("allcores"), derandomize=False, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "allcores"))

#: seconds that processes, threads and descriptors have to go after the test; more hides slow endings,
#: less fails on a busy machine
PATIENCE_S = 5.0

MARK = "ALLCORES_TEST_RUN"
os.environ[MARK] = uuid.uuid4().hex
_mark = f"{MARK}={os.environ[MARK]}"

# A shell that starts us in the background has SIGINT ignored, and programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_passed_key = pytest.StashKey[bool]()


@dataclass(frozen=True)
class Inventory:
    """What this test run holds at one moment.

    processes: descendants of this process and orphans of theirs, as (pid, start time): pids are reused.
    threads: Python threads of this process.
    descriptors: what the open descriptors point at, with how many do; pipes and sockets are told by inode.
    shared_blocks: names in /dev/shm.
    """

    processes: frozenset[tuple[int, int]]
    threads: frozenset[threading.Thread]
    descriptors: Counter[str]
    shared_blocks: frozenset[str]

    @classmethod
    def take(cls) -> Inventory:
        return cls(
            processes=frozenset(_processes()),
            threads=frozenset(thread for thread in threading.enumerate() if not _is_ours(thread)),
            descriptors=Counter(_descriptors()),
            shared_blocks=frozenset(name for name in _listdir("/dev/shm") if not _OF_PEERS.search(name)),
        )

    def more_than(self, before: Inventory) -> Inventory:
        blocks = self.shared_blocks - before.shared_blocks
        return Inventory(
            self.processes - before.processes,
            self.threads - before.threads,
            self.descriptors - before.descriptors,
            frozenset(name for name in blocks if not _is_used_by_others(f"/dev/shm/{name}")),
        )

    def __bool__(self) -> bool:
        return bool(self.processes or self.threads or self.descriptors or self.shared_blocks)

    def __str__(self) -> str:
        lines = [f"process {pid}: {_describe(pid)}" for pid, _ in sorted(self.processes)]
        lines += [f"thread {thread!r}\n{_stack(thread)}" for thread in self.threads]
        lines += [f"{count} × descriptor of {target}" for target, count in self.descriptors.items()]
        lines += [f"/dev/shm/{name}" for name in self.shared_blocks]
        return "\n".join(lines)


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Runs that tests begin are not kept among the user's own."""
    os.environ["ALLCORES_HOME"] = str(tmp_path_factory.mktemp("allcores-home"))


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves something behind; a test that failed anyway is not accused twice."""
    if request.node.get_closest_marker("leaks_allowed"):
        yield
        _close_shared_pool()
        return
    before = Inventory.take()
    yield
    _close_shared_pool()
    left = _wait_until_gone(before)
    if not left:
        return
    report = f"left behind, {PATIENCE_S:g} s after the test:\n{left}"
    for pid, started in left.processes:
        # They carry the mark of this run, so they are ours to end. One that stays would slow all later tests.
        if _start_time(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if request.node.stash.get(_passed_key, True):
        pytest.fail(report, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remembers whether the test itself passed."""
    report = yield
    if report.when == "call":
        item.stash[_passed_key] = report.passed
    return report


def _close_shared_pool() -> None:
    """Ends the warm pool of the module-level verbs, if a test used them."""
    shortcuts = sys.modules.get("allcores.shortcuts")
    shutdown = getattr(shortcuts, "shutdown_shared", None)
    if shutdown is not None:
        shutdown()


def _wait_until_gone(before: Inventory) -> Inventory:
    """What is still there when patience ends; nearly always nothing, at once."""
    until = monotonic() + PATIENCE_S
    pause = threading.Event()
    pause_s = 0.002
    collected = False
    while left := Inventory.take().more_than(before):
        if not collected:
            gc.collect()  # once, and only when something is left: it takes longer than most tests
            collected = True
        elif monotonic() > until:
            return left
        else:
            pause.wait(pause_s)
            pause_s = min(0.1, pause_s * 1.5)
    return left


# --- what is there --------------------------------------------------------------------------------


def _processes() -> Iterator[tuple[int, int]]:
    me = os.getpid()
    stats = {int(name): stat for name in _listdir("/proc") if name.isdigit() and (stat := _stat(int(name)))}
    if me not in stats:  # no /proc here
        yield from ((child.pid or 0, 0) for child in multiprocessing.active_children())
        return
    # The resource tracker and fork server of the standard library live as long as this process.
    ours = _fields_of_multiprocessing("_pid", "_forkserver_pid") | {me}
    arguments = _read("/proc/self/cmdline")
    for pid, stat in stats.items():
        if pid not in ours and (_descends_from(me, pid, stats) or _is_orphan_of_ours(pid, stats, arguments)):
            yield pid, stat.started


def _descends_from(ancestor: int, pid: int, stats: dict[int, Stat]) -> bool:
    for _ in range(50):  # parents may be reused numbers by now: do not go in circles
        if pid not in stats:
            return False
        pid = stats[pid].parent
        if pid == ancestor:
            return True
    return False


def _is_orphan_of_ours(pid: int, stats: dict[int, Stat], arguments: bytes) -> bool:
    if _is_marked(pid):
        return True
    # A process that was forked, not executed, from this one has its command line but no mark: /proc shows
    # the environment as of the last exec. Somebody else may run the same command: theirs have a parent.
    return (
        stats[pid].parent == 1
        and stats[pid].started > stats[os.getpid()].started
        and _read(f"/proc/{pid}/cmdline") == arguments
    )


def _is_marked(pid: int) -> bool:
    return _mark.encode() in _read(f"/proc/{pid}/environ").split(b"\0")


def _descriptors() -> Iterator[str]:
    kept = _fields_of_multiprocessing("_fd", "_forkserver_alive_fd")
    for name in _listdir("/proc/self/fd"):
        if int(name) in kept:
            continue
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the one that listed the folder
        if not target.startswith("/dev/urandom"):  # opened once by the interpreter, and kept
            yield target


def _fields_of_multiprocessing(*names: str) -> set[int]:
    """The named fields of the standard library's resource tracker and fork server, where they are in use."""
    found = set()
    for module, name in [
        ("multiprocessing.resource_tracker", "_resource_tracker"),
        ("multiprocessing.forkserver", "_forkserver"),
    ]:
        keeper = getattr(sys.modules.get(module), name, None)
        found |= {value for field in names if isinstance(value := getattr(keeper, field, None), int)}
    return found


#: names of blocks in the whole machine's /dev/shm that other pools make: a benchmark may run meanwhile
_OF_PEERS = re.compile("loky|joblib|mpire|plasma|ray")


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith("pytest_timeout")


def _is_used_by_others(path: str) -> bool:
    """True if a process that is not part of this test run has `path` open or mapped."""
    for name in _listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid() or _is_marked(int(name)):
            continue
        if path.encode() in _read(f"/proc/{name}/maps"):
            return True
        for descriptor in _listdir(f"/proc/{name}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{name}/fd/{descriptor}").startswith(path):
                    return True
    return False


# --- reading /proc, where everything may be gone at any moment ------------------------------------


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


class Stat(NamedTuple):
    """Of a process. started: clock ticks since boot."""

    state: str
    parent: int
    started: int


def _stat(pid: int) -> Stat | None:
    """None if there is no such process."""
    # proc(5): the second field is the name in brackets, which may hold spaces and brackets.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return Stat(fields[0].decode(), int(fields[1]), int(fields[19])) if len(fields) > 19 else None


def _start_time(pid: int) -> int | None:
    stat = _stat(pid)
    return stat.started if stat else None


def _describe(pid: int) -> str:
    arguments = _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    state, parent, _ = _stat(pid) or Stat("gone", 0, 0)
    if state == "Z":
        arguments = "a zombie that nobody waited for"
    waiting = _read(f"/proc/{pid}/wchan").decode(errors="replace")
    return f"state {state}, parent {parent}, in {waiting}: {arguments[:200]}"


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)[-6:]) if frame else "  (no stack)"
