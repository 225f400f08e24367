"""Pulls a stream's input, on the thread that reads the stream, and makes chunks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, Protocol, cast

from allcores.errors import NotPicklable
from allcores.outcome import Failure, Kind
from allcores.pool.driver import Driver
from allcores.scheduler.activity import InputActivityBatcher
from allcores.scheduler.function import Function
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.segment import Segment
from allcores.shared_memory.buffers import BufferedPickle
from allcores.system import deferral
from allcores.system.clock import monotonic_ns
from allcores.transport import pickling
from allcores.transport.refilled_items import IN_MEMORY, RefilledItems

#: A pull that takes longer than this is handed over at once: a slow input must not be waited for, ns.
SLOW_PULL_NS = 2_000_000
#: The same for a map with batches: an input that fills one within this time is a quick one, ns. Larger: what is ready
#: is handed out later. Smaller: batches of a slow input are smaller than they need be.
SLOW_FILL_NS = 20_000_000
#: A batch is filled no longer than this while all workers are busy, ns; once one is idle, SLOW_FILL_NS.
FILL_NS = 500_000_000
FOREVER_NS = 1 << 62
#: Chunks that are handed over in one turn, at most.
MOST_CHUNKS = 64


class Numbered(Protocol):
    """An input that numbers its items itself, for it leaves some out. For streams that need no order."""

    def __iter__(self) -> Iterator[Any]: ...

    def upcoming(self) -> tuple[int, int]:
        """The next item's index, and how many items from there on follow each other without a gap."""


class _Wanted(NamedTuple):
    """How much a map wants of its input: chunks, of so many items each, until they have `bytes_left`.

    Attributes:
        starved: Nothing, although workers could take more: what is out must be finished first.
    """

    chunks: int
    items: int
    bytes_left: int
    starved: bool


class InputReader:
    """Pulls items for one map, in chunks that the map asks for, without waiting long for any."""

    def __init__(self, driver: Driver, map_state: MapState, function: Function, items: Iterable[Any]) -> None:
        self._driver = driver
        self._map_state = map_state
        self._function = function
        # Not by `isinstance`, for which typing imports inspect from Python 3.12 on: milliseconds at the first map.
        self._numbered = cast(Numbered, items) if hasattr(type(items), "upcoming") else None
        self._iterator: Iterator[Any] | None = iter(items)
        #: items that one pull may take at first; grows while the input is quick
        self._stride = 1
        #: the function gets batches
        self._fills = map_state.chunker.batch > 0
        self._slow_ns = SLOW_PULL_NS
        if self._fills:
            # What is in memory is never waited for: a thread that has to wait for its turn is no slow input.
            self._slow_ns = FOREVER_NS if type(items) in IN_MEMORY else SLOW_FILL_NS
        #: None: items need no look, for each comes once, or nothing is pickled
        self._refilled: RefilledItems | None = None
        if driver.backend.needs_bytes and type(items) not in IN_MEMORY:
            self._refilled = RefilledItems()
        #: index of the next item
        self._index = 0
        self.slow = False
        #: what observers are told
        self._notes = InputActivityBatcher(map_state.number)
        #: what `look` has found, until it is used
        self._wanted: _Wanted | None = None
        #: what the input raised, if it did
        self.error: BaseException | None = None

    def look(self) -> None:
        """Note how much is wanted now, for the next `feed`; with the driver's lock held."""
        map_state, driver = self._map_state, self._driver
        room = driver.scheduler.demand.room(map_state)
        wanted = 0
        if room > 0:
            # What a run with a journal has finished is to be on the disk soon: it numbers its items.
            brief = self._numbered is not None or driver.scheduler.demand.crowded(monotonic_ns())
            wanted = map_state.want(driver.workers, brief=brief)
        if self.slow and not self._fills and not driver.scheduler.demand.hungry:
            wanted = 0
        if wanted:
            room = min(room, MOST_CHUNKS, max(1, map_state.credit // wanted))
        self._wanted = _Wanted(room, wanted, map_state.bytes_left, room > 0 and not wanted and not map_state.may_pull)

    def feed(self) -> None:
        """Pull as much as is wanted now."""
        map_state, driver = self._map_state, self._driver
        while not map_state.exhausted:
            if self._wanted is None:
                with driver.lock:
                    self.look()
            wanted, self._wanted = self._wanted, None
            assert wanted is not None
            if not wanted.items:
                if wanted.starved:
                    self._notes.held_since_ns = self._notes.held_since_ns or monotonic_ns()
                    driver.turn(lambda scheduler, now: scheduler.starved(now))
                return
            self._pull_chunks(wanted.chunks, wanted.items, wanted.bytes_left)
            if self.slow and map_state.ready:
                return

    def _pull_chunks(self, count: int, size: int, bytes_left: int) -> None:
        """Pull up to `count` chunks of `size` items and hand them over in one turn.

        No more once they have taken `bytes_left`: how large items are is known only when they are pickled.
        """
        parts: list[Chunk | Segment] = []
        if self._driver.wants_activity:
            self._note_begin(monotonic_ns())
        try:
            for _ in range(count):
                items: list[Any] = []
                wanted = size
                if self._numbered is not None:
                    self._index, row = self._numbered.upcoming()
                    wanted = min(size, row)
                if self._refilled is not None and not self._fills and self._refilled.one_by_one:
                    wanted = 1
                try:
                    self._pull(wanted, items)
                finally:
                    # Ctrl-C may come while the input is asked: what was pulled is handed over all the same.
                    if items:
                        then = monotonic_ns()
                        packed = self._pack(items)
                        parts += packed
                        self._notes.pack_ns += monotonic_ns() - then
                        bytes_left -= sum(part.size_bytes for part in packed)
                if self._iterator is None or self.slow or bytes_left <= 0:
                    break
        finally:
            if parts:
                then = monotonic_ns()
                self._driver.add_all(self._map_state, parts, self.look)
                self._notes.pack_ns += monotonic_ns() - then
        if self._iterator is None:
            self._driver.turn(lambda scheduler, now: scheduler.input_ended(self._map_state, now))
        if self._driver.wants_activity:
            self._note_end()

    def _note_begin(self, now: int) -> None:
        """There is an observer, and a pull begins."""
        event = self._notes.begin(now, self._index)
        if event is not None:
            self._driver.notify_observers(event, self._map_state)

    def _note_end(self) -> None:
        event = self._notes.end(monotonic_ns(), self._index, ended=self._iterator is None)
        if event is not None:
            self._driver.notify_observers(event, self._map_state)

    def _pull(self, wanted: int, items: list[Any]) -> None:
        """Append up to `wanted` items; fewer if the input is slow or ends."""
        iterator = self._iterator
        if iterator is None:
            # Another thread has stopped the stream after this one looked how much is wanted.
            return
        __tracebackhide__ = True  # an input that is no Python code has no frame that says where it has failed
        begun = then = monotonic_ns()
        try:
            while len(items) < wanted:
                stride = min(self._stride, wanted - len(items)) if self._refilled is None else 1
                before = len(items)
                # extend keeps what came before an exception of the iterator
                items.extend(islice(iterator, stride))
                if self._refilled is not None and len(items) > before:
                    items[-1] = self.seen(items[-1], alone=wanted == 1)
                    if wanted > 1 and not self._fills and self._refilled is not None and self._refilled.one_by_one:
                        break  # it is not copied: it has to be pickled before the next is asked for
                if len(items) - before < stride:
                    self._ended(None)
                    break
                now = monotonic_ns()
                if now - then < SLOW_PULL_NS // 4:
                    self._stride = min(self._stride * 4, 1 << 16)
                else:
                    self._stride = max(1, self._stride // 4)
                then = now
                if now - begun > self._slow_ns and not (self._fills and self._may_fill(now - begun)):
                    break
        except KeyboardInterrupt:
            # Not the input's own failure: the stream stops.
            raise
        except BaseException as error:
            self._ended(error)
            if deferral.raised_by_handler(error):
                raise  # a time limit is not to wait for what runs
        taken = monotonic_ns() - begun
        self._notes.pull_ns += taken
        self.slow = taken > self._slow_ns

    def seen(self, item: Any, *, alone: bool = False) -> Any:
        """An item that was just pulled, or a copy if its input may fill it anew: see `transport.refilled_items`.

        Args:
            item: It.
            alone: It is pickled before the next is pulled.
        """
        refilled = self._refilled
        if refilled is None:
            return item
        item = refilled.see(item, alone=alone)
        if not refilled.needed:
            self._refilled = None
        return item

    def _may_fill(self, taken_ns: int) -> bool:
        """Whether a batch is to be filled further although its input is slow: nobody waits for it yet."""
        return taken_ns < FILL_NS and not self._driver.scheduler.demand.hungry

    def _ended(self, error: BaseException | None) -> None:
        self._iterator = None
        self.error = error

    def raise_error(self) -> None:
        """Raise what the input has raised, if it did, and keep it no longer: its traceback leads to this object."""
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    def stop(self) -> None:
        """Pull nothing more."""
        self._iterator = None
        self._driver.turn(lambda scheduler, now: scheduler.input_ended(self._map_state, now))
        if self._driver.wants_activity:
            self._note_begin(monotonic_ns())
            self._note_end()

    def send(self, items: list[Any], asked_ns: int) -> None:
        """Hand over a chunk of pulled items, for which the input was asked at `asked_ns`."""
        observed, then = self._driver.wants_activity, monotonic_ns()
        if observed:
            self._note_begin(asked_ns)
            self._notes.pull_ns += then - asked_ns
        self._driver.add_all(self._map_state, self._pack(items))
        if observed:
            self._notes.pack_ns += monotonic_ns() - then
            self._note_end()

    def _pack(self, items: list[Any]) -> list[Chunk | Segment]:
        """Items as chunks with their bytes; those that will not pickle are settled already."""
        first = self._index
        if not self._driver.backend.needs_bytes:
            self._index += len(items)
            return [Chunk(self._map_state, self._function, first, items)]
        payload, bad = encode(items, first, self._driver.backend.pack)
        if payload is not None:
            self._index += len(items)
            return [Chunk(self._map_state, self._function, first, items, payload=payload)]
        if not bad:
            return [part for item in items for part in self._pack([item])]
        parts: list[Chunk | Segment] = []
        start = 0
        for position, error in bad:
            if items[start:position]:
                parts += self._pack(items[start:position])
            failure = Failure(0, Kind.FAILED, error)
            parts.append(Segment(self._index, 1, [items[position]], values=[], failures=[failure], attempt=0))
            self._index += 1
            start = position + 1
        if items[start:]:
            parts += self._pack(items[start:])
        return parts


def encode(
    items: list[Any], first: int, pack: Callable[[object], bytes | BufferedPickle]
) -> tuple[bytes | BufferedPickle | None, list[tuple[int, NotPicklable]]]:
    """Bytes of a chunk's items, or None and the items that will not pickle with their errors.

    None and no error: each can be pickled, but not all together (they nest too deep, say). A single item has an error.
    An item whose __reduce__ raises SystemExit fails like any other: it is not the caller who wants to end.
    """
    try:
        return pack(items), []
    except KeyboardInterrupt:
        raise
    except BaseException as cause:
        if deferral.raised_by_handler(cause):
            raise
        bad: list[tuple[int, NotPicklable]] = []
        for position, item in enumerate(items):
            try:
                pickling.dumps(item)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if deferral.raised_by_handler(error):
                    raise
                explained = pickling.explain_with_path(item, f"items[{first + position}]", error)
                explained.__cause__ = error
                bad.append((position, explained))
        if not bad and _packs(items, pack):
            # A signal's handler has raised in the middle of it.
            raise cause
        if not bad and len(items) == 1:
            # Plain pickle can do it, and packing cannot.
            failed = NotPicklable(f"items[{first}] could not be packed: {type(cause).__name__}: {cause}")
            failed.__cause__ = cause
            bad.append((0, failed))
        return None, bad


def _packs(items: list[Any], pack: Callable[[object], bytes | BufferedPickle]) -> bool:
    """Whether it can be done after all."""
    try:
        pack(items)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if deferral.raised_by_handler(error):
            raise
        return False
    return True


def length_of(items: Any) -> int | None:
    """How many items an input has; None if it cannot tell."""
    if not hasattr(items, "__len__"):
        return None
    try:
        return len(items)
    except TypeError:  # a stream, say, whose own input has no length
        return None
