"""pool/function_state.py: what a function refers to, and whether any of that has changed."""

from __future__ import annotations

import functools
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import pytest

from allcores.pool.function_state import FunctionState


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
    state = FunctionState(wrap())
    assert state.is_current() and state.is_current()
    change()
    assert not state.is_current()


def test_what_a_closure_holds_and_what_a_method_is_of() -> None:
    count, config = [0], Config()

    def closure(number: int) -> int:
        return count[0]

    closure_state, method_state, partial_state = map(
        FunctionState, (closure, config.method, functools.partial(max, count))
    )
    assert closure_state.is_current() and method_state.is_current() and partial_state.is_current()
    config.depth = 9
    count[0] = 1
    assert not (closure_state.is_current() or method_state.is_current() or partial_state.is_current())


def test_no_code_of_the_program_is_called() -> None:
    class Foreign(dict[str, int]):
        def __eq__(self, other: object) -> bool:
            raise AssertionError

        def __len__(self) -> int:
            raise AssertionError

        __hash__ = None

    table = Foreign()
    state = FunctionState(lambda: table)
    assert state.is_current()
    dict.__setitem__(table, "a", 1)
    assert not state.is_current()


def test_a_proxy_is_not_asked_for_what_it_stands_for() -> None:
    """Flask's `current_app`, say, which raises outside of a request."""

    class Proxy:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise RuntimeError

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError

    proxy = Proxy()
    assert FunctionState(lambda: proxy).is_current()


def test_large_containers_cost_little() -> None:
    """Their beginnings and lengths are compared."""
    numbers = list(range(1_000_000))
    state = FunctionState(lambda: numbers)
    assert state.is_current()
    numbers.append(1)
    assert not state.is_current()
