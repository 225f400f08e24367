"""What a worker has already that is forked from the program: it is named to it by a number, and not pickled.

So multiprocessing hands an initializer and its arguments to processes that it forks: locks of threads, open files and
large tables may be among them.
"""

from __future__ import annotations

import itertools
from weakref import WeakValueDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: what was named, as long as it is there
_named: WeakValueDictionary[int, Any] = WeakValueDictionary()
_numbers = itertools.count(1)


def number_of(obj: object) -> int:
    """By which `had` finds an object in processes that are forked from this one from now on, and in no other."""
    number = next(_numbers)
    _named[number] = obj
    return number


def had(number: int) -> Any:
    """In such a process: the object, as it was at the fork."""
    return _named[number]
