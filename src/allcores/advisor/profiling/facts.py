"""What a sample can know of the values in a frame without running any of the program's code.

Loaded by path beside the sampler, in a process that may have no allcores. Only exact types of the interpreter, NumPy
and pandas are asked for their lengths: no `__len__`, `__reduce__` or property of the program's own is called, nothing
is pickled, nothing is kept.
"""

from __future__ import annotations

import sys
from itertools import islice
from types import FrameType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OPTIMIZED, _VARARGS = 0x1, 0x4
#: a function that uses one of these may hold the dictionary that a look at its names would change
_OBSERVERS = frozenset({"locals", "vars", "dir", "eval", "exec", "f_locals", "_getframe"})
#: modules of types whose objects are not looked into
_LIBRARIES = frozenset({"builtins", "numpy", "pandas", "functools", "types", "_thread", "threading"})
_PLAIN = frozenset({int, float, bool, complex, type(None)})
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset, range, str, bytes, bytearray})
#: types that do not pickle, by module and name
UNPICKLABLE = frozenset(
    {
        "_thread.lock", "_thread.RLock", "_io.TextIOWrapper", "_io.BufferedReader", "_io.BufferedWriter",
        "_io.FileIO", "builtins.generator", "builtins.module", "builtins.memoryview", "builtins.frame",
        "builtins.coroutine", "mmap.mmap", "sqlite3.Connection", "sqlite3.Cursor", "_socket.socket", "socket.socket",
        "_csv.reader", "_csv.writer", "select.epoll", "threading.Thread", "builtins.async_generator", "re.Match",
        "builtins.dict_keys", "builtins.dict_values", "builtins.dict_items", "builtins.traceback", "_io.BufferedRandom",
        "concurrent.futures._base.Future", "concurrent.futures.thread.ThreadPoolExecutor", "subprocess.Popen",
        "concurrent.futures.process.ProcessPoolExecutor", "multiprocessing.pool.Pool", "_asyncio.Future",
        "_asyncio.Task", "sqlite3.Row", "_queue.SimpleQueue", "queue.Queue", "_hashlib.HASH", "zlib.Compress",
        "zlib.Decompress", "ssl.SSLContext", "ssl.SSLSocket", "pyexpat.xmlparser", "tempfile._TemporaryFileWrapper",
        "zipfile.ZipFile", "tarfile.TarFile", "threading.Event", "threading.Condition", "threading.Semaphore",
        "lxml.etree._Element", "lxml.etree._ElementTree", "posix.ScandirIterator",
    }
)  # fmt: skip


def values_of(frame: FrameType, most: int) -> dict[str, tuple[object, ...]]:
    """What is known of the names a frame reads: type and length, or value; for containers an item as well.

    Args:
        frame: A frame that does not run now: the caller has the GIL.
        most: Number of names at most.
    """
    code = frame.f_code
    found: dict[str, tuple[object, ...]] = {}
    if code.co_flags & _OPTIMIZED and not _is_observed(frame):
        names = frame.f_locals
        for name in list(code.co_varnames + code.co_cellvars + code.co_freevars)[:most]:
            if name in names:
                _add(found, name, names[name])
        if sys.version_info < (3, 13) and names is not frame.f_globals:
            names.clear()  # a copy, which would keep values alive
        del names
    for name in code.co_names[: 4 * most]:
        if name in frame.f_globals and name not in found and len(found) < most:
            value = frame.f_globals[name]
            kind = type(value)
            plain = kind in _CONTAINERS or kind is int or _library(value) in ("numpy", "pandas")
            plain = plain or _library(value) == "__main__"
            if plain or (kind is not ModuleType and _name_of(kind) in UNPICKLABLE):
                _add(found, name, value)
    return found


def _is_observed(frame: FrameType) -> bool:
    """Whether some code of this thread may hold the dictionary of a frame's names, which a look would change."""
    if sys.version_info >= (3, 13):
        return False  # there the names of a frame are no copy
    if not _OBSERVERS.isdisjoint(frame.f_code.co_names):
        return True
    above: list[FrameType] = []
    top: FrameType | None = sys._current_frames().get(_thread_of(frame))
    while top is not None and top is not frame:
        if not _OBSERVERS.isdisjoint(top.f_code.co_names):
            return True
        above.append(top)
        top = top.f_back
    return top is None or _is_traced(frame, above)


def _is_traced(frame: FrameType, above: list[FrameType]) -> bool:
    """Whether a trace or profile function is being called for a frame, whose names are what that dictionary holds then.

    Args:
        frame: The frame.
        above: Those that it has called, the innermost first.
    """
    if frame.f_trace is not None:
        return True
    if not above or not (above[-1].f_code.co_argcount in (3, 4) or above[-1].f_code.co_flags & _VARARGS):
        return False  # such a function is called with a frame, an event and its argument
    names = above[-1].f_locals
    found = False
    for each in names.values():
        found = found or each is frame or (type(each) is tuple and any(one is frame for one in each))
    if found or not _is_traced(above[-1], above[:-1]):
        names.clear()
    return found


def _thread_of(frame: FrameType) -> int:
    for ident, top in sys._current_frames().items():
        each: FrameType | None = top
        while each is not None:
            if each is frame:
                return ident
            each = each.f_back
    return 0


def _add(found: dict[str, tuple[object, ...]], name: str, value: object) -> None:
    try:
        fact = fact_of(value)
    except Exception:
        return  # of a type whose name or module is made up as it is asked for, say: the samples go on without
    if fact is not None:
        found[name] = fact
    kind = type(value)
    if type.__dict__["__dictoffset__"].__get__(kind) and _library(value) not in _LIBRARIES:
        try:
            own = object.__getattribute__(value, "__dict__")
        except Exception:
            return
        says_itself = _says_how_it_pickles(kind)
        for key, each in list(own.items())[:20] if type(own) is dict else ():
            if type(key) is not str:
                continue
            plain = name == "self" and type(each) in _CONTAINERS
            if plain or (not says_itself and _name_of(type(each)) in UNPICKLABLE):
                inner = fact_of(each)
                if inner is not None:
                    found[f"{name}.{key}"] = inner


def _says_how_it_pickles(kind: type) -> bool:
    """Whether a class says itself what is pickled of its objects."""
    return any(
        name in type.__dict__["__dict__"].__get__(each)
        for each in type.__dict__["__mro__"].__get__(kind)
        if each is not object
        for name in ("__getstate__", "__reduce__", "__reduce_ex__")
    )


def fact_of(value: Any) -> tuple[object, ...] | None:
    """(type, length or value, item): an item is (type, bytes, whether it pickles), or None."""
    kind = type(value)
    name = kind.__name__
    if kind is int or kind is bool:
        return (name, value, None) if -(1 << 62) < value < 1 << 62 else None
    if kind is list or kind is tuple:
        return (name, len(value), described(value[len(value) // 2]) if value else None)
    if kind is dict:
        return (name, len(value), described(next(iter(value.items()))) if value else None)
    if kind is set or kind is frozenset:
        return (name, len(value), described(next(iter(value))) if value else None)
    if kind is range:
        return (name, len(value), ("int", 9, "yes"))
    if kind is str or kind is bytes or kind is bytearray:
        return (name, len(value), None)
    library = _library(value)
    if library == "numpy" and name == "ndarray" and value.shape:
        return (name, value.shape[0], ("ndarray", value.nbytes // max(1, value.shape[0]), "yes"))
    if library == "pandas" and name in ("DataFrame", "Series"):
        return (name, len(value), (name, 0, "yes"))
    if kind.__module__ == "builtins":
        ahead = value.__length_hint__() if name.endswith("iterator") and hasattr(kind, "__length_hint__") else -1
        return (name, ahead, None)
    return (f"{kind.__module__}.{name}", -1, None)


def described(value: Any) -> tuple[str, int, str]:
    """(type, bytes when pickled, about, and "yes", "no" or "unknown": whether it pickles)."""
    size, verdict = _measure(value, 64)
    kind = type(value)
    return (kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}", size, verdict)


def _measure(value: Any, budget: int) -> tuple[int, str]:
    kind = type(value)
    if kind in _PLAIN:
        return 9, "yes"
    if kind is str or kind is bytes or kind is bytearray:
        return len(value) + 5, "yes"
    if kind is range:
        return 40, "yes"
    if kind in (list, tuple, dict, set, frozenset):
        members = list(islice(value.items() if kind is dict else value, budget))
        verdict, total = "yes", 0
        for each in members:
            size, one = _measure(each, max(2, budget // 8)) if budget > 1 else (9, "unknown")
            total += size
            verdict = "no" if "no" in (one, verdict) else "unknown" if "unknown" in (one, verdict) else "yes"
        return 5 + total * len(value) // max(1, len(members)), verdict
    if kind.__module__ == "numpy":
        return int(getattr(value, "nbytes", 8)) + 120, "yes"
    return 100, "no" if f"{kind.__module__}.{kind.__name__}" in UNPICKLABLE else "unknown"


def _name_of(kind: type) -> str:
    return f"{type.__getattribute__(kind, '__module__')}.{type.__getattribute__(kind, '__name__')}"


def _library(value: object) -> str:
    module = type.__getattribute__(type(value), "__module__")
    return module.partition(".")[0] if type(module) is str else ""
