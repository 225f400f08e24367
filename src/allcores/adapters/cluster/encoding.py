"""What a node tells of finished items; `decoding` is the other side. What its workers have pickled stays as it is."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from allcores.adapters.cluster.messages import NodeChunk, NodeResults
from allcores.errors import TaskCancelled, TaskExited, TaskTimeout, WorkerLost
from allcores.outcome import Failure, Kind
from allcores.scheduler.segment import Segment
from allcores.transport import exceptions, pickling, remote_errors
from allcores.transport.pickling import RESULT_UNWRITTEN


def nothing_of(chunk: NodeChunk, *, unread: bool = False) -> NodeResults:
    """A chunk has ended, and nothing of it is told.

    Args:
        chunk: The chunk.
        unread: Its items could not be unpickled together.
    """
    return NodeResults(chunk.sequence, 0, 0, 0, None, [], [], None, True, unread=unread)


def failed_part(start: int, errors: list[tuple[Kind, BaseException]]) -> Segment:
    """Items from index `start` on that have no value, each with its kind and error."""
    failures = [Failure(offset, kind, error) for offset, (kind, error) in enumerate(errors)]
    return Segment(start, len(failures), [], values=[], failures=failures, attempt=0)


def note_step(error: BaseException, note: str) -> None:
    """Have an exception say which step beside the function raised it on the node, and where, as workers do."""
    text = exceptions.pack_error(error)[2]
    exceptions.add_note(error, note)
    remote_errors.append_traceback(error, text)


def results_of(chunk: NodeChunk, start: int, segments: list[Segment], *, ended: bool) -> list[NodeResults]:
    """Outcomes that follow each other without a gap, as they travel: at least one message, the last with the end.

    Args:
        chunk: Their chunk.
        start: Offset in it of the first.
        segments: The outcomes, in order.
        ended: Nothing more comes of this chunk.
    """
    parts = (_told(chunk, each) for each in segments)
    told = [_joined(list(group)) for _, group in groupby(parts, _manner)]
    if not told:
        told.append(NodeResults(chunk.sequence, start, 0, 0, [], None, [], None, False))
    told[-1] = told[-1]._replace(ended=ended)
    return told


def _told(chunk: NodeChunk, segment: Segment) -> NodeResults:
    start = segment.start - chunk.first
    failures = [_packed_failure(start + each.offset, each.kind, each.error) for each in segment.failures or ()]
    payloads: list[bytes] | None = None
    each: list[bytes] | None = None
    if segment.values is None:
        payloads = [bytes(payload) for payload in segment.payloads]
    else:
        data = _packed_together(segment.values)
        if data is not None:
            payloads = [data]
        else:
            failed = {offset for offset, *_ in failures}
            offsets = [offset for offset in range(start, start + segment.count) if offset not in failed]
            each = _packed_one_by_one(offsets, segment.values, failures)
    durations = None
    if chunk.detailed:
        durations = list(segment.durations or [0] * segment.count)
    return NodeResults(
        chunk.sequence, start, segment.count, segment.total_ns, payloads, each, failures, durations, ended=False
    )


def _manner(part: NodeResults) -> tuple[bool, bool]:
    """What parts of one message have in common: how values are pickled, and whether there is one for each item."""
    # Where nothing failed, one value may stand for many items (`worker.folding`): beside failures it would be taken for
    # that of one.
    return part.each is None, bool(part.failures)


def _joined(parts: list[NodeResults]) -> NodeResults:
    """One message of several that follow each other, of the same manner."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return first._replace(
        length=sum(part.length for part in parts),
        total_ns=sum(part.total_ns for part in parts),
        payloads=None if first.payloads is None else [each for part in parts for each in part.payloads or ()],
        each=None if first.each is None else [each for part in parts for each in part.each or ()],
        failures=[failure for part in parts for failure in part.failures],
        durations=None if first.durations is None else [each for part in parts for each in part.durations or ()],
    )


def _packed_together(values: list[Any]) -> bytes | None:
    """Bytes of a list of values; None if one of them might not be unpickled, and would take the others along."""
    try:
        return pickling.dump_values(values)
    except Exception:
        return None


def _packed_one_by_one(
    offsets: list[int], values: list[Any], failures: list[tuple[int, str, bytes, str, str, bool]]
) -> list[bytes]:
    """Bytes of each value; what cannot be pickled is among the failures then."""
    each: list[bytes] = []
    for offset, value in zip(offsets, values, strict=True):
        try:
            each.append(pickling.dumps(value, to_parent=True))
        except BaseException as error:
            note_step(error, RESULT_UNWRITTEN)
            failures.append(_packed_failure(offset, Kind.FAILED, error))
    failures.sort(key=lambda failure: failure[0])
    return each


def _packed_failure(offset: int, kind: Kind, error: BaseException) -> tuple[int, str, bytes, str, str, bool]:
    # The note that names item, worker and attempt is made anew by the program, which knows them.
    notes = exceptions.ATTRIBUTES.__get__(error).get("__notes__")
    own = [note for note in notes if not _names_worker(note)] if isinstance(notes, list) else []
    noted = isinstance(notes, list) and len(own) < len(notes)
    if noted:
        exceptions.ATTRIBUTES.__get__(error)["__notes__"] = own
    name, message = exceptions.type_name(type(error)), exceptions.text_of(error)
    return offset, kind.value, exceptions.pack(error), name, message, noted


def _names_worker(note: object) -> bool:
    return isinstance(note, str) and note.startswith("allcores: ") and " failed in worker " in note


def kind_of(error: BaseException) -> Kind:
    """How a call has ended, by the error that its future has."""
    if isinstance(error, TaskTimeout):
        return Kind.TIMED_OUT
    if isinstance(error, WorkerLost) or (isinstance(error, TaskExited) and isinstance(error.__cause__, SystemExit)):
        return Kind.WORKER_LOST
    return Kind.CANCELLED if isinstance(error, TaskCancelled) else Kind.FAILED
