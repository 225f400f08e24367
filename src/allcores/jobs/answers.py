"""Connections to PostgreSQL that wait for an answer as long as the server is there, and not for one that is frozen.

The network tells of a server that is gone. Of one whose processes were stopped, or whose disk hangs, nothing tells: its
kernel goes on to say that all is well. And a statement may take minutes on a server that is busy. So when an answer is
late another connection is made: a server that takes that is at work.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from sqlalchemy import Engine

R = TypeVar("R")

#: seconds without an answer after which it is seen whether the server is there
LATE_S = 15.0
#: seconds that another connection may take
CONNECT_S = 5


def watch(engine: Engine) -> None:
    """Have an engine for PostgreSQL make such connections.

    Source: SQLAlchemy's event `do_connect`; psycopg's `Connection.wait`, through which all its waiting goes.
    """
    import psycopg
    from sqlalchemy import event

    class Watched(psycopg.Connection[Any]):
        """One that looks after the server."""

        parameters: dict[str, Any]

        def wait(self, gen: Generator[Any, Any, R], *args: Any, **options: Any) -> R:
            return super().wait(watched(gen, self._check), *args, **options)

        def _check(self) -> None:
            """Raise if the server says nothing to another connection, not even that it has too many."""
            try:
                psycopg.connect(**{**self.parameters, "connect_timeout": CONNECT_S}).close()
            except psycopg.OperationalError as error:
                if "timeout" not in str(error):
                    return
                # Nobody goes on with this one: what was sent may be done later, or never.
                self.pgconn.finish()
                raise psycopg.OperationalError("the server does not answer, nor does it take connections") from None

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: list[Any], parameters: dict[str, Any]) -> Any:
        made = Watched.connect(*arguments, **parameters)
        made.parameters = parameters
        return made


def watched(waiting: Generator[Any, Any, R], check: Callable[[], None]) -> Generator[Any, Any, R]:
    """What waits for an answer, and calls `check` each time that nothing has come for LATE_S.

    Args:
        waiting: As of psycopg: it yields what it waits for, and is sent what of that is there; nothing, now and then.
        check: Raises if waiting is of no use.
    """
    late = monotonic() + LATE_S
    try:
        wanted = next(waiting)
        while True:
            there = yield wanted
            if there:
                late = monotonic() + LATE_S
            elif monotonic() >= late:
                check()
                late = monotonic() + LATE_S
            wanted = waiting.send(there)
    except StopIteration as end:
        result: R = end.value
        return result
