"""What type checkers know of `map` and its like: items fit the function, options are right, and so are constants.

Each is a callable with overloads, and has a decorator that shows it to checkers in the place of a method's signature:

1. one input, and options: fn(item)
2. the same in a pool whose `setup` or `preload` gives the function's first argument: fn(state, item)
3. several inputs, and options; from the fourth on items are not checked
4. one input, or two, options, and constants: whatever else the function takes, by name; `starmap` up to three
5. with `batch`, which is not among the options of the others: lists of items, and as many results

In the fourth, options are parameters of their own, for there is nothing that may stand between `P.args` and
`P.kwargs`; so they come before, and what nothing fits (`none`) keeps positional arguments away from them. A slip of the
pen (`timout=5`) is neither an option nor an argument of the function. Constants with `batch`, or with more inputs, fit
none of these, although they work: `functools.partial` binds them in a way that checkers understand.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Never, ParamSpec, Protocol, TypeVar, TypeVarTuple, Unpack, overload

if TYPE_CHECKING:
    from concurrent.futures import Future

    from allcores.cache.options import CacheLike
    from allcores.limits import Retry
    from allcores.outcome import AnyOutcome
    from allcores.pool.async_stream import AsyncStream
    from allcores.pool.call_options import AsyncMapOptions, MapOptions, OnError, OutcomeOptions, RunOptions
    from allcores.pool.result_stream import Stream
    from allcores.runs.options import Journal, RunResult, SinkLike, SourceLike
    from allcores.runs.options import OnError as OnErrorOfRun
    from allcores.scheduler.batch_size import Batch

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class MapMethod(Protocol):
    """`map`."""

    @overload
    def __call__(self, fn: Callable[[T], R], items: Iterable[T], **options: Unpack[MapOptions]) -> list[R]: ...
    @overload
    def __call__(self, fn: Callable[[Any, T], R], items: Iterable[T], **options: Unpack[MapOptions]) -> list[R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B], R], first: Iterable[A], second: Iterable[B], /, **options: Unpack[MapOptions]
    ) -> list[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, A, B], R],
        first: Iterable[A],
        second: Iterable[B],
        /,
        **options: Unpack[MapOptions],
    ) -> list[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B, C], R],
        first: Iterable[A],
        second: Iterable[B],
        third: Iterable[C],
        /,
        **options: Unpack[MapOptions],
    ) -> list[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., R],
        first: Iterable[Any],
        second: Iterable[Any],
        third: Iterable[Any],
        fourth: Iterable[Any],
        /,
        *more: Iterable[Any],
        **options: Unpack[MapOptions],
    ) -> list[R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, P], R], first: Iterable[A], second: Iterable[B], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[[list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[MapOptions],
    ) -> list[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[MapOptions],
    ) -> list[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Iterable[R]],
        first: Iterable[Any],
        second: Iterable[Any],
        /,
        *more: Iterable[Any],
        batch: Batch,
        **options: Unpack[MapOptions],
    ) -> list[R]: ...


class StreamMethod(Protocol):
    """`imap` and `imap_unordered`."""

    @overload
    def __call__(self, fn: Callable[[T], R], items: Iterable[T], **options: Unpack[MapOptions]) -> Stream[R]: ...
    @overload
    def __call__(self, fn: Callable[[Any, T], R], items: Iterable[T], **options: Unpack[MapOptions]) -> Stream[R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B], R], first: Iterable[A], second: Iterable[B], /, **options: Unpack[MapOptions]
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, A, B], R],
        first: Iterable[A],
        second: Iterable[B],
        /,
        **options: Unpack[MapOptions],
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B, C], R],
        first: Iterable[A],
        second: Iterable[B],
        third: Iterable[C],
        /,
        **options: Unpack[MapOptions],
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., R],
        first: Iterable[Any],
        second: Iterable[Any],
        third: Iterable[Any],
        fourth: Iterable[Any],
        /,
        *more: Iterable[Any],
        **options: Unpack[MapOptions],
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, P], R], first: Iterable[A], second: Iterable[B], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[[list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[MapOptions],
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[MapOptions],
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Iterable[R]],
        first: Iterable[Any],
        second: Iterable[Any],
        /,
        *more: Iterable[Any],
        batch: Batch,
        **options: Unpack[MapOptions],
    ) -> Stream[R]: ...


class OutcomesMethod(Protocol):
    """`outcomes`."""

    @overload
    def __call__(
        self, fn: Callable[[T], R], items: Iterable[T], **options: Unpack[OutcomeOptions]
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self, fn: Callable[[Any, T], R], items: Iterable[T], **options: Unpack[OutcomeOptions]
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B], R],
        first: Iterable[A],
        second: Iterable[B],
        /,
        **options: Unpack[OutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, A, B], R],
        first: Iterable[A],
        second: Iterable[B],
        /,
        **options: Unpack[OutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B, C], R],
        first: Iterable[A],
        second: Iterable[B],
        third: Iterable[C],
        /,
        **options: Unpack[OutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., R],
        first: Iterable[Any],
        second: Iterable[Any],
        third: Iterable[Any],
        fourth: Iterable[Any],
        /,
        *more: Iterable[Any],
        **options: Unpack[OutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., ordered: bool = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[AnyOutcome[R]]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., ordered: bool = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[AnyOutcome[R]]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, P], R], first: Iterable[A], second: Iterable[B], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., ordered: bool = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[AnyOutcome[R]]: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[[list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[OutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[OutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Iterable[R]],
        first: Iterable[Any],
        second: Iterable[Any],
        /,
        *more: Iterable[Any],
        batch: Batch,
        **options: Unpack[OutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...


class AsyncMethod(Protocol):
    """`aimap`."""

    @overload
    def __call__(
        self, fn: Callable[[T], R], items: Iterable[T] | AsyncIterable[T], **options: Unpack[AsyncMapOptions]
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, T], R],
        items: Iterable[T] | AsyncIterable[T],
        **options: Unpack[AsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B], R],
        first: Iterable[A] | AsyncIterable[A],
        second: Iterable[B] | AsyncIterable[B],
        /,
        **options: Unpack[AsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, A, B], R],
        first: Iterable[A] | AsyncIterable[A],
        second: Iterable[B] | AsyncIterable[B],
        /,
        **options: Unpack[AsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B, C], R],
        first: Iterable[A] | AsyncIterable[A],
        second: Iterable[B] | AsyncIterable[B],
        third: Iterable[C] | AsyncIterable[C],
        /,
        **options: Unpack[AsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., R],
        first: Iterable[Any] | AsyncIterable[Any],
        second: Iterable[Any] | AsyncIterable[Any],
        third: Iterable[Any] | AsyncIterable[Any],
        fourth: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any] | AsyncIterable[Any],
        **options: Unpack[AsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], R], items: Iterable[T] | AsyncIterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ..., ordered: bool = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> AsyncStream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, T, P], R], items: Iterable[T] | AsyncIterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ..., ordered: bool = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> AsyncStream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, P], R],
        first: Iterable[A] | AsyncIterable[A], second: Iterable[B] | AsyncIterable[B], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ..., ordered: bool = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> AsyncStream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[[list[T]], Iterable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        batch: Batch,
        **options: Unpack[AsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, list[T]], Iterable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        batch: Batch,
        **options: Unpack[AsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Iterable[R]],
        first: Iterable[Any] | AsyncIterable[Any],
        second: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any] | AsyncIterable[Any],
        batch: Batch,
        **options: Unpack[AsyncMapOptions],
    ) -> AsyncStream[R]: ...


class StarMethod(Protocol):
    """`starmap`: tuples of the function's arguments, all or without the first; or lists, which are not checked."""

    @overload
    def __call__(
        self, fn: Callable[[*Ts], R], items: Iterable[tuple[*Ts]], **options: Unpack[MapOptions]
    ) -> list[R]: ...
    @overload
    def __call__(
        self, fn: Callable[[Any, *Ts], R], items: Iterable[tuple[*Ts]], **options: Unpack[MapOptions]
    ) -> list[R]: ...
    @overload
    def __call__(self, fn: Callable[..., R], items: Iterable[list[Any]], **options: Unpack[MapOptions]) -> list[R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, P], R], items: Iterable[tuple[A]], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, P], R], items: Iterable[tuple[A, B]], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, C, P], R], items: Iterable[tuple[A, B, C]], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[..., Iterable[R]],
        items: Iterable[Iterable[Any]],
        *,
        batch: Batch,
        **options: Unpack[MapOptions],
    ) -> list[R]: ...


class SubmitMethod(Protocol):
    """`submit`: all arguments, or all but the first, which the pool has."""

    @overload
    def __call__(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...


class ReduceMethod(Protocol):
    """`reduce`."""

    @overload
    def __call__(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        merge: Callable[[R, R], R],
        initial: R = ...,
        **options: Unpack[MapOptions],
    ) -> R: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, T], R],
        items: Iterable[T],
        merge: Callable[[R, R], R],
        initial: R = ...,
        **options: Unpack[MapOptions],
    ) -> R: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], R], items: Iterable[T], merge: Callable[[R, R], R], none: Never = ..., /,
        initial: R = ..., timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> R: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[..., Iterable[R]],
        items: Iterable[Any],
        merge: Callable[[R, R], R],
        initial: R = ...,
        *,
        batch: Batch,
        **options: Unpack[MapOptions],
    ) -> R: ...


class RunMethod(Protocol):
    """`run`."""

    @overload
    def __call__(
        self,
        fn: Callable[..., Any],
        source: SourceLike,
        sink: SinkLike,
        *,
        batch: Batch | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, P], Any], source: SourceLike, sink: SinkLike, none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., journal: Journal | bool = ...,
        on_error: OnErrorOfRun = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> RunResult: ...  # fmt: skip


def map_method(function: Callable[..., Any]) -> MapMethod:
    """The function itself."""
    return function


def stream_method(function: Callable[..., Any]) -> StreamMethod:
    """The function itself."""
    return function


def outcomes_method(function: Callable[..., Any]) -> OutcomesMethod:
    """The function itself."""
    return function


def async_method(function: Callable[..., Any]) -> AsyncMethod:
    """The function itself."""
    return function


def star_method(function: Callable[..., Any]) -> StarMethod:
    """The function itself."""
    return function


def submit_method(function: Callable[..., Any]) -> SubmitMethod:
    """The function itself."""
    return function


def run_method(function: Callable[..., Any]) -> RunMethod:
    """The function itself."""
    return function


def reduce_method(function: Callable[..., Any]) -> ReduceMethod:
    """The function itself."""
    return function
