"""The program's side of `Pool.reduce`: the merged values of runs of items are merged in input order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allcores.errors import Interrupted
from allcores.system import deferral
from allcores.transport import remote_errors
from allcores.transport.exceptions import add_note
from allcores.transport.pickling import loads
from allcores.transport.reduction import MISSING, merged

if TYPE_CHECKING:
    from allcores.pool.result_stream import Stream


def reduced(stream: Stream[tuple[Any, ...]], merge: Callable[[Any, Any], Any], initial: Any) -> Any:
    """All values of a stream of entries (see `transport.reduction`) as one.

    Raises:
        TypeError: There is no value.
        Interrupted: On Ctrl-C, with what was merged by then.
    """
    result = initial
    try:
        with stream:
            for entry in stream:
                if not entry:
                    continue
                if len(entry) > 2:
                    _, error = remote_errors.unpack_error(entry, what="merging values in a worker")
                    raise error
                value = _opened(entry[0]) if len(entry) == 1 else entry[0]
                result = value if result is MISSING else merged(merge, result, value)
    except KeyboardInterrupt as interrupt:
        done = [] if result is MISSING else [result]
        raise Interrupted(f"interrupted after {stream.done} items", done) from interrupt
    if result is MISSING:
        __tracebackhide__ = True
        raise TypeError("reduce() of no values, with no initial value: initial=... is the answer then")
    return result


def _opened(data: bytes) -> Any:
    """A merged value. What its unpickling raises ends the call, but not the caller's program."""
    __tracebackhide__ = True
    try:
        return loads(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if deferral.raised_by_handler(error):
            raise
        add_note(error, "allcores: a value that was merged in a worker could not be unpickled")
        raise remote_errors.as_exception(error, "merging values in a worker")  # noqa: B904 (its cause is set)
