"""The verbs at module level: each works on one warm pool that is shared by the whole process."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from allcores.outcome import Outcome
from allcores.pool import shared
from allcores.stream import Stream

if TYPE_CHECKING:
    from concurrent.futures import Future

    from allcores.async_stream import AsyncStream

R = TypeVar("R")


def map(fn: Callable[..., R], items: Iterable[Any], **options: Any) -> list[R]:
    """`Pool.map` on the shared pool."""
    return shared().map(fn, items, **options)


def imap(fn: Callable[..., R], items: Iterable[Any], **options: Any) -> Stream[R]:
    """`Pool.imap` on the shared pool."""
    return shared().imap(fn, items, **options)


def imap_unordered(fn: Callable[..., R], items: Iterable[Any], **options: Any) -> Stream[R]:
    """`Pool.imap_unordered` on the shared pool."""
    return shared().imap_unordered(fn, items, **options)


def starmap(fn: Callable[..., R], items: Iterable[Iterable[Any]], **options: Any) -> list[R]:
    """`Pool.starmap` on the shared pool."""
    return shared().starmap(fn, items, **options)


def outcomes(fn: Callable[..., R], items: Iterable[Any], **options: Any) -> Stream[Outcome[R]]:
    """`Pool.outcomes` on the shared pool."""
    return shared().outcomes(fn, items, **options)


def aimap(fn: Callable[..., R], items: Iterable[Any] | AsyncIterable[Any], **options: Any) -> AsyncStream[R]:
    """`Pool.aimap` on the shared pool."""
    return shared().aimap(fn, items, **options)


def submit(fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
    """`Pool.submit` on the shared pool."""
    return shared().submit(fn, *args, **kwargs)
