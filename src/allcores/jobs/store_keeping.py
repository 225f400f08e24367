"""What a store keeps, and for how long: seen to by the supervisor."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allcores.formatting import counted, seconds_text
from allcores.jobs import actions, believed_time, checkpoints, firings, queries, recounting, untold
from allcores.jobs.believed_time import BelievedTime
from allcores.jobs.database import Database
from allcores.jobs.opening import RESULTS
from allcores.jobs.retention import Retention, Swept, orphans, remove_results, sweep
from allcores.jobs.store_actions import StoreActions

log = logging.getLogger("allcores.jobs")

#: seconds between two rows of the audit about what retention removes
WRITE_DOWN_S = 60.0


class StoreKeeping(StoreActions):
    """The part of a store that removes what is to be kept no longer.

    Attributes:
        folder: Beside the store, open to this user alone: `results/<job id>/`, sockets, runs.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__(database)
        self.folder = folder
        #: of retention: jobs in one transaction, those removed that the audit does not have yet, when it was told last
        self._portion = self._removed = 0
        self._removed_at = time.monotonic()
        #: how late it is for what is removed by its age, and whether it was told that this is not what the clock says
        self._time: BelievedTime | None = None
        self._time_told = False
        #: the change at which the log was moved last
        self._moved_at = 0

    def _check_supervisor(self) -> None:
        """See that this process is the supervisor. Raises: StoreError."""
        raise NotImplementedError

    def maintain(self, retention: Retention = Retention(), *, seconds: float = 1.0) -> Swept:  # noqa: B008 (frozen)
        """Remove what is not to be kept, and move SQLite's log into its file; to be called every minute or so.

        Counters that cannot be right are mended before.

        No transaction of it takes longer than some 20 ms, however much there is to remove. What was removed is in the
        audit, once all is. A clock that was set ahead removes nothing by its age before supervisors have run with it
        for as long as that age, or a day.

        Args:
            retention: What is kept.
            seconds: For how long at most; what is left is removed by the next call.
        """
        self._check_supervisor()
        self._count_anew()
        now = time.time() if retention.age is None else self._believed_time(retention.age)
        swept = sweep(self._commits, self.folder / RESULTS, retention, seconds, now, self._portion)
        self._portion = swept.portion
        self._removed += swept.jobs
        if self._removed and (swept.complete or time.monotonic() - self._removed_at >= WRITE_DOWN_S):
            self._commits.run(actions.write_down, ("", "retention", self._removed, {}))
            self._removed, self._removed_at = 0, time.monotonic()
        if checkpoints.size_of_log(self._database) > checkpoints.OF_SUPERVISOR:
            checkpoints.checkpoint(self._database, self.folder)
            self._moved_at = self._last_change
        return swept

    def _count_anew(self) -> None:
        """Count jobs, if counters cannot be right: what they do not have is not claimed."""
        with self.reading() as connection:
            found = recounting.damage(connection)
        if found:
            self._commits.run(recounting.recount, None)
            log.warning("%s in the store %s: all jobs were counted anew", found, self._database.location.name)

    def _believed_time(self, age: float) -> float:
        """How late it is for what is removed at that age, seconds since 1970."""
        wall = time.time()
        if self._time is None:
            known = self.records(believed_time.KIND).get(believed_time.NAME)
            fits = believed_time.is_note(known)
            self._time = BelievedTime(known if fits else None, queries.first_and_last_end(self)[1])
        now = self._time.look(wall, time.monotonic(), age)
        if (note := self._time.note(age)) is not None:
            self.put_record(believed_time.KIND, believed_time.NAME, note)
        if self._time.doubt is None:
            self._time_told = False
        elif not self._time_told:
            first, _ = queries.first_and_last_end(self)
            if first is not None and first < wall - age:
                self._time_told = True
                log.warning(
                    "the clock is %s ahead of the time that was seen to pass: jobs that would be too old by it are kept"
                    " until this supervisor has run for %s with it, in case it is put right",
                    _long_text(self._time.ahead),
                    _long_text(self._time.doubt),
                )
        return now

    def take_ends(self, at: float) -> dict[str, dict[str, Any]]:
        """Take ends that are to be told to an address, `untold.MOST_TAKEN` at most: they are records from then on.

        Args:
            at: When to tell them, seconds since 1970.

        Returns:
            What each record says, by its name.
        """
        return self._commits.run(untold.take, at) if untold.are_there(self) else {}

    def fire(self, tasks: Sequence[firings.Fire]) -> list[firings.Fired]:
        """Submit what tasks are to fire, each time once, and write down until when that was looked at: in one commit.

        Returns:
            For each task what became of the jobs that had not fired before.
        """
        answers = self._commits.run_all([(firings.fire, each) for each in tasks])
        found = [answer() for answer in answers]
        if any(found):
            self._changed()
        return found

    def tend_log(self) -> bool:
        """Move SQLite's log into its file, if much was written to it since; to be called every second or so.

        A log that is begun again is written to faster than one that grows, and read faster.
        """
        self._check_supervisor()
        if self._last_change - self._moved_at < checkpoints.COMMITS:
            return False
        if checkpoints.size_of_log(self._database) <= checkpoints.OF_SUPERVISOR:
            return False
        change = self._last_change
        moved = checkpoints.checkpoint(self._database, self.folder)
        self._moved_at = change
        return moved

    def remove_orphans(self) -> int:
        """Remove folders of results that no job has (a supervisor died before the commit); at the start. How many."""
        self._check_supervisor()
        ids = orphans(self.folder / RESULTS)
        known = queries.kept(self, ids)
        return sum(remove_results(self.folder / RESULTS, each) for each in ids if each not in known)


def _long_text(seconds: float) -> str:
    return counted(round(seconds / 86_400), "day") if seconds >= 2 * 86_400 else seconds_text(seconds)
