"""What a run came to: items, failures with examples, pace, speed-up, memory."""

from __future__ import annotations

import contextlib
import os
import re
import reprlib
from dataclasses import dataclass
from typing import Any

from allcores.cli.exits import Exit
from allcores.cli.meter import Usage
from allcores.cli.output import shortened
from allcores.formatting import counted, error_text, pace_text, seconds_text, size_text
from allcores.outcome import Kind, Outcome
from allcores.sinks.json_stream import error_name, failure_record, remote_traceback
from allcores.system.terminal_text import safe_line

#: failures of each kind that are shown; more would push the numbers off the screen
EXAMPLES = 3
#: share of the time in the function that is spent waiting for a processor, from which on the summary says so
WAITED_SHARE = 0.1
#: share of the run's seconds that went into the function, below which a speed-up would say nothing
LEAST_BUSY_SHARE = 0.05

_WORDS = {Kind.FAILED: "failed", Kind.TIMED_OUT: "timed out", Kind.WORKER_LOST: "lost their worker"}
_FRAME = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)
_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Tally:
    """Counts outcomes as they come.

    ok, cancelled: how many. failures: how many of each kind, and the first ones as examples.
    """

    def __init__(self) -> None:
        self.ok = 0
        self.cancelled = 0
        self.failures: dict[Kind, int] = dict.fromkeys(_WORDS, 0)
        self.examples: list[Outcome[Any]] = []

    def add(self, outcome: Outcome[Any]) -> None:
        """Count one outcome."""
        if outcome.kind is Kind.OK:
            self.ok += 1
        elif outcome.kind is Kind.CANCELLED:
            self.cancelled += 1
        else:
            self.failures[outcome.kind] += 1
            if self.failures[outcome.kind] <= EXAMPLES:
                self.examples.append(outcome)

    @property
    def failed(self) -> int:
        """How many items were tried and did not return."""
        return sum(self.failures.values())

    @property
    def items(self) -> int:
        """How many items were tried to the end."""
        return self.ok + self.failed


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished run, in numbers.

    Attributes:
        function: As they were named.
        output: As they were named.
        cores: The core budget.
        seconds: Wall time from before the workers started to after the last outcome.
        busy_s: Seconds that workers spent in the function, added up.
        retries: Further attempts of all items.
    """

    function: str
    output: str
    exit: Exit
    error: str | None
    tally: Tally
    seconds: float
    busy_s: float
    workers: int
    cores: int
    retries: int
    workers_lost: int
    usage: Usage
    #: the journalled run, what earlier sessions of it had settled, and bad records that were left out
    run: str | None = None
    resumed: int = 0
    skipped: int = 0

    @property
    def is_empty(self) -> bool:
        """Nothing was tried, and the error says why: there are no numbers worth showing."""
        return self.error is not None and not self.tally.items

    @property
    def speed_up(self) -> float:
        """Seconds that workers spent in the function for each second of the run.

        Without those for which they waited for a processor that other programs had.
        What a serial run would have taken is not measured: items that share a core's caches, or a core,
        take longer than they would alone, and then this is too high.
        """
        return max(0.0, self.busy_s - self.usage.waited_s) / self.seconds if self.seconds else 0.0

    @property
    def is_idle(self) -> bool:
        """Next to none of the run's time went into the function: the rest began workers and moved items."""
        return self.speed_up < LEAST_BUSY_SHARE

    @property
    def waited(self) -> float:
        """Share of the seconds in the function for which its worker had no processor, 0 to 1."""
        return min(1.0, self.usage.waited_s / self.busy_s) if self.busy_s else 0.0

    @property
    def others(self) -> float | None:
        """Cores that other programs kept busy meanwhile; None if unknown."""
        others_s = self.usage.others_s
        return None if others_s is None or not self.seconds else others_s / self.seconds

    @property
    def core_use(self) -> float:
        """Share of the core budget's processor seconds that were used, 0 to 1.

        The processor is measured a little longer than the run, which in a run of milliseconds is much.
        """
        return min(1.0, self.usage.cpu_s / (self.seconds * self.cores)) if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """For machines; docs/cli.md explains each field."""
        return {
            "function": self.function,
            "output": self.output,
            "exit": int(self.exit),
            "meaning": self.exit.meaning,
            "error": self.error,
            "items": self.tally.items,
            "ok": self.tally.ok,
            "failures": {kind.value: count for kind, count in self.tally.failures.items()},
            "cancelled": self.tally.cancelled,
            "examples": [failure_record(outcome) for outcome in self.tally.examples],
            "run": self.run,
            "resumed": self.resumed,
            "skipped_records": self.skipped,
            "retries": self.retries,
            "workers_lost": self.workers_lost,
            "seconds": round(self.seconds, 6),
            "items_per_second": round(self.tally.items / self.seconds, 3) if self.seconds else 0.0,
            "busy_seconds": round(self.busy_s, 6),
            "waited_seconds": round(self.usage.waited_s, 6),
            "other_cores": None if self.others is None else round(self.others, 3),
            "speed_up": round(self.speed_up, 3),
            "workers": self.workers,
            "cores": self.cores,
            "cpu_seconds": round(self.usage.cpu_s, 3),
            "core_use": round(self.core_use, 3),
            "peak_memory_bytes": self.usage.peak_bytes,
            "peak_memory_worker_bytes": self.usage.peak_worker_bytes,
        }

    def as_text(self) -> str:
        """For people: three or four lines, and the failures' examples."""
        tally = self.tally
        where = "standard output" if self.output == "-" else self.output
        parts = [f"{tally.ok:,} ok"]
        parts += [f"{count:,} {_WORDS[kind]}" for kind, count in tally.failures.items() if count]
        if tally.cancelled:
            parts.append(f"{tally.cancelled:,} not done")
        items = "1 item" if tally.items == 1 else f"{tally.items:,} items"
        lines = [f"{items} in {seconds_text(self.seconds)}: {', '.join(parts)} → {where}"]
        for kind, count in tally.failures.items():
            if count:
                shown = [outcome for outcome in tally.examples if outcome.kind is kind]
                lines += [f"  {_WORDS[kind]}: {example_text(outcome)}" for outcome in shown]
                if count > len(shown):
                    lines.append(f"  … and {count - len(shown):,} more that {_WORDS[kind]}")
        pace = pace_text(tally.items / self.seconds) if self.seconds else "0 items/s"
        if self.is_idle:
            work_s = self.speed_up * self.seconds
            spent = "less than 0.01 s" if work_s < 0.01 else seconds_text(work_s)
            advice = "" if self.error else ": a plain loop would do"
            lines.append(f"{pace} · of the {seconds_text(self.seconds)} the function ran for {spent}{advice}")
        else:
            lines.append(
                f"{pace} · speed-up {self.speed_up:.2f} with {counted(self.workers, 'worker')}"
                f" (seconds in the function ÷ seconds of the run)"
            )
        if self.waited >= WAITED_SHARE and self.busy_s >= LEAST_BUSY_SHARE * self.seconds:
            others = f": other programs kept {self.others:.1f} cores busy" if self.others else ""
            lines.append(f"the machine was busy: for {self.waited:.0%} of that time workers had no processor{others}")
        memory = f"peak memory {size_text(self.usage.peak_bytes)}" if self.usage.peak_bytes else ""
        if self.usage.peak_worker_bytes:
            memory += f" (largest worker {size_text(self.usage.peak_worker_bytes)})"
        lines.append(
            f"core use {self.core_use:.0%} of {counted(self.cores, 'core')}" + (f" · {memory}" if memory else "")
        )
        if self.resumed or self.skipped:
            parts = [f"{counted(self.resumed, 'item')} done before"] if self.resumed else []
            if self.skipped:
                where = "" if self.run is None else f" (allcores runs show {self.run})"
                parts.append(f"{counted(self.skipped, 'bad record')} left out{where}")
            lines.append(" · ".join(parts))
        extra = [counted(self.retries, "retry", "retries")] if self.retries else []
        extra += [f"{counted(self.workers_lost, 'worker')} lost"] if self.workers_lost else []
        if extra:
            lines.append(" · ".join(extra))
        return "\n".join(map(safe_line, lines))


def example_text(outcome: Outcome[Any]) -> str:
    """One failure in one line: which item, what happened, where in the function's code."""
    error = outcome.error
    if error is None:
        return f"item {outcome.index}: {outcome.kind.value}"
    message = shortened(error_text(error), 300)
    extra = getattr(outcome, "extra", None) or {}
    stage = f"stage {extra['stage']} ({extra['stage_name']}), " if "stage" in extra else ""
    if outcome.kind is not Kind.FAILED:
        return stage + message  # written by allcores, so it names the item
    name = error_name(error)
    name = name.rpartition(".")[2] if name.startswith("allcores.") else name
    text = f"{stage}item {outcome.index} {shortened(_short.repr(outcome.item))}: {name}"
    if message:
        text += f": {message}"
    place = _place(remote_traceback(error))
    return text + (f" ({place})" if place else "")


def _place(traceback: str | None) -> str | None:
    """file:line of the innermost frame that is not ours."""
    frames = _FRAME.findall(traceback or "")
    if not frames or frames[-1][0].startswith((_OWN_FOLDER, "<")):
        return None  # it happened in our code, so a line of theirs would mislead
    file, line = frames[-1]
    with contextlib.suppress(OSError):  # the working folder is gone
        here = os.getcwd() + os.sep
        file = file.removeprefix(here)
    return f"{file}:{line}"


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
