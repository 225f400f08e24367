"""Runs the items of a chunk in batches: one call for each, and one result for each item.

A batch whose call raises is halved until the item at fault is alone, here, with the items that are here already. The
parent sees on the board which items the running call has: it divides a batch whose process ends.
"""

from __future__ import annotations

from time import monotonic_ns

from allcores.errors import BatchError
from allcores.transport.batches import own_frames
from allcores.transport.exceptions import pack_error
from allcores.transport.positions import together_word
from allcores.transport.refilled_items import AT_ONCE, RefilledItems, shows
from allcores.transport.status_board import CLAIMED, CURRENT, LIMIT, STARTED
from allcores.worker import forked as forks
from allcores.worker.folding import FRAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_GLOBALS = globals()


def run_batches(
    slot: Any,
    forked: list[bool],
    sequence: int,
    items: list[Any],
    batch: int,
    call: Callable[[list[Any]], list[Any]],
    durations: list[int] | None,
    last: int,
    seal: Callable[..., None],
    seal_ns: int,
    refilled: RefilledItems | None = None,
) -> None:
    """Run the items of a chunk and seal what comes of them.

    Args:
        slot: This worker's slot of the board.
        forked: Becomes non-empty in a process that a task forked.
        batch: Items of a call, at most.
        call: See `transport.batches.batch_call`.
        durations: Where the ns of each item go: its share of its batch; None if nobody wants them.
        last: How many of the items may be run.
        seal: Seals finished items, with the arguments that it has in `ChunkRunner`.
        seal_ns: Work after which it is called, at the end of a batch.
        refilled: Of a function that may return one object again and again: each batch is sealed then.
    """
    base = sequence << 32
    clock = monotonic_ns
    values: list[Any] = []
    failures: list[tuple[int, Any]] = []
    begun = now = clock()
    first = position = 0
    claimed = base
    #: where the parts of batches that have failed end, the nearest last
    ends: list[int] = []
    while position < last:
        end = ends.pop() if ends else min(position + batch, last)
        if base + end > claimed:
            # A claim never goes back: the parts of a batch are claimed with it.
            slot[CLAIMED] = claimed = base + end
        limit = slot[LIMIT]
        if base + end > limit:
            end = max(position, limit - base)
            if end == position:
                break
        count = end - position
        slot[STARTED] = then = now
        slot[CURRENT] = together_word(position, count)
        try:
            values += call(items[position:end])
        except BaseException as error:
            if forked:
                forks.leave(error)
            if count > 1 and not isinstance(error, BatchError):
                # No attempt of those that are not at fault: they run again with the others of their half.
                ends += (end, position + (count + 1) // 2)
                now = clock()
                continue
            packed = pack_error(error, skip_frames=own_frames(error, _GLOBALS, *FRAMES))
            failures += ((each, packed) for each in range(position, end))
        if forked:
            forks.leave()
        position = end
        now = clock()
        if durations is not None:
            durations += [(now - then) // count] * count
        if refilled is not None and not shows(refilled, values):
            refilled = None
        # What is last is sealed with the end of the chunk, also if another worker has taken over what follows.
        if (
            now - begun > (seal_ns if refilled is None else AT_ONCE)
            and position < last
            and base + position < slot[LIMIT]
        ):
            seal(sequence, first, position - first, values, failures, durations, now - begun)
            values.clear()
            failures.clear()
            if durations is not None:
                durations.clear()
            first = position
            begun = now = clock()
    seal(sequence, first, position - first, values, failures, durations, now - begun, ended=True)
