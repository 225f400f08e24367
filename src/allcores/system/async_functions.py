"""Functions of which a call does nothing by itself: what it returns has to be awaited, which no worker does."""

from __future__ import annotations

from functools import partial
from types import CodeType, CoroutineType, MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# As `inspect` has them, which is slow to import: CO_COROUTINE and CO_ASYNC_GENERATOR.
_ASYNC = 0x80 | 0x200


def is_async(function: Any) -> bool:
    """True for `async def`, also bound to an object or to arguments, and for objects whose `__call__` is that."""
    # Each call that is submitted comes by here.
    while True:
        code = getattr(function, "__code__", None)  # a bound method has its function's
        if type(code) is CodeType:
            return bool(code.co_flags & _ASYNC)
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        else:
            break
    code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004  # its code is asked for
    return type(code) is CodeType and bool(code.co_flags & _ASYNC)


def check_not_async(function: Any, what: str | None = None) -> None:
    """Raise UsageError for a function that is async.

    Args:
        function: The function.
        what: How it was given; None: as the first argument.
    """
    if is_async(function):
        from allcores.errors import UsageError  # here: workers, who have no use for it, import this file

        shown = repr(function) if what is None else f"{what}={function!r}"
        raise UsageError(
            f"{shown} is async, a call of it does nothing by itself: give a function that runs it, with asyncio.run"
            " for one."
        )


def close_unawaited(value: Any) -> None:
    """Close coroutines that a result is, or holds, before the error that tells of them: Python warns of each, else.

    What wraps an async function does not say that it is one.
    """
    parts = value.values() if isinstance(value, dict) else value
    for each in (value, *(parts if type(value) in (list, tuple, set, dict) else ())):
        if isinstance(each, CoroutineType):
            each.close()
