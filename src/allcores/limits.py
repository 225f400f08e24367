"""Options that travel together: `Limits` for a pool, `Retry` for a call. Frozen, checked once."""

from __future__ import annotations

import operator
import random
from collections.abc import Iterable
from typing import Any, Literal, TypeGuard, TypeVar

from allcores.errors import UsageError
from allcores.system.plain_record import record

N = TypeVar("N")

#: options of `Limits` that are counted in bytes: people write "2G" for them
_IN_BYTES = frozenset({"bytes_in_flight", "memory_per_worker", "memory_reserve", "growth_per_worker", "block_bytes"})


def _positive(name: str, value: Any, *, zero: bool = False) -> Any:
    """A number of Python's own, checked; None stays."""
    if value is None:
        return None
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or number != number:
        of = " of bytes, as 2 << 30 is (2 GiB)" if name in _IN_BYTES else ""
        raise UsageError(f"{name}={value!r} is not a number{of}")
    if number < 0 or (number == 0 and not zero):
        raise UsageError(f"{name}={value!r} must be {'0 or more' if zero else 'above 0'}")
    return number


#: Seconds: longer than any run, and small enough to be counted in nanoseconds.
FOREVER_S = 1e9
#: workers of a pool, at most
MOST_WORKERS = 1 << 16


def _whole(name: str, value: Any, *, zero: bool = False) -> Any:
    number = _positive(name, value, zero=zero)
    if number is not None and not isinstance(number, int):
        raise UsageError(f"{name}={value!r} is not a whole number")
    return number


#: Share of the memory (the machine's, or its container's if that is less) that is kept available. Below it the
#: kernel soon has to reclaim what programs still use, and everything becomes slow.
RESERVE_SHARE = 0.05
#: ... at least this much, bytes: between two looks a worker per core may take some 20 MB each.
RESERVE_LEAST = 200_000_000
#: ... at most this much, bytes: on a large machine 5 % would be a machine left unused.
RESERVE_MOST = 4_000_000_000
#: ... and never more than this share: in a small container 200 MB would be half of it.
RESERVE_SHARE_MOST = 0.1


def reserve_of(setting: int | Literal["auto"], total: int) -> int:
    """Bytes that must stay available out of `total`, by `Limits(memory_reserve=...)`."""
    if setting != "auto":
        return setting
    share = min(max(RESERVE_SHARE * total, RESERVE_LEAST), RESERVE_MOST)
    return int(min(share, RESERVE_SHARE_MOST * total))


@record
class Limits:
    """What a pool may use, and how patient it is. Seconds and bytes throughout.

    Attributes:
        items_in_flight: Items pulled from the input and not yet handed to the consumer. Larger hides a longer straggler
            in an ordered stream; smaller bounds memory.
        bytes_in_flight: The same in pickled bytes (the larger of items and outcomes).
        depth: Chunks that a worker holds at most: one runs, the others wait behind it. Larger hides a parent that is
            late; smaller has less waiting behind a slow item. None: two, and four of those that take less than 5 ms.
        memory_per_worker: Resident bytes of its own (shared memory and mapped files apart); a worker above it is ended
            and its item says so. Sampled every 50 ms, so a burst may pass it for that long. None: no limit.
        memory_reserve: Bytes of memory, of the machine or its container, that are to stay available. Below that nothing
            new is started; below half of it the youngest tasks are ended and requeued until there is memory again,
            which is no attempt. "auto": 5 %, at least 200 MB and at most 4 GB, but no more than 10 %. None: memory is
            not watched.
        items_per_worker: A worker is replaced after this many items. None: never.
        growth_per_worker: A worker is replaced, between two items, once its resident memory has grown by this many
            bytes since it was ready. None: never.
        block_bytes: Shared memory, in bytes, for large items and results on their way; what finds no room travels
            through pipes. None: an eighth of the machine's memory, at most 4 GB. 0: none.
        setup_s: Seconds that starting a worker and its `setup` may take; before that, as many for `preload`; later, as
            many for the modules that a worker imports for a function.
        grace_s: Seconds that cancelled work may go on before it is ended.
        terminate_s: Seconds between SIGTERM and SIGKILL.
    """

    items_in_flight: int = 65_536
    bytes_in_flight: int = 256 * 1024 * 1024
    memory_per_worker: int | None = None
    memory_reserve: int | Literal["auto"] | None = "auto"
    items_per_worker: int | None = None
    growth_per_worker: int | None = None
    block_bytes: int | None = None
    depth: int | None = None
    setup_s: float = 300.0
    grace_s: float = 0.1
    terminate_s: float = 0.25

    def __post_init__(self) -> None:
        for name in ("items_in_flight", "bytes_in_flight"):
            if getattr(self, name) is None:
                raise UsageError(f"{name}=None is not a whole number")
        for name in (
            "items_in_flight",
            "bytes_in_flight",
            "depth",
            "memory_per_worker",
            "items_per_worker",
            "growth_per_worker",
        ):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        object.__setattr__(self, "block_bytes", _whole("block_bytes", self.block_bytes, zero=True))
        if isinstance(self.memory_reserve, str) and self.memory_reserve != "auto":
            raise UsageError(f"memory_reserve={self.memory_reserve!r} must be a number of bytes, 'auto' or None")
        if not isinstance(self.memory_reserve, str):
            object.__setattr__(self, "memory_reserve", _whole("memory_reserve", self.memory_reserve))
        for name in ("setup_s", "grace_s", "terminate_s"):
            object.__setattr__(self, name, check_seconds(name, getattr(self, name), zero=name != "setup_s"))


@record
class Retry:
    """When a failed task is tried again, and how long to wait before.

    Attributes:
        times: Further attempts after the first.
        on: Exception types of the function that are worth another attempt.
        on_timeout: Also after a time-out.
        on_worker_lost: Also after the worker died (a crash, out of memory).
        wait_s: Seconds before the second attempt; doubles with each attempt (times `factor`).
        factor: Growth of the wait from attempt to attempt.
        wait_max_s: The longest wait, seconds.
        jitter: Share of the wait that is random, 0 to 1: spreads attempts that failed together.
    """

    times: int = 0
    on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    on_timeout: bool = True
    on_worker_lost: bool = True
    wait_s: float = 0.05
    factor: float = 2.0
    wait_max_s: float = 30.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", whole(self.times))
        if not is_whole(self.times, 0):
            raise UsageError(f"Retry(times={self.times!r}) must be a whole number, 0 or more")
        for name, zero in (("wait_s", True), ("factor", False), ("wait_max_s", True), ("jitter", True)):
            if getattr(self, name) is None:
                more = " of seconds, math.inf for no bound" if name == "wait_max_s" else ""
                raise UsageError(f"Retry({name}=None) must be a number{more}")
            object.__setattr__(self, name, _positive(name, getattr(self, name), zero=zero))
        if self.jitter > 1:
            raise UsageError(f"Retry(jitter={self.jitter!r}) must lie between 0 and 1")
        types = self.on if isinstance(self.on, tuple) else (self.on,)
        for each in types:
            if not (isinstance(each, type) and issubclass(each, BaseException)):
                raise UsageError(f"Retry(on={each!r}) is not an exception type")

    @classmethod
    def of(cls, retries: int | Retry) -> Retry:
        """A `Retry` from what callers pass: a number of further attempts, or a `Retry`."""
        return retries if isinstance(retries, Retry) else cls(times=retries)

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1).

        min(wait_max_s, wait_s * factor ** (attempt - 1)), of which the share `jitter` is random.
        """
        # The exponent is capped: the maximum is reached long before 2.0 ** 1024 overflows.
        try:
            wait = self.wait_s * self.factor ** min(attempt - 1, 60)
        except OverflowError:
            wait = self.wait_max_s
        wait = min(self.wait_max_s, wait, FOREVER_S)
        return wait * (1 - self.jitter * rng.random())


def check_seconds(name: str, value: float, *, zero: bool = True) -> float:
    """A number of seconds, checked: 0 or more (or above 0), and no more than can be counted.

    Args:
        name: For the message.
        value: It; infinity is as long as can be counted.
        zero: Whether it may be 0.

    Raises:
        UsageError: It is no such number.
    """
    if value is None:
        raise UsageError(f"{name}=None must be a number of seconds")
    seconds: float = min(_positive(name, value, zero=zero), FOREVER_S)
    return seconds


def check_timeout(timeout: float | None) -> float | None:
    """`timeout` in seconds, checked: a finite number above 0, or None for no deadline."""
    timeout = _positive("timeout", timeout)
    return None if timeout is None or timeout > FOREVER_S else timeout


def check_limits(limits: object) -> None:
    """Raise UsageError unless it is a `Limits`, or None."""
    if limits is not None and not isinstance(limits, Limits):
        raise UsageError(f"limits={limits!r} must be a Limits: allcores.Limits(memory_per_worker=...).")


def check_workers(workers: int) -> int:
    """A number of workers, checked: 1 or more, and no more than any system starts."""
    workers = whole(workers)
    if not is_whole(workers):
        raise UsageError(
            f"workers={workers!r} must be a whole number, 1 or more, or None for all cores (allcores.core_budget())."
        )
    check_many("workers", workers)
    return workers


def check_many(name: str, count: int) -> None:
    """Raise UsageError if these are more processes or threads than any system starts: to try would take minutes."""
    if count > MOST_WORKERS:
        raise UsageError(
            f"{name}={count!r} is more than {MOST_WORKERS:,}: more than that no system starts, and more than there are"
            " cores (allcores.core_budget()) pay only where the function waits."
        )


def whole(number: N) -> N:
    """A whole number of another type than Python's own (NumPy's) as one of these, as `range` takes it; else what it is.

    Options take it so, and what drop-ins stand in for counts with it, and does not look at its type.
    """
    if isinstance(number, int) or not hasattr(type(number), "__index__"):
        return number
    try:
        return operator.index(number)  # type: ignore[arg-type, return-value]
    except TypeError:  # an array of several
        return number


def is_whole(value: object, least: int = 1) -> TypeGuard[int]:
    """Whether it is a whole number of at least so much; what is true or false is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def whole_named(name: str, number: Any) -> int | None:
    """What a drop-in was given for a whole number, as what it stands in for takes it; None stays None.

    Raises:
        TypeError: It is no whole number. In the words of Python, and with the option's name.
    """
    try:
        return None if number is None else int(operator.index(number))
    except TypeError as error:
        __tracebackhide__ = True
        raise TypeError(f"{name}: {error}") from None


def plain_number(value: Any) -> Any:
    """The same for a number that need not be whole (NumPy's, a Decimal); what is true or a text is no number."""
    value = whole(value)
    kind = type(value)
    if isinstance(value, (int, str, bytes)) or not hasattr(kind, "__float__"):
        return value
    if kind.__name__.startswith(("bool", "complex")):
        return value
    try:
        return float(value)
    except Exception:  # an array of several
        return value


def check_chunk(chunk: int | None) -> int | None:
    """`chunk` in items, checked: 1 or more, or None for chunks that size themselves."""
    chunk = whole(chunk)
    if chunk is not None and not is_whole(chunk):
        raise UsageError(f"chunk={chunk!r} must be a whole number, 1 or more, or None for automatic chunks")
    return chunk


def check_batch(batch: int | Literal["auto"] | None) -> int | Literal["auto"] | None:
    """`batch` in items, checked: 1 or more, "auto", or None for a function that takes one item."""
    if batch is None or (isinstance(batch, str) and batch == "auto"):
        return batch
    batch = whole(batch)
    if not is_whole(batch):
        raise UsageError(
            f"batch={batch!r} must be a whole number, 1 or more, or 'auto' for batches that size themselves, or None"
            " for a function that takes one item"
        )
    return batch


ON_ERROR = ("raise", "skip")


def check_on_error(on_error: str) -> str:
    """`on_error`, checked."""
    if on_error not in ON_ERROR:
        choices: Iterable[str] = map(repr, ON_ERROR)
        raise UsageError(
            f"on_error={on_error!r} is not one of {', '.join(choices)} (or use outcomes(), which never raises)"
        )
    return on_error
