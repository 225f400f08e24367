"""transport/pickle_diagnosis.py and object_graph.py: the path to what will not pickle, and the way out."""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import io
import pickle
import queue
import socket
import sqlite3
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cloudpickle
import pytest

from allcores.transport.pickle_diagnosis import Unpicklable, describe, explain, find_unpicklable


def plain(obj: Any) -> bytes:
    return pickle.dumps(obj, 5)


def cloud(obj: Any) -> bytes:
    data: bytes = cloudpickle.dumps(obj, protocol=5)
    return data


def path_to(obj: Any, dumps: Callable[[Any], bytes] = plain, name: str = "x") -> str:
    found = find_unpicklable(obj, name, dumps)
    assert found is not None
    return found.path


LOCK = threading.Lock()


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def method(self) -> None: ...


class Slotted:
    __slots__ = ("fine", "lock")

    def __init__(self, lock: Any) -> None:
        self.fine = 1
        self.lock = lock


class SlottedChild(Slotted):
    def __init__(self, lock: Any) -> None:
        super().__init__(1)
        self.extra = lock


@dataclass
class Data:
    fine: int
    conn: Any


@dataclass(frozen=True, slots=True)
class FrozenData:
    fine: int
    conn: Any


class Named(NamedTuple):
    fine: int
    lock: Any


class OwnState:
    def __init__(self, state: Any) -> None:
        self.state = state

    def __getstate__(self) -> Any:
        return self.state


class OwnReduce:
    def __init__(self, fine: int, lock: Any) -> None:
        self.fine = fine
        self.lock = lock

    def __reduce__(self) -> Any:
        return OwnReduce, (self.fine, self.lock)


class Anonymous(OwnReduce):
    def __reduce__(self) -> Any:
        return OwnReduce, (1, threading.Lock())


class RaisingState:
    def __getstate__(self) -> Any:
        raise ValueError("not today\nsecond line")


class ListChild(list[Any]):
    pass


class Failure(Exception):
    pass


def failure_with_attribute() -> Failure:
    failure = Failure("text")
    failure.response = LOCK  # type: ignore[attr-defined]
    return failure


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (LOCK, "x"),
        ([1, LOCK], "x[1]"),
        ((LOCK,), "x[0]"),
        ({"db": {"conn": LOCK}}, "x['db']['conn']"),
        ({1: LOCK}, "x[1]"),
        ({(1, 2): LOCK}, "x[<tuple>]"),
        ({LOCK: 1}, "x.<key <_thread.lock>>"),
        ({"k" * 50: LOCK}, "x['" + "k" * 37 + "...']"),
        ({b"k" * 50: LOCK}, "x[b'" + "k" * 37 + "...']"),
        ({LOCK}, "x.<member>"),
        (frozenset([LOCK]), "x.<member>"),
        (Plain(a=1, b=Plain(c=LOCK)), "x.b.c"),
        (Plain(**{"no name": LOCK}), "x.<state>['no name']"),
        (Slotted(LOCK), "x.lock"),
        (SlottedChild(LOCK), "x.extra"),
        (Data(1, LOCK), "x.conn"),
        (FrozenData(1, LOCK), "x.conn"),
        (Named(1, LOCK), "x.lock"),
        (OwnState({"fine": 1, "bad": LOCK}), "x.bad"),
        (OwnState((1, LOCK)), "x.<state>[1]"),
        (OwnState([LOCK]), "x.<state>[0]"),
        (OwnState(LOCK), "x.<state>"),
        (OwnReduce(1, LOCK), "x.lock"),
        (Anonymous(1, LOCK), "x.<reduce>[1]"),
        (RaisingState(), "x"),
        ([Plain(a=RaisingState())], "x[0].a"),
        (ListChild([1, LOCK]), "x[1]"),
        (collections.deque([LOCK]), "x[0]"),
        (collections.OrderedDict(a=LOCK), "x['a']"),
        (collections.defaultdict(threading.Lock, a=LOCK), "x['a']"),
        (collections.ChainMap({"a": LOCK}), "x.maps[0]['a']"),
        (types.SimpleNamespace(a=LOCK), "x.a"),
        (Failure("text", LOCK), "x.args[1]"),
        (failure_with_attribute(), "x.response"),
        (functools.partial(print, 1, LOCK), "x.args[1]"),
        (functools.partial(print, file=LOCK), "x.keywords['file']"),
        (functools.partial(Plain(a=LOCK).method), "x.func.__self__.a"),
        (Plain(a=LOCK).method, "x.__self__.a"),
        (ListChild([LOCK]).append, "x.__self__[0]"),
        (iter([LOCK]), "x.<reduce>[0][0]"),
    ],
)
def test_path(obj: Any, path: str) -> None:
    """The path leads to the part at fault through each kind of container, with plain pickle and cloudpickle."""
    assert path_to(obj, plain) == path
    assert path_to(obj, cloud) == path


def test_example_of_the_docstring() -> None:
    """A connection two attributes inside one of many items is found, named and explained."""
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        items = [Plain(db=Plain(conn=conn if index == 57 else None)) for index in range(100)]
        found = find_unpicklable(items, "items", plain)
    assert found == Unpicklable(
        path="items[57].db.conn",
        type_name="sqlite3.Connection",
        reason="cannot pickle 'sqlite3.Connection' object",
        advice="open it in setup= so that each worker has its own",
    )
    assert describe(found, "items", ValueError()) == (
        "items cannot be pickled: items[57].db.conn is a sqlite3.Connection (cannot pickle "
        "'sqlite3.Connection' object); open it in setup= so that each worker has its own."
    )


def test_array_of_objects() -> None:
    """In an array of objects the element is named, not numpy's inner state."""
    numpy = pytest.importorskip("numpy")
    array = numpy.array([[1, 2], [LOCK, 4]], dtype=object)
    assert path_to([array]) == "x[0].flat[2]"


def test_what_pickles_has_no_path() -> None:
    """For an object that pickles the answer is None, and the sentence tells the error instead."""
    assert find_unpicklable([1, "two"], "x", plain) is None
    text = explain([1], "x", TypeError("no. really"), plain)
    assert text == "x cannot be pickled, so it cannot travel between processes: no. really."


# --- functions and classes ------------------------------------------------------------------------


def test_function_by_reference() -> None:
    """Where functions travel by name, the function is named, not what it holds."""
    lock = threading.Lock()

    def local() -> Any:
        return lock

    found = find_unpicklable([local, lambda: lock], "fns", plain)
    assert found is not None and found.path == "fns[0]"
    assert "top level of a module" in found.advice
    found = find_unpicklable(lambda: lock, "fn", plain)
    assert found is not None and (found.path, found.type_name) == ("fn", "function")
    assert "with a name" in found.advice


def test_closure() -> None:
    """Variables of the enclosing function are named, through functions within functions."""
    lock = threading.Lock()
    holder = Plain(inner=lock)

    def inner() -> Any:
        return holder

    def outer() -> Any:
        return inner()

    assert path_to(lambda: lock, cloud, "fn") == "fn.<closure>.lock"
    assert path_to(outer, cloud, "fn") == "fn.<closure>.inner.<closure>.holder.inner"


def test_unassigned_closure() -> None:
    """A variable that the enclosing function has not assigned yet is passed over."""
    lock = threading.Lock()

    def use() -> Any:
        return late, lock

    assert path_to(use, cloud, "fn") == "fn.<closure>.lock"
    late = 1


def function_of_main(source: str, **module_level: Any) -> Any:
    """A function `fn` as a script's main module would hold it: it travels by value."""
    namespace: dict[str, Any] = {"__name__": "__main__", **module_level}
    exec(source, namespace)
    return namespace["fn"]


def test_globals() -> None:
    """A global that the function uses is named; one with the name of an attribute is not."""
    fn = function_of_main(
        "def fn(x):\n    def deep():\n        return x.conn, lock\n    return deep", lock=LOCK, conn=LOCK
    )
    assert path_to(fn, cloud, "fn") == "fn.<global>.lock"


def test_defaults_and_attributes() -> None:
    """Default values of both kinds of parameters, and attributes of a function, are named."""

    def positional(a: int, b: Any = 1, c: Any = LOCK) -> None: ...

    def keyword(*, b: Any = LOCK) -> None: ...

    def attribute() -> None: ...

    attribute.state = LOCK  # type: ignore[attr-defined]
    assert path_to(positional, cloud, "fn") == "fn.<default>.c"
    assert path_to(keyword, cloud, "fn") == "fn.<default>.b"
    assert path_to(attribute, cloud, "fn") == "fn.state"


def test_decorated() -> None:
    """A decorator's wrapper does not hide the part at fault."""

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    lock = threading.Lock()

    @decorate
    def work() -> Any:
        return lock

    assert path_to(work, cloud, "fn") == "fn.<closure>.function.<closure>.lock"


def test_recursive_function() -> None:
    """A function that refers to itself is looked into once."""
    lock = threading.Lock()

    def again(n: int) -> Any:
        return again(n - 1) if n else lock

    assert path_to(again, cloud, "fn") == "fn.<closure>.lock"


def test_class_by_value() -> None:
    """With classes that travel by value, what the class and its methods hold is found."""
    lock = threading.Lock()

    class Holds:
        guard = lock

    class Uses:
        def method(self) -> Any:
            return lock

        @staticmethod
        def static() -> Any:
            return lock

    class Child(Holds):
        pass

    assert path_to(Holds, cloud) == "x.guard"
    assert path_to(Holds(), cloud) == "x.__class__.guard"
    assert path_to([Uses()], cloud) == "x[0].__class__.method.<closure>.lock"
    assert path_to(Child(), cloud) == "x.__class__.__bases__[0].guard"


def test_local_class_by_reference() -> None:
    """An object of a local class is named where classes travel by name."""

    class Local:
        pass

    found = find_unpicklable([Local()], "x", plain)
    assert found is not None and found.path == "x[0]"
    assert found.advice == "define its class at the top level of a module"
    found = find_unpicklable(Local, "x", plain)
    assert found is not None and "the class at the top level" in found.advice


def test_method_of_importable_class() -> None:
    """A bound method's function that travels by name is not looked into: the object is named."""
    assert path_to(Plain(a=1, b=LOCK).method, cloud) == "x.__self__.b"


# --- cycles, bounds, hostile objects --------------------------------------------------------------


def test_cycles() -> None:
    """Objects that refer to each other are looked into once, and the others are not named."""
    own: list[Any] = []
    own.append(own)
    own.append(LOCK)
    assert path_to(own) == "x[1]"

    items: list[Any] = []
    owner = Plain(items=items, lock=LOCK)
    item = Plain(owner=owner)
    items.append(item)
    assert path_to(item) == "x.owner.lock"
    assert path_to(owner) == "x.lock"


def test_cycle_with_guilty_reduce() -> None:
    """A part that raises of itself and refers back is still found, as the best guess."""
    part = OwnState(None)
    root = [part]
    part.state = (root, 1)

    def dumps(obj: Any) -> bytes:
        raise TypeError("everything fails")

    found = find_unpicklable(root, "x", dumps)
    assert found is not None and found.path.startswith("x[0]")


def test_first_of_many() -> None:
    """Of several parts at fault it is the first, also in a long input, with few trials."""
    items: list[Any] = list(range(100_000))
    items[43_210] = items[70_000] = LOCK
    trials = 0

    def dumps(obj: Any) -> bytes:
        nonlocal trials
        trials += 1
        return plain(obj)

    found = find_unpicklable(items, "x", dumps, max_s=120)
    assert found is not None and found.path == "x[43210]"
    assert trials < 50


def test_probes_are_bounded() -> None:
    """When the trials are used up, the smallest failing part so far is the answer."""
    trials = 0

    def dumps(obj: Any) -> bytes:
        nonlocal trials
        trials += 1
        return plain(obj)

    found = find_unpicklable([[[[LOCK]]]], "x", dumps, max_probes=3)
    assert found is not None and found.path == "x[0][0]"
    assert trials == 4  # the first one finds out whether there is anything to look for
    found = find_unpicklable([LOCK], "x", dumps, max_probes=0)
    assert found is not None and found.path == "x"


def test_seconds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time is used up, the smallest failing part so far is the answer."""
    now = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr("allcores.transport.pickle_diagnosis.monotonic_ns", lambda: next(now))
    found = find_unpicklable([[[[[[LOCK]]]]]], "x", plain, max_s=3)
    assert found is not None and found.path == "x[0][0]"


def test_deep_nesting() -> None:
    """What is nested too deeply is named as a whole, not by a path of a thousand steps."""
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    for dumps in (plain, cloud):
        found = find_unpicklable(nested, "x", dumps)
        assert found is not None and found.path == "x"
        assert "nested too deeply" in found.advice
        # So it is when there was no time to find out where.
        found = find_unpicklable(nested, "x", dumps, max_probes=12)
        assert found is not None and found.path == "x"
        assert "nested too deeply" in found.advice


def test_long_paths_are_shortened() -> None:
    """A path of very many steps keeps its two ends."""
    deep: Any = LOCK
    for _ in range(80):
        deep = {"key": deep}
    path = path_to(deep)
    assert len(path) < 200 and path.startswith("x['key']") and path.endswith("['key']") and " ... " in path


class Hostile:
    """Raises whatever is asked of it."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise SystemExit("from __reduce_ex__")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")


class BadMessage(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str")


class RaisesBadMessage:
    def __reduce__(self) -> Any:
        raise BadMessage


def test_hostile_objects() -> None:
    """Objects that raise anything, anywhere, are named and raise nothing here."""
    found = find_unpicklable([1, Hostile()], "x", plain)
    assert found is not None and found.path == "x[1]" and found.reason == "SystemExit: from __reduce_ex__"
    assert path_to({Hostile(): 1}) == f"x.<key <{__name__}.Hostile>>"
    found = find_unpicklable(RaisesBadMessage(), "x", plain)
    assert found is not None and found.reason == "BadMessage"
    assert "BadMessage" in explain(RaisesBadMessage(), "x", BadMessage(), plain)


def test_reason_is_one_line() -> None:
    """Of a long message the first line is told."""
    found = find_unpicklable(RaisingState(), "x", plain)
    assert found is not None and found.reason == "not today"
    assert "__getstate__" in found.advice


def test_keyboard_interrupt_passes() -> None:
    """Ctrl-C during a search is not swallowed."""

    def dumps(obj: Any) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_unpicklable([1], "x", dumps)


def test_parts_that_only_fail_together() -> None:
    """When no single part fails, the container is named."""

    def dumps(obj: Any) -> bytes:
        if isinstance(obj, list) and len(obj) > 1:
            raise ValueError("too big")
        return b""

    assert path_to([1, 2, 3], dumps) == "x"


# --- advice ---------------------------------------------------------------------------------------


def generator() -> Iterator[int]:
    yield 1


class RemoteClient:
    def __reduce__(self) -> Any:
        raise TypeError("no pickling of clients")


class Worker(threading.Thread):
    pass


@dataclass
class Case:
    make: Callable[[], Any]
    words: str
    type_name: str | None = None
    close: Callable[[Any], None] = field(default=lambda obj: None)


@pytest.mark.parametrize(
    "case",
    [
        Case(threading.Lock, "create it in setup="),
        Case(threading.RLock, "create it in setup="),
        Case(threading.Event, "create it in setup=", "threading.Event"),
        Case(lambda: socket.socket(), "open it in setup=", "socket.socket", lambda s: s.close()),
        Case(lambda: io.FileIO(__file__), "send its path", "_io.FileIO", lambda f: f.close()),
        Case(generator, "make it a list", "generator"),
        Case(lambda: Worker(), "start it in the worker"),
        Case(threading.local, "start it in the worker"),
        Case(queue.Queue, "return its values", "queue.Queue"),
        Case(lambda: io, "import it inside", "module"),
        Case(lambda: memoryview(b"abc"), "bytes(view)", "memoryview"),
        Case(lambda: {}.keys(), "a list or dict made from it", "dict_keys"),
        Case(lambda: types.MappingProxyType({}), "a list or dict", "mappingproxy"),
        Case(RemoteClient, "open it in setup="),
    ],
    ids=lambda case: case.words,
)
def test_advice_by_type(case: Case) -> None:
    """Each type that people run into gets advice of its own, and is not taken apart."""
    obj = case.make()
    try:
        found = find_unpicklable({"it": obj}, "x", plain)
        text = explain({"it": obj}, "x", TypeError("whatever"), plain)
    finally:
        case.close(obj)
    assert found is not None and found.path == "x['it']"
    assert case.words in found.advice
    assert case.type_name is None or found.type_name == case.type_name
    assert text.startswith("x cannot be pickled: x['it'] is a") and text.endswith(".") and "\n" not in text


def test_sentence_about_the_object_itself() -> None:
    """When the object itself is named, its path is not repeated."""
    text = explain(generator(), "items[3]", TypeError("whatever"), plain)
    assert text.startswith("items[3] cannot be pickled: it is a generator (cannot pickle 'generator' object)")


@pytest.mark.parametrize("dumps", [plain, cloud])
@pytest.mark.parametrize(
    "find", [find_unpicklable, lambda obj, name, dumps: explain(obj, name, ValueError("no"), dumps)]
)
def test_nothing_is_kept_of_what_was_searched(dumps: Callable[[Any], bytes], find: Callable[..., Any]) -> None:
    obj = Plain(fine=[1, 2], parts=[1, {"lock": LOCK, "file": sqlite3}, LOCK])
    known = weakref.ref(obj)
    gc.disable()
    try:
        assert find([0, (obj, LOCK)], "x", dumps) is not None
        del obj
        assert known() is None
    finally:
        gc.enable()
