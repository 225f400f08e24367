"""transport/pickling.py and unpacking.py: everything travels that can, and what cannot says so."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import pickle
import pickletools
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.errors import NotPicklable, RemoteError, RemoteTraceback, TaskExited
from allcores.outcome import Kind
from allcores.transport import pickling
from allcores.transport.exceptions import pack_error
from allcores.transport.pickling import dump_named, dump_values, dumps, explain_with_path, loads
from allcores.transport.remote_errors import EXITING, as_exception, unpack_error

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


class Counting:
    """Counts how often it is pickled."""

    pickled = 0

    def __reduce__(self) -> Any:
        Counting.pickled += 1
        return Counting, ()


class Point:
    """A class that a worker can import."""

    def __init__(self, x: int) -> None:
        self.x = x

    def double(self) -> int:
        return 2 * self.x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


# --- values ---------------------------------------------------------------------------------------


@given(plain_values)
def test_plain_data_travels_by_plain_pickle(value: Any) -> None:
    """Data comes back equal, and cloudpickle is not asked: nothing is called, or looked for by its name."""
    assert loads(dumps(value)) == value
    assert not {code.name for code, _, _ in pickletools.genops(dumps(value))} & {"GLOBAL", "STACK_GLOBAL", "REDUCE"}


@given(st.lists(plain_values, max_size=12))
def test_plain_values_may_travel_as_one(values: list[Any]) -> None:
    """A list of plain data cannot fail halfway when it is unpickled, so one pickle will do."""
    data = dump_values(values)
    assert data is not None
    assert loads(data) == values


@pytest.mark.parametrize("many", [1, 20])
@pytest.mark.parametrize(
    "value",
    [Point(1), Point, operator.add, ValueError("x"), 1 + 2j, range(3), Kind.OK, [[{"deep": (Point(2),)}]]],
)
def test_values_with_code_of_their_own_travel_apart(value: Any, many: int) -> None:
    """Anything that runs code when it is unpickled might fail then, and must not take its neighbours along."""
    assert dump_values([1] * many + [value]) is None


def test_values_with_code_of_their_own_are_not_pickled_for_nothing() -> None:
    """They travel apart, so each is pickled then; here none is, and none can raise."""
    assert dump_values([1, threading.Lock(), Counting()]) is None
    assert dump_values([Counting(), [Counting()]]) is None
    assert Counting.pickled == 0


def test_values_that_will_not_pickle_raise() -> None:
    """What pickling raises is the caller's to handle: it knows which item it was."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        dump_values([1, deep])


# --- functions ------------------------------------------------------------------------------------


def test_functions_of_modules_travel_by_name() -> None:
    """Both sides can import it, so a name is enough."""
    assert loads(dumps(math.sqrt)) is math.sqrt
    assert len(dumps(math.sqrt)) < 60


def test_lambdas_and_closures_travel() -> None:
    """What has no name that another process could find travels as code, with what it closes over."""
    offset = 40
    assert loads(dumps(lambda x: x + offset))(2) == 42
    assert loads(dumps(functools.partial(lambda a, b: a - b, 50)))(8) == 42

    def recursive(n: int) -> int:
        return 1 if n == 0 else n * recursive(n - 1)

    assert loads(dumps(recursive))(5) == 120


def test_bound_methods_travel_with_their_object() -> None:
    """A method of an object that pickles is as good as a function."""
    assert loads(dumps(Point(21).double))() == 42


@pytest.fixture
def script() -> Iterator[types.ModuleType]:
    """A `__main__` with things that a worker does not have."""
    module = types.ModuleType("__main__")
    exec(
        "class Mine:\n"
        "    def __init__(self, x): self.x = x\n"
        "class MineError(Exception): pass\n"
        "def twice(x): return 2 * x\n"
        "def four(x): return twice(twice(x))\n",
        module.__dict__,
    )
    original = sys.modules["__main__"]
    sys.modules["__main__"] = module
    yield module
    sys.modules["__main__"] = original


def test_what_a_script_defines_travels_as_code(script: types.ModuleType) -> None:
    """Functions and objects of `__main__` arrive where `__main__` is another program."""
    function, value, error = dumps(script.four), dumps([script.Mine(7)]), dumps(script.MineError("x"))
    sys.modules["__main__"] = types.ModuleType("__main__")
    assert loads(function)(3) == 12
    assert loads(value)[0].x == 7
    assert type(loads(error)).__name__ == "MineError"


def test_the_text_main_is_only_text() -> None:
    """Data that happens to contain the word `__main__` arrives as it is."""
    assert loads(dumps(["__main__", b"__main__"])) == ["__main__", b"__main__"]


# --- what will not travel -------------------------------------------------------------------------


def test_a_function_that_will_not_travel_says_why() -> None:
    """The error names the path to the part at fault, in the message and as an attribute; the cause is pickle's own."""
    lock = threading.Lock()
    with pytest.raises(NotPicklable) as caught:
        dump_named(lambda x: (lock, x), "work")
    assert "lock" in str(caught.value)
    assert caught.value.path is not None and "lock" in caught.value.path
    assert caught.value.__cause__ is not None


class Interrupted:
    """Pickled when a signal arrives whose handler raises: the first time it fails, and never again."""

    def __init__(self) -> None:
        self.times = 0

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        self.times += 1
        if self.times == 1:
            raise TimeoutError("time is up")
        return int, (self.times,)

    def __call__(self, item: int) -> int:
        return item


def _dump_plainly(obj: object) -> bytes:
    return pickle.dumps(obj)


def test_what_a_handler_raises_is_not_the_functions_fault() -> None:
    """A time limit by SIGALRM that rings while a function is pickled is raised as it is."""
    with pytest.raises(TimeoutError, match="time is up"):
        pickling.dump_named(Interrupted(), "f", _dump_plainly)


def test_the_path_leads_to_the_part_at_fault() -> None:
    """Items are named as the caller would write them."""
    item = {"db": [1, threading.Lock()]}
    with pytest.raises(TypeError) as caught:
        dumps(item)
    error = explain_with_path(item, "items[57]", caught.value)
    assert error.path == "items[57]['db'][1]"
    assert isinstance(error, TypeError)


# --- errors ---------------------------------------------------------------------------------------


def raised(error: BaseException) -> BaseException:
    """`error` with a traceback, as it comes from a task."""
    try:
        raise error
    except BaseException as caught:
        return caught


def there_and_back(error: BaseException, **facts: Any) -> tuple[Kind, BaseException]:
    """What the caller gets for an exception of a task."""
    packed = pack_error(raised(error))
    travelled = loads(dumps(packed))
    return unpack_error(travelled, what="items[3] (7)", **{"index": 3, "attempts": 2, "worker": 5, **facts})


class Facts(Exception):
    """Carries attributes, as a good exception does."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Awkward(Exception):
    """Its initializer takes two arguments, but it passes one on: the classic that does not unpickle."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Locked(Exception):
    """Holds what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class Mute(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Liar(Exception):
    """Becomes something else on its way."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, ("not an exception",))


class Explosive(Exception):
    """Ends the program of whoever unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, (3,))


class Base(BaseException):
    """Not an Exception."""


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Takes no attributes, so neither a cause nor a note."""

    code: int


def test_an_exception_arrives_as_what_it_is() -> None:
    """Its type, arguments and attributes; the worker's traceback is its cause, a note names item and worker."""
    kind, error = there_and_back(Facts(42))
    assert kind is Kind.FAILED
    assert type(error) is Facts
    assert (error.args, error.code) == ((42,), 42)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in raised" in str(error.__cause__) and "Facts: 42" in str(error.__cause__)
    assert error.__notes__ == ["allcores: items[3] (7) failed in worker 5, attempt 2"]


def test_the_chain_of_causes_arrives_and_ends_in_the_text() -> None:
    """What an exception was raised from is its cause here too; the worker's traceback follows after the last cause."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as caught:
        outer = caught
    _, error = there_and_back(outer)
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, KeyError) and error.__cause__.args == ("inner",)
    text = error.__cause__.__cause__
    assert isinstance(text, RemoteTraceback)
    assert "KeyError: 'inner'" in str(text) and "direct cause" in str(text)


@pytest.mark.parametrize("error", [Awkward(3, "text"), Locked(), Liar("x"), Explosive("x"), Facts(42)], ids=repr)
def test_an_exception_that_pickle_cannot_make_anew_keeps_its_type(error: Exception) -> None:
    """Type, arguments and attributes are there, and a note names what of them is not."""
    kind, again = there_and_back(error)
    assert kind is Kind.FAILED
    assert type(again) is type(error) and again.args == error.args
    assert {**vars(error), "__notes__": 0, "lock": 0} == {**vars(again), "__notes__": 0, "lock": 0}
    assert isinstance(again.__cause__, RemoteTraceback) and type(error).__name__ in str(again.__cause__)
    left_out = [note for note in again.__notes__ if "left out" in note]
    assert len(left_out) == hasattr(error, "lock") and hasattr(again, "lock") is False
    assert all("lock (_thread.lock" in note for note in left_out)


def test_an_exception_whose_class_is_not_here_has_a_stand_in() -> None:
    """RemoteError says what it stands for, with the same traceback and the facts of the item."""
    module = types.ModuleType("only_there")
    exec("class Lost(Exception): pass", module.__dict__)
    sys.modules["only_there"] = module
    packed = loads(dumps(pack_error(raised(module.Lost("x")))))
    del sys.modules["only_there"]
    kind, stand_in = unpack_error(packed, what="items[3] (7)", index=3, attempts=2, worker=5)
    assert kind is Kind.FAILED
    assert isinstance(stand_in, RemoteError)
    assert "only_there.Lost: x" in str(stand_in)
    assert stand_in.type_name == "only_there.Lost"
    assert (stand_in.index, stand_in.attempts, stand_in.worker) == (3, 2, 5)
    assert "only_there.Lost: x" in str(stand_in.__cause__)


def test_an_exception_that_cannot_be_shown_arrives() -> None:
    """A __str__ that raises costs the words, not the failure."""
    name, message, text, _ = pack_error(raised(Mute()))
    assert name.endswith("Mute")
    assert "could not be formatted" in message
    assert text
    kind, _ = there_and_back(Mute())
    assert kind is Kind.FAILED


def test_an_exception_that_takes_no_attributes_arrives() -> None:
    """A frozen exception keeps its type and fields, and has the cause and the note as others do."""
    kind, error = there_and_back(Frozen(7))
    assert kind is Kind.FAILED
    assert isinstance(error, Frozen) and error.code == 7
    assert isinstance(error.__cause__, RemoteTraceback)
    assert error.__notes__ == ["allcores: items[3] (7) failed in worker 5, attempt 2"]


def test_other_base_exceptions_arrive_wrapped() -> None:
    """What is not an `Exception` (asyncio.CancelledError, say) would be taken for the caller's own end."""
    kind, error = there_and_back(Base("x"))
    assert (kind, type(error), type(error.__cause__)) == (Kind.FAILED, TaskExited, Base)


@pytest.mark.parametrize("ender", EXITING)
def test_what_would_end_the_caller_is_wrapped(ender: type[BaseException]) -> None:
    """SystemExit and its like mean something else in the caller; they come inside a TaskExited."""
    kind, error = there_and_back(ender("x"))
    assert isinstance(error, TaskExited)
    assert isinstance(error.__cause__, ender)
    assert isinstance(error.__cause__.__cause__, RemoteTraceback)
    assert ender.__name__ in str(error)
    assert (error.index, error.attempts, error.worker) == (3, 2, 5)
    assert kind is (Kind.WORKER_LOST if ender is SystemExit else Kind.FAILED)


def test_the_exit_code_is_named() -> None:
    """sys.exit(3) in a task says so."""
    _, error = there_and_back(SystemExit(3))
    assert "exit code 3" in str(error)


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")

    __str__ = __repr__


def test_an_exit_code_that_cannot_be_shown_costs_no_more_than_its_item() -> None:
    """It may be any object."""
    kind, error = there_and_back(SystemExit(Unshown()))
    assert kind is Kind.WORKER_LOST and isinstance(error, TaskExited)
    assert "exit code <Unshown, which could not be shown: RuntimeError>" in str(error)


def test_frames_of_the_worker_are_left_out() -> None:
    """A traceback begins in the user's function, not in ours."""

    def ours() -> None:
        raise_it()

    def raise_it() -> None:
        raise ValueError("here")

    try:
        ours()
    except ValueError as caught:
        error = caught
    _, _, whole, _ = pack_error(error)
    _, _, short, _ = pack_error(error, skip_frames=2)
    assert "in ours" in whole
    assert "in ours" not in short and "in raise_it" in short
    _, _, still, _ = pack_error(error, skip_frames=99)
    assert "in raise_it" in still


def test_garbage_is_no_exception() -> None:
    """Bytes that will not unpickle, or are something else, become a stand-in as well."""
    for data in (b"garbage", pickle.dumps("text"), pickle.dumps(sys.exit), None):
        kind, error = unpack_error(("Odd", "message", "Traceback ...", data), what="items[0]")
        assert kind is Kind.FAILED
        assert isinstance(error, RemoteError)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), StopIteration(), GeneratorExit(), Base("x")])
def test_tamed_errors_end_nothing(error: BaseException) -> None:
    """Raised while something is unpickled in the caller, they are wrapped; ordinary ones stay as they are."""
    tamed = as_exception(error, "the call")
    assert isinstance(tamed, TaskExited)
    assert tamed.__cause__ is error
    ordinary = ValueError("x")
    assert as_exception(ordinary, "the call") is ordinary


def test_code_keeps_the_name_of_its_file() -> None:
    """A traceback from a worker shows the line, also of a function inside of a function."""

    def outer() -> Callable[[], int]:
        return lambda: 1

    outer.__module__ = "__main__"
    copy = loads(pickling.cloud_dumps(outer))
    assert copy.__code__.co_filename == copy().__code__.co_filename == __file__
    assert copy()() == 1


def test_the_home_of_cloudpickle_loads_it_late() -> None:
    """Nothing but what needs it pays for cloudpickle."""
    assert "cloudpickle" not in vars(pickling)


def test_a_local_of_threads_is_made_anew_with_what_this_thread_has() -> None:
    """Scripts keep connections in one; another process has threads, and connections, of its own."""
    mine = threading.local()
    mine.name = "here"

    def name() -> tuple[str, bool]:
        return mine.name, hasattr(mine, "connection")

    there = loads(dumps(name))
    mine.name, mine.connection = "changed", 1
    assert there() == ("here", False)
