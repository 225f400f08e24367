"""How much input the consumers of maps are to pull, so that no worker waits for it."""

from __future__ import annotations

from collections.abc import Callable

from allcores.scheduler.map_state import MapState
from allcores.scheduler.state import SchedulerState

#: A chunk that takes less than this, ns, is a short one: of those a worker holds more.
SHORT_NS = 5_000_000
#: Chunks pulled ahead of need, at most: the driver hands them out while the consumer is busy.
RESERVE = 64


class InputDemand:
    """Answers for those who pull input; changes nothing."""

    __slots__ = ("_allowance", "_state")

    def __init__(self, state: SchedulerState, allowance: Callable[[], int]) -> None:
        """Look at `state`.

        Args:
            state: The scheduler's state.
            allowance: Chunks that may be started now in all, while `state.narrow`.
        """
        self._state = state
        self._allowance = allowance

    def room(self, map_state: MapState) -> int:
        """Chunks that this map should pull now, so that no worker waits for input."""
        state = self._state
        if not map_state.may_begin:
            return 0
        if state.narrow:
            return self._allowance() - len(map_state.pending)
        if _is_new(map_state):
            # Nothing is known of how large its results are: one chunk for each worker will tell. A worker that starts
            # late takes one that waits behind another's. What waits for its next attempt is with no worker.
            held = sum(
                not (chunk.tail or chunk.map_state.is_apart(map_state))
                for worker in state.worker_states.values()
                for chunk in worker.chunks
            )
            return state.workers - held - sum(len(each.pending) for each in map_state.together)
        depth, depth_short = state.depth, state.depth_short
        free = len(state.idle) * depth
        free += len(state.spare) if depth <= 2 else sum(depth - len(each.chunks) + each.tails for each in state.spare)
        if is_short(map_state):
            free += (len(state.idle) + len(state.spare)) * (depth_short - depth) + len(state.deep)
        if not state.counters.items_done:
            # Perhaps no worker is ready yet: have the first chunks waiting for those that start.
            free = max(free, state.workers)
        return free + min(state.workers, RESERVE) - len(map_state.pending)

    def starving(self, map_state: MapState) -> bool:
        """True if a worker is idle, and this map's consumer could pull something for it."""
        return bool(self._state.idle) and not map_state.exhausted and map_state.may_pull and self._admits(map_state)

    def wants_input(self, map_state: MapState) -> bool:
        """True if workers wait for this map's consumer to pull more."""
        return (
            not map_state.exhausted
            and (bool(self._state.idle) or not map_state.pending)
            and map_state.may_pull
            and self._admits(map_state)
        )

    def _admits(self, map_state: MapState) -> bool:
        if not map_state.may_begin:
            return False
        return not (self._state.narrow or _is_new(map_state)) or self.room(map_state) > 0

    @property
    def hungry(self) -> bool:
        """True if at least one worker is idle, or nothing is done yet."""
        return bool(self._state.idle) or not self._state.counters.items_done

    def crowded(self, now: int) -> bool:
        """True if several maps have work for the workers, or had so a moment ago."""
        return now < self._state.crowded_until_ns


def _is_new(map_state: MapState) -> bool:
    """Whether nothing is known yet of a stream's results."""
    return map_state.chunker.mean_ns is None and not map_state.calls


def is_short(map_state: MapState) -> bool:
    """Whether the chunk that is pending first takes little time."""
    mean_ns = map_state.chunker.mean_ns
    return mean_ns is not None and mean_ns * (len(map_state.pending[0].items) if map_state.pending else 1) < SHORT_NS
