"""The leak check: a process, thread, descriptor or shared memory block that outlives its test fails it.

Processes are found as descendants, and by two marks that descendants inherit, so that an orphan whose parent died
is found, too: one in the environment, for those that were executed, and one in memory, for those that were forked.
Other processes of the machine may come and go meanwhile, also those of other runs of this suite (pytest-xdist has
several), which have marks of their own. Without /proc (macOS, Windows) only threads and children of multiprocessing
are checked.

The names in this file are for the checker; tests that wait for processes have their own tools.
"""

from __future__ import annotations

import compileall
import contextlib
import ctypes
import gc
import mmap
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import none
from tests import lock_order
from tests.installed import absent, installed
from tests.memory_folder import PREFIX, MemoryFolder, has_room
from tests.process.warm import JOBS, Interpreter

from allcores.backends.processes import templates
from allcores.system.portable import PORTABLE

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
PATIENCE_S = 60.0

MARK = "ALLCORES_TEST_RUN"
os.environ[MARK] = uuid.uuid4().hex
_mark = f"{MARK}={os.environ[MARK]}"


def _mark_memory() -> mmap.mmap | None:
    """A page with a name, mapped here and in all that is forked from here, until it executes another program."""
    if not hasattr(os, "memfd_create"):
        return None
    descriptor = os.memfd_create(os.environ[MARK])
    try:
        os.ftruncate(descriptor, mmap.PAGESIZE)
        return mmap.mmap(descriptor, mmap.PAGESIZE)
    finally:
        os.close(descriptor)


_page = _mark_memory()

#: for what tests write, unless TMPDIR says where; processes of `-n` have that of the one that started them
_memory_folder = MemoryFolder() if "TMPDIR" not in os.environ and has_room() else None
if _memory_folder is not None:
    os.environ["TMPDIR"] = tempfile.tempdir = str(_memory_folder.path)

# What tests and the programs that they start keep for a user (journals of runs, a browser's settings and caches) is
# not kept among that of the user who runs them.
_home = tempfile.mkdtemp(prefix="allcores-tests-home-")
os.environ["HOME"] = _home
os.environ["ALLCORES_HOME"] = os.path.join(_home, "allcores")
for _name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
    os.environ.pop(_name, None)

# A shell that starts us in the background has SIGINT ignored, and programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests start some thousand interpreters: each would compile all that it imports of us, half a second's work.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
if "PYTEST_XDIST_WORKER" not in os.environ:
    for folder in ("src", "tests"):
        compileall.compile_dir(Path(__file__).parents[1] / folder, quiet=2)


#: folders whose conftest.py needs the extra `jobs`: no hook is asked about an error of theirs
collect_ignore = [] if installed("sqlalchemy", "pydantic", "cronsim") else ["unit/jobs", "process/jobs"]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """With some extras alone, modules that need others are left out."""
    report = yield
    call = getattr(report, "call", None)
    if report.failed and call is not None and call.excinfo is not None:
        library = absent(call.excinfo.value)
        if library is not None:
            report.outcome = "skipped"
            report.longrepr = (str(collector.path), 0, f"Skipped: {library} is not installed")
            report.result = []
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep the paths of folders in memory short: the name of a socket has a hundred letters at most."""
    if _memory_folder is not None and config.option.basetemp is None:
        config.option.basetemp = str(_memory_folder.path / "p")


def pytest_unconfigure() -> None:
    """Removes the tests' home. A browser may still write to it, hence errors are ignored."""
    shutil.rmtree(_home, ignore_errors=True)
    if _memory_folder is not None:
        _memory_folder.remove()


lock_order.install()

# Nearly all modules of tests import these, which takes each worker that is to call a function of theirs 0.15 s: most of
# the processor time of a test with a pool. Programs that tests start, and fresh interpreters, have what anybody has.
# Nothing of multiprocessing or NumPy: workers do something more once that is imported, and tests ask for it.
templates.imported = ("pytest", "asyncio")

_passed_key = pytest.StashKey[bool]()


@dataclass(frozen=True)
class Inventory:
    """What this test run holds at one moment.

    pids: all processes of the machine, as /proc names them.
    processes: descendants of this process and orphans of theirs that are new, as (pid, start time): pids are reused.
    threads: Python threads of this process.
    descriptors: what the open descriptors point at, with how many do; pipes and sockets are told by inode.
    shared_blocks: names in /dev/shm.
    """

    pids: frozenset[str]
    processes: frozenset[tuple[int, int]]
    threads: frozenset[threading.Thread]
    descriptors: Counter[str]
    shared_blocks: frozenset[str]

    @classmethod
    def take(cls, since: Inventory | None = None) -> Inventory:
        """since: processes that were there then are not looked at, which would take longer than most tests."""
        pids = frozenset(name for name in _listdir("/proc") if name.isdigit())
        return cls(
            pids=pids,
            processes=frozenset(_processes(pids - since.pids if since else frozenset())),
            threads=frozenset(thread for thread in threading.enumerate() if not _is_of_pytest(thread)),
            descriptors=Counter(_descriptors()),
            shared_blocks=frozenset(name for name in _listdir("/dev/shm") if not _OF_PEERS.search(name)),
        )

    def more_than(self, before: Inventory, blocks: frozenset[str] | None = None) -> Inventory:
        """blocks: those of shared memory that may be ours; others of the machine make and remove theirs meanwhile."""
        blocks = self.shared_blocks - before.shared_blocks if blocks is None else self.shared_blocks & blocks
        return Inventory(
            frozenset(),
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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of tests/unit as quick, before `-m` chooses."""
    for item in items:
        if item.path.parent.name == "unit" and not item.get_closest_marker("slow"):
            item.add_marker("quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m quick`: import no module that has no quick test, which takes half of the time of that."""
    if config.option.markexpr != "quick" or collection_path.suffix != ".py":
        return None
    folders = collection_path.relative_to(config.rootpath).parts[:-1]
    if folders[:2] == ("tests", "unit"):
        return None if len(folders) == 2 else True
    if folders[:1] != ("tests",) or folders[:2] == ("tests", "contract"):
        return None  # contract/backends/support.py says which are quick
    return None if "mark.quick" in collection_path.read_text(encoding="utf-8") else True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`: tests wait for each other's processes much of the time, so more than there are cores.

    Not so the quick ones; and each process more takes seconds to collect all tests.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores if config.option.markexpr == "quick" else 2 * cores)


@pytest.fixture(scope="session")
def warm() -> Iterator[Interpreter]:
    """For programs that need no fresh interpreter of their own: see there."""
    with contextlib.closing(Interpreter()) as interpreter:
        yield interpreter


@pytest.fixture(scope="session")
def warm_jobs() -> Iterator[Interpreter]:
    """For commands of jobs, whose libraries take most of a second to import."""
    with contextlib.closing(Interpreter(JOBS)) as interpreter:
        yield interpreter


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves something behind; a test that failed anyway is not accused twice."""
    if request.node.get_closest_marker("leaks_allowed"):
        yield
        _close_shared_pool()
        return
    before, handler = Inventory.take(), signal.getsignal(signal.SIGINT)
    yield
    _close_shared_pool()
    handler_now = signal.getsignal(signal.SIGINT)
    if handler_now != handler:
        # Another test would wait for its Ctrl-C in vain.
        signal.signal(signal.SIGINT, handler)
        if request.node.stash.get(_passed_key, True):
            pytest.fail(f"left behind: the handler of SIGINT {handler_now!r}", pytrace=False)
    left = _wait_until_gone(before, of_a_client=request.node.get_closest_marker("cluster_client") is not None)
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


@given(none())
def _first_property(_: None) -> None:
    """Nothing."""


#: some builds of libffi keep their own file open from the first use of it on: that is nothing that a test has left
ctypes.c_int(0)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules of tests and their items all stay: the collector would go over them again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """What was imported stays: the collector need not look at it time and again."""
    # Its first property makes Hypothesis look for who refers to its random numbers, which what is frozen hides.
    _first_property()
    _collect()


def _collect() -> None:
    """Collect garbage, quickly the next time.

    What tests import stays as well, and with a few large libraries a collection takes a second: so what is left after
    one is not looked at again. Of that, what becomes garbage later is found by `_collect_all`.
    """
    gc.collect()
    gc.freeze()


def _collect_all() -> None:
    gc.unfreeze()
    _collect()


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
    shortcuts = sys.modules.get("allcores.pool.default_pool")
    shutdown = getattr(shortcuts, "shutdown_shared", None)
    if shutdown is not None:
        shutdown()


def _wait_until_gone(before: Inventory, *, of_a_client: bool = False) -> Inventory:
    """What is still there when patience ends; nearly always nothing, at once."""
    until = monotonic() + PATIENCE_S
    pause = threading.Event()
    pause_s = 0.002
    # each once, and only when something is left that does not end by itself: they take long
    collections = [_collect, _collect_all]
    blocks: frozenset[str] | None = None
    while left := _but_of_a_client(Inventory.take(before).more_than(before, blocks), of_a_client):
        blocks = left.shared_blocks
        first = len(collections) == 2
        if collections and (pause_s > (0.02 if first else 0.09) or (first and not left.processes)):
            collections.pop(0)()
        elif monotonic() > until:
            return left
        else:
            pause.wait(pause_s)
            pause_s = min(0.1, pause_s * 1.5)
    return left


def _but_of_a_client(left: Inventory, of_a_client: bool) -> Inventory:
    """The same without what a client of a cluster, which several tests use, opens when it needs it."""
    if not of_a_client:
        return left
    return replace(
        left,
        threads=frozenset(each for each in left.threads if not each.name.startswith(("Dask-", "IO loop"))),
        descriptors=Counter({name: count for name, count in left.descriptors.items() if "socket:" not in name}),
    )


# --- what is there --------------------------------------------------------------------------------


def _processes(pids: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Which of `pids` are ours."""
    me = os.getpid()
    if not os.path.exists(f"/proc/{me}"):
        yield from ((child.pid or 0, 0) for child in multiprocessing.active_children())
        return
    # The resource tracker and fork server of the standard library live as long as this process, as our template does.
    kept = _fields_of_multiprocessing("_pid", "_forkserver_pid") | _of_the_template("pid")
    for pid in map(int, pids):
        if pid not in kept and (stat := _stat(pid)) and _is_ours(pid):
            yield pid, stat.started


def _is_ours(pid: int) -> bool:
    """True if a process descends from this one, or did when its parent still lived."""
    return _descends_from(os.getpid(), pid) or _is_marked(pid)


def _descends_from(ancestor: int, pid: int) -> bool:
    for _ in range(50):  # parents may be reused numbers by now: do not go in circles
        stat = _stat(pid)
        if stat is None:
            return False
        pid = stat.parent
        if pid == ancestor:
            return True
    return False


def _is_marked(pid: int) -> bool:
    if _mark.encode() in _environment(pid).split(b"\0"):
        return True
    # /proc shows the environment as of the last exec: what was forked has that of this process, and its page.
    name = f"/memfd:{os.environ[MARK]} ".encode()
    return _read(f"/proc/{pid}/cmdline") == _read("/proc/self/cmdline") and name in _read(f"/proc/{pid}/maps")


def _environment(pid: int) -> bytes:
    """As of the last exec of a process. One that is in the middle of it has none for a moment, nor a command line."""
    until = monotonic() + 1.0
    pause = threading.Event()
    while True:
        found = _read(f"/proc/{pid}/environ")
        if found or _read(f"/proc/{pid}/cmdline") or monotonic() > until:
            return found
        stat = _stat(pid)
        if stat is None or stat.state == "Z" or _KERNEL in (pid, stat.parent):
            return found
        pause.wait(0.001)


#: the parent of the kernel's threads, which have neither for good
_KERNEL = 2


def _descriptors() -> Iterator[str]:
    kept = _fields_of_multiprocessing("_fd", "_forkserver_alive_fd") | _of_the_template("fileno")
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


def _of_the_template(what: str) -> set[int]:
    """Pid or descriptor of the one template that all pools of this process have in common; no other may be left.

    On the portable path each pool has its own: those of pools that are open.
    """
    module = sys.modules.get("allcores.backends.processes.templates")
    if module is None:
        return set()
    found = module.in_use() if PORTABLE else [template for template in (module.current(),) if template is not None]
    found = [template for template in found if _descends_from(os.getpid(), template.pid)]
    return {template.pid if what == "pid" else template.fileno() for template in found}


#: names in the whole machine's /dev/shm that others make: a benchmark may run meanwhile, the test of this, or a run of
#: these tests
_OF_PEERS = re.compile(f"loky|joblib|mpire|plasma|ray|leak-check|{PREFIX}")


def _is_of_pytest(thread: threading.Thread) -> bool:
    return thread.name.startswith("pytest_timeout")


def _is_used_by_others(path: str) -> bool:
    """True if a process that is not part of this test run has `path` open or mapped.

    Told by the file, not by its name: the C library makes a semaphore under another name, maps it, and renames it.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return True  # it is gone
    # A number is given to another file only when this one is gone, which has another time then.
    key = (found.st_dev, found.st_ino, found.st_ctime_ns)
    if key in _of_others:
        return True
    names = [name for name in _listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    # Whoever had one before is likely to have this one. What is quick to see is asked first.
    for name in sorted(names, key=lambda name: name not in _others):
        if _has(name, found) and not _is_ours(int(name)):
            _of_others.add(key)
            _others.add(name)
            return True
    return False


#: blocks that others were seen to use, which do not become ours, and the processes that did
_of_others: set[tuple[int, int, int]] = set()
_others: set[str] = set()


def _has(pid: str, file: os.stat_result) -> bool:
    """True if a process has a file mapped or open."""
    inode = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x} {file.st_ino} ".encode()
    if inode in _read(f"/proc/{pid}/maps"):
        return True
    for descriptor in _listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{descriptor}"), file):
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
