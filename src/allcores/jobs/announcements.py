"""Which queued jobs are to be announced by messages, and which again: pure, without a clock or a store.

The store is the list of what is to be announced: jobs that are queued and have no message that is known of. So nothing
is lost with the messages, and a second message for a job does nothing. No more jobs than `window` have messages at a
time: the next ones are chosen, by priority, when these have begun.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence


class Announcements:
    """See the module.

    Args:
        window: Jobs that have a message and have not begun, at most.
        again_s: Seconds after which a message that is neither taken nor among those that wait is sent again.
    """

    def __init__(self, window: int, again_s: float) -> None:
        self._window = window
        self._again_s = again_s
        #: when each was announced last, the earliest first
        self._announced: dict[str, float] = {}

    @property
    def open(self) -> tuple[str, ...]:
        """Ids of jobs that were announced, and may not have begun."""
        return tuple(self._announced)

    def begun(self, queued: Collection[str]) -> None:
        """Those of `open` that are not among these have begun, or are not there any more."""
        for id in [each for each in self._announced if each not in queued]:
            del self._announced[id]

    def room(self, waiting: int) -> int:
        """How many more jobs may be announced.

        None until a quarter of the window is free: to look for the next ones costs as much as for all of them.

        Args:
            waiting: Messages that wait where they were sent to.
        """
        room = self._window - max(len(self._announced), waiting)
        return room if room >= max(1, self._window // 4) else 0

    def due(self, now: float, ready: Sequence[str], waiting: int) -> list[str]:
        """What is to be announced now.

        Args:
            now: Seconds, of a clock that never goes back.
            ready: Ids of jobs that may begin, the first of them first: `room` more than are open, if there are.
            waiting: Messages that wait where they were sent to.

        Returns:
            Ids; `sent` is to be told of each.
        """
        # Fewer messages than jobs that should have one: some are lost, or in the hands of who asks for them just now.
        missing = max(0, len(self._announced) - waiting)
        again = [id for id, at in self._announced.items() if now >= at + self._again_s][:missing]
        return again + [id for id in ready if id not in self._announced][: self.room(waiting)]

    def sent(self, id: str, now: float) -> None:
        """A message for a job was sent."""
        self._announced.pop(id, None)
        self._announced[id] = now
