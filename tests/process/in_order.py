"""A program whose outcomes depend on the items before them, for tests that kill it: python in_order.py '{"…": …}'."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import allcores
from allcores import failpoints
from allcores.outcome import Kind, Outcome
from allcores.runs import index
from allcores.runs.remaining_in_order import RemainingInOrder
from allcores.runs.rows_outcome import RowsOutcome
from allcores.runs.session import RunSession
from allcores.runs.spec import RunHooks, RunSpec
from allcores.runs.states import State
from allcores.sinks.many_rows import ManyRows, joined, taken_apart
from allcores.sinks.open import sink_of
from allcores.sources.open import source_of

SETTINGS: dict[str, Any] = {
    "kill": None,  # [point, how often it is passed before]
    "full": None,  # the same, for a disk that is full from then on
    "every": 7,  # items between two states
    "enough": None,  # so many items are enough
    "journal": {},
}

#: seconds that it waits for the disk
PATIENCE_S = 60.0


class InOrder:
    """Maps in order, as `RunPool`: sums of the numbers so far, and how many different ones there were.

    An item that is divisible by 10 gives a row more; one that ends with 3 gives none; 45 fails behind its first row,
    unless a file called `mended` is there.
    """

    def __init__(self, every: int = 7, enough: int | None = None, pause: Callable[[int], object] | None = None) -> None:
        self.every = every
        self.enough = enough
        self.pause = pause
        self.given: list[int] = []

    @property
    def outcomes(self) -> Callable[..., Any]:
        return self._stream

    def _stream(self, function: Any, items: Any, **options: Any) -> Any:
        return _Stream(self._made(items))

    def _made(self, items: Any) -> Iterator[Outcome[str]]:
        assert isinstance(items, RemainingInOrder)
        total, seen, added = 0, set[int](), set[int]()
        if items.state:
            total = pickle.loads(items.state[0][-1])
            for each in items.state.get(1, []):
                seen |= pickle.loads(each)
        held: Outcome[str] | None = None
        state: State | None = None
        for number, item in enumerate(items, items.start):
            if held is not None:
                if state is not None:
                    items.take(state)
                    state = None
                yield held
            self.given.append(number)
            if self.pause:
                self.pause(number)
            value = int(item)
            total += value
            if value % 20 not in seen:
                seen.add(value % 20)
                added.add(value % 20)
            held = self._outcome(number, value, total, len(seen))
            if (number + 1) % self.every == 0:
                state = State(number + 1, {0: pickle.dumps(total)}, {1: pickle.dumps(added)} if added else {})
                added = set()
            if self.enough == number + 1:
                items.end(number + 1)
                break
        if held is not None:  # without a state: what comes at the end is in it
            end = json.dumps({"end": total})
            rows = [*taken_apart(held.value or "")] + [(0, end)]
            yield dataclasses.replace(held, value=joined(rows)) if held.ok else held

    def _outcome(self, number: int, value: int, total: int, different: int) -> Outcome[str]:
        row = json.dumps({"sum": total, "different": different})
        rows = [] if value % 10 == 3 else [(0, row)] * (1 + (value % 10 == 0))
        if value == 45 and not os.path.exists("mended"):
            error = ValueError("45 is refused")
            return RowsOutcome(number, Kind.FAILED, error=error, item=value, extra={"rows": joined(rows)})
        return Outcome(number, Kind.OK, joined(rows))


class _Stream:
    def __init__(self, given: Iterator[Outcome[str]]) -> None:
        self._given = given

    def __iter__(self) -> Iterator[Outcome[str]]:
        return self._given

    def __enter__(self) -> object:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stop(self) -> None:
        pass


def wanted(items: int, *, mended: bool = False, start: int = 0) -> str:
    """The output of a run that nobody disturbs."""
    total, seen, rows = 0, set[int](), []
    for value in range(start, start + items):
        total += value
        seen.add(value % 20)
        row = json.dumps({"sum": total, "different": len(seen)})
        rows += [] if value % 10 == 3 else [row] * (1 + (value % 10 == 0))
    rows += [json.dumps({"end": total})]
    return "".join(f"{row}\n" for row in rows)


def run(
    pool: InOrder, journal: allcores.Journal, source: Any = "in.txt", hooks: RunHooks | None = None
) -> allcores.RunResult:
    """One session, in the working folder."""
    work = RunSpec(
        int,
        source_of(source),
        ManyRows(sink_of("out.jsonl")),
        on_error="skip",
        in_order=True,
        identified={"function": None, "options": {}},
    )
    with RunSession(work, journal) as session:
        return session.work(pool, hooks or RunHooks())


def hook_for(settings: dict[str, Any], passed: Counter[str]) -> Any:
    """Kills or fills at a named moment; how often each was passed is counted."""

    def hook(name: str) -> None:
        passed[name] += 1
        if settings["kill"] and settings["kill"][0] == name and passed[name] > settings["kill"][1]:
            os.kill(os.getpid(), signal.SIGKILL)
        if settings["full"] and settings["full"][0] == name and passed[name] > settings["full"][1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return hook


def main() -> None:
    """One session; prints what became of it."""
    settings = SETTINGS | json.loads(sys.argv[1])
    passed: Counter[str] = Counter()
    failpoints.install(hook_for(settings, passed))

    def pause(number: int) -> None:
        """Until what came before is on its way to the disk, however slow that is: so each moment is passed often."""
        until = time.monotonic() + (PATIENCE_S if settings["kill"] else 0.0)
        while passed["log.write.before"] < min(number // 20, 10) and time.monotonic() < until:
            time.sleep(0.001)

    index.CHECKPOINT_COMMITS = 2
    journal = allcores.Journal(**{"folder": "runs", "resume": True, "commit_s": 0.01} | settings["journal"])
    pool = InOrder(settings["every"], settings["enough"], pause=pause)
    try:
        result = run(pool, journal)
    except allcores.AllcoresError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        sys.exit(1)
    print(json.dumps({"resumed": result.resumed, "counts": dict(result.counts), "given": pool.given}))


if __name__ == "__main__":
    main()
