"""What the item gets whose worker died."""

from __future__ import annotations

import signal

from allcores.backends.processes import exit_causes
from allcores.errors import WorkerLost
from allcores.formatting import size_text
from allcores.scheduler.item_words import describe
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import WorkerProgress


def lost(
    worker: int,
    progress: WorkerProgress,
    chunk: Chunk | None,
    status: int | None,
    memory: int | None,
    *,
    stack: str | None,
    oom_killed: bool,
    reason: str | None,
    limit: int | None,
    step: str,
) -> WorkerLost:
    """The error of the item that `worker` died over, or a note on its death if it ran none.

    Args:
        status: As wait(2) gives it, None if nobody could collect it.
        memory: Largest resident bytes.
        reason: What we know better than the status does.
        limit: Limits(memory_per_worker), for the advice.
        step: What it was doing ("running", "unpickling"), which goes before the item in the sentence.
    """
    item, index = "", None
    if chunk is not None:
        item = describe(chunk, min(progress.position, len(chunk.items) - 1))
        index = chunk.index_of(progress.position)
    if status is None:
        death = exit_causes.Death(worker, None, None, None, stack, reason=reason)
    else:
        death = exit_causes.from_wait_status(worker, status, memory or 0, stack, oom_killed, reason)
    return WorkerLost(
        exit_causes.sentence(death, item=item, limit=limit, step=step),
        exitcode=death.exitcode,
        signal=signal.Signals(death.signal).name if death.signal else None,
        peak_memory=death.peak_memory,
        stack=death.stack,
        index=index,
        attempts=chunk.attempt if chunk is not None else 1,
        worker=worker,
    )


def too_large(worker: int, chunk: Chunk | None, position: int, used: int, limit: int) -> WorkerLost:
    """The error of the item over which `worker` used more memory than allowed. Bytes."""
    what = describe(chunk, position) if chunk is not None else "nothing"
    return WorkerLost(
        f"Worker {worker} was ended while running {what}: it used {size_text(used)}, "
        f"Limits(memory_per_worker=...) allows {size_text(limit)}.",
        signal="SIGKILL",
        peak_memory=used,
        index=chunk.first + position if chunk is not None and chunk.future is None else None,
        attempts=chunk.attempt if chunk is not None else 1,
        worker=worker,
    )
