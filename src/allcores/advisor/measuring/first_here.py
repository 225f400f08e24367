"""The first calls of a function that cannot be sent to a worker, or whose items cannot: in this process, unwatched."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from allcores.advisor.measuring import in_worker, loops
from allcores.advisor.measuring.later import later
from allcores.advisor.measuring.sample import copy_of

if TYPE_CHECKING:
    from allcores.advisor.measuring.in_worker import FirstCalls


def first_calls(fn: Callable[[Any], Any], given: Any, second_s: float) -> FirstCalls:
    """As `in_worker.first_calls` does it; a second call is made if the first took less than so many seconds."""
    before = in_worker.state_of(given)
    item = given if before is None else copy_of(given)  # the program has it, too
    error: str | None = None
    start = perf_counter()
    computes_later: str | None = None
    try:
        computes_later = later(fn(item))
    except loops.FAILURES as raised:
        error = f"{type(raised).__name__}: {raised}"
    first_s = perf_counter() - start
    changes = before is not None and in_worker.state_of(item) != before
    again_s: float | None = None
    if error is None and computes_later is None and first_s < second_s:
        item = copy_of(given) if changes else item
        start = perf_counter()
        loops.call_all(fn, [item])
        again_s = perf_counter() - start
    return {
        "first_s": first_s, "second_s": again_s, "task_s": 0.0, "error": error, "later": computes_later,
        "differs": None, "changes": changes, "effects": [], "sleeps": False, "opens_pool": False, "bytes_out": 0,
        "dumps_s": 0.0, "loads_s": 0.0, "problem": None, "own_bytes": 0,
    }  # fmt: skip
