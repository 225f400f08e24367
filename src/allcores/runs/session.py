"""A run at work: opened (begun or resumed), mapped and committed, published."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any

from allcores.errors import BatchError, JournalError, RunChanged, UsageError
from allcores.failpoints import failpoint
from allcores.formatting import error_text
from allcores.outcome import Kind
from allcores.runs import directory
from allcores.runs.base import RunPool
from allcores.runs.disk import is_full
from allcores.runs.fingerprint import are_kept_alike, differences, leaves_out_less
from allcores.runs.going_back import go_back_to_state, is_all_there
from allcores.runs.index import RunIndex
from allcores.runs.lock import RunLock
from allcores.runs.options import Journal, RunResult
from allcores.runs.outcome_log import Log, sync_folder
from allcores.runs.output import DamagedRecords, by_slot, damaged_rows, entries, whole
from allcores.runs.ranges import RangeSet
from allcores.runs.remaining import RemainingByCount, RemainingItems
from allcores.runs.remaining_by_key import RemainingByKey, is_keyed
from allcores.runs.remaining_in_order import RemainingInOrder
from allcores.runs.rows import RunRow
from allcores.runs.spec import RunHooks, RunSpec, count_of
from allcores.runs.states import is_enough, read_state
from allcores.runs.writer import Writer, storable
from allcores.sinks.base import Block, Lost
from allcores.sources.chain import begins_anew, is_read_once
from allcores.system import deferral, procfs

#: how often what turns out to be damaged is run again before the disk is given up
MOST_REPAIRS = 3


class RunSession:
    """One run, open. To be closed; use it as a context manager."""

    def __init__(self, work: RunSpec, journal: Journal) -> None:
        """Begin or resume.

        Raises:
            RunNotFound: If there is no such run.
            RunChanged: If it is not the same.
            RunInUse: If another process has it.
            JournalError: If it cannot be read or written.
        """
        self._work = work
        self._journal = journal
        self._identity = work.identity(journal.key)
        self._stack = contextlib.ExitStack()
        #: what commits, or did so last
        self._writer: Writer | None = None
        self._accepted = False
        #: this session has begun a round of its own, or need not
        self._fresh = False
        #: items that the input gave when this session read it to its end
        self._given = 0
        self._keyed = not work.in_order and is_keyed(work.source, journal.key)
        if work.in_order and journal.key is not None:
            raise UsageError(
                f"key={journal.key!r} finds items again wherever they are, but here an outcome depends on the items"
                " before it: leave the key out"
            )
        self._started = monotonic()
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> RunSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the run. Idempotent.

        Where Ctrl-C has ended the wait for a commit, not before that is over: it would write to what is another's then.
        """
        if self._writer is None:
            self._stack.close()
        else:
            self._writer.at_end(self._stack.close)

    @property
    def run_row(self) -> RunRow:
        """What the catalogue says now."""
        return self._run_index.run_row()

    # --- opening ---

    def _open(self) -> None:
        journal = self._journal
        runs = directory.runs_folder(journal.folder)
        known = None
        if isinstance(journal.resume, str):
            known = directory.look_up(runs, journal.resume)
        elif journal.resume:
            known = directory.latest_for(runs, self._identity["sink"])
        if known is None:
            directory.prune_at_times(runs)
            self.name, self.folder = directory.new_folder(runs)
            failpoint("folder.made")
            self._lock()
            self._run_index = self._opened(create=True)
            self._run_index.begin(self.name, self._identity, self._work.request, journal.fsync)
            if journal.fsync == "commit":
                sync_folder(runs)
                sync_folder(self.folder)
            failpoint("catalogue.made")
        else:
            self.name, self.folder = known.name, known.folder
            self._lock()
            self._run_index = self._opened(create=False)
            self._run_index.mend()
        run_row = self._run_index.run_row()
        self.resumed = run_row.settled
        if known is not None:
            self._check_same(run_row)
        try:
            # What lies behind the last record that counts was not committed.
            size = max((row.offset + row.size for row in self._run_index.records()), default=0)
            self._log = Log(os.path.join(self.folder, directory.LOG), size)
        except OSError as error:
            raise JournalError(f"cannot open the log of run {self.name}: {error.strerror}", run=self.name) from None
        self._stack.callback(self._log.close)
        if known is not None:
            self._repair(run_row)
        self._run_index.update(
            state="running",
            error=None,
            sessions=run_row.sessions + 1,
            boot=procfs.boot_id(),
            fsync=journal.fsync,
            request=json.dumps(self._work.request),
        )
        self._settled = RangeSet(self._run_index.settled())
        self._facts = self._run_index.run_row()

    def _lock(self) -> None:
        lock = RunLock(self.folder, self.name)
        self._stack.callback(lock.release)

    def _opened(self, *, create: bool) -> RunIndex:
        run_index = RunIndex(self.folder, writable=True, create=create, sync=self._journal.fsync == "commit")
        self._stack.callback(run_index.close)
        return run_index

    def _check_same(self, run_row: RunRow) -> None:
        found = differences(run_row.identity, self._identity, keyed=self._keyed)
        if not found:
            return
        lost = ""
        if not are_kept_alike(run_row.identity, self._identity):
            lost = "Its outcomes are kept in another form than that output takes"
        elif not self._keyed and self._run_index.last_slot_of_keys() >= 0:
            lost = "Its outcomes are those of keys or paths, and not of places in the input"
        elif not self._keyed and leaves_out_less(run_row.identity, self._identity):
            lost = "Its items are counted without the bad records, which are to be left out again (--bad-records skip)"
        if lost or not self._journal.accept_changes:
            raise self._changed(found, lost)
        self._accepted = True
        source = run_row.identity["source"]
        self._run_index.update(identity=json.dumps({**self._identity, "source": source}))

    def _changed(self, found: list[str], lost: str = "") -> RunChanged:
        """What to raise for another work.

        Args:
            lost: Why it cannot be gone on with, whatever is accepted.
        """
        anew = "begin anew without resume (--resume)"
        way_out = f"Go on all the same with accept_changes=True (--accept-changes), or {anew}"
        if lost:
            way_out = f"{lost}: {anew}, and write what is done elsewhere: allcores runs export {self.name} -o FILE"
        return RunChanged(f"run {self.name} was another work: {'; '.join(found)}. {way_out}", differences=tuple(found))

    def _repair(self, run_row: RunRow) -> None:
        """After what may have cost committed bytes of the log, look at all of it; what is damaged runs again."""
        lost_power = run_row.boot is not None and run_row.boot != procfs.boot_id() and run_row.fsync != "commit"
        if self._log.missing or lost_power:
            rows = damaged_rows(self._run_index, self._log)
            self._run_index.unsettle(rows)
            self._log.cut(max((row.offset + row.size for row in self._run_index.records()), default=0))

    # --- working ---

    def work(self, pool: RunPool, hooks: RunHooks) -> RunResult:
        """Map what is left and publish the whole. Raises what ends the map; what is committed stays.

        Returns:
            The result; its `output` is None if `control` ended it before its time.
        """
        if self._work.in_order:
            self.resumed = self._go_back()
        hooks.opened(self._facts, self.resumed)
        damaged: DamagedRecords | None = None
        try:
            for _ in range(MOST_REPAIRS):
                self._map_all(pool, hooks)
                if hooks.stopped:
                    return self._left("running", None)
                try:
                    self._publish()
                    return self._left("finished", self._work.sink.path)
                except DamagedRecords as error:
                    damaged = error
                    self._run_index.unsettle(damaged.rows)
                    self._settled = RangeSet(self._run_index.settled())
                    if self._work.in_order:
                        self._go_back()
                    if self._keyed:
                        # Keys are known to have been met by the number of the session, and are all met once more.
                        self._run_index.update(sessions=self._run_index.run_row().sessions + 1)
                    if is_read_once(self._work.source):
                        raise self._not_given_again() from None
            raise JournalError(f"the log of run {self.name} is damaged again and again: {damaged}", run=self.name)
        except BaseException as error:
            with contextlib.suppress(JournalError):
                if isinstance(error, Exception):
                    self._left("stopped", None, error)
                else:  # Ctrl-C: it says that it is running and is not, so it was interrupted
                    self._left("running", None)
            raise

    def _map_all(self, pool: RunPool, hooks: RunHooks) -> None:
        """One map over what has no outcome; and one over what failed before, if that is to run again."""
        if self._work.in_order:
            self._map(pool, hooks, 0, self._settled, None)
            return
        round = self._begin_round()
        again = round > 0 and next(self._run_index.failures(before_round=round), None) is not None
        together = again and (self._keyed or not begins_anew(self._work.source))
        open_now = RangeSet(self._settled)
        if together:
            # One reading for both: the input may not be read twice, or has to be read from its start anyway.
            for row in self._run_index.failures(before_round=round):
                open_now.discard(row.slot, row.slot + 1)
        self._map(pool, hooks, round, open_now, None)
        if again and not together and not hooks.stopped:
            failed = (row.slot for row in self._run_index.failures(before_round=round))
            self._map(pool, hooks, round, open_now, failed)

    def _go_back(self) -> int:
        journal = self._journal
        again = not self._fresh and journal.retry_failed
        self._fresh = True
        place = go_back_to_state(self._run_index, self._settled, again=again, accepted=journal.accept_changes)
        self._settled = RangeSet(self._run_index.settled())
        return place

    def _begin_round(self) -> int:
        """The round in which failures are settled now; those of earlier rounds run again."""
        run_row = self._run_index.run_row()
        again = self._journal.retry_failed or self._work.on_error == "raise"
        if self._fresh or not (again and run_row.failures):
            return run_row.round
        self._fresh = True
        self._run_index.update(round=run_row.round + 1)
        return run_row.round + 1

    def _map(self, pool: RunPool, hooks: RunHooks, round: int, settled: RangeSet, wanted: Iterator[int] | None) -> None:
        journal = self._journal
        remaining: RemainingItems | RemainingByKey

        def guarded(items: Iterable[Any]) -> Iterator[Any]:
            return hooks.guarded(self._work.looked_at(items))

        if self._work.in_order:
            start, _ = settled.hole_from(0)
            state = read_state(self._run_index, start) or {}
            remaining = RemainingInOrder(self._work.source, settled, state=state, guard=guarded)
        elif self._keyed:
            remaining = RemainingByKey(self._work.source, journal.key, self._run_index, settled, guarded)
        else:
            total = None if wanted is not None else count_of(self._work.source)
            kind = RemainingItems if total is None else RemainingByCount
            remaining = kind(self._work.source, settled, wanted=wanted, guard=guarded)
            if isinstance(remaining, RemainingByCount) and total is not None:
                remaining.count = max(0, total - settled.count)
        writer = self._writer = Writer(
            self._run_index,
            self._log,
            self._settled,
            name=self.name,
            commit_s=journal.commit_s,
            commit_items=journal.commit_items,
            sync=journal.fsync == "commit",
            details=self._work.sink.wants_details,
            round=round,
            remaining=remaining,
        )
        try:
            try:
                remaining.report = writer.report
                if isinstance(remaining, RemainingItems):
                    self._open_remaining(remaining, last=wanted is not None)
                else:
                    remaining.open(self._run_index.run_row().sessions)
                if self._work.in_order and is_all_there(self._run_index, self._settled, remaining):
                    remaining.total = self._run_index.run_row().total
                else:
                    self._drain(pool, remaining, writer, hooks)
            finally:
                remaining.close()
        except BaseException:
            with contextlib.suppress(JournalError):
                writer.close()
            raise
        writer.close()
        if not hooks.stopped and remaining.total is not None:
            self._check_given(remaining.total)
            places = remaining.places(self._settled.end)
            self._check_whole(places or [(0, remaining.total, 0)])
            self._run_index.put_places(places, total=remaining.total)

    def _check_given(self, total: int) -> None:
        """Raise JournalError if the input has not given as much as when this session read it before."""
        if total < self._given:
            raise self._not_given_again()
        self._given = total

    def _not_given_again(self) -> JournalError:
        return JournalError(
            f"the log of run {self.name} is damaged, and its input cannot be read again here: resume it, and what is"
            " damaged runs again",
            run=self.name,
        )

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

    def _open_remaining(self, remaining: RemainingItems, *, last: bool) -> None:
        """Compare the input with what is known of it, once; later readings of this session go straight on."""
        run_index = self._run_index
        run_row = run_index.run_row()
        now = self._identity["source"]
        unchanged = now["facts"] is not None and run_row.identity["source"]["facts"] == now["facts"]
        if not unchanged and not last:
            try:
                remaining.compare(run_index.anchors())
            except RunChanged as error:
                if self._given:  # it is the same, but this session has read it before
                    raise self._not_given_again() from None
                if not self._journal.accept_changes:
                    raise self._changed(list(error.differences)) from None
                run_index.forget_input()
                remaining.reset()
            if now["facts"] is not None or self._accepted:
                run_index.update(identity=json.dumps({**run_row.identity, "source": now}))
        if not self._journal.accept_changes and not is_enough(run_index):
            remaining.expected = run_row.total
        remaining.open(run_index)

    def _drain(
        self, pool: RunPool, remaining: RemainingItems | RemainingByKey, writer: Writer, hooks: RunHooks
    ) -> None:
        work = self._work
        ok, cancelled = Kind.OK, Kind.CANCELLED
        put, settled = writer.put, hooks.settled
        looked_at = type(hooks).settled is not RunHooks.settled
        once = work.names_once(self._settled_entries(), remaining)
        stream = pool.outcomes(
            work.function,
            remaining,
            timeout=work.timeout,
            retries=work.retries,
            chunk=work.chunk,
            batch=work.batch,
            ordered=False,
        )
        with stream:
            hooks.started(stream)
            writer.when_lost(stream.stop)
            for outcome in stream:
                if once is not None:
                    outcome = once(outcome)
                kind = outcome.kind
                if kind is cancelled:
                    continue
                if isinstance(outcome.error, BatchError):
                    # Not the item's failure: it is not settled, and comes again once the function is right.
                    raise outcome.error
                ends = kind is not ok and work.is_end(outcome)
                if not ends or work.stops_at is None:
                    put(outcome)
                if looked_at:
                    settled(outcome)
                if ends:
                    assert outcome.error is not None
                    raise outcome.error

    def _settled_entries(self) -> Iterator[Block | Lost]:
        """What earlier sessions settled, as far as it can be read: what is damaged is found when it is published."""
        with contextlib.suppress(DamagedRecords):
            yield from (by_slot if self._keyed else entries)(self._run_index, self._log)

    # --- the end ---

    def _publish(self) -> None:
        sink, run_index, log = self._work.sink, self._run_index, self._log
        total = run_index.run_row().total
        try:
            sink.publish(
                lambda: self._work.shown(whole(entries(run_index, log), total, self.name)),
                mark=self.name,
                sync=self._journal.fsync != "never",
            )
        except UsageError as error:
            raise UsageError(f"{error}. {self._kept()}, which takes any value") from error
        except OSError as error:
            if deferral.raised_by_handler(error):
                raise
            remedy = f"Make room and resume run {self.name}" if is_full(error) else f"{self._kept()}, or resume it"
            raise JournalError(
                f"cannot write {sink.path}: {error.strerror or error}. All outcomes are in the journal. {remedy}",
                run=self.name,
            ) from error

    def _kept(self) -> str:
        return f"Write the outcomes of the run elsewhere with: allcores runs export {self.name} -o FILE.jsonl"

    def _left(self, state: str, output: str | None, error: BaseException | None = None) -> RunResult:
        """Write down how the session ended."""
        failpoint("finish.before")
        seconds = monotonic() - self._started
        run_row = self._run_index.run_row()
        sentence = None if error is None else error_text(error) or type(error).__name__
        self._run_index.update(
            state=state, error=None if sentence is None else storable(sentence), seconds=run_row.seconds + seconds
        )
        failpoint("finish.after")
        skipped, _ = self._run_index.bad_records(0)
        return RunResult(
            id=self.name,
            output=output,
            journal=self.folder,
            ok=run_row.ok,
            failed=run_row.failed,
            timed_out=run_row.timed_out,
            workers_lost=run_row.worker_lost,
            skipped=skipped,
            resumed=self.resumed,
            seconds=seconds,
        )
