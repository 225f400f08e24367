"""What a preload function returns, where it runs in this very process."""

from __future__ import annotations

import threading
from typing import Any

from allcores.backends.base import WorkerInit
from allcores.errors import SetupError, again


class SharedValue:
    """What the preload function returns, made once in this process by whoever needs it first."""

    def __init__(self, worker_init: WorkerInit) -> None:
        self._worker_init = worker_init
        self._lock = threading.Lock()
        self._state: tuple[Any, ...] | None = None
        self._error: SetupError | None = None

    def forget(self) -> None:
        """Nobody will need it any more."""
        self._worker_init = WorkerInit()
        self._state = None

    def get(self) -> tuple[Any, ...]:
        """() if there is none, else a tuple of one. Raises SetupError, again and again the same one."""
        function = self._worker_init.preload
        if function is None:
            return ()
        with self._lock:
            if self._error is not None:
                raise again(self._error)
            if self._state is None:
                try:
                    value = function(*self._worker_init.preload_args)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    if isinstance(error, SetupError):
                        # It says already what it was about.
                        self._error = error
                        raise
                    self._error = SetupError(f"The preload function raised {type(error).__name__}: {error}")
                    raise self._error from error
                self._state = () if value is None else (value,)
            return self._state
