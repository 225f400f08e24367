"""What a run needs of a pool: outcomes, one after the other, and a way to end them in peace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol, TypeVar

from allcores.outcome import Outcome

T_co = TypeVar("T_co", covariant=True)


class OutcomeStream(Protocol[T_co]):
    """The outcomes of a map as they come. To be closed; use it as a context manager."""

    def __iter__(self) -> Iterator[T_co]: ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def stop(self) -> None:
        """Begin nothing more; what is being worked on still gives its outcome. Any thread may call it."""


class RunPool(Protocol):
    """Whatever maps a function over items, with an outcome for each."""

    @property
    def outcomes(self) -> Callable[..., OutcomeStream[Outcome[Any]]]:
        """The outcomes of `fn(item)` for all items, with those options. See `Pool.outcomes`."""
        ...
