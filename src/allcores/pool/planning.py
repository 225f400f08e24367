"""What a map is to be: its options, checked, as a `MapState` to be made, and its function, named."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allcores.errors import NotSupported
from allcores.limits import Retry, check_batch, check_chunk, check_timeout
from allcores.pool.driver import Driver
from allcores.pool.input_reader import length_of
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import MapState
from allcores.system.async_functions import check_function

if TYPE_CHECKING:
    from allcores.scheduler.batch_size import Batch


def plan_map(
    driver: Driver,
    fn: Callable[..., Any],
    style: str,
    items: Any,
    *,
    timeout: float | None = None,
    retries: int | Retry = 0,
    chunk: int | None = None,
    batch: Batch | None = None,
    ordered: bool = True,
    detailed: bool = False,
    progress: bool | str = False,
) -> tuple[Callable[[int], MapState], Function]:
    """What makes the state of a map, given its number, and its function as the driver knows it.

    Args:
        driver: Of the pool, which must be open.
        fn: The function.
        style: How it is called with an item: "one", "star" …, see `worker.chunk_runner`.
        items: The input, of which only the length is looked at.
        timeout: Seconds per item and attempt.
        retries: See `Pool.map`.
        chunk: See `Pool.map`.
        batch: See `Pool.map`.
        ordered: Results come in input order.
        detailed: Outcomes are wanted, and not values alone.
        progress: See `Pool.map`.

    Raises:
        UsageError: For options that make no sense.
        NotSupported: For those that the backend cannot offer.
        PoolClosed: If the pool is closed.
    """
    check_function(fn)
    retry, limits = Retry.of(retries), driver.limits
    timeout_ns = checked_timeout_ns(driver, timeout)
    chunk = check_chunk(chunk)
    chunker, least = Chunker(chunk), (chunk or 1) * 2
    if driver.backend.node_cores:
        from allcores.scheduler.node_chunk_size import NodeChunker

        chunker = NodeChunker(chunk, driver.backend.node_cores)
    batch = check_batch(batch)
    if batch is not None:
        from allcores.scheduler.batch_size import BatchChunker

        chunker = BatchChunker(chunk, batch, limits.bytes_in_flight)
        if batch != "auto":
            # Each worker has one, and one waits.
            least = max(least, 2 * batch * driver.workers)
    driver.check_open()
    function = driver.functions.named(fn, style)
    total = length_of(items)
    bar = None
    if progress is not False:
        from allcores.progress.one_map import MapProgress, bar_of

        bar = bar_of(progress)
    around = driver.around()

    def make(number: int) -> MapState:
        if bar is not None:
            driver.add_observer(MapProgress(bar, number, driver))
        map_state = MapState(
            number,
            chunker=chunker,
            ordered=ordered,
            total=total,
            timeout_ns=timeout_ns,
            retry=retry,
            detailed=detailed,
            items_limit=max(limits.items_in_flight, least),
            bytes_limit=limits.bytes_in_flight,
        )
        map_state.surroundings = around
        return map_state

    return make, function


def checked_timeout_ns(driver: Driver, timeout: float | None) -> int | None:
    """A deadline in ns, checked, and refused where tasks cannot be ended."""
    # Each submitted call comes by here, and most have none.
    if timeout is None or (timeout := check_timeout(timeout)) is None:
        return None
    if not driver.backend.can_end_tasks:
        raise NotSupported(
            f"timeout={timeout:g} needs backend='processes': backend={driver.backend.name!r} cannot end "
            "a task that runs too long."
        )
    return int(timeout * 1e9)
