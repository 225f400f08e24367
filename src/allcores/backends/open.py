"""The backends by their names. It alone imports implementations, each when it is asked for."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import sys
from collections.abc import Sequence

from allcores.backends.base import Backend, WorkerInit
from allcores.errors import BrokenPool, NotSupported, SetupError, UsageError
from allcores.limits import Limits
from allcores.system.portable import PORTABLE
from allcores.system.posix import can_fork, has_interpreter
from allcores.transport import process_role

TYPE_CHECKING = False
if TYPE_CHECKING:
    from allcores.backends.processes.worker_logs import WorkerLogReceiver
    from allcores.shared_memory.parent_side import ParentMemory

BACKENDS = ("processes", "threads", "interpreters", "serial")
#: clusters: by name, where the connection to one is made, and the extra that brings its library
CLUSTERS = {
    "dask": ("allcores.adapters.dask_cluster", "DaskCluster", "distributed", "dask"),
    "ray": ("allcores.adapters.ray_cluster", "RayCluster", "ray", "ray"),
}
START_METHODS = ("template", "fork", "spawn", "forkserver")
#: what to do about limits that keep a pool from starting
_REMEDIES = {
    errno.EFBIG: "; raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "; raise the limit on open files (ulimit -n)",
}


def check_modules(names: Sequence[str]) -> None:
    """Whether there is a module, or a package that it may be in, of each name; nothing is imported.

    Raises:
        UsageError: For what is no name.
        SetupError: If there is none.
    """
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise UsageError(f"preload_modules={names!r}: {name!r} is no name of a module; give names as in ['numpy'].")
        top = name.partition(".")[0]
        if top not in sys.modules and importlib.util.find_spec(top) is None:
            raise SetupError(
                f"preload_modules: there is no module {top!r} on sys.path. Correct the name, or install what it is in."
            )


def split_backend(name: str, address: object = None) -> tuple[str, object]:
    """Name and address of a backend, which may also stand together: "dask://10.0.0.1:8786".

    Raises:
        UsageError: For two addresses.
    """
    if not isinstance(name, str) or "://" not in name:
        return name, address
    kind, _, rest = name.partition("://")
    if kind in CLUSTERS and address is None:
        return kind, rest or None
    if kind in CLUSTERS:
        raise UsageError(f"backend={name!r} has an address already; leave address={address!r} out.")
    return name, address


def check_place(name: str, start_method: str | None, limits: Limits, address: object = None) -> None:
    """Whether there is such a backend, and the other options are for it.

    Raises:
        UsageError: For an unknown name.
        NotSupported: For an option that is for another backend.
    """
    if name in CLUSTERS:
        if start_method not in (None, "template", "forkserver", "spawn"):
            raise NotSupported(f"start_method={start_method!r} is not for backend={name!r}: its nodes have threads.")
        if importlib.util.find_spec(CLUSTERS[name][2]) is None:
            library, extra = CLUSTERS[name][2:]
            raise NotSupported(f"backend={name!r} needs {library}: pip install 'allcores[{extra}]'")
        return
    if name not in BACKENDS:
        raise UsageError(f"backend={name!r} is not one of {', '.join(map(repr, (*BACKENDS, *CLUSTERS)))}.")
    if address is not None:
        raise NotSupported(f"address={address!r} is for clusters ({', '.join(map(repr, CLUSTERS))}), not for {name!r}.")
    if name == "processes":
        if start_method is not None and start_method not in START_METHODS:
            raise UsageError(f"start_method={start_method!r} is not one of {', '.join(map(repr, START_METHODS))}.")
        return
    if name == "interpreters":
        _check_interpreters()
    if start_method is not None:
        raise NotSupported(f"start_method={start_method!r} is for backend='processes', not for {name!r}.")
    for option in ("memory_per_worker", "items_per_worker", "growth_per_worker"):
        if getattr(limits, option) is not None:
            raise NotSupported(f"Limits({option}=...) needs backend='processes': {name!r} has no process to end.")
    if isinstance(limits.memory_reserve, int):
        raise NotSupported(f"Limits(memory_reserve=...) needs backend='processes': {name!r} has no process to end.")


def _check_interpreters() -> None:
    if importlib.util.find_spec("concurrent.interpreters") is None:
        version = ".".join(map(str, sys.version_info[:3]))
        raise NotSupported(
            "backend='interpreters' needs Python 3.14 or later (the module concurrent.interpreters), and this is "
            f"{version}: use backend='processes' here."
        )


def open_backend(
    name: str,
    *,
    workers: int,
    worker_init: WorkerInit,
    limits: Limits,
    start_method: str | None,
    share: int,
    logs_as: str = "",
    records: bool | WorkerLogReceiver = False,
    prints: bool = False,
    sees: ParentMemory | None = None,
    preload_modules: Sequence[str] = (),
    address: object = None,
) -> Backend:
    """The backend called `name`.

    Args:
        name: See `Pool(backend=...)`.
        workers: How many there are to be.
        worker_init: What each does first and last.
        limits: See Limits.
        start_method: See `Pool(start_method=...)`.
        share: Cores that the workers and their nested pools may use.
        logs_as: The pool's name in what worker processes log and print.
        records: Whether their log records are handled here, or, on a node of a cluster, what sends them on.
        prints: Whether what they print is printed here.
        sees: Memory of another pool, whose shared objects these workers see, too.
        preload_modules: Names of modules that are imported before `worker_init.preload` is called.
        address: Of a cluster.

    Raises:
        UsageError: For an unknown name.
        NotSupported: If it cannot run here.
        BrokenPool: If the system refuses what it needs.
        SetupError: If there is no module of a name in `preload_modules`.
    """
    check_place(name, start_method, limits, address)
    if name != "serial" and process_role.in_interpreter():
        raise NotSupported(
            f"A task of backend='interpreters' cannot have a pool of backend={name!r}: its interpreter starts no "
            "processes and no daemon threads. Use backend='serial' there, or backend='processes' around it."
        )
    if name in CLUSTERS:
        module, kind, _, _ = CLUSTERS[name]
        backend: Backend = importlib.import_module("allcores.adapters.cluster.backend").ClusterBackend(
            name,
            getattr(importlib.import_module(module), kind)(address),
            worker_init,
            limits,
            {"start_method": start_method, "preload_modules": tuple(preload_modules), "name": logs_as},
            _log_receiver(logs_as, records, prints),
        )
        return backend
    if preload_modules:
        from allcores.worker.preload_modules import ModulePreload

        check_modules(preload_modules)
        preload = ModulePreload(preload_modules, worker_init.preload)
        worker_init = WorkerInit(*worker_init[:3], preload, worker_init.preload_args, worker_init.around)
    if name == "processes":
        if not can_fork():
            raise NotSupported(
                "backend='processes' needs a system with fork (Linux, macOS); use backend='threads' or 'serial' here"
                " (allcores.configure(backend=...) for the functions of the module, imap(backend=...) or a step's"
                " on=... in a pipeline)."
            )
        if not has_interpreter():
            if start_method not in (None, "fork"):
                raise NotSupported(
                    f"start_method={start_method!r} needs a Python to start, and this program has none: it is frozen "
                    "(made by PyInstaller, say), or embeds Python. Leave start_method out, for it can be forked; or "
                    "use backend='threads'."
                )
            # Its executable would begin the whole program anew, and that its own pool, and so on.
            start_method = "fork"
        start_method = start_method or ("spawn" if PORTABLE else "template")
        if start_method != "fork":
            from allcores.backends.processes import templates

            # An interpreter starts there while this one imports the rest.
            templates.start()
        from allcores.backends.processes.backend import ProcessBackend

        receiver = _log_receiver(logs_as, records, prints)
        try:
            return ProcessBackend(workers, worker_init, limits, start_method, share, receiver, sees)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "")
            raise BrokenPool(
                f"The system refuses what worker processes need: {error.strerror or error}{remedy}."
            ) from error
    if name == "threads":
        from allcores.backends.threads import ThreadBackend

        return ThreadBackend(worker_init)
    if name == "interpreters":
        from allcores.backends.interpreters import InterpreterBackend

        return InterpreterBackend(workers, worker_init, limits, share, _log_receiver(logs_as, records, prints), sees)
    from allcores.backends.serial import SerialBackend

    return SerialBackend(worker_init)


def _log_receiver(name: str, records: bool | WorkerLogReceiver, prints: bool) -> WorkerLogReceiver | None:
    from allcores.backends.processes.worker_logs import WorkerLogReceiver

    if isinstance(records, WorkerLogReceiver):
        return records
    return WorkerLogReceiver(name, records=records, prints=prints) if records or prints else None
