"""What a worker of the `multiprocessing` drop-in does first."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import current_process, set_start_method
from typing import Any, SupportsIndex

from allcores.transport import had_by_fork, plain_results, process_role

#: in names of processes
_KINDS = {"forkserver": "ForkServer"}


class WorkerStart:
    """The setup function: names and results are as with the original, then the initializer runs.

    What the initializer returns is dropped: functions get no extra argument.

    Attributes:
        like_multiprocessing: A process with other threads is forked without a word, as multiprocessing does it.
        by_fork: Workers are forked from the program, and have this already.
    """

    like_multiprocessing = True

    def __init__(self, method: str, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        self.kind = _KINDS.get(method, method.title())
        self.method = method
        self.by_fork = method == "fork"
        self.initializer = initializer
        self.initargs = initargs

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if self.by_fork:
            return had_by_fork.had, (had_by_fork.number_of(self),)
        return super().__reduce_ex__(protocol)

    def __call__(self) -> None:
        """Begin."""
        plain_results.only_plain()
        # What a worker starts by itself is started in that way, too.
        set_start_method(self.method, force=True)
        current_process().name = f"{self.kind}PoolWorker-{process_role.place()}"
        if self.initializer is not None:
            self.initializer(*self.initargs)
