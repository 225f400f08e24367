"""What a supervisor sees to beside its jobs."""

from __future__ import annotations


class Duty:
    """Something that is looked at now and then, by the supervisor's thread: it may not take long."""

    def look(self, wall: float, *, stopping: bool) -> None:
        """See to it.

        Args:
            wall: The time, seconds since 1970.
            stopping: The supervisor begins nothing more.

        Raises:
            StoreError: What the store raises; it is looked at again later.
        """

    def next_times(self) -> dict[str, float]:
        """What is due next, by task."""
        return {}

    def put_down(self) -> None:
        """Another one sees to it from now on, perhaps until this one does again: what it remembers is no longer so."""

    def close(self) -> None:
        """The supervisor ends."""
