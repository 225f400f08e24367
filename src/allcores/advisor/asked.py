"""What `advise` and `tune` are asked alike, checked."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from allcores.advisor.measuring.source_text import unwrapped
from allcores.errors import UsageError
from allcores.system.async_functions import check_function


def check_computes(fn: Callable[..., Any]) -> None:
    """Raise UsageError if it is no function, or if a call only makes what computes later: that would be measured."""
    check_function(fn)
    for each in (fn, type(fn).__call__):
        if inspect.isgeneratorfunction(each):
            raise UsageError(
                f"{fn!r} is a generator, a call of it does nothing by itself: give a function that returns a list of"
                " what it yields."
            )


def name_in_code(fn: Callable[..., Any]) -> str:
    """What a program may call it by: its name; "function" where that alone does something else, or nothing.

    That of a partial's function has no arguments bound to it, that of a method no object, that of an object's class
    makes another one.
    """
    name = getattr(fn, "__name__", None)
    owner = getattr(fn, "__self__", None)
    is_bound = isinstance(fn, functools.partial) or not (owner is None or inspect.ismodule(owner))
    return name if isinstance(name, str) and name.isidentifier() and not is_bound else "function"


def _is(kind: type, value: object) -> bool:
    """Whether it is such a number; NumPy's are."""
    return isinstance(value, kind)


def checked_name(fn: Callable[..., Any], *, budget: float, least_budget: float, total: int | None) -> str:
    """The name of a function that is to be measured; what goes with it makes sense.

    Args:
        fn: The function.
        budget: Seconds for everything.
        least_budget: The fewest that can be asked for.
        total: How many items there are, None if that is not said.

    Raises:
        UsageError: It is no function, or an option makes no sense.
    """
    check_computes(fn)
    if not _is(Real, budget) or not math.isfinite(budget) or budget < least_budget:
        raise UsageError(f"budget={budget!r}: give {least_budget:g} seconds or more")
    if total is not None and (not _is(Integral, total) or total < 0):
        raise UsageError(f"total={total!r} must be a whole number, 0 or more")
    name = getattr(unwrapped(fn), "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__
