"""The parent's side of `Pool(preload=...)`: what travels, what came of it, and the sentences about it.

By start method, or backend:

    template, forkserver   once, in the template; all workers share it. If it leaves threads behind: as with spawn
    fork                   once, in this process, before the first worker is forked; all workers share it
    spawn                  in each worker: fresh interpreters have no memory in common
    interpreters           likewise: they have no objects in common
    threads, serial        once, in this process, by the first worker that starts (`backends.in_process`)
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from allcores.backends.base import WorkerInit
from allcores.backends.processes import exit_causes
from allcores.backends.processes.decoding import setup_error
from allcores.backends.processes.launchers import PRELOAD_FAILED, PRELOADED, PRELOADING, THREADED
from allcores.backends.shared_value import SharedValue
from allcores.errors import SetupError
from allcores.system import caller, main_module
from allcores.transport import inheritance, pickling

if TYPE_CHECKING:
    from allcores.backends.processes.launchers import Launcher

#: the start method, so to speak, of `backends.interpreters`
INTERPRETERS = "interpreters"
#: kinds of notices that are about the preload, and not about a worker
NOTICES = (PRELOADING, PRELOADED, PRELOAD_FAILED, THREADED)

_WAY_OUT = (
    "Keep the library from starting threads while it loads (its documentation names the setting), start what needs "
    "them in setup=, or pass setup= instead of preload= if a copy per worker is what you want."
)


class Preload:
    """The preload of a pool of processes. payload: the function and its arguments for other processes."""

    def __init__(self, worker_init: WorkerInit, start_method: str) -> None:
        self._worker_init = worker_init
        self._start_method = start_method
        #: fresh interpreters run it, each for itself
        self.per_worker = start_method in ("spawn", INTERPRETERS)
        #: with start_method="fork": what the workers are forked with
        self.here: tuple[Any, ...] | None = None
        self.payload = b""
        #: ... and what goes along with it
        self.legacy = inheritance.Legacy()
        if start_method != "fork":
            work = (worker_init.preload, worker_init.preload_args)
            with inheritance.to_new_processes(self.legacy):
                self.payload = pickling.dump_named(work, "preload")

    @property
    def modules(self) -> list[str]:
        """Modules that workers will need besides: imported in the template, they are shared, too."""
        functions = (self._worker_init.setup, self._worker_init.teardown)
        names = (getattr(function, "__module__", None) for function in functions if function is not None)
        return [name for name in names if isinstance(name, str) and name not in main_module.NAMES]

    def begin(self) -> None:
        """Before the first worker, on the thread that makes the pool. Raises SetupError."""
        if self._start_method == "fork":
            self.here = SharedValue(self._worker_init).get()
        elif self.per_worker:
            which = "start_method='spawn'" if self._start_method == "spawn" else "backend='interpreters'"
            caller.warn(
                f"{which} has no memory in common: preload= runs in each worker, and each has a copy of "
                "its own. start_method='template' of backend='processes' shares one."
            )

    def forget(self) -> None:
        """No worker will be started any more: what the program has handed over is its own again."""
        self._worker_init = WorkerInit()
        self.here = None
        self.payload = b""

    def unshare(self, report: bytes) -> None:
        """It left threads behind, which no forked process would have: from now on each worker loads for itself."""
        first, self.per_worker = not self.per_worker, True
        if first:
            # On the driver's thread: where warnings are errors, this one must not end it.
            with contextlib.suppress(Warning):
                caller.warn(
                    f"preload= left {report.decode('utf-8', 'replace')} running, and a process with threads cannot be "
                    "forked safely. So each worker is started afresh and runs preload itself: one copy per worker, "
                    f"and a slow replacement. {_WAY_OUT}"
                )

    def raised(self, report: bytes) -> SetupError:
        """The error for a preload function that raised in the template."""
        return setup_error(report, "preload")

    def crashed(self, launcher: Launcher, *, oom_killed: bool) -> SetupError:
        """The error for a preload function that took the template along; the launcher is closed."""
        stack = launcher.report().decode("utf-8", "replace")
        if launcher.status is None:
            death = exit_causes.Death(0, stack=stack or None)
        else:
            death = exit_causes.from_wait_status(0, launcher.status, None, stack, oom_killed)
        what = exit_causes.sentence(death, item="preload", who="The template process")
        return SetupError(f"The preload function ended its process: {what}")

    @property
    def step(self) -> str:
        """What a worker does before it is ready, for messages."""
        if not self.per_worker:
            return "setup"
        return "preload" if self._worker_init.setup is None else "preload or setup"


__all__ = ["INTERPRETERS", "NOTICES", "Preload"]
