"""Frames on a pipe between the parent and one worker, and records inside a RESULTS frame.

A frame is a 16-byte header (length of the body, kind, number) and its body. A RESULTS body is a
row of records, each with a header of its own; the same records wait in the worker's outbox on the
status board until they are sent, so that a worker's death loses nothing that was sealed.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Record = tuple[int, int, int, int, int, bytes | memoryview]


#: length of the body (u64), kind (u8), number (u32)
HEADER = struct.Struct("<QB3xI")

# parent -> worker
SETUP, FUNCTION, CHUNK, FORGET, STOP, BLOCKS, RETURNED, PRELOAD, LOGS, AUTHKEY, INHERIT, SURROUNDINGS = range(1, 13)
# worker -> parent; a SETUP_FAILED's number is the kind of the frame over which it failed
READY, SETUP_FAILED, RESULTS, RELEASED, LOG, TRACK, CHANGED = range(21, 28)

#: AUTHKEY is multiprocessing's key. INHERIT says that so many (number) of the descriptors that come along belong to
#: the next frame of the kind (u8) in its body; 0 is the resource tracker's.
#: TRACK is a line for the program's resource tracker, which knows the names of shared memory and removes what is left.
#: SURROUNDINGS holds what has changed around the caller (transport.surroundings).
#: CHANGED: a function has changed globals of its script, here only; pickled names, of the function and of these.
#: LOGS says what to send by LOG: number 0 is a log record, 1 are printed lines, 2 is
#: how many of these were dropped (worker.log_forwarding, worker.frame_writer, backends.processes.worker_logs).
#: body of BLOCKS: beginning of the worker's range of the arena, bytes of memory it may keep. RETURNED and
#: RELEASED list the offsets (u64) of blocks that the sender of the frame needs no more.
RANGE = struct.Struct("<QQ")

#: body of a CHUNK before the pickled items: function number, flags, number of items, µs of work between two reports,
#: items of a batch (0: each item is a call), pickled items that come before the first, index of the first
CHUNK_HEAD = struct.Struct("<IIIIIIQ")
#: report seconds per item
DETAILED = 1
#: items have a deadline each
TIMED = 2
#: a call, and there is a core for its worker to look out for the next one on (transport.spin_wait)
PROMPT = 4
#: among the pickled items are others, which are not this chunk's
SHARED = 8

#: sequence, start, count, flags, total ns, length of the payload
RECORD = struct.Struct("<IIIIQQ")
#: payload is one pickled list of values, one per item
PLAIN = 1
#: payload is a pickled (values, how they are pickled, failures, durations)
MIXED = 2
#: nothing of this chunk is left with the worker
ENDED = 4
#: the worker ends after this
LEAVING = 8
#: the chunk would not unpickle: send its items one by one, to see which. With MIXED: it was a single item, or the
#: function would not unpickle, and this is why all of it failed.
UNLOADABLE = 16

#: how the values of MIXED are pickled: with all the rest, each by itself, or that, and they are merged values
TOGETHER, EACH, EACH_MERGED = range(3)


def frame(kind: int, number: int, *parts: bytes) -> bytes:
    """A whole frame as bytes; for bodies small enough to copy."""
    return b"".join((HEADER.pack(sum(map(len, parts)), kind, number), *parts))


def offsets(kind: int, numbers: list[int]) -> bytes:
    """A RETURNED or RELEASED frame."""
    return frame(kind, 0, struct.pack(f"<{len(numbers)}Q", *numbers))


def records(body: bytes | bytearray | memoryview) -> Iterator[Record]:
    """The records in a RESULTS body: sequence, start, count, flags, total ns, payload.

    Half a record at the end (a torn outbox) is left out.
    """
    view = memoryview(body)
    offset, end, head = 0, len(view), RECORD.size
    while offset + head <= end:
        sequence, start, count, flags, total_ns, length = RECORD.unpack_from(view, offset)
        offset += head
        if offset + length > end:
            return
        payload = view[offset : offset + length]
        # A large one is nearly all of the body, which it may as well keep.
        yield sequence, start, count, flags, total_ns, payload if length > 65_536 else bytes(payload)
        offset += length


class Inbox:
    """Cuts a stream of bytes into frames. feed() takes bytes as they come."""

    __slots__ = ("_buffer", "_large", "_large_head", "_missing")

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: a body that is larger than one read collects here, without being copied at each read
        self._large: list[bytes] | None = None
        self._large_head = (0, 0)
        self._missing = 0

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Frames (kind, number, body) that are complete now."""
        found: list[tuple[int, int, bytes]] = []
        if self._large is not None:
            if len(data) < self._missing:
                self._large.append(data)
                self._missing -= len(data)
                return found
            self._large.append(data[: self._missing])
            found.append((*self._large_head, b"".join(self._large)))
            data = data[self._missing :]
            self._large = None
        if self._buffer:
            self._buffer += data
            source: bytes | bytearray = self._buffer
        else:
            source = data
        offset, end, head = 0, len(source), HEADER.size
        while offset + head <= end:
            length, kind, number = HEADER.unpack_from(source, offset)
            body = offset + head
            if body + length > end:
                if length > 65_536:
                    self._large = [bytes(source[body:])]
                    self._large_head = (kind, number)
                    self._missing = length - (end - body)
                    offset = end
                break
            found.append((kind, number, bytes(source[body : body + length])))
            offset = body + length
        if source is data:
            self._buffer = bytearray(source[offset:])
        else:
            del self._buffer[:offset]
        return found
