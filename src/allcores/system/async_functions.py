"""What a program gives for a function: it can be called, and a call does something by itself, or it is refused.

What an async function returns has to be awaited, which no worker does.
"""

from __future__ import annotations

from functools import partial
from types import CodeType, CoroutineType, MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores.errors import UsageError

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


def check_function(function: Any, place: str = "first") -> None:
    """Raise UsageError for what cannot be called, and for a function that is async.

    Args:
        function: What was given for one.
        place: Of the argument, in words.
    """
    if not callable(function):
        from allcores.errors import UsageError  # here: workers, who have no use for it, import this file

        raise UsageError(f"{function!r} cannot be called; the {place} argument is the function.")
    if is_async(function):
        raise _async_error(repr(function))


def check_not_async(function: Any, what: str) -> None:
    """Raise UsageError for a function that is async.

    Args:
        function: The function.
        what: How it was given.
    """
    if is_async(function):
        raise _async_error(f"{what}={function!r}")


def _async_error(shown: str) -> UsageError:
    from allcores.errors import UsageError

    return UsageError(
        f"{shown} is async, a call of it does nothing by itself: give a function that runs it, with asyncio.run for"
        " one."
    )


def close_unawaited(value: Any) -> None:
    """Close coroutines that a result is, or holds, before the error that tells of them: Python warns of each, else.

    What wraps an async function does not say that it is one.
    """
    parts = value.values() if isinstance(value, dict) else value
    for each in (value, *(parts if type(value) in (list, tuple, set, dict) else ())):
        if isinstance(each, CoroutineType):
            each.close()
