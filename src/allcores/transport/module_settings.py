"""What `allcores.configure` was told, on its way to worker processes: the module's functions find it in tasks, too.

It travels with the functions that workers begin with, which are in the worker what they were: nothing stands around
them there, and nothing has to be sent besides.
"""

from __future__ import annotations

from allcores.transport import process_role

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

#: in a process that does the work of such a pool: what that was told, once tasks begin
known: dict[str, Any] = {}
#: ... and before: a setup function that calls the module's functions would be called there again, and there again
_arrived: dict[str, Any] = {}


class Travelling:
    """A setup or preload function of the module's pool. To unpickle it in a worker gives the function itself.

    Attributes:
        function: The function; None if there is none.
        settings: What is to be known where it arrives.
    """

    def __init__(self, function: Callable[..., Any] | None, settings: Mapping[str, Any]) -> None:
        self.function = function
        self.settings = dict(settings)
        if function is not None:
            # Templates import the modules that workers will need.
            self.__module__ = getattr(function, "__module__", None) or type(self).__module__

    def __call__(self, *arguments: Any) -> Any:
        """Where it has not travelled: a map of such a pool may run in this process."""
        return None if self.function is None else self.function(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return arrived, (self.function, self.settings)


def arrived(function: Callable[..., Any] | None, settings: dict[str, Any]) -> Callable[..., Any] | None:
    """The function, and the settings are there; on a node of a cluster it has still to go to workers."""
    if not process_role.is_worker():
        return Travelling(function, settings)
    _arrived.update(settings)
    return function


def begin() -> None:
    """What the worker begins with is done: tasks come next."""
    known.update(_arrived)
