"""What type checkers know of `allcores.map` and its like: what they know of the methods of `Pool`, and `workers`.

This is `method_types` with other options; `tests/unit/test_arguments.py` compares the two.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Never, ParamSpec, Protocol, TypeVar, TypeVarTuple, Unpack, overload

if TYPE_CHECKING:
    from allcores.cache.options import CacheLike
    from allcores.limits import Retry
    from allcores.outcome import AnyOutcome
    from allcores.pool.async_stream import AsyncStream
    from allcores.pool.call_options import (
        OnError,
        SharedAsyncMapOptions,
        SharedMapOptions,
        SharedOutcomeOptions,
        SharedRunOptions,
    )
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


class SharedMap(Protocol):
    """`map`."""

    @overload
    def __call__(self, fn: Callable[[T], R], items: Iterable[T], **options: Unpack[SharedMapOptions]) -> list[R]: ...
    @overload
    def __call__(
        self, fn: Callable[[Any, T], R], items: Iterable[T], **options: Unpack[SharedMapOptions]
    ) -> list[R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B], R], first: Iterable[A], second: Iterable[B], /, **options: Unpack[SharedMapOptions]
    ) -> list[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, A, B], R],
        first: Iterable[A],
        second: Iterable[B],
        /,
        **options: Unpack[SharedMapOptions],
    ) -> list[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B, C], R],
        first: Iterable[A],
        second: Iterable[B],
        third: Iterable[C],
        /,
        **options: Unpack[SharedMapOptions],
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
        **options: Unpack[SharedMapOptions],
    ) -> list[R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, P], R], first: Iterable[A], second: Iterable[B], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[[list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[SharedMapOptions],
    ) -> list[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[SharedMapOptions],
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
        **options: Unpack[SharedMapOptions],
    ) -> list[R]: ...


class SharedStream(Protocol):
    """`imap` and `imap_unordered`."""

    @overload
    def __call__(self, fn: Callable[[T], R], items: Iterable[T], **options: Unpack[SharedMapOptions]) -> Stream[R]: ...
    @overload
    def __call__(
        self, fn: Callable[[Any, T], R], items: Iterable[T], **options: Unpack[SharedMapOptions]
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B], R], first: Iterable[A], second: Iterable[B], /, **options: Unpack[SharedMapOptions]
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, A, B], R],
        first: Iterable[A],
        second: Iterable[B],
        /,
        **options: Unpack[SharedMapOptions],
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B, C], R],
        first: Iterable[A],
        second: Iterable[B],
        third: Iterable[C],
        /,
        **options: Unpack[SharedMapOptions],
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
        **options: Unpack[SharedMapOptions],
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, P], R], first: Iterable[A], second: Iterable[B], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[[list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[SharedMapOptions],
    ) -> Stream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[SharedMapOptions],
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
        **options: Unpack[SharedMapOptions],
    ) -> Stream[R]: ...


class SharedOutcomes(Protocol):
    """`outcomes`."""

    @overload
    def __call__(
        self, fn: Callable[[T], R], items: Iterable[T], **options: Unpack[SharedOutcomeOptions]
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self, fn: Callable[[Any, T], R], items: Iterable[T], **options: Unpack[SharedOutcomeOptions]
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B], R],
        first: Iterable[A],
        second: Iterable[B],
        /,
        **options: Unpack[SharedOutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, A, B], R],
        first: Iterable[A],
        second: Iterable[B],
        /,
        **options: Unpack[SharedOutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B, C], R],
        first: Iterable[A],
        second: Iterable[B],
        third: Iterable[C],
        /,
        **options: Unpack[SharedOutcomeOptions],
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
        **options: Unpack[SharedOutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., ordered: bool = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[AnyOutcome[R]]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, T, P], R], items: Iterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., ordered: bool = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[AnyOutcome[R]]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, P], R], first: Iterable[A], second: Iterable[B], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., ordered: bool = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> Stream[AnyOutcome[R]]: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[[list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[SharedOutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, list[T]], Iterable[R]],
        items: Iterable[T],
        *,
        batch: Batch,
        **options: Unpack[SharedOutcomeOptions],
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
        **options: Unpack[SharedOutcomeOptions],
    ) -> Stream[AnyOutcome[R]]: ...


class SharedAsync(Protocol):
    """`aimap`."""

    @overload
    def __call__(
        self, fn: Callable[[T], R], items: Iterable[T] | AsyncIterable[T], **options: Unpack[SharedAsyncMapOptions]
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, T], R],
        items: Iterable[T] | AsyncIterable[T],
        **options: Unpack[SharedAsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B], R],
        first: Iterable[A] | AsyncIterable[A],
        second: Iterable[B] | AsyncIterable[B],
        /,
        **options: Unpack[SharedAsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, A, B], R],
        first: Iterable[A] | AsyncIterable[A],
        second: Iterable[B] | AsyncIterable[B],
        /,
        **options: Unpack[SharedAsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[A, B, C], R],
        first: Iterable[A] | AsyncIterable[A],
        second: Iterable[B] | AsyncIterable[B],
        third: Iterable[C] | AsyncIterable[C],
        /,
        **options: Unpack[SharedAsyncMapOptions],
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
        **options: Unpack[SharedAsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], R], items: Iterable[T] | AsyncIterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ..., ordered: bool = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> AsyncStream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, T, P], R], items: Iterable[T] | AsyncIterable[T], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ..., ordered: bool = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> AsyncStream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, P], R],
        first: Iterable[A] | AsyncIterable[A], second: Iterable[B] | AsyncIterable[B], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ..., ordered: bool = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> AsyncStream[R]: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[[list[T]], Iterable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        batch: Batch,
        **options: Unpack[SharedAsyncMapOptions],
    ) -> AsyncStream[R]: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, list[T]], Iterable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        batch: Batch,
        **options: Unpack[SharedAsyncMapOptions],
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
        **options: Unpack[SharedAsyncMapOptions],
    ) -> AsyncStream[R]: ...


class SharedStar(Protocol):
    """`starmap`: tuples of the function's arguments, all or without the first; or lists, which are not checked."""

    @overload
    def __call__(
        self, fn: Callable[[*Ts], R], items: Iterable[tuple[*Ts]], **options: Unpack[SharedMapOptions]
    ) -> list[R]: ...
    @overload
    def __call__(
        self, fn: Callable[[Any, *Ts], R], items: Iterable[tuple[*Ts]], **options: Unpack[SharedMapOptions]
    ) -> list[R]: ...
    @overload
    def __call__(
        self, fn: Callable[..., R], items: Iterable[list[Any]], **options: Unpack[SharedMapOptions]
    ) -> list[R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, P], R], items: Iterable[tuple[A]], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, P], R], items: Iterable[tuple[A, B]], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, fn: Callable[Concatenate[A, B, C, P], R], items: Iterable[tuple[A, B, C]], none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> list[R]: ...  # fmt: skip
    @overload
    def __call__(
        self,
        fn: Callable[..., Iterable[R]],
        items: Iterable[Iterable[Any]],
        *,
        batch: Batch,
        **options: Unpack[SharedMapOptions],
    ) -> list[R]: ...


class SharedReduce(Protocol):
    """`reduce`."""

    @overload
    def __call__(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        merge: Callable[[R, R], R],
        initial: R = ...,
        **options: Unpack[SharedMapOptions],
    ) -> R: ...
    @overload
    def __call__(
        self,
        fn: Callable[[Any, T], R],
        items: Iterable[T],
        merge: Callable[[R, R], R],
        initial: R = ...,
        **options: Unpack[SharedMapOptions],
    ) -> R: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], R], items: Iterable[T], merge: Callable[[R, R], R], none: Never = ..., /,
        initial: R = ..., timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., on_error: OnError = ...,
        workers: int | None = ...,
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
        **options: Unpack[SharedMapOptions],
    ) -> R: ...


class SharedRun(Protocol):
    """`run`."""

    @overload
    def __call__(
        self,
        fn: Callable[..., Any],
        source: SourceLike,
        sink: SinkLike,
        *,
        batch: Batch | None = None,
        **options: Unpack[SharedRunOptions],
    ) -> RunResult: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Any, P], Any], source: SourceLike, sink: SinkLike, none: Never = ..., /,
        timeout: float | None = ..., retries: int | Retry = ..., chunk: int | None = ...,
        cache: CacheLike | None = ..., progress: bool | str = ..., journal: Journal | bool = ...,
        on_error: OnErrorOfRun = ..., workers: int | None = ...,
        *more: P.args, **constants: P.kwargs,
    ) -> RunResult: ...  # fmt: skip


def shared_map(function: Callable[..., Any]) -> SharedMap:
    """The function itself."""
    return function


def shared_stream(function: Callable[..., Any]) -> SharedStream:
    """The function itself."""
    return function


def shared_outcomes(function: Callable[..., Any]) -> SharedOutcomes:
    """The function itself."""
    return function


def shared_async(function: Callable[..., Any]) -> SharedAsync:
    """The function itself."""
    return function


def shared_star(function: Callable[..., Any]) -> SharedStar:
    """The function itself."""
    return function


def shared_run(function: Callable[..., Any]) -> SharedRun:
    """The function itself."""
    return function


def shared_reduce(function: Callable[..., Any]) -> SharedReduce:
    """The function itself."""
    return function
