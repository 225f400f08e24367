"""Results that travel by plain pickle alone, as those of `multiprocessing.Pool` do: what it refuses is refused.

A worker of that pool has imported the script, so that plain pickle finds the script's classes and functions by their
names. One of ours may have copies of them: these are named as what they are copies of (see `pickling.dumps`).

Workers of a pool that is to behave so are told by its setup function; for all others cloudpickle takes what plain
pickle does not.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: characters of a refused value that its error shows
SHOWN = 10_000


class _Results:
    #: of this worker
    only_plain = False


_results = _Results()


def only_plain(wanted: bool = True) -> None:
    """From now on results of this process are only pickled as plain pickle does it, or not."""
    _results.only_plain = wanted


def are_wanted() -> bool:
    """Whether results of this process are only pickled so."""
    return _results.only_plain


def refuse(value: object, error: BaseException) -> NoReturn:
    """Plain pickle has refused a result, which is its end.

    Raises:
        ResultRefused: Always.
    """
    from allcores.transport.refused_results import ResultRefused

    try:
        shown = repr(value)
    except Exception:
        shown = f"<{type(value).__name__}>"
    raise ResultRefused(repr(error), shown[:SHOWN]) from error
