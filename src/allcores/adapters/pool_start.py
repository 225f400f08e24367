"""What a worker of the `multiprocessing` drop-in does first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allcores.transport import plain_results


class WorkerStart:
    """The setup function: results are pickled as the original does it, then the initializer runs.

    What the initializer returns is dropped: functions get no extra argument.

    Attributes:
        like_multiprocessing: A process with other threads is forked without a word, as multiprocessing does it.
    """

    like_multiprocessing = True

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        self.initializer = initializer
        self.initargs = initargs

    def __call__(self) -> None:
        """Begin."""
        plain_results.only_plain()
        if self.initializer is not None:
            self.initializer(*self.initargs)
