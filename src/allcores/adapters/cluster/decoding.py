"""What a node tells of finished items, as the scheduler understands it."""

from __future__ import annotations

from typing import Any

from allcores.adapters.cluster.messages import NodeResults
from allcores.errors import TaskError
from allcores.outcome import Failure, Kind
from allcores.scheduler.item_words import describe
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import Results
from allcores.transport import pickling, remote_errors, remote_exceptions
from allcores.transport.exceptions import add_note
from allcores.transport.pickling import FUNCTION_UNREAD, ITEM_UNREAD


def results_of(worker: int, told: NodeResults, chunk: Chunk) -> Results:
    """Finished items of a chunk, with errors as the caller gets them."""
    event = Results(worker, told.sequence, told.start, told.length, told.total_ns, ended=told.ended)
    event.unloadable = told.unread
    event.tail = told.tail
    event.durations = told.durations
    failures = [_failure(worker, chunk, *failure) for failure in told.failures]
    if told.payloads is not None:
        event.size_bytes = sum(map(len, told.payloads))
        if failures:
            event.values = [value for data in told.payloads for value in pickling.loads(data)]
        else:
            event.payloads = told.payloads
    elif told.each is not None:
        failed = {failure.offset for failure in failures}
        offsets = [n for n in range(told.start, told.start + told.length) if n not in failed]
        values: list[Any] = []
        for offset, data in zip(offsets, told.each, strict=True):
            event.size_bytes += len(data)
            try:
                values.append(pickling.loads(data))
            except BaseException as error:
                unread = remote_errors.unread_result(error, describe(chunk, offset), **_facts(worker, chunk, offset))
                failures.append(Failure(offset, Kind.FAILED, unread, unpickling=True))
        failures.sort(key=lambda failure: failure.offset)
        event.values = values
    event.failures = failures or None
    return event


def _failure(
    worker: int, chunk: Chunk, offset: int, kind: str, data: bytes, name: str, message: str, noted: bool
) -> Failure:
    facts = _facts(worker, chunk, offset)
    error = remote_exceptions.unpack(data, **facts)
    if error is None:
        error = remote_exceptions.stand_in(name, message, **facts)
    if isinstance(error, TaskError):
        error.index, error.attempts, error.worker = facts["index"], facts["attempts"], facts["worker"]
    what = describe(chunk, min(offset, len(chunk.items) - 1))
    if noted:
        add_note(error, f"allcores: {what} failed in worker {worker}, attempt {chunk.attempt}")
        return Failure(offset, Kind(kind), error)
    # A step beside the function has failed on the node itself; or there is nothing to add (a deadline, a crash).
    steps = remote_errors.step_notes(error)
    if steps and kind != Kind.FAILED.value:
        # A worker of the node was to read it first: see `doubtful`.
        error.args = (f"{remote_errors.STEPS[steps[0]]}{what} {message}",)
        return Failure(offset, Kind(kind), error)
    if steps or isinstance(error, remote_errors.EXITING) or not isinstance(error, Exception):
        unread = FUNCTION_UNREAD in steps or ITEM_UNREAD in steps
        failed_kind, error = remote_errors.as_failure(error, name, message, what=what, **facts)
        return Failure(offset, failed_kind, error, unpickling=unread)
    return Failure(offset, Kind(kind), error)


def _facts(worker: int, chunk: Chunk, offset: int) -> dict[str, Any]:
    """What an error knows of the item at an offset."""
    return {
        "index": chunk.index_of(offset),
        "attempts": chunk.attempt,
        "worker": worker,
    }
