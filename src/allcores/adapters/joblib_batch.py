"""A batch of joblib's tasks on its way to a worker: its bytes, and what messages call it."""

from __future__ import annotations

from typing import Any

from allcores.adapters.joblib_tasks import Packed, packable
from allcores.errors import NotPicklable
from allcores.scheduler.item_words import call_text


class Batch:
    """A batch on its way. Its tasks are let go of once they are packed, but for two that messages show.

    Attributes:
        count: How many tasks it has.
        first: The first one's number in the call.
        plain: It is one callable, and no batch of joblib.
        used: What has to live until it is done.
    """

    __slots__ = ("_ends", "count", "first", "plain", "used")

    def __init__(self, tasks: list[Any], first: int, plain: bool) -> None:
        self._ends = tasks[0], tasks[-1]
        self.count = len(tasks)
        self.first = first
        self.plain = plain
        self.used: list[object] = []

    def packed(self, tasks: list[Any], around: object, own: Any) -> Packed:
        """Its tasks as they travel.

        Args:
            tasks: Those that it was made of.
            around: What they find around them.
            own: How some objects are pickled, by their types.

        Raises:
            NotPicklable: One of them cannot travel.
        """
        try:
            return Packed.of((packable(tasks), around), own)
        except Exception as error:
            raise NotPicklable(
                f"{self._name_of_unpicklable(tasks)} cannot be pickled, so the task to send to a worker "
                f"cannot be made: {type(error).__name__}: {error}"
            ) from error

    def _name_of_unpicklable(self, tasks: list[Any]) -> str:
        """The first task that cannot be pickled by itself, in words."""
        number = next((number for number, task in enumerate(tasks) if not _is_picklable(task)), 0)
        function, arguments, keywords = tasks[number]
        text = call_text(_name(function), arguments, keywords)
        return f"Task {self.first + number} of this call of Parallel, {text},"

    def words(self) -> str:
        """The tasks by number, and the calls, for messages."""
        texts = [call_text(_name(function), arguments, keywords) for function, arguments, keywords in self._ends]
        if self.count == 1:
            return f"task {self.first} of this call of Parallel, {texts[0]},"
        last = self.first + self.count - 1
        return f"one of the tasks {self.first} to {last} of this call of Parallel, {texts[0]} to {texts[1]},"


def _is_picklable(task: Any) -> bool:
    try:
        Packed.of(task)
    except Exception:
        return False
    return True


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
