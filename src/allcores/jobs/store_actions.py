"""What people change in a store of jobs, and small things that outlive a process."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import delete, insert, select

from allcores.jobs import actions, filters, schema
from allcores.jobs.errors import BadJob
from allcores.jobs.group_commit import Handler, Pause, Transaction
from allcores.jobs.model import Changed, Snapshot, State
from allcores.jobs.rows import check_name, check_whole, dumps
from allcores.jobs.store_reading import StoreReading


class StoreActions(StoreReading):
    """The part of a store that people act on; each action writes a row of the audit."""

    def _changed(self) -> None:
        """Something was changed that the supervisor has to know of."""

    def cancel(self, which: Collection[str] | Snapshot, by: str, *, seconds: float | None = None) -> Changed:
        """Cancel queued jobs, and ask for the end of running ones; others are skipped.

        Args:
            which: The jobs.
            by: Who does it.
            seconds: For how long at most (`Changed.time_was_up`); None: until all are done.
        """
        return self._act("cancel", actions.cancel, which, by, seconds)

    def retry(
        self, which: Collection[str] | Snapshot, by: str, *, succeeded: bool = True, seconds: float | None = None
    ) -> Changed:
        """Queue jobs that have come to an end again, at once and with all attempts before them; others are skipped.

        Args:
            which: The jobs.
            by: Who does it.
            succeeded: Also those that have succeeded; their results are gone then.
            seconds: As of `cancel`.
        """
        return self._act("retry", actions.retry if succeeded else actions.retry_unsuccessful, which, by, seconds)

    def delete(
        self, which: Collection[str] | Snapshot, by: str, *, queued: bool = True, seconds: float | None = None
    ) -> Changed:
        """Delete jobs that do not run; for ten minutes `undelete` brings them back. Others are skipped.

        Args:
            which: The jobs.
            by: Who does it.
            queued: Also those that have not run yet.
            seconds: As of `cancel`.
        """
        return self._act("delete", actions.remove if queued else actions.remove_ended, which, by, seconds)

    def deletion_again(self, which: Collection[str] | Snapshot, by: str) -> Changed | None:
        """What became of the same deletion by the same user a moment ago, if all that it removed can be brought back.

        A form that is sent twice: the second time finds none of the jobs, and would offer no way to bring them back.

        Raises:
            StoreError: The store cannot be read.
        """
        with self._database.reading() as connection:
            return actions.deletion_again(connection, by, actions.described(which))

    def undelete(self, audit: int, by: str, *, seconds: float | None = None) -> Changed:
        """Bring back what was deleted by the action of a row of the audit (`Changed.audit`); once more changes nothing.

        Args:
            audit: The number of that row.
            by: Who does it.
            seconds: As of `cancel`.

        Raises:
            UndoExpired: It is gone for good.
        """
        check_whole(audit, "the number of a row of the audit")
        check_name(by, "who does it", empty=True)
        ids: list[str] = []
        row: int | None = None
        pause, end = Pause(self._database), math.inf if seconds is None else time.monotonic() + seconds
        while True:
            pause.before()
            some, row = self._commits.run(actions.bring_back, (audit, by, row))
            if not some:
                break
            ids += some
            if time.monotonic() >= end:
                break
        with self._database.reading() as connection:
            table = schema.audit
            deleted = connection.execute(
                select(table.c.count).where(table.c.seq == audit, table.c.action == "delete")
            ).scalar()
            if not ids:
                detail = json.dumps({"audit": audit})  # as it is written down
                back = connection.execute(
                    select(table.c.seq).where(
                        table.c.seq > audit, table.c.action == "undelete", table.c.detail == detail, table.c.count > 0
                    )
                ).scalar()
                if back is not None:
                    return Changed(0, audit=back)
        actions.check_undo(len(ids), 1 if deleted is None else int(deleted))
        self._changed()
        return Changed(len(ids), ids=tuple(ids[: actions.NAMED]), audit=row or 0, time_was_up=bool(some))

    def _act(
        self, name: str, act: actions.Act, which: Collection[str] | Snapshot, by: str, seconds: float | None
    ) -> Changed:
        if isinstance(which, str) or not (isinstance(which, Snapshot) or all(isinstance(id, str) for id in which)):
            raise BadJob("jobs are named as a list of ids, which are texts")
        check_name(by, "who does it", empty=True)
        if isinstance(which, Snapshot):
            check_whole(which.change, "the change number of a snapshot")
            which = replace(which, filter=filters.checked(which.filter))
        end = math.inf if seconds is None else time.monotonic() + seconds
        # Written down first, so that what is done is in the audit even if this process ends on the way.
        audit = self._commits.run(actions.write_down, (by, name, 0, actions.described(which)))
        named: list[str] = []
        count = passed = 0
        pause, time_was_up = Pause(self._database), False
        for number, (handler, payload, jobs) in enumerate(self._portions(act, which, audit)):
            # The first one in any case: who asks again and again comes to the end.
            if number and time.monotonic() >= end:
                time_was_up = True
                break
            if jobs:
                pause.before()
                some = self._commits.run(handler, payload)
                named += some[: actions.NAMED - len(named)]
                count += len(some)
                passed += jobs
        skipped = passed - count
        if not time_was_up:
            skipped = max(skipped, (which.count if isinstance(which, Snapshot) else len(set(which))) - count)
        self._changed()
        return Changed(count, skipped, tuple(named), audit, time_was_up)

    def _portions(
        self, act: actions.Act, which: Collection[str] | Snapshot, audit: int
    ) -> Iterator[tuple[Handler[Any, list[str]], Any, int]]:
        """What changes some of the jobs in a transaction, what it is given, and how many those are: perhaps none."""
        if isinstance(which, Snapshot):
            if act is actions.cancel:
                # Those that have ended are not passed by: the next request would come no further than this one.
                states = tuple(state for state in which.filter.states or State if not state.is_final)
                if not states:
                    return
                which = replace(which, filter=replace(which.filter, states=states))
            beyond: int | None = None
            while True:
                with self._database.reading() as connection:
                    seen, beyond = actions.seen_in(connection, self.dialect, which, beyond)
                for seqs in actions.portions(seen):
                    yield actions.portion_of_snapshot, (act, seqs, which.change, audit), len(seqs)
                if beyond is None:
                    return
                if not seen:
                    # A text that nothing has is looked for in all jobs.
                    yield actions.portion_of_snapshot, None, 0
        with self._database.reading() as connection:
            sizes = actions.sizes_of(connection, self.dialect, list(dict.fromkeys(which)))
        for ids in actions.portions(sizes):
            yield actions.portion_of_ids, (act, ids, audit), len(ids)

    def write_audit(self, by: str, action: str, count: int = 1, detail: dict[str, Any] | None = None) -> int:
        """Add a row to the audit, for what others than this store change; returns its number."""
        check_name(by, "who", empty=True)
        check_name(action, "the action")
        check_whole(count, "the count")
        dumps(detail or {}, "the detail")
        return self._commits.run(actions.write_down, (by, action, count, detail or {}))

    def put_record(self, kind: str, name: str, body: Any) -> None:
        """Keep a value (JSON) under a kind and a name, in place of what was there: a schedule, say."""
        row = {"kind": check_name(kind, "the kind"), "name": check_name(name, "the name"), "body": dumps(body, name)}
        self._commits.run(_put_record, row)

    def delete_record(self, kind: str, name: str) -> bool:
        """Remove such a value; False if there was none."""
        return bool(self._commits.run(_delete_record, (kind, name)))

    def change_records(self, kind: str, put: Mapping[str, Any], remove: Iterable[str] = ()) -> None:
        """Keep and remove several values of a kind in one commit: all of them, or none."""
        rows = [{"kind": kind, "name": check_name(name, "the name"), "body": dumps(put[name], name)} for name in put]
        self._commits.run(_change_records, (rows, [(kind, name) for name in remove]))


def _put_record(transaction: Transaction, payloads: Sequence[dict[str, Any]]) -> list[Any]:
    table = schema.records
    for row in payloads:
        transaction.connection.execute(delete(table).where(table.c.kind == row["kind"], table.c.name == row["name"]))
        transaction.connection.execute(insert(table).values(**row, changed=transaction.change))
    return [None] * len(payloads)


def _change_records(
    transaction: Transaction, payloads: Sequence[tuple[list[dict[str, Any]], list[tuple[str, str]]]]
) -> list[Any]:
    for put, remove in payloads:
        _put_record(transaction, put)
        _delete_record(transaction, remove)
    return [None] * len(payloads)


def _delete_record(transaction: Transaction, payloads: Sequence[tuple[str, str]]) -> list[Any]:
    table = schema.records
    return [
        transaction.connection.execute(delete(table).where(table.c.kind == kind, table.c.name == name)).rowcount > 0
        for kind, name in payloads
    ]
