"""Rows of a frame, or its columns, worked at in workers: what became of each, in order.

Rows travel in parts, and a row that fails costs no more than itself:

- What the function raises for a row comes home beside the results of the others. A further attempt, where `retries`
  allows one, is made with the row alone.
- The rows of a part that was lost, with its worker or on its way, are tried again one by one.
- With a deadline each row travels by itself, so that it is the row's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allcores.adapters.frame_parts import Part, Parts
from allcores.limits import Retry
from allcores.outcome import Kind, Outcome
from allcores.transport import remote_errors
from allcores.transport.exceptions import add_note, pack_error

if TYPE_CHECKING:
    from allcores.pool.pool import Pool

#: frames between the work of a part and the caller's function: a traceback begins with that
OUR_FRAMES = 2


#: number of a row, what the function returned for it, and how it failed, or None
Result = tuple[int, Any, Outcome[Any] | None]


class RowFailed:
    """Stands in a part's results for a row whose function raised.

    Attributes:
        packed: The exception, as `transport.exceptions.pack_error` gives it.
    """

    __slots__ = ("packed",)

    def __init__(self, packed: tuple[Any, ...]) -> None:
        self.packed = packed

    def __reduce__(self) -> tuple[Any, ...]:
        return RowFailed, (self.packed,)

    def outcome(self, number: int, what: str, worker: int | None) -> Outcome[Any]:
        """In the program: the row's failure."""
        kind, error = remote_errors.unpack_error(self.packed, what=f"{what[:-1]} {number}", worker=worker, attempts=1)
        return Outcome(number, kind, error=error, worker=worker)


def value_of(part: Part, number: int | None, function: Callable[[], Any], of_what: str = "") -> Any:
    """In a worker: what `function` returns for one row of a part, or `RowFailed` if the part goes on after a failure.

    Args:
        part: What is worked at.
        number: Of the row, counted from the part's first; None for all of the part.
        function: Calls the caller's function.
        of_what: Follows the row's number in the note of what is raised.
    """
    try:
        return function()
    except Exception as error:
        if part.goes_on:
            return RowFailed(pack_error(error, skip_frames=OUR_FRAMES))
        what = repr(part) if number is None else f"{part.what[:-1]} {part.start + number}"
        add_note(error, f"allcores: it was {what}{of_what}")
        raise


def results(
    place: Pool,
    call: Callable[..., Any],
    parts: Parts,
    *,
    timeout: float | None,
    retries: int | Retry,
    on_error: Any,
    ordered: bool,
    progress: bool | str = False,
) -> Iterator[Result]:
    """What became of each row.

    Args:
        place: The pool.
        call: Gives the results of a part's rows as a list; it uses `value_of`.
        parts: Of all rows.
        timeout: Seconds for a row.
        retries: As for `Pool.map`, for each row.
        on_error: With "raise" nothing after the first failure is of use, and a part ends there.
        ordered: In order. Else rows that are tried again alone come last, all at once, on all workers.
        progress: As for `Pool.map`.
    """
    retry = Retry.of(retries)
    if timeout is not None or parts.size == 1:
        yield from _alone(place, call, Parts(parts.length, 1, parts.what), timeout, retry, progress)
        return
    parts.goes_on = on_error != "raise" or retry.times > 0
    # What just failed was the first of the attempts.
    rest = _less(retry) if retry.times else retry
    lost: list[int] = []
    failed: list[int] = []
    with place.outcomes(call, parts, ordered=True, progress=progress) as stream:
        for outcome in stream:
            part = parts[outcome.index]
            if outcome.ok:
                found: dict[int, Result] = {}
                for number, value in enumerate(outcome.value, part.start):
                    if not isinstance(value, RowFailed):
                        found[number] = (number, value, None)
                        continue
                    failure = value.outcome(number, part.what, outcome.worker)
                    if retry.times and _is_worth_another(retry, failure):
                        failed.append(number)
                    found[number] = (number, None, failure)
                if failed and ordered:
                    for each in _alone(place, call, _single(failed, part), None, rest):
                        found[each[0]] = each
                    failed.clear()
                yield from (each for number, each in found.items() if ordered or number not in failed)
            elif outcome.kind is not Kind.WORKER_LOST and not parts.goes_on:
                yield part.start, None, outcome
            # Which row it was is not known.
            elif ordered:
                yield from _alone(place, call, _single(range(part.start, part.stop), part), None, retry)
            else:
                lost += range(part.start, part.stop)
    if lost:
        yield from _alone(place, call, _single(lost, parts), None, retry)
    if failed:
        yield from _alone(place, call, _single(failed, parts), None, rest)


def _single(numbers: Iterable[int], of: Part | Parts) -> list[Part]:
    return [Part(number, number + 1, of.what) for number in numbers]


def _is_worth_another(retry: Retry, failure: Outcome[Any]) -> bool:
    return retry.on_worker_lost if failure.kind is Kind.WORKER_LOST else isinstance(failure.error, retry.on)


def _less(retry: Retry) -> Retry:
    return replace(retry, times=retry.times - 1)


def _alone(
    place: Pool, call: Callable[..., Any], parts: Any, timeout: float | None, retry: Retry, progress: bool | str = False
) -> Iterator[Result]:
    """Rows as tasks of their own."""
    with place.outcomes(call, parts, ordered=True, timeout=timeout, retries=retry, progress=progress) as stream:
        for outcome in stream:
            number = parts[outcome.index].start
            if outcome.ok:
                yield number, outcome.value[0], None
            else:
                yield number, None, outcome
