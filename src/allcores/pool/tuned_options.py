"""What `Pool(tuned=...)` stands for: the setting that a search has found for a function, and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allcores.backends.open import check_place
from allcores.errors import NotSupported, UsageError
from allcores.limits import Limits
from allcores.system.plain_record import record
from allcores.tuned.use import is_of, kept_for


@record
class TunedOptions:
    """Options of a pool.

    Attributes:
        function: That was tuned.
        workers: How many.
        backend: Where they run.
        limits: Of the pool, with the depth that was found.
        chunk: Of maps of that function; None: chunks size themselves.
    """

    function: Callable[..., Any]
    workers: int
    backend: str
    limits: Limits
    chunk: int | None

    def chunk_of(self, function: Any) -> int | None:
        """The chunk of a map of some function: found is only that of the one that was tuned."""
        return self.chunk if is_of(self.function, function) else None


def tuned_options(
    function: Callable[..., Any], start_method: str | None, limits: Limits | None, *, prints: bool = False
) -> TunedOptions:
    """The options that were found for a function.

    Args:
        function: That was tuned.
        start_method: What the pool was given, which has to go with the backend.
        limits: The same.
        prints: What workers print is to be printed here.

    Raises:
        UsageError: It was not tuned here, what was found does not hold any more, or cannot be trusted.
        NotSupported: The backend that was found cannot do what is asked of the pool.
    """
    setting = kept_for(function).setting
    given = limits or Limits()
    if setting.depth is not None:
        from dataclasses import replace

        given = replace(given, depth=setting.depth)
    try:
        check_place(setting.backend, start_method, given)
        if prints and setting.backend != "processes":
            raise NotSupported(f"Logs(prints=True) needs backend='processes', not {setting.backend!r}.")
    except NotSupported as error:
        raise NotSupported(
            f"{error} That is what tuned= has found to be the fastest: leave that out, and say workers= yourself."
        ) from None
    return TunedOptions(function, setting.workers, setting.backend, given, setting.chunk)


def check_alone(tuned: Any, workers: int | None, backend: str, limits: Limits | None) -> None:
    """Raise UsageError unless `tuned` is a function, and nothing is given besides that it stands for."""
    if not callable(tuned):
        raise UsageError(f"tuned={tuned!r} must be the function that was tuned (allcores.tune, allcores tune).")
    given = {
        "workers": workers,
        "backend": None if backend == "processes" else backend,
        "limits=Limits(depth": None if limits is None else limits.depth,
    }
    for name, value in given.items():
        if value is not None:
            end = ")" if "(" in name else ""
            raise UsageError(
                f"tuned= and {name}={value!r}{end}: tuned= brings workers, backend, chunk and depth. Leave one out."
            )
