"""What can go wrong with jobs; each is also an `AllcoresError`."""

from __future__ import annotations

from collections.abc import Mapping

from allcores.errors import AllcoresError, UsageError


class TaskNotFound(UsageError, LookupError):
    """No task of that name is registered."""


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
