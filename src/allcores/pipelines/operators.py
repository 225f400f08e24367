"""In-line operators: steps that see all records in order, and run in the program, not in workers.

Each is its namesake in itertools, written so that it can be stopped between any two records: what it holds is its
state, which can be saved and set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from allcores.errors import UsageError
from allcores.formatting import kind_text
from allcores.pipelines.copies import copied


class Operator:
    """Base of them. Records in, records out; marks are passed by whoever drives it."""

    #: `state` gives what was added since it was asked last, and `restore` wants all of these
    grows = False
    #: it has seen all that it wants
    ended = False
    #: `state` will be asked for
    saved = False
    #: so many records make one, about
    per_record = 1

    @property
    def waiting(self) -> int:
        """How many records it has of the next one that comes out, where `per_record` make one."""
        return 0

    @property
    def wanted(self) -> int | None:
        """How many records it takes at most until it has `ended`; None: any number."""
        return None

    def feed(self, value: Any) -> Iterable[Any]:
        """Take one record; the records that follow from it."""
        raise NotImplementedError

    def feed_all(self, values: list[Any]) -> list[Any]:
        """Take several records."""
        out: list[Any] = []
        feed = self.feed
        for value in values:
            out.extend(feed(value))
            if self.ended:
                break
        return out

    def finish(self) -> Iterable[Any]:
        """No record will follow: what is left."""
        return ()

    def state(self) -> Any:
        """What it holds, to be pickled; None: nothing that matters."""
        return None

    def restore(self, states: list[Any]) -> None:
        """Hold what an earlier one held.

        Args:
            states: What `state` gave; all that it ever gave, in order, if it `grows`; else the last one.
        """
        raise NotImplementedError


class Batch(Operator):
    """Lists of records: itertools.batched, also by weight.

    Args:
        size: Of records, or of their weights together, at most; a record that weighs more is alone.
        weigh: Gives the weight of a record; None: each weighs one.
    """

    def __init__(self, size: float, weigh: Callable[[Any], float] | None = None) -> None:
        self._size = size
        self._weigh = weigh
        self._held: list[Any] = []
        self._weight: float = 0
        self.per_record = int(size) if weigh is None else 1

    @property
    def plain(self) -> bool:
        """No code of the program's runs in it."""
        return self._weigh is None

    @property
    def waiting(self) -> int:
        """See Operator."""
        return len(self._held) if self._weigh is None else 0

    def feed(self, value: Any) -> Iterable[Any]:
        """See Operator."""
        if self._weigh is None:
            self._held.append(value)
            return (self._taken(),) if len(self._held) >= self._size else ()
        weight = self._weigh(value)
        try:
            is_weight = weight >= 0  # neither with NaN nor with negative ones a batch would come to its end
        except TypeError:
            is_weight = False
        if not is_weight:
            raise UsageError(f"batch(by=...): a record weighs {weight!r}; a weight is a number, 0 or more.")
        if self._held and self._weight + weight > self._size:
            full = self._taken()
            self._held.append(value)
            self._weight = weight
            return (full,)
        self._held.append(value)
        self._weight += weight
        return ()

    def feed_all(self, values: list[Any]) -> list[Any]:
        """See Operator: by slices where records have no weight."""
        if self._weigh is not None:
            return super().feed_all(values)
        size = int(self._size)
        held = self._held
        held += values
        count = len(held) // size * size
        batches: list[Any] = [held[start : start + size] for start in range(0, count, size)]
        self._held = held[count:]
        return batches

    def _taken(self) -> list[Any]:
        taken, self._held, self._weight = self._held, [], 0
        return taken

    def finish(self) -> Iterable[Any]:
        """See Operator."""
        return (self._taken(),) if self._held else ()

    def state(self) -> Any:
        """See Operator."""
        return self._held, self._weight

    def restore(self, states: list[Any]) -> None:
        """See Operator."""
        self._held, self._weight = list(states[-1][0]), states[-1][1]


def bytes_of(value: Any) -> int:
    """The weight of a text, bytes or array in bytes.

    Raises:
        UsageError: It is nothing of the kind.
    """
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return memoryview(value).nbytes
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    raise UsageError(
        f"batch(by='bytes') weighs texts, bytes and arrays, and here is {kind_text(value)}: give a function, "
        "by=len for one."
    )


class Unbatch(Operator):
    """The records of each record: itertools.chain.from_iterable."""

    def feed(self, value: Any) -> Iterable[Any]:
        """See Operator."""
        return value  # type: ignore[no-any-return]


#: the one NaN among keys
_NAN = float("nan")


def known(key: Any) -> Any:
    """A key by which it is known again. NaN equals itself only as the same object, which records lose on their way.

    Args:
        key: Of any kind; in a tuple it is looked for, too.
    """
    if isinstance(key, float):
        return key if key == key else _NAN
    if type(key) is tuple:
        return tuple(map(known, key))
    return key


class GroupBy(Operator):
    """(key, list of neighbours with that key): itertools.groupby.

    Args:
        key: Gives the key of a record.
        limit: Records in a group at most: a longer one comes in several.
    """

    def __init__(self, key: Callable[[Any], Any], limit: int | None) -> None:
        self._key = key
        self._limit = limit
        self._held: list[Any] = []
        self._current: Any = None

    def feed(self, value: Any) -> Iterable[Any]:
        """See Operator."""
        key = known(self._key(value))
        held = self._held
        if held and ((key is not self._current and key != self._current) or len(held) == self._limit):
            group = self._current, held
            self._current, self._held = key, [value]
            return (group,)
        if not held:
            self._current = key
        held.append(value)
        return ()

    def finish(self) -> Iterable[Any]:
        """See Operator."""
        if not self._held:
            return ()
        group = self._current, self._held
        self._held = []
        return (group,)

    def state(self) -> Any:
        """See Operator."""
        return self._current, self._held

    def restore(self, states: list[Any]) -> None:
        """See Operator."""
        self._current, self._held = known(states[-1][0]), list(states[-1][1])


class Window(Operator):
    """Tuples of n neighbours, each `step` records behind the one before; an input of fewer than n has none."""

    def __init__(self, n: int, step: int) -> None:
        self._n = n
        self._step = step
        self._held: deque[Any] = deque(maxlen=n)
        #: records until the next window is complete
        self._missing = n

    def feed(self, value: Any) -> Iterable[Any]:
        """See Operator."""
        self._held.append(value)
        self._missing -= 1
        if self._missing:
            return ()
        self._missing = self._step
        return (tuple(self._held),)

    def state(self) -> Any:
        """See Operator."""
        return list(self._held), self._missing

    def restore(self, states: list[Any]) -> None:
        """See Operator."""
        self._held = deque(states[-1][0], maxlen=self._n)
        self._missing = states[-1][1]


class Enumerate(Operator):
    """(number, record): enumerate."""

    def __init__(self, start: int) -> None:
        self._next = start

    def feed(self, value: Any) -> Iterable[Any]:
        """See Operator."""
        number = self._next
        self._next += 1
        return ((number, value),)

    def feed_all(self, values: list[Any]) -> list[Any]:
        """See Operator."""
        numbered = list(enumerate(values, self._next))
        self._next += len(values)
        return numbered

    def state(self) -> Any:
        """See Operator."""
        return self._next

    def restore(self, states: list[Any]) -> None:
        """See Operator."""
        self._next = states[-1]


class Islice(Operator):
    """Some records by their places: itertools.islice. Behind the last of them nothing more is pulled."""

    def __init__(self, start: int, stop: int | None, step: int) -> None:
        self._start = start
        self._stop = stop
        self._step = step
        self._place = 0
        self.ended = self._none_left()

    def _none_left(self) -> bool:
        if self._stop is None:
            return False
        behind = max(0, self._place - self._start)
        following = self._start + -(-behind // self._step) * self._step
        return max(following, self._start) >= self._stop

    @property
    def wanted(self) -> int | None:
        """See Operator."""
        if self._stop is None:
            return None
        last = self._start + (self._stop - 1 - self._start) // self._step * self._step
        return max(0, last + 1 - self._place)

    def feed(self, value: Any) -> Iterable[Any]:
        """See Operator."""
        if self.ended:
            return ()
        wanted = self._place >= self._start and (self._place - self._start) % self._step == 0
        self._place += 1
        self.ended = self._none_left()
        return (value,) if wanted else ()

    def state(self) -> Any:
        """See Operator."""
        return self._place

    def restore(self, states: list[Any]) -> None:
        """See Operator."""
        self._place = states[-1]
        self.ended = self._none_left()


class Scan(Operator):
    """The states of a fold, one for each record: itertools.accumulate without the initial one.

    A fold may change its state and return it, and several records are folded before the first of their states is
    looked at. So what comes out is a copy of the state as it was, unless it is of a kind that cannot be copied.
    """

    def __init__(self, function: Callable[[Any, Any], Any], initial: Any) -> None:
        self._function = function
        self._value = initial

    def feed(self, value: Any) -> Iterable[Any]:
        """See Operator."""
        self._value = state = self._function(self._value, value)
        return (copied(state),)

    def state(self) -> Any:
        """See Operator."""
        return self._value

    def restore(self, states: list[Any]) -> None:
        """See Operator."""
        self._value = states[-1]


class Distinct(Operator):
    """Each record, or each key, the first time it comes. It remembers all keys: memory grows with them."""

    grows = True

    def __init__(self, key: Callable[[Any], Any] | None) -> None:
        self._key = key
        self._seen: set[Any] = set()
        #: since the last `state`
        self._added: list[Any] = []

    def feed(self, value: Any) -> Iterable[Any]:
        """See Operator."""
        key = known(value if self._key is None else self._key(value))
        if key in self._seen:
            return ()
        self._seen.add(key)
        if self.saved:
            self._added.append(key)
        return (value,)

    def state(self) -> Any:
        """See Operator."""
        added, self._added = self._added, []
        return added

    def restore(self, states: list[Any]) -> None:
        """See Operator."""
        self._seen = {known(key) for added in states for key in added}
        self._added = []
