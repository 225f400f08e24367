"""Status boards of other processes, found in /proc and read without disturbing them (Linux).

A board has no name in any folder: whoever holds it shows it as `/proc/PID/fd/N -> /memfd:allcores-board`.
Only the head and the slots are read, by pread: a mapping would give memory to pages that nobody has written.
Nothing is kept open between two looks, for that would keep the memory of a pool that has ended.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field

from allcores.errors import NotSupported
from allcores.system import procfs
from allcores.system.clock import monotonic_ns
from allcores.system.posix import LINUX
from allcores.transport import status_board
from allcores.transport.positions import PHASE_LOADING, PHASE_RUNNING, PHASE_SEALING, STATES, of_together_word

_LINK = "/memfd:allcores-board"
#: more slots than any pool has: a head that says so is no head
MOST_SLOTS = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a board can be opened.

    Attributes:
        pid: The process that made it, or another that holds it.
    """

    pid: int
    descriptor: int
    identity: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SlotSeen:
    """One worker.

    Attributes:
        seconds: How long the present step takes.
        index: None if nothing runs, or a call of `submit`.
        count: Items that the function has at this moment, from `index` on: those of a batch, else 1.
    """

    worker: int
    pid: int | None
    state: str
    seconds: float
    index: int | None
    count: int
    done: int
    busy_seconds: float


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """One pool. Counts are items; map_done and map_total are of the maps that are open, None if unknown."""

    pid: int
    name: str
    size: int
    seconds: float
    done: int
    failed: int
    retries: int
    map_done: int
    map_total: int | None
    memory_per_worker: int | None
    workers: list[SlotSeen] = field(default_factory=list)


def find(pid: int | None = None) -> tuple[list[Place], int]:
    """Boards of this user's processes (root: of all users), and how many processes could not be looked into.

    Args:
        pid: Of that process alone.

    Raises:
        NotSupported: Where there is no /proc as Linux has it.
    """
    if not LINUX or not procfs.AVAILABLE:
        raise NotSupported("Pools of other processes can be seen on Linux only: it takes /proc and memfd.")
    found: dict[tuple[int, int], Place] = {}
    hidden = 0
    me = os.geteuid()
    for number in [pid] if pid is not None else procfs.processes():
        try:
            if me and procfs.owner(number) != me and pid is None:
                continue
            paths = procfs.descriptors(number)
        except PermissionError:
            hidden += 1
            continue
        except OSError:
            continue
        for path in paths:
            try:
                if not os.readlink(path).startswith(_LINK):
                    continue
                status = os.stat(path)
            except OSError:
                continue
            identity = status.st_dev, status.st_ino
            place = Place(number, int(os.path.basename(path)), identity)
            known = found.get(identity)
            # Workers hold it as well, and so do forked copies of the parent: the parent is the one to name.
            if known is None or _parent(place) == number:
                found[identity] = place
    return sorted(found.values(), key=lambda each: each.pid), hidden


def _parent(place: Place) -> int | None:
    words = _head(place)
    return words[status_board.HEAD_PARENT] if words is not None else None


def _open(place: Place) -> int | None:
    """A descriptor of the board; None if it is gone, or its number is something else's by now."""
    try:
        descriptor = procfs.open_descriptor(place.pid, place.descriptor)
    except OSError:
        return None
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) != place.identity:
        os.close(descriptor)
        return None
    return descriptor


def _head(place: Place, descriptor: int | None = None) -> tuple[int, ...] | None:
    own = _open(place) if descriptor is None else descriptor
    if own is None:
        return None
    try:
        data = os.pread(own, status_board.HEAD_WORDS * 8, 0)
    finally:
        if descriptor is None:
            os.close(own)
    if len(data) < status_board.HEAD_WORDS * 8:
        return None
    words = struct.unpack(f"{status_board.HEAD_WORDS}Q", data)
    if words[status_board.HEAD_MAGIC] != status_board.MAGIC or words[status_board.HEAD_SLOTS] > MOST_SLOTS:
        return None
    return words


def read(place: Place) -> PoolSeen | None:
    """What a board says; None if its pool is gone, or it is not finished yet.

    Raises:
        NotSupported: If it was written by a version of allcores that means other things by it.
    """
    descriptor = _open(place)
    if descriptor is None:
        return None
    try:
        head = _head(place, descriptor)
        if head is None:
            return None
        if head[status_board.HEAD_VERSION] != status_board.VERSION:
            raise NotSupported(
                f"The pool of process {place.pid} writes its board in version {head[status_board.HEAD_VERSION]}, this "
                f"allcores reads version {status_board.VERSION}: use the allcores that this process uses."
            )
        count = head[status_board.HEAD_SLOTS]
        name = os.pread(
            descriptor, min(head[status_board.HEAD_NAME_BYTES], status_board.NAME_BYTES), status_board.HEAD_WORDS * 8
        )
        data = os.pread(descriptor, count * status_board.SLOT_BYTES, status_board.HEAD_BYTES)
    finally:
        os.close(descriptor)
    now = monotonic_ns()
    workers = []
    for offset in range(0, len(data) - status_board.SLOT_BYTES + 1, status_board.SLOT_BYTES):
        slot = struct.unpack_from(f"{status_board.SLOT_WORDS}Q", data, offset)
        if slot[status_board.WORKER]:
            workers.append(_slot(slot, now))
    return PoolSeen(
        pid=place.pid,
        name=name.decode("utf-8", "replace"),
        size=head[status_board.HEAD_WORKERS],
        seconds=max(0, now - head[status_board.HEAD_STARTED]) / 1e9,
        done=head[status_board.HEAD_DONE],
        failed=head[status_board.HEAD_FAILED],
        retries=head[status_board.HEAD_RETRIES],
        map_done=head[status_board.HEAD_MAP_DONE],
        map_total=head[status_board.HEAD_MAP_TOTAL] or None,
        memory_per_worker=head[status_board.HEAD_MEMORY_LIMIT] or None,
        workers=sorted(workers, key=lambda each: each.worker),
    )


def _slot(slot: tuple[int, ...], now: int) -> SlotSeen:
    pid, started, phase = slot[status_board.PID], slot[status_board.STARTED], slot[status_board.PHASE]
    state = STATES.get(phase, "idle") if pid else "starting"
    # 1 stands for "since it was born"
    since = procfs.started_ns(pid) if started == 1 else started
    working = started > 1 and phase in (PHASE_LOADING, PHASE_RUNNING, PHASE_SEALING)
    index, count = None, 1
    if working and slot[status_board.FIRST] != status_board.NO_INDEX:
        position, count = of_together_word(slot[status_board.CURRENT])
        index = slot[status_board.FIRST] + position
    return SlotSeen(
        worker=slot[status_board.WORKER],
        pid=pid or None,
        state=state,
        seconds=max(0, now - since) / 1e9 if since and state != "idle" else 0.0,
        index=index,
        count=count,
        done=slot[status_board.DONE],
        busy_seconds=slot[status_board.BUSY] / 1e9,
    )
