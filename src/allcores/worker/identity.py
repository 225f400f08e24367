"""Who a worker is to `multiprocessing`: a process of its own name and number, whose parent is the program.

Workers are no children of multiprocessing's making. Without this each would be the main process to whoever asks:
`parent_process()` is None there, and `current_process().name` is "MainProcess", also in records of logging.
"""

from __future__ import annotations

import itertools
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: as multiprocessing calls a process that it did not start
MAIN = "MainProcess"
#: of the program, where it is not the main process itself; a template is told
program_name = MAIN
#: name, place, pid of the program
_taken: tuple[str, int, int] | None = None


def current_name() -> str:
    """What multiprocessing calls this process, or would once it is imported."""
    module = sys.modules.get("multiprocessing.process")
    try:
        if module is not None:
            return str(module.current_process().name)
    except AttributeError:  # in the middle of its import
        pass
    return MAIN if _taken is None else _taken[0]


def take(name: str, place: int, program: int) -> None:
    """Be this process from now on, as soon as multiprocessing is imported.

    Args:
        name: Of the process.
        place: Its number among those of its pool, from 1; 0: it is none of them.
        program: Pid of the process that has the pool.
    """
    global _taken, program_name
    if os.getppid() == program:
        # Forked from it: what is here is a copy.
        program_name = current_name()
    _taken = name, place, program
    module = sys.modules.get("multiprocessing.process")
    if module is not None and hasattr(module, "_parent_process"):
        tell(module)


def tell(module: Any) -> None:
    """Have multiprocessing know it.

    Args:
        module: `multiprocessing.process`.
    """
    if _taken is None:
        return
    name, place, program = _taken
    own = module.current_process()
    if type(own).__name__ == "_MainProcess":
        own.__class__ = module.BaseProcess
    own.name = name
    # Not public, but what programs read for a number of their own: a seed, the line of a progress bar.
    own._identity = (place,) if place else ()
    own._parent_pid = program
    # The copies that a fork makes are the program's.
    module._children = set()
    module._process_counter = itertools.count(1)
    module._parent_process = _parent(module, program)


def _parent(module: Any, pid: int) -> Any:
    class Program(module._ParentProcess):  # type: ignore[misc]
        """The process that has the pool. What it is waited for by is opened once that is asked for."""

        _opened: int | None = None

        @property
        def _sentinel(self) -> int:
            if self._opened is None:
                self._opened = _sentinel_of(pid)
            return self._opened

        @_sentinel.setter
        def _sentinel(self, _: None) -> None:
            """Set by the class below."""

    return Program(program_name, pid, None)


def _sentinel_of(pid: int) -> int:
    """A descriptor that is ready to be read once the process has ended."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError) as error:
        read, write = os.pipe()
        if isinstance(error, ProcessLookupError):
            os.close(write)
        # Otherwise this system has no way to tell. It lives: no worker outlives it.
        return read
