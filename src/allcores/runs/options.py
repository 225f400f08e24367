"""What a journalled map is given, and what it gives back. Frozen, checked once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

from allcores.errors import UsageError
from allcores.limits import is_whole, plain_number
from allcores.system.plain_record import record

if TYPE_CHECKING:
    from allcores.sinks.base import WholeSink

    #: a path, a pattern or folder of files, or anything that can be iterated
    SourceLike = str | os.PathLike[str] | Iterable[Any]
    #: a path, whose suffix says what is written, or a sink
    SinkLike = str | os.PathLike[str] | WholeSink

#: what becomes of an item that fails
OnError = Literal["raise", "skip", "record"]
#: seconds between two commits. Larger loses more finished work to a kill, smaller writes more often.
COMMIT_S = 0.1


@record
class Journal:
    """How a map remembers what it did: where, how safely, and whether it goes on with an earlier run.

    Attributes:
        folder: Where runs are kept; None takes $ALLCORES_HOME/runs, or allcores/runs in $XDG_STATE_HOME
            (~/.local/state).
        resume: False begins a new run. True goes on with the latest run that has the same sink, and begins one if there
            is none. A name goes on with that run.
        accept_changes: Go on although function, options or input have changed; outcomes that are there are kept.
        retry_failed: When resuming, run again what failed, timed out or lost its worker, and nothing that returned.
        key: A field of the items (dicts), or the index of one (sequences), that tells them apart, so that a resumed run
            finds them in an input that has changed. None: items are known by their index; files by their path.
        fsync: "commit" (default): each commit is on the disk before the next, so a power loss costs what a kill does.
            "end": only the published output is synced; after a power loss the journal is checked and what is damaged
            runs again. "never": not even that.
        commit_s: Seconds between commits; what is finished and younger runs again after a kill.
        commit_items: Items that are enough for a commit before its time: few of them bound what runs again where items
            are short, and cost a wait for the disk each time. None: tens of thousands.
    """

    folder: str | os.PathLike[str] | None = None
    resume: bool | str = False
    accept_changes: bool = False
    retry_failed: bool = False
    key: str | int | None = None
    fsync: Literal["commit", "end", "never"] = "commit"
    commit_s: float = COMMIT_S
    commit_items: int | None = None

    def __post_init__(self) -> None:
        if self.folder is not None:
            folder = os.fspath(self.folder)
            if not isinstance(folder, str) or not folder or "\0" in folder:
                raise UsageError(f"folder={self.folder!r} must be the path of a folder, or None")
        if self.fsync not in ("commit", "end", "never"):
            raise UsageError(f"fsync={self.fsync!r} must be 'commit', 'end' or 'never'")
        if not isinstance(self.resume, (bool, str)):
            raise UsageError(f"resume={self.resume!r} must be True, False or the name of a run")
        for name in ("commit_s", "commit_items", "key"):
            object.__setattr__(self, name, plain_number(getattr(self, name)))
        if isinstance(self.commit_s, bool) or not isinstance(self.commit_s, (int, float)) or not self.commit_s > 0:
            raise UsageError(f"commit_s={self.commit_s!r} must be a number of seconds above 0")
        if isinstance(self.key, bool) or not isinstance(self.key, (str, int, NoneType)):
            raise UsageError(
                f"key={self.key!r} must be the name of a field of the items, or the index of one: where what tells them"
                " apart has to be computed, put it into the items"
            )
        many: object = self.commit_items
        if many is not None and not is_whole(many):
            raise UsageError(f"commit_items={many!r} must be a whole number, 1 or more, or None")
        if not self.resume and (self.accept_changes or self.retry_failed):
            which = "accept_changes" if self.accept_changes else "retry_failed"
            raise UsageError(f"{which}=True is about an earlier run: it needs resume=True, or the name of a run")

    @classmethod
    def of(cls, journal: Journal | bool) -> Journal | None:
        """A `Journal` from what callers pass: True for its defaults, False for None, or a `Journal`."""
        given: object = journal
        if given is False:
            return None
        if given is True:
            return cls()
        if not isinstance(given, cls):
            raise UsageError(
                f"journal={given!r} must be True, False or a Journal: Journal(folder='...') keeps it elsewhere, "
                "Journal(resume=True) goes on with an earlier run."
            )
        return given


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of a run.

    Attributes:
        id: The run's name; "" without a journal.
        output: Path of what was published, None if nothing was.
        journal: The run's folder, None without a journal.
        items: All that have an outcome, over all sessions.
        ok: Items that returned.
        failed: Items whose function raised.
        timed_out: Items that used up their `timeout`.
        workers_lost: Items whose process ended.
        skipped: Bad records of the input that were left out.
        resumed: Items that an earlier session had settled.
        seconds: Wall time of this session.
    """

    id: str
    output: str | None
    journal: str | None
    ok: int
    failed: int
    timed_out: int
    workers_lost: int
    skipped: int
    resumed: int
    seconds: float

    @property
    def items(self) -> int:
        """Items that have an outcome."""
        return self.ok + self.failures

    @property
    def failures(self) -> int:
        """Items that were tried and did not return."""
        return self.failed + self.timed_out + self.workers_lost

    @property
    def counts(self) -> Mapping[str, int]:
        """How many of each kind, by the words that JSON has for them."""
        return {
            "ok": self.ok,
            "failed": self.failed,
            "timed_out": self.timed_out,
            "worker_lost": self.workers_lost,
        }
