"""What could be taken back from a worker, and how a chunk is cut at a limit."""

from __future__ import annotations

from allcores.engine.desk import Desk
from allcores.engine.events import Glance
from allcores.engine.flow import Chunk
from allcores.transport.marks import PHASE_RUNNING, mark

#: Unstarted work worth the trouble of taking it back, in ns.
WORTH_NS = 1_000_000
#: An item that has run this long makes everything behind it worth taking, in ns.
STUCK_NS = 20_000_000


def spoils(desk: Desk, glance: Glance | None, now: int) -> tuple[float, int] | None:
    """How much work (ns, estimated) would be won from `desk`, and from which mark on.

    None if it is not worth it. Chunks that wait behind the running one go first; of the running
    chunk half of what is not started, or all of it once the current item has run for long.
    """
    head = desk.chunks[0]
    mean = head.flow.chunker.mean_ns or 0.0
    running = glance is not None and glance.phase == PHASE_RUNNING and glance.sequence == head.sequence
    elapsed = now - glance.started_ns if running and glance is not None else 0
    position = glance.position if running and glance is not None else head.done
    stuck = elapsed > max(STUCK_NS, 8 * mean)
    unstarted = max(0, len(head.items) - position - 1)
    behind = sum(len(chunk.items) for chunk in list(desk.chunks)[1:])
    if stuck and unstarted + behind:
        return max(mean * (unstarted + behind), float(elapsed)), mark(head.sequence, position + 1)
    if behind:
        won = mean * behind
        return (won, mark(desk.chunks[1].sequence, 0)) if won >= WORTH_NS or elapsed >= WORTH_NS else None
    half = unstarted // 2
    if half and mean * half >= WORTH_NS:
        return mean * half, mark(head.sequence, len(head.items) - half)
    return None


def split(chunk: Chunk, limit: int) -> int:
    """How many items of `chunk` stay with its worker under `limit`."""
    sequence, position = limit >> 32, limit & 0xFFFFFFFF
    if chunk.sequence < sequence:
        return len(chunk.items)
    return min(position, len(chunk.items)) if chunk.sequence == sequence else 0
