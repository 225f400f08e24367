"""transport/exceptions.py and remote_exceptions.py: an exception arrives as what it was, whatever its class is like."""

from __future__ import annotations

import copy
import copyreg
import errno
import os
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from allcores.errors import RemoteError, RemoteTraceback
from allcores.transport import exceptions, remote_errors
from allcores.transport.exceptions import pack
from allcores.transport.remote_exceptions import unpack

made: list[str] = []


def travelled(error: BaseException) -> Any:
    made.clear()
    again = unpack(pack(error), index=3)
    assert made == []
    return again


class Counted(Exception):
    """Notes each call of its initializer."""

    def __init__(self, *, request: object, status: int = 0) -> None:
        made.append("Counted")
        super().__init__(f"status {status}")
        self.request = request
        self.status = status


class FewArguments(Exception):
    def __init__(self) -> None:
        super().__init__("many", "words", 3)


class OfOneArgument(Exception):
    """Pickle does make one anew: another one."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")


class Slotted(Exception):
    __slots__ = ("__private", "code")

    def __init__(self, code: int) -> None:
        self.code = code
        self.__private = [code]

    def private(self) -> list[int]:
        return self.__private


class OfNew(ValueError):
    def __new__(cls, *, what: str) -> OfNew:
        made.append("OfNew")
        error = super().__new__(cls, what)
        error.what = what
        return error

    def __init__(self, *, what: str) -> None:
        self.what = what


class NotFound(LookupError, OSError):
    """Of two built-in bases, with the larger one second."""

    def __init__(self, *, path: str) -> None:
        OSError.__init__(self, errno.ENOENT, "no such thing", path)


class ByReduce(Exception):
    def __init__(self, low: int, high: int) -> None:
        super().__init__("range")
        self.low, self.high = low, high

    def __reduce__(self) -> Any:
        return ByReduce, (self.low, self.high + 1)


class ByReduceOfItsBase(ByReduce):
    """What its base says of pickling is not true of it."""

    def __init__(self, middle: int) -> None:
        super().__init__(middle - 1, middle + 1)

    def __reduce__(self) -> Any:
        return ByReduceOfItsBase, (1, 2, 3)


class Refuses(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(3)

    def __getstate__(self) -> Any:
        raise SystemExit(4)

    def __str__(self) -> str:
        raise SystemExit(5)

    __repr__ = __str__


class Guarded(Exception):
    """Takes no attributes, and shows none of what it has."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def __getattribute__(self, name: str) -> Any:
        raise AttributeError(name)


class Team(ExceptionGroup[Exception]):
    """A group with an initializer of its own."""

    def __new__(cls, errors: list[Exception], *, name: str) -> Team:
        made.append("Team")
        self = super().__new__(cls, f"team {name}", errors)
        self.name = name
        return self

    def __init__(self, errors: list[Exception], *, name: str) -> None:
        self.name = name


def test_no_initializer_is_called() -> None:
    """Keyword-only, too few and too many arguments: type, arguments and attributes are those of the worker."""
    error = travelled(Counted(request={"url": "x"}, status=404))
    assert type(error) is Counted and error.args == ("status 404",) and str(error) == "status 404"
    assert (error.request, error.status) == ({"url": "x"}, 404)
    assert travelled(FewArguments()).args == ("many", "words", 3)
    assert travelled(OfOneArgument(5)).args == ("code 5",)
    error = travelled(OfNew(what="this"))
    assert (type(error), error.args, error.what) == (OfNew, ("this",), "this")


def test_slots_arrive() -> None:
    error = travelled(Slotted(7))
    assert (type(error), error.code, error.private()) == (Slotted, 7, [7])


@pytest.mark.parametrize(
    "make",
    [
        lambda: open("/no/such/file"),  # noqa: SIM115
        lambda: os.rename("/no/such/file", "/nor/this"),
        lambda: b"\xff".decode(),
        lambda: "\ud800".encode(),
        lambda: compile("x = = 1", "script.py", "exec"),
        lambda: __import__("no_such_module"),
        lambda: no_such_name,  # type: ignore[name-defined]  # noqa: F821
        lambda: object().no_such_attribute,  # type: ignore[attr-defined]
        lambda: dict[str, int]()["key"],
        lambda: sys.exit(7),
        lambda: next(iter([])),
        lambda: (_ for _ in ()).throw(StopIteration(5)),
        lambda: _raise(NotFound(path="/there")),
        lambda: _raise(BlockingIOError(1, "full", 512)),
        lambda: _raise(UnicodeTranslateError("abc", 1, 2, "odd")),
        lambda: _raise(OSError("of text alone")),
    ],
)
def test_fields_of_built_in_exceptions_arrive(make: Callable[[], object]) -> None:
    """`errno`, `filename`, `name`, `lineno`, `value` and so on: all but the object of an AttributeError."""
    try:
        make()
    except BaseException as caught:
        error = caught
    again = travelled(error)
    assert type(again) is type(error) and again.args == error.args and str(again) == str(error)
    for name in dir(error):
        if not name.startswith("_") and name != "obj" and not callable(getattr(error, name, None)):
            assert getattr(again, name, None) == getattr(error, name, None), name


def _raise(error: BaseException) -> None:
    raise error


def test_a_way_of_its_own_is_kept() -> None:
    """A class that says how it is pickled is believed, as long as that works; otherwise its state travels."""
    error = unpack(pack(ByReduce(1, 5)))
    assert (type(error), error.low, error.high) == (ByReduce, 1, 6)  # type: ignore[union-attr]
    noted = ByReduce(1, 5)
    noted.add_note("seen")
    assert unpack(pack(noted)).__notes__ == ["seen"]  # type: ignore[union-attr]
    error = travelled(ByReduceOfItsBase(5))
    assert (type(error), error.low, error.high) == (ByReduceOfItsBase, 4, 6)


@pytest.mark.parametrize("kind", [Refuses, Guarded])
def test_hostile_classes_keep_their_type(kind: type[Exception]) -> None:
    """Methods that raise, or exit, are not called, or what they raise is of no consequence."""
    error = kind("word", 5)
    packed = exceptions.pack_error(error)
    args: Any = BaseException.__dict__["args"]
    assert type(travelled(error)) is kind and args.__get__(travelled(error)) == ("word", 5)
    _, again = remote_errors.unpack_error(packed, what="items[0]", worker=1)
    assert type(again) is kind
    attributes = BaseException.__dict__["__dict__"].__get__(again)
    assert attributes["__notes__"] == ["allcores: items[0] failed in worker 1, attempt None"]


def test_what_cannot_be_pickled_is_left_out_with_a_note() -> None:
    """A lock among the attributes or the arguments costs that part, and no other."""
    error = Counted(request=threading.Lock(), status=500)
    error.args = ("words", threading.Lock(), 3)
    error.add_note("mine")
    again = travelled(error)
    assert type(again) is Counted and again.status == 500 and not hasattr(again, "request")
    assert again.args[0] == "words" and "lock" in again.args[1] and again.args[2] == 3
    mine, note = again.__notes__
    assert mine == "mine" and "left out" in note
    assert "request (_thread.lock, TypeError)" in note and "args[1] (_thread.lock, TypeError)" in note


def test_a_single_argument_that_cannot_be_pickled_leaves_its_words() -> None:
    class Told:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __str__(self) -> str:
            return "what it says"

    assert str(travelled(ValueError(Told()))) == "what it says"


def test_a_part_that_is_enormous_is_left_out() -> None:
    """An exception with a large array costs neither the memory of the program nor its type."""
    error = Counted(request=bytes(exceptions.LARGEST_PART + 1), status=1)
    data = pack(error)
    assert len(data) < 100_000
    again: Any = unpack(data)
    assert again.status == 1 and not hasattr(again, "request")
    assert "request (bytes, 32 MB)" in again.__notes__[0]
    told: Any = unpack(pack(ValueError("x" * (exceptions.LARGEST_PART + 1))))
    assert len(str(told)) < 2_000 and "characters" in str(told)
    _, message, text, _ = exceptions.pack_error(ValueError("x" * 10_000_000))
    assert len(message) + len(text) < 2_000_000


def test_causes_contexts_and_notes_arrive() -> None:
    """Of each exception in the chain, with what suppresses a context."""
    try:
        try:
            try:
                raise Counted(request=1)
            except Counted as first:
                first.add_note("deep")
                raise KeyError("second") from first
        except KeyError:
            raise FewArguments from None
    except FewArguments as caught:
        error = caught
    again = travelled(error)
    assert again.__cause__ is None and again.__suppress_context__
    second = again.__context__
    assert isinstance(second, KeyError) and second.__suppress_context__
    third = second.__cause__
    assert isinstance(third, Counted) and second.__context__ is third
    assert third.__notes__ == ["deep"] and third.request == 1 and not third.__suppress_context__


def test_the_traceback_follows_the_last_cause() -> None:
    """`__suppress_context__` is what it was, all along."""
    error, cause = ValueError("effect"), KeyError("cause")
    error.__cause__ = cause
    _, again = remote_errors.unpack_error(exceptions.pack_error(error), what="items[0]")
    assert isinstance(again.__cause__, KeyError) and again.__suppress_context__
    assert isinstance(again.__cause__.__cause__, RemoteTraceback) and not again.__cause__.__suppress_context__
    assert "KeyError: 'cause'" in again.__cause__.__cause__.tb


def test_circles_arrive_and_end() -> None:
    """An exception that is its own cause, context, argument or attribute."""
    error, other = Counted(request=0), FewArguments()
    error.__cause__ = error.__context__ = other
    other.__cause__ = error
    error.request = [error, other]
    again = travelled(error)
    assert again.__cause__.__cause__ is again and again.__context__ is again.__cause__
    assert again.request[0] is again and again.request[1] is again.__cause__
    _, raised = remote_errors.unpack_error(exceptions.pack_error(error), what="items[0]")
    assert isinstance(raised.__cause__.__cause__, RemoteTraceback)  # type: ignore[union-attr]
    lonely = ValueError("x")
    lonely.__cause__ = lonely
    assert travelled(lonely).__cause__ is not None
    _, raised = remote_errors.unpack_error(exceptions.pack_error(lonely), what="items[0]")
    assert isinstance(raised.__cause__, RemoteTraceback)


def test_a_chain_without_end_is_cut() -> None:
    error = first = ValueError(0)
    for number in range(5_000):
        error.__context__ = ValueError(number)
        error = error.__context__
    again, count = travelled(first), 0
    while again is not None:
        again, count = again.__context__, count + 1
    assert count == exceptions.MOST_LINKED


def test_groups_arrive_whole() -> None:
    """Nested ones, ones of other classes, and members with causes."""
    inner = ExceptionGroup("inner", [Counted(request=1), FewArguments()])
    error = Team([inner, KeyError("k")], name="red")
    inner.exceptions[1].__cause__ = error
    again: Any = travelled(error)
    assert (type(again), again.message, again.name) == (Team, "team red", "red")
    first, second = again.exceptions
    assert type(first) is ExceptionGroup and isinstance(second, KeyError)
    assert [type(each) for each in first.exceptions] == [Counted, FewArguments]
    assert first.exceptions[1].__cause__ is again
    left = SystemExit(3)
    ended: Any = travelled(BaseExceptionGroup("ended", [left, ValueError("x")]))
    assert type(ended) is BaseExceptionGroup
    assert getattr(ended.exceptions[0], "code", None) == 3


def test_a_cause_whose_class_cannot_be_had_has_a_stand_in() -> None:
    """The exception itself does not suffer from it."""
    error = ValueError("effect")
    cause = type("Lost", (Exception,), {"__module__": "nowhere"})("gone")
    sys.modules["nowhere"] = type(sys)("nowhere")
    sys.modules["nowhere"].Lost = type(cause)  # type: ignore[attr-defined]
    error.__cause__ = cause
    data = pack(error)
    del sys.modules["nowhere"]
    again: Any = unpack(data, index=3)
    assert type(again) is ValueError
    assert isinstance(again.__cause__, RemoteError) and again.__cause__.type_name == "nowhere.Lost"
    assert "nowhere.Lost: gone" in str(again.__cause__) and again.__cause__.index == 3
    assert unpack(pack(cause)) is None or type(unpack(pack(cause))).__name__ == "Lost"


def test_state_that_cannot_be_unpickled_here_costs_the_state_alone() -> None:
    """The class is there, but not that of an attribute."""
    sys.modules["nowhere"] = module = type(sys)("nowhere")
    exec("class Part: pass", module.__dict__)
    data = pack(Counted(request=module.Part(), status=5))
    del sys.modules["nowhere"]
    again: Any = unpack(data)
    assert type(again) is Counted and str(again) == "status 5"
    assert "could not be unpickled here (ModuleNotFoundError" in again.__notes__[0]


def test_classes_inside_of_functions_arrive() -> None:
    class Local(Exception):
        def __init__(self, *, code: int) -> None:
            self.code = code

    again: Any = unpack(pack(Local(code=3)))
    assert type(again).__name__ == "Local" and again.code == 3


def test_exceptions_of_libraries_arrive() -> None:
    """`requests.HTTPError` has keyword-only arguments, and responses that hold connections."""
    requests = pytest.importorskip("requests")
    response = requests.Response()
    response.status_code, response._content = 503, b"busy"
    response.request = requests.Request("GET", "http://localhost/").prepare()
    error = travelled(requests.HTTPError("503", response=response))
    assert type(error) is requests.HTTPError
    assert error.response.status_code == 503 and error.response.content == b"busy"
    assert error.request.url == "http://localhost/"


def test_what_arrived_is_an_exception_like_any_other() -> None:
    """It can be raised, caught and copied."""
    again = travelled(NotFound(path="/there"))
    with pytest.raises(LookupError, match="there"):
        raise again
    assert again.filename == "/there" and again.errno == errno.ENOENT
    assert pickle.loads(pickle.dumps(travelled(ByReduce(1, 2)), 5)).high == 4
    assert copy.copy(travelled(KeyError("k"))).args == ("k",)


@pytest.mark.parametrize(("module", "code"), [("tblib.pickling_support", 7), ("of_the_program", None)])
def test_what_a_library_registers_for_all_exceptions_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, module: str, code: int | None
) -> None:
    """`import distributed` does so, with a way that loses fields; what a program registers is its own way."""

    def reduced(error: SystemExit) -> tuple[Any, ...]:
        return SystemExit.__new__, (SystemExit, *error.args)

    reduced.__module__ = module
    monkeypatch.setitem(copyreg.dispatch_table, SystemExit, reduced)
    again = travelled(SystemExit(7))
    assert type(again) is SystemExit and again.code == code
