"""The sampler: a thread in the profiled process that looks at the other threads, at most 200 times a second.

It is loaded by path in a process that may have no allcores, so it needs nothing but the standard library, and as
little of that as it can: what it imports, the program finds imported. It patches nothing. A sample says where each
thread is (its stack), how much CPU time its own clock has counted since the last one, and how long the sampler had to
wait for the GIL, which says who held it. What was sampled stands in a file in memory shared with nobody (`Store`): it
is complete whenever the process ends, however it ends, and it holds no descriptor open.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would load enum
import _thread
import mmap
import os
import sys
import time
from types import CodeType, FrameType

#: a slot of the table: samples, CPU ns, wall ns, first time, last time it computed, samples by how the GIL was got
#: (when asked for, late, at once), CPU ns meanwhile of threads that run no Python, and ns without a core (main thread)
FIELDS = 10
SLOTS = 2048
TEXT = SLOTS * FIELDS * 8
SIZE = 1 << 20
#: slots 0 and 1 are of the process: samples, the sampler's CPU ns, last time, process CPU ns, start, text bytes, lost,
#: period; ns that the main thread was ready to run and had no core
FIRST_SLOT = 2
#: slots, and bytes of text, for stacks that there is no room for any more: of their frames the outermost are kept
SPARE_SLOTS, SPARE_TEXT, KEPT_FRAMES = 256, 32_768, 4
#: processes of a program that are sampled; a program may start any number, one for each file, say, and each has a file
#: of SIZE in the folder for temporary ones. Of those beyond it `LEFT_OUT` has a byte
MOST_PROCESSES, LEFT_OUT = 512, "left-out"
#: how long a sampler that is told to end may take, before a fork
_END_S = 0.05
#: the sampler's own share of a core; if it takes more it samples less often
_OWN_SHARE = 0.015
_MILLISECOND = 1_000_000
_MAIN_SCHEDSTAT = "/proc/self/schedstat"
#: names in a frame that are looked at, at most
_MOST_NAMES = 40


class Store:
    """A file with a table of counters, changed in place, and a text to which definitions are added.

    Args:
        path: Where; it appears with all its room, so that writing into it cannot fail.

    Raises:
        OSError: If there is no room, or the folder has gone.
    """

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE)
            self._memory = mmap.mmap(descriptor, SIZE)
            _close_copy(descriptor)
        finally:
            os.close(descriptor)
        self.cells = memoryview(self._memory)[:TEXT].cast("q")
        self._end = TEXT

    def define(self, line: str, spare: int = 0) -> bool:
        """Add a line to the text, of which `spare` bytes are left at least; False if it has no room."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._end + len(data) + spare > SIZE:
            return False
        self._memory[self._end : self._end + len(data)] = data
        self._end += len(data)
        self.cells[5] = self._end - TEXT
        return True


def _close_copy(descriptor: int) -> None:
    """Close the descriptor that `mmap` keeps of the file, if it is the next free one: the mapping does not need it.

    A program that closes descriptors it does not know, and opens others, must not meet one of ours.
    """
    wanted = os.fstat(descriptor)
    for each in range(3, descriptor + 16):
        if each != descriptor:
            try:
                found = os.fstat(each)
            except OSError:
                continue
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                os.close(each)


class _Thread:
    """What is known of a thread from the last sample."""

    __slots__ = ("clock", "cpu", "slot")

    def __init__(self, clock: int | None, cpu: int) -> None:
        self.clock = clock
        self.cpu = cpu
        self.slot = 0


class Sampler:
    """Samples the threads of this process into a file.

    Args:
        folder: Where the file is to be, one for each process.
        period_ns: Time between two samples.
        facts: What to ask of the values in a frame; `facts.values_of`.
    """

    def __init__(self, folder: str, period_ns: int, facts: object) -> None:
        self._folder = folder
        self._period = period_ns
        self._facts = facts
        self._main = _thread.get_ident()
        self._started = time.monotonic_ns()
        self._store: Store | None = None
        self._leaked: list[object] = []
        self._codes: dict[int, int] = {}
        self._kept: list[CodeType] = []
        self._user: dict[int, bool] = {}
        self._slots: dict[tuple[object, ...], int] = {}
        self._seen: dict[int, int] = {}
        self._threads: dict[int, _Thread] = {}
        self._wake = _thread.allocate_lock()
        self._gone = _thread.allocate_lock()
        self._native = 0
        self._process = 0
        self._next_look = 0
        #: what the main thread has been without a core so far, ns; None: not looked at yet
        self._no_core: int | None = None
        #: where it was at the last sample, and whether it had next to no core since the one before
        self._main_slot = 0
        self._stood = False

    def run(self) -> None:
        """Start the thread, deaf to signals: those of the process go to the program's threads, as ever."""
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        try:
            self._wake = _thread.allocate_lock()
            self._gone = _thread.allocate_lock()
            self._wake.acquire()
            self._gone.acquire()
            _thread.start_new_thread(self._loop, (self._wake, self._gone))
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)

    def end_thread(self) -> None:
        """End the thread, and wait (50 ms at most) until it is gone: Python 3.12 warns of a fork beside a thread."""
        self._wake.release()
        self._gone.acquire(True, _END_S)
        until = time.monotonic_ns() + int(_END_S * 1e9)
        while self._native and os.path.exists(f"/proc/self/task/{self._native}") and time.monotonic_ns() < until:
            time.sleep(0.0001)

    def forked(self) -> Sampler:
        """A sampler for the child of a fork. This one is kept as it is: its memory is the parent's file."""
        child = Sampler(self._folder, self._period, self._facts)
        child._leaked = [*self._leaked, self._store]
        child._user = self._user
        child._kept = list(self._kept)  # numbers of codes are by address: none may be freed
        return child

    def _loop(self, wake: _thread.LockType, gone: _thread.LockType) -> None:
        try:
            self._native = _thread.get_native_id()
            period = self._period
            due = time.monotonic_ns() + period
            last = time.monotonic_ns()
            self._process = time.process_time_ns() - time.thread_time_ns()
            while True:
                wait = max(0.0, (due - time.monotonic_ns()) / 1e9)
                if wake.acquire(True, wait):
                    break  # told to end
                now = time.monotonic_ns()
                if self._store is None:
                    self._open()
                self._sample(now, now - last, now - due)
                last = now
                period = self._paced(period, now)
                due = max(due + period, time.monotonic_ns() + period // 2)
        except OSError:
            pass  # no room, or the report was made already: this process is not sampled
        except Exception as error:
            if self._store is not None:
                self._store.define(f"e {error!r}")
        finally:
            self._native = self._native if gone.locked() else 0
            gone.release()

    def _open(self) -> None:
        if len(os.listdir(self._folder)) >= MOST_PROCESSES:
            descriptor = os.open(os.path.join(self._folder, LEFT_OUT), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(descriptor, b".")
            os.close(descriptor)
            raise OSError("there are enough")
        self._store = store = Store(os.path.join(self._folder, f"{os.getpid()}-{self._started}.samples"))
        store.cells[4] = self._started
        store.cells[7] = self._period
        store.define(
            f"p {(os.getpid(), os.getppid(), sys.version_info[:2], sys.orig_argv[1:], sys.getswitchinterval())!r}"
        )

    def _paced(self, period: int, now: int) -> int:
        """The time to the next sample: longer if samples are dear (deep stacks, many threads)."""
        assert self._store is not None
        cells = self._store.cells
        own = time.thread_time_ns()
        cells[0] += 1
        cells[1] = own
        cells[2] = now
        cells[3] = time.process_time_ns()
        if cells[0] % 16 == 0:
            wanted = int(own / cells[0] / _OWN_SHARE)
            period = max(self._period, min(wanted, 40 * self._period))
            cells[7] = period
        if now > self._next_look:
            self._next_look = now + 100 * _MILLISECOND
            _read_no_core(cells)
        return period

    def _sample(self, now: int, wall: int, late: int) -> None:
        frames = sys._current_frames()
        own = _thread.get_ident()
        process = time.process_time_ns() - time.thread_time_ns()
        others = max(0, process - self._process)  # what is left of it was used by threads that run no Python
        self._process = process
        main_slot = 0
        for ident, frame in frames.items():
            if ident == own:
                continue
            thread = self._threads.get(ident)
            cpu = self._cpu(ident, thread)
            if thread is None:
                self._threads[ident] = thread = _Thread(None, cpu)
                thread.clock = _clock(ident)
                thread.cpu = cpu = self._cpu(ident, thread)
            used = min(max(0, cpu - thread.cpu), 2 * wall)
            thread.cpu = cpu
            if used > 50_000 or not thread.slot:  # a thread that did nothing is where it was
                thread.slot = self._slot_of(frame, ident == self._main)
            others -= used
            if ident == self._main:
                main_slot = thread.slot
            self._count(thread.slot, now, wall, used, late)
            if ident == self._main:
                # It waits, or is ready to run while others have the cores: the kernel tells, once it has a core again.
                # So that is of the place where it was before.
                stands = used * 2 < wall
                if stands or self._stood:
                    self._count_no_core(self._main_slot or thread.slot)
                self._main_slot, self._stood = thread.slot, stands
        if main_slot and others * 5 > wall:
            assert self._store is not None
            self._store.cells[main_slot * FIELDS + 8] += others
        if len(self._threads) >= len(frames):
            for ident in [each for each in self._threads if each not in frames]:
                del self._threads[ident]
        del frames, frame

    def _count(self, slot: int, now: int, wall: int, used: int, late: int) -> None:
        assert self._store is not None
        cells = self._store.cells
        at = slot * FIELDS
        cells[at] += 1
        cells[at + 1] += used
        cells[at + 2] += wall
        if not cells[at + 3]:
            cells[at + 3] = now - wall
        if used * 5 > wall:
            cells[at + 4] = now  # the last time it computed
            switch = int(sys.getswitchinterval() * 1e9)
            if late > switch + 4 * _MILLISECOND:
                cells[at + 6] += 1  # held by C code, which does not hand it over
            elif late > switch // 2:
                cells[at + 5] += 1  # held by Python code, which hands it over when asked
            else:
                cells[at + 7] += 1  # free at once

    def _count_no_core(self, slot: int) -> None:
        assert self._store is not None
        cells = self._store.cells
        before = self._no_core
        self._no_core = total = _read_no_core(cells)
        if before is not None:
            cells[slot * FIELDS + 9] += max(0, total - before)

    def _cpu(self, ident: int, thread: _Thread | None) -> int:
        """CPU time of a thread by its own clock, in ns."""
        if thread is None or thread.clock is None:
            return 0
        try:
            return time.clock_gettime_ns(thread.clock)
        except OSError:  # another thread got the same identity
            thread.clock = _clock(ident)
            thread.cpu = 0
            thread.slot = 0
            return 0

    def _slot_of(self, frame: FrameType | None, main: bool) -> int:
        """The number of the slot for the stack that ends in `frame`."""
        assert self._store is not None
        key: list[object] = [main]
        fresh: list[CodeType] = []
        inner = False
        while frame is not None:
            code = frame.f_code
            number = self._codes.get(id(code))
            if number is None:
                fresh.append(code)
                number = self._number(code)
            if self._user[id(code)]:
                key.append(number)
                key.append(frame.f_lineno or 0)
                self._look(code, number, frame)
                inner = False
            elif not inner or frame.f_back is None or self._is_user(frame.f_back.f_code):
                key.append(number)  # of a run of library code, where it was entered and where it is
                key.append((frame.f_lineno or 0) if not inner else 0)
                inner = True
            frame = frame.f_back
        found = tuple(key)
        slot = self._slots.get(found) or self._new_slot(found, SPARE_SLOTS, SPARE_TEXT)
        if not slot:
            # Which loops of the program it is in, the outermost frames tell.
            found = (main, *key[1:][-2 * KEPT_FRAMES :])
            slot = self._slots.get(found) or self._new_slot(found, 0, 0)
        if not slot:
            self._store.cells[6] += 1
            return SLOTS - 1
        return slot

    def _new_slot(self, found: tuple[object, ...], spare_slots: int, spare_text: int) -> int:
        """The number of a slot for a stack that has none; 0 without room for it."""
        assert self._store is not None
        slot = len(self._slots) + FIRST_SLOT
        if slot >= SLOTS - 1 - spare_slots or not self._store.define(f"s {slot} {found!r}", spare_text):
            return 0
        self._slots[found] = slot
        return slot

    def _is_user(self, code: CodeType) -> bool:
        known = self._user.get(id(code))
        if known is None:
            self._number(code)
            known = self._user[id(code)]
        return known

    def _number(self, code: CodeType) -> int:
        number = self._codes.get(id(code))
        if number is None:
            self._kept.append(code)
            self._codes[id(code)] = number = len(self._codes) + 1
            self._user[id(code)] = user = _is_of_user(code.co_filename)
            assert self._store is not None
            file = os.path.abspath(code.co_filename) if user else code.co_filename
            name = getattr(code, "co_qualname", code.co_name)
            self._store.define(f"c {number} {(file, code.co_firstlineno, name, user)!r}")
        return number

    def _look(self, code: CodeType, number: int, frame: FrameType) -> None:
        """Now and then, what its names hold: at the first sample of a function, the fourth, the 16th ..., and the next.

        Two looks that follow each other tell how far it came meanwhile.
        """
        seen = self._seen[number] = self._seen.get(number, 0) + 1
        if not _is_power_of_four(seen) and not _is_power_of_four(seen - 1):
            return
        if not callable(self._facts):
            return
        facts = self._facts(frame, _MOST_NAMES)
        if facts:
            assert self._store is not None
            self._store.define(f"f {number} {frame.f_lineno or 0} {time.monotonic_ns()} {facts!r}", SPARE_TEXT)


def _read_no_core(cells: memoryview[int]) -> int:
    """How long the main thread was ready to run and had no core so far, ns; 0 where no kernel tells."""
    try:
        with open(_MAIN_SCHEDSTAT, "rb") as file:
            cells[8] = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return cells[8]


def _is_power_of_four(number: int) -> bool:
    return number > 0 and not number & (number - 1) and number.bit_length() % 2 == 1


def _clock(ident: int) -> int | None:
    """The CPU clock of a thread that is alive: the caller has its frame, and the GIL since then."""
    try:
        return time.pthread_getcpuclockid(ident)
    except (AttributeError, OSError):
        return None


_LIBRARIES = tuple(
    {
        os.path.join(os.path.abspath(each), "")
        for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
        for each in (os.path.join(prefix, "lib"), os.path.join(prefix, "lib64"), os.path.join(prefix, "Lib"))
    }
    | {os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep}
)


def _is_of_user(file: str) -> bool:
    """Whether a file is of the program: no library, and no text that was compiled."""
    if file.startswith("<") or "site-packages" in file or "dist-packages" in file:
        return False
    return not os.path.abspath(file).startswith(_LIBRARIES)


_sampler: Sampler | None = None


def start(settings: str) -> None:
    """Start to sample this process, and those that are forked from it.

    Args:
        settings: Folder of the files and nanoseconds between two samples, with a colon between.
    """
    global _sampler
    folder, _, period = settings.rpartition(":")
    if not os.path.isdir(folder):
        return
    _sampler = Sampler(folder, int(period), _load_facts())
    _sampler.run()
    before = _before_fork if sys.version_info >= (3, 12) else None
    parent = _after_fork if sys.version_info >= (3, 12) else None
    if before and parent:
        os.register_at_fork(before=before, after_in_parent=parent, after_in_child=_in_child)
    else:
        os.register_at_fork(after_in_child=_in_child)


def _load_facts() -> object:
    from importlib.machinery import SourceFileLoader

    name = "allcores_sampler_facts"
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "facts.py")
    code = SourceFileLoader(name, path).get_code(name)
    space: dict[str, object] = {"__name__": name, "__file__": path}
    if code is not None:
        exec(code, space)
    return space.get("values_of")


#: forks that are under way, in any number of threads: the first ends the sampler's thread, the last starts it again
_forking = 0
_fork_lock = _thread.allocate_lock()


def _before_fork() -> None:
    global _forking
    with _fork_lock:
        if not _forking and _sampler is not None:
            _sampler.end_thread()
        _forking += 1


def _after_fork() -> None:
    global _forking
    with _fork_lock:
        _forking -= 1
        if not _forking and _sampler is not None:
            _sampler.run()


def _in_child() -> None:
    global _sampler, _forking, _fork_lock
    _forking, _fork_lock = 0, _thread.allocate_lock()  # a thread that is not here may have had it
    if _sampler is not None:
        _sampler = _sampler.forked()
        _sampler.run()
