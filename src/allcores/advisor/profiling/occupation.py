"""Where the seconds of a program's cores went: each process from its start to its end, by what its threads did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from allcores.advisor.profiling.attribution import PARALLEL
from allcores.advisor.profiling.records import Place, ProcessRecord, Stack

#: what a process does, in the order of a report
KINDS = ("start-up", "computing", "pickling", "waiting", "no core", "idle tail")
_PICKLING = ("pickle.py", "cloudpickle", "reduction.py", "numpy_pickle", "copyreg.py")
#: functions that pickle or unpickle in C, called from these files
_PICKLING_IN_C = (
    ("queues.py", frozenset({"get", "put", "_feed"})),
    ("connection.py", frozenset({"send", "recv"})),
    ("shared_memory/", frozenset({"dumps", "loads"})),
    ("transport/", frozenset({"dumps", "loads"})),
)
#: moving bytes that were pickled
_MOVING = (("connection.py", frozenset({"_send", "_recv", "_send_bytes", "_recv_bytes", "send_bytes", "recv_bytes"})),)
_STARTING = ("importlib", "spawn.py", "forkserver.py", "popen_", "runpy.py", "<frozen")


@dataclass
class Occupation:
    """What one process did, in seconds of its main thread, and what its other threads computed besides.

    The kinds add up to the process' seconds: what no sample covers is start-up, before the first one.
    """

    pid: int
    role: str
    seconds: float
    cpu: float
    kinds: dict[str, float] = field(default_factory=dict)
    other_threads: dict[str, float] = field(default_factory=dict)
    threads: int = 1


def of_process(process: ProcessRecord, root: bool) -> Occupation:
    """What a process did."""
    role = "program" if root else _role(process)
    kinds = dict.fromkeys(KINDS, 0.0)
    others: dict[str, float] = {}
    main = [stack for stack in process.stacks if stack.main]
    first = min((stack.first for stack in main), default=process.ended)
    kinds["start-up"] += max(0.0, first - process.started)
    busy_until = max((stack.busy_until for stack in main if kind_of(stack) == "computing"), default=0.0)
    for stack in main:
        kind = kind_of(stack)
        cpu = min(stack.cpu, stack.own_wall)
        kinds["no core"] += stack.wall - stack.own_wall
        if kind in ("start-up", "waiting"):
            kinds[kind] += stack.own_wall
        else:
            kinds[kind] += cpu
            kinds["waiting"] += stack.own_wall - cpu
    if not root and busy_until:
        tail = min(max(0.0, process.ended - busy_until), kinds["waiting"])
        kinds["idle tail"] += tail
        kinds["waiting"] -= tail
    for stack in process.stacks:
        if not stack.main and stack.cpu > 0.0:
            kind = kind_of(stack)
            others[kind] = others.get(kind, 0.0) + stack.cpu
    return Occupation(process.pid, role, process.seconds, process.cpu, kinds, others)


def kind_of(stack: Stack) -> str:
    """What a thread does at a stack, while it computes: one of `KINDS` but the tail."""
    if not stack.places:
        return "computing"
    if any("_bootstrap" in place.code.file for place in stack.places[:1]) or _any(stack.places[:1], _STARTING):
        return "start-up"
    leaf = stack.places[0].code
    name = leaf.name.rpartition(".")[2]
    if any(each in leaf.file for each in _PICKLING):
        return "pickling"
    for file, names in (*_PICKLING_IN_C, *_MOVING):
        if file in leaf.file and name in names:
            return "pickling" if stack.cpu > 0.2 * stack.wall else "waiting"
    if _handed_over(stack.places):
        return "waiting"
    if _any(stack.places, ("importlib._bootstrap",)) and not any(place.code.user for place in stack.places):
        return "start-up"
    return "computing"


def _handed_over(places: tuple[Place, ...]) -> bool:
    """Whether the innermost code is a library's that waits for others."""
    for place in places:
        if place.code.user:
            return False
        if any(each in place.code.file for each in (*PARALLEL, "selectors.py", "queue.py", "socket.py")):
            return True
    return False


def _any(places: Iterable[Place], names: tuple[str, ...]) -> bool:
    return any(name in place.code.file for place in places for name in names)


def _role(process: ProcessRecord) -> str:
    """What a process is, by the code that it has run, and its command line."""
    text = " ".join(process.arguments)
    # A module that is imported runs as well, and says nothing of who imports it.
    files = {code.file for code in process.codes if code.name != "<module>"}
    if any("concurrent/futures/process.py" in file for file in files):
        return "worker of ProcessPoolExecutor"
    if "loky.backend.popen_loky" in text or any("loky/process_executor" in file for file in files):
        return "worker of joblib"
    if any("multiprocessing/pool.py" in file for file in files):
        return "worker of Pool"
    if "forkserver" in text and not any(place.code.user for stack in process.stacks for place in stack.places):
        return "fork server"
    if any("allcores/worker/chunk_runner" in file for file in files):
        return "worker of allcores"
    if any("allcores/" in file for file in files):
        return "fork server of allcores"
    if any("multiprocessing/process.py" in file for file in files):
        return "process of multiprocessing"
    return "child"


def is_parallel(processes: list[ProcessRecord]) -> bool:
    """Whether the program already runs in several processes, or its threads compute beside the main one."""
    if len(processes) > 1:
        return True
    return any(
        sum(stack.cpu for stack in process.stacks if not stack.main) > 0.1 * max(process.seconds, 0.01)
        for process in processes
    )
