"""Results that travel by plain pickle alone, as those of `multiprocessing.Pool` do: what it refuses is refused.

Workers of a pool that is to behave so are told by its setup function; for all others cloudpickle takes what plain
pickle does not.
"""

from __future__ import annotations

#: characters of a refused value that its error shows
SHOWN = 10_000


class _Results:
    #: of this worker
    only_plain = False


_results = _Results()


def only_plain(wanted: bool = True) -> None:
    """From now on results of this process are only pickled as plain pickle does it, or not."""
    _results.only_plain = wanted


def refuse(value: object, error: BaseException) -> None:
    """Plain pickle has refused a result.

    Raises:
        ResultRefused: That is to be its end.
    """
    if _results.only_plain:
        from allcores.transport.refused_results import ResultRefused

        try:
            shown = repr(value)
        except Exception:
            shown = f"<{type(value).__name__}>"
        raise ResultRefused(repr(error), shown[:SHOWN]) from error
