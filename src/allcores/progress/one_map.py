"""The progress bar of one map, as `progress=True` asks for: an observer that comes and goes with the map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from allcores.errors import UsageError
from allcores.events import MapEnded, PoolEnded, PoolEvent

if TYPE_CHECKING:
    from allcores.progress.bar import ProgressBar


class Observed(Protocol):
    """What tells observers of its maps: a pool's driver."""

    def add_observer(self, observer: MapProgress) -> None:
        """Tell it of all events from now on."""

    def remove_observer(self, observer: MapProgress) -> None:
        """Tell it nothing more."""


def bar_of(progress: bool | str) -> ProgressBar | None:
    """The bar for an option `progress`; None if none is wanted, or nobody would see it.

    Raises:
        UsageError: It is neither True, False nor a text.
        ImportError: rich is not installed.
    """
    if progress is False:
        return None
    if progress is not True and not isinstance(progress, str):
        raise UsageError(f"progress={progress!r} must be True, False, or the text that stands before the bar.")
    from allcores.progress.bar import ProgressBar

    bar = ProgressBar() if progress is True else ProgressBar(progress)
    return bar if bar.visible else None


class MapProgress:
    """Passes on what happens to one map, until that ends.

    Args:
        bar: Where it is shown.
        number: The map's.
        observed: Tells of it; it is told when there is nothing more to tell.
    """

    sees_work = False

    def __init__(self, bar: ProgressBar, number: int, observed: Observed) -> None:
        self._bar = bar
        self._number = number
        self._observed = observed

    def __call__(self, event: PoolEvent) -> None:
        """Take one event."""
        if getattr(event, "map_number", None) == self._number:
            self._bar(event)
        elif not isinstance(event, PoolEnded):
            return
        if isinstance(event, MapEnded | PoolEnded):
            self._observed.remove_observer(self)
            self._bar.close()
