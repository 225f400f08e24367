"""Context variables travel by the place where another process finds them, or by a key."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import pytest

from allcores.transport import context_variables as variables
from allcores.transport.context_variables import Values, reduce

in_this_module: ContextVar[int] = ContextVar("in_this_module")


def test_one_of_a_module_is_found_there() -> None:
    find, place = reduce(in_this_module)
    assert place == (__name__, "in_this_module")
    assert find(*place) is in_this_module


def test_one_of_a_module_that_cannot_be_imported_elsewhere_has_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main module stands under several names in a process that multiprocessing has started."""
    module: Any = ModuleType("__mp_main__")
    module.mine = ContextVar("mine")
    monkeypatch.setitem(sys.modules, "__mp_main__", module)
    make, arguments = reduce(module.mine)
    assert make is variables.made
    assert make(*arguments) is module.mine


@pytest.mark.parametrize("default", [(), (None,), (3,)])
def test_another_process_makes_one_for_a_key(monkeypatch: pytest.MonkeyPatch, default: tuple[Any, ...]) -> None:
    mine: ContextVar[Any] = ContextVar("mine", default=default[0]) if default else ContextVar("mine")
    make, arguments = reduce(mine)
    # As it is there: nothing is known.
    monkeypatch.setattr(variables, "_by_key", {})
    monkeypatch.setattr(variables, "_keys", {})
    there = make(*arguments)
    assert there is not mine and there is make(*arguments) and there.name == "mine"
    nothing = object()
    assert there.get() == default[0] if default else there.get(nothing) is nothing
    # From there it may go on, and come back.
    assert reduce(there)[1][0] == arguments[0]


def test_values_are_set_and_unset() -> None:
    first: ContextVar[int] = ContextVar("first")
    second: ContextVar[int] = ContextVar("second")
    values = Values()
    values.set([(first, 1), (second, 2)])
    first.set(10)
    values.set_again()
    assert (first.get(), second.get()) == (1, 2)
    values.set([(second, 3)])
    assert (first.get(None), second.get()) == (None, 3)
    values.set([])
    assert second.get(None) is None
