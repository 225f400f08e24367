"""joblib on allcores: `register()`, then `joblib.parallel_config("allcores")` or `Parallel(backend="allcores")`.

    from allcores.adapters import joblib as allcores_joblib
    allcores_joblib.register()
    with joblib.parallel_config("allcores"):
        GridSearchCV(model, grid, n_jobs=-1).fit(X, y)

Nothing of joblib is replaced: its registry of backends has one more name.

    Parallel ── batches ──► submit ──► pool ──► worker: run
       ▲                                            │
       └── callbacks ◄── a thread of each call ◄────┘
"""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import Empty
from typing import Any

try:
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError
    from joblib.parallel import (
        AutoBatchingMixin,
        FallbackToBackend,
        ParallelBackendBase,
        SequentialBackend,
        get_active_backend,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"allcores.adapters.joblib needs {error.name}: pip install 'allcores[joblib]'", name=error.name
    ) from error

from allcores.adapters import joblib_pools
from allcores.adapters.joblib_batch import Batch
from allcores.adapters.joblib_calls import Calls, give_up
from allcores.adapters.joblib_pools import Lease, Wanted
from allcores.adapters.joblib_tasks import Around, run
from allcores.errors import PoolClosed, TaskExited, UsageError, WorkerLost
from allcores.pool.call_future import OF_ANOTHER_PROCESS
from allcores.pool.many_calls import begin_calls
from allcores.system import forks
from allcores.system.cores import core_budget

__all__ = ["AllcoresBackend", "TaskWorkerLost", "close", "register"]

#: Seconds that a batch of tasks is to take. Larger: less to do for each task; smaller: less waiting at the end of a
#: call, where one worker has its last batch and the others have none.
BATCH_S = 0.05
#: Tasks in a batch, at most, and how many times as many as in the batch before.
MOST_TASKS = 8192
GROWTH = 16
#: Bytes of a batch, about and at most.
MOST_BYTES = 4 << 20
#: Seconds that an idle pool stays.
IDLE_S = 300.0


def register(make_default: bool = False) -> None:
    """Tell joblib of the backend "allcores". As often as you like.

    Args:
        make_default: `Parallel` uses it where no backend is named. Otherwise the default stays what it is.
    """
    joblib.register_parallel_backend("allcores", AllcoresBackend, make_default=make_default)


def close() -> None:
    """End the workers that wait for the next call of `Parallel`, and what runs on them.

    Otherwise they end at exit, or once they have been idle for five minutes (`idle_worker_timeout=`).
    """
    joblib_pools.close()


class TaskWorkerLost(WorkerLost, TerminatedWorkerError):  # type: ignore[misc]
    """The process of a task died. It is also joblib's `TerminatedWorkerError`, so `except` clauses go on working."""


class _Nested:
    """What a worker's own calls of `Parallel` use, as a context manager. To unpickle it registers the backend there."""

    def __init__(self, backend: Any, n_jobs: Any) -> None:
        self.backend = backend
        self.n_jobs = n_jobs

    def __reduce__(self) -> tuple[Any, ...]:
        return _nested, (self.backend, self.n_jobs)


def _nested(backend: Any, n_jobs: Any) -> Any:
    if "allcores" not in joblib.parallel.BACKENDS:
        register()
    return joblib.parallel_config(backend=backend, n_jobs=n_jobs)


def _around(nested: Any) -> _Nested:
    """What tasks find around them, for calls of their own."""
    # Older backends do not tell the number of jobs.
    backend, n_jobs = nested if isinstance(nested, tuple) else (nested, None)
    return _Nested(backend, n_jobs)


class AllcoresBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """The backend "allcores" of joblib; `register` makes it known.

    Options, to be given to `joblib.parallel_config` or `joblib.Parallel`:

    Args:
        nesting_level: Of joblib.
        inner_max_num_threads: Threads of BLAS and OpenMP in each worker.
        **backend_kwargs: `idle_worker_timeout`: seconds that idle workers stay (300). `initializer`, `initargs`: run
            once in each worker. `start_method`, `limits`: as for `allcores.Pool`.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    _effective_batch_size: int

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **backend_kwargs: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **backend_kwargs)
        _check(backend_kwargs)
        self._reset()

    def _reset(self) -> None:
        self.parallel: Any = None
        self._in_use = False
        self._workers: Lease | None = None
        #: the same, for the end of the call or block
        self._leases: list[Lease] = []
        self._calls: Calls | None = None
        self._end: Callable[[], object] | None = None
        self._arrays: Any = None
        self._sklearn: dict[str, Any] | None = None
        self._batches: dict[Future[Any], Batch] = {}
        self._begun = 0
        self.reset_batch_stats()
        #: seconds and bytes of a task, as measured
        self._task_s: float | None = None
        self._task_bytes = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {
            "nesting_level": self.nesting_level,
            "inner_max_num_threads": self.inner_max_num_threads,
            "backend_kwargs": self.backend_kwargs,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers `n_jobs` means; negative ones count from the core budget."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(core_budget().workers + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        **options: Any,
    ) -> int:
        """Begin a call of `Parallel`, or a block of calls.

        Raises:
            FallbackToBackend: One worker is no parallel work; or another `Parallel` is using this object, and gets the
                next one.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if self._in_use:
            raise FallbackToBackend(copy.copy(self))
        own = {**self.backend_kwargs, **{name: value for name, value in options.items() if name not in _JOBLIBS}}
        _check(own)
        self._reset()
        self._in_use = True
        forks.renew_in_children(self)
        try:
            self._open(n_jobs, own, options)
        except BaseException:
            self.terminate()
            raise
        self.parallel = parallel
        return n_jobs

    def after_fork(self) -> None:
        """In a child of a fork: no more results come here of a call that the parent has begun."""
        parallel = self.parallel
        if self._calls is not None:
            self._calls.after_fork()
        if parallel is not None and self._batches:
            # A thread of the parent's may have held it.
            vars(parallel)["_lock"] = threading.RLock()
            give_up(parallel, PoolClosed(OF_ANOTHER_PROCESS))

    def _open(self, n_jobs: int, own: dict[str, Any], options: Mapping[str, Any]) -> None:
        initializer = own.get("initializer")
        wanted = Wanted(
            n_jobs,
            self._variables(n_jobs),
            None if initializer is None else (initializer, tuple(own.get("initargs", ()))),
            {name: own[name] for name in _OF_POOLS if name in own},
        )
        idle_s = own.get("idle_worker_timeout")
        self._workers = Lease(wanted, IDLE_S if idle_s is None else float(idle_s))
        # After a call that failed it is another one.
        self._leases = leases = [self._workers]
        active, jobs = get_active_backend()
        ours = (copy.copy(active), jobs) if isinstance(active, AllcoresBackend) else None
        try:
            self._calls = calls = Calls(ours)
        except BaseException:  # no thread can be had
            self._workers.close()
            raise

        folders: list[Any] = []

        def end() -> None:
            calls.close()
            for each in leases:
                each.close()
            for folder in folders:
                folder.close()

        self._end = weakref.finalize(self, end)
        self._end.atexit = False
        if "numpy" in sys.modules:
            from allcores.adapters import joblib_arrays

            if joblib_arrays.available():
                least, mode = options.get("max_nbytes"), options.get("mmap_mode")
                place = joblib_arrays.place_of(options.get("temp_folder"), calls.number)
                folders.append(place)
                self._arrays = joblib_arrays.SharedArrays(least, mode, place)

    def _variables(self, n_jobs: int) -> dict[str, str]:
        """Limits on the threads of libraries in workers: what was asked for, what is set, or a share of the cores."""
        own = self.inner_max_num_threads
        share = max(core_budget().workers // n_jobs, 1)
        variables = {
            name: str(own if own is not None else os.environ.get(name, share)) for name in self.MAX_NUM_THREADS_VARS
        }
        if self.TBB_ENABLE_IPC_VAR not in os.environ:
            variables[self.TBB_ENABLE_IPC_VAR] = "1"
        return variables

    def start_call(self) -> None:
        """A call begins: what its tasks are to find around them is looked at now, on the caller's thread.

        What a call before it in its block has read and never handed over, since it failed, joblib has kept,
        and would do in this one.
        """
        kept = getattr(self.parallel, "_ready_batches", None)
        with contextlib.suppress(Empty):
            while kept is not None:
                kept.get_nowait()
        self._begun = 0
        self._sklearn = _sklearn_configuration()
        if self._calls is not None:
            self._calls.begin()

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> Future[Any]:
        """Hand over a batch. What goes wrong is the future's exception: joblib waits for each batch's callback."""
        tasks: Any = getattr(func, "items", None)
        plain = not isinstance(tasks, list)
        if plain:
            tasks = [(func, (), {})]
        batch = Batch(tasks, self._begun, plain)
        self._begun += batch.count
        calls = self._calls
        future: Future[Any]
        try:
            assert self._workers is not None and calls is not None
            own = self._arrays.ways(batch.used) if self._arrays is not None else None
            packed = batch.packed(tasks, _around(self.get_nested_backend()), own)
            self._task_bytes = max(packed.size / batch.count, self._task_bytes * 0.9)
            calling = (packed, Around(batch.first, self._sklearn))
            future = begin_calls(self._workers.pool, run, [(calling, None)], words=_called)[0]
        except Exception as error:
            future = Future()
            future.set_exception(error)
        self._batches[future] = batch
        if callback is not None:
            if calls is None:
                future.add_done_callback(callback)
            else:
                calls.tell(callback, future)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """What the tasks of a batch returned; their exception raised."""
        batch = self._batches.pop(out, None)
        try:
            return self._results_of(out, batch)
        except BaseException:
            if self._calls is not None:
                self._calls.failed()
            raise

    def _results_of(self, out: Future[Any], batch: Batch | None) -> Any:
        try:
            results, seconds = out.result().load()
        except WorkerLost as error:
            if batch is None:
                raise
            raise _lost(error, batch) from None
        except TaskExited as error:
            raised = error.__cause__
            if raised is None:
                raise
            # As joblib has it: a task may end its caller. What it was raised from has the worker's traceback.
            raise raised from raised.__cause__
        if batch is None:
            return results
        self._task_s = seconds / batch.count
        return results[0] if batch.plain else results

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Around the reading of results; where all of them are wanted in a list, their end is waited for here."""
        parallel, calls = self.parallel, self._calls
        # A time limit is joblib's to keep, for each batch.
        if parallel is not None and calls is not None and parallel.timeout is None and not parallel.return_generator:
            calls.wait_over()
        yield

    def compute_batch_size(self) -> int:
        """How many tasks the next batches have: as many as take `BATCH_S`."""
        if self._task_s is not None:
            most = max(1, min(MOST_TASKS, int(MOST_BYTES / max(self._task_bytes, 1.0))))
            wanted = int(BATCH_S / max(self._task_s, 1e-9))
            self._effective_batch_size = max(1, min(wanted, most, self._effective_batch_size * GROWTH))
            self._task_s = None
        return self._effective_batch_size

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End what runs of this call, and nothing else."""
        for future in list(self._batches):
            future.cancel()
        self._batches.clear()
        if ensure_ready and self._workers is not None:
            self._workers = self._leases[0] = self._workers.again()

    def terminate(self) -> None:
        """The call, or block of calls, is over: workers wait for the next one."""
        end, self._end = self._end, None
        if end is not None:
            end()
        if self._arrays is not None:
            self._arrays.close()
        self._arrays = self._calls = self._workers = None
        self._batches.clear()
        self.reset_batch_stats()
        self._in_use = False


#: what joblib itself gives to every backend; what of it means nothing here is accepted
_JOBLIBS = ("max_nbytes", "temp_folder", "mmap_mode", "verbose", "context")
#: options of pools
_OF_POOLS = ("start_method", "limits")
_OWN = ("idle_worker_timeout", "initializer", "initargs", *_OF_POOLS)


def _check(options: Mapping[str, Any]) -> None:
    """Raises ValueError for what is no option."""
    for name in options:
        if name == "timeout":
            raise UsageError(
                "timeout is no option of the backend 'allcores': give it to Parallel, for tasks that take too long; "
                "idle_worker_timeout is the seconds that idle workers stay."
            )
        if name not in _OWN:
            raise UsageError(f"The backend 'allcores' of joblib has no option {name!r}; it has {', '.join(_OWN)}.")


def _called(_: str, arguments: Sequence[Any], __: Mapping[str, Any]) -> str:
    """What a message of the pool calls a batch, whose tasks the adapter's own part of it names."""
    return "a batch of joblib's tasks"


def _lost(error: WorkerLost, batch: Batch) -> BaseException:
    made = TaskWorkerLost.__new__(TaskWorkerLost)
    made.__dict__.update(error.__dict__)
    made.args = (f"{batch.words()} ended its worker process. {error}",)
    return made


def _sklearn_configuration() -> dict[str, Any] | None:
    """That of the calling thread, if scikit-learn is there and it is not as it comes."""
    module = sys.modules.get("sklearn")
    if module is None or not hasattr(module, "get_config"):
        return None
    found: dict[str, Any] = module.get_config()
    return None if found == _default_configuration(module) else found


_defaults: dict[str, Any] | None = None


def _default_configuration(module: Any) -> dict[str, Any]:
    """What scikit-learn has by itself: a thread that has just begun has that."""
    global _defaults
    if _defaults is None:
        found: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: found.append(module.get_config()), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # none can be had: tasks are told all of it
            return {}
        thread.join()
        _defaults = found[0]
    return _defaults
