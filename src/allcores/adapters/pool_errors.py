"""Errors as `multiprocessing.Pool` has them."""

from __future__ import annotations

from multiprocessing import pool as original

from allcores.errors import NotPicklable, PoolClosed
from allcores.transport.exceptions import add_note
from allcores.transport.refused_results import ResultRefused
from allcores.transport.remote_errors import as_raised


def as_in_multiprocessing(error: BaseException, *, in_loop: bool = False) -> BaseException:
    """What a caller of `multiprocessing.Pool` expects for `error`.

    What could not be pickled on its way to a worker has the error of pickle, with our words as a note; a result that
    could not is a `MaybeEncodingError`. A `StopIteration` of the function comes as it is, but not to a loop over
    results: that would end as if there were no more. (So it does in the original, whose `map` leaves results out.)

    Args:
        error: Of a call, an item or a map.
        in_loop: It is raised by an iterator of results.
    """
    if isinstance(error, ResultRefused):
        refused: BaseException = original.MaybeEncodingError(error.reason, error.value)  # type: ignore[attr-defined]
        # It takes the repr of what it is given: these are texts already.
        refused.__dict__.update(exc=error.reason, value=error.value)
        return refused
    if isinstance(error, NotPicklable) and error.__cause__ is not None:
        cause = error.__cause__
        add_note(cause, f"allcores: {error}")
        return cause
    return error if in_loop else as_raised(error)


def check_callable(fn: object) -> None:
    """Raises what the call of it would, in the words of Python."""
    __tracebackhide__ = True
    if not callable(fn):
        raise TypeError(f"{type(fn).__name__!r} object is not callable")


def ended() -> PoolClosed:
    """For results that will not come."""
    return PoolClosed("The pool was terminated, or collected as garbage, before this was done.")
