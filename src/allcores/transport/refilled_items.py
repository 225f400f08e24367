"""An input may yield one object again and again, with other contents each time: a buffer, a row that is filled anew.

The items of a chunk are pickled together, when the last of them is there: all would be what the last one is. So the
first items of an input travel one by one, each pickled before the next is asked for, until it is known that none is,
or holds, an object that came shortly before. Where one does, its contents are compared for a while; if they were
changed, each item of this input is copied when it is pulled. Copies travel together; what is not copied in all of its
parts goes on travelling alone.

    first item ──► looks for the same object ──same──► compares its contents ──changed──► copies, for good
                              │ not among the first few         │ alike, for long enough
                              ▼                                 ▼
                           together                          together

Only plain containers are looked at, and copied: lists, dicts, sets, bytearrays, arrays. Objects of other classes may
own what must not be there twice (a descriptor, say), and to copy one is its own code's affair. A list, a tuple or a
range as an input is in memory: what it holds twice is the same twice.

Results are the same the other way: those of a chunk are pickled together, and a function may return one object again
and again. There the worker pickles each alone instead of copying it. Where one call gives the results of several items,
those of a batch by a generator for one, they are copied as they come.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, defaultdict, deque
from itertools import chain, islice, repeat

from allcores.system import deferral
from allcores.transport import pickling
from allcores.transport.numpy_arrays import is_numpy_array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

#: Items that are looked at before it is settled that none comes twice: two buffers in turns show in the third.
LOOKS = 4
#: Once one came twice: so often its contents are compared, or until so many bytes were, but twice at least.
COMPARISONS = 16
COMPARED_BYTES = 1 << 20
LEAST_COMPARISONS = 2
#: Parts of an item that are looked at; of one that has more, these.
MOST_PARTS = 32
#: Bytes and elements of an item up to which it is copied, and containers in one another: it may have a table in it that
#: all items have.
MOST_COPIED = 16 << 20
MOST_ELEMENTS = 100_000
MOST_DEPTH = 20

#: Work in ns after which a value that may be changed by the next call is pickled: it has not to be any.
AT_ONCE = -1
#: So much larger may be what is copied where it cannot travel alone; larger still is taken for a table that all have.
AT_ALL_COSTS = 16
#: Iterators of inputs that are looked at by nobody: what is in memory.
IN_MEMORY = frozenset([type(iter([])), type(iter(())), type(iter(range(0))), repeat])

_MAPPINGS = frozenset([dict, OrderedDict, defaultdict])
_SEQUENCES = frozenset([list, set, deque])
_BUFFERS = frozenset([bytearray, array])


class RefilledItems:
    """What is known of one input, or of what one function returns. For one thread at a time."""

    def __init__(self) -> None:
        #: items are to be pulled one at a time, and shown
        self.watching = True
        #: they are filled anew
        self.found = False
        #: the last item was copied in all that could change
        self._whole = False
        self._looked = 0
        #: parts of the last items; once one came twice also its contents, as far as they are known
        self._held: list[list[Any]] = []
        self._contents: dict[int, bytes | None] = {}
        self._suspects = False
        self._compared = self._bytes = 0

    @property
    def needed(self) -> bool:
        """Whether items have to be shown at all."""
        return self.watching or self.found

    @property
    def one_by_one(self) -> bool:
        """Whether each item is to be pickled before the next is asked for, as far as the last one tells."""
        return not self._whole if self.found else self.watching

    def see(self, item: Any, *, alone: bool, may_stay: bool = True) -> Any:
        """Take in the next item of an input.

        Args:
            item: It.
            alone: It is pickled before the next is asked for.
            may_stay: A large one need not be copied, for it is pickled before the next is asked for then.

        Returns:
            What to take in its place: itself, or a copy.
        """
        self.look(item)
        # Also where it is pickled in time: an outcome, or a message, is to show the item that it is of. And where the
        # second one shows that they are filled anew, it is too late for the first.
        if self.found or (self.watching and not alone):
            item, self._whole = _copy(item, at_all_costs=not may_stay)
        return item

    def look(self, item: Any) -> None:
        """Take in the next item, or result."""
        if self.found:
            return
        parts = _parts(item)
        twice = [part for part in parts if any(part is each for held in self._held for each in held)]
        self._held = [*self._held[1 - LOOKS :], parts]
        if twice or self._suspects:
            self._suspects = True
            self._compare(twice)
        elif self.watching:
            self._looked += 1
            self.watching = self._looked < LOOKS
        if self.found or not self.watching:
            self._held.clear()
            self._contents.clear()

    def let_go(self) -> None:
        """Nothing comes for a while: hold no item. Those that come next are the first again."""
        self._looked = 0
        self._held.clear()
        self._contents.clear()

    def _compare(self, twice: list[Any]) -> None:
        held = {id(part) for parts in self._held for part in parts}
        # The number of one that is gone may be another's by now.
        self._contents = {key: data for key, data in self._contents.items() if key in held}
        known = False
        for part in twice:
            data = _pickle(part)
            before = self._contents.get(id(part), data)
            known = known or id(part) in self._contents
            if before != data:
                self.found = True
                return
            self._contents[id(part)] = data
            self._bytes += len(data or b"")
        self._compared += known
        # Those of a chunk's beginning have nothing before them that they could be compared with.
        self._looked += not twice
        enough = self._compared >= COMPARISONS or self._bytes > COMPARED_BYTES
        self.watching = not ((enough and self._compared >= LEAST_COMPARISONS) or self._looked >= COMPARISONS)


def shows(refilled: RefilledItems, values: list[Any]) -> bool:
    """Have the last of the values that are not pickled yet looked at; whether others have to be, and pickled alone."""
    if values:
        try:
            refilled.look(values[-1])
        except BaseException:  # a pickle that raises what it will: told when the value is pickled for good
            return True
    return refilled.needed


def as_pulled(items: Iterable[Any], refilled: RefilledItems | None = None) -> Iterator[Any]:
    """The items of an input that are not pickled as they are pulled: copies, as long as it may fill them anew.

    Args:
        items: The input.
        refilled: What is known of it, and of others like it; None: nothing yet.
    """
    __tracebackhide__ = True  # whatever an input raises is the program's affair
    source = iter(items)
    # Not by `yield from`, which closes a generator of the program's that is left before its end.
    return source if type(source) in IN_MEMORY else chain.from_iterable(_pieces(source, refilled))


def _pieces(source: Iterator[Any], refilled: RefilledItems | None) -> Iterator[Iterator[Any]]:
    """What has to be looked at, and the rest, unless there is none: some inputs begin anew when asked once more."""
    __tracebackhide__ = True
    refilled = refilled or RefilledItems()
    yield _looked_at(source, refilled)
    if not refilled.needed:
        yield source


def _looked_at(source: Iterator[Any], refilled: RefilledItems) -> Iterator[Any]:
    __tracebackhide__ = True
    for item in source:
        yield refilled.see(item, alone=False, may_stay=False)
        if not refilled.needed:
            return


def call_each(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """What a function returns for each item, for one list: copies, if it fills one object anew each time."""
    refilled, results = RefilledItems(), []
    for item in items:
        value = function(item)
        # No generator does this: a StopIteration of the function would not get through it.
        results.append(refilled.see(value, alone=False, may_stay=False) if refilled.needed else value)
    return results


def _is_array(value: Any) -> bool:
    return is_numpy_array(value) and not value.dtype.hasobject


def _members(item: Any) -> list[Any]:
    """What a tuple, a list or a dict holds, not further down."""
    kind = type(item)
    if kind is tuple or kind is list:
        return item[:MOST_PARTS]  # type: ignore[no-any-return]
    return list(islice(item.values(), MOST_PARTS)) if kind in _MAPPINGS else []


def _parts(item: Any) -> list[Any]:
    """What of an item might be filled anew: itself, and what it holds."""
    return [part for part in (item, *_members(item)) if _is_filled(part)]


def _is_filled(value: Any) -> bool:
    kind = type(value)
    return kind in _SEQUENCES or kind in _MAPPINGS or kind in _BUFFERS or _is_array(value)


class _TooLarge(Exception):
    """It is not copied."""


class _Copy:
    """One copy. What it has left of the bounds, and whether all that could change was copied."""

    def __init__(self, *, at_all_costs: bool) -> None:
        times = AT_ALL_COSTS if at_all_costs else 1
        self._bytes = MOST_COPIED * times
        self._elements = MOST_ELEMENTS * times
        #: by the numbers of what was copied, which is held meanwhile
        self._made: dict[int, Any] = {}
        self.whole = True

    def of(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        made: Any = self._made.get(id(value))
        if made is not None:
            # What is there twice is twice the same, as in a pickle.
            return made
        if kind in _BUFFERS or _is_array(value):
            self._bytes -= memoryview(value).nbytes if kind in _BUFFERS else value.nbytes
            if self._bytes < 0:
                raise _TooLarge
            made = self._made[id(value)] = value[:] if kind in _BUFFERS else value.copy("K")
            return made
        if kind is not tuple and kind not in _SEQUENCES and kind not in _MAPPINGS:
            self.whole = self.whole and kind in pickling.SCALARS
            return value
        self._elements -= len(value)
        if self._elements < 0 or depth > MOST_DEPTH:
            raise _TooLarge
        if kind in _MAPPINGS:
            made = self._made[id(value)] = value.copy()
            self.whole = self.whole and pickling.SCALARS.issuperset(map(type, made))
            for key, each in made.items():
                made[key] = self.of(each, depth + 1)
        elif kind is tuple:
            made = self._made[id(value)] = tuple([self.of(each, depth + 1) for each in value])
        else:
            # First, for what is in it may hold it.
            made = self._made[id(value)] = deque(maxlen=value.maxlen) if kind is deque else kind()
            parts = [self.of(each, depth + 1) for each in value]
            (made.update if kind is set else made.extend)(parts)
        return made


def _copy(item: Any, *, at_all_costs: bool) -> tuple[Any, bool]:
    """A copy of all plain containers in an item, and whether there is nothing else in it that could change.

    The item itself if it is too large.
    """
    copy = _Copy(at_all_costs=at_all_costs)
    try:
        return copy.of(item), copy.whole
    except (_TooLarge, RuntimeError):  # it changes meanwhile
        return item, False


def _pickle(value: Any) -> bytes | None:
    """Its pickle; None if it has none, which is told when its chunk is packed."""
    try:
        return pickling.dumps(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if deferral.raised_by_handler(error):
            raise
        return None
