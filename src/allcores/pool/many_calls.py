"""Several calls begun in one turn: one look at what is around the caller, one lock, and a send for each worker.

Each is a call of its own all the same, with its own deadline, future and end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from allcores.pool.call_chunks import calls_map, pack_call
from allcores.pool.call_future import CallFuture
from allcores.pool.planning import checked_timeout_ns
from allcores.pool.pool import driver_of
from allcores.scheduler.map_state import Chunk

if TYPE_CHECKING:
    from allcores.pool.pool import Pool


def begin_calls(
    pool: Pool,
    fn: Callable[..., Any],
    calls: Sequence[tuple[Sequence[Any], float | None]],
    *,
    words: Callable[[str, Sequence[Any], Mapping[str, Any]], str] | None = None,
    requeues_unattributed: bool = True,
) -> list[CallFuture]:
    """Begin calls of one function, in order; see `Pool.call`.

    Args:
        pool: Where.
        fn: The function.
        calls: Of each the arguments, by place, and the seconds that it may take.
        words: What messages call such a call, from the function's name and the arguments; None: the name alone.
        requeues_unattributed: Whether one that ran as its worker's template was ended begins again by itself; False:
            it is lost, for a caller who counts how often each of them begins.

    Returns:
        Their futures.

    Raises:
        PoolClosed: The pool is closed; none was begun.
        BrokenPool: No outcome can be had any more; none was begun.
        NotPicklable: What is around the caller cannot travel (`Pool(contextvars=...)`); none was begun.
    """
    driver = driver_of(pool)
    driver.check_open()
    if not calls:
        return []
    function = driver.functions.named(fn, "call", words=words)
    around = driver.around()
    futures, chunks = [], []
    make = calls_map if requeues_unattributed else partial(calls_map, requeues_unattributed=False)
    map_state = driver.call(None if requeues_unattributed else begin_calls, make)
    for args, timeout in calls:
        future = CallFuture(driver)
        futures.append(future)
        chunk = Chunk(map_state, function, map_state.pulled, [(tuple(args), {})], future=future)
        chunk.timeout_ns = checked_timeout_ns(driver, timeout)
        future.bind(chunk, pool)
        chunk.surroundings = around
        if pack_call(chunk, driver.backend):
            chunks.append(chunk)
    driver.add_calls(chunks)
    try:
        for future in futures:
            future.begin_here()
        return futures
    finally:
        # The traceback of a call that has failed here has this frame: a cycle otherwise.
        del futures, future, chunks, chunk
