"""What each worker of a pool does at this moment, from the status board: no message, no wait for a worker."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from allcores.clock import monotonic_ns
from allcores.engine.desk import Life
from allcores.engine.driver import Driver
from allcores.transport.marks import PHASE_IDLE, PHASE_LOADING, PHASE_RUNNING, PHASE_SEALING, PHASE_SETUP

#: characters of an item that are shown
TEXT_CHARACTERS = 60

_STATES = {
    PHASE_IDLE: "idle",
    PHASE_SETUP: "setup",
    PHASE_LOADING: "loading",
    PHASE_RUNNING: "running",
    PHASE_SEALING: "sealing",
}


@dataclass(frozen=True, slots=True)
class Lane:
    """One worker at one moment.

    pid: of its process; None for a thread of this one. state: "starting", "setup", "idle", "loading" (it
    unpickles items), "running", "sealing" (it pickles results) or "ending".
    seconds: how long the present step takes already; of quick items several may share one start.
    function, index, item, attempt: what it runs; None (attempt: 0) if nothing, index None for a call of `submit`.
    done: items it has finished; busy_seconds: time that it spent in the function. Both lag a little behind.
    """

    worker: int
    pid: int | None
    state: str
    seconds: float
    function: str | None = None
    index: int | None = None
    item: Any = field(default=None, repr=False)
    attempt: int = 0
    done: int = 0
    busy_seconds: float = 0.0

    @property
    def text(self) -> str:
        """The item in a few words: `items[7] 'a.png'`, or `work(...)` for a call; empty if nothing runs."""
        if self.function is None:
            return ""
        if self.index is None:
            return f"{self.function}(...)"
        return f"items[{self.index}] {item_text(self.item)}"


def lanes(driver: Driver) -> list[Lane]:
    """A lane per worker that lives, by number."""
    found: list[Lane] = []
    with driver.guard:
        if driver.closed:
            return []
        now = monotonic_ns()
        for desk in driver.dispatcher.desks.values():
            glance = driver.backend.glance(desk.worker)
            work = driver.backend.work(desk.worker)
            pid, done, busy_ns = work if work is not None else (None, 0, 0)
            facts: dict[str, Any] = {"done": done, "busy_seconds": busy_ns / 1e9}
            state, since = "starting", desk.started_ns
            if desk.life is Life.LEAVING or desk.doom is not None:
                state = "ending"
            elif desk.life is not Life.STARTING or (glance is not None and glance.phase == PHASE_SETUP):
                state = _STATES.get(glance.phase, "idle") if glance is not None else "idle"
            if glance is not None and glance.started_ns and state not in ("starting", "setup"):
                since = glance.started_ns
                chunk = desk.find(glance.sequence)
                if chunk is not None and glance.position < len(chunk.items):
                    facts["function"] = chunk.function.name
                    facts["index"] = chunk.first + glance.position if chunk.future is None else None
                    facts["item"] = chunk.items[glance.position]
                    facts["attempt"] = chunk.attempt
            elif state == "idle":
                since = now
            found.append(Lane(desk.worker, pid, state, max(0.0, (now - since) / 1e9), **facts))
    return sorted(found, key=lambda lane: lane.worker)


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
