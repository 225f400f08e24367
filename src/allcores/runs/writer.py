"""The thread that commits: outcomes to the log, then their rows to the catalogue, some ten times a second.

    consumer's thread ── put(outcome) ──► waiting ── every commit_s, or when much waits ──► log ─► sync ─► catalogue

So the consumer never waits for the disk, unless the disk is slower than the work for long. What the catalogue has
committed is settled; all else runs again.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from time import monotonic
from typing import Any

from allcores.errors import JournalError
from allcores.failpoints import failpoint
from allcores.outcome import Kind, Outcome
from allcores.runs.disk import is_full, is_limited
from allcores.runs.index import RunIndex
from allcores.runs.outcome_log import RECORD_BYTES, Log, Record
from allcores.runs.ranges import RangeSet
from allcores.runs.remaining import RemainingItems
from allcores.runs.remaining_by_key import KeyRow, RemainingByKey
from allcores.runs.rows import (
    FailureRow,
    InputCheckpoint,
    put_anchors,
    put_bad_records,
    put_failures,
    put_keys,
    put_rows,
    set_columns,
)
from allcores.runs.states import Enough, State, put_states
from allcores.sinks.json_stream import failure_record
from allcores.sinks.json_text import to_json
from allcores.sources.text import BadInput
from allcores.system.nudge import Nudge

#: outcomes and characters that may wait; then the consumer waits, too. Larger bears a slower disk for longer.
MOST_WAITING = 200_000
MOST_CHARACTERS = 64 * 1024 * 1024
#: outcomes and characters that are enough for a commit before its time
MANY = 50_000
MANY_CHARACTERS = 8 * 1024 * 1024
#: characters or bytes of an item that may wait with its value
SMALL_ITEM = 1_000
#: seconds for which the consumer waits for a disk that takes nothing, before it gives up
STUCK_S = 600.0
#: seconds between two looks whether there is room
LOOK_S = 1.0
#: seconds for which whoever lets go of a run waits for a commit that goes on, where Ctrl-C has ended the wait for it
LET_GO_S = 10.0

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Writer:
    """Commits outcomes of one run until it is closed; after an error it commits nothing more."""

    def __init__(
        self,
        run_index: RunIndex,
        log: Log,
        settled: RangeSet,
        *,
        name: str,
        commit_s: float,
        commit_items: int | None = None,
        sync: bool,
        details: bool,
        round: int,
        remaining: RemainingItems | RemainingByKey,
    ) -> None:
        """feed: where items come from; it knows the input.

        Args:
            sync: Have the disk take each commit.
            details: Keep attempts, worker and seconds of items that returned.
        """
        self._run_index = run_index
        self._log = log
        self._settled = settled
        self._name = name
        self._commit_s = min(commit_s, threading.TIMEOUT_MAX)
        self._many = MANY if commit_items is None else min(MANY, commit_items)
        self._sync = sync
        self._details = details
        self._round = round
        self._remaining = remaining
        self._lock = threading.Lock()  # guards the four below
        self._waiting: list[Outcome[str]] = []
        self._characters = 0
        self._new_rows: list[InputCheckpoint | KeyRow | State | Enough] = []
        self._bad: deque[BadInput] = deque()
        #: something to do before its time, or at all
        self._wake = Nudge()
        #: a commit has ended
        self._room = Nudge()
        self._closing = False
        self._stop: Callable[[], object] | None = None
        #: why nothing more is written
        self.error: JournalError | None = None
        #: the thread does nothing more; what whoever comes first after that is to call
        self._over = False
        self._then: deque[Callable[[], object]] = deque()
        self._thread = threading.Thread(target=self._work, name="allcores-journal", daemon=True)
        try:
            self._thread.start()
        except BaseException:  # of a signal's handler, while it is waited for: nobody will close this one
            self._closing = True
            self._wake.give()
            raise

    # --- the consumer's side ---

    def put(self, outcome: Outcome[str]) -> None:
        """Take an outcome.

        Raises:
            JournalError: If an earlier one could not be committed.
        """
        # What is settled is never further than what is known of the input, so that a resumed run can compare it.
        new_checkpoints = self._remaining.new_checkpoints(outcome.index)
        if outcome.kind is Kind.OK and not _is_small(outcome.item):
            # Nothing is written of it, and many may wait for a disk that is slow.
            outcome = Outcome(outcome.index, Kind.OK, outcome.value, None, None, *_circumstances(outcome))
        with self._lock:
            self._waiting.append(outcome)
            if outcome.value is not None:
                self._characters += len(outcome.value)
            if new_checkpoints:
                self._new_rows += new_checkpoints
            many = len(self._waiting) >= self._many or self._characters >= MANY_CHARACTERS
        if self.error is not None:
            raise self.error
        if many:
            self._wake.give()
            self._wait_for_room()

    def when_lost(self, stop: Callable[[], object]) -> None:
        """Call `stop`, on the journal's thread, when nothing more can be written: so that nothing more is begun."""
        self._stop = stop

    def report(self, error: BadInput) -> None:
        """Take a bad record of the input that was left out."""
        self._bad.append(error)

    def close(self) -> None:
        """Commit what waits and end the thread.

        Raises:
            JournalError: If anything could not be committed.
        """
        self._closing = True
        self._wake.give()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def at_end(self, then: Callable[[], object]) -> None:
        """Call `then` once the thread does nothing more: soon, and here; else it does so itself."""
        self._then.append(then)
        self._closing = True
        self._wake.give()
        try:
            self._thread.join(LET_GO_S)
        finally:
            if self._over:
                self._call_then()

    def _call_then(self) -> None:
        while self._then:
            with contextlib.suppress(IndexError):  # the other thread was quicker
                self._then.popleft()()

    def _wait_for_room(self) -> None:
        left = STUCK_S
        while len(self._waiting) >= MOST_WAITING or self._characters >= MOST_CHARACTERS:
            if self.error is not None:
                raise self.error
            if left <= 0:
                raise JournalError(f"the disk took nothing of the journal for {STUCK_S:g} s", run=self._name)
            began = monotonic()
            self._room.wait(LOOK_S)
            # The time in which the program is stopped (Ctrl-Z, a container that is paused) is none of the disk's.
            left -= min(monotonic() - began, 2 * LOOK_S)

    # --- the thread's side ---

    def _work(self) -> None:
        try:
            self._keep_committing()
        finally:
            self._over = True
            self._call_then()

    def _keep_committing(self) -> None:
        while True:
            self._wake.wait(self._commit_s)
            last = self._closing
            try:
                self._commit()
            except BaseException as error:
                self.error = self._trouble(error)
                self._room.give()
                if self._stop is not None and not self._closing:
                    self._stop()
                return
            self._room.give()
            if last:
                return

    def _commit(self) -> None:
        with self._lock:
            outcomes, self._waiting = self._waiting, []
            new_checkpoints, self._new_rows = self._new_rows, []
            self._characters = 0
        bad = [self._bad.popleft() for _ in range(len(self._bad))]
        if not (outcomes or bad):
            return
        keys = [each for each in new_checkpoints if isinstance(each, KeyRow)]
        states = [each for each in new_checkpoints if isinstance(each, (State, Enough))]
        outcomes = self._remaining.by_slot(outcomes)
        failpoint("commit.begin")
        # A run goes on behind a state: no record is to hold outcomes from before and behind it.
        cuts = frozenset(each.items for each in states)
        records, failures = sorted_out(outcomes, details=self._details, cuts=cuts)
        rows = []
        if records:
            before = self._log.size
            try:
                rows = self._log.append(records)
                if self._sync:
                    self._log.sync()
            except OSError:
                self._log.size = before
                raise
        for record in records:
            self._settled.add(record.start, record.start + record.count)
        for outcome, _ in failures:
            self._settled.add(outcome.index, outcome.index + 1)
        with self._run_index.transaction() as db:
            put_rows(db, rows)
            put_failures(db, [row for _, row in failures], self._round)
            if self._round:
                for record in records:
                    db.execute(
                        "DELETE FROM failures WHERE slot >= ? AND slot < ?", (record.start, record.start + record.count)
                    )
            put_anchors(db, [each for each in new_checkpoints if isinstance(each, InputCheckpoint)])
            put_states(db, states)
            put_keys(db, [(each.key, each.slot, each.digest, each.session) for each in keys])
            put_bad_records(db, [(storable(each.path), each.line or 0, storable(str(each))) for each in bad])
            self._count(db, sum(record.count for record in records), [outcome.kind for outcome, _ in failures])
        if keys:
            self._remaining.committed(keys)

    def _count(self, db: Any, ok: int, kinds: list[Kind]) -> None:
        """Keep the figures; where failures are tried again the table is counted, for an old failure may be gone."""
        if self._round:
            counts = dict(db.execute("SELECT kind, count(*) FROM failures GROUP BY kind").fetchall())
            db.execute("UPDATE run SET ok = ok + ?", (ok,))
            set_columns(
                db,
                **{kind.value: counts.get(kind.value, 0) for kind in (Kind.FAILED, Kind.TIMED_OUT, Kind.WORKER_LOST)},
            )
            return
        db.execute(
            "UPDATE run SET ok = ok + ?, failed = failed + ?, timed_out = timed_out + ?, worker_lost = worker_lost + ?",
            (ok, kinds.count(Kind.FAILED), kinds.count(Kind.TIMED_OUT), kinds.count(Kind.WORKER_LOST)),
        )
        set_columns(db)

    def _trouble(self, error: BaseException) -> JournalError:
        if isinstance(error, JournalError):
            sentence = str(error)
        elif isinstance(error, OSError):
            sentence = f"cannot write {self._log.path}: {error.strerror or error}"
        else:
            sentence = f"the journal failed: {type(error).__name__}: {error}"
        remedy = "make room and resume" if is_full(error) else "when that is mended, resume"
        if is_limited(error):
            remedy = "raise the limit on the size of files (ulimit -f) and resume"
        made = JournalError(f"{sentence}. What is committed stays: {remedy} run {self._name}", run=self._name)
        made.__cause__ = error
        return made


_NUMBERS_AND_NONE = frozenset({int, float, bool, type(None)})


def _is_small(item: Any) -> bool:
    kind = type(item)
    return kind in _NUMBERS_AND_NONE or ((kind is str or kind is bytes) and len(item) <= SMALL_ITEM)


def _circumstances(outcome: Outcome[Any]) -> tuple[int, float, int | None]:
    return outcome.attempts, outcome.seconds, outcome.worker


def sorted_out(
    outcomes: list[Outcome[str]], *, details: bool, cuts: frozenset[int] = frozenset()
) -> tuple[list[Record], list[tuple[Outcome[str], FailureRow]]]:
    """Outcomes as records of consecutive items that returned, and failures. Sorts the list.

    Args:
        cuts: Items that begin a record of their own.
    """
    outcomes.sort(key=_index)
    records: list[Record] = []
    failures: list[tuple[Outcome[str], FailureRow]] = []
    start = following = -1
    values: list[str] = []
    run_row: list[tuple[int, int, float]] = []
    size = 0

    def close() -> None:
        nonlocal values, run_row, size
        if values:
            lines = ("\n".join(values) + "\n").encode()
            records.append(Record(start, len(values), lines, run_row if details else None))
            values, run_row, size = [], [], 0

    for outcome in outcomes:
        value = outcome.value
        if value is None or outcome.kind is not Kind.OK:
            failures.append((outcome, failure_row(outcome)))
            continue
        index = outcome.index
        if index != following or size > RECORD_BYTES or index in cuts:
            close()
            start = index
        values.append(value)
        following = index + 1
        size += len(value)
        if details:
            worker = -1 if outcome.worker is None else outcome.worker
            run_row.append((outcome.attempts, worker, outcome.seconds))
    close()
    return records, failures


_index = attrgetter("index")


def failure_row(outcome: Outcome[Any]) -> FailureRow:
    """All that a failed outcome says, as it is kept."""
    # Without processes the error is the very object that was raised.
    record = failure_record(outcome, raised_here=True)
    if extra := _details(outcome.error):
        record["details"] = extra
    return FailureRow(outcome.index, outcome.kind.value, cause_of(record), to_json(record))


def _details(error: BaseException | None) -> dict[str, Any]:
    """What an error knows besides its message, as far as JSON holds it.

    It may be of the program's own class, whose attributes have these names for something else.
    """
    found: dict[str, Any] = {}
    for name in ("timeout", "exitcode", "signal", "peak_memory", "stack", "type_name"):
        value = None
        with contextlib.suppress(Exception):  # it may be code
            value = getattr(error, name, None)
        if isinstance(value, (int, str)) or (isinstance(value, float) and math.isfinite(value)):
            found[name] = value
    return found


def cause_of(record: dict[str, Any]) -> str:
    """What failures have in common: the error's type and its message, with its numbers left out."""
    message = _NUMBERS.sub("N", " ".join(str(record.get("message") or "").split()))
    if record["kind"] == Kind.TIMED_OUT.value:
        return "ran longer than its timeout"
    if record["kind"] == Kind.WORKER_LOST.value:
        details = record.get("details", {})
        if "signal" in details:
            return f"its worker was ended by {details['signal']}"
        if "exitcode" in details:
            return f"its worker ended with exit code {details['exitcode']}"
        return "it lost its worker"
    text = f"{record['error']}: {message}" if message else str(record["error"])
    return storable(text if len(text) <= 160 else text[:159] + "…")


def storable(text: str) -> str:
    """`text` as a database takes it: halves of surrogate pairs, as in names of files that are no text, are escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
