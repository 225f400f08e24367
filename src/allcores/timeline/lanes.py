"""The places that workers have in the picture of a run."""

from __future__ import annotations


class Lane:
    """A worker's place; its successor takes it over.

    Attributes:
        number: From 1, as they are drawn.
        worker: Who has it; None: nobody.
        span: [flow, begin, end, busy, idle, items, failed, bytes] that still grows.
    """

    __slots__ = ("number", "span", "worker")

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: int | None = None
        self.span: list[int] | None = None


class Lanes:
    """Who has which place. An actor's is taken over by an actor of that class.

    Attributes:
        by_worker: Those that are taken.
        count: How many there are, the free ones included.
    """

    def __init__(self) -> None:
        self.by_worker: dict[int, Lane] = {}
        self.count = 0
        #: by the class of the actor that had them; None: of the pool's own workers
        self._free: dict[str | None, list[Lane]] = {}

    def begin(self, workers: int) -> None:
        """The places of a pool's workers stand from now on: until one has it is start-up."""
        self._free[None] = [Lane(number) for number in range(workers, 0, -1)]
        self.count = workers

    def seat(self, worker: int, actor: str | None = None) -> Lane:
        """The place of a worker; it gets one if it has none.

        Args:
            worker: Its number.
            actor: Its class, if it is an actor's.
        """
        lane = self.by_worker.get(worker)
        if lane is None:
            free = self._free.get(actor)
            if free:
                lane = free.pop()
            else:
                # A replacement may be there before the worker that it replaces is gone.
                self.count += 1
                lane = Lane(self.count)
            lane.worker = worker
            self.by_worker[worker] = lane
        return lane

    def leave(self, worker: int, actor: str | None = None) -> None:
        """A worker that has a place is gone: the next one takes that with the lowest number."""
        lane = self.by_worker.pop(worker)
        lane.worker = None
        free = self._free.setdefault(actor, [])
        free.append(lane)
        free.sort(key=lambda free: -free.number)
