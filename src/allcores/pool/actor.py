"""An actor: an object that lives in a process of its own. `Pool.actor` makes one; this is the handle."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from allcores.errors import NotPicklable, NotSupported, UsageError
from allcores.limits import FOREVER_S, check_many, check_timeout, is_whole, plain_number, whole
from allcores.pool.actor_workers import ActorHome, ActorWorkers, CallSettings, named
from allcores.scheduler.actor_policy import ActorPolicy
from allcores.system.async_functions import check_function, check_not_async
from allcores.system.tracebacks import hide, hiding, only_hiding
from allcores.worker.actor_object import NO_METHOD, Build

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class Actor(Generic[T]):
    """An object in a process of its own. From `Pool.actor` and `Pool.actors`.

    `actor.search(word)` begins a call of the object's public method and returns a future at once; calls run in the
    order in which they were made. Any thread may make them, and `await asyncio.wrap_future(actor.search(word))` waits
    for one in asyncio. Use it as a context manager: leaving the block closes it. When nobody refers to it any more,
    its process ends, too. It cannot be sent to other processes.

    Names of its own (`call`, `close`, `closed`, `sync`, `with_options`) hide methods of the same name: `call("close")`.
    """

    __slots__ = ("__weakref__", "_cls", "_settings", "_workers")

    def __init__(self, workers: ActorWorkers, cls: type[Any] | None, settings: CallSettings) -> None:
        self._workers = workers
        self._cls = cls
        self._settings = settings

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., Future[Any]]:
            """A method of the object: called, it returns a future."""
    else:

        @only_hiding
        def __getattr__(self, name):
            self._check_method(name)
            return _ActorMethod(self, name)

    @overload
    def call(self, method: Callable[Concatenate[T, P], R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...

    @overload
    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Future[Any]: ...

    def call(self, method: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a method with everything checked by type checkers: `actor.call(Index.search, word)`.

        Args:
            method: Of the class; its name; or any function, which gets the object as its first argument.
            *args: Its arguments.
            **kwargs: Its arguments.

        Returns:
            A future, as `Pool.submit` gives.

        Raises:
            PoolClosed: The actor is closed, or belongs to the process this one was forked from.
            ActorBusy: Its queue was full for too long.
            ActorLost: Its process ended too often.
            SetupError: The object could not be built.
        """
        try:
            target: Any = method
            if isinstance(method, str):
                self._check_method(method)
            elif not callable(method):
                raise UsageError(f"{method!r} is neither a method nor a name of one.")
            else:
                check_function(method)
                name = getattr(method, "__name__", "")
                if self._cls is not None and not name.startswith("_") and getattr(self._cls, name, None) is method:
                    target = name  # so that it is the one of the object's class, if that is a subclass
            return self._workers.call(target, args, kwargs, self._settings)
        except BaseException as error:
            hide(error)
            raise

    @property
    def sync(self) -> T:
        """The same object for calls that wait: `actor.sync.search(word)` returns the result, or raises.

        For type checkers it is the object itself, so each method has its own signature and result.
        """
        return cast("T", _Waiting(self))

    @hiding
    def with_options(
        self,
        *,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        cancel_running: bool | None = None,
    ) -> Actor[T]:
        """The same actor with other options for the calls made by what is returned; None keeps the present one.

        Args:
            timeout: See `Pool.actor`.
            queue_timeout: See `Pool.actor`.
            cancel_running: See `Pool.actor`.
        """
        timeout_ns, queue_s, ends_running = self._settings
        if timeout is not None:
            timeout_ns = _timeout_ns(timeout, self._workers.backend)
        if queue_timeout is not None:
            queue_s = _seconds("queue_timeout", queue_timeout)
        if cancel_running is not None:
            _check_cancel_running(cancel_running, self._workers.build.concurrent_calls, self._workers.backend)
            ends_running = cancel_running
        return Actor(self._workers, self._cls, CallSettings(timeout_ns, queue_s, ends_running))

    @property
    def closed(self) -> bool:
        """It takes no calls any more."""
        return self._workers.closed

    @hiding
    def close(self, finish: float = 0.0) -> None:
        """End the object and its process. Idempotent.

        Args:
            finish: Seconds that calls made before may take to finish. What is left then is cancelled; what runs has
                `Limits.grace_s`, then its process is ended.
        """
        self._workers.close(_seconds("finish", finish))

    def __enter__(self) -> Actor[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise NotPicklable(
            f"The actor {self._workers.name} cannot travel to another process: make its calls in this one, and give "
            "their results to tasks."
        )

    def __repr__(self) -> str:
        workers = self._workers
        state = "closed" if workers.closed else workers.backend
        return f"<allcores.Actor {workers.build.words} {state}, {workers.count} of it>"

    def _check_method(self, name: str) -> None:
        """Raises AttributeError for what cannot be a public method."""
        __tracebackhide__ = True
        owner = self._workers.name
        if name.startswith("_"):
            raise AttributeError(f"{owner}.{name} is not public, and an actor gives public methods only.")
        cls = self._cls
        if cls is None:
            return  # a function builds it: its process will tell
        found = inspect.getattr_static(cls, name, None)
        if found is None:
            if not hasattr(cls, "__getattr__"):
                raise AttributeError(f"{owner} has no method {name!r}: {NO_METHOD}")
        elif not callable(getattr(cls, name, None)) or inspect.isdatadescriptor(found):
            raise AttributeError(f"{owner}.{name} is no method: {NO_METHOD}")
        check_not_async(getattr(cls, name), f"{owner}.{name}")


class _ActorMethod:
    """A method of an actor's object."""

    __slots__ = ("_actor", "_name")

    def __init__(self, actor: Actor[Any], name: str) -> None:
        self._actor = actor
        self._name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Future[Any]:
        try:
            return self._actor.call(self._name, *args, **kwargs)
        except BaseException as error:
            hide(error)
            raise

    def __repr__(self) -> str:
        return f"<method {self._name!r} of {self._actor!r}>"


class _Waiting:
    """See `Actor.sync`."""

    __slots__ = ("_actor",)

    def __init__(self, actor: Actor[Any]) -> None:
        self._actor = actor

    @only_hiding
    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._actor, name) if name.startswith("_") else _method(self._actor, name)

        def waiting(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs).result()
            except BaseException as error:
                hide(error)
                raise

        return waiting


def _method(actor: Actor[Any], name: str) -> Callable[..., Future[Any]]:
    """Also one that the handle has a name for, too."""
    actor.__getattr__(name)
    return _ActorMethod(actor, name)


# --- making one ---


def make_actor(
    home: ActorHome,
    cls: Callable[..., T],
    args: tuple[Any, ...],
    *,
    count: int,
    timeout: float | None,
    restart: int | None,
    within: float,
    concurrent: int,
    max_queued: int | None,
    queue_timeout: float,
    cancel_running: bool,
) -> tuple[Actor[T], ActorWorkers]:
    """See `Pool.actors`."""
    name, words, found = named(cls, args)
    count, concurrent = _whole("count", count), _whole("concurrent", concurrent)
    check_many("concurrent", concurrent)
    if max_queued is not None:
        max_queued = _whole("max_queued", max_queued)
    if restart is not None and restart != 0:
        restart = _whole("restart", restart, more=", 0 (never) or None (always)")
    if concurrent > 1 and home.backend == "interpreters":
        raise NotSupported(
            f"concurrent={concurrent} needs backend='processes' or 'threads': backend='interpreters' allows no daemon "
            "threads, in which an object's calls would run."
        )
    _check_cancel_running(cancel_running, concurrent, home.backend)
    settings = CallSettings(
        _timeout_ns(timeout, home.backend), _seconds("queue_timeout", queue_timeout), bool(cancel_running)
    )
    within_s = _seconds("within", within)
    policy = ActorPolicy(words, restart=restart, within_ns=int(within_s * 1e9), concurrent=concurrent)
    workers = ActorWorkers(
        home, Build(cls, args, words, concurrent), name, count=count, policy=policy, max_queued=max_queued
    )
    return Actor(workers, found, settings), workers


def _timeout_ns(timeout: float | None, backend: str) -> int | None:
    timeout = check_timeout(timeout)
    if timeout is None:
        return None
    if backend != "processes":
        raise NotSupported(
            f"timeout={timeout:g} needs backend='processes': backend={backend!r} cannot end a call that runs too long."
        )
    return int(timeout * 1e9)


def _check_cancel_running(cancel_running: bool, concurrent: int, backend: str) -> None:
    if cancel_running and backend != "processes":
        raise NotSupported(f"cancel_running=True needs backend='processes': {backend!r} has no process to end.")
    if cancel_running and concurrent > 1:
        raise UsageError("cancel_running=True needs concurrent=1: ending a call ends its process, and all in it.")


def _seconds(name: str, value: float) -> float:
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise UsageError(f"{name}={value!r} must be a number of seconds, 0 or more.")
    return min(float(value), FOREVER_S)


def _whole(name: str, value: int, more: str = "") -> int:
    value = whole(value)
    if not is_whole(value):
        raise UsageError(f"{name}={value!r} must be a whole number, 1 or more{more}.")
    return value


__all__ = ["Actor", "make_actor"]
