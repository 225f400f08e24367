"""What can be told of a function from its code, without a call."""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

#: functions and modules that draw random numbers of a state that is not the item's
_RANDOM = {
    "random",
    "randint",
    "choice",
    "shuffle",
    "randn",
    "rand",
    "gauss",
    "uniform",
    "sample",
    "normal",
    "randrange",
}
#: classes that start workers
_POOLS = {"ProcessPoolExecutor", "Pool", "Process", "ThreadPoolExecutor", "Parallel"}
#: libraries that have these; others have classes of the names, too
_PARALLEL = {
    "multiprocessing", "concurrent", "joblib", "loky", "allcores", "multiprocess", "pathos", "billiard", "mpire",
    "torch", "ray", "dask", "distributed",
}  # fmt: skip
#: functions of which looks go no deeper, and wrappers in one another
MOST_FUNCTIONS, MOST_WRAPPERS = 50, 50
#: where a wrapper, and a method, has its function
_INNER = ("__wrapped__", "__func__")


def unwrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside of partials and wrappers."""
    for _ in range(MOST_WRAPPERS):  # those of a proxy, which has any attribute that it is asked for, have no end
        if isinstance(fn, functools.partial):
            inner = fn.func
        else:
            inner = next((each for name in _INNER if callable(each := getattr(fn, name, None))), fn)
        if inner is fn:
            break
        fn = inner
    return fn


def is_nested(fn: Callable[..., Any]) -> bool:
    """Whether it is a lambda or was defined in a function: others' pools cannot pickle these."""
    name = str(getattr(unwrapped(fn), "__qualname__", ""))
    return "<locals>" in name or "<lambda>" in name


def globals_changed(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Names of globals that it, or a function of its module that it calls, assigns."""
    found = {
        instruction.argval
        for code in _codes(fn)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
    }
    return tuple(sorted(found))


def draws_random(fn: Callable[..., Any]) -> bool:
    """Whether it names something that draws random numbers, and seeds nothing."""
    names = {name for code in _codes(fn) for name in code.co_names}
    return bool(names & _RANDOM) and not names & {"seed", "default_rng", "Random", "RandomState", "manual_seed"}


def sleeps(fn: Callable[..., Any]) -> bool:
    """Whether it names `sleep`."""
    return any("sleep" in code.co_names for code in _codes(fn))


def opens_pool(fn: Callable[..., Any]) -> bool:
    """Whether it names a pool of processes or threads; what is known to be something else is none."""
    known = getattr(unwrapped(fn), "__globals__", None)
    return any(
        not _is_anothers(name, code, known if isinstance(known, dict) else {})
        for code in _codes(fn)
        for name in _POOLS & set(code.co_names)
    )


def _is_anothers(name: str, code: CodeType, known: dict[str, Any]) -> bool:
    """Whether all that code may mean by a name is of libraries, or of the program, that run nothing elsewhere."""
    modules = [known.get(each, sys.modules.get(each)) for each in code.co_names]
    meant = [known.get(name), *(vars(each).get(name) for each in modules if isinstance(each, ModuleType))]
    kinds = [kind for each in meant if each is not None for kind in getattr(each, "__mro__", (each,))]
    tops = {str(getattr(kind, "__module__", "")).partition(".")[0] for kind in kinds}
    return bool(kinds) and not tops & _PARALLEL


def _codes(fn: Callable[..., Any]) -> Iterator[CodeType]:
    """Its code, that of functions in it, and of functions of the same module that it names."""
    waiting: list[Any] = [unwrapped(fn)]
    seen: set[CodeType] = set()
    while waiting and len(seen) < MOST_FUNCTIONS:
        each = waiting.pop()
        code = each.__code__ if isinstance(each, FunctionType) else each
        if not isinstance(code, CodeType) or code in seen:
            continue
        seen.add(code)
        yield code
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        if isinstance(each, FunctionType):
            named = [each.__globals__.get(name) for name in code.co_names]
            waiting += [
                other for other in named if isinstance(other, FunctionType) and other.__module__ == each.__module__
            ]
