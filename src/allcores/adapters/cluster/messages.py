"""What goes to a node, and what comes back: plain data, pickled; what belongs to the program is bytes in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: A node keeps a request for so long, at most, if it has nothing to tell, seconds. Longer: it is found out later that
#: one is gone. Shorter: idle messages.
HOLD_S = 2.0
#: ... or for twice as long as between two reports, but not for longer than this, seconds: it is to be well below
#: `LEASE_S`.
MOST_HOLD_S = 20.0
#: Finished items of a chunk that goes on are told of this often, seconds: a slow item must not hold the others back.
REPORT_S = 0.25
#: ... or in this for each node of the pool, if that is more. Smaller: with many nodes their reports are all that the
#: driver has time for.
REPORT_EACH_S = 0.01
#: Without a request for so long a node ends its pool: the program is gone, seconds.
LEASE_S = 90.0


class Opening(NamedTuple):
    """A pool for a node to make.

    Attributes:
        settings: Packed: a dictionary of options for `Pool`.
        cores: How many workers it has; 0: as many as the node has cores.
        blobs: Contents of what is shared and stands in the settings, by numbers.
        report_s: Finished items of a chunk that goes on are told of this often, seconds.
        logs: What tells its workers which log records the program wants; None: none.
        path: Where the program finds its modules: setup and preload may be of them.
        open_s: So long the node may take to make it, before a worker of it starts, seconds.
    """

    settings: bytes
    cores: int
    version: str
    python: str
    blobs: tuple[tuple[int, bytes], ...] = ()
    report_s: float = REPORT_S
    logs: bytes | None = None
    path: tuple[str, ...] = ()
    open_s: float = 330.0


class NodeChunk(NamedTuple):
    """Items for a node.

    Attributes:
        items: Packed.
        length: How many.
        skip: Items that come before them in `items`.
        shared: In `items` are others, which are not this chunk's.
        first: Index of the first.
        map_number: Of the map of the program: its chunks are worked at in order.
        call: It is a submitted call.
        around: Packed: what its workers are to find around it.
        detailed: Seconds of each item are wanted.
        doubtful: A node was lost with it, or with its function: to read it may be what ends nodes.
    """

    sequence: int
    function: int
    items: bytes
    length: int
    skip: int
    shared: bool
    first: int
    map_number: int
    call: bool
    timeout_s: float | None
    batch: int
    around: bytes
    detailed: bool
    doubtful: bool = False


class Revocation(NamedTuple):
    """A chunk of which nothing more is to start.

    Attributes:
        sequence: Which.
        running: What runs is to end, too.
        for_others: See `scheduler.messages.Revoke`.
    """

    sequence: int
    running: bool
    for_others: bool


class Request(NamedTuple):
    """What a node is told.

    Attributes:
        key: Of its pool.
        serial: Requests are carried out in this order, from 1.
        opening: Of the first one.
        functions: Numbers, and bytes as `pool.functions` makes them.
        forget: Numbers of functions that nobody will ask for any more.
        blobs: Contents of what is shared, by numbers.
        drop: Numbers of what is shared no longer.
        revoked: Chunks of which nothing more is to start.
        hold: Whether to wait until there is something to tell.
        ends: The pool is to be closed.
    """

    key: str
    serial: int
    opening: Opening | None
    functions: list[tuple[int, bytes]]
    forget: list[int]
    blobs: list[tuple[int, bytes]]
    drop: list[int]
    chunks: list[NodeChunk]
    revoked: list[Revocation]
    hold: bool
    ends: bool


class NodeResults(NamedTuple):
    """Finished items of a chunk, from `start` on.

    Attributes:
        payloads: Pickled lists of the values of those that returned, one after the other, as the node's workers made
            them; None if values are pickled one by one: `each`.
        failures: Each is (offset in the chunk, kind, bytes of the exception, type name, message, whether the function
            raised it).
        ended: Nothing more comes of this chunk.
        unread: Its items could not be unpickled together.
        tail: What is left of it runs already, and the node has cores for more.
    """

    sequence: int
    start: int
    length: int
    total_ns: int
    payloads: list[bytes] | None
    each: list[bytes] | None
    failures: list[tuple[int, str, bytes, str, str, bool]]
    durations: list[int] | None
    ended: bool
    unread: bool = False
    tail: bool = False


class NodeRecord(NamedTuple):
    """What a worker of a node has logged, as it told the node: see `backends.processes.worker_logs`."""

    kind: int
    body: bytes


class Reply(NamedTuple):
    """What a node tells.

    Attributes:
        serial: Replies are read in this order, from 1; 0: there is no pool of that key here.
        ready: Its pool has started.
        failed: Packed error: it will not.
        cores: Workers of it.
        holds: Chunks that are not finished.
        logs: What its workers have logged, on the way to these results at the latest.
        changes: Functions that have changed something in vain, the names of that, and of what they have drawn from.
    """

    serial: int
    ready: bool
    failed: bytes | None
    cores: int
    holds: int
    results: list[NodeResults]
    logs: Sequence[NodeRecord] = ()
    changes: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]] = ()
