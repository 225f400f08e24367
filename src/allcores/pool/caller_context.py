"""`Pool(contextvars=[...])`: what workers find in context variables is what the caller has, per map and call."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from allcores.transport import context_variables, pickling, surroundings

if TYPE_CHECKING:
    from allcores.transport.surroundings import Surroundings


class CallerContext:
    """The variables that a pool's workers follow.

    Args:
        variables: They.
        travel: Whether tasks run in other processes.
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
            return values
        around, packed = surroundings.current(), _packed(values)
        last = self._last
        if last is None or last[0] is not around or last[1] != packed:
            last = self._last = around, packed, around.with_context(packed)
        return last[2]


def _packed(values: list[tuple[ContextVar[Any], Any]]) -> bytes:
    try:
        return pickling.dumps([(*context_variables.reduce(variable), value) for variable, value in values])
    except Exception:
        for variable, value in values:
            pickling.dump_named(value, f"value of the context variable {variable.name!r}")
        raise
