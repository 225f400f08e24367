"""Classes of a script in a worker: they are what they are in the program, however they were made there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process import scripts

METHODS = ["template", "fork", "spawn"]

MADE = """
import abc, enum, pickle, sys
import allcores
from tests.process import classes

class Base:
    def __init_subclass__(cls, /, arg, **more):
        super().__init_subclass__(**more)
        cls.arg = arg

class Keyword(Base, arg="hello"): pass

class Plugin:
    known = []
    def __init_subclass__(cls):
        if cls in Plugin.known: raise ValueError("it is there already")
        Plugin.known.append(cls)

class First(Plugin): pass

class Prefixed:
    def __init_subclass__(cls): cls.full = cls.prefix + "!"

class Body(Prefixed): prefix = "p"

class Meta(abc.ABCMeta):
    def __new__(kind, name, bases, names, *, option):
        made = super().__new__(kind, name, bases, names)
        made.option = option
        return made
    def __init__(cls, name, bases, names, *, option): super().__init__(name, bases, names)

class WithMeta(metaclass=Meta, option=3):
    @abc.abstractmethod
    def get(self): ...

class Got(WithMeta, option=4):
    def get(self): return self.option

class Sealed(type):
    def __setattr__(cls, name, value): raise AttributeError(name)

class Closed(metaclass=Sealed): level = 1

class OfModule(classes.Registering, name="own"): pass

class OfModuleMeta(metaclass=classes.Strict, name="strict"): pass

class Mode(enum.IntFlag, boundary=enum.CONFORM): A = 1; B = 2

def look(item):
    assert Plugin.known == [First] and isinstance(item, First), Plugin.known
    assert classes.Registering.names == ["own"] or OfModule.name == "own"
    return (Keyword.arg, Body.full, WithMeta.option, Got().get(), WithMeta.__abstractmethods__ == {"get"}, Closed.level,
            OfModule.name, OfModuleMeta.name, Mode(5) == Mode.A)

def make(kind):
    if kind == "own":
        class Own(Base, arg="own"): pass
        return Own()
    return {"keyword": Keyword, "meta": Got, "sealed": Closed, "module": OfModule}[kind]()

method = None if sys.argv[1] == "template" else sys.argv[1]
with allcores.Pool(1, start_method=method) as pool:
    found = pool.submit(look, First()).result()
    assert found == ("hello", "p!", 3, 4, True, 1, "own", "strict", True), found
    assert [type(each) for each in pool.map(make, ["keyword", "meta", "sealed", "module"])] == [
        Keyword, Got, Closed, OfModule]
    own = pool.submit(make, "own").result()
    assert isinstance(own, Base) and own.arg == "own"
assert Plugin.known == [First] and classes.Registering.names == ["own"]
try:
    class Fails(Base): pass
except TypeError:
    print("fine")
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_was_done_when_they_were_defined_is_not_done_again(tmp_path: Path, method: str) -> None:
    """Keywords of `class` statements are kept by nobody, and are not needed; registers have each class once."""
    ending = scripts.run(MADE, tmp_path, method)
    assert (ending.out, ending.err, ending.code) == ("fine\n", "", 0)


CHANGED = """
import sys
import allcores

class Parent:
    version, on = 1, False
    def method(self): return "parent"

class Child(Parent):
    version, on = 1, False
    method = Parent.method

class Other: version = 5

class Both(Parent, Other): version = 5

class Later(Parent): version = 7

class Gone: level = 1

def look(_): return Child.version, Child.on, Child().method(), Both.version
def later(_): return Later.version
def gone(_): return getattr(Gone, "level", None)

method = None if sys.argv[1] == "template" else sys.argv[1]
with allcores.Pool(1, start_method=method) as pool:
    assert pool.map(later, [0]) == [7] and pool.map(gone, [0]) == [1]
    Parent.version, Parent.on, Parent.method = 2, True, lambda self: "changed"
    Later.version = Parent.version
    del Gone.level
    found = pool.map(look, [0])
    assert found == [(1, False, "parent", 5)], found
    assert pool.map(later, [0]) == [2] and pool.map(gone, [0]) == [None]
print("fine")
"""


@pytest.mark.parametrize("method", METHODS)
def test_they_have_what_they_have_by_now(tmp_path: Path, method: str) -> None:
    """Also an attribute that a base has, too, whatever becomes of that; and none that is gone."""
    ending = scripts.run(CHANGED, tmp_path, method)
    assert (ending.out, ending.err, ending.code) == ("fine\n", "", 0)


ENUMERATIONS = """
import enum, sys
import allcores

class Planet(enum.Enum):
    EARTH = (1, 2)
    MARS = (3, 4)
    def __init__(self, mass, radius): self.mass, self.radius = mass, radius
    @property
    def ratio(self): return self.mass / self.radius

class Coordinate(bytes, enum.Enum):
    def __new__(cls, value, label):
        made = bytes.__new__(cls, [value])
        made._value_, made.label = value, label
        return made
    X = (65, "P.X")
    Y = (66, "P.Y")

class Word(str, enum.Enum):
    def __new__(cls, text, more):
        made = str.__new__(cls, text)
        made._value_, made.more = text, more
        return made
    A = "a", 1

class Color(enum.Enum): RED = 1; CRIMSON = 1; BLUE = 2

class Right(enum.Flag): READ = 1; WRITE = 2; BOTH = 3

class Local:
    class Inner(enum.Enum): A = 1

def look(_):
    return [
        Planet.EARTH.ratio, Planet((3, 4)) is Planet.MARS, bytes(Coordinate.X), Coordinate.X.label,
        Coordinate(66) is Coordinate.Y, Word.A == "a", Word.A.more, Color.CRIMSON is Color.RED, list(Color.__members__),
        len(Color), Right.BOTH == Right.READ | Right.WRITE, Right(3).name, list(Right.__members__), repr(Local.Inner),
        Local.__qualname__, Local.Inner.__qualname__,
    ]
def echo(x): return x

method = None if sys.argv[1] == "template" else sys.argv[1]
with allcores.Pool(1, start_method=method) as pool:
    for _ in range(2):
        found = pool.map(look, [0])[0]
        assert found == look(0), found
        Color.more = 1  # it is sent again
    for member in [*Planet, *Coordinate, *Word, *Color, Right.BOTH, Right.READ | Right.WRITE]:
        assert pool.map(echo, [member])[0] is member, member
print("fine")
"""


@pytest.mark.parametrize("method", METHODS)
def test_enumerations_have_their_members_as_they_are(tmp_path: Path, method: str) -> None:
    """With what `__new__` and `__init__` made of them, under each of their names."""
    ending = scripts.run(ENUMERATIONS, tmp_path, method)
    assert (ending.out, ending.err, ending.code) == ("fine\n", "", 0)


PICKLED = """
import collections, dataclasses, enum, multiprocessing, pickle, sys
import allcores

@dataclasses.dataclass
class Result: value: int

class Color(enum.Enum): RED = 1

Named = collections.namedtuple("Named", "x")

class Outer:
    class Inner: size = 3

def helper(x): return x + 1

def write(x): return pickle.dumps([Result(x), Color.RED, Named(1), Outer.Inner(), Result])
def write_function(x): return pickle.dumps(helper)
def again(x): return pickle.loads(pickle.dumps(Result(x))) == Result(x)
def read(data): return isinstance(pickle.loads(data), Result)
def put(x, queue): queue.put(Result(x))
def take(queue): return queue.get(timeout=60) == Result(5)

class Config: pass
def first(x): return Config
def second(x): return pickle.dumps(Config())

method = None if sys.argv[1] == "template" else sys.argv[1]
if __name__ == "__main__":
    with allcores.Pool(1, start_method=method) as pool, multiprocessing.Manager() as manager:
        found = pickle.loads(pool.submit(write, 1).result())
        assert found[:3] == [Result(1), Color.RED, Named(1)] and found[4:] == [Result], found
        assert type(found[3]) is Outer.Inner
        assert method == "fork" or pickle.loads(pool.submit(write_function, 1).result()) is helper
        assert pool.map(again, [1, 2]) == [True, True] and pool.map(read, [pickle.dumps(Result(1))]) == [True]
        queue = manager.Queue()
        pool.map(put, [4], queue=queue)
        assert queue.get(timeout=60) == Result(4)
        queue.put(Result(5))
        assert pool.map(take, [queue]) == [True]
        assert pool.map(first, [0]) == [Config]
        class Config: level = 2
        assert pickle.loads(pool.submit(second, 0).result()).level == 2
    print("fine")
"""


@pytest.mark.parametrize("method", METHODS)
def test_tasks_may_pickle_them_by_themselves(tmp_path: Path, method: str) -> None:
    """Into a file, or a queue: pickle finds them by the names that they have in the script."""
    ending = scripts.run(PICKLED, tmp_path, method)
    assert (ending.out, ending.err, ending.code) == ("fine\n", "", 0)


BY_FORK = """
import enum, multiprocessing
import allcores

class Value:
    level = 1
    def __init__(self, value): self.value = value

class Color(enum.Enum): RED = 1

STATE = None

def begin(value, color):
    global STATE
    STATE = value, color
    Value.level = 2

def look(_): return isinstance(STATE[0], Value), STATE[1] is Color.RED, Value.level
def back(_): return STATE

context = multiprocessing.get_context("fork")
with allcores.Executor(1, mp_context=context, initializer=begin, initargs=(Value(3), Color.RED)) as executor:
    for _ in range(2):
        assert executor.submit(look, 0).result() == (True, True, 2), executor.submit(look, 0).result()
        Value.other = 7
    value, color = executor.submit(back, 0).result()
    assert type(value) is Value and color is Color.RED and Value.level == 1
print("fine")
"""


def test_what_an_initializer_has_by_fork_is_of_the_tasks_classes(tmp_path: Path) -> None:
    """The function that a task calls comes by value later, and means the same by the names of its classes."""
    ending = scripts.run(BY_FORK, tmp_path)
    assert (ending.out, ending.err, ending.code) == ("fine\n", "", 0)
