"""What comes at the same time is committed together: a commit costs a wait for the disk, however much is in it.

There is no thread and no delay: whoever finds nobody at it commits all that waits, and what comes meanwhile is
committed by the next one. Alone, an operation is committed at once; among many, hundreds share one wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from allcores.errors import AllcoresError
from allcores.jobs import schema
from allcores.jobs.database import Database
from allcores.jobs.errors import SchemaTooNew, StoreError

#: operations in one transaction at most: others, and readers of the log, wait no longer for their turn
MOST = 512
_VERSION = str(schema.VERSION)
P = TypeVar("P")
R = TypeVar("R")


class Transaction:
    """One transaction that writes.

    Attributes:
        connection: In it.
        dialect: "sqlite" or "postgresql".
        change: Its number: the store's change number from its commit on.
        now: The wall clock's seconds at its beginning.
    """

    __slots__ = ("_last_seq", "change", "connection", "dialect", "now")

    def __init__(self, connection: Connection, dialect: str) -> None:
        self.connection = connection
        self.dialect = dialect
        self.now = time.time()
        row = connection.execute(_READ_CHANGES).one()
        if row[2] != _VERSION:
            raise SchemaTooNew(
                f"the tables of the store were changed by another allcores while this one had them open (their version"
                f" is {row[2]}, this program knows {_VERSION}): start this program again, in that version",
                found=int(row[2]),
                known=schema.VERSION,
            )
        self.change = int(row[0]) + 1
        self._last_seq = int(row[1])

    def sequence(self, count: int) -> int:
        """The first of so many numbers for jobs that no job has had."""
        first = self._last_seq + 1
        self._last_seq += count
        return first

    def finish(self) -> None:
        """Write down the numbers; before the commit."""
        self.connection.execute(_WRITE_CHANGES, {"number": self.change, "last_seq": self._last_seq})


# The version, too: a newer program may bring the tables up to date while this one has them open.
_READ_CHANGES = text(
    "SELECT number, last_seq, (SELECT value FROM allcores_meta WHERE name = 'version') FROM allcores_changes"
    " WHERE one = 1"
)
_WRITE_CHANGES = text("UPDATE allcores_changes SET number = :number, last_seq = :last_seq WHERE one = 1")

#: carries out operations of one kind: one answer for each, which is an error if it is to be raised to its caller.
#: An error of ours that it raises itself comes before anything was written.
Handler = Callable[[Transaction, Sequence[P]], "list[R | AllcoresError]"]


@dataclass(slots=True, eq=False)
class _Operation:
    handler: Handler[Any, Any]
    payload: Any
    durable: bool = True
    done: bool = False
    answer: Any = None
    error: BaseException | None = None


class GroupCommit:
    """Takes operations from any thread.

    Args:
        database: Where they are carried out.
        after_commit: Called after each commit, with its change number, by the thread that has committed.
    """

    def __init__(self, database: Database, after_commit: Callable[[int], None]) -> None:
        self._database = database
        self._after_commit = after_commit
        self._turn = threading.Lock()
        self._waiting: deque[_Operation] = deque()

    def run(self, handler: Handler[P, R], payload: P, *, durable: bool = True) -> R:
        """Carry out one operation; returns once it is committed.

        Args:
            handler: What carries it out.
            payload: What it is given.
            durable: Wait for the disk; False only for what may be undone by a power cut.

        Raises:
            AllcoresError: What the handler answers, or the store's trouble.
        """
        return self.run_all([(handler, payload)], durable=durable)[0]()  # type: ignore[no-any-return]

    def run_all(
        self, operations: Sequence[tuple[Handler[Any, Any], Any]], *, durable: bool = True
    ) -> list[Callable[[], Any]]:
        """Carry out several operations, in order; for each, a function that returns its answer or raises its error."""
        mine = [_Operation(handler, payload, durable) for handler, payload in operations]
        self._waiting.extend(mine)
        while mine and not mine[-1].done:
            with self._turn:
                if not mine[-1].done:
                    self._commit_some()
        return [_answer_of(each) for each in mine]

    def _commit_some(self) -> None:
        batch: list[_Operation] = []
        while self._waiting and len(batch) < MOST:
            batch.append(self._waiting.popleft())
        try:
            self._commit(batch)
        except BaseException as error:
            # Of each, until it is known better: nothing may be left without an answer, however this ends.
            for each in batch:
                each.error = error
            if len(batch) > 1 and isinstance(error, Exception) and not _is_of_the_store(error):
                self._commit_apart(batch)
        finally:
            for each in batch:
                each.done = True

    def _commit_apart(self, batch: list[_Operation]) -> None:
        """One of them is at fault, and the others shall not suffer."""
        for number, each in enumerate(batch):
            try:
                self._commit([each])
            except Exception as error:
                each.error = error
                if _is_of_the_store(error):
                    # The others would wait for it as long, one after the other.
                    for other in batch[number:]:
                        other.error = error
                    return

    def _commit(self, batch: list[_Operation]) -> None:
        with self._database.writing(durable=any(each.durable for each in batch)) as connection:
            transaction = Transaction(connection, self._database.dialect)
            start = 0
            while start < len(batch):
                end = start + 1
                while end < len(batch) and batch[end].handler == batch[start].handler:
                    end += 1
                group = batch[start:end]
                answers = group[0].handler(transaction, [each.payload for each in group])
                for each, answer in zip(group, answers, strict=True):
                    if isinstance(answer, AllcoresError):
                        each.error = answer
                    else:
                        each.answer, each.error = answer, None
                start = end
            transaction.finish()
        self._after_commit(transaction.change)

    def after_fork(self) -> None:
        """In a child, before its first thread is there: what other threads of the parent were at is theirs."""
        self._turn = threading.Lock()
        self._waiting.clear()


def _is_of_the_store(error: BaseException) -> bool:
    """Whether none of the operations is at fault: a disk that is full, a server that is away."""
    return isinstance(error, StoreError) and type(error) is not StoreError


def _answer_of(operation: _Operation) -> Callable[[], Any]:
    def answer() -> Any:
        if operation.error is not None:
            raise operation.error
        return operation.answer

    return answer
