"""worker/lost_changes.py: what a script's function fills or counts in vain is noticed, and caches are not."""

from __future__ import annotations

import array
import collections
import functools
import mmap
import sys
import types
import weakref
from collections.abc import Callable
from multiprocessing.sharedctypes import RawArray
from typing import Any

import pytest

from allcores.transport import script_globals
from allcores.transport.reduction import Reduction
from allcores.worker.lost_changes import RISES, watch
from allcores.worker.reachable import sets_attribute
from allcores.worker.watched_functions import modules_of

#: its memory stays for as long as the process
SHARED = RawArray("d", 9)
SCRIPT = """
import collections
found, seen, table, words, last, count, seconds = [], set(), {}, collections.Counter(), collections.deque(), 0, 0.0
groups, totals, known, kept_cache, MEMO, settings = collections.defaultdict(list), {"n": 0}, {}, [], {}, [1, 2]
def append(x): found.append(x)
def append_and_return(x): found.append(x); return x
def add(x): seen.add(x)
def put(x): table[x] = x
def tally(x): words[x] += 1; return x
def push(x): last.append(x)
def group(x): groups[x].append(x); return x
def total(x): totals["n"] += x; return x
def by_number(x):
    global count
    count += 1
    return x
def by_float(x):
    global seconds
    seconds += 0.5
def through_another(x): helper(x); return x
def helper(x): found.append(x)
def inside(x): return [found.append(x) for _ in range(1)]
def memoized(x):
    if x not in known: known[x] = x * 2
    return known[x]
def cached(x): kept_cache.append(x)
def cached_by_name(x): MEMO[x] = x
def read(x): return settings[0] + len(found) + count
missing = float("nan")
def read_what_equals_nothing(x): return missing
def local(x):
    found = []
    found.append(x)
    return found
def undone(x):
    found.append(x)
    found.pop()
"""


def script(name: str = "__main__") -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": name}
    exec(SCRIPT, space)
    return space


def changed(function: Any, calls: int = 5) -> list[str]:
    watched = watch(function)
    values = [function(number) for number in range(calls)]
    return watched.changed(returned=any(value is not None for value in values)) if watched is not None else []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("append", "found"),
        ("append_and_return", "found"),
        ("add", "seen"),
        ("put", "table"),
        ("tally", "words"),
        ("push", "last"),
        ("group", "groups"),
        ("total", "totals"),
        ("by_number", "count"),
        ("by_float", "seconds"),
        ("through_another", "found"),
        ("inside", "found"),
    ],
)
def test_what_is_filled_or_counted_is_named(name: str, what: str) -> None:
    assert changed(script()[name]) == [what]


@pytest.mark.parametrize(
    "name", ["memoized", "cached", "cached_by_name", "read", "read_what_equals_nothing", "local", "undone"]
)
def test_nothing_else_is(name: str) -> None:
    """A dict that grows while the function returns values, what is called a cache, and what is only read."""
    assert changed(script()[name]) == []


def test_modules_that_setup_is_of() -> None:
    """Of the function that is called in the end, whatever brings its arguments."""

    class Initialize:
        def __init__(self, initializer: Any) -> None:
            self.initializer = initializer

    space = script("a_module")
    bound = functools.partial(space["append"], 1)
    assert "a_module" in modules_of(space["append"])
    assert "a_module" in modules_of(bound)
    assert "a_module" in modules_of(Initialize(functools.partial(bound)))
    assert modules_of(None) == set()


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/home/me/project/a_module.py", True),
        ("/home/me/project/.venv/lib/python3/site-packages/a_module.py", False),
        ("/usr/lib/python3/dist-packages/a_module.py", False),
        (functools.__file__, False),
        (None, False),
    ],
)
def test_modules_of_the_program_are_looked_at(file: str | None, own: bool) -> None:
    """Not those of the standard library, of what is installed, or of nobody knows where."""
    space = script("a_module") | ({"__file__": file} if file else {})
    exec(SCRIPT, space)
    assert changed(space["append"]) == (["found"] if own else [])
    assert changed(space["through_another"]) == (["found"] if own else [])
    assert watch(space["append"], frozenset({"a_module"})) is None


def test_what_another_module_of_the_program_holds_is_named_with_it() -> None:
    """By its attribute, or in a function of it."""
    other = types.ModuleType("other")
    vars(other).update(script("other"), __file__="/home/me/project/other.py")
    exec(SCRIPT, vars(other))
    space: dict[str, Any] = {"__name__": "__main__", "other": other, "helper": other.helper}
    exec("def direct(x): other.found.append(x)\ndef called(x): helper(x)", space)
    assert changed(space["direct"]) == ["other.found"]
    assert changed(space["called"]) == ["found"]


def test_builtins_and_what_is_no_function_are_left_alone() -> None:
    assert watch(len) is None and watch(5) is None and watch(functools.lru_cache(len)) is None


def test_what_a_setup_function_has_bound_is_the_workers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_globals, "_bound", {"__main__": {"found": []}})
    assert changed(script()["append"]) == []


def test_what_a_closure_holds_is_named() -> None:
    space = script()
    exec(
        "def make():\n    inner = []\n    def fill(x): inner.append(x)\n    return fill\n"
        "def counter():\n    n = 0\n    def up(x):\n        nonlocal n\n        n += 1\n    return up\n",
        space,
    )
    assert changed(space["make"]()) == ["inner"]
    assert changed(space["counter"]()) == ["n"]


@pytest.mark.parametrize(
    "wrap", [functools.partial, functools.lru_cache, lambda function: functools.wraps(function)(lambda x: function(x))]
)
def test_wrappers_are_looked_through(wrap: Callable[[Any], Any]) -> None:
    assert changed(wrap(script()["append"])) == ["found"]


@pytest.mark.parametrize("wrap", [lambda method: method, functools.partial, lambda method: Reduction(method, max)])
def test_what_the_object_of_a_method_holds_is_named(wrap: Callable[[Any], Any]) -> None:
    space = script()
    exec(
        "class Search:\n    def __init__(self): self.found, self.cached = [], []\n"
        "    def run(self, x):\n        self.found.append(x)\n        self.cached.append(x)\n",
        space,
    )
    assert chunks(wrap(space["Search"]().run)) == ["self.found"]


def test_the_function_of_reduce_is_looked_at() -> None:
    assert changed(Reduction(script()["append"], max)) == ["found"]


def test_no_code_of_the_program_is_called() -> None:
    """Values are compared by identity, and counted by methods of built-in types."""

    class Odd(collections.Counter[int]):
        def __len__(self) -> int:
            raise AssertionError

        def items(self) -> Any:
            raise AssertionError

    class Never:
        def __eq__(self, other: object) -> bool:
            raise AssertionError

        __hash__ = None  # type: ignore[assignment]

    space = script()

    class OddList(list[Any]):
        def __len__(self) -> int:
            raise AssertionError

        def __iter__(self) -> Any:
            raise AssertionError

        def __getitem__(self, place: Any) -> Any:
            raise AssertionError

    space["words"], space["found"] = Odd(), OddList([Never()])
    assert changed(space["tally"]) == ["words"]
    assert changed(space["append"]) == ["found"]


def test_large_containers_cost_little() -> None:
    """They are compared by their length, and the first part of what is in them."""
    space = script()
    space["found"], space["seen"] = list(range(100_000)), set(range(100_000))
    space["found"] += [0]
    assert changed(space["append"]) == ["found"]
    assert changed(space["add"]) == [] and changed(space["add"], calls=0) == []
    space["seen"].discard(3)
    assert changed(space["add"]) == ["seen"]


def of_array(array: Any) -> Callable[[int], None]:
    """A function that writes into one which its closure holds."""

    def write(place: int) -> None:
        array[place] = array[place] + 1

    return write


def numpy_arrays() -> dict[str, Any]:
    np = pytest.importorskip("numpy")
    return {
        "floats": np.zeros((3, 4)),
        "small floats": np.zeros(9, "float16"),
        "flags": np.zeros(9, bool),
        "large": np.zeros(1_000_000, "int64"),
        "a part": np.zeros(9)[:4],
        "of a buffer": np.frombuffer(bytearray(80), "int64"),
        "shared by multiprocessing": np.frombuffer(SHARED),
        "shared by a map": np.frombuffer(mmap.mmap(-1, 4096), "int64"),
        "not to be written": np.frombuffer(bytes(8), "int64"),
        "texts": np.array(["a", "b"]),
        "objects": np.array([1, None]),
        "complex": np.zeros(3, "complex128"),
        "nothing": np.zeros(0),
        "all of it at once": np.ones(9),
    }


@pytest.mark.parametrize("array", [bytearray(9), array.array("d", [0.0] * 9), array.array("q", [0] * 100_000)])
@pytest.mark.parametrize("place", [0, -1])
def test_what_is_written_into_an_array_is_named(array: Any, place: int) -> None:
    """Unless the function returns values: then it may compute there."""
    write = of_array(array)
    watched = watch(write)
    assert watched is not None
    assert watched.changed(returned=False) == []
    write(place)
    assert watched.changed(returned=False) == ["array"]
    assert watched.changed(returned=True) == []
    array.pop()
    assert watched.changed(returned=False) == ["array"]


@pytest.mark.parametrize(
    "kind", ["floats", "small floats", "flags", "large", "a part", "of a buffer", "all of it at once"]
)
def test_arrays_of_numpy_are_looked_at(kind: str) -> None:
    found = numpy_arrays()[kind]
    write = of_array(found)
    watched = watch(write)
    assert watched is not None and watched.changed(returned=False) == []
    write(0)
    assert watched.changed(returned=False) == ["array"]


@pytest.mark.parametrize(
    "kind", ["shared by multiprocessing", "shared by a map", "not to be written", "texts", "objects"]
)
def test_arrays_that_may_be_shared_or_hold_objects_are_left_alone(kind: str) -> None:
    assert watch(of_array(numpy_arrays()[kind])) is None


@pytest.mark.parametrize("kind", ["complex", "nothing"])
def test_arrays_whose_bytes_cannot_be_had_change_nothing(kind: str) -> None:
    watched = watch(of_array(numpy_arrays()[kind]))
    assert watched is not None and watched.changed(returned=False) == []


OWNERS = """
import abc
class Stats:
    count, seen, seconds, words, different = 0, [], 0.0, {"all": 0}, set()
    def __init__(self):
        self.calls, self.found, self.by_word, self.my_cache = 0, [], collections.Counter(), []
        self.queue, self.kept = collections.deque(), collections.deque(maxlen=2)
    def note(self, x):
        self.calls += 1
        self.my_cache.append(x)
    def fill(self, x): self.found.append(x)
    @classmethod
    def up(cls, x=0): cls.count += 1
class Base(abc.ABC):
    made = 0
class Item(Base):
    def __init__(self): Base.made += 1
class Memo(Stats): pass
stats, cache, known_words = Stats(), Stats(), Memo()
def attribute(x): Stats.count += 1; return x
def for_nothing(x): Stats.count += 1
def some_fail(x): Stats.count += 1; return None if x % 2 else x
def seconds(x): stats.seconds += 0.5; return x
def class_list(x): Stats.seen.append(x); return x
def class_set(x): Stats.different.add(x); return x
def by_the_object(x): stats.seen.append(x); return x
def of_an_object(x): stats.calls += 1; return x
def by_another(x): helper_of_objects(x); return x
def helper_of_objects(x): stats.found += [x]
def inside(x): return [stats.found.append(each) for each in (x,)]
def to_a_queue(x): stats.queue.append(x); return x
def to_the_last(x): stats.kept.append(x); return x
def class_table(x): Stats.words["all"] += 1; return x
def counter(x): stats.by_word[x % 2] += 1; return x
def method(x): stats.note(x); return x
def constructor(x): Item(); return x
def by_a_cache(x): cache.calls += 1
def by_a_memo(x): known_words.calls += 1
def sets_it(x): stats.calls = x; return x
def takes_out(x): stats.found.clear(); stats.found.extend(range(x)); return x
def by_name(x): setattr(stats, "calls", 0); stats.calls += x; return x
def another(x): stats.note(x); return str(x).count("1")
def replaced(x): stats.found = list(range(x)); return x
class Parser:
    def __init__(self):
        self.tokens, self.pos, self.stack, self.at, self.stamp = [], 0, [], -1, 0
        self.seen, self.path, self.pages, self.state = set(), [], collections.OrderedDict(), {}
    def reset(self): self.at = 0
    def parse(self, x):
        self.reset()
        self.tokens = [object() for _ in range(x)]
        self.pos = 0
        self.pos += x
        self.at += x
        self.stack.append(x)
        self.stack.pop()
        self.seen.clear()
        self.seen.update(range(x))
        self.path.clear()
        self.path.extend(range(x))
        self.pages[x] = self.state[x] = x
        return x
    def parse_for_nothing(self, x): self.parse(x); self.pos += 1; self.at += 1; self.path.append(x)
parser = Parser()
def parses(x): return parser.parse(x)
def parses_for_nothing(x): parser.parse(x)
"""


def chunks(function: Any, many: int = 6) -> list[str]:
    """What is found changed in one chunk after the other."""
    watched = watch(function)
    if watched is None:
        return []
    found = []
    for number in range(many):
        value = function(number)
        found += watched.changed(returned=value is not None)
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("attribute", "Stats.count"),
        ("for_nothing", "Stats.count"),
        ("some_fail", "Stats.count"),
        ("seconds", "stats.seconds"),
        ("class_list", "Stats.seen"),
        ("class_set", "Stats.different"),
        ("by_the_object", "Stats.seen"),
        ("of_an_object", "stats.calls"),
        ("by_another", "stats.found"),
        ("inside", "stats.found"),
        ("to_a_queue", "stats.queue"),
    ],
)
def test_attributes_that_rise_or_grow_are_named(name: str, what: str) -> None:
    space = script()
    exec(OWNERS, space)
    assert chunks(space[name]) == [what]


@pytest.mark.parametrize(
    "name",
    [
        *("to_the_last", "class_table", "counter", "method", "constructor", "by_a_cache", "by_a_memo", "sets_it"),
        *("takes_out", "by_name", "another", "replaced", "parses", "parses_for_nothing"),
    ],
)
def test_what_a_call_works_with_is_not(name: str) -> None:
    """What methods do is their own affair; tables may be caches; and what is set or cleared is not what is left."""
    space = script()
    exec(OWNERS, space)
    assert chunks(space[name], 12) == []


def test_so_it_is_with_the_object_of_a_method() -> None:
    space = script()
    exec(OWNERS, space)
    assert chunks(space["parser"].parse, 12) == []
    assert chunks(space["parser"].parse_for_nothing, 12) == []
    assert chunks(space["stats"].note) == ["self.calls"]
    assert chunks(space["stats"].fill) == ["self.found"]
    assert chunks(space["stats"].up) == ["Stats.count"]


@pytest.mark.parametrize("many", [1, RISES - 1, RISES, RISES + 1])
@pytest.mark.parametrize("name", ["attribute", "for_nothing"])
def test_attributes_are_told_of_late(many: int, name: str) -> None:
    space = script()
    exec(OWNERS, space)
    assert chunks(space[name], many) == (["Stats.count"] if many >= RISES else [])


def test_nothing_that_was_in_an_attribute_is_held() -> None:
    space = script()
    exec(OWNERS, space)
    exec("def work(x): stats.found.append(x)", space)

    class Large:
        pass

    first = Large()
    space["stats"].found.append(first)
    ref = weakref.ref(first)
    del first
    watched = watch(space["work"])
    assert watched is not None
    space["stats"].found.clear()
    assert ref() is None
    for _ in range(3):
        space["stats"].found[:] = [Large()]
        ref = weakref.ref(space["stats"].found[0])
        watched.changed(returned=True)
        space["stats"].found.clear()
        assert ref() is None


def test_attributes_that_a_setup_function_has_set_are_the_workers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    space = script()
    exec(OWNERS, space)
    monkeypatch.setattr(script_globals, "_attributes", {space["Stats"]: {"count": 0}})
    monkeypatch.setattr(script_globals, "_bound", {"__main__": {"stats": space["stats"]}})
    assert chunks(space["attribute"]) == []
    assert chunks(space["of_an_object"]) == []
    assert chunks(space["class_list"]) == ["Stats.seen"]


@pytest.mark.parametrize(("file", "own"), [("/home/me/project/a_module.py", True), (functools.__file__, False)])
def test_classes_of_the_program_are_looked_at(file: str, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_module")
    vars(module).update(script("a_module"), __file__=file)
    exec(OWNERS, vars(module))
    monkeypatch.setitem(sys.modules, "a_module", module)
    space: dict[str, Any] = {"__name__": "__main__", "Stats": module.Stats, "stats": module.stats}
    exec("def work(x): Stats.count += 1; stats.calls += 1", space)
    assert sorted(chunks(space["work"])) == (["Stats.count", "stats.calls"] if own else [])


def test_no_code_of_a_class_is_called() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise AssertionError(name)

    class Strange(metaclass=Meta):
        __module__ = "__main__"
        count = 0

        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    space = script()
    space["strange"], space["Strange"] = object.__new__(Strange), Strange
    exec("def work(x): x or strange.count or Strange.count", space)
    watched = watch(space["work"])
    assert watched is not None and watched.changed(returned=False) == []


@pytest.mark.parametrize(
    ("line", "sets"),
    [
        ("a.n += 1", False),
        ("a.n -= a.m", False),
        ("a.b.n |= 1", False),
        ("(lambda: a)().n += 1", False),
        ("a.n = 1", True),
        ("a.n = a.n + 1", True),
        ("a.m, a.n = 1, 2", True),
        ("a.m = a.n = 1", True),
        ("for a.n in a.m: pass", True),
        ("with a.m as a.n: pass", True),
        ("def inside(a): a.n = 1", True),
        ("def inside(a): a.n += 1", False),
        ("a.m = 1; a.n += 1; a.m = 2", False),
        ("a.m[a.n] = 1", False),
        (";".join(f"a.x{number} = 1" for number in range(300)) + ";a.n = 1", True),
        (";".join(f"a.x{number} = 1" for number in range(300)) + ";a.n += 1", False),
    ],
)
def test_what_is_only_added_to_is_told_from_what_is_set(line: str, sets: bool) -> None:
    space: dict[str, Any] = {}
    exec(f"def code(a):\n    {line}", space)
    assert sets_attribute(space["code"].__code__, "n") is sets


ARGUMENTS = """
class Stats:
    def __init__(self): self.count = 0
def into(x, out): out.append(x)
def by_name(x, *, table): table[x] = x
def counts(x, stats): stats.count += 1
def reads(x, out): return len(out)
def undone(x, out): out.append(x); return out.pop()
def memoized(x, known): return known.setdefault(x, x)
def cached(x, kept_cache): kept_cache.append(x)
def anew(x, out):
    out = []
    out.append(x)
def first(out, x): out.append(x)
class Search:
    def run(self, x, out): out.append(x)
"""


@pytest.mark.parametrize(
    ("name", "bound", "what"),
    [
        ("into", {"out": []}, ["out"]),
        ("by_name", {"table": collections.Counter()}, ["table"]),
        ("counts", {"stats": "Stats"}, ["stats.count"]),
        *((name, {"out": []}, []) for name in ("reads", "undone", "anew")),
        ("memoized", {"known": {}}, []),
        ("cached", {"kept_cache": []}, []),
    ],
)
@pytest.mark.parametrize("wrap", [lambda function: function, lambda function: Reduction(function, max)])
def test_what_a_partial_hands_to_the_function_is_named(
    name: str, bound: dict[str, Any], what: list[str], wrap: Callable[[Any], Any]
) -> None:
    """So do constants that are given to `map`."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(ARGUMENTS, space)
    given = {each: space["Stats"]() if value == "Stats" else value.copy() for each, value in bound.items()}
    function = functools.partial(space[name], **given)
    watched = watch(wrap(function))
    found: list[str] = []
    for number in range(6):
        value = function(number)
        found += watched.changed(returned=value is not None) if watched is not None else []
    assert list(dict.fromkeys(found)) == what


def test_so_it_is_by_place_and_for_a_method() -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(ARGUMENTS, space)
    assert changed(functools.partial(space["first"], [])) == ["out"]
    assert changed(functools.partial(space["Search"]().run, out=[])) == ["out"]


# --- generators of random numbers -----------------------------------------------------------------

RANDOM = """
import random
import numpy

generator, legacy = numpy.random.default_rng(1), numpy.random.RandomState(1)
plain, system = random.Random(1), random.SystemRandom()
class Own(random.Random): pass
own = Own(1)
def new(x): return generator.random()
def old(x): return legacy.rand()
def python(x): return plain.random()
def helper(x): return new(x)
def seeded(x):
    plain.seed(x)
    return plain.random()
def its_own(x): return numpy.random.default_rng([1, x]).random()
def of_the_system(x): return system.random()
def of_a_class_of_its_own(x): return own.random()
def unused(x): return generator is legacy
def local(x): return random.random()
"""


def random_script(name: str = "__main__") -> dict[str, Any]:
    """A script that draws random numbers."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile(RANDOM, "script.py", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("name", "what"), [("new", ["generator"]), ("old", ["legacy"]), ("python", ["plain"]), ("helper", ["generator"])]
)
def test_a_generator_that_came_with_a_function_and_is_drawn_from_is_named(name: str, what: list[str]) -> None:
    """Each worker draws the same numbers from its copy."""
    function = random_script()[name]
    watched = watch(function)
    assert watched is not None and watched.drawn() == []
    function(1)
    assert watched.drawn() == what
    assert watched.changed(returned=True) == []


@pytest.mark.parametrize("name", ["seeded", "its_own", "of_the_system", "of_a_class_of_its_own", "unused", "local"])
def test_other_random_numbers_are_nobodys_mistake(name: str) -> None:
    function = random_script()[name]
    watched = watch(function)
    function(1)
    assert watched is None or watched.drawn() == []


def test_the_generator_of_a_module_each_worker_has_made_for_itself(tmp_path: Any) -> None:
    names = random_script("drawing")
    names["__file__"] = str(tmp_path / "drawing.py")
    watched = watch(names["new"])
    names["new"](1)
    assert watched is None or watched.drawn() == []


def test_generators_in_a_closure_and_a_partial_are_looked_at() -> None:
    import random

    generator = random.Random(1)

    def draw(x: int) -> float:
        return x + generator.random()

    def draw_from(x: int, source: random.Random) -> float:
        return x + source.random()

    draw.__module__ = draw_from.__module__ = "__main__"
    for function, name in ((draw, "generator"), (functools.partial(draw_from, source=generator), "source")):
        watched = watch(function)
        assert watched is not None
        function(1)
        assert watched.drawn() == [name]
