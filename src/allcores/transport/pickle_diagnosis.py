"""Finds what will not pickle, and says so in one sentence: where it sits, what it is, the way out.

`pickle` names the type that it stumbled over, not the place. Here the object is taken apart along
the same lines as pickling takes it apart, each part is pickled by itself, and the failing part is
followed downwards until nothing in it fails.

How a path is written: see `object_graph.py`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from allcores.system.clock import NANO, monotonic_ns
from allcores.transport import object_graph
from allcores.transport.object_graph import Part, type_name

#: trial picklings. More finds parts at fault in longer inputs; fewer answers sooner.
MAX_PROBES = 10_000
#: seconds, looked at between trials: one trial of a huge object cannot be interrupted
MAX_S = 2.0
#: steps from the object down to the part at fault. Deeper nesting is reported from there.
MAX_DEPTH = 100
#: an object nested deeper than this, that fails for its depth, is named as a whole
MAX_READABLE_DEPTH = 20
#: parts tried in one go at first, and at most. The failing one among them is found by halving. The
#: groups double in size, so that an input of any length is searched within MAX_PROBES.
GROUP = 1024
MAX_GROUP = 131_072

Dumps = Callable[[Any], bytes]


@dataclass(frozen=True, slots=True)
class Unpicklable:
    """The smallest part of an object that will not pickle.

    Attributes:
        path: Where it sits, in the notation of `object_graph.py`: "items[57].db.conn".
        type_name: Its type's qualified name, without "builtins.": "sqlite3.Connection".
        reason: What pickling raised for it, on one line.
        advice: What to do, a clause without a full stop: "open it in setup= so that each worker has its own".
    """

    path: str
    type_name: str
    reason: str
    advice: str


def find_unpicklable(
    obj: object, name: str, dumps: Dumps, *, max_probes: int = MAX_PROBES, max_s: float = MAX_S
) -> Unpicklable | None:
    """The path to the smallest part of `obj` that `dumps` cannot pickle; None if it pickles.

    If several parts fail, this is the first in the order in which pickling would visit them. Cycles
    are followed once. Nothing is raised, whatever the objects do when they are pickled, save
    KeyboardInterrupt.

    Args:
        name: How the caller calls `obj`; the path starts with it.
        dumps: Turns an object into bytes, or raises. It is called many times.
        max_probes: Trial picklings; once they are used up, the answer is the smallest failing part found so far.
        max_s: Seconds; the same.
    """
    search = _Search(dumps, max_probes, max_s)
    try:
        search.run(obj, name)
    except KeyboardInterrupt:
        raise
    except BaseException:
        # _Spent, or an object that turned on us: what was found so far is the answer.
        pass
    found = search.best
    search.forget()
    if found is None:
        return None
    try:
        return Unpicklable(
            _shortened(found.path),
            type_name(found.obj),
            one_line(found.error),
            found.advice or _advice(found.obj),
        )
    except Exception:
        return Unpicklable(_shortened(found.path), "object", type(found.error).__name__, _OTHERWISE)


def explain(obj: object, name: str, error: BaseException, dumps: Dumps) -> str:
    """One sentence: what cannot be pickled, where it sits, and what to do. Raises nothing.

    Args:
        error: What pickling `obj` raised; told when the search finds nothing, for instance because the object pickles
            now.
    """
    return describe(find_unpicklable(obj, name, dumps), name, error)


def describe(unpicklable: Unpicklable | None, name: str, error: BaseException) -> str:
    """The sentence of `explain`, for a part that was found before."""
    if unpicklable is None:
        return f"{name} cannot be pickled, so it cannot travel between processes: {one_line(error)}."
    an = "an" if unpicklable.type_name.startswith(tuple("aeiouAEIO")) else "a"
    if unpicklable.path == name:
        what = f"it is {an} {unpicklable.type_name}"
    else:
        what = f"{unpicklable.path} is {an} {unpicklable.type_name}"
    module = ""
    if ".<global>." in unpicklable.path:
        module = ". Or put what uses it into a module, which each worker imports, and so has one of its own"
    return f"{name} cannot be pickled: {what} ({unpicklable.reason}); {unpicklable.advice}{module}."


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, shortened; its type's name if it has none."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        lines = []
    if not lines:
        return type(error).__name__
    text = lines[0].rstrip(".")
    if not isinstance(error, Exception):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 200 else f"{text[:197]}..."


def _shortened(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:80]} ... {path[-100:]}"


# --- the search -----------------------------------------------------------------------------------


class _Spent(Exception):
    """The probes or the seconds are used up."""


class _Node:
    """A part that fails, while its own parts are tried.

    pending: its failing parts that were not looked at before, found as they are asked for.
    tangled: a part of it fails, but has been looked at before or led nowhere: so this one may be
        picklable itself, and part of a cycle with what is not.
    """

    def __init__(self, obj: Any, path: str, error: BaseException, *, depth: int) -> None:
        self.obj = obj
        self.path = path
        self.error = error
        self.depth = depth
        self.advice: str | None = None
        self.tangled = False
        self.pending: Iterator[tuple[str, Any, BaseException]] = iter(())


class _Search:
    """Depth first, without recursion: the objects may be nested deeper than Python's stack."""

    def __init__(self, dumps: Dumps, max_probes: int, max_s: float) -> None:
        self.dumps = dumps
        self.probes_left = max_probes
        self.deadline_ns = monotonic_ns() + int(max_s * NANO)
        #: the answer so far; None while nothing has failed
        self.best: _Node | None = None
        #: id to object of every part followed; holding the object keeps its id from being reused
        self.seen: dict[int, Any] = {}
        self.opened: list[_Node] = []

    def forget(self) -> None:
        """Break the cycles of nodes and their iterators, else it all stays until the next collection."""
        for node in self.opened:
            node.pending = iter(())
        self.opened.clear()

    @functools.cached_property
    def by_value(self) -> bool:
        """Whether functions and classes travel as code, not as a name."""

        def sample() -> None: ...

        return self.probe(sample) is None

    def probe(self, obj: Any) -> BaseException | None:
        """One trial that counts. Raises _Spent if none is left."""
        if self.probes_left <= 0 or monotonic_ns() > self.deadline_ns:
            raise _Spent
        self.probes_left -= 1
        return self.error_of(obj)

    def error_of(self, obj: Any) -> BaseException | None:
        """What pickling `obj` raises; None if it pickles."""
        try:
            self.dumps(obj)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return _bare(error)
        return None

    def run(self, obj: Any, name: str) -> None:
        """Leave the part at fault in `best`."""
        error = self.error_of(obj)
        if error is None:
            return
        root = self.best = _Node(obj, name, error, depth=0)
        spent = True
        with contextlib.suppress(_Spent):
            self.best = self.descend(root)
            spent = False
        # Also of what was found until then: Python 3.14 notes each of the steps on such an error, which takes its time.
        if _too_deep(self.best.error):
            if spent or self.best.depth > MAX_READABLE_DEPTH:
                self.best = root
            self.best.advice = _TOO_DEEP

    def descend(self, root: _Node) -> _Node:
        """The part at fault at or below a failing node."""
        stack = [root]
        suspect: _Node | None = None
        self.open(root)
        while stack:
            node = stack[-1]
            child = next(node.pending, None)
            if child is not None:
                label, part, error = child
                node.tangled = True
                stack.append(_Node(part, node.path + label, error, depth=len(stack)))
                self.best = suspect or stack[-1]
                self.open(stack[-1])
                if len(stack) > MAX_DEPTH:
                    return stack[-1]
            elif node.tangled:
                # Everything in it that fails led nowhere. If nothing else is found, then the
                # first of these, which is the deepest, is our best guess.
                suspect = self.best = suspect or node
                stack.pop()
            else:
                return node
        return suspect or root

    def open(self, node: _Node) -> None:
        """Note a failing node and prepare its parts, unless the whole of it is what must not travel."""
        self.seen[id(node.obj)] = node.obj
        self.opened.append(node)
        node.advice = _known(node.obj)
        if node.advice is None:
            node.pending = self.failing_parts(node)

    def failing_parts(self, node: _Node) -> Iterator[tuple[str, Any, BaseException]]:
        parts = object_graph.parts(node.obj, by_value=self.by_value)
        size = GROUP
        while group := list(itertools.islice(parts, size)):
            yield from self.failing_among(node, group)
            size = min(2 * size, MAX_GROUP)

    def failing_among(self, node: _Node, group: list[Part]) -> Iterator[tuple[str, Any, BaseException]]:
        """Those that fail, in order. One trial for a sound group; about log2 per part at fault otherwise."""
        fresh = [part for part in group if id(part[1]) not in self.seen]
        if len(fresh) < len(group):
            node.tangled = True
        if not fresh:
            return
        if len(fresh) > 1:
            if self.probe([value for _, value in fresh]) is not None:
                half = len(fresh) // 2
                yield from self.failing_among(node, fresh[:half])
                yield from self.failing_among(node, fresh[half:])
            return
        label, value = fresh[0]
        error = self.probe(value)
        if error is not None:
            yield label, value, error


def _bare(error: BaseException) -> BaseException:
    """The error without tracebacks.

    Their frames lead to all callers, and one of those that keeps the error is a cycle, which keeps the object.
    """
    cause: BaseException | None = error
    while cause is not None and cause.__traceback__ is not None:
        cause.__traceback__ = None
        cause = cause.__context__
    return error


def _too_deep(error: BaseException) -> bool:
    # cloudpickle raises an error of its own from the RecursionError.
    return isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)


# --- what to do -----------------------------------------------------------------------------------

_OPEN = "open it in setup= so that each worker has its own"
_CREATE = "create it in setup= so that each worker has its own"
_OTHERWISE = f"leave it out in the class's __getstate__, or {_CREATE}"
_TOO_DEEP = "it is nested too deeply, or its __getstate__ never ends: flatten it, or send it as text or bytes"
_LOCK = f"{_CREATE} (it guards the threads of one process), or leave it out in the class's __getstate__"
_FILE = "send its path and open it in the function or in setup="
_ITERATOR = "make it a list, or send what it is made from and build it in the function"

#: advice to the types, with their subclasses, that it is for. None of their objects pickles, so what
#: is inside (every queue holds a lock) is not looked into: the whole must stay at home.
_ADVICE_FOR = {
    _OPEN: """
        sqlite3.Connection sqlite3.Cursor sqlite3.Blob _gdbm.gdbm _dbm.dbm psycopg.Connection
        psycopg2.extensions.connection pymongo.mongo_client.MongoClient redis.client.Redis
        sqlalchemy.engine.base.Engine sqlalchemy.engine.base.Connection botocore.client.BaseClient
        socket.socket _socket.socket ssl.SSLContext _ssl._SSLContext http.client.HTTPConnection
        select.epoll select.poll selectors._BaseSelectorImpl""",
    _LOCK: """
        _thread.lock _thread.RLock threading.Condition threading.Event threading.Semaphore
        threading.Barrier""",
    _FILE: """
        _io._IOBase mmap.mmap zipfile.ZipFile tarfile.TarFile tempfile._TemporaryFileWrapper
        posix.DirEntry nt.DirEntry""",
    _ITERATOR: "generator _csv.reader",
    "run it where it was made (asyncio.run), and send the result; a worker runs plain functions": """
        coroutine async_generator _asyncio.Future _asyncio.Task asyncio.futures.Future""",
    "start it in the worker, from the function or from setup=": """
        threading.Thread _thread._local subprocess.Popen multiprocessing.process.BaseProcess
        concurrent.futures._base.Executor multiprocessing.pool.Pool asyncio.events.AbstractEventLoop
        allcores.pool.pool.Pool""",
    "wait for its result and send that": "concurrent.futures._base.Future",
    "let the function return its values in place of sharing them": "queue.Queue _queue.SimpleQueue",
    "give it to setup= by setup_args=, and setup's value is the function's first argument": """
        multiprocessing.queues.Queue multiprocessing.queues.SimpleQueue multiprocessing.synchronize.SemLock
        multiprocessing.synchronize.Condition multiprocessing.synchronize.Event
        multiprocessing.synchronize.Barrier multiprocessing.sharedctypes.SynchronizedBase
        multiprocessing.connection._ConnectionBase""",
    "set up logging in setup=": "logging.Handler",
    "import it inside the function": "module",
    "send bytes(view), or the array that it views": "memoryview",
    "send the object that it refers to": """
        weakref.ReferenceType weakref.ProxyType weakref.CallableProxyType weakref.WeakValueDictionary""",
    "send a list or dict made from it": "mappingproxy dict_keys dict_values dict_items",
    "send what it found: match.group(), match.span()": "re.Match",
    "send its digest, or the bytes to be hashed": "_hashlib.HASH _blake2.blake2b _blake2.blake2s",
    "send it as text: traceback.format_exception()": "traceback frame",
    "send it as text: lxml.etree.tostring()": "lxml.etree._Element lxml.etree._ElementTree",
}
_KNOWN = {name: advice for advice, names in _ADVICE_FOR.items() for name in names.split()}

#: how the names of types end in the many libraries that cannot be listed
_BY_ENDING = (
    (("Connection", "Session", "Client", "Engine", "Cursor", "Channel", "Socket", "Handle", "Driver"), _OPEN),
    (("Lock", "Mutex", "Semaphore"), _LOCK),
    (("File", "Reader", "Writer", "Stream"), _FILE),
    (("Iterator", "iterator", "Generator"), _ITERATOR),
)


def _known(obj: Any) -> str | None:
    """Advice for a type whose objects never travel; None for any other."""
    for kind in type(obj).__mro__:
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        advice = _KNOWN.get(name)
        if advice is not None:
            return advice
    return None


def _advice(obj: Any) -> str:
    """What to do about a part of any other type."""
    kind = type(obj)
    if isinstance(obj, types.FunctionType):
        if obj.__name__ == "<lambda>":
            return "write it as a function with a name, with def, at the top level of a module"
        return "define the function at the top level of a module, under its own name"
    if isinstance(obj, type):
        return "define the class at the top level of a module, under its own name"
    if kind is functools._lru_cache_wrapper:
        return "put the cached function at the top level of a module, or call it from the function you send"
    if kind.__module__ == "itertools":  # not picklable from Python 3.14 on
        return _ITERATOR
    for endings, advice in _BY_ENDING:
        if kind.__name__.endswith(endings):
            return advice
    if "<locals>" in kind.__qualname__:
        return "define its class at the top level of a module"
    return _OTHERWISE
