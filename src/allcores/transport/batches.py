"""One call with a list of items: how it is made, and how what it returned is taken apart.

Workers use it, and the backends whose workers are this very process.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import partial
from itertools import islice

from allcores.errors import BatchError
from allcores.transport.exceptions import frames_of
from allcores.transport.reduction import Reduction, entries
from allcores.transport.refilled_items import RefilledItems, as_pulled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: of the frames here, and of those between here and a generator of results
_GLOBALS = (globals(), as_pulled.__globals__)

#: iterable, and yet not one result per item
_NO_RESULTS = (str, bytes, bytearray, memoryview, Mapping, Set)


def batch_call(
    style: str,
    function: Callable[..., Any],
    state: tuple[Any, ...],
    loaded: Callable[[str, Any], Any] | None = None,
    *,
    within: RefilledItems | None = None,
) -> Callable[[list[Any]], list[Any]]:
    """What to call with a batch; it returns one result per item, or raises.

    Args:
        style: "one": `function(batch)`; "star": a list for each argument.
        state: What the function is given before that.
        loaded: Replaces references in an item by what they stand for; None: there are none.
        within: What is known of the results of this function's generators, which are to be pickled; None: they are not.
    """
    each: Callable[[Any], Any] | None = None
    if getattr(type(function), "__allcores_batches__", False):
        # `sinks.batches.BatchFunction`, which this room does not know
        each, function = function.each, function.function  # type: ignore[attr-defined]
    merge: Callable[[Any, Any], Any] | None = None
    if type(function) is Reduction:
        merge, function = function.merge, function.fn
    name = _name(function)

    def call(batch: list[Any]) -> list[Any]:
        if loaded is not None:
            batch = [loaded(style, item) for item in batch]
        count = len(batch)
        if style == "star":
            results = results_of(function(*state, *map(list, zip(*batch, strict=True))), count, name, within=within)
        else:
            results = results_of(function(*state, batch), count, name, within=within)
        if merge is not None:
            return entries(merge, results)
        return results if each is None else [each(result) for result in results]

    return call


def results_of(result: Any, count: int, name: str, *, within: RefilledItems | None) -> list[Any]:
    """The results in what a function returned for a batch; a generator is run to its end here.

    Args:
        count: How many there have to be.
        within: They are to be pickled, later: one that may be filled anew for the next is copied, as far as this knows.

    Raises:
        BatchError: There are more or fewer, or it is no row of results at all.
    """
    if type(result) is list:
        values = result
    elif isinstance(result, _NO_RESULTS) or _is_table(result):
        raise _wrong(name, count, None, _kind(result))
    else:
        try:
            iterator = iter(result) if within is None or not within.needed else as_pulled(result, within)
        except TypeError:
            raise _wrong(name, count, None, _kind(result)) from None
        # One more than there may be: a generator without an end is found out.
        values = list(islice(iterator, count + 1))
    if len(values) != count:
        many = f"more than {count}" if values is not result and len(values) > count else str(len(values))
        raise _wrong(name, count, len(values), f"{_kind(result)} of {many}")
    return values


def own_frames(error: BaseException, *others: dict[str, Any]) -> int:
    """How many frames at the start of its traceback are of this file, or of a file with one of these globals."""
    return frames_of(error, *_GLOBALS, *others)


def _name(function: Any) -> str:
    while isinstance(function, partial):  # that is where constants are
        function = function.func
    return getattr(function, "__qualname__", type(function).__name__)


def _is_table(result: Any) -> bool:
    """A table of pandas or polars: it iterates over its columns."""
    return hasattr(result, "columns") and hasattr(result, "shape")


def _kind(result: Any) -> str:
    return "None" if result is None else type(result).__name__


def _wrong(name: str, count: int, returned: int | None, what: str) -> BatchError:
    items = "1 item" if count == 1 else f"{count} items"
    way_out = (
        "let it return None, say, for an item that has no result"
        if returned is not None
        else "a list, an array or a generator of results will do; a function of one item is called without batch="
    )
    return BatchError(
        f"{name}() was given a batch of {items}, and returned {what}: with batch= a function gets a list of items and"
        f" returns one result for each of them, in their order ({way_out})",
        expected=count,
        returned=returned,
    )
