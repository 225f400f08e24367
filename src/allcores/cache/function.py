"""A function that looks into a cache before it computes.

It is wrapped in the program, and looks where it runs: in the workers. So results are found in parallel, and order,
deadlines, retries and crashes are what they are without a cache.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from allcores.cache import values
from allcores.cache.keys import NoKey, forget_classes, function_key, item_key
from allcores.cache.kinds import know_script, script_name
from allcores.cache.options import Cache
from allcores.cache.store import Store
from allcores.system import deferral
from allcores.system.async_functions import check_function
from allcores.transport.batches import results_of
from allcores.transport.references import Reference
from allcores.transport.refilled_items import RefilledItems

if TYPE_CHECKING:
    from collections.abc import Callable

    from allcores.cache.options import CacheLike

_MISSING = object()


def cached(
    function: Callable[..., Any], style: str, cache: CacheLike | None, *, batches: bool
) -> tuple[Callable[..., Any], str]:
    """What is to run in the place of a function, and how it is called.

    Args:
        function: The caller's.
        style: How it is called: "one" for fn(item), "star" for fn(*item).
        cache: As it was given.
        batches: It gets lists of items.

    Raises:
        UsageError: The cache cannot be trusted, or something bound to the function has no key.
    """
    opened = Cache.of(cache)
    if opened is None:
        return function, style
    check_function(function)
    key = function_key(function, style, batches, opened.version)
    if not opened.is_ready():
        return function, style
    name = opened.name_of(function)
    return CachedFunction(function, key, opened, name, star=style == "star", batches=batches), "one"


class CachedFunction:
    """A function whose results are kept.

    Called with what a worker has loaded, if anything, and then the item; or a list of items, with `batches`.

    Args:
        function: The caller's.
        key: Its key.
        cache: Where results are kept.
        name: What the function is called in its statistics.
        star: The function is called with each item's parts.
        batches: The function gets a list of items; only those that were not found.
    """

    def __init__(
        self, function: Callable[..., Any], key: bytes, cache: Cache, name: str, *, star: bool, batches: bool
    ) -> None:
        self._begin((function, key, cache, name, star, batches, script_name()))

    def _begin(self, arguments: tuple[Callable[..., Any], bytes, Cache, str, bool, bool, str]) -> None:
        # Of items. A worker takes this function in once for each map, and its classes are the program's as of now.
        forget_classes()
        self._arguments = arguments
        self._function, self._key, cache, name, self._star, self._batches, script = arguments
        # A worker has no script of its own.
        know_script(script)
        self.__qualname__ = getattr(self._function, "__qualname__", type(self._function).__name__)
        self._store = Store(cache.folder, self._key, name, cache.max_bytes)
        # The file is closed once no process needs this function any more: a worker forgets it after its last chunk.
        weakref.finalize(self, self._store.close).atexit = False

    def __getstate__(self) -> Any:
        return self._arguments

    def __setstate__(self, arguments: Any) -> None:
        self._begin(arguments)

    def __repr__(self) -> str:
        return repr(self._function)

    def __call__(self, *args: Any) -> Any:
        """The result, or those of a batch: what was kept, else what the function returns."""
        state, item = args[:-1], args[-1]
        if self._batches:
            return self._batch(state, item)
        if self._star:
            item = _loaded(item)
        key, value = self._find(item)
        if value is _MISSING:
            value = self._function(*state, *item) if self._star else self._function(*state, item)
            self._keep(key, value)
        return value

    def _batch(self, state: tuple[Any, ...], items: list[Any]) -> list[Any]:
        if self._star:
            items = list(map(_loaded, items))
        found = list(map(self._find, items))
        missing = [place for place, (_, value) in enumerate(found) if value is _MISSING]
        results = [value for _, value in found]
        if missing:
            batch = [items[place] for place in missing]
            arguments = map(list, zip(*batch, strict=True)) if self._star else (batch,)
            made = results_of(self._function(*state, *arguments), len(batch), self.__qualname__, within=RefilledItems())
            for place, value in zip(missing, made, strict=True):
                self._keep(found[place][0], value)
                results[place] = value
        return results

    def _find(self, item: Any) -> tuple[bytes | None, Any]:
        """The key of an item, and the result if it is there."""
        try:
            key = item_key(self._key, item)
        except NoKey:
            self._store.count(0, 1)
            return None, _MISSING
        data = self._store.get(key)
        if data is None:
            return key, _MISSING
        try:
            return key, values.load(data)
        except Exception as error:
            if deferral.raised_by_handler(error):
                raise
            # What it is made of is not there, or has changed: it is computed, and kept as it is now.
            self._store.count(-1, 1)
            return key, _MISSING

    def _keep(self, key: bytes | None, value: Any) -> None:
        if key is None:
            return
        try:
            data = values.dump(value)
        except Exception as error:
            if deferral.raised_by_handler(error):
                raise
            return  # it cannot be pickled, of which the pool has more to say
        self._store.put(key, data)


def _loaded(item: Any) -> tuple[Any, ...]:
    """An item's parts, data in the place of references."""
    return tuple(part.load() if isinstance(part, Reference) else part for part in item)
