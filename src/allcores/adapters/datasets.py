"""`Dataset.map` of Hugging Face datasets on all cores: result and types are the library's own, and so is its cache.

    from allcores.adapters import datasets as allcores_datasets
    tokens = allcores_datasets.map_dataset(dataset, tokenize)

The library maps a function that returns what workers have found, so that it alone decides what the rows become. It is
called for rows that are in no cache only, and its fingerprint is made of the caller's function: the number of workers
makes no difference to anything. What `Dataset.map` itself has made of the same function lies in another place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import datasets

from allcores.adapters import frame_rows
from allcores.adapters.frame_parts import Part, PartCall, Parts
from allcores.errors import UsageError
from allcores.frames import groups
from allcores.frames.groups import OnError
from allcores.system.async_functions import check_function
from allcores.system.tracebacks import hiding
from allcores.transport.remote_errors import as_raised

if TYPE_CHECKING:
    from allcores.limits import Retry
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
    retries: int | Retry = 0,
    on_error: OnError = "raise",
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
        timeout: Seconds for a row or batch, per attempt. Each row then travels by itself, which costs a millisecond.
        retries: Further attempts at one that fails, or a `Retry` with the details, of which `wait_s` counts from the
            second further attempt at a row where there is no `timeout`.
        on_error: "raise" raises the first failure in order. A function, called in the program as `on_error(row,
            error)`, or with a batch, returns what the caller's function should have, with the same columns; it is part
            of the place in the cache, where its results are, too. There is no "skip": `map` keeps its rows, and
            `filter` leaves out some.
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
    check_function(function, "second")
    if on_error == "skip":
        raise UsageError(
            'on_error="skip" cannot be: map keeps its rows. A function on_error(row, error) gives what the row becomes,'
            " and filter() leaves out some afterwards."
        )
    groups.check_on_error(on_error)
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
        parts = Parts(count, size, "rows")
        given = {"timeout": timeout, "retries": retries}
        found = _Found(function, on_error, lambda: _results(place, dataset, work, parts, on_error, given))
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


def _results(
    place: Pool, dataset: Any, work: MapWork, parts: Parts, on_error: Any, options: dict[str, Any]
) -> Iterator[Any]:
    """What the function returned for each row or batch, or what stands in its place."""
    call = PartCall(dataset, work, work.function)
    if not work.batched:
        for number, value, failure in frame_rows.results(
            place, call, parts, on_error=on_error, ordered=True, **options
        ):
            if failure is None or failure.error is None:
                yield value
            elif on_error == "raise":
                groups.fail(failure)
            else:
                yield on_error(dataset[number], as_raised(failure.error))
        return
    with place.outcomes(call, parts, ordered=True, **options) as outcomes:
        for outcome in outcomes:
            if outcome.ok:
                yield from outcome.value
            elif on_error == "raise":
                groups.fail(outcome)
            else:
                part = parts[outcome.index]
                yield on_error(dataset[part.start : part.stop], as_raised(outcome.error))


class _Found:
    """Stands for the caller's function where the library calls it, and looks like it in its cache."""

    def __init__(self, function: Callable[..., Any], on_error: Any, results: Callable[[], Iterator[Any]]) -> None:
        self._function = function
        self._on_error = on_error
        self._begin = results
        self._results: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        # What the library's hash sees.
        return _same, ((self._function,) if self._on_error == "raise" else (self._function, self._on_error))

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if self._results is None:
            self._results = self._begin()
        value = next(self._results)
        return value.put(arguments[0]) if isinstance(value, _Changed) else value

    def close(self) -> None:
        """Leave what is not read."""
        if self._results is not None:
            self._results.close()


def _same(function: Any, _on_error: Any = None) -> Any:
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

            def value() -> Any:
                return self.function(*arguments, **keywords)

            number = None if self.batched else len(found)
            found.append(_plain(frame_rows.value_of(part, number, value, " of the dataset")))

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
