"""What it takes to bring items to a worker and results back, before any worker is there: bytes, seconds, problems."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import Any

from allcores.transport import pickling

#: seconds of pickling, at most
MOST_S = 0.2


@dataclass(slots=True)
class Pickled:
    """Of some items, each.

    Attributes:
        size: Bytes.
        dumps_s: Processor seconds, which others' work does not change.
        loads_s: The same.
        problem: Why one of them cannot be pickled; None.
    """

    size: float = 0.0
    dumps_s: float = 0.0
    loads_s: float = 0.0
    problem: str | None = None


def pickled(items: Sequence[tuple[int, Any]], name: str = "item") -> Pickled:
    """Pickle some items as they travel, several together: as many as there is time for."""
    until = perf_counter() + MOST_S
    pickling.dumps(None)  # what it loads is not the items'
    size, dumping, loading = 0, 0.0, 0.0
    done = 0
    while done < len(items) and (not done or perf_counter() < until):
        # one first: it may be large
        part = items[done : done + max(1, done)]
        values = [item for _, item in part]
        start = thread_time()
        try:
            data = pickling.dumps(values)
        except Exception as error:
            return Pickled(problem=_at_fault(part, name, error))
        middle = thread_time()
        try:
            pickle.loads(data)
        except Exception as error:
            return Pickled(problem=f"{name} {part[0][0]} cannot be unpickled: {type(error).__name__}: {error}")
        end = thread_time()
        if done:
            dumping += middle - start
            loading += end - middle
        else:
            first = middle - start, end - middle
        size += len(data)
        done += len(part)
    if done == 1:
        return Pickled(float(size), *first)
    return Pickled(size / max(1, done), dumping / max(1, done - 1), loading / max(1, done - 1))


def _at_fault(part: Sequence[tuple[int, Any]], name: str, error: Exception) -> str:
    """Which of some items cannot be pickled, and why."""
    for index, item in part:
        try:
            pickling.dumps(item)
        except Exception as own:
            return str(pickling.explain_with_path(item, f"{name} {index}", own))
    return str(error)


def problem_of(fn: Callable[..., Any]) -> str | None:
    """Why a function cannot travel; None if it can."""
    try:
        pickling.dumps(fn)
    except Exception as error:
        return str(pickling.explain_with_path(fn, "the function", error))
    return None


def common_object(items: Sequence[Any]) -> Any:
    """An object that is a part of every item, and the largest of those; None if there is none.

    Looked at are items that are tuples, lists or dicts, one level deep.
    """
    if len(items) < 2:
        return None
    first = {id(part): part for part in _parts(items[0])}
    for item in items[1:]:
        here = {id(part) for part in _parts(item)}
        first = {number: part for number, part in first.items() if number in here}
        if not first:
            return None
    sized = [(size_of(part), number) for number, part in first.items()]
    largest = max(sized, default=(0, 0))
    return first[largest[1]] if largest[0] > 0 else None


def place_of(item: Any, part: Any) -> str:
    """How an expression gets at a part of an item: "[1]", "['text']"; nothing if it is not in there."""
    places = item.items() if type(item) is dict else enumerate(item)
    return next((f"[{place!r}]" for place, each in places if each is part), "")


def replaced(item: Any, old: Any, new: Any) -> Any:
    """The item with one of its parts replaced."""
    if isinstance(item, tuple) and type(item) is tuple:
        return tuple(new if part is old else part for part in item)
    if isinstance(item, list):
        return [new if part is old else part for part in item]
    if isinstance(item, dict):
        return {key: new if part is old else part for key, part in item.items()}
    return item


def size_of(part: Any) -> int:
    """Bytes of a pickled object; 0 for numbers and short texts, which cost nothing, and for what cannot be pickled."""
    if part is None or isinstance(part, int | float | bool | complex) or (isinstance(part, str) and len(part) < 4096):
        return 0
    size = getattr(part, "nbytes", None)
    if isinstance(size, int):
        return size
    try:
        return len(pickle.dumps(part, 5))
    except Exception:
        return 0


def _parts(item: Any) -> Sequence[Any]:
    if type(item) in (tuple, list):
        return list(item)
    return list(item.values()) if type(item) is dict else ()
