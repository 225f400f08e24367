"""Groups of rows as items of a map, whatever library the frame is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

from allcores.errors import NotSupported, UsageError
from allcores.frames.group_call import Group, GroupCall
from allcores.limits import ON_ERROR
from allcores.pool import arguments
from allcores.pool.default_pool import using
from allcores.pool.pool import Pool, is_forked
from allcores.system.async_functions import check_not_async
from allcores.system.tracebacks import hide
from allcores.transport.remote_errors import as_raised

if TYPE_CHECKING:
    from allcores.outcome import Outcome

#: What becomes of a row, batch or group that fails. A function gets it, with the error, and returns a result for it.
OnError = Literal["raise", "skip"] | Callable[[Any, BaseException], Any]


def fail(outcome: Outcome[Any]) -> NoReturn:
    """Raise what a function raised for a row, batch or group, as the library of the frame lets it through."""
    __tracebackhide__ = True
    assert outcome.error is not None
    try:
        raise as_raised(outcome.error)
    except BaseException as error:
        hide(error, by_design=True)
        raise


def check_on_error(on_error: OnError) -> None:
    """Raises UsageError for what is no way to treat failures."""
    if not (on_error in ON_ERROR if isinstance(on_error, str) else callable(on_error)):
        raise UsageError(
            f"on_error={on_error!r} must be 'raise', 'skip', or a function of what failed and its error that gives the "
            "result to go on with."
        )
    check_not_async(on_error, "on_error")


class Grouped(Protocol):
    """A frame of some library, in order of its groups."""

    #: in the order in which results are joined
    groups: list[Group]
    #: refuses fork, since the library's threads do not survive it
    has_threads: bool
    #: makes the frame of a group out of `shareable`'s; it can be pickled
    cut: Callable[[Any, Group], Any]

    def shareable(self) -> Any:
        """What is shared: the ordered rows, in a form that lies in memory as it travels."""
        ...

    def check(self, number: int, result: Any) -> None:
        """Look at a result as it comes, and not once all were computed. Raises UsageError for what cannot be."""
        ...

    def joined(self, results: list[Any], failed: set[int]) -> Any:
        """The result of all groups.

        Args:
            results: Of each group, in their order; those of failed ones are None.
            failed: Numbers of groups that are left out.
        """
        ...


def apply(
    caller: Callable[..., Any],
    grouped: Grouped,
    function: Callable[..., Any],
    constants: dict[str, Any],
    *,
    pool: Pool | None,
    workers: int | None,
    on_error: OnError,
    options: dict[str, Any],
) -> Any:
    """Run `function` over the groups. See `allcores.frames.apply_groups`."""
    check_on_error(on_error)
    function, _, _ = arguments.combined(caller, function, "one", (), (), constants)
    results: list[Any] = [None] * len(grouped.groups)
    failed: set[int] = set()
    with pool_for(pool, workers) as place:
        if grouped.has_threads:
            check_threads(place)
        if results:
            order = _largest_first(grouped.groups)
            frame = grouped.shareable()
            call = GroupCall(shared(place, frame), grouped.cut, function)
            if not callable(on_error):
                frame = None
            with place.outcomes(call, [grouped.groups[number] for number in order], **options) as outcomes:
                for outcome in outcomes:
                    if outcome.ok:
                        number = order[outcome.index]
                        results[number] = outcome.value
                        grouped.check(number, outcome.value)
                    elif on_error == "skip":
                        failed.add(order[outcome.index])
                    elif callable(on_error):
                        number = order[outcome.index]
                        results[number] = on_error(grouped.cut(frame, grouped.groups[number]), as_raised(outcome.error))
                        grouped.check(number, results[number])
                    else:
                        fail(outcome)
    return grouped.joined(results, failed)


def check_threads(pool: Pool) -> None:
    """Refuse forked workers for polars. Raises NotSupported."""
    if is_forked(pool):
        raise NotSupported(
            "polars cannot be used in workers with start_method='fork': its threads are not forked along, and it "
            "would wait for them. Pool() without start_method works."
        )


def _largest_first(groups: list[Group]) -> list[int]:
    """A large group that begins last would leave all workers but one without work at the end."""
    return sorted(range(len(groups)), key=lambda number: groups[number].start - groups[number].stop)


def shared(pool: Pool, frame: Any) -> Any:
    """A frame in memory that all workers of a pool have; the frame itself where there is none."""
    try:
        return pool.share(frame)
    except NotSupported:
        # Without memory to share it travels with the function, once for each worker.
        return frame


@contextmanager
def pool_for(pool: Pool | None, workers: int | None) -> Iterator[Pool]:
    """The pool that was given, or that of the module, of so many workers. Raises UsageError for both."""
    if pool is None:
        with using(workers) as shared:
            yield shared
    elif workers is not None:
        raise UsageError("pool= and workers= cannot both be given: the pool has its workers.")
    else:
        yield pool


def column_names(columns: list[Any], by: Any) -> tuple[list[Any], bool]:
    """The columns of a key, and whether they were given as a list.

    Raises:
        UsageError: For a name that is not one column's.
    """
    is_list = isinstance(by, list) or (isinstance(by, tuple) and by not in columns)
    names = list(by) if is_list else [by]
    if not names:
        raise UsageError("by=[] names no column; give the names of those whose values make a group.")
    for name in names:
        try:
            count = columns.count(name)
        except (TypeError, ValueError):
            count = 0  # an array, say, which has no one answer to ==
        if count != 1:
            found = "is no column" if count == 0 else f"are {count} columns"
            known = ", ".join(map(repr, columns[:20])) + (" ..." if len(columns) > 20 else "")
            hint = "by takes names of columns; what is none can be made one first"
            raise UsageError(f"by: there {found} {_short(name)}; the frame has {known}. ({hint}.)")
    if len(set(names)) < len(names):
        raise UsageError(f"by={names!r} names a column twice.")
    return names, is_list


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 and "\n" not in text else f"<{type(value).__name__}>"
