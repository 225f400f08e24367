"""Makes bytes of what items of a chunk returned and how they failed."""

from __future__ import annotations

from allcores.shared_memory.buffers import LARGE_STREAM
from allcores.system.async_functions import close_unawaited
from allcores.transport import frames
from allcores.transport.exceptions import add_note, pack_error
from allcores.transport.pickling import RESULT_UNWRITTEN, dump_values, dumps
from allcores.transport.reduction import MERGED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores.shared_memory.worker_side import WorkerMemory

_MERGED = dumps(MERGED)


class ResultPacker:
    """The results of one worker.

    Args:
        memory: Where large values go; None if they travel in the pipe.
    """

    def __init__(self, memory: WorkerMemory | None) -> None:
        self._memory = memory

    def pack(
        self,
        start: int,
        values: list[Any],
        failures: list[tuple[int, Any]],
        durations: list[int] | None,
        *,
        merged: bool = False,
    ) -> tuple[int, bytes]:
        """How they are packed, and their bytes. A value that cannot be packed fails its own item.

        Args:
            start: The position of the first item in its chunk.
            values: Of the items that did not fail, in order.
            failures: Position and packed error of the others.
            durations: Of each item, ns.
            merged: They are entries of `transport.reduction`: one that cannot be packed is an entry that says so.
        """
        try:
            payload = dump_values(values)
        except BaseException:
            # Also what is no Exception: a handler of signals that the task has set may raise here.
            payload = None
        if payload is not None and not failures and durations is None:
            if self._memory is not None and len(payload) >= LARGE_STREAM:
                payload = self._memory.encode(payload)
            return frames.PLAIN, payload
        if payload is not None:
            return frames.MIXED, dumps((values, frames.TOGETHER, failures, durations))
        each: list[bytes] = []
        failures = list(failures)
        failed = {offset for offset, _ in failures}
        position = start
        for value in values:
            while position in failed:
                position += 1
            try:
                if merged and value == MERGED:
                    each.append(_MERGED)
                else:
                    each.append(dumps(value, to_parent=True) if self._memory is None else self._memory.dumps(value))
            except BaseException as error:
                close_unawaited(value)
                if merged:
                    each.append(dumps(pack_error(error)))
                else:
                    failures.append((position, pack_error(_explain(value, position, error))))
            position += 1
        failures.sort(key=lambda failure: failure[0])
        return frames.MIXED, dumps((each, frames.EACH_MERGED if merged else frames.EACH, failures, durations))


def _explain(value: Any, position: int, error: BaseException) -> BaseException:
    from allcores.transport.pickling import explain_with_path
    from allcores.transport.refused_results import ResultRefused

    if isinstance(error, ResultRefused):
        return error
    if not isinstance(error, Exception):
        add_note(error, RESULT_UNWRITTEN)
        return error
    try:
        return explain_with_path(value, "result", error)
    except BaseException:
        return error
