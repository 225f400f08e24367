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
from allcores.jobs.errors import SchemaTooNew, StoreDamaged, StoreError

#: operations in one transaction at most, and bytes that they write: others, and readers of the log, wait no longer for
#: their turn
MOST, MOST_BYTES = 512, 8 * 1024**2
#: seconds at most between two transactions that are parts of one thing, for those of other processes
PAUSE_S = 0.05
#: ... which are that part of what the one before took: a larger part lets others wait less, and takes longer for all
PAUSE_PARTS = 4
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
        row = connection.execute(_READ_CHANGES).first()
        if row is None or not (isinstance(row[0], int) and isinstance(row[1], int)):
            raise StoreDamaged(
                "the row of the store that numbers its changes and jobs (table allcores_changes) is damaged or gone:"
                " nothing can be written: use a backup, or write its last numbers there again"
            )
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


#: what is told of an operation of which nothing is known: the thread that had it was interrupted
INTERRUPTED = (
    "the thread of this program that committed this together with its own was interrupted (Ctrl-C): whether it was"
    " written is not known"
)


@dataclass(slots=True, eq=False)
class _Operation:
    """One operation. What is given to its handler may have a `size`: about how many bytes it writes.

    Attributes:
        done: No thread is going to do anything about it any more.
        written: It is committed, and has its answer. Whatever is done and neither written nor has an error is not
            known to be committed.
    """

    handler: Handler[Any, Any]
    payload: Any
    durable: bool = True
    done: bool = False
    written: bool = False
    answer: Any = None
    error: Exception | None = None

    @property
    def size(self) -> int:
        return getattr(self.payload, "size", 0)


class Pause:
    """Between transactions that are parts of one thing, others have some time.

    SQLite has no queue of those who wait for its lock: they try again now and then, up to ten times a second, and one
    that takes it again at once keeps all of them out until they give up. PostgreSQL serves them in turn.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._wanted = database.dialect == "sqlite"
        self._begun: float | None = None

    def before(self) -> None:
        """The next one is about to begin; before the first one nothing happens."""
        if self._begun is not None and self._wanted:
            time.sleep(min((time.monotonic() - self._begun) / PAUSE_PARTS, PAUSE_S))
        self._begun = time.monotonic()


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
            AllcoresError: What the handler answers, or the store's trouble; a `StoreError` if the thread that committed
                it was interrupted.
        """
        return self.run_all([(handler, payload)], durable=durable)[0]()  # type: ignore[no-any-return]

    def run_all(
        self, operations: Sequence[tuple[Handler[Any, Any], Any]], *, durable: bool = True
    ) -> list[Callable[[], Any]]:
        """Carry out several operations, in order; for each, a function that returns its answer or raises its error."""
        mine = [_Operation(handler, payload, durable) for handler, payload in operations]
        try:
            self._waiting.extend(mine)
            pause = Pause(self._database)
            while mine and not mine[-1].done:
                pause.before()
                with self._turn:
                    if not mine[-1].done and not self._commit_some():
                        # It waits no more, and nobody is at it: who had it was interrupted before it could say so.
                        break
        except BaseException:
            # Nobody asks for them any more: what waits still is not committed later, when nobody expects it.
            for each in mine:
                each.done = True
            raise
        return [_answer_of(each) for each in mine]

    def _commit_some(self) -> bool:
        """Commit what waits, in one transaction; False if nothing does.

        An interrupt is raised here, in the thread that it is meant for: the operations of others are done, and not
        known to be written.
        """
        batch: list[_Operation] = []
        try:
            self._take(batch)
            if not batch:
                return False
            try:
                change = self._commit(batch)
            except Exception as error:
                if len(batch) > 1 and not _is_of_the_store(error):
                    self._commit_apart(batch)
                else:
                    for each in batch:
                        each.error = error
            else:
                self._after_commit(change)
        finally:
            for each in batch:
                each.done = True
        return True

    def _take(self, batch: list[_Operation]) -> None:
        size = 0
        while self._waiting and len(batch) < MOST:
            first = self._waiting[0]
            # In this order: an interrupt in between leaves it in both, where it is passed over later, and not in none.
            if not first.done:
                size += first.size
                if batch and size > MOST_BYTES:
                    break
                batch.append(first)
            self._waiting.popleft()

    def _commit_apart(self, batch: list[_Operation]) -> None:
        """One of them is at fault, and the others shall not suffer."""
        for number, each in enumerate(batch):
            try:
                change = self._commit([each])
            except Exception as error:
                each.error = error
                if _is_of_the_store(error):
                    # The others would wait for it as long, one after the other.
                    for other in batch[number:]:
                        other.error = error
                    return
            else:
                self._after_commit(change)

    def _commit(self, batch: list[_Operation]) -> int:
        """Commit them, in one transaction; its change number."""
        answers: list[tuple[_Operation, Any]] = []
        with self._database.writing(durable=any(each.durable for each in batch)) as connection:
            transaction = Transaction(connection, self._database.dialect)
            start = 0
            while start < len(batch):
                end = start + 1
                while end < len(batch) and batch[end].handler == batch[start].handler:
                    end += 1
                group = batch[start:end]
                found = group[0].handler(transaction, [each.payload for each in group])
                answers.extend(zip(group, found, strict=True))
                start = end
            transaction.finish()
        # Not before the commit, and `written` last: this thread may be interrupted anywhere.
        for each, answer in answers:
            if isinstance(answer, AllcoresError):
                each.error = answer
            else:
                each.answer = answer
            each.written = True
        return transaction.change

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
        if not operation.written:
            raise StoreError(INTERRUPTED)
        return operation.answer

    return answer
