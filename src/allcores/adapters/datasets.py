"""`Dataset.map` of Hugging Face datasets on all cores: result, types and place in the cache are the library's own.

    from allcores.adapters import datasets as allcores_datasets
    tokens = allcores_datasets.map_dataset(dataset, tokenize)

The library maps a function that returns what workers have found, so that it alone decides what the rows become. It is
called for rows that are in no cache only, and its fingerprint is that of the caller's function: the number of workers
makes no difference to anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import datasets

from allcores.adapters.frame_parts import Part, PartCall
from allcores.errors import UsageError, WorkerLost
from allcores.frames import groups
from allcores.system.tracebacks import hiding
from allcores.transport.exceptions import add_note

if TYPE_CHECKING:
    from allcores.pool.pool import Pool

__all__ = ["map_dataset"]

#: Rows that travel together, at most; those of a part whose worker died are tried again one by one.
MOST_ROWS = 64


@hiding
def map_dataset(
    dataset: Any,
    function: Callable[..., Any],
    *,
    with_indices: bool = False,
    batched: bool = False,
    batch_size: int = 1000,
    drop_last_batch: bool = False,
    input_columns: Any = None,
    fn_kwargs: dict[str, Any] | None = None,
    pool: Pool | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> Any:
    """What `dataset.map(function, ...)` returns, with the function called in workers.

    A row that ends its worker is found by trying the rows around it again, one by one: the function should have no
    effect but its result. Safe from any thread.

    Args:
        dataset: A `datasets.Dataset`.
        function: As the library documents it for `map`.
        with_indices: It also gets the row's number, or those of a batch.
        batched: It gets batches.
        batch_size: Rows of a batch.
        drop_last_batch: Leave out a last batch that is smaller.
        input_columns: It gets the values of these columns.
        fn_kwargs: Keyword arguments for it.
        pool: The pool that does it; None for the one behind `allcores.map`.
        workers: Without `pool`, so many.
        timeout: Seconds that a part, of 64 rows at most or a batch, may take.
        **options: Others of `Dataset.map`, such as `remove_columns`, `features`, `load_from_cache_file`.

    Returns:
        A `datasets.Dataset`.

    Raises:
        UsageError: For another kind of dataset, and options of several processes (`num_proc`, `with_rank`).
        WorkerLost: A row, which the message names, ended its process.
        Exception: What the function raised, with the row's number in a note.
    """
    if not isinstance(dataset, datasets.Dataset):
        hint = "; map each of its splits" if isinstance(dataset, datasets.DatasetDict) else ""
        raise UsageError(f"map_dataset takes a datasets.Dataset, and this is a {type(dataset).__qualname__}{hint}.")
    for name in ("num_proc", "with_rank", "suffix_template"):
        if name in options:
            raise UsageError(
                f"map_dataset has no {name}=: the pool has its workers, and results do not depend on them."
            )
    if not callable(function):
        raise UsageError(f"{function!r} cannot be called; the second argument is the function.")
    shape = {"with_indices": with_indices, "batched": batched, "input_columns": input_columns, "fn_kwargs": fn_kwargs}
    work = MapWork(function, shape, batch_size)
    count = len(dataset)
    if not batched:
        size = MOST_ROWS
    elif batch_size is None or batch_size <= 0:
        size = max(count, 1)
    else:
        size = batch_size
    if batched and drop_last_batch:
        count -= count % size
    with groups.pool_for(pool, workers) as place:
        if not batched:
            size = max(1, min(size, count // (place.workers * 8)))
        items = [Part(start, min(start + size, count), "rows") for start in range(0, count, size)]
        found = _Found(function, lambda: _results(place, dataset, work, items, timeout))
        try:
            return dataset.map(
                found,
                with_indices=with_indices,
                batched=batched,
                batch_size=batch_size,
                drop_last_batch=drop_last_batch,
                input_columns=input_columns,
                fn_kwargs=fn_kwargs,
                **options,
            )
        finally:
            found.close()


def _results(place: Pool, dataset: Any, work: MapWork, items: list[Part], timeout: float | None) -> Iterator[Any]:
    call = PartCall(dataset, work, work.function)
    with place.outcomes(call, items, timeout=timeout, ordered=True) as outcomes:
        for outcome in outcomes:
            part = items[outcome.index]
            if isinstance(outcome.error, WorkerLost) and not work.batched and part.stop - part.start > 1:
                for row in range(part.start, part.stop):
                    [values] = place.map(call, [Part(row, row + 1, "rows")], timeout=timeout)
                    yield from values
            else:
                yield from outcome.result()


class _Found:
    """Stands for the caller's function where the library calls it, and looks like it in its cache."""

    def __init__(self, function: Callable[..., Any], results: Callable[[], Iterator[Any]]) -> None:
        self._function = function
        self._begin = results
        self._results: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        # What the library's hash sees.
        return _same, (self._function,)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if self._results is None:
            self._results = self._begin()
        value = next(self._results)
        return value.put(arguments[0]) if isinstance(value, _Changed) else value

    def close(self) -> None:
        """Leave what is not read."""
        if self._results is not None:
            self._results.close()


def _same(function: Any) -> Any:
    return function


class _Changed:
    """What a function did to the row or batch that it returned.

    Args:
        values: Of columns that it has looked at or set.
        columns: That there are now.
    """

    def __init__(self, values: dict[str, Any], columns: list[str]) -> None:
        self._values = values
        self._columns = columns

    def put(self, row: Any) -> Any:
        """The same, done to the same row here."""
        for name in [name for name in row if name not in self._columns]:
            del row[name]
        for name, value in self._values.items():
            row[name] = value
        return row


class MapWork:
    """Has the library call the function in a worker, on some rows.

    Args:
        function: The caller's.
        shape: How it is called.
        batch_size: Rows of a batch.
    """

    def __init__(self, function: Callable[..., Any], shape: dict[str, Any], batch_size: int) -> None:
        self.function = function
        self.batched: bool = shape["batched"]
        self._shape = shape
        self._batch_size = batch_size

    def __call__(self, dataset: Any, part: Part) -> list[Any]:
        """What it returned for each row or batch of a part."""
        found: list[Any] = []

        def call(*arguments: Any, **keywords: Any) -> None:
            if self._shape["with_indices"]:
                *before, index = arguments
                moved = [each + part.start for each in index] if self.batched else index + part.start
                arguments = (*before, moved)
            try:
                value = self.function(*arguments, **keywords)
            except Exception as error:
                where = repr(part) if self.batched else f"row {part.start + len(found)}"
                add_note(error, f"allcores: it was {where} of the dataset")
                raise
            found.append(_plain(value))

        rows = dataset.select(range(part.start, part.stop))
        had_bars = datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        try:
            rows.map(call, **self._shape, batch_size=self._batch_size, new_fingerprint="0", load_from_cache_file=False)
        finally:
            if not had_bars:
                datasets.enable_progress_bars()
        return found


def _plain(value: Any) -> Any:
    """A row or batch that is the library's own, as it travels: it has parts that are not read yet."""
    waiting = getattr(value, "keys_to_format", None)
    if waiting is None or not hasattr(value, "data"):
        return value
    return _Changed({name: each for name, each in value.data.items() if name not in waiting}, list(value))
