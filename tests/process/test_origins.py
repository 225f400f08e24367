"""What a script defines comes back as what it is there: nothing of the program is overwritten by a worker's copy."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process import scripts

METHODS = ["template", "fork", "spawn"]

SCRIPT = """
import abc, dataclasses, enum, functools, logging, pickle, sys, typing
import allcores

class Config:
    level = 1
    items = [1]
    def method(self): return "old"
    class Inner:
        size = 1

class Slotted:
    __slots__ = ("x", "__y")
    def __init__(self, x): self.x = self.__y = x
    def y(self): return self.__y

class Child(Slotted):
    __slots__ = "z"

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 3

class Named(typing.NamedTuple):
    a: int

class Meta(type):
    made = []
    def __init__(cls, *args):
        super().__init__(*args)
        Meta.made.append(cls.__name__)

class Registered(metaclass=Meta): pass

class Box(typing.Generic[typing.TypeVar("T")]):
    def __init__(self, value): self.value = value

class Base(abc.ABC):
    @abc.abstractmethod
    def get(self): ...

class Impl(Base):
    def get(self): return super().__init__

class Failure(Exception):
    level = 1
    def __init__(self, a, b):
        super().__init__(a, b)
        self.b = b

def factory(number):
    class Local:
        k = number
    return Local

Nameless, Other = factory(1), factory(2)

def top(x): return x

def decorate(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args)
    return wrapper

@decorate
def decorated(x): return x

nameless = lambda x: x

def counter():
    n = 0
    def count():
        nonlocal n
        n += 1
        return n
    return count

def build(kind):
    if kind == "objects":
        child = Child(2)
        child.z = 5
        assert not hasattr(child, "__dict__"), "slots are real in a worker, too"
        return [Config(), Config.Inner(), Slotted(1), child, Color.RED, Point(1), Named(1), Registered(), Box(1),
                Impl(), Nameless(), Other(), Failure(1, 2)]
    if kind == "names":
        return [Config, Nameless, top, decorated, nameless, Config().method.__func__, Color, list[Config], Box[int]]
    if kind == "closure":
        count = counter()
        count()
        return count
    if kind == "raise": raise Failure(1, 2)
    if kind == "log": logging.getLogger("x").warning("said", extra={"config": Config()})
    if kind == "own":
        class Own(Config):
            z = 1
        return Own()

def echo(x): return x

def nested(kinds):
    with allcores.Pool(1) as pool:
        return pool.map(build, kinds)

def load(): return Config()

def setup(*args): return args

def state(state, item): return state

def patch():
    Config.level, Config.Inner.size, Failure.level, Nameless.k = 2, 2, 2, 10
    Config.items.append(2)
    Config.method = new

def new(self): return "new"

def check(found):
    assert [type(each) for each in found] == [Config, Config.Inner, Slotted, Child, Color, Point, Named, Registered,
        Box, Impl, Nameless, Other, Failure], found
    assert found[2].y() == 1 and found[3].z == 5 and found[4] is Color.RED and found[5] == Point(1) and found[6].a == 1
    assert found[0].method() == "new"
    unchanged()

def unchanged():
    assert (Config.level, Config.items, Config.Inner.size, Failure.level, Nameless.k) == (2, [1, 2], 2, 2, 10)
    assert Meta.made == ["Registered"]

class Kept(logging.Handler):
    def emit(self, record): kept.append(record.config)

kept = []
logging.getLogger().addHandler(Kept())
method = None if sys.argv[1] == "template" else sys.argv[1]
with allcores.Pool(1, start_method=method, logs=True, setup=setup, setup_args=(Config(), Nameless)) as pool:
    assert pool.submit(state, 1).result()[1] is Nameless
with allcores.Pool(1, start_method=method, logs=True) as pool:
    pool.map(build, ["objects"])
    patch()
    check(pool.submit(build, "objects").result())
    names = pool.submit(build, "names").result()
    # The method that was patched meanwhile is the one that was sent, or what has its name now.
    assert names[:5] + names[6:] == [Config, Nameless, top, decorated, nameless, Color, list[Config], Box[int]], names
    assert pool.submit(build, "closure").result()() == 2, "a closure brings its state along"
    try:
        pool.submit(build, "raise").result()
    except Failure as error:
        assert error.b == 2
    own = [pool.submit(build, "own").result() for _ in range(2)]
    assert all(isinstance(each, Config) and each.z == 1 for each in own)
    for value in (Config(), Nameless(), Point(2), Color.RED, Failure(1, 2)):
        assert type(pool.submit(echo, value).result()) is type(value)
    for value in (Config, Nameless, Color, top, nameless, decorated):
        assert pool.submit(echo, value).result() is value
    check(pool.submit(nested, ["objects"]).result()[0])
    pool.submit(build, "log").result()
    shared = pool.share([Config(), nameless])
    assert type(shared[0]) is Config and shared[1] is nameless
    unchanged()
    # Defined anew, as a notebook does: what comes back is what has the name now.
    waiting, old = pool.submit(build, "objects"), Config()
    class Config:
        level = 7
    assert type(waiting.result()[0]) is Config and Config.level == 7
    # An object of the class that has lost its name keeps its class.
    assert type(pool.submit(echo, old).result()) is type(old) is not Config
assert [type(each).__name__ for each in kept] == ["Config"]
print("fine")
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_comes_back_is_the_programs_own(tmp_path: Path, method: str) -> None:
    """Classes, objects, exceptions, functions and log records; from nested pools; with what was patched meanwhile."""
    ending = scripts.run(SCRIPT, tmp_path, method)
    assert (ending.out, ending.err, ending.code) == ("fine\n", "", 0)


CLASS_OF_A_WORKER = """
import allcores
def make(x):
    import builtins
    if not hasattr(builtins, "Own"):
        class Own:
            level = 1
        builtins.Own = Own
    return builtins.Own()
def echo(x): return x, type(x).level
with allcores.Pool(1) as pool:
    first = pool.submit(make, 1).result()
    kind = type(first)
    kind.level = 2
    assert type(pool.submit(make, 1).result()) is kind and kind.level == 2
    value, level = pool.submit(echo, first).result()
    assert type(value) is kind and kind.level == 2 and level == 1, level
with allcores.Pool(1) as other:
    value, level = other.submit(echo, first).result()
    assert type(value) is kind and level == 2
print("fine")
"""


def test_a_class_that_a_worker_made_is_not_changed_by_later_results(tmp_path: Path) -> None:
    """It travels as code; the program has one copy of it, which is the program's from then on, and so the other way."""
    ending = scripts.run(CLASS_OF_A_WORKER, tmp_path)
    assert (ending.out, ending.err, ending.code) == ("fine\n", "", 0)


GONE = """
import allcores, time
class Config: pass
def build(x): return Config()
with allcores.Pool(1) as pool:
    waiting = pool.submit(build, 1)
    good = pool.submit(abs, -1)
    pool.submit(time.sleep, 0).result()
    del Config, build
    import gc; gc.collect()
    try:
        print(type(waiting.result()).__name__)
    except Exception as error:
        print(type(error).__name__, error)
    print(good.result())
"""


def test_a_name_that_is_gone_costs_one_result(tmp_path: Path) -> None:
    """It is an error of that item which says what to do; or its result, if that had come back before."""
    ending = scripts.run(GONE, tmp_path)
    assert (ending.err, ending.code, ending.lines[-1]) == ("", 0, "1")
    assert ending.lines[0] == "Config" or "__main__.Config, which was sent to the worker, is not there" in ending.out


SIZES = """
import allcores
from allcores.transport import pickling
class Config:
    text = "x" * 20_000
    def __init__(self, x): self.x = x
def size(x):
    return len(pickling.dumps(Config(x), to_parent=True))
with allcores.Pool(1) as pool:
    print(pool.submit(size, 1).result() < 200)
"""


def test_the_class_does_not_travel_with_each_result(tmp_path: Path) -> None:
    ending = scripts.run(SIZES, tmp_path)
    assert (ending.out, ending.err) == ("True\n", "")
