"""A run at work: opened (begun or resumed), mapped and committed, published."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from allcores.errors import JournalError, RunChanged, UsageError
from allcores.journal import folders
from allcores.journal.assembly import DamagedRecords, damaged_rows, entries, whole
from allcores.journal.catalogue import Catalogue
from allcores.journal.disk import is_full
from allcores.journal.faults import fault
from allcores.journal.feed import CountedFeed, Feed
from allcores.journal.identity import differences
from allcores.journal.keyed import KeyedFeed, is_keyed
from allcores.journal.lock import RunLock
from allcores.journal.log import Log, sync_folder
from allcores.journal.options import Journal, RunResult
from allcores.journal.ranges import RangeSet
from allcores.journal.rows import Facts
from allcores.journal.work import Control, Work, count_of
from allcores.journal.writer import Writer, storable
from allcores.outcome import Kind
from allcores.streams.cursors import is_read_once
from allcores.streams.outputs import Block, Lost

if TYPE_CHECKING:
    from allcores.pool import Pool

#: how often what turns out to be damaged is run again before the disk is given up
MOST_REPAIRS = 3


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
            self._catalogue.mend()
        facts = self._catalogue.facts()
        self.resumed = facts.settled
        if known is not None:
            self._check_same(facts)
        try:
            # What lies behind the last record that counts was not committed.
            size = max((row.offset + row.size for row in self._catalogue.records()), default=0)
            self._log = Log(os.path.join(self.folder, folders.LOG), size)
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
                    if is_read_once(self._work.source):
                        raise JournalError(
                            f"the log of run {self.name} is damaged, and its input cannot be read again here:"
                            f" resume it, and {sum(row.count for row in error.rows)} items run again",
                            run=self.name,
                        ) from None
            raise JournalError(f"the log of run {self.name} is damaged again and again: {damaged}", run=self.name)
        except BaseException as error:
            with contextlib.suppress(JournalError):
                if isinstance(error, Exception):
                    self._left("stopped", None, error)
                else:  # Ctrl-C: it says that it is running and is not, so it was interrupted
                    self._left("running", None)
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

        def guarded(items: Iterable[Any]) -> Iterator[Any]:
            return control.guarded(self._work.looked_at(items))

        if self._keyed:
            feed = KeyedFeed(self._work.source, journal.key, self._catalogue, settled, guarded)
        else:
            total = None if wanted is not None else count_of(self._work.source)
            kind = Feed if total is None else CountedFeed
            feed = kind(self._work.source, settled, wanted=wanted, guard=guarded)
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
            places = feed.places(self._settled.end)
            self._check_whole(places or [(0, feed.total, 0)])
            self._catalogue.put_places(places, total=feed.total)

    def _check_whole(self, places: list[tuple[int, int, int]]) -> None:
        """Raise JournalError unless each item has an outcome: an output with a gap must never be published."""
        for position, count, slot in places:
            hole, _ = self._settled.hole_from(slot)
            if hole < slot + count:
                raise JournalError(
                    f"item {position + hole - slot} of run {self.name} has no outcome, and the input could not be read"
                    " again to get it: resume the run with the whole input",
                    run=self.name,
                )

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
        once = work.names_once(self._settled_entries())
        stream = pool.outcomes(
            work.sink.wrap(work.fn), feed, timeout=work.timeout, retries=work.retries, chunk=work.chunk, ordered=False
        )
        with stream:
            control.started(stream)
            writer.when_lost(stream.stop)
            for outcome in stream:
                if once is not None:
                    outcome = once(outcome)
                kind = outcome.kind
                if kind is cancelled:
                    continue
                put(outcome)
                if looked_at:
                    settled(outcome)
                if raising and kind is not ok:
                    assert outcome.error is not None
                    raise outcome.error

    def _settled_entries(self) -> Iterator[Block | Lost]:
        """What earlier sessions settled, as far as it can be read: what is damaged is found when it is published."""
        with contextlib.suppress(DamagedRecords):
            yield from entries(self._catalogue, self._log)

    # --- the end ---

    def _publish(self) -> None:
        sink, catalogue, log = self._work.sink, self._catalogue, self._log
        total = catalogue.facts().total
        try:
            sink.publish(
                lambda: whole(entries(catalogue, log), total, self.name),
                mark=self.name,
                sync=self._journal.fsync != "never",
                moment=lambda name: fault(f"publish.{name}"),
            )
        except UsageError as error:
            raise UsageError(f"{error}. {self._kept()}, which takes any value") from error
        except OSError as error:
            remedy = f"Make room and resume run {self.name}" if is_full(error) else f"{self._kept()}, or resume it"
            raise JournalError(
                f"cannot write {sink.path}: {error.strerror or error}. All outcomes are in the journal. {remedy}",
                run=self.name,
            ) from error

    def _kept(self) -> str:
        return f"Write the outcomes of the run elsewhere with: allcores runs export {self.name} -o FILE.jsonl"

    def _left(self, state: str, output: str | None, error: BaseException | None = None) -> RunResult:
        """Write down how the session ended."""
        fault("finish.before")
        seconds = monotonic() - self._started
        facts = self._catalogue.facts()
        sentence = None if error is None else str(error) or type(error).__name__
        self._catalogue.update(
            state=state, error=None if sentence is None else storable(sentence), seconds=facts.seconds + seconds
        )
        fault("finish.after")
        skipped, _ = self._catalogue.bad_records(0)
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


def _boot() -> str | None:
    """What is different after each start of the machine; None where it cannot be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None
