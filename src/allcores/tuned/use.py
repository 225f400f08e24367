"""What a pool is given by `tuned=`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from allcores.errors import UsageError
from allcores.tuned.facts import facts_of
from allcores.tuned.files import Kept, Place
from allcores.tuned.holds import differences


def kept_for(function: Callable[..., Any], spec: str | None = None) -> Kept:
    """What was found for a function on this machine.

    Args:
        function: That was tuned.
        spec: What it is called at the command line; None: as its module and name say.

    Raises:
        UsageError: Nothing was, it does not hold any more, or it cannot be trusted.
    """
    if not callable(function):
        raise UsageError(f"tuned={function!r} must be the function that was tuned")
    place = Place(function)
    now = facts_of(function)
    kept = place.read()
    named = spec or f"MODULE:{now.function.rpartition('.')[2]}"
    again = f"allcores tune {named} INPUT, or allcores.tune(function, items)"
    if kept is None:
        raise UsageError(f"{now.function} was not tuned on this machine ({place.folder} has nothing of it): {again}")
    changed = differences(kept.facts, now)
    if changed:
        raise UsageError(
            f"what was tuned for {now.function} does not hold any more: {'; '.join(changed)}. Tune again: {again}"
        )
    return kept


def is_of(tuned: Any, function: Any) -> bool:
    """Whether a map's function is the one that was tuned, perhaps with constants bound to it."""
    while True:
        if function is tuned or _equal(function, tuned):
            return True
        if not isinstance(function, partial):
            return False
        if isinstance(tuned, partial) and function.func == tuned.func:
            # Python makes one partial of two
            first = function.args[: len(tuned.args)]
            named = {**function.keywords, **tuned.keywords}
            return _equal(first, tuned.args) and _equal(named, function.keywords)
        function = function.func


def _equal(one: Any, other: Any) -> bool:
    """Whether they are equal; of what cannot tell, as arrays cannot in one word, it is not known."""
    try:
        return bool(one == other)
    except Exception:
        return False
