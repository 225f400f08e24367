"""One process at a time works on a run: a lock that dies with its holder."""

from __future__ import annotations

import os

from allcores.errors import JournalError, RunInUse, RunNotFound
from allcores.system.file_locks import FileLock, Held, holder

LOCK = "lock"


class RunLock(FileLock):
    """The lock of the run in `folder`, held from now on.

    Raises:
        RunInUse: If another process has it, or this one.
        RunNotFound: If the folder is gone.
        JournalError: It cannot be taken.
    """

    def __init__(self, folder: str, name: str) -> None:
        path = os.path.join(folder, LOCK)
        try:
            super().__init__(path)
        except Held as held:
            if held.here:
                raise RunInUse(f"run {name} is at work in this very process: wait for its end", run=name) from None
            who = f"process {held.pid}" if held.pid else "another process"
            raise RunInUse(
                f"run {name} is at work in {who}: wait for its end, or begin a run of its own without --resume",
                run=name,
                pid=held.pid,
            ) from None
        except FileNotFoundError:
            raise RunNotFound(f"run {name} was removed a moment ago") from None
        except OSError as error:
            raise JournalError(f"cannot lock run {name}: {path}: {error.strerror}", run=name) from None


def is_locked(folder: str) -> bool:
    """True if a process works on the run in `folder`."""
    return holder(os.path.join(folder, LOCK)) is not None
