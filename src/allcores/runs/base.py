"""What a run needs of a pool: outcomes, one after the other, and a way to end them in peace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

from allcores.limits import Retry
from allcores.outcome import Outcome

R = TypeVar("R")
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

    def outcomes(
        self,
        fn: Callable[..., R],
        items: Iterable[Any],
        *,
        timeout: float | None = None,
        retries: int | Retry = 0,
        chunk: int | None = None,
        batch: int | Literal["auto"] | None = None,
        ordered: bool = True,
    ) -> OutcomeStream[Outcome[R]]:
        """The outcomes of `fn(item)` for all items. See `Pool.outcomes`."""
        ...
