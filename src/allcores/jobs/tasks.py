"""Tasks: functions that jobs may run, registered by a decorator and found by name.

    @task(timeout=600, retries=2)
    def count_primes(n: int) -> int: ...

Only what is registered can be run, whatever a request names.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar, overload

from allcores.errors import UsageError
from allcores.jobs.arguments import Arguments
from allcores.jobs.errors import TaskNotFound, meant
from allcores.jobs.rows import MAX_TAGS, as_tags, check_name
from allcores.system.tracebacks import hiding

F = TypeVar("F", bound=Callable[..., Any])
#: where tasks are: "package.module", "path/to/tasks.py", or the module
Place = str | os.PathLike[str] | ModuleType

#: what a decorated function has
_MARK = "__allcores_task__"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
CATCH_UP = ("latest", "all", "none")
#: what is longer is meant to be None, which is any time (and no clock of the system's counts on to it)
MOST_SECONDS = 1e9


@dataclass(frozen=True, slots=True)
class Task:
    """A registered function, and how its jobs are run.

    Attributes:
        name: What it is submitted by.
        function: What runs.
        timeout: Seconds that an attempt may take; None: any number.
        retries: Further attempts after an exception.
        backoff: Seconds before the first retry, doubled before each further one, with as much chance as a half.
        backoff_most: Most seconds before a retry.
        priority: Jobs with a larger one start earlier.
        tags: What its jobs are marked with.
        schedule: When a job without arguments is made, as cron text ("*/5 * * * *"); None: never.
        timezone: Of the schedule, as "Europe/Berlin"; None: of the machine.
        catch_up: What becomes of times at which no supervisor ran: the "latest" is made up for, "all" are, "none" is.
        description: The first paragraph of its docstring.
        arguments: What it takes.
    """

    name: str
    function: Callable[..., Any]
    timeout: float | None = None
    retries: int = 0
    backoff: float = 1.0
    backoff_most: float = 600.0
    priority: int = 0
    tags: tuple[str, ...] = ()
    schedule: str | None = None
    timezone: str | None = None
    catch_up: str = "latest"
    description: str = ""
    arguments: Arguments = field(repr=False, compare=False, default=None)  # type: ignore[assignment]

    @property
    def takes_job(self) -> bool:
        """Whether its first parameter gets the running job, so that it has a process of its own."""
        return self.arguments.takes_job


@overload
def task(function: F, /) -> F: ...


@overload
def task(
    *,
    name: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    backoff_most: float = 600.0,
    priority: int = 0,
    tags: Iterable[str] = (),
    schedule: str | None = None,
    timezone: str | None = None,
    catch_up: str = "latest",
) -> Callable[[F], F]: ...


@hiding
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    backoff_most: float = 600.0,
    priority: int = 0,
    tags: Iterable[str] = (),
    schedule: str | None = None,
    timezone: str | None = None,
    catch_up: str = "latest",
) -> Any:
    """Register a function, so that jobs may run it. It stays the function that it is.

    A first parameter called `job` gets the running job (`allcores.jobs.RunningJob`): the task then has a process of its
    own, and can map over items on all cores.

    Args:
        function: What runs, in a worker process. It is given its arguments by name, made by its annotations.
        name: What it is submitted by; None: the function's name.
        timeout: Seconds that an attempt may take. One that uses them up is ended, whatever it does; its job is
            `timed_out`, and not tried again.
        retries: Further attempts after an exception. A process that dies is no attempt: its job runs again, and is
            quarantined after three deaths.
        backoff: Seconds before the first retry, doubled before each further one, with as much chance as a half.
        backoff_most: Most seconds before a retry.
        priority: Jobs with a larger one start earlier.
        tags: What its jobs are marked with.
        schedule: When a job is made by itself, as cron text: "*/5 * * * *". All arguments need defaults.
        timezone: Of the schedule, as "Europe/Berlin"; None: of the machine.
        catch_up: What becomes of times at which no supervisor ran: the "latest" of them is made up for, "all" (the last
            100) are, or "none".

    Raises:
        UsageError: For options that make no sense, or a function whose arguments cannot be given by name.
    """

    def register(target: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.isfunction(target):
            raise UsageError(f"@task is for functions; {target!r} is none")
        if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
            raise UsageError(
                f"@task is for plain functions; {target.__name__} is async, and would never run: use asyncio.run in one"
            )
        called = target.__name__ if name is None else name
        if not _NAME.fullmatch(called):
            raise UsageError(f"{called!r} is no name of a task: letters, digits, '_', '.', '-', at most 100")
        _check(called, timeout, retries, backoff, backoff_most, priority, schedule, timezone, catch_up)
        arguments = Arguments(called, target)
        if schedule is not None:
            _check_needs_none(called, target, arguments)
        marks = _marks(called, tags)
        description = (inspect.getdoc(target) or "").partition("\n\n")[0].replace("\n", " ")
        made = Task(
            called, target, timeout, retries, float(backoff), float(backoff_most), priority, marks, schedule, timezone,
            catch_up, description, arguments,
        )  # fmt: skip
        setattr(target, _MARK, made)
        return target

    return register if function is None else register(function)


def _check(
    name: str,
    timeout: float | None,
    retries: int,
    backoff: float,
    backoff_most: float,
    priority: int,
    schedule: str | None,
    timezone: str | None,
    catch_up: str,
) -> None:
    def number(value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MOST_SECONDS

    if timeout is not None and not (number(timeout) and timeout > 0):
        raise UsageError(f"task {name!r}: timeout={timeout!r} must be a number of seconds above 0, or None")
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries < 2**31:
        raise UsageError(f"task {name!r}: retries={retries!r} must be a whole number from 0 on, below 2**31")
    if not (number(backoff) and number(backoff_most)):
        raise UsageError(
            f"task {name!r}: backoff={backoff!r}, backoff_most={backoff_most!r} must be seconds, 0 or more"
        )
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) >= 2**31:
        raise UsageError(f"task {name!r}: priority={priority!r} must be a whole number between -2**31 and 2**31")
    if catch_up not in CATCH_UP:
        raise UsageError(f"task {name!r}: catch_up={catch_up!r} must be one of {', '.join(map(repr, CATCH_UP))}")
    if schedule is not None:
        from allcores.jobs.cron_text import check_cron

        check_cron(name, schedule, timezone)


def _marks(name: str, tags: Iterable[str]) -> tuple[str, ...]:
    try:
        marks = as_tags(tags)
        if len(marks) > MAX_TAGS:
            raise UsageError(f"it has {len(marks)} tags, and {MAX_TAGS} are allowed")
        for each in marks:
            check_name(each, "a tag")
    except UsageError as error:
        raise UsageError(f"task {name!r}: {error}") from None
    return marks


def _check_needs_none(name: str, function: Callable[..., Any], arguments: Arguments) -> None:
    parameters = list(inspect.signature(function).parameters.values())[arguments.takes_job :]
    needed = [each.name for each in parameters if each.default is each.empty]
    if needed:
        raise UsageError(f"task {name!r} has a schedule, so each argument needs a default: {', '.join(needed)}")


class Registry(Mapping[str, Task]):
    """The tasks of some modules, by name.

    Args:
        tasks: The tasks.
        places: The modules as they were named, so that other processes can load them.
    """

    def __init__(self, tasks: Iterable[Task], places: tuple[str, ...] = ()) -> None:
        self._tasks: dict[str, Task] = {}
        self.places = places
        for each in tasks:
            there = self._tasks.get(each.name)
            if there is not None and there.function is not each.function:
                raise UsageError(
                    f"two tasks have the name {each.name!r}: {_where(there)} and {_where(each)}. Give one of them"
                    " another, by @task(name=...)"
                )
            self._tasks[each.name] = each

    @classmethod
    def load(cls, places: Place | Iterable[Place]) -> Registry:
        """Import modules and take what is registered in them.

        Args:
            places: "package.module", "path/to/tasks.py", a module, or several of these.

        Raises:
            UsageError: If there is no such module, its import fails, or it has no task.
        """
        several = [places] if isinstance(places, (str, os.PathLike, ModuleType)) else list(places)
        found: list[Task] = []
        names: list[str] = []
        for each in several:
            module = each if isinstance(each, ModuleType) else import_place(os.fspath(each))
            here = tasks_in(module)
            if not here:
                raise UsageError(
                    f"{module.__name__} has no task: put @task (from allcores.jobs import task) on a function"
                )
            for one in here:
                one.arguments.prepare()
            found += here
            names.append(_place_of(each))
        return cls(found, tuple(names))

    def __getitem__(self, name: str) -> Task:
        try:
            return self._tasks[name]
        except KeyError:
            raise TaskNotFound(f"there is no task {name!r}{meant(name, self._tasks)}") from None

    def get(self, name: str, default: Any = None) -> Any:
        """The task of that name, or the default."""
        return self._tasks.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)


def tasks_in(module: ModuleType) -> list[Task]:
    """What is registered among the names of a module."""
    found = (getattr(value, _MARK, None) for value in list(vars(module).values()) if inspect.isfunction(value))
    return list(dict.fromkeys(each for each in found if isinstance(each, Task)))


def task_of(function: Callable[..., Any]) -> Task | None:
    """The task that a function is registered as; None if it is not."""
    found = getattr(function, _MARK, None)
    return found if isinstance(found, Task) else None


def _where(one: Task) -> str:
    return f"{one.function.__module__}.{one.function.__qualname__}"


def _place_of(place: str | os.PathLike[str] | ModuleType) -> str:
    """As other processes find it, wherever they run."""
    if isinstance(place, ModuleType):
        return place.__name__
    text = os.fspath(place)
    return os.path.abspath(os.path.expanduser(text)) if _is_path(text) else text


def _is_path(place: str) -> bool:
    return place.endswith(".py") or "/" in place or os.sep in place


def import_place(place: str) -> ModuleType:
    """The module at "package.module" or "path/to/file.py", imported under its own name.

    Raises:
        UsageError: With one sentence, if that cannot be done.
    """
    if not _is_path(place):
        folder = os.getcwd()
        if folder not in sys.path and "" not in sys.path:
            sys.path.insert(0, folder)
        return _imported(place, place)
    path = os.path.abspath(os.path.expanduser(place))
    stem, suffix = os.path.splitext(os.path.basename(path))
    if not os.path.isfile(path):
        raise UsageError(f"there is no file {place}")
    if suffix != ".py" or not stem.isidentifier():
        raise UsageError(
            f"{place} cannot be imported: tasks are in a Python file whose name is an identifier, like tasks.py"
        )
    folder = os.path.dirname(path)
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    module = _imported(stem, place)
    found = getattr(module, "__file__", None)
    if found is None or not os.path.samefile(found, path):
        raise UsageError(f"{place} hides behind another module called {stem!r} that Python knows: rename it")
    return module


def _imported(name: str, shown: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise UsageError(f"there is no module {error.name!r} (in {os.getcwd()}, or where Python looks)") from None
        raise UsageError(f"importing {shown} failed: {error}") from error
    except SystemExit as error:
        raise UsageError(
            f"importing {shown} called sys.exit({error.code!r}): put that under if __name__ == '__main__':"
        ) from None
    except Exception as error:
        raise UsageError(f"importing {shown} failed: {type(error).__name__}: {error}") from error
