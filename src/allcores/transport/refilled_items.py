"""An input may yield one object again and again, with other contents each time: a buffer, a row that is filled anew.

The items of a chunk are pickled together, when the last of them is there: all would be what the last one is. So the
first items of an input travel one by one, each pickled before the next is asked for, until it is known that none is,
or holds, an object that came shortly before. Where one does, its contents are compared for a while; if they were
changed, each item of this input is copied when it is pulled.

    first item ──► looks for the same object ──same──► compares its contents ──changed──► copies, for good
                              │ not among the first few         │ alike, for long enough
                              ▼                                 ▼
                           together                          together

A list, a tuple or a range is in memory: what it holds twice is the same twice.

Results are the same the other way: those of a chunk are pickled together, and a function may return one object again
and again. There the worker pickles each alone instead of copying it, as soon as one came twice.
"""

from __future__ import annotations

import pickle
from itertools import islice, repeat
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from allcores.system import deferral
from allcores.transport import pickling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

#: Items that are looked at before it is settled that none comes twice: two buffers in turns show in the third.
LOOKS = 4
#: Once one came twice: so often its contents are compared, or until so many bytes were, but twice at least.
COMPARISONS = 16
COMPARED_BYTES = 1 << 20
LEAST_COMPARISONS = 2
#: Parts of an item that are looked at; of one that has more, these.
MOST_PARTS = 32

#: Pickled bytes of an item up to which it is copied before it is known that this is needed: it may be a model that all
#: items have.
MOST_COPIED = 16 << 20

#: Work in ns after which a value that may be changed by the next call is pickled: it has not to be any.
AT_ONCE = -1
#: Iterators of inputs that are looked at by nobody: what is in memory.
IN_MEMORY = frozenset([type(iter([])), type(iter(())), type(iter(range(0))), repeat])
#: What nobody fills anew.
_CONSTANT = frozenset(
    [int, float, complex, bool, str, bytes, type(None), type, FunctionType, BuiltinFunctionType, MethodType, ModuleType]
)


class RefilledItems:
    """What is known of one input, or of what one function returns. For one thread at a time.

    Args:
        compares: Whether one that comes twice is compared, for it may well be the same; else it is taken to change.
    """

    def __init__(self, *, compares: bool = True) -> None:
        self._compares = compares
        #: items are to be pulled one at a time, and shown
        self.watching = True
        self._looked = 0
        #: parts of the last items; once one came twice also its contents, as far as they are known
        self._held: list[list[Any]] = []
        self._contents: dict[int, bytes | None] = {}
        self._compared = self._bytes = 0
        self._found = False

    @property
    def needed(self) -> bool:
        """Whether items have to be shown at all."""
        return self.watching or self._found

    def see(self, item: Any, *, alone: bool) -> Any:
        """Take in the next item.

        Args:
            item: It.
            alone: It is pickled before the next is asked for.

        Returns:
            What to take in its place: itself, or a copy.
        """
        if self._found:
            # Also where it is pickled in time: an outcome, or a message, is to show the item that it is of.
            return _copy(item) if self._compares else item
        parts = _parts(item)
        if parts and not alone and not _is_small(item):
            parts = []
            self.watching = False
        twice = [part for part in parts if any(part is each for held in self._held for each in held)]
        self._held = [*self._held[1 - LOOKS :], parts]
        if twice and not self._compares:
            self._found = True
        elif twice or self._compared:
            self._compare(twice)
        elif self.watching:
            self._looked += 1
            self.watching = bool(parts) and self._looked < LOOKS
        if self._found or not self.watching:
            self._held.clear()
            self._contents.clear()
        if self._found and self._compares:
            return _copy(item)
        # Where the second one shows that they are filled anew, it is too late for the first.
        return item if alone or not parts or not self.watching else _copy(item)

    def let_go(self) -> None:
        """Nothing comes for a while: hold no item. Those that come next are the first again."""
        self._looked = 0
        self._held.clear()
        self._contents.clear()

    def _compare(self, twice: list[Any]) -> None:
        self._compared += 1
        held = {id(part) for parts in self._held for part in parts}
        # The number of one that is gone may be another's by now.
        self._contents = {key: data for key, data in self._contents.items() if key in held}
        for part in twice:
            data = _pickle(part)
            before = self._contents.get(id(part))
            if before is not None and data is not None and before != data:
                self._found = True
                return
            self._contents[id(part)] = data
            self._bytes += len(data or b"")
        enough = self._compared >= COMPARISONS or self._bytes > COMPARED_BYTES
        self.watching = not (enough and self._compared > LEAST_COMPARISONS)


def shows(refilled: RefilledItems, values: list[Any]) -> bool:
    """Have the last of the values that are not pickled yet looked at; whether others have to be, and pickled alone."""
    if values:
        try:
            refilled.see(values[-1], alone=True)
        except BaseException:  # a pickle that raises what it will: told when the value is pickled for good
            return True
    return refilled.needed


def as_pulled(items: Iterable[Any]) -> Iterator[Any]:
    """The items of an input that are not pickled as they are pulled: copies, as long as it may fill them anew."""
    __tracebackhide__ = True  # whatever an input raises is the program's affair
    source = iter(items)
    return source if type(source) in IN_MEMORY else _as_pulled(source)


def _as_pulled(source: Iterator[Any]) -> Iterator[Any]:
    __tracebackhide__ = True
    refilled = RefilledItems()
    for item in source:
        yield refilled.see(item, alone=False)
        if not refilled.needed:
            break
    yield from source


def _is_constant(value: Any) -> bool:
    # What is ours is shared, or a reference: it is named, not copied.
    return type(value) in _CONSTANT or type(value).__module__.startswith("allcores.")


def _members(item: Any) -> list[Any]:
    """What a tuple, a list or a dict holds, not further down."""
    kind = type(item)
    if kind is tuple or kind is list:
        return item[:MOST_PARTS]  # type: ignore[no-any-return]
    return list(islice(item.values(), MOST_PARTS)) if kind is dict else []


def _parts(item: Any) -> list[Any]:
    """What of an item might be filled anew: itself, and what it holds."""
    own = [] if type(item) is tuple else [item]
    return [part for part in (*own, *_members(item)) if not _is_constant(part)]


class _Counted:
    """A file that takes so many bytes, and keeps none."""

    def __init__(self) -> None:
        self._left = MOST_COPIED

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._left -= size
        if self._left < 0:
            raise OverflowError
        return size


def _is_small(item: Any) -> bool:
    """Whether its pickle is no larger than MOST_COPIED, as far as it has one."""
    try:
        pickle.Pickler(_Counted(), pickling.PROTOCOL).dump(item)
    except OverflowError:
        return False
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if deferral.raised_by_handler(error):
            raise
    return True


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


def _copy(item: Any) -> Any:
    """A copy of all that could be filled anew; the item itself if there is none to be had."""
    from copy import deepcopy  # seldom needed

    try:
        return deepcopy(item, {id(part): part for part in _members(item) if _is_constant(part)})
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if deferral.raised_by_handler(error):
            raise
        return item
