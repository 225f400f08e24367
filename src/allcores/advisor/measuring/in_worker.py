"""What runs in a worker for the advisor: the first calls of a function, watched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Any

from allcores.advisor.measuring.later import later
from allcores.advisor.measuring.loops import FAILURES
from allcores.system import procfs
from allcores.transport import pickling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class FirstCalls(TypedDict):
        """What the first calls showed.

        first_s, second_s: Seconds of the calls; the second is None without one, or if it raised.
        task_s: Seconds of all that was done here.
        error: What the first raised, as text; None.
        later: It returned what computes later, as the end of a sentence; None.
        differs: Whether the results were not the same; None without a second call.
        changes: It changed the item.
        effects: What was done outside.
        sleeps, opens_pool: What was seen.
        bytes_out, dumps_s, loads_s: Of the pickled result; problem: why it cannot be pickled.
        own_bytes: What this process had to itself at its largest.
        """

        first_s: float
        second_s: float | None
        task_s: float
        error: str | None
        later: str | None
        differs: bool | None
        changes: bool
        effects: list[str]
        sleeps: bool
        opens_pool: bool
        bytes_out: int
        dumps_s: float
        loads_s: float
        problem: str | None
        own_bytes: int


#: bytes of an item that are kept to be called with once more
MOST_KEPT = 4 << 20
#: effects that are told
MOST_EFFECTS = 8
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_APPEND


class _Watch:
    """Notes what the audit events of the interpreter tell while it is on. It stays in this worker, which is ours."""

    def __init__(self) -> None:
        self.on = False
        self.sleeps = False
        self.opens_pool = False
        self.effects: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "time.sleep":
            self.sleeps = True
        elif event == "open":
            path, mode, flags = (*arguments, None, None)[:3]
            written = isinstance(flags, int) and flags & _WRITES
            if (written or (isinstance(mode, str) and set(mode) & set("wax+"))) and isinstance(path, str | bytes):
                self.note(f"writes to {os.fsdecode(path)}")
        elif event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "os.forkpty"):
            self.opens_pool = True
            self.note("starts a process")
        elif event == "socket.connect":
            self.note("connects to another program")
        elif event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"):
            self.note(f"changes files ({event.partition('.')[2]})")

    def note(self, effect: str) -> None:
        """Keep an effect that is not known yet."""
        if effect not in self.effects and len(self.effects) < MOST_EFFECTS and "/dev/null" not in effect:
            self.effects.append(effect)


def first_calls(fn: Callable[[Any], Any], item: Any, second: bool) -> FirstCalls:
    """Call `fn` for the first time in this process, and a second time on the same item if that is allowed."""
    begin = perf_counter()
    before = state_of(item)
    watch = _Watch()
    result, error, first_s = _watched(watch, fn, item)
    computes_later = later(result)
    second = second and computes_later is None
    changes = before is not None and state_of(item) != before
    if changes:
        # Else it would be called with what it has made of it; of a large one nothing is kept, as that is memory.
        item, second = (pickle.loads(before), second) if isinstance(before, bytes) else (item, False)
    second_s: float | None = None
    differs: bool | None = None
    found = list(watch.effects)
    if second and error is None:
        other, again, second_s = _watched(watch, fn, item)
        if again is not None:
            second_s = None
        else:
            differs = not _same(result, other)
    bytes_out, dumps_s, loads_s, problem = _way(result) if error is None else (0, 0.0, 0.0, None)
    return {
        "first_s": first_s,
        "second_s": second_s,
        "error": error,
        "later": computes_later,
        "differs": differs,
        "changes": changes,
        "effects": found,
        "sleeps": watch.sleeps,
        "opens_pool": watch.opens_pool,
        "bytes_out": bytes_out,
        "dumps_s": dumps_s,
        "loads_s": loads_s,
        "problem": problem,
        "own_bytes": procfs.peak_private_bytes(os.getpid()) or 0,
        "task_s": perf_counter() - begin,
    }


def state_of(item: Any) -> bytes | tuple[bytes, ...] | None:
    """What tells whether an item was changed: its pickle, or digests of that of a large one.

    None of one that cannot be changed, or that does not tell.
    """
    if item is None or isinstance(item, str | bytes | int | float | complex):
        return None
    buffers: list[pickle.PickleBuffer] = []

    def collect(buffer: pickle.PickleBuffer) -> bool:
        buffers.append(buffer)
        return False

    try:
        data = pickling.dumps(item, collect, buffers.clear)
        if not buffers and len(data) <= MOST_KEPT:
            return data
        parts = [memoryview(data), *(buffer.raw() for buffer in buffers)]
        if sum(map(len, parts)) <= MOST_KEPT:
            return pickling.dumps(item)
        return tuple(hashlib.blake2b(part, digest_size=16).digest() for part in parts)
    except Exception:
        return None


def _watched(watch: _Watch, fn: Callable[[Any], Any], item: Any) -> tuple[Any, str | None, float]:
    start = perf_counter()
    watch.on = True
    try:
        return fn(item), None, perf_counter() - start
    except FAILURES as error:
        return None, f"{type(error).__name__}: {error}", perf_counter() - start
    finally:
        watch.on = False


def _same(one: Any, other: Any) -> bool:
    """Whether two results are equal; what cannot be compared is compared as bytes."""
    try:
        if bool(one == other):
            return True
    except Exception:
        pass  # arrays, say, whose comparison is an array
    try:
        return pickle.dumps(one) == pickle.dumps(other)
    except Exception:
        return type(one) is type(other)


def _way(result: Any) -> tuple[int, float, float, str | None]:
    """Bytes of a pickled result, seconds to pickle it and to unpickle it, and what is in the way."""
    try:
        size, dumps_s, loads_s = _pickled(result)
    except Exception as error:
        return 0, 0.0, 0.0, str(pickling.explain_with_path(result, "the result", error))
    # Results travel together: what a call of pickle takes by itself is more than a small one of them does.
    _, dumps_none_s, loads_none_s = _pickled(None)
    return size, max(0.0, dumps_s - dumps_none_s), max(0.0, loads_s - loads_none_s), None


def _pickled(result: Any) -> tuple[int, float, float]:
    """Bytes, and seconds of a call to pickle and one to unpickle it."""
    data = pickling.dumps(result)
    dumps_s = loads_s = float("inf")
    for _ in range(1 if len(data) > 1 << 20 else 3):  # the first has cold caches
        start = thread_time()
        data = pickling.dumps(result)
        dumped = thread_time()
        pickle.loads(data)
        dumps_s, loads_s = min(dumps_s, dumped - start), min(loads_s, thread_time() - dumped)
    return len(data), dumps_s, loads_s


def read(data: bytes) -> float:
    """Unpickle a function, for the modules that are imported with it. Returns the seconds that it took."""
    start = perf_counter()
    pickling.loads(data)
    return perf_counter() - start


def drop(item: Any) -> None:
    """A task that does nothing: what it takes is the way."""


def warm(fn: Callable[[Any], Any], item: Any) -> None:
    """For `preload`: the first call, for what it loads; its result goes to nobody, nor does what it raises."""
    with contextlib.suppress(*FAILURES):
        fn(item)
