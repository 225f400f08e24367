"""By what results are known: the same in each process, and another one as soon as anything is different that counts."""

from __future__ import annotations

import datetime
import enum
import functools
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.cache.keys import NoKey, function_key, item_key, key_bytes
from allcores.errors import UsageError

NAME = "script_of_keys"
#: as a script has it
SCRIPT = """
import array, collections, contextlib, functools, re, types
from dataclasses import dataclass

LIMIT = 5
WORDS = {"one", "two", "three"}
PATTERN = re.compile("a+")
UNUSED = 1

def helper(x):
    return x + LIMIT

def is_even(n):
    return n == 0 or is_odd(n - 1)

def is_odd(n):
    return n != 0 and is_even(n - 1)

def times(factor):
    def scaled(x, more=0):
        return helper(x) * factor + more
    return scaled

def decorated(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)
    return inner

@decorated
def plain(x):
    '''What it does.'''
    return helper(x) in WORDS or PATTERN.match(str(x))

@functools.cache
def kept(x):
    return helper(x)

@dataclass
class Point:
    x: int
    def moved(self, by=1):
        return Point(helper(self.x) + by)
    @property
    def size(self):
        return abs(self.x)
    @staticmethod
    def at(x):
        return Point(x)

class Scale:
    def __init__(self, function, k):
        functools.update_wrapper(self, function)
        self.function, self.k = function, k
    def __call__(self, x):
        return self.k * self.function(x)

class SlottedScale:
    __slots__ = ("function", "__k", "__wrapped__")
    def __init__(self, function, k):
        self.function, self.__k, self.__wrapped__ = function, k, function
    def __call__(self, x):
        return self.function(x) + self.__k

scaled = Scale(lambda x: x + 7, 1)
slotted = SlottedScale(helper, 11)

def calls_scaled(x):
    return scaled(x), slotted(x)

@functools.singledispatch
def by_type(x):
    return "any"

@by_type.register(int)
def _(x):
    return "whole"

def calls_by_type(x):
    return by_type(x)

@contextlib.contextmanager
def managed():
    yield 21

def calls_managed(x):
    with managed() as value:
        return value + x

class Made:
    @functools.cached_property
    def kept(self):
        return 31
    def add(self, n, x):
        return n + x
    add_one = functools.partialmethod(add, 41)

class Text(str):
    pass

def named_values(x):
    return [ORDERED, DEFAULT, LINE, BYTES, NUMBERS, RANGE, PROXY, SPACE, TEXT, x]

ORDERED = collections.OrderedDict(a=51)
DEFAULT = collections.defaultdict(list, a=52)
LINE = collections.deque([53])
BYTES = bytearray([54])
NUMBERS = array.array("i", [55])
RANGE = range(56)
PROXY = types.MappingProxyType({"a": 57})
SPACE = types.SimpleNamespace(a=58)
TEXT = Text("59")

class Callable_:
    def __init__(self, state):
        self.state = state
    def __call__(self, x):
        return helper(x), self.state
"""
#: functions of it
FUNCTIONS = [
    "helper",
    "is_even",
    "times(3)",
    "plain",
    "kept",
    "Point",
    "Point(3).moved",
    "Point.at",
    "Callable_({'a', 'b', 'c'})",
    "functools.partial(helper, x={'q', 'r', 's'})",
    "lambda x: helper(x)",
    "scaled",
    "slotted",
    "calls_scaled",
    "by_type",
    "calls_by_type",
    "managed",
    "Made",
    "named_values",
    "len",
    "str.upper",
    "functools.partial",
]
ITEMS = """[
    1, "text", (1, "a"), [1, 2.5, None], {"a": 1}, {"x", "y", "z"}, {"k": {"x", "y", "z"}}, frozenset("abcdef"),
    [Point(1), Point], {"f": helper}, Callable_({"x", "y"}), (lambda x: x + 1), b"bytes", 2 + 3j, ...
]"""


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    sys.modules.pop(NAME, None)


def script(text: str = SCRIPT) -> dict[str, Any]:
    module = sys.modules[NAME] = ModuleType(NAME)
    exec(compile(text, "script.py", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def key(function: str, text: str = SCRIPT) -> bytes:
    return function_key(eval(function, script(text)))


class TestTheSame:
    def test_in_each_process_whatever_its_hash_seed(self, tmp_path: Path) -> None:
        path = tmp_path / "script_of_keys.py"
        program = textwrap.dedent(
            f"""
            import sys; sys.path.insert(0, {str(tmp_path)!r})
            from script_of_keys import *
            from allcores.cache.keys import function_key, item_key
            for function in [{", ".join(FUNCTIONS)}]:
                print(function_key(function).hex())
            for item in {" ".join(ITEMS.split())}:
                print(item_key(b"key", item).hex())
            """
        )
        found = set()
        for seed, before in (("0", ""), ("1", "# comments,\n\n# and other lines\n"), ("2", "")):
            path.write_text(before + SCRIPT + f"UNUSED = {seed}\n")
            environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
            run = subprocess.run(
                [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
            )
            found.add(run.stdout)
        assert len(found) == 1
        assert len(set(next(iter(found)).split())) == len(FUNCTIONS) + 15

    def test_of_functions_that_know_each_other_by_what_is_bound_to_them(self) -> None:
        """A table of functions, of which each has the table; and one that differs deep inside."""
        text = (
            "def made(step):\n"
            "    table = {}\n"
            "    def up(x): return table['down'](x - step) if x > 0 else x\n"
            "    def down(x): return table['up'](x - 1)\n"
            "    table.update(up=up, down=down)\n"
            "    return up\n"
        )
        assert key("made(1)", text) == key("made(1)", text)
        assert key("made(1)", text) != key("made(2)", text)
        assert key("made(1)", text) != key("made(1)", text.replace("(x - 1)", "(x - 3)"))

    @pytest.mark.parametrize("function", FUNCTIONS)
    def test_made_anew_by_the_same_text(self, function: str) -> None:
        assert key(function) == key(function)

    def test_after_it_was_called_and_its_objects_were_pickled(self) -> None:
        """Python and libraries note things in classes, and a cache in a function is no part of what it does."""
        names = script()
        before = [function_key(names[name]) for name in ("kept", "Point", "plain")]
        names["kept"](3)
        names["Point"](1).__reduce_ex__(2)
        assert [function_key(names[name]) for name in ("kept", "Point", "plain")] == before

    def test_in_a_file_that_was_edited_meanwhile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The code that runs counts, not the text that will run next time."""
        path = tmp_path / "edited_meanwhile.py"
        path.write_text("def f(x):\n    return x + 1\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        module = __import__("edited_meanwhile")
        before = function_key(module.f)
        path.write_text("def f(x):\n    return x + 2000\n")
        assert function_key(module.f) == before
        sys.modules.pop("edited_meanwhile")


class TestAnother:
    @pytest.mark.parametrize(
        ("function", "old", "new"),
        [
            ("helper", "return x + LIMIT", "return x - LIMIT"),
            ("helper", "LIMIT = 5", "LIMIT = 6"),
            ("times(3)", "LIMIT = 5", "LIMIT = 6"),
            ("times(3)", "more=0", "more=1"),
            ("plain", '"two"', '"too"'),
            ("plain", 'compile("a+")', 'compile("a*")'),
            ("plain", "return function(*args)", "return function(*args) or 0"),
            ("plain", "return x + LIMIT", "return x - LIMIT"),
            ("kept", "LIMIT = 5", "LIMIT = 5.0"),
            ("is_even", "n != 0 and", "n != 1 and"),
            ("Point", "by=1", "by=2"),
            ("Point", "abs(self.x)", "-abs(self.x)"),
            ("Point.at", "return Point(x)", "return Point(-x)"),
            ("Callable_(1)", "helper(x), self", "helper(-x), self"),
            ("lambda x: Point(x).moved()", "x + LIMIT", "x * LIMIT"),
            *(
                (function, old, new)
                for function in ("scaled", "calls_scaled", "functools.partial(scaled, 1)", "lambda x: scaled(x)")
                for old, new in (("x + 7, 1)", "x + 7, 2)"), ("x + 7", "x + 8"), ("self.k * self", "self.k - self"))
            ),
            ("slotted", "helper, 11", "helper, 12"),
            ("slotted", "(x) + self.__k", "(x) - self.__k"),
            ("calls_scaled", "x + LIMIT", "x - LIMIT"),
            ("by_type", '"whole"', '"an int"'),
            ("calls_by_type", '"whole"', '"an int"'),
            ("calls_by_type", "register(int)", "register(bool)"),
            ("calls_by_type", '"any"', '"none"'),
            ("calls_managed", "yield 21", "yield 22"),
            ("Made", "return 31", "return 32"),
            ("Made", "(add, 41)", "(add, 42)"),
            *(("named_values", str(number), str(number + 10)) for number in range(51, 60)),
        ],
    )
    def test_for_what_it_does_and_names(self, function: str, old: str, new: str) -> None:
        changed = SCRIPT.replace(old, new)
        assert changed != SCRIPT
        assert key(function) != key(function, changed)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("times(3)", "times(4)"),
            ("times(1)", "times(True)"),
            ("Callable_(1)", "Callable_(2)"),
            ("Callable_({1: 2}).__call__", "Callable_({1: 3}).__call__"),
            ("functools.partial(helper, 1)", "functools.partial(helper, 2)"),
            ("functools.partial(helper, x=1)", "functools.partial(helper, y=1)"),
            ("lambda x: x + 1", "lambda x: x + 2"),
            ("lambda x: 1", "lambda x: True"),
            ("lambda x: 0.0", "lambda x: -0.0"),
            ("lambda x, y=1: x", "lambda x, y=2: x"),
            ("lambda x, *, y=1: x", "lambda x, *, y=2: x"),
            ("helper", "is_odd"),
            ("len", "abs"),
            ("times(len)", "times(abs)"),
            ("times([len])", "times([abs])"),
            ("times(lambda: 1)", "times(lambda: 2)"),
            ("times({'a': (lambda: 1)})", "times({'a': (lambda: 2)})"),
        ],
    )
    def test_for_what_is_bound_to_it(self, one: str, other: str) -> None:
        assert key(one) != key(other)

    def test_for_a_helper_in_another_module_of_the_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        keys = set()
        for number in (1, 2):
            name = f"helpers_{number}"
            (tmp_path / f"{name}.py").write_text(f"def inner(x): return x + {number}\ndef clean(x): return inner(x)\n")
            helpers = __import__(name)
            helpers.__name__ = "helpers"
            for function in (helpers.inner, helpers.clean):
                function.__module__ = "helpers"
            names: dict[str, Any] = {"helpers": helpers, "__name__": "work"}
            monkeypatch.setitem(sys.modules, "helpers", helpers)
            exec("def f(x):\n    return helpers.clean(x)", names)
            keys.add(function_key(names["f"]))
            sys.modules.pop(name)
        assert len(keys) == 2

    def test_for_a_module_with_a_name_of_the_standard_library(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        keys = set()
        for number in (1, 2):
            (tmp_path / "colorsys.py").write_text(f"LEVEL = {number}{' ' * number}\ndef helper(x): return x + LIMIT\n")
            # So that it is gone after the test: what needs Python's own finds that.
            monkeypatch.setitem(sys.modules, "colorsys", None)
            del sys.modules["colorsys"]
            helpers = __import__("colorsys")
            assert number == helpers.LEVEL
            monkeypatch.setattr(helpers, "LIMIT", number, raising=False)
            keys.add(function_key(helpers.helper))
        assert len(keys) == 2

    def test_for_more_that_is_said(self) -> None:
        function = script()["helper"]
        assert len({function_key(function), function_key(function, "1"), function_key(function, "2")}) == 3


def nothing() -> Iterator[int]:
    yield from ()


class TestNone:
    @pytest.mark.parametrize("bound", [threading.Lock(), open(os.devnull), nothing()])  # noqa: SIM115
    def test_what_has_no_bytes_around_a_function_is_said(self, bound: Any) -> None:
        with pytest.raises(UsageError, match=r"whose results depend on nothing but .*around .*scaled .*there is a "):
            function_key(script()["times"](bound))
        if hasattr(bound, "close"):
            bound.close()

    @pytest.mark.parametrize("item", [threading.Lock(), nothing(), [threading.Lock()]])
    def test_an_item_that_has_none(self, item: Any) -> None:
        with pytest.raises(NoKey):
            item_key(b"key", item)


Pair = namedtuple("Pair", "a b")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Mine:
    def __init__(self, value: Any) -> None:
        self.value = value


class MySet(set[Any]):
    pass


#: no two of them are the same item
DIFFERENT = [
    0, 1, -1, False, True, 0.0, -0.0, 1.0, 0j, None, ..., NotImplemented, "", "1", "0", b"", b"1", bytearray(b"1"),
    (), [], {}, set(), frozenset(), (1,), [1], {1}, frozenset({1}), {1: 1}, {1: True}, {True: 1}, [[1]], ([1],), [(1,)],
    [1, 2], [2, 1], {"a": 1, "b": 2}, OrderedDict(a=1, b=2), Pair(1, 2), (1, 2), {1, 2}, {(1, 2)}, MySet({1, 2}),
    float("nan"), float("inf"), 2**70, -(2**70), "é", "\ud800", b"\x8f", "\x8f", b"\x91" * 10, [b"\x8f", {1}],
    np.zeros(0), np.zeros((0, 3)), np.zeros(()), np.zeros(6, ">f8"), np.zeros(6, "S1"), np.zeros(6, "U1"), np.arange(6),
    np.arange(6)[::-1], np.zeros(3, [("a", "f4"), ("b", "f4")]), np.zeros(3, [("a", "f4"), ("c", "f4")]),
    np.zeros(3, "m8[s]"), np.zeros(3, "m8[ms]"), np.zeros(3, bool),
    np.zeros(6), np.zeros((2, 3)), np.zeros((3, 2)), np.zeros(6, int), np.zeros(6, "f4"), np.float64(0), np.int64(0),
    bytes(48), [np.zeros(6)], np.array(["a"]), np.array([b"a"]), np.array([None]), np.datetime64("2020-01-01"),
    Colour.RED, Colour.BLUE, Mine(1), Mine(2), Mine(Mine(1)), Mine({1, 2}), Mine, Pair, int, len, abs,
    pathlib.PurePosixPath("a"), pathlib.PurePosixPath("b"), datetime.date(2020, 1, 1), datetime.date(2020, 1, 2),
    re.compile("a"), re.compile("a", re.I), range(3), range(4), slice(1, 2),
    (lambda x: x), (lambda x: x + 1), functools.partial(len), functools.partial(abs), ValueError("a"), ValueError("b"),
]  # fmt: skip

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


class TestItems:
    def test_no_two_have_the_same_key(self) -> None:
        keys: dict[bytes, Any] = {}
        for item in DIFFERENT:
            other = keys.setdefault(item_key(b"key", item), item)
            assert other is item, (other, item)

    def test_keys_of_two_functions_differ(self) -> None:
        assert item_key(b"one", 1) != item_key(b"two", 1)

    @pytest.mark.parametrize("item", [item for item in DIFFERENT if type(item).__name__ not in ("function",)])
    def test_a_copy_has_the_same_key(self, item: Any) -> None:
        import copy

        assert item_key(b"key", copy.deepcopy(item)) == item_key(b"key", item)

    def test_one_object_in_two_places_is_like_two(self) -> None:
        shared, word = [1, {2}], "".join(["wo", "rd"])
        assert key_bytes([shared, shared, word]) == key_bytes([[1, {2}], [1, {2}], "word"])

    def test_what_contains_itself_has_a_key(self) -> None:
        def knot(number: int) -> list[Any]:
            made: list[Any] = [number]
            made.append(made)
            return made

        assert item_key(b"key", knot(1)) == item_key(b"key", knot(1)) != item_key(b"key", knot(2))

    @given(plain, plain)
    def test_equal_bytes_are_of_equal_items(self, one: Any, other: Any) -> None:
        same = repr(one) == repr(other)
        assert (key_bytes(one) == key_bytes(other)) is same
