"""The answer for one item: one type, from the pipe to the screen."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from allcores.system.plain_record import record
from allcores.system.tracebacks import hide

R = TypeVar("R")


class Kind(enum.Enum):
    """How a task ended. The value is the word used in JSON and on the screen."""

    OK = "ok"
    #: the function raised, or something would not pickle
    FAILED = "failed"
    #: the item used up its `timeout`
    TIMED_OUT = "timed_out"
    #: the process (or interpreter) that ran the item was lost
    WORKER_LOST = "worker_lost"
    #: it was cancelled, or the pool was closed, before it could finish
    CANCELLED = "cancelled"


@record
class Outcome(Generic[R]):
    """What became of one item.

    Attributes:
        index: Position of the item in its input, counted from 0.
        kind: How the task ended.
        value: What the function returned; None unless `ok`.
        error: The exception, with the worker's traceback as its cause; None if `ok`.
        item: The input itself.
        attempts: How many times the task was tried, counted from 1; 0 if it never started.
        seconds: Wall time of the last attempt inside the worker; 0.0 if it never started.
        worker: Number of the worker of the last attempt; None if it never started.
    """

    index: int
    kind: Kind
    value: R | None = None
    error: BaseException | None = None
    item: Any = None
    attempts: int = 1
    seconds: float = 0.0
    worker: int | None = None

    @property
    def ok(self) -> bool:
        """True if the function returned."""
        return self.kind is Kind.OK

    def result(self) -> R:
        """The value, or the error raised."""
        if self.error is not None:
            try:
                raise self.error
            except BaseException as error:
                hide(error, by_design=True)
                raise
        return self.value  # type: ignore[return-value]


if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    class OkOutcome(Outcome[R]):
        """Of an item whose function returned: the value is there."""

        value: R
        error: None

        @property
        def ok(self) -> Literal[True]:
            """It returned."""

    class FailedOutcome(Outcome[R]):
        """Of any other: the error is there."""

        value: None
        error: BaseException

        @property
        def ok(self) -> Literal[False]:
            """It did not."""

    AnyOutcome: TypeAlias = OkOutcome[R] | FailedOutcome[R]
else:
    #: what `outcomes` gives, for annotations: `if outcome.error is None:` tells type checkers that the value is there,
    #: and so does `if outcome.ok:` for mypy. There is one class of outcomes.
    AnyOutcome = Outcome


class Failure(NamedTuple):
    """One item of a chunk that has no value.

    Attributes:
        offset: Position of the item inside the chunk, counted from 0.
        kind: How the attempt ended; never `Kind.OK`.
        error: The exception, with the worker's traceback as its cause where there is one.
        unpickling: It was not the function that raised: the item, the function or the result would not unpickle.
    """

    offset: int
    kind: Kind
    error: BaseException
    unpickling: bool = False
