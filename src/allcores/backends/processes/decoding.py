"""What a worker sent, as the scheduler understands it."""

from __future__ import annotations

from typing import Any

from allcores.errors import SetupError
from allcores.outcome import Failure, Kind
from allcores.scheduler.item_words import describe
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import Results
from allcores.shared_memory.buffers import MARK, Decoder, loads
from allcores.transport import frames, pickling, remote_errors
from allcores.transport.exceptions import pack_error


def results_of(worker: int, record: frames.Record, chunk: Chunk | None, decoder: Decoder | None = None) -> Results:
    """A record of finished items.

    Args:
        chunk: Theirs, needed for mixed ones; None if it is not known any more.
    """
    sequence, start, count, flags, total_ns, payload = record
    event = Results(
        worker,
        sequence,
        start,
        count,
        total_ns,
        size_bytes=len(payload),
        ended=bool(flags & frames.ENDED),
        leaving=bool(flags & frames.LEAVING),
        unloadable=bool(flags & frames.UNLOADABLE) and not flags & frames.MIXED,
    )
    if flags & frames.PLAIN:
        if decoder is not None and payload[:1] == MARK:
            payload = decoder.stream(payload)
            event.size_bytes = len(payload)
        event.payloads = [payload]
    elif flags & frames.MIXED:
        if chunk is None:
            event.count = 0
            if decoder is not None:
                skip_mixed(payload, decoder)
        else:
            open_mixed(event, payload, chunk, decoder, unpickling=bool(flags & frames.UNLOADABLE))
    return event


def joined(event: Results, record: frames.Record) -> bool:
    """Make one of a record and the one before it, if it goes on where that ends and both hold plain values.

    Quick items are sealed many times in a chunk. The parent's cost is by event, and nobody minds how many they were.
    """
    sequence, start, count, flags, total_ns, payload = record
    if event.sequence != sequence or event.start + event.count != start or event.ended or not event.payloads:
        return False
    if flags & (frames.MIXED | frames.UNLOADABLE) or payload[:1] == MARK:
        return False
    if count:
        # Lists of its own, which grow in place: some 50 records may be joined.
        payloads = event.payloads if isinstance(event.payloads, list) else list(event.payloads)
        parts = event.parts if isinstance(event.parts, list) else [(event.count, event.total_ns)]
        payloads.append(payload)
        parts.append((count, total_ns))
        event.payloads, event.parts = payloads, parts
    event.count += count
    event.total_ns += total_ns
    event.size_bytes += len(payload)
    event.ended = bool(flags & frames.ENDED)
    event.leaving = bool(flags & frames.LEAVING)
    return True


def skip_mixed(payload: bytes | memoryview, decoder: Decoder) -> None:
    """Nobody wants these values: their blocks go back."""
    values, each, _, _ = loads(payload, decoder)
    if each:
        for data in values:
            decoder.skip(data)


def open_mixed(
    event: Results, payload: bytes | memoryview, chunk: Chunk, decoder: Decoder | None, *, unpickling: bool = False
) -> None:
    """Unpack values and failures of a record that holds more than plain values.

    Args:
        unpickling: The failures in it are of unpickling in the worker, not of the function.
    """
    before = decoder.bytes_opened if decoder is not None else 0
    values, each, packed, durations = loads(payload, decoder)
    failures: list[Failure] = []
    for offset, error in packed:
        kind, exception = remote_errors.unpack_error(
            error,
            what=describe(chunk, min(offset, len(chunk.items) - 1)),
            index=chunk.index_of(offset),
            attempts=chunk.attempt,
            worker=event.worker,
        )
        failures.append(Failure(offset, kind, exception, unpickling))
    if each:
        failed = {failure.offset for failure in failures}
        offsets = (n for n in range(event.start, event.start + event.count) if n not in failed)
        loaded: list[Any] = []
        for offset, data in zip(list(offsets), values, strict=True):
            try:
                loaded.append(loads(data, decoder))
            except BaseException as error:
                if each == frames.EACH_MERGED:
                    # The value of many items: it is no failure of the first of them.
                    loaded.append(pack_error(error))
                    continue
                unread = remote_errors.unread_result(
                    error,
                    describe(chunk, offset),
                    index=chunk.index_of(offset),
                    attempts=chunk.attempt,
                    worker=event.worker,
                )
                failures.append(Failure(offset, Kind.FAILED, unread, unpickling=True))
        values = loaded
        failures.sort(key=lambda failure: failure.offset)
    if decoder is not None:
        event.size_bytes += decoder.bytes_opened - before
    event.values = values
    event.failures = failures or None
    event.durations = durations


def setup_error(body: bytes, what: str = "setup") -> SetupError:
    """The error for a setup (or preload) function that raised, with the traceback from where it ran."""
    packed = pickling.loads(body)
    _, cause = remote_errors.unpack_error(packed, what=what)
    if isinstance(cause, SetupError):
        # It says already what it was about.
        return cause
    error = SetupError(f"The {what} function raised {packed[0]}: {packed[1]}")
    error.__cause__ = cause
    return error
