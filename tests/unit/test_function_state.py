"""pool/function_state.py: what a function refers to, and whether any of that has changed."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import gc
import json
import operator
import random
import re
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from allcores.pool.function_state import FunctionState, state_of
from allcores.pool.opaque_kinds import is_opaque


def held(function: Any, *, by_value: bool = True) -> FunctionState:
    """What it refers to; all of that can be looked at."""
    state = state_of(function, by_value=by_value)
    assert state is not None
    return state


class Config:
    def __init__(self) -> None:
        self.depth: Any = 3

    def method(self, number: int) -> Any:
        return number + self.depth


def helper(number: int) -> int:
    return number * FACTOR


FACTOR = 3
TABLE: dict[str, Any] = {"a": 1}
WORDS: list[Any] = ["x"]
SEEN: set[Any] = {1}
RECENT, TALLY, DATA = deque([1]), Counter("a"), bytearray(b"abc")
CONFIG = Config()


def work(number: int) -> Any:
    return helper(number), TABLE, WORDS, SEEN, RECENT, TALLY, DATA, CONFIG.depth


CHANGES: dict[str, Callable[[], Any]] = {
    "a number is bound anew, in a function that it calls": lambda: globals().update(FACTOR=5),
    "a key": lambda: TABLE.update({f"key {len(TABLE)}": 1}),
    "a value": lambda: TABLE.update(a=object()),
    "an element": lambda: WORDS.append("y"),
    "an element for another": lambda: WORDS.__setitem__(0, object()),
    "an element of a set": lambda: SEEN.add(object()),
    "of a deque": lambda: RECENT.append(2),
    "of a dict's kind": lambda: TALLY.update("b"),
    "a byte": lambda: DATA.__setitem__(0, DATA[0] ^ 1),
    "an attribute": lambda: setattr(CONFIG, "depth", object()),
    "a function that it calls": lambda: globals().update(helper=lambda number: number),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("wrap", [lambda: work, lambda: functools.partial(work), lambda: lambda number: work(number)])
def test_what_has_changed_is_noticed(
    change: Callable[[], Any], wrap: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "helper", helper)
    monkeypatch.setitem(globals(), "FACTOR", 3)
    function = wrap()
    state = held(function)
    assert state.is_current(function) and state.is_current(function)
    change()
    assert not state.is_current(function)


#: a script, whose functions and classes travel by value
SCRIPT = """
import array, functools, logging, types

class Base:
    def inherited(self): return INHERITED

class Settings(Base):
    depth = 3
    table = {"inner": {"a": 1}}
    def value(self): return self.other()
    def other(self): return RATE
    @staticmethod
    def fixed(): return STEP
    @property
    def shown(self): return SHOWN

class Slotted:
    __slots__ = ("x",)

def helper(number, by=(1,), *, to=2): return number

@functools.cache
def cached(): return CACHED

INHERITED = RATE = STEP = SHOWN = CACHED = HANDLED = 1
SETTINGS, SLOTTED = Settings(), Slotted()
SETTINGS.space, SETTINGS.numbers = types.SimpleNamespace(a=[1]), array.array("i", [1])
NESTED, PAIR, HANDLERS = {"model": {"depth": 1}}, ([1],), {"a": lambda: HANDLED}
LOG = logging.getLogger("a script")

def work(number):
    LOG.debug("at work")
    return helper(number), SETTINGS.value(), SLOTTED.x, NESTED, PAIR, cached(), HANDLERS, DEFINED_LATER
"""


@pytest.mark.parametrize(
    "change",
    [
        "DEFINED_LATER = 1",
        "Settings.depth = 4",
        "Settings.added = 4",
        "Settings.other = lambda self: 1",
        "Settings.table['inner']['a'] = 2",
        "Base.inherited = lambda self: 1",
        *(f"{name} = 2" for name in ("INHERITED", "RATE", "STEP", "SHOWN", "CACHED", "HANDLED")),
        "SETTINGS.space.a.append(2)",
        "SETTINGS.numbers[0] = 2",
        "SLOTTED.x = 1",
        "NESTED['model']['depth'] = 2",
        "PAIR[0].append(2)",
        "helper.__code__ = (lambda number: number).__code__",
        "helper.__defaults__ = (3,)",
        "helper.__kwdefaults__ = {'to': 3}",
        "helper.factor = 2",
        "work.factor = 2",
        "work.__defaults__ = (1,)",
    ],
)
def test_what_a_script_has_changed_is_noticed_wherever_it_stands(change: str) -> None:
    """In a class, in what its methods name, further down in a container or object, and where there was nothing."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(SCRIPT, names)
    work = names["work"]
    state = held(work)
    # What is only used does not change: a logger notes its level, a class the slots of an object that was pickled.
    names["LOG"].debug("once")
    names["SETTINGS"].__reduce_ex__(2)
    assert state.is_current(work)
    exec(change, names)
    assert not state.is_current(work)
    assert held(work).is_current(work)


def test_what_a_closure_holds_and_what_a_method_is_of() -> None:
    count, config = [0], Config()

    def closure(number: int) -> int:
        return count[0]

    functions = (closure, config.method, functools.partial(max, count))
    states = list(map(held, functions))
    assert all(map(FunctionState.is_current, states, functions))
    config.depth = 9
    count[0] = 1
    assert not any(map(FunctionState.is_current, states, functions))


class Scorer:
    def __init__(self) -> None:
        self.weights: dict[str, Any] = {"a": {"b": 1}}

    def __call__(self, number: int) -> Any:
        return self.weights


def test_what_travels_besides_a_name() -> None:
    """Arguments of a partial and attributes of an object do also where pickle names the function."""
    scorer, words = Scorer(), ["a"]
    partial, by_name = functools.partial(operator.contains, words), functools.partial(work, 1)
    states = [held(each, by_value=False) for each in (scorer, partial, by_name)]
    assert [state.is_current(each) for state, each in zip(states, (scorer, partial, by_name), strict=True)] == [
        True
    ] * 3
    scorer.weights["a"]["b"] = 2
    words.append("b")
    TABLE.update({f"key {len(TABLE)}": 1})
    found = [state.is_current(each) for state, each in zip(states, (scorer, partial, by_name), strict=True)]
    assert found == [False, False, True]


def test_the_function_itself_is_not_held() -> None:
    """What is kept of it would never go: it goes with the function."""

    def make() -> Any:
        def recursive(number: int) -> int:
            return recursive(number - 1) if number else 0

        return recursive

    for made, ways in ((make, (True,)), (Scorer, (True, False))):
        function = made()
        states = [held(function, by_value=way) for way in ways]
        assert all(state.is_current(function) for state in states)
        gone = weakref.ref(function)
        del function
        gc.collect()
        assert gone() is None


def test_no_code_of_the_program_is_called() -> None:
    class Foreign(dict[str, int]):
        def __eq__(self, other: object) -> bool:
            raise AssertionError

        def __len__(self) -> int:
            raise AssertionError

        __hash__ = None

    class Row(list[int]):
        def __iter__(self) -> Any:
            raise AssertionError

        def __len__(self) -> int:
            raise AssertionError

    table, row = Foreign(), Row([1])
    function = lambda: (table, row)  # noqa: E731
    state = held(function)
    assert state.is_current(function)
    dict.__setitem__(table, "a", 1)
    assert not state.is_current(function)
    state = held(function)
    list.append(row, 2)
    assert not state.is_current(function)


def test_a_proxy_is_not_asked_for_what_it_stands_for() -> None:
    """Flask's `current_app`, say, which raises outside of a request."""

    class Proxy:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise RuntimeError

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError

    class Holds:
        inside = Proxy()

    proxy, holds = Proxy(), [Proxy(), Holds()]
    function = lambda: (proxy, holds)  # noqa: E731
    assert held(function).is_current(function)


def test_large_containers_cost_little() -> None:
    """Their beginnings and lengths are compared."""
    numbers = list(range(1_000_000))
    function = lambda: numbers  # noqa: E731
    state = held(function)
    assert state.is_current(function)
    numbers.append(1)
    assert not state.is_current(function)


def test_what_cannot_be_looked_at_is_not_kept() -> None:
    ordered, dice = OrderedDict(a=1), random.Random(1)
    assert state_of(lambda: ordered) is None
    for inside in ([dice], {"a": (dice,)}, Config()):
        if isinstance(inside, Config):
            inside.depth = dice
        assert state_of(lambda inside=inside: inside) is None
    raised = ValueError("a")
    assert state_of(functools.partial(max, raised), by_value=False) is None


def test_large_buffers_matter_where_they_are_in_the_pickle() -> None:
    data = bytearray(100_000)
    function = lambda: data  # noqa: E731
    assert state_of(function, size=100_500) is None
    assert state_of(function, size=500) is not None


def test_what_never_changes_hinders_nothing() -> None:
    """Of compiled code, too."""
    pattern, when, price = re.compile("a"), datetime.datetime(2026, 1, 1), decimal.Decimal(1)
    first, cached, kind = operator.itemgetter(1), functools.cache(len), UserWarning
    made = [pattern, when, price, first, cached, kind, (1).__add__, str.upper, list[int], int | None, when.date()]
    for each in made:
        assert state_of(lambda each=each: each) is not None, each
        assert not is_opaque(type(each))


def test_what_holds_the_function_is_not_kept() -> None:
    """Otherwise it would never be freed, nor would all that it refers to."""

    def alternating() -> Any:
        def even(number: int) -> bool:
            return number == 0 or odd(number - 1)

        def odd(number: int) -> bool:
            return number != 0 and even(number - 1)

        return even

    def of_an_object() -> Any:
        config = Config()
        config.depth = lambda number: number + len(vars(config))
        return config.depth

    def in_a_list() -> Any:
        held: list[Any] = []
        held.append(lambda: held)
        return held[0]

    for make in (alternating, of_an_object, in_a_list):
        function = make()
        assert state_of(function) is None, make
        gone = weakref.ref(function)
        del function
        gc.collect()
        assert gone() is None, make


def test_what_a_decorator_of_a_library_returns_is_looked_through() -> None:
    """It travels with what it was made for, although its code is the library's."""
    library: dict[str, Any] = {"__name__": "json"}
    source = "def plain(fn):\n    def wrapper(*args):\n        return fn(*args)\n    return wrapper"
    exec(compile(source, json.__file__, "exec"), library)
    names: dict[str, Any] = {"__name__": "__main__", "plain": library["plain"]}
    exec("@plain\ndef scaled(x): return x * factor\ndef work(x): return scaled(x)\nfactor = 3", names)
    state = held(names["work"])
    assert state.is_current(names["work"])
    names["factor"] = 5
    assert not state.is_current(names["work"])


def test_functions_of_libraries_are_not_looked_through() -> None:
    """Workers have them by their names; what they refer to in turn is a good part of the library."""
    pytest.importorskip("numpy")
    from json import dumps

    from numpy import einsum, mean

    def made(number: int) -> Any:
        return mean(number), einsum("i", number), dumps(number), helper(number), pytest.param(number)

    assert held(made)._functions == [helper]


@dataclasses.dataclass
class Point:
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0
    f: int = 0


class Color(enum.Enum):
    RED, GREEN, BLUE, CYAN, MAGENTA, YELLOW, BLACK, WHITE = range(8)


class Pair(NamedTuple):
    one: int
    other: str


def test_what_programs_are_made_of_is_looked_at_as_a_whole() -> None:
    """It need not be pickled with each map."""

    class Local(Point):
        color = Color.RED

    class Hue(enum.IntFlag):
        A, B, C, D, E, F, G, H = (1 << bit for bit in range(8))

    class Row(NamedTuple):
        name: str
        point: Point

    point, table, rows = Local(), {str(number): number for number in range(1_000)}, [Row("a", Local())] * 3
    for function in (lambda: (point, Color.RED), lambda: table, lambda: (rows, Row), lambda: Hue.A, lambda: Pair):
        assert held(function).is_whole
    long = [0] * 1_001
    assert not held(lambda: long).is_whole
