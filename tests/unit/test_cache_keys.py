"""By what results are known: the same in each process, and another one as soon as anything is different that counts."""

from __future__ import annotations

import datetime
import enum
import functools
import importlib
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
import time
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
from allcores.cache.kinds import is_own
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
#: what a function reaches by an object, an attribute, a container or an alias; each number is there once
HELD = """
import enum, functools, math, operator, re, struct, threading, types
from array import array
from dataclasses import dataclass, field, fields
from typing import Annotated, Dict, Generic, List, Literal, NamedTuple, Optional, TypeVar
import pytest
import numpy as np

T = TypeVar("T")

class Scale:
    def __init__(self, factor):
        self.factor, self.lock = factor, threading.Lock()
    def __get__(self, instance, owner):
        return 101 * self.factor

class Slotted:
    __slots__ = ("__factor",)
    def __init__(self, factor):
        self.__factor = factor
    def __get__(self, instance, owner):
        return self.__factor

class Lazy(property):
    def __init__(self, get, factor):
        super().__init__(get)
        self.factor = factor
    def __get__(self, instance, owner=None):
        return 102 * self.factor

class Model:
    scale = Scale(103)
    slotted = Slotted(104)
    scales = {"a": [Scale(105)]}
    function = Scale(lambda x: x + 106)
    lazy = Lazy(lambda self: 107, 108)
    chain = Scale(Scale(Scale(109)))
    @functools.singledispatchmethod
    def by_type(self, x):
        return x
    @by_type.register(int)
    def _(self, x):
        return 110

def uses_model(x):
    return Model.scale, Model.slotted, x

class Meta(type):
    level = 201
    def __call__(cls, x):
        return 202
    @property
    def size(cls):
        return 203

class OfMeta(metaclass=Meta):
    pass

class Below(OfMeta):
    pass

def uses_meta(x):
    return Below(x)

def helper(x):
    return x + len(helper.table)

helper.table = {"a": 301}
helper.words = {"one", "two", "three"}

def decorated(function):
    @functools.wraps(function)
    def inner(x):
        return function(x) * inner.factor
    inner.factor = 302
    return inner

@decorated
def wrapped(x):
    return x

@functools.cache
def kept(x):
    return x
kept.limit = 303

def with_attributes(x):
    return x * with_attributes.factor, helper(x), helper.words, wrapped(x), kept.limit, getattr(bare, "level", 1)

with_attributes.factor = 304
with_attributes.inner = lambda x: x + 305
def with_function(x):
    return with_attributes(x) or with_attributes.inner(x)
def bare(x):
    return x
bare.level = 306

class Box(Generic[T]):
    def __init__(self, x):
        self.x = x + 401

class Plain:
    def __class_getitem__(cls, item):
        return types.GenericAlias(cls, item)
    def size(self):
        return 402

class Child(Box[Literal[403]]):
    pass

BOXES = Box[int]
PLAIN = Plain[int]
TABLE = Dict[str, Plain]
LISTS = list[Plain]
EITHER = int | Plain
MAYBE = Optional[Plain]
SIZE = Annotated[float, 404, Scale(405)]
WORDS = Literal["a", 406]

def uses_boxes(x):
    return BOXES(x), Child(x)
def uses_plain(x):
    return PLAIN(x)
def uses_table(x):
    return TABLE.__args__[1](x)
def uses_lists(x):
    return LISTS.__args__[0](x)
def uses_either(x):
    return EITHER.__args__[1](x), MAYBE
def uses_size(x):
    return SIZE.__metadata__, WORDS

class Colour(enum.Enum):
    RED = 501
    SCALE = Scale(502)
    @enum.member
    def blue(x):
        return 503

class Pair(NamedTuple):
    a: int = 504

@dataclass
class Data:
    a: int = 505
    b: list = field(default_factory=lambda: [506])
    c: int = field(default=1, metadata={"scale": 507})

class Registered:
    def __init_subclass__(cls, level=1):
        cls.level = level + 508

class Subclass(Registered, level=509):
    pass

def uses_classes(x):
    return Colour.RED, Pair(), Data(), Subclass.level

class Config:
    def __init__(self, factor):
        self.factor, self.lock, self.nested = factor, threading.Lock(), {"a": (factor, helper)}
    def run(self, x):
        return x * self.factor
    def __call__(self, x):
        return x + 601

CONFIG = Config(602)
OTHER = Config(603)
run = OTHER.run
PARTS = {"a": functools.partial(operator.add, 604), "b": [lambda x: 605], "c": (Config(606).run,), 607: int}
FUNCTIONS = {bare, helper}
SPACE = types.SimpleNamespace(run=lambda x: 608)
match = re.compile("609").match
STRUCT = struct.Struct("610s")
unpack = struct.Struct("611s").unpack
first = operator.itemgetter(612)
CODES = Text = type("Text", (dict,), {})
TEXTS = Text(a=613)

def uses_objects(x):
    return CONFIG(x), PARTS["a"](x), FUNCTIONS, SPACE.run(x), STRUCT, TEXTS
def uses_methods(x):
    return run(x), match(x), unpack(x), first(x), rounded(x), uppered(x), exp(x)

rounded = math.floor
uppered = str.upper
exp = np.exp
"""
#: functions of the second one
OF_HELD = {
    "uses_model": [*range(101, 111)],
    "Model": [*range(103, 111)],
    "uses_meta": [201, 202, 203],
    "with_attributes": [301, 302, 303, 304, 306],
    "with_function": [301, 302, 303, 304, 305, 306],
    "functools.partial(with_attributes, 1)": [304],
    "uses_boxes": [401, 403],
    "uses_plain": [402],
    "uses_table": [402],
    "uses_lists": [402],
    "uses_either": [402],
    "uses_size": [404, 405, 406],
    "uses_classes": [*range(501, 510)],
    "uses_objects": [301, 601, 602, 604, 605, 606, 607, 608, 610, 613],
    "uses_methods": [603, 609, 611, 612],
}
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


class TestHeld:
    """What is reached by the attributes of objects, classes and functions, by containers and aliases."""

    @pytest.mark.parametrize(
        ("function", "number"), [(function, number) for function, numbers in OF_HELD.items() for number in numbers]
    )
    def test_another_number_is_another_key(self, function: str, number: int) -> None:
        changed = HELD.replace(str(number), str(number + 7000))
        assert HELD.count(str(number)) == 1
        assert key(function, HELD) != key(function, changed)

    @pytest.mark.parametrize(
        ("function", "old", "new"),
        [
            ("uses_meta", "OfMeta(metaclass=Meta)", "OfMeta"),
            ("with_attributes", '"one", "two"', '"one", "too"'),
            ("uses_lists", "list[Plain]", "List[Plain]"),
            ("uses_boxes", "BOXES = Box[int]", "BOXES = Box[str]"),
            ("uses_either", "int | Plain", "float | Plain"),
            ("uses_either", "Optional[Plain]", "Optional[Box]"),
            ("uses_objects", "{bare, helper}", "{bare, kept}"),
            ("uses_methods", "math.floor", "math.ceil"),
            ("uses_methods", "str.upper", "str.lower"),
            ("uses_methods", "np.exp", "np.log"),
        ],
    )
    def test_another_of_its_kind_is_another_key(self, function: str, old: str, new: str) -> None:
        assert old in HELD
        assert key(function, HELD) != key(function, HELD.replace(old, new))

    @pytest.mark.parametrize("function", OF_HELD)
    def test_made_anew_by_the_same_text(self, function: str) -> None:
        assert key(function, HELD) == key(function, HELD)

    def test_the_same_in_each_process_whatever_its_hash_seed(self, tmp_path: Path) -> None:
        program = textwrap.dedent(
            f"""
            import sys; sys.path.insert(0, {str(tmp_path)!r})
            unused = [object() for _ in range(int(sys.argv[1]))]  # other addresses
            from script_of_keys import *
            from allcores.cache.keys import function_key
            for function in [{", ".join(OF_HELD)}][:: -1 if sys.argv[1] == "1" else 1]:
                print(function_key(function).hex())
            """
        )
        found = set()
        for seed in ("0", "1", "2000"):
            (tmp_path / "script_of_keys.py").write_text(HELD)
            environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
            run = subprocess.run(
                [sys.executable, "-c", program, seed], env=environment, capture_output=True, text=True, check=True
            )
            found.add(frozenset(run.stdout.split()))
        assert len(found) == 1
        assert len(next(iter(found))) == len(OF_HELD)

    @pytest.mark.parametrize(
        "more",
        [
            "f.pytestmark = [1]; helper.pytestmark = [2]",
            "f.unread = 1; helper.unread = Box(1)",
            "f.calls = 5",
            "helper.calls = 6",
            "f.last = 7",
            "BOX.calls = 8",
            "f.memo = {1: 2}",
            "BOX.result_cache[1] = 2",
            "f(1)",
        ],
    )
    def test_what_tools_put_there_and_what_is_only_counted_changes_no_key(self, more: str) -> None:
        text = textwrap.dedent(
            """
            class Box:
                def __init__(self, x):
                    self.x, self.calls, self.result_cache = x, 0, {}
                def get(self):
                    self.calls += 1
                    return self.result_cache.setdefault(self.x, self.x)
            BOX = Box(3)
            def helper(x):
                helper.calls += 1
                return x
            def f(x):
                f.calls += 1
                f.last = x
                if x not in f.memo:
                    f.memo[x] = helper(x) + BOX.get()
                return f.memo[x]
            f.calls, f.memo, helper.calls = 0, {}, 0
            """
        )
        assert key("f", text) == key("f", text + more)
        assert key("f", text) != key("f", text.replace("Box(3)", "Box(4)"))

    def test_what_is_counted_and_read_counts(self) -> None:
        text = "def f(x):\n    f.calls += 1\n    return f.calls\nf.calls = 1"
        assert key("f", text) != key("f", text.replace("calls = 1", "calls = 2"))

    def test_of_functions_without_any_of_it_as_it_was(self) -> None:
        """What was kept before there was all this is still found."""
        from allcores.cache.code import Facts

        assert [len(part) for part in Facts(key_bytes).of(script()["is_even"])[1:]] == [6, 6]
        assert [len(part) for part in Facts(key_bytes).of(script()["Made"])[1:]] == [3, 6, 6]

    @pytest.mark.parametrize(
        "text",
        [
            "class Node: pass\nfirst = node = Node()\n"
            "for number in range(20_000): node.next = Node(); node.number = number; node = node.next\n",
            "class Node: pass\nfirst = [Node() for _ in range(1000)]\n"
            "for node in first: node.all, node.numbers = first, list(range(1000))\n",
            "first = []\nfor _ in range(100_000): first = [first]\n",
            "first = [len]\nfirst.append(first)\n",
            "first = {}\nfirst[1] = first\n",
            "import types\nfirst = types.SimpleNamespace(a=len)\nfirst.b = [first]\n",
            "first = lambda: 1\nfor _ in range(3_000): first, inner = (lambda: 1), first; first.inner = inner\n"
            "def reads(x): return x.inner\n",
            "first = [[(lambda: 1) for _ in range(900)] for _ in range(5)]\n"
            "for part in first:\n    for each in part: each.__dict__.update(dict.fromkeys(map(str, range(20))))\n"
            "a, b, c, d, e = first\ndef reads(): return a, b, c, d, e\n",
            "class Node:\n    def get(self): return self.x\n"
            "first = [Node() for _ in range(900)]\n"
            "for each in first: each.x, each.run = 1, lambda self: self.x\n",
            "import threading\nclass Mine(threading.Thread): pass\nfirst = Mine(); first.start()\n",
            "class Angry:\n    def __getattr__(self, name): raise OSError(name)\nfirst = Angry()\n",
        ],
    )
    def test_what_is_large_or_in_itself_has_a_key_soon(self, text: str) -> None:
        text += "def f(x): return first, reads\nreads = globals().get('reads')\n"
        begun = time.process_time()
        assert key("f", text) == key("f", text)
        assert time.process_time() - begun < 10


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


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with Python 3.12")
def test_a_type_that_is_made_of_itself_is_looked_into_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its branches is the whole again."""
    from allcores.cache import code

    looks: list[object] = []
    alias = code.Facts._alias

    def look(self: code.Facts, value: Any, depth: int) -> Any:
        looks.append(value)
        return alias(self, value, depth)

    monkeypatch.setattr(code.Facts, "_alias", look)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("type Json = dict[str, Json] | list[Json] | tuple[Json, ...] | None\ndef find(x): return Json, x", names)
    code.Facts(key_bytes).of(names["find"])
    assert 0 < len(looks) < 50


@pytest.mark.parametrize("folder", ["user/lib/python3.11/site-packages", "usr/lib/python3/dist-packages"])
def test_what_is_installed_elsewhere_is_installed(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `pip install --user`, or by the system: all of a library would be looked into, at the start of each map."""
    (tmp_path / folder).mkdir(parents=True)
    name = f"installed_{folder[:3]}_elsewhere"
    (tmp_path / folder / f"{name}.py").write_text("def work(x):\n    return x\n\nclass Thing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path / folder)
    module = importlib.import_module(name)
    try:
        assert not any(is_own(each) for each in (module, module.work, module.Thing))
    finally:
        del sys.modules[name]
