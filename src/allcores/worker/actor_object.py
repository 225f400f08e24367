"""The object of an actor, in the process that it lives in: how it is built, called and let go of.

What is sent to a worker is one of these, by its name; the object itself never travels.
"""

from __future__ import annotations

from _thread import allocate_lock

from allcores.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Held:
    """An object and, if it is a context manager, what was entered for it."""

    __slots__ = ("manager", "obj")

    def __init__(self, obj: Any, manager: Any) -> None:
        self.obj = obj
        self.manager = manager


class Build:
    """A worker's setup: builds the object. It gets what `preload` returned, if anything, as first argument.

    Args:
        factory: The class, or a function that returns the object.
        args: Its arguments.
        words: The call, for messages.
        concurrent: Calls that the object runs at a time.
    """

    def __init__(self, factory: Callable[..., Any], args: tuple[Any, ...], words: str, concurrent: int = 1) -> None:
        self.factory = factory
        self.args = args
        self.words = words
        self.concurrent_calls = concurrent

    def __call__(self, *preloaded: Any) -> Held:
        """Build it. Raises SetupError."""
        try:
            obj, manager = self.factory(*preloaded, *self.args), None
            if obj is None:
                raise TypeError("it returned None, which has no methods")
            if hasattr(type(obj), "__enter__") and hasattr(type(obj), "__exit__"):
                manager, obj = obj, type(obj).__enter__(obj)
        except BaseException as error:
            raise SetupError(f"{self.words} raised {type(error).__name__}: {error}") from error
        return Held(obj, manager)


class BuildTogether(Build):
    """The same where workers are threads: each `concurrent` of them have an object together."""

    def __init__(self, factory: Callable[..., Any], args: tuple[Any, ...], words: str, concurrent: int) -> None:
        super().__init__(factory, args, words)
        self._concurrent = concurrent
        self._lock = allocate_lock()
        self._held: Held | None = None
        self._error: SetupError | None = None
        #: threads that are still to get it
        self._left = 0
        #: threads that have it, by its id
        self._users: dict[int, int] = {}

    def __call__(self, *preloaded: Any) -> Held:
        """Build it, or give what was built. Raises SetupError."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._left:
                try:
                    self._held, self._left = super().__call__(*preloaded), self._concurrent
                except SetupError as error:
                    self._error = error
                    raise
                self._users[id(self._held)] = self._concurrent
            self._left -= 1
            assert self._held is not None
            return self._held

    def leave(self, held: Held) -> None:
        """A thread's teardown: the last one leaves the object."""
        with self._lock:
            self._users[id(held)] -= 1
            last = not self._users[id(held)]
        if last:
            leave(held)


def leave(held: Held) -> None:
    """A worker's teardown, at its normal end: an object that is a context manager is left."""
    if held.manager is not None:
        type(held.manager).__exit__(held.manager, None, None, None)


class Method:
    """Calls a method by its name.

    Args:
        name: The method's.
        words: The same with the class, for messages.
    """

    def __init__(self, name: str, words: str) -> None:
        self.name = name
        self.__qualname__ = words

    def __call__(self, held: Held, /, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        method = getattr(held.obj, self.name)
        if not callable(method):
            raise AttributeError(f"{self.__qualname__} is no method: {NO_METHOD}")
        return method(*args, **kwargs)


#: why an attribute is refused, and the way out
NO_METHOD = (
    "an actor gives its public methods, not its data. Write a method that returns it, or "
    "actor.call(lambda obj: obj.name)."
)


class Apply:
    """Calls a function with the object as first argument."""

    def __init__(self, function: Callable[..., Any], words: str) -> None:
        self.function = function
        self.__qualname__ = words

    def __call__(self, held: Held, /, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.function(held.obj, *args, **kwargs)
