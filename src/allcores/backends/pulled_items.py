"""Items as they were when they were pulled, from the bytes that chunks which were cut from one have in common.

Where a few of many travel again (a failed one for another attempt, say), to send all of them along each time would
cost more than the task. So plain items are read back from the bytes, once, and those are pickled by themselves; of
other classes nothing is made here, whose code would run where the scheduler waits for it.
"""

from __future__ import annotations

import io
import pickle
import sys

from allcores.errors import NotPicklable
from allcores.outcome import Failure, Kind
from allcores.scheduler.messages import Results

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from allcores.scheduler.chunk_parts import PulledItems
    from allcores.scheduler.map_state import Chunk
    from allcores.shared_memory.buffers import BufferedPickle

#: A chunk of less than this part of the items has them by themselves.
SMALL_SHARE = 4
#: What may be made in the program while it decides: of a module, with no code of the program's own.
_KNOWN = frozenset(
    [
        *(("builtins", name) for name in ("complex", "set", "frozenset", "bytearray", "range", "slice")),
        *(("datetime", name) for name in ("date", "time", "datetime", "timedelta", "timezone")),
        *(("pathlib", name) for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
        ("pathlib._local", "PosixPath"),
        ("decimal", "Decimal"),
        ("fractions", "Fraction"),
        ("uuid", "UUID"),
        ("collections", "OrderedDict"),
        ("collections", "deque"),
        ("_codecs", "encode"),
    ]
)


def part_of(
    pulled: PulledItems, start: int, count: int, stream_of: Callable[[bytes | BufferedPickle], bytes | None]
) -> list[Any] | None:
    """Some of the items, as they were; None where these are many, or not plain: then all bytes have to travel.

    Args:
        pulled: All of them.
        start: Place of the first.
        count: How many.
        stream_of: The pickle in a payload, if it is whole by itself.
    """
    if count * SMALL_SHARE > pulled.count:
        return None
    if pulled.plain is None:
        stream = stream_of(pulled.payload)
        pulled.plain = [] if stream is None else _read(stream)
    return pulled.plain[start : start + count] or None


def opens_once(payload: bytes | BufferedPickle, stream_of: Callable[[bytes | BufferedPickle], bytes | None]) -> bool:
    """Whether there is something of multiprocessing in it, a connection, say, whose descriptor is fetched only once."""
    stream = payload if isinstance(payload, bytes) else stream_of(payload) or payload.data
    # Its class, by name. A text that happens to have the one word is no reason to pickle what may have changed.
    return b"resource_sharer" in stream and b"DupFd" in stream


def unsendable(worker: int, chunk: Chunk, error: BaseException) -> Results:
    """What becomes of items that could be pickled when they were pulled, and cannot be any more."""
    if not isinstance(error, Exception):
        # This may be the pool's own thread, which it must not end.
        error = NotPicklable(f"An item could not be pickled again: {type(error).__name__}: {error}")
    failures = [Failure(n, Kind.FAILED, error) for n in range(len(chunk.items))]
    return Results(worker, chunk.sequence, 0, len(failures), 0, values=[], failures=failures, ended=True)


def stream_of(payload: bytes | BufferedPickle) -> bytes | None:
    """The pickle in a payload where there is no shared memory."""
    return payload if isinstance(payload, bytes) else None


def _read(stream: bytes) -> list[Any]:
    try:
        found = _PlainUnpickler(io.BytesIO(stream)).load()
    except Exception:
        return []
    return found if type(found) is list else []


class _PlainUnpickler(pickle.Unpickler):
    """Reads what is made of plain values: no code of the program runs here, where the scheduler waits for it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN or module not in sys.modules:
            raise pickle.UnpicklingError(f"{module}.{name} is not plain")
        return super().find_class(module, name)
