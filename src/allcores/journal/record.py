"""A run at work: opened (begun or resumed), mapped and committed, published."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from allcores.errors import JournalError, RunChanged, UsageError
from allcores.journal import folders
from allcores.journal.assembly import DamagedRecords, damaged_rows, entries
from allcores.journal.catalogue import Catalogue, Facts
from allcores.journal.faults import fault
from allcores.journal.feed import CountedFeed, Feed
from allcores.journal.identity import differences, identity_of_function, identity_of_source
from allcores.journal.keyed import KeyedFeed, is_keyed
from allcores.journal.lock import RunLock
from allcores.journal.log import Log, sync_folder
from allcores.journal.options import Journal, RunResult
from allcores.journal.ranges import RangeSet
from allcores.journal.writer import Writer
from allcores.limits import Retry
from allcores.outcome import Kind, Outcome
from allcores.streams.cursors import is_read_once
from allcores.streams.outputs import WholeSink

if TYPE_CHECKING:
    from allcores.pool import Pool
    from allcores.stream import Stream

OnError = Literal["raise", "skip", "record"]
#: how often what turns out to be damaged is run again before the disk is given up
MOST_REPAIRS = 3


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done. sink: where to. request: what was asked for, so that it can be asked again.

    setup, setup_args: of the pool, for they are part of what makes it the same work.
    """

    fn: Callable[..., Any]
    source: Iterable[Any]
    sink: WholeSink
    on_error: OnError = "raise"
    timeout: float | None = None
    retries: int | Retry = 0
    chunk: int | None = None
    setup: Callable[..., Any] | None = None
    setup_args: tuple[Any, ...] = ()
    request: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise UsageError if the sink has no place for what is asked for."""
        if self.on_error == "record" and not self.sink.takes_failures:
            raise UsageError(
                f"failures cannot be recorded in {self.sink.path}: write to JSON Lines with records, or skip failures"
                " and export them afterwards (allcores runs failures)"
            )
        path = os.path.realpath(self.sink.path)
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise UsageError(
                f"{self.sink.path} is no regular file, so it cannot be published whole: use standard output (-o -)"
                " and redirect that"
            )

    def identity(self, key: str | int | None) -> dict[str, Any]:
        """What makes it the same work, as plain JSON."""
        return {
            "function": identity_of_function(self.fn),
            "setup": identity_of_function(self.setup),
            "options": {
                "setup_args": [repr(each) for each in self.setup_args],
                "key": key,
            },
            "sink": self.sink.describe(),
            "source": identity_of_source(self.source),
        }


class Control:
    """Who looks on while a run is at work, and may end it. This one does neither."""

    @property
    def stopped(self) -> bool:
        """It was asked to end before the input did."""
        return False

    def opened(self, facts: Facts, resumed: int) -> None:
        """The run is open. resumed: items that are settled already."""

    def started(self, stream: Stream[Any]) -> None:
        """Its stream is there; `stream.stop()` ends it in peace."""

    def guarded(self, items: Iterable[Any]) -> Iterator[Any]:
        """Around each reading of the input; may end it."""
        return iter(items)

    def settled(self, outcome: Outcome[str]) -> None:
        """An outcome came, and is on its way to the disk."""


class Run:
    """One run, open. To be closed; use it as a context manager."""

    def __init__(self, work: Work, journal: Journal) -> None:
        """Begin or resume. Raises: RunNotFound, RunChanged, RunInUse, JournalError."""
        self._work = work
        self._journal = journal
        self._identity = work.identity(journal.key)
        self._stack = contextlib.ExitStack()
        self._accepted = False
        #: this session has begun a round of its own, or need not
        self._fresh = False
        self._keyed = is_keyed(work.source, journal.key)
        self._started = monotonic()
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the run. Idempotent."""
        self._stack.close()

    @property
    def facts(self) -> Facts:
        """What the catalogue says now."""
        return self._catalogue.facts()

    # --- opening ---

    def _open(self) -> None:
        journal = self._journal
        runs = folders.runs_folder(journal.folder)
        known = None
        if isinstance(journal.resume, str):
            known = folders.look_up(runs, journal.resume)
        elif journal.resume:
            known = folders.latest_for(runs, self._identity["sink"])
        if known is None:
            folders.prune_at_times(runs)
            self.name, self.folder = folders.new_folder(runs)
            fault("folder.made")
            self._lock()
            self._catalogue = self._opened(create=True)
            self._catalogue.begin(self.name, self._identity, self._work.request, journal.fsync)
            if journal.fsync == "commit":
                sync_folder(runs)
                sync_folder(self.folder)
            fault("catalogue.made")
        else:
            self.name, self.folder = known.name, known.folder
            self._lock()
            self._catalogue = self._opened(create=False)
        facts = self._catalogue.facts()
        self.resumed = facts.settled
        if known is not None:
            self._check_same(facts)
        try:
            self._log = Log(os.path.join(self.folder, folders.LOG), facts.log_size)
        except OSError as error:
            raise JournalError(f"cannot open the log of run {self.name}: {error.strerror}", run=self.name) from None
        self._stack.callback(self._log.close)
        if known is not None:
            self._repair(facts)
        self._catalogue.update(
            state="running",
            error=None,
            sessions=facts.sessions + 1,
            boot=_boot(),
            fsync=journal.fsync,
            request=json.dumps(self._work.request),
        )
        self._settled = RangeSet(self._catalogue.settled())
        self._facts = self._catalogue.facts()

    def _lock(self) -> None:
        lock = RunLock(self.folder, self.name)
        self._stack.callback(lock.release)

    def _opened(self, *, create: bool) -> Catalogue:
        catalogue = Catalogue(self.folder, writable=True, create=create, sync=self._journal.fsync == "commit")
        self._stack.callback(catalogue.close)
        return catalogue

    def _check_same(self, facts: Facts) -> None:
        found = differences(facts.identity, self._identity, keyed=self._keyed)
        if found and not self._journal.accept_changes:
            raise self._changed(found)
        if found:
            self._accepted = True
            source = facts.identity["source"]
            self._catalogue.update(identity=json.dumps({**self._identity, "source": source}))

    def _changed(self, found: list[str]) -> RunChanged:
        return RunChanged(
            f"run {self.name} was another work: {'; '.join(found)}. Go on all the same with accept_changes=True"
            " (--accept-changes), or begin anew without resume (--resume)",
            differences=tuple(found),
        )

    def _repair(self, facts: Facts) -> None:
        """After what may have cost committed bytes of the log, look at all of it; what is damaged runs again."""
        lost_power = facts.boot is not None and facts.boot != _boot() and facts.fsync != "commit"
        if self._log.missing or lost_power:
            rows = damaged_rows(self._catalogue, self._log)
            self._catalogue.unsettle(rows)
            self._log.cut(max((row.offset + row.size for row in self._catalogue.records()), default=0))
            self._catalogue.update(log_size=self._log.size)

    # --- working ---

    def work(self, pool: Pool, control: Control) -> RunResult:
        """Map what is left and publish the whole. Raises what ends the map; what is committed stays.

        Returns: the result; its `output` is None if `control` ended it before its time.
        """
        control.opened(self._facts, self.resumed)
        damaged: DamagedRecords | None = None
        try:
            for _ in range(MOST_REPAIRS):
                self._map_all(pool, control)
                if control.stopped:
                    return self._left("running", None)
                try:
                    self._publish()
                    return self._left("finished", self._work.sink.path)
                except DamagedRecords as error:
                    damaged = error
                    self._catalogue.unsettle(damaged.rows)
                    self._settled = RangeSet(self._catalogue.settled())
            raise JournalError(f"the log of run {self.name} is damaged again and again: {damaged}", run=self.name)
        except BaseException as error:
            with contextlib.suppress(JournalError):
                self._left("running" if isinstance(error, KeyboardInterrupt) else "stopped", None, error)
            raise

    def _map_all(self, pool: Pool, control: Control) -> None:
        """One map over what has no outcome; and one over what failed before, if that is to run again."""
        round = self._begin_round()
        again = round > 0 and next(self._catalogue.failures(before_round=round), None) is not None
        together = again and (self._keyed or is_read_once(self._work.source))
        open_now = RangeSet(self._settled)
        if together:
            # One reading for both: the input cannot be read twice, or has to be read from its start anyway.
            for row in self._catalogue.failures(before_round=round):
                open_now.discard(row.slot, row.slot + 1)
        self._map(pool, control, round, open_now, None)
        if again and not together and not control.stopped:
            failed = (row.slot for row in self._catalogue.failures(before_round=round))
            self._map(pool, control, round, open_now, failed)

    def _begin_round(self) -> int:
        """The round in which failures are settled now; those of earlier rounds run again."""
        facts = self._catalogue.facts()
        again = self._journal.retry_failed or self._work.on_error == "raise"
        if self._fresh or not (again and facts.failures):
            return facts.round
        self._fresh = True
        self._catalogue.update(round=facts.round + 1)
        return facts.round + 1

    def _map(self, pool: Pool, control: Control, round: int, settled: RangeSet, wanted: Iterator[int] | None) -> None:
        journal = self._journal
        feed: Feed | KeyedFeed
        if self._keyed:
            feed = KeyedFeed(self._work.source, journal.key, self._catalogue, settled, control.guarded)
        else:
            total = None if wanted is not None else count_of(self._work.source)
            kind = Feed if total is None else CountedFeed
            feed = kind(self._work.source, settled, wanted=wanted, guard=control.guarded)
            if isinstance(feed, CountedFeed) and total is not None:
                feed.count = max(0, total - settled.count)
        writer = Writer(
            self._catalogue,
            self._log,
            self._settled,
            name=self.name,
            commit_s=journal.commit_s,
            sync=journal.fsync == "commit",
            details=self._work.sink.wants_details,
            round=round,
            feed=feed,
        )
        try:
            try:
                feed.report = writer.report
                if isinstance(feed, Feed):
                    self._open_feed(feed, last=wanted is not None)
                else:
                    feed.open(self._catalogue.facts().sessions)
                self._drain(pool, feed, writer, control)
            finally:
                feed.close()
        except BaseException:
            with contextlib.suppress(JournalError):
                writer.close()
            raise
        writer.close()
        if not control.stopped and feed.total is not None:
            self._catalogue.put_places(feed.places(self._settled.end), total=feed.total)

    def _open_feed(self, feed: Feed, *, last: bool) -> None:
        """Compare the input with what is known of it, once; later readings of this session go straight on."""
        catalogue = self._catalogue
        facts = catalogue.facts()
        now = self._identity["source"]
        unchanged = now["facts"] is not None and facts.identity["source"]["facts"] == now["facts"]
        if not unchanged and not last:
            try:
                feed.compare(catalogue.anchors())
            except RunChanged as error:
                if not self._journal.accept_changes:
                    raise self._changed(list(error.differences)) from None
                catalogue.forget_input()
                feed.reset()
            if now["facts"] is not None or self._accepted:
                catalogue.update(identity=json.dumps({**facts.identity, "source": now}))
        if not self._journal.accept_changes:
            feed.expected = facts.total
        feed.open(catalogue)

    def _drain(self, pool: Pool, feed: Feed | KeyedFeed, writer: Writer, control: Control) -> None:
        work = self._work
        raising = work.on_error == "raise"
        ok, cancelled = Kind.OK, Kind.CANCELLED
        put, settled = writer.put, control.settled
        looked_at = type(control).settled is not Control.settled
        stream = pool.outcomes(
            work.sink.wrap(work.fn), feed, timeout=work.timeout, retries=work.retries, chunk=work.chunk, ordered=False
        )
        with stream:
            control.started(stream)
            for outcome in stream:
                kind = outcome.kind
                if kind is cancelled:
                    continue
                put(outcome)
                if looked_at:
                    settled(outcome)
                if raising and kind is not ok:
                    assert outcome.error is not None
                    raise outcome.error

    # --- the end ---

    def _publish(self) -> None:
        sink, catalogue, log = self._work.sink, self._catalogue, self._log
        try:
            sink.publish(
                lambda: entries(catalogue, log),
                mark=self.name,
                sync=self._journal.fsync != "never",
                moment=lambda name: fault(f"publish.{name}"),
            )
        except OSError as error:
            raise JournalError(
                f"cannot write {sink.path}: {error.strerror or error}. All outcomes are in the journal: make room and"
                f" resume run {self.name}",
                run=self.name,
            ) from error

    def _left(self, state: str, output: str | None, error: BaseException | None = None) -> RunResult:
        """Write down how the session ended."""
        fault("finish.before")
        seconds = monotonic() - self._started
        facts = self._catalogue.facts()
        sentence = None if error is None else str(error) or type(error).__name__
        self._catalogue.update(state=state, error=sentence, seconds=facts.seconds + seconds)
        fault("finish.after")
        skipped = int(self._catalogue.rows("SELECT count(*) FROM bad_records")[0][0])
        return RunResult(
            id=self.name,
            output=output,
            journal=self.folder,
            ok=facts.ok,
            failed=facts.failed,
            timed_out=facts.timed_out,
            workers_lost=facts.worker_lost,
            skipped=skipped,
            resumed=self.resumed,
            seconds=seconds,
        )


def count_of(source: Iterable[Any]) -> int | None:
    """How many items a source has, where that can be told quickly."""
    total = getattr(source, "total", None)
    if callable(total):
        count = total()
        return count if isinstance(count, int) else None
    return len(source) if isinstance(source, Sized) else None


def _boot() -> str | None:
    """What is different after each start of the machine; None where it cannot be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None
