"""errors.py: one tree, complete in its picture and in the docs, and able to travel."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest

import allcores
from allcores import errors
from allcores.errors import (
    AllcoresError,
    BatchError,
    Interrupted,
    NotPicklable,
    RemoteError,
    RemoteTraceback,
    SliceError,
    TaskError,
    TaskTimeout,
    WorkerLost,
)

#: carries text, is never raised by itself, and so is not in the picture
HELPERS = {RemoteTraceback}
CLASSES = [
    each
    for each in vars(errors).values()
    if inspect.isclass(each) and issubclass(each, BaseException) and each.__module__ == errors.__name__
]
RAISED = [each for each in CLASSES if each not in HELPERS]
ROOT = Path(__file__).parents[2]


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """The picture in the module's docstring: name -> (name above it, builtin in brackets)."""
    assert errors.__doc__
    found: dict[str, tuple[str | None, str | None]] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^    ([│ ]*(?:[├└]── )?)([A-Z]\w+)(?: \(([\w, ]+)\))?(?:  |$)", line)
        if match is None:
            continue
        depth = len(match[1])
        while above and above[-1][0] >= depth:
            above.pop()
        found[match[2]] = (above[-1][1] if above else None, match[3])
        above.append((depth, match[2]))
    return found


def test_the_picture_is_complete() -> None:
    """Every error is drawn, and every error that is drawn exists."""
    assert set(drawn()) == {each.__name__ for each in RAISED}


@pytest.mark.parametrize("name", list(drawn()))
def test_the_picture_is_true(name: str) -> None:
    """Each error stands below its base class, with the standard library's that it also is."""
    above, others = drawn()[name]
    kind = getattr(errors, name)
    bases = [base.__name__ for base in kind.__bases__]
    if above is None:
        assert bases == [others or "Exception"]
    else:
        assert bases == [above, *(others.split(", ") if others else [])]


@pytest.mark.parametrize("kind", RAISED)
def test_errors_can_be_had_from_the_package(kind: type[BaseException]) -> None:
    """`except allcores.WorkerLost` needs no other import."""
    assert getattr(allcores, kind.__name__) is kind
    assert kind.__name__ in allcores.__all__


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_say_when_one_gets_them(kind: type[BaseException]) -> None:
    """Each has a docstring of its own, with a line for each of its facts."""
    assert kind.__doc__
    if kind in HELPERS:
        return
    initializer = inspect.signature(kind.__init__) if "__init__" in vars(kind) else None
    for name in initializer.parameters if initializer else ():
        if name not in ("self", "message", "facts"):
            assert re.search(rf"^ *{name}: ", kind.__doc__, re.MULTILINE), f"{name} is not explained"


def example(kind: type[BaseException]) -> BaseException:
    if kind is Interrupted:
        return Interrupted("interrupted", [1, 2])
    if kind is RemoteTraceback:
        return RemoteTraceback("Traceback ...")
    if kind is NotPicklable:
        return NotPicklable("no", path="items[3].lock")
    if kind is TaskTimeout:
        return TaskTimeout("late", timeout=2.5, index=7, attempts=2, worker=3)
    if kind is WorkerLost:
        return WorkerLost(
            "died", exitcode=None, signal="SIGSEGV", peak_memory=12, stack="File ...", index=7, attempts=2, worker=3
        )
    if kind is RemoteError:
        return RemoteError("odd", type_name="work.Odd", index=7, attempts=2, worker=3)
    if kind is BatchError:
        return BatchError("too few", expected=3, returned=1)
    if kind is SliceError:
        return SliceError("gone", path="/data/big.npy", start=0, stop=100)
    if issubclass(kind, TaskError):
        return kind("failed", index=7, attempts=2, worker=3)
    return kind("a message")


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(kind: type[BaseException], protocol: int) -> None:
    """An error that crosses a process boundary keeps its type, message and facts; so does a copy."""
    error = example(kind)
    error.add_note("a note")
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)


class Derived(WorkerLost):
    """What a user may derive, with an initializer of another kind."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}", exitcode=code)


def test_derived_errors_survive_pickling() -> None:
    """A subclass whose initializer takes other arguments travels as well."""
    again = pickle.loads(pickle.dumps(Derived(code=3)))
    assert (type(again), str(again), again.exitcode) == (Derived, "code 3", 3)


def test_facts_have_defaults() -> None:
    """An item's error can be made from a message alone, where nothing else is known."""
    for error in (TaskError("x"), WorkerLost("x"), TaskTimeout("x", timeout=1)):
        assert (error.index, error.attempts, error.worker) == (None, 1, None)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.UsageError, ValueError),
        (errors.NotSupported, ValueError),
        (errors.PoolClosed, RuntimeError),
        (errors.NotPicklable, TypeError),
        (errors.TaskTimeout, TimeoutError),
        (errors.BrokenPool, RuntimeError),
        (errors.Interrupted, KeyboardInterrupt),
    ],
)
def test_errors_are_caught_where_people_already_catch_them(
    kind: type[BaseException], builtin: type[BaseException]
) -> None:
    """A builtin that names the same trouble catches ours."""
    assert issubclass(kind, builtin)
    assert issubclass(kind, AllcoresError) is (kind is not errors.Interrupted)


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_are_documented(kind: type[BaseException]) -> None:
    """docs/errors.md has a section for each error, with its way out."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^#+ (.+?)\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL))
    body = next((body for title, body in sections.items() if kind.__name__ in re.findall(r"\w+", title)), None)
    assert body is not None, f"{kind.__name__} has no section"
    assert len(body.split()) > 8, f"{kind.__name__} has next to nothing to say"


def test_the_docs_name_no_error_that_is_gone() -> None:
    """A section of docs/errors.md that is called like an error of ours is about one that exists."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^## ([A-Z]\w+)$", text, re.MULTILINE))
    assert names >= {each.__name__ for each in RAISED}
    ours = {each.__name__ for each in CLASSES}
    assert {name for name in names - ours if name.endswith(("Error", "Lost", "Timeout", "Closed"))} == set()
