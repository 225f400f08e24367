"""`allcores doctor`: what this machine gives, and why."""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import sqlite3
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from allcores.cli.output import show, write_json
from allcores.formatting import size_text
from allcores.limits import reserve_of
from allcores.system import procfs
from allcores.system.cores import Budget, Memory, core_budget, machine_memory, thread_environment
from allcores.system.installations import version_of
from allcores.system.posix import can_fork

#: what allcores uses, or what people use beside it, and what for
LIBRARIES = {
    "cloudpickle": "functions of scripts and notebooks, lambdas",
    "click": "this command line",
    "rich": "the progress bar",
    "jinja2": "reports of recorded runs",
    "numpy": "arrays, and .npy files in slices",
    "h5py": "HDF5 files in slices",
    "pyarrow": "Parquet files",
    "sqlalchemy": "rows of a query as items",
    "zstandard": "files compressed with zstd",
}

#: the first SQLite that two checkpoints at once cannot make lose a transaction
SQLITE_WITHOUT_RESET_BUG = (3, 51, 3)
#: descriptors that a worker costs the parent (pipe, notes, death), and those that a program has anyway
DESCRIPTORS_PER_WORKER, DESCRIPTORS_ELSEWHERE = 3, 64
#: load as part of the machine's cores from which on it is in the way
LOADED_SHARE = 0.75
#: bytes; Docker gives a container a /dev/shm of this size unless told otherwise
SMALL_SHM_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of the system.

    Attributes:
        name: As people know it.
        value: In `unit`; None if there is no such limit here.
        bites: A sentence if this limit is in the way, else None.
    """

    name: str
    value: int | None
    unit: str
    bites: str | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that `allcores doctor` shows."""

    cores: Budget
    memory: Memory
    #: bytes that a pool keeps available, see Limits(memory_reserve=...); None where memory cannot be watched
    memory_reserve: int | None
    start_methods: dict[str, str]
    default_start_method: str | None
    limits: list[Limit]
    python: dict[str, Any]
    libraries: dict[str, str | None]
    thread_variables: dict[str, str | None]
    worker_thread_variables: dict[str, str]
    #: tasks that ran or waited for a processor, on average over the last minute; None if unknown
    load: float | None = None
    machine_cores: int = 1

    @property
    def warnings(self) -> list[str]:
        """What is in the way, in sentences."""
        found = [limit.bites for limit in self.limits if limit.bites]
        if self.load is not None and self.load > LOADED_SHARE * self.machine_cores:
            found.append(
                f"other programs keep this machine busy (load {self.load:.1f} on {self.machine_cores} cores):"
                " workers wait for processors"
            )
        if self.default_start_method is None:
            found.append("this system cannot fork: use --backend threads")
        if self.memory.available is not None:
            share = self.memory.available // self.cores.workers
            if self.memory_reserve is not None and self.memory.available < self.memory_reserve:
                found.append(
                    f"less than {size_text(self.memory_reserve)} of memory are available: pools run one task at a time"
                    " until there is more; end other programs, or see Limits(memory_reserve=...)"
                )
            if share < 256 * 1024 * 1024:
                found.append(f"only {size_text(share)} of memory are available for each worker: use fewer workers")
        for name, value in self.thread_variables.items():
            if value and value.isdecimal() and int(value) > 1 and name.endswith("_THREADS"):
                found.append(
                    f"{name}={value} is kept in workers: {self.cores.workers} of them start"
                    f" {int(value) * self.cores.workers} threads; unset it, and each gets 1"
                )
        return found

    def as_json(self) -> dict[str, Any]:
        """For machines; docs/cli.md explains each field."""
        return {**asdict(self), "warnings": self.warnings}


def diagnose() -> Diagnosis:
    """Look at the machine. Takes a few milliseconds; starts nothing."""
    cores = core_budget()
    memory = machine_memory()
    ours = thread_environment(1, environ={})
    methods = dict(_start_methods())
    return Diagnosis(
        cores=cores,
        memory=memory,
        memory_reserve=_reserve(memory),
        start_methods=methods,
        default_start_method="template" if "template" in methods else None,
        limits=list(_limits(cores.workers)),
        python=_python(),
        libraries={name: version_of(name) for name in LIBRARIES},
        thread_variables={name: os.environ.get(name) for name in ours if not name.startswith("ALLCORES_")},
        worker_thread_variables={
            name: value for name, value in thread_environment(1).items() if not name.startswith("ALLCORES_")
        },
        load=_load(),
        machine_cores=os.cpu_count() or 1,
    )


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):  # Windows
        return None


def _reserve(memory: Memory) -> int | None:
    if memory.total is None or memory.available is None:
        return None
    return reserve_of("auto", memory.total if memory.limit is None else memory.limit)


def _start_methods() -> Iterator[tuple[str, str]]:
    """Each start method that works here, and what it is good for."""
    if not can_fork():
        return
    yield "template", "workers are forked in milliseconds from a clean process with one thread"
    known = multiprocessing.get_all_start_methods()
    if "fork" in known:
        yield "fork", "workers have all that the parent has; risky when it runs threads"
    if "spawn" in known:
        yield "spawn", "each worker is a fresh interpreter: slowest start, nothing shared"
    if "forkserver" in known:
        yield "forkserver", "like template"


def _limits(workers: int) -> Iterator[Limit]:
    yield from _resource_limits(workers)
    for name, path in [
        ("pid_max", "sys/kernel/pid_max"),
        ("threads-max", "sys/kernel/threads-max"),
        ("container's pids.max", "/sys/fs/cgroup/pids.max"),
    ]:
        value = procfs.number(path)
        if value is None:
            continue
        tight = value < 4 * workers + 32
        yield Limit(name, value, "processes", f"{name} allows {value} processes in all" if tight else None)
    if os.path.isdir("/dev/shm"):
        try:
            space = shutil.disk_usage("/dev/shm")
        except OSError:
            return
        small = f"/dev/shm has {size_text(space.total)}: large arrays need more (docker run --shm-size=1g)"
        yield Limit("/dev/shm", space.total, "bytes", small if space.total <= SMALL_SHM_BYTES else None)
        yield Limit("/dev/shm free", space.free, "bytes")


def _resource_limits(workers: int) -> Iterator[Limit]:
    try:
        import resource
    except ImportError:  # Windows
        return
    files = _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    most = None if files is None else max(0, files - DESCRIPTORS_ELSEWHERE) // DESCRIPTORS_PER_WORKER
    yield Limit(
        "open files (ulimit -n)",
        files,
        "descriptors",
        f"ulimit -n {files} is enough for about {most} workers: raise it"
        if most is not None and most < 2 * workers
        else None,
    )
    if hasattr(resource, "RLIMIT_NPROC"):
        processes = _finite(resource.getrlimit(resource.RLIMIT_NPROC)[0])
        tight = processes is not None and processes < 4 * workers + 64 and os.geteuid() != 0
        yield Limit(
            "user's processes (ulimit -u)",
            processes,
            "processes",
            f"ulimit -u {processes} is for all your processes and threads together: raise it" if tight else None,
        )
    memory = _finite(resource.getrlimit(resource.RLIMIT_AS)[0])
    yield Limit(
        "address space (ulimit -v)",
        memory,
        "bytes",
        None if memory is None else f"ulimit -v limits each process to {size_text(memory)} of address space",
    )


def _finite(value: int) -> int | None:
    """None for "unlimited", which is -1 or, on macOS, the largest number."""
    return None if value < 0 or value >= 1 << 62 else value


def _sqlite_text() -> str:
    """The version that journals are kept with, and what follows from it."""
    if sqlite3.sqlite_version_info >= SQLITE_WITHOUT_RESET_BUG:
        return f"{sqlite3.sqlite_version}"
    return (
        f"{sqlite3.sqlite_version}: two connections must not checkpoint at once before"
        f" {'.'.join(map(str, SQLITE_WITHOUT_RESET_BUG))}; of a run's, only one ever does. Do not write to its"
        " catalogue with other tools"
    )


def _python() -> dict[str, Any]:
    gil = getattr(sys, "_is_gil_enabled", None)
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "free_threading_build": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "gil_enabled": True if gil is None else bool(gil()),
        "compiler": platform.python_compiler(),
        "system": platform.platform(),
        "sqlite": sqlite3.sqlite_version,
    }


def as_text(found: Diagnosis) -> str:
    """The diagnosis for people."""
    cores, memory = found.cores, found.memory
    budget = "1 core" if cores.workers == 1 else f"{cores.workers} cores"
    lines = [f"Core budget: {budget}, so a pool has that many workers unless told otherwise"]
    lines += [f"  {reason}" for reason in cores.reasons]
    available = "unknown" if memory.available is None else size_text(memory.available)
    lines.append(f"Memory: {available} available")
    lines += [f"  {reason}" for reason in memory.reasons]
    if found.memory_reserve is not None:
        lines.append(f"  below {size_text(found.memory_reserve)} a pool starts nothing new, Limits(memory_reserve=...)")
    lines.append(f"Start methods: {found.default_start_method or 'none'} is the default")
    lines += _table(found.start_methods)
    lines.append("Limits")
    lines += _table({limit.name: _limit_text(limit) for limit in found.limits})
    lines.append(f"Python {found.python['version']} ({found.python['implementation']})")
    gil = "off: threads run in parallel" if not found.python["gil_enabled"] else "on: threads take turns"
    lines += _table(
        {
            "executable": found.python["executable"],
            "GIL": gil,
            "system": found.python["system"],
            "SQLite": _sqlite_text(),
        }
    )
    lines.append("Libraries")
    lines += _table({name: _library_text(name, version) for name, version in found.libraries.items()})
    lines.append("Threads of numeric libraries, in each of a full pool's workers")
    lines += _table(
        {
            name: f"{value} (set by you, kept)"
            if value is not None
            else found.worker_thread_variables.get(name, "follows OMP_NUM_THREADS")
            for name, value in found.thread_variables.items()
        }
    )
    warnings = found.warnings
    lines.append("In the way" if warnings else "Nothing is in the way.")
    lines += [f"  ! {warning}" for warning in warnings]
    return "\n".join(lines)


def _table(rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows), default=0)
    return [f"  {name:<{width}}  {text}" for name, text in rows.items()]


def _limit_text(limit: Limit) -> str:
    if limit.value is None:
        return "no limit"
    return size_text(limit.value) if limit.unit == "bytes" else f"{limit.value:,}"


def _library_text(name: str, version: str | None) -> str:
    return f"{version or 'not installed'} ({LIBRARIES[name]})"


@click.command("doctor")
@click.option("--json", "as_machine", is_flag=True, help="Print JSON.")
def command(as_machine: bool) -> None:
    """Show what this machine gives: cores, memory, start methods, limits, versions, and why."""
    found = diagnose()
    if as_machine:
        write_json(found.as_json())
    else:
        show(as_text(found))
