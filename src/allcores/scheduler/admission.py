"""Which workers may be given work while memory is short: carries out what `MemoryPolicy` decides.

As long as memory is short nothing waits in workers' queues, and input is pulled only for those who may start.
With no worker busy one chunk may always start, so nothing stands still for ever.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from allcores.errors import WorkerLost
from allcores.events import MemoryHeld, MemoryReleased
from allcores.formatting import size_text
from allcores.outcome import Kind
from allcores.scheduler.map_state import MapState
from allcores.scheduler.memory_policy import CLOSE_NS, FAR_NS, MAX_PREEMPTIONS, MemoryPolicy, Running
from allcores.scheduler.state import SchedulerState
from allcores.scheduler.timers import ROUGH_NS, Timer
from allcores.scheduler.worker_state import Lifecycle, Termination, WorkerState

#: (available, total) bytes of memory; None if they cannot be told
Read = Callable[[], "tuple[int, int] | None"]
#: bytes that the end of a worker would give back
ResidentTreeBytes = Callable[[int], int]


class AdmissionControl:
    """Bounds how many workers are busy; without effect until `watch` was called.

    `SchedulerState.narrow` is its switch: as long as it is off, nothing here is asked.
    """

    def __init__(
        self,
        state: SchedulerState,
        terminate: Callable[[WorkerState, Termination, int], None],
        recall: Callable[[WorkerState, int], None],
    ) -> None:
        """Leave memory alone.

        Args:
            state: The scheduler's state.
            terminate: Terminates a worker, with the time in ns.
            recall: Steals what a worker has not started, with the time in ns.
        """
        self._state = state
        self._terminate = terminate
        self._recall = recall
        self.memory_policy: MemoryPolicy | None = None
        #: where readings come from
        self.read: Read | None = None
        self.resident_tree_bytes: ResidentTreeBytes = lambda worker: 0
        #: a timer for the next look is set
        self._watched = False
        self._looked_ns = 0
        self._held_ns = 0

    def watch(self, read: Read, resident_tree_bytes: ResidentTreeBytes) -> None:
        """Look at memory from now on, by `Limits(memory_reserve=...)`; None there leaves it alone."""
        setting = self._state.limits.memory_reserve
        if setting is not None:
            self.memory_policy = MemoryPolicy(setting)
            self.read, self.resident_tree_bytes = read, resident_tree_bytes

    # --- who may start ---

    def allowance(self) -> int:
        """Chunks that may be started now, in all."""
        memory_policy, busy = self.memory_policy, 0
        alone = False
        for worker_state in self._state.worker_states.values():
            if worker_state.chunks:
                busy += 1
                alone = alone or any(chunk.preempted >= MAX_PREEMPTIONS for chunk in worker_state.chunks)
        if not busy:
            # Of those that are to run alone, one; any other makes room for the next at once.
            if memory_policy is None or memory_policy.held or memory_policy.most is None or self._state.some_alone:
                return 1
            return memory_policy.most
        if alone or memory_policy is None or memory_policy.held:
            return 0
        return (
            len(self._state.idle)
            if memory_policy.most is None
            else max(0, min(len(self._state.idle), memory_policy.most - busy))
        )

    def admits(self, map_state: MapState) -> bool:
        """Whether the first chunk of a map may be started now."""
        if not self._state.idle or not self.allowance():
            return False
        if self._state.some_alone and map_state.pending[0].preempted >= MAX_PREEMPTIONS:
            return not any(worker_state.chunks for worker_state in self._state.worker_states.values())
        return True

    # --- looking ---

    def expect(self, now: int) -> None:
        """Work is out: have the memory looked at."""
        if self.memory_policy is not None and not self._watched:
            self._watched = True
            due_ns = max(now + CLOSE_NS, self._looked_ns + self.memory_policy.pause_ns)
            if self.memory_policy.pause_ns == FAR_NS:
                # With other looks that come about then; rounded to the next would make it every second one.
                due_ns = max(now + CLOSE_NS, (due_ns + ROUGH_NS // 2) // ROUGH_NS * ROUGH_NS)
            self._state.timers.set(due_ns, Timer.MEMORY)

    def on_timer(self, now: int) -> bool:
        """The timer of `expect`. With no worker busy there is nothing to look for: an idle pool sleeps.

        Returns:
            True if workers may be given work now that could not before.
        """
        self._watched = False
        busy = [worker_state for worker_state in self._state.worker_states.values() if worker_state.chunks]
        memory_policy = self.memory_policy
        if memory_policy is None or self.read is None or not busy:
            return False
        may_start = False
        reading = self.read()
        self._looked_ns = now
        if reading is not None:
            was_held = memory_policy.held
            running = [each for each in map(self._running, busy) if each is not None]
            ended = memory_policy.look(*reading, running, self.resident_tree_bytes, now, dying=self._dying)
            memory_policy.ease(self._state.workers)
            if memory_policy.held and not was_held:
                self._hold(memory_policy, running, now)
            elif was_held and not memory_policy.held:
                seconds = (now - self._held_ns) / 1e9
                self._state.events.append(MemoryReleased(memory_policy.available, memory_policy.reserve, seconds))
            if ended is not None:
                self._end(ended, now)
            may_start = self._state.narrow
            self.update()
        self.expect(now)
        return may_start

    def update(self) -> None:
        """Set `SchedulerState.narrow` to what the policy says now, and to whether some item is still to run alone."""
        memory_policy, state = self.memory_policy, self._state
        if memory_policy is None:
            return
        was_narrow = state.narrow
        state.some_alone = state.some_alone and self._is_any_alone()
        state.narrow = memory_policy.held or memory_policy.most is not None or state.some_alone
        if was_narrow and not state.narrow:
            self.wake_all()

    def _is_any_alone(self) -> bool:
        """Whether a worker holds an item that was preempted so often, or one is pending, or waits to be tried again."""
        state = self._state
        held = (chunk for worker_state in state.worker_states.values() for chunk in worker_state.chunks)
        # What is requeued stands in front: where there is one, it is soon found.
        pending = (chunk for map_state in state.maps.values() for chunk in map_state.pending if not chunk.cancelled)
        chunks = itertools.chain(held, state.timers.retries(), pending)
        return any(chunk.preempted >= MAX_PREEMPTIONS for chunk in chunks)

    def wake_all(self) -> None:
        """Consumers may pull input for the workers that may start now."""
        self._state.dirty_maps.update(self._state.maps.values())

    def _running(self, worker_state: WorkerState) -> Running | None:
        """Since when this worker has run its item; None if it runs none, or is being ended."""
        if worker_state.termination is not None or worker_state.lifecycle is not Lifecycle.READY:
            return None
        progress = self._state.progress(worker_state.worker)
        if progress is None or not progress.started_ns or worker_state.find(progress.sequence) is None:
            return None
        return Running(worker_state.worker, progress.started_ns)

    def _dying(self, worker: int) -> bool:
        return worker in self._state.worker_states

    # --- holding and ending ---

    def _hold(self, memory_policy: MemoryPolicy, running: list[Running], now: int) -> None:
        """Start nothing more. What waits at workers is recalled, but for the one that has run longest."""
        self._state.counters.memory_holds += 1
        self._held_ns = now
        self._state.events.append(MemoryHeld(memory_policy.available, memory_policy.reserve))
        oldest = min(running, key=lambda each: each.since_ns).worker if running else None
        for worker_state in list(self._state.worker_states.values()):
            if worker_state.worker != oldest:
                self._recall(worker_state, now)

    def _end(self, ended: Running, now: int) -> None:
        state, memory_policy = self._state, self.memory_policy
        worker_state = state.worker_states[ended.worker]
        progress = state.progress(ended.worker)
        chunk = worker_state.find(progress.sequence) if progress is not None and progress.started_ns else None
        if progress is None or chunk is None or memory_policy is None:
            # It has just finished.
            return
        position = min(progress.position, len(chunk.items) - 1)
        used = self.resident_tree_bytes(ended.worker)
        what = state.describe(chunk, position)
        available, reserve = size_text(memory_policy.available), size_text(memory_policy.reserve)
        left = f"{available} were left, {reserve} are kept in reserve"
        last = chunk.preempted >= MAX_PREEMPTIONS
        times = f"It had been requeued {chunk.preempted} times, and ran alone this time. " if last else ""
        error = WorkerLost(
            f"Worker {ended.worker} was ended while running {what}, because memory ran out: it used "
            f"{size_text(used)}, {left}. {times}The item needs more memory than there is here: make it smaller, or "
            "give it a larger machine or container.",
            signal="SIGKILL",
            peak_memory=used,
            index=chunk.index_of(position),
            attempts=chunk.attempt,
            worker=ended.worker,
        )
        reason = f"memory ran out: {left}"
        termination = Termination(
            Kind.WORKER_LOST,
            error,
            reason,
            progress.sequence,
            position,
            progress.phase,
            preempted=not last,
            together=progress.together,
        )
        self._terminate(worker_state, termination, now)
