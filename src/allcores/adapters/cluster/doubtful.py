"""What may end the process that reads it: a worker of the node's pool reads it first, since a node was lost with it.

A node reads all that its workers get, and pickles it for them anew. So what ends its reader would end node after node.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allcores.adapters.cluster.packing import split
from allcores.errors import TaskError, TaskTimeout, WorkerLost

if TYPE_CHECKING:
    from allcores.pool.pool import Pool


def read(*given: Any) -> None:
    """In a worker: read it, and that is all; what this raises, the node is going to meet, too, and tells it.

    Args:
        *given: What the pool's setup returned, if anything, comes before the pickle and what is beside it.
    """
    stream, buffers = given[-2:]
    with contextlib.suppress(BaseException):
        pickle.loads(stream, buffers=buffers)


def end_of_reader(
    pool: Pool, data: bytes, view: Callable[[int], memoryview], timeout_s: float | None
) -> TaskError | None:
    """How the worker ended that was to read something; None if it did not: then the node may read it, too.

    Args:
        pool: The node's.
        data: What it is, as `packing.pack` made it.
        view: See `packing.unpack`.
        timeout_s: Seconds that this may take.

    Raises:
        BaseException: It could not be tried: the pool was closed, say.
    """
    stream, buffers = split(data, view)
    try:
        pool.call(read, (stream, [pickle.PickleBuffer(each) for each in buffers]), timeout=timeout_s).result()
    except (WorkerLost, TaskTimeout) as error:
        return error
    return None


def as_told(error: TaskError) -> TaskError:
    """The same as the end of a sentence: what it was about is said where it is known, and nobody has made this call."""
    if isinstance(error, WorkerLost):
        how = f"signal {error.signal}" if error.signal is not None else f"exit code {error.exitcode}"
        error.args = (f"ended its process: {how}.",)
    else:
        error.args = ("took longer than its timeout.",)
    return error
