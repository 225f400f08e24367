"""What was measured of a function and its items: the model's input. Seconds and bytes are those of one item."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

#: what kind of work a function is, see `decision.kind_of`
KINDS = ("python", "released", "waiting", "device", "threaded", "memory")
#: CPU seconds per second below which a function waits, if it gives up its core so often in each call
WAITS, LEAST_SWITCHES = 0.5, 0.5


@dataclass(frozen=True, slots=True)
class Timing:
    """Calls in a plain loop, in this process.

    Attributes:
        items: How many were timed.
        wall_s: Seconds that passed for each, less those in which it was ready to run and other programs had its core.
        cpu_s: Processor seconds of all threads of the process.
        system_s: Those of them that the kernel spent.
        switches: How often the thread gave up its core to wait.
        spread: Standard deviation of an item's seconds over their mean.
        first_s: Seconds of the very first call beyond those of a later one: what it loads.
        dropped_s: As `wall_s`, of calls whose results nobody keeps, where results are large: a worker drops them once
            they are sent, and the allocator has their pages for the next. 0: not measured.
    """

    items: int
    wall_s: float
    cpu_s: float
    system_s: float = 0.0
    switches: float = 0.0
    spread: float = 0.0
    first_s: float = 0.0
    dropped_s: float = 0.0

    @property
    def worker_s(self) -> float:
        """Seconds of a call in a worker that has a core and its memory to itself."""
        return min(self.wall_s, self.dropped_s) if self.dropped_s > 0 else self.wall_s

    @property
    def waits(self) -> bool:
        """It waits, by itself, for most of its time: who is held up by other programs does not give up its core."""
        return self.cpu_s < WAITS * self.wall_s and self.switches >= LEAST_SWITCHES


@dataclass(frozen=True, slots=True)
class Travel:
    """What it takes to bring an item to a worker and its result back.

    Attributes:
        bytes_in: Of the pickled item.
        bytes_out: Of the pickled result.
        way_in_s: Seconds that pass for an item that a worker gets and drops, one after the other.
        way_out_s: The same of a result.
        worker_s: Seconds in the worker: unpickling the item, pickling the result.
        parent_s: Seconds in the parent that are sure: pickling the item, unpickling the result.
        common_bytes: Of one object that is in every item.
        problem: Why it cannot travel, as one sentence; None if it can.
        what: "function", "item" or "result": what cannot; None.
    """

    bytes_in: float = 0.0
    bytes_out: float = 0.0
    way_in_s: float = 0.0
    way_out_s: float = 0.0
    worker_s: float = 0.0
    parent_s: float = 0.0
    common_bytes: int = 0
    problem: str | None = None
    what: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """So many workers at once, against one: how often as much was done in the same seconds.

    Attributes:
        workers: How many.
        speedup: Over a plain loop over the same items; 2.0 is twice as fast.
        items: How many the trial was made with.
        deviation: Standard deviation of the logarithm of its speed-up between the pairs it is made of; 0 if it is one.
        chunk: Items that travelled together; None if that is not known.
        shared: What is in every item was shared, not sent.
        spared_s: Of threads, the kernel's seconds for the pages of an item's large objects that it took in the loop and
            not in them. What the allocator keeps for a thread depends on what was done before; another process may not
            be spared this.
    """

    workers: int
    speedup: float
    items: int
    deviation: float = 0.0
    chunk: int | None = None
    shared: bool = False
    spared_s: float = 0.0


def together(pairs: Sequence[Trial]) -> Trial:
    """The middle of trials made one after the other, and how far apart they are: a machine's speed wanders."""
    logs = sorted(math.log(each.speedup) for each in pairs)
    apart = statistics.stdev(logs) if len(logs) > 1 else 0.0
    spared_s = statistics.median(each.spared_s for each in pairs)
    return replace(pairs[0], speedup=math.exp(statistics.median(logs)), deviation=apart, spared_s=spared_s)


@dataclass(frozen=True, slots=True)
class Library:
    """A library that has threads, or processes, of its own.

    Attributes:
        name: As it is imported.
        threads: That it uses in this process; None where that cannot be told.
        switch: Its own way to use more cores, in code.
        cap: What sets its threads to one.
    """

    name: str
    threads: int | None
    switch: str
    cap: str


@dataclass(frozen=True, slots=True)
class Traits:
    """What was seen of the function besides its seconds.

    Attributes:
        differs: A second call on the same item gave another result; None if that was not tried.
        changes: It changed the item that it was called with.
        effects: What it did outside, as short clauses: "writes to /tmp/log", "changes the global 'seen'".
        sleeps: It called `time.sleep`.
        random: It drew random numbers that were not seeded from the item.
        nested: It is a lambda, or was defined inside of a function.
        opens_pool: It starts processes itself.
        failed: How many of the calls raised.
        remembers: A second call on the same item takes next to nothing: it keeps results.
    """

    differs: bool | None = None
    changes: bool = False
    effects: tuple[str, ...] = ()
    sleeps: bool = False
    random: bool = False
    nested: bool = False
    opens_pool: bool = False
    failed: int = 0
    remembers: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """What the function runs on.

    Attributes:
        cores: Of the core budget.
        others: Cores' worth of work that other programs did meanwhile on cores that are ours.
        memory: Bytes that are available; None if unknown.
        threads: Threads of this process besides Python's: a library has started them.
    """

    cores: int
    others: float = 0.0
    memory: int | None = None
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Probes:
    """All of it.

    Attributes:
        items: How many there are; None if unknown.
        timing: In a loop.
        machine: What it runs on.
        travel: To a worker and back.
        late_s: Seconds by which another thread that wakes up each millisecond comes late while the function runs; None
            if not measured.
        threads: Trials with threads, the smallest number first.
        processes: Trials with worker processes.
        start_s: Seconds until all worker processes were started and had each done an item, less the item.
        warm_start_s: The same with the first call made before the workers are forked; None if not tried.
        threads_start_s: Seconds until a pool of two threads was there, and until it had ended; 0 if not tried.
        thread_start_s: Seconds more for each further thread.
        worker_bytes: Memory that a worker shares with no other process, at its largest; 0 if unknown.
        rest_bytes: Memory of the program, of what starts workers, and of what they share, beside that; 0 if unknown.
        warm_worker_bytes: The first with the first call made before the workers are forked; 0 if not tried.
        warm_rest_bytes: The second with that; 0 if not tried.
        libraries: Those in use with threads of their own.
        traits: What was seen of it.
    """

    items: int | None
    timing: Timing
    machine: Machine
    travel: Travel = Travel()
    late_s: float | None = None
    threads: tuple[Trial, ...] = ()
    processes: tuple[Trial, ...] = ()
    start_s: float = 0.2
    warm_start_s: float | None = None
    threads_start_s: float = 0.0
    thread_start_s: float = 0.0
    worker_bytes: int = 0
    rest_bytes: int = 0
    warm_worker_bytes: int = 0
    warm_rest_bytes: int = 0
    libraries: tuple[Library, ...] = ()
    traits: Traits = Traits()
