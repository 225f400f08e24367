"""What each worker of a pool does at this moment, from the status board: no message, no wait for a worker."""

from __future__ import annotations

import reprlib
from pathlib import PurePath
from typing import Any

from allcores.formatting import items_text
from allcores.pool.driver import Driver
from allcores.scheduler.worker_state import Lifecycle
from allcores.system.clock import monotonic_ns
from allcores.system.plain_record import record
from allcores.transport.positions import PHASE_SETUP, STATES

#: characters of an item that are shown
TEXT_CHARACTERS = 60


@record
class WorkerStatus:
    """One worker at one moment.

    Attributes:
        worker: Its number, from 1.
        pid: Of its process; None for a thread of this one.
        state: "starting", "setup", "idle", "loading" (it unpickles items, or their function), "running", "sealing" (it
            pickles results) or "ending".
        seconds: How long the present step takes already; of quick items several may share one start.
        function: Name of the function that it runs; None if it runs nothing.
        index: Of the item that it runs; None for a call of `submit`.
        item: The item itself; of a batch the first.
        actor: The class whose object it is for; None for a worker of the pool.
        batch: Items that the function has at this moment: those of a batch, from `index` on, else 1.
        attempt: The number of this attempt, from 1; 0 if it runs nothing.
        done: Items it has finished.
        busy_seconds: Time that it spent in the function. Both lag a little behind.
    """

    worker: int
    pid: int | None
    state: str
    seconds: float
    function: str | None = None
    index: int | None = None
    item: Any = None
    attempt: int = 0
    done: int = 0
    busy_seconds: float = 0.0
    batch: int = 1
    actor: str | None = None

    def __repr__(self) -> str:
        # Without the item, which may be anything.
        shown = {name: getattr(self, name) for name in self.__match_args__ if name != "item"}
        return f"WorkerStatus({', '.join([f'{name}={value!r}' for name, value in shown.items()])})"

    @property
    def text(self) -> str:
        """In a few words: `items[7] 'a.png'`, `items[7:71]` for a batch, `work(...)` for a call; or empty."""
        if self.function is None:
            return ""
        if self.index is None:
            return f"{self.function}(...)"
        place = items_text(self.index, self.batch)
        return f"{place} {item_text(self.item)}" if self.batch == 1 else place


def worker_status(driver: Driver, actor: str | None = None) -> list[WorkerStatus]:
    """The status of each worker, by number; `actor` is told of each."""
    found: list[WorkerStatus] = []
    with driver.lock:
        if driver.closed:
            return []
        now = monotonic_ns()
        for worker_state in driver.scheduler.state.worker_states.values():
            progress = driver.backend.progress(worker_state.worker)
            work = driver.backend.work(worker_state.worker)
            pid, done, busy_ns = work if work is not None else (None, 0, 0)
            facts: dict[str, Any] = {"done": done, "busy_seconds": busy_ns / 1e9, "actor": actor}
            state, since = "starting", worker_state.started_ns
            if worker_state.lifecycle is Lifecycle.LEAVING or worker_state.termination is not None:
                state = "ending"
            elif worker_state.lifecycle is not Lifecycle.STARTING or (
                progress is not None and progress.phase == PHASE_SETUP
            ):
                state = STATES.get(progress.phase, "idle") if progress is not None else "idle"
            if progress is not None and progress.started_ns and state not in ("starting", "setup"):
                since = progress.started_ns
                chunk = worker_state.find(progress.sequence)
                if chunk is not None and progress.position < len(chunk.items):
                    facts["function"] = chunk.function.name
                    facts["index"] = chunk.first + progress.position if chunk.future is None else None
                    facts["item"] = chunk.items[progress.position]
                    facts["attempt"] = chunk.attempt
                    facts["batch"] = min(progress.together, len(chunk.items) - progress.position)
            elif state == "idle":
                since = now
            found.append(WorkerStatus(worker_state.worker, pid, state, max(0.0, (now - since) / 1e9), **facts))
    return sorted(found, key=lambda status: status.worker)


class _Short(reprlib.Repr):
    """Looks only at what is cheap to look at: a table's repr may take longer than the table's work."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = TEXT_CHARACTERS
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 3

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, (float, complex, bool, type(None), PurePath, bytes)):
            text = repr(x[:TEXT_CHARACTERS] if isinstance(x, bytes) else x)
            if isinstance(x, PurePath):
                # A name may hold what moves a terminal's cursor.
                text = str(x) if str(x).isprintable() else repr(str(x))
            return text if len(text) <= TEXT_CHARACTERS else f"…{text[1 - TEXT_CHARACTERS :]}"
        return f"<{type(x).__name__}>"

    def repr_int(self, x: int, level: int) -> str:
        # Turning a huge one into digits takes long, or is refused.
        return repr(x) if x.bit_length() < 200 else f"<int of {x.bit_length()} bits>"


_short = _Short()


def item_text(item: Any) -> str:
    """A short look at an item, whatever it is; its own `__repr__` is not called."""
    try:
        text = _short.repr(item)
    except Exception:
        text = f"<{type(item).__name__}>"
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"
