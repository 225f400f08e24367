"""How busy the machine is with other things, and waiting until it is not."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

#: cores that others may use before a measurement is put off
TOLERATED = 0.15
#: seconds of one look; the kernel counts in hundredths of a second
LOOK_S = 0.2


def _busy_s() -> float | None:
    """Seconds of all cores together that were not idle, since the machine started; None if unknown."""
    try:
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return (sum(fields) - fields[3] - fields[4]) / 100  # but idle and waiting for a disk


def background() -> float | None:
    """Cores in use while we do nothing; None if unknown."""
    before, started = _busy_s(), time.monotonic()
    if before is None:
        return None
    time.sleep(LOOK_S)
    after = _busy_s()
    return None if after is None else (after - before) / (time.monotonic() - started)


@dataclass
class Quiet:
    """Waits, if asked to, until others leave the machine alone.

    patience_s: the longest wait before one measurement; 0: only look, once a round.
    seen: what the looks saw since the last `forget`, in cores.
    """

    patience_s: float = 0.0
    seen: list[float] = field(default_factory=list)

    def before_round(self) -> None:
        """One look."""
        if not self.patience_s:
            self._look()

    def before_measurement(self) -> None:
        """Wait for a quiet moment while there is patience."""
        until = time.monotonic() + self.patience_s
        while self.patience_s:
            cores = background()
            if cores is None or cores <= TOLERATED or time.monotonic() > until:
                if cores is not None:
                    self.seen.append(cores)
                return

    def _look(self) -> None:
        cores = background()
        if cores is not None:
            self.seen.append(cores)
