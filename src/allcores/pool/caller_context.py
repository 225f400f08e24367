"""What workers find around them is what their caller has, per map and call; context variables as a pool names them."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from allcores.errors import NotPicklable
from allcores.transport import context_variables, pickling, surroundings

if TYPE_CHECKING:
    from allcores.transport.surroundings import Surroundings


class ThreadValues:
    """What a thread's tasks are to find that each thread has for itself.

    Args:
        variables: Context variables, and their values.
        decimal: A decimal context; None: the thread's own.
    """

    __slots__ = ("_decimal", "_variables")

    def __init__(self, variables: list[tuple[ContextVar[Any], Any]], decimal: Any) -> None:
        self._variables = variables
        self._decimal = decimal

    def run_setup(self, setup: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function with these, in the thread's own context: what it sets itself stays."""
        for variable, value in self._variables:
            variable.set(value)
        if self._decimal is None:
            return setup(*arguments)
        from decimal import getcontext, setcontext

        former, given = getcontext(), self._decimal.copy()
        setcontext(given)
        try:
            return setup(*arguments)
        finally:
            if getcontext() is given and _settings(given) == _settings(self._decimal):
                setcontext(former)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function with these; what it sets itself is gone afterwards."""
        return copy_context().run(self._call, function, *arguments)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        for variable, value in self._variables:
            variable.set(value)
        if self._decimal is not None:
            from decimal import setcontext

            # Its flags are the task's.
            setcontext(self._decimal.copy())
        return function(*arguments)


def _settings(context: Any) -> tuple[Any, ...]:
    return (context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp, context.traps)


class CallerContext:
    """What a pool's workers follow.

    Args:
        variables: Context variables.
        travel: Whether tasks run in other processes; else it is a thread's own that differs: context variables, the
            decimal context among them.
    """

    def __init__(self, variables: tuple[ContextVar[Any], ...], travel: bool) -> None:
        self._variables = variables
        self._travel = travel
        #: the last snapshot, and what it was made of: as long as it is the same object, no worker is told anything
        self._last: tuple[Surroundings, bytes, Surroundings] | None = None

    def current(self) -> Any:
        """What a chunk's worker is to find around it: see `MapState.surroundings`.

        Raises:
            NotPicklable: The value of a variable cannot travel.
        """
        values = context_variables.values_of(self._variables)
        if not self._travel:
            decimal = surroundings.decimal_context()
            return ThreadValues(values, decimal) if values or decimal is not None else None
        if not self._variables:
            return surroundings.current()
        around, packed = surroundings.current(), _packed(values)
        last = self._last
        if last is None or last[0] is not around or last[1] != packed:
            last = self._last = around, packed, around.with_context(packed)
        return last[2]


def at_start(around: Callable[[], Any]) -> Any:
    """What a pool follows, for a worker's setup. What cannot travel is told by the first call."""
    try:
        return around()
    except NotPicklable:
        return surroundings.current()


def _packed(values: list[tuple[ContextVar[Any], Any]]) -> bytes:
    try:
        return pickling.dumps([(*context_variables.reduce(variable), value) for variable, value in values])
    except Exception:
        for variable, value in values:
            pickling.dump_named(value, f"value of the context variable {variable.name!r}")
        raise
