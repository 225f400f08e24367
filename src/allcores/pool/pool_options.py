"""Options of a pool, looked at before anything is started: each wrong one gets one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from allcores.backends.open import CLUSTERS, check_modules, check_place, split_backend
from allcores.errors import NotSupported, UsageError
from allcores.events import of_one_pool
from allcores.limits import Limits, check_limits, check_workers
from allcores.pool.pool_log import Logs
from allcores.system.async_functions import check_not_async

if TYPE_CHECKING:
    from contextvars import ContextVar

    from allcores.pool.notifier import Observer

#: functions, and what each is for
_FUNCTIONS = {
    "preload": "the function that loads",
    "setup": "the function that each worker begins with",
    "teardown": "the function that each worker ends with",
}


def checked(
    workers: int | None = None,
    *,
    preload: Callable[..., Any] | None = None,
    preload_args: Iterable[Any] = (),
    preload_modules: Iterable[str] = (),
    setup: Callable[..., Any] | None = None,
    setup_args: Iterable[Any] = (),
    teardown: Callable[..., Any] | None = None,
    backend: str = "processes",
    address: object = None,
    start_method: str | None = None,
    limits: Limits | None = None,
    observers: Iterable[Observer] = (),
    logs: bool | Logs = True,
    name: str = "pool",
    contextvars: Iterable[ContextVar[Any]] = (),
    tuned: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """The same options as they may be used again and again: what was an iterator is a tuple.

    Args:
        workers: See `Pool`, also for the others.
        preload: A function, or None.
        preload_args: Its arguments.
        preload_modules: Names of modules.
        setup: A function, or None.
        setup_args: Its arguments.
        teardown: A function, or None.
        backend: A name.
        address: Of a cluster.
        start_method: A name, or None.
        limits: A `Limits`, or None.
        observers: Callables.
        logs: True, False or a `Logs`.
        name: A text.
        contextvars: Context variables.
        tuned: A function, or None.

    Raises:
        UsageError: For a value that makes no sense.
        NotSupported: For values that do not go together.
        SetupError: If there is no module of a name.
    """
    backend, address = split_backend(backend, address)
    if workers is not None:
        workers = check_workers(workers)
    for word, function in (("preload", preload), ("setup", setup), ("teardown", teardown)):
        if function is not None and not callable(function):
            raise UsageError(f"{word}={function!r} cannot be called; it is {_FUNCTIONS[word]}.")
        check_not_async(function, word)
    preload_arguments = _arguments("preload", preload, preload_args)
    setup_arguments = _arguments("setup", setup, setup_args)
    if isinstance(preload_modules, str):
        raise UsageError(f"preload_modules={preload_modules!r} is one name; give a list: [{preload_modules!r}].")
    modules = _several("preload_modules", preload_modules, "names of modules: ['numpy']")
    check_modules(modules)
    check_limits(limits)
    check_place(backend, start_method, limits or Limits(), address)
    if tuned is not None:
        from allcores.pool.tuned_options import check_alone

        check_alone(tuned, workers, backend, limits)
    watching = _several("observers", observers, "callables, [ProgressBar()] for one")
    for observer in watching:
        if not callable(observer):
            raise UsageError(
                f"observers={list(watching)!r}: {observer!r} cannot be called; an observer takes one event."
            )
    variables = _several("contextvars", contextvars, "context variables, contextvars.ContextVar('user') for one")
    for variable in variables:
        # By its name: the module is not loaded for those who have none.
        if type(variable).__name__ != "ContextVar":
            raise UsageError(
                f"contextvars={list(variables)!r}: {variable!r} is no context variable; give contextvars.ContextVar "
                "objects, not their names or values."
            )
    logs = Logs.of(logs)
    if logs.prints and backend != "processes":
        where = "tasks print on their nodes" if backend in CLUSTERS else "it prints as this process does"
        raise NotSupported(f"Logs(prints=True) needs backend='processes', and not {backend!r}: {where}.")
    if not isinstance(name, str):
        raise UsageError(f"name={name!r} must be a text; messages and threads are called by it.")
    return {
        "workers": workers,
        "preload": preload,
        "preload_args": preload_arguments,
        "preload_modules": modules,
        "setup": setup,
        "setup_args": setup_arguments,
        "teardown": teardown,
        "backend": backend,
        "address": address,
        "start_method": start_method,
        "limits": limits,
        "observers": tuple(map(of_one_pool, watching)),
        "logs": logs,
        "name": name,
        "contextvars": variables,
        "tuned": tuned,
    }


def _arguments(word: str, function: Callable[..., Any] | None, values: Iterable[Any]) -> tuple[Any, ...]:
    if isinstance(values, (str, bytes)):
        raise UsageError(f"{word}_args={values!r} is one argument; give a list: [{values!r}].")
    found = _several(f"{word}_args", values, f"the arguments of {word}: [{values!r}]")
    if found and function is None:
        raise UsageError(f"{word}_args={found!r} are for a function that is not there: give {word}=, too.")
    return found


def _several(word: str, values: Iterable[Any], what: str) -> tuple[Any, ...]:
    try:
        return tuple(values)
    except TypeError:
        raise UsageError(f"{word}={values!r} must be a list of {what}.") from None
