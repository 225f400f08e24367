"""What a worker of an executor does first: the initializer, as `ProcessPoolExecutor` has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, SupportsIndex

from allcores.transport import had_by_fork, script_globals


class Initialize:
    """Runs the initializer and drops what it returns: an executor's function gets no extra argument."""

    def __init__(self, initializer: Callable[..., Any], initargs: tuple[Any, ...], *, by_fork: bool) -> None:
        self.initializer = initializer
        self.initargs = initargs
        #: workers are forked from the program, and have this already
        self.by_fork = by_fork

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return (_had, (had_by_fork.number_of(self),)) if self.by_fork else super().__reduce_ex__(protocol)

    def __call__(self) -> None:
        """Run the initializer; what it raises is logged first."""
        # As in a worker of ProcessPoolExecutor: records of logging name their process once this is imported.
        import multiprocessing.process  # noqa: F401

        try:
            self.initializer(*self.initargs)
        except BaseException:
            import logging

            # Where ProcessPoolExecutor says it, and in the same words: programs listen there.
            logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            raise


def _had(number: int) -> Initialize:
    """In a worker that was forked from the program. Its functions are copies: they are to see what this one binds."""
    made: Initialize = had_by_fork.had(number)
    function: Any = made.initializer
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if isinstance(function, FunctionType):
        script_globals.arrived(function)
    return made
