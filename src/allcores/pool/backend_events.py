"""What a backend has posted, as the scheduler is told of it."""

from __future__ import annotations

from allcores.backends.base import (
    BackendBroken,
    BackendEvent,
    BackendStopped,
    LaunchesEnded,
    MemoryExceeded,
    PreloadBegan,
    PreloadEnded,
    SetupFailed,
    WorkerReady,
)
from allcores.events import WorkerStarted
from allcores.outcome import Kind
from allcores.scheduler.messages import Results, WorkerGone
from allcores.scheduler.scheduler import Scheduler
from allcores.scheduler.worker_state import Termination


def apply_event(scheduler: Scheduler, event: BackendEvent, now: int) -> None:
    """Apply one event; with the driver's lock held, and commands are to be carried out afterwards."""
    match event:
        case Results():
            scheduler.results(event, now)
        case WorkerReady():
            scheduler.ready(event.worker, now)
            scheduler.state.events.append(WorkerStarted(event.worker, event.pid))
        case WorkerGone():
            scheduler.gone(event, now)
        case SetupFailed():
            scheduler.setup_failed(event.error)
        case PreloadBegan():
            scheduler.preload_began(now)
        case PreloadEnded():
            scheduler.preload_ended(now)
            scheduler.state.setup_step = event.setup_step
        case MemoryExceeded():
            worker_state = scheduler.state.worker_states.get(event.worker)
            if worker_state is not None and worker_state.termination is None:
                reason = "it used more memory than allowed"
                termination = Termination(
                    Kind.WORKER_LOST, event.error, reason, event.sequence, event.position, together=event.together
                )
                scheduler.terminate(worker_state, termination, now)
        case BackendBroken():
            scheduler.break_off(event.error)
        case LaunchesEnded():
            for worker in [number for number in scheduler.state.worker_states if number not in event.started]:
                scheduler.launch_failed(worker)
        case BackendStopped():
            scheduler.state.closing = True
