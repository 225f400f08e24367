"""What the samplers of a program have written, read back."""

from __future__ import annotations

import array
import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allcores.advisor.profiling.sampler import FIELDS, FIRST_SLOT, LEFT_OUT, SIZE, SLOTS, TEXT

#: what is known of a value: type, length or value (-1: unknown), and (type, bytes, whether it pickles) of an item
Fact = tuple[str, int, tuple[str, int, str] | None]


@dataclass(frozen=True, slots=True)
class Code:
    """A code object: its file, first line and qualified name; `user` if the file is the program's own."""

    file: str
    first_line: int
    name: str
    user: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A frame of a stack: its code and the line it was at (0: not known)."""

    code: Code
    line: int


@dataclass(slots=True)
class Stack:
    """Samples at one stack of one process.

    `places` begins with the innermost. Times are in seconds; `native` is CPU time meanwhile of
    threads that run no Python (a library's own); `busy_until` is when it computed last, 0.0 for never, on
    the clock of the process' start. `held`, `held_long` and `released` count samples of a thread that computed: the
    GIL was handed over when asked for, only after a while, or was free. In `no_core` it was seen to be ready to run and
    had no core.
    """

    places: tuple[Place, ...]
    main: bool
    samples: int
    cpu: float
    wall: float
    first: float
    busy_until: float
    held: int
    held_long: int
    released: int
    native: float
    no_core: float = 0.0
    #: wall time without the time in which it was ready to run and had no core
    own_wall: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """What the names of a frame held, at a time."""

    line: int
    at: float
    facts: dict[str, Fact]


@dataclass(slots=True)
class ProcessRecord:
    """All that a sampler has written of one process; times in seconds, on the machine's monotonic clock.

    `codes` are those of all frames that were seen: a stack keeps a library's outermost and innermost frames only.
    """

    pid: int
    parent: int
    python: tuple[int, int]
    arguments: list[str]
    started: float
    ended: float
    cpu: float
    samples: int
    sampler_cpu: float
    period: float
    lost: int
    no_core: float
    stacks: list[Stack] = field(default_factory=list)
    observations: dict[Code, list[Observation]] = field(default_factory=dict)
    codes: tuple[Code, ...] = ()
    failure: str = ""

    @property
    def seconds(self) -> float:
        """From its start to its last sample."""
        return max(0.0, self.ended - self.started)


def read_all(folder: Path) -> list[ProcessRecord]:
    """Each process' record, oldest first; of what is no whole record, nothing."""
    found = [record for path in folder.glob("*.samples") if (record := read(path)) is not None]
    return sorted(found, key=lambda record: record.started)


def left_out(folder: Path) -> int:
    """How many processes were not sampled, for there were too many."""
    try:
        return (folder / LEFT_OUT).stat().st_size
    except OSError:
        return 0


def read(path: Path) -> ProcessRecord | None:
    """The record of one process; None if the file is none, or nothing was sampled."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) != SIZE:
        return None
    cells = array.array("q")
    cells.frombytes(data[:TEXT])
    text = data[TEXT : TEXT + min(max(cells[5], 0), SIZE - TEXT)].decode("utf-8", "replace")
    return _record(cells, text.splitlines())


def _record(cells: array.array[int], lines: Iterable[str]) -> ProcessRecord | None:
    codes: dict[int, Code] = {}
    places: dict[int, tuple[Any, ...]] = {}
    seen: list[tuple[int, int, int, dict[str, Fact]]] = []
    record: ProcessRecord | None = None
    failure = ""
    for line in lines:
        kind, _, rest = line.partition(" ")
        try:
            if kind == "p":
                pid, parent, python, arguments, _ = ast.literal_eval(rest)
                record = ProcessRecord(
                    pid, parent, python, arguments, cells[4] / 1e9, max(cells[2], cells[4]) / 1e9, cells[3] / 1e9,
                    cells[0], cells[1] / 1e9, cells[7] / 1e9, cells[6], cells[8] / 1e9,
                )  # fmt: skip
            elif kind == "c":
                number, _, value = rest.partition(" ")
                codes[int(number)] = Code(*ast.literal_eval(value))
            elif kind == "s":
                number, _, value = rest.partition(" ")
                places[int(number)] = ast.literal_eval(value)
            elif kind == "f":
                number, at_line, at, value = rest.split(" ", 3)
                seen.append((int(number), int(at_line), int(at), ast.literal_eval(value)))
            elif kind == "e":
                failure = rest
        except (ValueError, SyntaxError, TypeError):
            continue  # the process ended while it was written
    if record is None or not record.samples:
        return None
    record.failure = failure
    record.codes = tuple(codes.values())
    for code, looked_at, moment, facts in seen:
        if code in codes:
            record.observations.setdefault(codes[code], []).append(Observation(looked_at, moment / 1e9, facts))
    _read_slots(record, cells, places, codes)
    _take_off_want_of_cores(record)
    return record


def _read_slots(
    record: ProcessRecord, cells: array.array[int], places: dict[int, tuple[Any, ...]], codes: dict[int, Code]
) -> None:
    for slot in range(FIRST_SLOT, SLOTS):
        counts = cells[slot * FIELDS : (slot + 1) * FIELDS]
        if counts[0]:
            key = places.get(slot, (False,))
            pairs = zip(key[1::2], key[2::2], strict=False)
            stack = tuple(Place(codes[number], at) for number, at in pairs if number in codes)
            samples, cpu, wall, first, busy, held, late, free, native, no_core = counts
            times = (cpu / 1e9, wall / 1e9, first / 1e9, busy / 1e9)
            known = Stack(stack, bool(key[0]), samples, *times, held, late, free, native / 1e9, no_core / 1e9)
            record.stacks.append(known)


def _take_off_want_of_cores(record: ProcessRecord) -> None:
    """What a thread waits for a core while others have them is no time of its own.

    Where it had none for most of a sample that is known; the rest of it is shared by who computed.
    """

    def weight(stack: Stack) -> float:
        if not stack.main or stack.wall <= 0.0:
            return 0.0
        return max(0.0, stack.wall - stack.cpu - stack.no_core) * min(1.0, 4 * stack.cpu / stack.wall)

    for stack in record.stacks:
        # It was told a look later, perhaps: no more than what a place can have had goes to that.
        stack.no_core = min(stack.no_core, max(0.0, stack.wall - stack.cpu))
    whole = sum(weight(stack) for stack in record.stacks)
    shared = max(0.0, record.no_core - sum(stack.no_core for stack in record.stacks if stack.main))
    for stack in record.stacks:
        wanted = stack.no_core + (shared * weight(stack) / whole if whole else 0.0)
        stack.own_wall = max(min(stack.cpu, stack.wall), stack.wall - wanted)
