"""What can go wrong with jobs; each is also an `AllcoresError`."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from allcores.errors import AllcoresError, UsageError


class TaskNotFound(UsageError, LookupError):
    """No task of that name is registered."""


def meant(task: str, tasks: Collection[str]) -> str:
    """What may have been meant by the name of a task that is none of these: for the end of a sentence."""
    close = difflib.get_close_matches(task, tasks, n=1)
    return f": did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(tasks)) or 'none'}"


class ArgumentErrors(UsageError):
    """Arguments do not fit a task's signature.

    Attributes:
        fields: For each argument at fault what is wrong with it, a sentence each; "" stands for all of them. Parts of
            an argument are named as in "settings.size" and "items.3".
    """

    def __init__(self, task: str, fields: Mapping[str, list[str]]) -> None:
        self.fields = {name: list(sentences) for name, sentences in fields.items()}
        parts = [f"{name}: {sentence}" if name else sentence for name, all in fields.items() for sentence in all]
        super().__init__(f"task {task!r} cannot be given these arguments: {'; '.join(parts)}")


class ResultNotKept(AllcoresError, RuntimeError):
    """A task returned, and there is no room or no folder for what it returned: the job failed, and can be retried."""


class TooLarge(UsageError):
    """A file or result is larger than is allowed."""


class JobFailed(AllcoresError, RuntimeError):
    """A job whose result was asked for did not succeed; the message says how it ended.

    Attributes:
        job: Its id.
        state: How it ended: "failed", "timed_out", "cancelled" or "quarantined".
    """

    def __init__(self, message: str, *, job: str, state: str) -> None:
        super().__init__(message)
        self.job = job
        self.state = state


class JobDrained(AllcoresError):
    """Raised in a job's own code where it waits for its items and its supervisor is going to end: let it pass."""


class JobsError(AllcoresError, RuntimeError):
    """Something about jobs; its text says what, and the way out."""


class KeyConflict(JobsError):
    """The key was used for a job with another task or other arguments; nothing was submitted.

    Attributes:
        key: The caller's.
        id: Of the job that has it.
    """

    def __init__(self, text: str, *, key: str, id: str) -> None:
        super().__init__(text)
        self.key = key
        self.id = id


class AlreadySupervised(JobsError):
    """Another process is the supervisor of this store.

    Attributes:
        pid: Its process, if known.
    """

    def __init__(self, text: str, *, pid: int | None = None) -> None:
        super().__init__(text)
        self.pid = pid


class UndoExpired(JobsError):
    """What was deleted is gone for good, or was never deleted by that action."""


class BadJob(UsageError):
    """What was submitted, or what a task returned, cannot be kept: the text says which part, and why."""


class NoStore(UsageError):
    """There is no store where one is to be read."""


class StoreError(JobsError):
    """The store cannot be read or written; nothing was changed, unless the text says that this is not known."""


class StoreBusy(StoreError):
    """Another process had the lock for too long: try again (HTTP 503 with Retry-After)."""


class StoreFull(StoreError):
    """There is no room on the disk: reading works, and writing does again as soon as there is (HTTP 507)."""


class StoreReadOnly(StoreError):
    """It can only be read."""


class StoreGone(StoreError):
    """Its file was removed, or another one has its name: nothing is made anew in its place."""


class StoreAway(StoreGone):
    """Its server cannot be reached, or has ended the connection: try again (HTTP 503 with Retry-After)."""


class StoreDamaged(StoreError):
    """Its file is not what was written. It is kept as it is; the text has the commands that save what can be."""


class SchemaTooNew(StoreError):
    """A newer allcores made or changed the store: this one does not touch it.

    Attributes:
        found: Version of its tables.
        known: The newest that this allcores knows.
    """

    def __init__(self, text: str, *, found: int, known: int) -> None:
        super().__init__(text)
        self.found = found
        self.known = known


#: how a command ends: the first kind that fits
_EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (AlreadySupervised, 6),
    (SchemaTooNew, 2),
    (StoreError, 4),
    (JobsError, 2),
)


def exit_code(error: Exception) -> int | None:
    """How a command ends for what can be wrong with a store of jobs (docs/cli.md); None for anything else."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), None)
