"""What may end the process that reads it: a worker of the node's pool reads it first, since a node was lost with it.

A node reads all that its workers get, and pickles it for them anew. So what ends its reader would end node after node.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allcores.adapters.cluster.packing import split
from allcores.errors import TaskError, TaskTimeout, WorkerLost

if TYPE_CHECKING:
    from allcores.pool.pool import Pool


#: So many are remembered. A node has few payloads at a time, and each has its function.
MOST_HARMLESS = 256


def read(*given: Any) -> None:
    """In a worker: read it, and that is all; what this raises, the node is going to meet, too, and tells it.

    Args:
        *given: What the pool's setup returned, if anything, comes before the pickle and what is beside it.
    """
    stream, buffers = given[-2:]
    with contextlib.suppress(BaseException):
        pickle.loads(stream, buffers=buffers)


class Reader:
    """Has a worker of a node read what is doubtful. What did not end it is not read there again.

    Args:
        pool: The node's.
        view: See `packing.unpack`.
    """

    def __init__(self, pool: Pool, view: Callable[[int], memoryview]) -> None:
        self._pool = pool
        self._view = view
        #: of what has ended nobody: length and hash, the last at the end
        self._harmless: dict[tuple[int, int], None] = {}
        #: threads of several chunks use it
        self._lock = threading.Lock()

    def end(self, data: bytes, timeout_s: float | None) -> TaskError | None:
        """How the worker ended that was to read something; None if it did not: then the node may read it, too.

        Args:
            data: What it is, as `packing.pack` made it.
            timeout_s: Seconds that this may take.

        Raises:
            BaseException: It could not be tried: the pool was closed, say.
        """
        # Each part of a chunk that was cut comes with the items of all of it.
        mark = len(data), hash(data)
        if mark in self._harmless:
            return None
        stream, buffers = split(data, self._view)
        given = stream, [pickle.PickleBuffer(each) for each in buffers]
        try:
            self._pool.call(read, given, timeout=timeout_s).result()
        except (WorkerLost, TaskTimeout) as error:
            return error
        with self._lock:
            self._harmless[mark] = None
            if len(self._harmless) > MOST_HARMLESS:
                del self._harmless[next(iter(self._harmless))]
        return None


def as_told(error: TaskError) -> TaskError:
    """The same as the end of a sentence: what it was about is said where it is known, and nobody has made this call."""
    if isinstance(error, WorkerLost):
        how = f"signal {error.signal}" if error.signal is not None else f"exit code {error.exitcode}"
        error.args = (f"ended its process: {how}.",)
    else:
        error.args = ("took longer than its timeout.",)
    return error
