"""Has the pools that programs know run on allcores, and tells at the end what came of it.

Replaced are names of modules, which `undo` restores: nothing else of those libraries is touched.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import concurrent.futures.process
import multiprocessing
import multiprocessing.context
import multiprocessing.pool
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from allcores.adapters.multiprocessing import Pool
from allcores.errors import UsageError
from allcores.outcome import Kind
from allcores.pool.executor import Executor
from allcores.pool.pool import Pool as Engine
from allcores.pool.pool import driver_of
from allcores.system.clock import monotonic_ns
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from allcores.pool.notifier import Observer
    from allcores.scheduler.state import Counters
    from allcores.timeline import Timeline

#: what stood there
_original: Any = multiprocessing.pool.Pool
POOL, EXECUTOR, JOBLIB = "multiprocessing.Pool", "ProcessPoolExecutor", "joblib"


class Patched:
    """What is replaced, from its making to `undo`; a context manager, too.

    Args:
        summary: Say on standard error what came of it, at the end of the program or of the block.
        report: A file for the report of the pool that did the most (HTML), to be written then.

    Raises:
        UsageError: Something is replaced already.
    """

    def __init__(self, *, summary: bool = True, report: str | os.PathLike[str] | None = None) -> None:
        global _current
        if _current is not None:
            raise UsageError("allcores.patch() was called already; end that one with its undo().")
        self._summary = summary
        self._report = report
        self._process_id = os.getpid()
        self._begun_ns = monotonic_ns()
        #: name of what was replaced -> the counters of each pool, and its workers
        self._pools: dict[str, list[tuple[Counters, int]]] = {POOL: [], EXECUTOR: []}
        self._timelines: list[Timeline] = []
        self._joblib = "not imported"
        #: what was there: object, name, value
        self._before: list[tuple[Any, str, Any]] = []
        self._finder: _JoblibFinder | None = None
        self._end_joblib: Callable[[], None] | None = None
        self._over = False
        _current = self
        self._replace()
        atexit.register(self._at_exit)

    # --- what is replaced ---

    def _replace(self) -> None:
        base = multiprocessing.context.BaseContext
        self._set(base, "Pool", _pool_of_context)
        self._set(multiprocessing, "Pool", multiprocessing.context.DefaultContext.Pool.__get__(_default_context()))
        self._set(multiprocessing.pool, "Pool", PatchedPool)
        self._set(concurrent.futures.process, "ProcessPoolExecutor", PatchedExecutor)
        self._set(concurrent.futures, "ProcessPoolExecutor", PatchedExecutor)
        if "joblib" in sys.modules:
            self.joblib_imported()
        else:
            self._finder = _JoblibFinder(self)
            sys.meta_path.insert(0, self._finder)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def joblib_imported(self) -> None:
        """Make allcores its default backend."""
        try:
            import_module("allcores.adapters.joblib").register()
            parallel = import_module("joblib.parallel")
            before = parallel.DEFAULT_BACKEND
            parallel.register_parallel_backend("allcores", parallel.BACKENDS["allcores"], make_default=True)
        except Exception as error:
            self._joblib = f"left as it is ({type(error).__name__}: {error})"
            return
        self._joblib = "default backend: allcores"

        def end() -> None:
            parallel.register_parallel_backend(before, parallel.BACKENDS[before], make_default=True)

        self._end_joblib = end

    def undo(self) -> None:
        """Restore what was there. Pools that are open go on. Idempotent."""
        global _current
        if self._finder is not None:
            if self._finder in sys.meta_path:
                sys.meta_path.remove(self._finder)
            self._finder = None
        while self._before:
            owner, name, value = self._before.pop()
            setattr(owner, name, value)
        if self._end_joblib is not None:
            self._end_joblib()
            self._end_joblib = None
        if _current is self:
            _current = None
        atexit.unregister(self._at_exit)

    # --- what came of it ---

    def observers(self) -> tuple[Observer, ...]:
        """For a pool that is about to be made."""
        if self._report is None:
            return ()
        from allcores.timeline import Timeline

        timeline = Timeline()
        self._timelines.append(timeline)
        return (timeline,)

    def note(self, name: str, engine: Engine) -> None:
        """A pool was made."""
        self._pools[name].append((driver_of(engine).scheduler.state.counters, engine.workers))

    def summary(self) -> str:
        """What came of it so far, in lines."""
        took_s = (monotonic_ns() - self._begun_ns) / 1e9
        lines = ["allcores.patch: what ran on allcores"]
        everything: list[tuple[Counters, int]] = []
        for name, pools in self._pools.items():
            everything += pools
            tasks = sum(counters.items_done for counters, _ in pools)
            used = f"{_count(len(pools), 'pool')}, {_count(tasks, 'task')}" if pools else "not used"
            lines.append(f"  {name:<22}{used}")
        lines.append(f"  {JOBLIB:<22}{self._joblib}")
        lost = sum(counters.by_kind[Kind.WORKER_LOST] for counters, _ in everything)
        with_whom = "its worker" if lost == 1 else "their workers"
        survived = f"{_count(lost, 'task')} lost with {with_whom}; all others went on" if lost else "none"
        lines.append(f"  {'crashes survived':<22}{survived}")
        if everything:
            worked_s = sum(counters.busy_ns for counters, _ in everything) / 1e9
            workers = max(workers for _, workers in everything)
            saved_s = worked_s - took_s
            saved = f"{saved_s:.1f} s saved beside one core" if saved_s > 0 else "nothing saved beside one core"
            lines.append(
                f"  {'time':<22}{worked_s:.1f} s of work in {took_s:.1f} s, up to {_count(workers, 'worker')}: {saved}"
            )
        return "\n".join(lines)

    def _write_report(self) -> str:
        """The report of the pool that did the most."""
        if not self._timelines:
            return "  report                none: no pool was made"
        for timeline in self._timelines:
            timeline.close()
        most = max(self._timelines, key=lambda timeline: timeline.attempts)
        try:
            assert self._report is not None
            most.save_report(self._report)
        except (ImportError, OSError, UsageError) as error:
            return f"  report                not written: {error}"
        others = len(self._timelines) - 1
        of = f", of the busiest of {others + 1} pools" if others else ""
        return f"  report                {os.fspath(self._report)}{of}"

    def end(self) -> None:
        """Undo it, and say what came of it, once."""
        self.undo()
        if self._over or os.getpid() != self._process_id:
            return
        self._over = True
        said = self.summary()
        if self._report is not None:
            said += "\n" + self._write_report()
        if self._summary and sys.stderr is not None:
            sys.stderr.write(said + "\n")

    def _at_exit(self) -> None:
        self.end()

    def __enter__(self) -> Patched:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


_current: Patched | None = None


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _default_context() -> Any:
    """What `multiprocessing.Pool` is bound to."""
    return multiprocessing.get_context.__self__  # type: ignore[attr-defined]


class _StandsIn(type):
    """Of a class that stands where multiprocessing's own code expects its own.

    `ThreadPool`, and pools that were made before, go on with the original: their code finds it by the same name.
    """

    def __getattr__(cls, name: str) -> Any:
        return getattr(_original, name)

    def __instancecheck__(cls, instance: object) -> bool:
        return super().__instancecheck__(instance) or (cls.__base__ is Pool and isinstance(instance, _original))


class PatchedPool(Pool, metaclass=_StandsIn):
    """The drop-in, as it stands in `multiprocessing`."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
    ) -> None:
        if not issubclass(type(self), Pool):
            # A ThreadPool, whose base is the original.
            _original.__init__(self, processes, initializer, initargs, maxtasksperchild, context)
            return
        patched = _current
        if patched is not None:
            self._observers = patched.observers()
        super().__init__(processes, initializer, initargs, maxtasksperchild, context)
        if patched is not None:
            patched.note(POOL, self._work.pool)


class PatchedExecutor(Executor):
    """The drop-in, as it stands in `concurrent.futures`."""

    def __init__(self, *args: Any, **more: Any) -> None:
        patched = _current
        if patched is not None:
            self._observers = patched.observers()
        super().__init__(*args, **more)
        if patched is not None:
            patched.note(EXECUTOR, self._pool)


def _pool_of_context(
    self: BaseContext,
    processes: int | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: Iterable[Any] = (),
    maxtasksperchild: int | None = None,
) -> PatchedPool:
    """The method `Pool` of the contexts of multiprocessing."""
    return PatchedPool(processes, initializer, initargs, maxtasksperchild, self.get_context())


class _JoblibFinder:
    """Stands first among the finders until joblib is imported; finds nothing itself."""

    def __init__(self, patched: Patched) -> None:
        self._patched = patched

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of joblib as the others find it, whose loader tells us once it is loaded."""
        if name != "joblib":
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(name)
        loader = None if spec is None else spec.loader
        if loader is None:
            return spec
        patched, execute = self._patched, loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if _current is patched:
                patched.joblib_imported()

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@hiding
def patch(*, summary: bool = True, report: str | os.PathLike[str] | None = None) -> Patched:
    """Have `multiprocessing.Pool`, `ProcessPoolExecutor` and joblib's default backend of this process run on allcores.

    Call it before the program's own imports: names that were imported before with `from ... import Pool` are theirs.
    Processes that the program starts by itself are not patched.

    Args:
        summary: Say at the end, on standard error, what ran on allcores.
        report: A file for the report (HTML) of where the time of the busiest pool went.

    Returns:
        A context manager, which ends it with its block; `undo()` ends it as well.

    Raises:
        UsageError: It was called already.
    """
    return Patched(summary=summary, report=report)
