"""Notices a function of a program that fills or counts in a global: here it does so in a copy, for nobody.

    totals = []
    def work(item):
        totals.append(item * 2)         # of this process
    allcores.map(work, items)           # totals of the program stays empty

Functions of the script, and of modules of the program's own: not of the standard library or of what is installed.
Looked at after the first chunks of a function in a worker, and after some of the later ones: lists, sets, dicts, deques
and numbers that its code names, or that its closure holds, are compared by identity with what they were. What a setup
function has bound is this process's by intention, and in an imported module all of the module that setup or teardown is
of. So is a cache: a plain dict that only grows while the function returns values, and whatever has "cache" or "memo" in
its name. Of a bytearray and of arrays (of `array`, and NumPy's in memory of this process alone) the bytes are compared,
at both ends of large ones, and only while the function returns nothing: else it may compute in them.

So is what a partial hands to the function with each item: `map(work, items, found=[])` fills a list of this process.
And attributes of classes and objects of the program's that code names itself (`Stats.count += 1`), and of the object
of a method. What their methods do is their own affair: they may work with attributes, and not leave anything there. So
attributes count only once they have risen, or have more of the same in them, after several chunks in a row, and if
nothing sets or clears them. Nothing that was in them is held meanwhile.

And generators of random numbers that come with a function: each worker draws the same numbers from its copy. A function
that seeds, or sets the state, does so on purpose.
"""

from __future__ import annotations

import pickle
import zlib
from collections import deque
from functools import partial
from itertools import islice
from types import CodeType, MethodType

from allcores.worker.reachable import (
    Walk,
    bound_arguments,
    is_a,
    is_array,
    is_generator,
    is_own,
    method_of,
    methods_of,
    plain_function,
    sets_attribute,
    value_at,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: of larger containers the first so many elements are compared, and the length
MOST_COMPARED = 1_000
#: of the bytes of an array so many at its beginning and at its end
MOST_BYTES = 32 << 10
#: attributes are told of once they have risen, or grown, after so many chunks in a row
RISES = 4
#: names of what makes a generator's numbers its own
_SEEDS = frozenset({"seed", "setstate", "set_state", "bit_generator", "spawn", "jumped", "advance"})


class Watch:
    """What a function could change, as it was.

    Args:
        name: The function's.
        held: Names and places of globals, and of what a closure holds.
        attributes: Of attributes.
        generators: Of generators of random numbers.
        codes: Gives those of the functions that may set these.
    """

    def __init__(
        self,
        name: str,
        held: list[tuple[str, Any]],
        attributes: list[tuple[str, Any]],
        generators: list[tuple[str, Any]],
        codes: Callable[[], list[CodeType]],
    ) -> None:
        self.name = name
        self._held = [(each, where, _state(where)) for each, where in held]
        self._attributes = [Rising(each, where) for each, where in attributes]
        self._generators = [(each, where, _state(where)) for each, where in generators]
        self._codes = codes

    def changed(self, *, returned: bool) -> list[str]:
        """Names of what is not as it was.

        Args:
            returned: The function gave back values other than None.
        """
        found = []
        for name, where, before in self._held:
            after = _state(where)
            if type(before[0]) is not type(after[0]) or not _differs(before, after):
                continue
            if returned and (is_array(after[0]) or (type(after[0]) is dict and _has_only_grown(before, after))):
                continue
            found.append(name)
        return found + [each.name for each in self._attributes if each.look(self._codes)]

    def drawn(self) -> list[str]:
        """Names of generators of random numbers that were drawn from."""
        return [name for name, where, before in self._generators if _state(where)[1:] != before[1:]]


class Rising:
    """An attribute that may be a count of calls, or a collection of what they found."""

    def __init__(self, name: str, where: Any) -> None:
        self.name = name
        self._where = where
        self._last = _contents(where)
        self._times = 0
        #: whether code sets it to anything, or clears it; None: nobody has looked
        self._is_set: bool | None = None

    def look(self, codes: Callable[[], list[CodeType]]) -> bool:
        """Whether it has risen again, and often enough."""
        last, self._last = self._last, _contents(self._where)
        self._times = self._times + 1 if _has_risen(last, self._last) else 0
        if self._times < RISES:
            return False
        if self._is_set is None:
            self._is_set = any(sets_attribute(code, self._where[1]) for code in codes())
        return not self._is_set


def _contents(where: Any) -> tuple[Any, ...]:
    """Kind, who it is, how much is in it, and who that is; of a number: kind and value.

    By numbers of objects: the objects themselves may go meanwhile.
    """
    value, length, parts = _state(where)
    if type(value) in (int, float):
        return type(value), value
    if type(value) is set:
        return type(value), id(value), length, frozenset(map(id, parts))
    return type(value), id(value), length, tuple(map(id, parts))


def _has_risen(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """Whether it is the same with more in it, or a number that is larger."""
    kind = after[0]
    if before[0] is not kind:
        return False
    if kind in (int, float):
        return bool(before[1] < after[1])
    if kind not in (list, deque, set) or before[1] != after[1] or before[2] >= after[2]:
        return False
    if kind is set:
        return bool(before[3] <= after[3]) and before[2] <= MOST_COMPARED
    return bool(before[3] == after[3][: len(before[3])])


def watch(function: Any, left_alone: frozenset[str] = frozenset()) -> Watch | None:
    """What is to be watched of a function that a worker has got; None if there is nothing.

    Args:
        function: As it is called.
        left_alone: Imported modules in which it may change what it likes.
    """
    first = plain_function(function)
    if first is None or not is_own(first.__globals__, left_alone):
        return None
    walk = Walk(left_alone)
    walk.through(first)
    method = method_of(function)
    if method is not None:
        walk.of_object(method)
    bound = bound_arguments(function)
    if bound is not None:
        walk.of_arguments(*bound)
    held, attributes = list(walk.globals.values()), list(walk.attributes.values())
    generators = list(walk.generators.values())
    if any(_SEEDS & {*code.co_names} for code in walk.codes()):
        generators.clear()
    if not held and not attributes and not generators:
        return None
    return Watch(first.__qualname__, held, attributes, generators, partial(_codes, walk, method))


def _codes(walk: Walk, method: MethodType | None) -> list[CodeType]:
    """Of the functions that may set attributes."""
    return walk.codes() + (methods_of(method.__self__) if method is not None else [])


def _state(where: Any) -> tuple[Any, int, list[Any]]:
    """What stands there: the object, how much is in it, and what; by methods of built-in types alone."""
    value = value_at(where)
    if is_a(value, dict):
        parts: list[Any] = []
        for key, part in dict.items(value):
            parts += (key, part)
            if len(parts) >= MOST_COMPARED:
                break
        return value, dict.__len__(value), parts
    if is_a(value, set):
        return value, set.__len__(value), list(set.copy(value)) if set.__len__(value) <= MOST_COMPARED else []
    if is_a(value, list):
        return value, list.__len__(value), list.__getitem__(value, slice(MOST_COMPARED))
    if is_a(value, deque):
        return value, deque.__len__(value), list(islice(deque.__iter__(value), MOST_COMPARED))
    if is_array(value):
        try:
            data = memoryview(value).cast("B")
        except (TypeError, ValueError):  # nothing in it, or numbers that a buffer does not describe
            return value, 0, []
        return value, len(data), [zlib.crc32(data[:MOST_BYTES]), zlib.crc32(data[-MOST_BYTES:])]
    if is_generator(value):
        return value, 0, [zlib.crc32(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))]
    return value, 0, []


def _differs(before: tuple[Any, int, list[Any]], after: tuple[Any, int, list[Any]]) -> bool:
    if type(after[0]) in (int, float):
        # The very same may be NaN, which equals nothing.
        return before[0] is not after[0] and bool(before[0] != after[0])
    if is_array(after[0]):
        return before[1:] != after[1:]
    if before[1] != after[1] or len(before[2]) != len(after[2]):
        return True
    if isinstance(after[0], set):
        return {id(part) for part in before[2]} != {id(part) for part in after[2]}
    return any(old is not new for old, new in zip(before[2], after[2], strict=True))


def _has_only_grown(before: tuple[Any, int, list[Any]], after: tuple[Any, int, list[Any]]) -> bool:
    return before[1] < after[1] and all(old is new for old, new in zip(before[2], after[2], strict=False))
