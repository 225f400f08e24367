"""One map: one function over one input, with its credit, its order and its counters.

The life of a task, told by counters rather than by one record per item (a chunk of 8,192 items
must not cost 8,192 updates):

    WAITING ──► SENT ──► settled by one Outcome ──► consumed
    (pending)  (worker)  (ready / held for order)   (credit returned)
        ▲          │
        └──────────┘  requeued: its worker exited, or it was stolen unstarted
        ▲          │
        └─ delayed ┘  failed, and another attempt was granted

Invariant: pulled = waiting + sent + delayed + settled, and items_out = pulled - consumed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from allcores.limits import Retry
from allcores.scheduler.chunk_parts import CancelToken, PulledItems
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.segment import Segment
from allcores.scheduler.series import Series

if TYPE_CHECKING:
    from allcores.shared_memory.buffers import BufferedPickle


#: What the consumer takes at once, beyond one segment: a part of the items that may be in flight, and bytes.
SHARE_TAKEN = 16
BYTES_TAKEN = 65_536


class Chunk:
    """Consecutive items of one map that travel together.

    Attributes:
        first: Index of items[0].
        done: Leading items that are settled.
        attempt: Of all its items.
        batch: Items that the function gets in one call; 0 if it gets them one by one.
        worker: The one that has it; 0 before it is sent.
        sequence: Its place in that worker's queue; 0 before it is sent.
        requeues: How often it lost its worker by no fault that is known.
        preempted: How often it was ended because memory ran out.
        timeout_ns: Per attempt and item, None for no deadline: its map's, or that of one call.
        surroundings: What its worker is to find around it (opaque here): its map's, or those of one call.
        tail: All that is left of it runs already, on a node that has cores for more.
        payload: Its bytes, made when its items were pulled; kept until it is settled, so that items which are sent
            again are what they were then, whatever has become of the objects. None: they are made when it is sent.
        skip: Items that come before its first in `payload`, from the chunk that it was cut from.
        shared: What it has in common with the chunks whose items are in `payload`, too, before its own or behind them;
            None: it is alone there.
        waits_for: What it has in common with others, while it waits for another attempt.
        again: Its items have travelled before.
    """

    __slots__ = (
        "again",
        "asked",
        "attempt",
        "batch",
        "cancel_token",
        "cut",
        "done",
        "first",
        "function",
        "future",
        "items",
        "map_state",
        "payload",
        "preempted",
        "requeues",
        "sent_ns",
        "sequence",
        "shared",
        "size_bytes",
        "skip",
        "surroundings",
        "tail",
        "timeout_ns",
        "waits_for",
        "worker",
    )

    def __init__(
        self,
        map_state: MapState,
        function: Function,
        first: int,
        items: list[Any],
        *,
        payload: bytes | BufferedPickle | None = None,
        attempt: int = 1,
        requeues: int = 0,
        future: Any = None,
    ) -> None:
        self.map_state = map_state
        self.function = function
        self.first = first
        self.items = items
        self.payload = payload
        self.size_bytes = len(payload) if payload is not None else 0
        self.skip = 0
        self.shared: PulledItems | None = None
        self.waits_for: PulledItems | None = None
        self.again = False
        self.attempt = attempt
        self.requeues = requeues
        self.batch = map_state.chunker.batch
        self.preempted = 0
        self.timeout_ns = map_state.timeout_ns
        self.future = future
        self.surroundings = map_state.surroundings
        self.done = 0
        self.worker = 0
        self.sequence = 0
        #: when its worker was given it
        self.sent_ns = 0
        self.cancel_token = CancelToken()
        #: some of its items were stolen from the worker that has it
        self.cut = False
        #: how often the node that has it was asked to give back what it has not started
        self.asked = 0
        self.tail = False

    @property
    def cancelled(self) -> bool:
        """True if this call was given up."""
        return self.cancel_token.cancelled

    @property
    def given_up_ns(self) -> int | None:
        """Since when its outcomes are not wanted, as it or its map was cancelled; None if they are."""
        if self.cancelled:
            return self.cancel_token.cancelled_ns
        return self.map_state.cancelled_ns if self.map_state.cancelled else None

    def __repr__(self) -> str:
        return f"<Chunk {self.first}+{len(self.items)} done={self.done} attempt={self.attempt}>"

    def part(self, start: int, stop: int | None = None, *, requeues: int | None = None) -> Chunk:
        """A new chunk of the items [start:stop], unsent."""
        items = self.items[start:stop]
        chunk = Chunk(
            self.map_state,
            self.function,
            self.first + start,
            items,
            attempt=self.attempt,
            requeues=self.requeues if requeues is None else requeues,
            future=self.future,
        )
        chunk.size_bytes = self.size_bytes * len(items) // len(self.items)
        chunk.payload = self.payload
        chunk.skip = self.skip + start
        chunk.again = True
        chunk.shared = self.shared if len(items) == len(self.items) else self.share()
        chunk.batch = self.batch
        chunk.preempted = self.preempted
        chunk.timeout_ns = self.timeout_ns
        chunk.surroundings = self.surroundings
        chunk.cancel_token = self.cancel_token
        chunk.cancel_token.is_sent = False
        return chunk

    def share(self) -> PulledItems | None:
        """Its bytes are those of other chunks, too, from here on."""
        if self.shared is None and self.payload is not None:
            self.shared = PulledItems(self.payload, len(self.items))
        return self.shared

    def index_of(self, position: int) -> int | None:
        """The index that an error tells of the item at a position: of its input; None of a call, which has no input."""
        return None if self.future is not None else self.first + position

    def have_own(self, payload: bytes | BufferedPickle | None) -> None:
        """Have bytes of these items alone; None: they are made when it is sent."""
        self.payload = payload
        self.skip = 0
        self.shared = None


class MapState:
    """The state of one map.

    Args:
        total: Items of the input, None if unknown.
        timeout_ns: Per attempt, None for no deadline.
        detailed: Whether workers report seconds per item.
        calls: True for the map behind `submit`, where every chunk is one call with a future and order means nothing.
        requeues_unattributed: Whether an item that ran as its worker was ended by no fault that is known begins again.
    """

    def __init__(
        self,
        number: int,
        *,
        chunker: Chunker,
        ordered: bool = True,
        total: int | None = None,
        timeout_ns: int | None = None,
        retry: Retry | None = None,
        detailed: bool = False,
        calls: bool = False,
        requeues_unattributed: bool = True,
        items_limit: int = 65_536,
        bytes_limit: int = 1 << 28,
    ) -> None:
        self.number = number
        self.chunker = chunker
        self.ordered = ordered
        self.total = total
        self.timeout_ns = timeout_ns
        self.retry = retry or Retry()
        self.detailed = detailed
        self.calls = calls
        self.requeues_unattributed = requeues_unattributed
        self.items_limit = items_limit
        self.bytes_limit = bytes_limit
        #: see `Chunk`
        self.surroundings: Any = None
        #: the maps among which it has its turn, and its place there; None: it has a turn of its own
        self.series: Series[MapState] | None = None
        self.place = 0
        #: chunks that no worker has; requeued ones go to the front
        self.pending: deque[Chunk] = deque()
        #: items pulled from the input, settled, and handed to the consumer, ever
        self.pulled = 0
        self.settled = 0
        self.consumed = 0
        self.failed = 0
        #: items and bytes that the consumer has, whose credit was not returned yet
        self.handed = self.handed_bytes = 0
        #: pickled bytes of what is pulled and not consumed
        self.bytes_out = 0
        #: the input has ended, or may not be pulled again
        self.exhausted = False
        self.cancelled = False
        #: since when
        self.cancelled_ns = 0
        #: nothing more of it is started; what runs is still wanted
        self.stopped = False
        #: set when nothing more can come although items are missing: a broken pool, say
        self.broken: BaseException | None = None
        #: it waits in the scheduler's rotation; one of a series never does
        self.queued = False
        #: settled segments in the order in which the consumer gets them
        self.ready: deque[Segment] = deque()
        self._held: dict[int, Segment] = {}
        self._next = 0

    # --- input ---

    @property
    def credit(self) -> int:
        """Items that may be pulled now, by count and by bytes."""
        items = self.items_limit - (self.pulled - self.consumed)
        if items <= 0:
            return 0
        mean = self.chunker.mean_bytes
        if mean > 1.0:
            # What is out may still grow into outcomes of the mean size.
            out = max(self.bytes_out, (self.pulled - self.consumed) * mean)
            if out >= self.bytes_limit:
                # One item is always allowed: an item larger than the limit must not stop the map.
                return 1 if self.pulled == self.consumed else 0
            items = min(items, int((self.bytes_limit - out) / mean) or 1)
        elif self.bytes_out >= self.bytes_limit:
            return 1 if self.pulled == self.consumed else 0
        return items

    @property
    def may_pull(self) -> bool:
        """There is credit: for a whole batch, or for what there can be at most."""
        credit = self.credit
        return credit > 0 and (credit >= self.chunker.batch or self.pulled == self.consumed)

    @property
    def bytes_left(self) -> int:
        """Pickled bytes that may still be pulled, as far as they are known."""
        return self.bytes_limit - self.bytes_out

    def want(self, workers: int, *, brief: bool = False) -> int:
        """Items for the next chunk; 0 if the input has ended or there is no credit.

        Args:
            brief: Report soon.
        """
        if self.exhausted or self.cancelled:
            return 0
        credit = self.credit
        if credit <= 0:
            return 0
        remaining = None if self.total is None else max(1, self.total - self.pulled)
        # So that every worker can hold several chunks within the limit.
        share = max(1, self.items_limit // (4 * workers))
        size = self.chunker.size(workers=workers, remaining=remaining, credit=share, brief=brief)
        if size <= credit:
            return size
        batch = self.chunker.batch
        if not batch:
            return credit
        # Credit comes back bit by bit: a small batch now would be followed by others.
        return credit // batch * batch or (credit if self.may_pull else 0)

    def add(self, chunk: Chunk) -> None:
        """Take a chunk of freshly pulled items."""
        self.pulled += len(chunk.items)
        self.bytes_out += chunk.size_bytes
        self.pending.append(chunk)

    # --- turns ---

    def to_serve(self) -> MapState | None:
        """Itself if it has a chunk to hand out: what has a turn says which map it is that is served."""
        return self if self.pending and not self.cancelled else None

    @property
    def may_begin(self) -> bool:
        """Whether input may be pulled: of a series, the maps before it have pulled theirs."""
        return self.series is None or self.series.is_turn_of(self)

    @property
    def together(self) -> Sequence[MapState]:
        """It, or all open maps of its series: what is known of the items of one is known of all."""
        return (self,) if self.series is None else self.series.maps

    def is_apart(self, other: MapState) -> bool:
        """Whether another map has turns of its own."""
        return other is not self and (self.series is None or other.series is not self.series)

    # --- outcomes ---

    def settle(self, segment: Segment) -> None:
        """Take the outcomes of consecutive items; each item is settled exactly once."""
        self.settled += segment.count
        if segment.failures:
            self.failed += len(segment.failures)
        if self.cancelled:
            return
        if not self.ordered or self.calls:
            self.ready.append(segment)
            return
        if segment.start != self._next:
            self._held[segment.start] = segment
            return
        held = self._held
        while True:
            self.ready.append(segment)
            self._next += segment.count
            if self._next not in held:
                return
            segment = held.pop(self._next)

    def take(self) -> Segment | None:
        """The next segment for the consumer; its credit is returned. None if there is none yet."""
        if not self.ready:
            return None
        segment = self.ready.popleft()
        self._return(segment.count, segment.size_bytes)
        return segment

    def take_some(self) -> list[Segment]:
        """The next segments: one, and as many more as are small. Their credit is returned by `return_handed`."""
        ready, taken = self.ready, list[Segment]()
        items, size = self.items_limit // SHARE_TAKEN, BYTES_TAKEN
        while ready and (not taken or (items >= ready[0].count and size >= ready[0].size_bytes)):
            segment = ready.popleft()
            items -= segment.count
            size -= segment.size_bytes
            taken.append(segment)
        return taken

    def hand_over(self, segment: Segment) -> None:
        """The consumer has one of the segments of `take_some`. Needs no lock: only the consumer writes these two."""
        self.handed += segment.count
        self.handed_bytes += segment.size_bytes

    def return_handed(self) -> None:
        """Return the credit of what was handed over."""
        if self.handed:
            self._return(self.handed, self.handed_bytes)
            self.handed = self.handed_bytes = 0

    @property
    def in_flight(self) -> int:
        """Items that were pulled and that the consumer does not have yet."""
        return self.pulled - self.consumed - self.handed

    def _return(self, count: int, size_bytes: int) -> None:
        self.consumed += count
        self.bytes_out = max(0, self.bytes_out - size_bytes)
        if self.consumed == self.pulled:
            self.bytes_out = 0

    @property
    def finished(self) -> bool:
        """Nothing is left to hand over, and nothing will come."""
        return not self.ready and (
            self.cancelled or self.broken is not None or (self.exhausted and self.settled == self.pulled)
        )

    def cancel(self, now: int) -> None:
        """Forget everything that waits; what workers hold is revoked by the scheduler."""
        self.cancelled = True
        self.cancelled_ns = now
        self.exhausted = True
        self.pending.clear()
        self.ready.clear()
        self._held.clear()
