"""The rows of a query as items; the one home of SQLAlchemy (the extra `sql`)."""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from allcores.errors import NotSupported
from allcores.formatting import without_passwords
from allcores.sources.text import BadInput, check_names
from allcores.system import deferral

#: rows that are fetched at once
ROWS = 1_000
T = TypeVar("T")


class SqlQuery:
    """Each row of a query is an item: a dict by column. Rows are streamed, not gathered.

    Args:
        url: Of the database, as SQLAlchemy writes it: "sqlite:///rows.db", "postgresql://host/name".
        query: One that gives the rows in a fixed order (ORDER BY), or a resumed run cannot tell them apart.
        parameters: For the query's `:names`.
    """

    #: see `chain.begins_anew`
    begins_anew = True

    def __init__(self, url: str, query: str, parameters: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self.query = query
        self.parameters = dict(parameters or {})
        _sqlalchemy()

    def describe(self) -> dict[str, Any]:
        """What makes it the same query; the password is left out."""
        return {"url": self._url(), "query": self.query, "parameters": repr(self.parameters)}

    def database(self) -> str | None:
        """The file that is read, if it is a database in a file (SQLite)."""
        sql = _sqlalchemy()
        try:
            url = sql.engine.make_url(self.url)
        except Exception:
            return None  # the reading itself will tell
        if url.get_backend_name() != "sqlite" or not url.database:
            return None
        name = str(url.database)
        return urllib.parse.unquote(name[5:].partition("?")[0]) if name.startswith("file:") else name

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with contextlib.ExitStack() as stack:
            names, rows = self._reading(lambda: self._executed(stack))
            where = f"the result of the query to {self._url()}"
            check_names(names, where, path=self.query, advice="give one of them another name (AS) in the query")
            while (row := self._reading(lambda: next(rows, None))) is not None:
                yield dict(zip(names, row, strict=True))

    def _executed(self, stack: contextlib.ExitStack) -> tuple[list[str], Iterator[Any]]:
        sql = _sqlalchemy()
        engine = sql.create_engine(self.url)
        stack.callback(engine.dispose)
        self._check_file(engine.driver)
        connection = stack.enter_context(engine.connect().execution_options(stream_results=True, yield_per=ROWS))
        result = connection.execute(sql.text(self.query), self.parameters)
        # A statement with rows left locks the database as long as it lives, be its connection closed or not.
        stack.callback(result.close)
        return list(result.keys()), iter(result)

    def _check_file(self, driver: str) -> None:
        """Raise BadInput if a database in a file is not there: Python's driver would make an empty one, and leave it.

        Args:
            driver: Of SQLAlchemy. Others may find a database elsewhere.
        """
        file = self.database()
        if driver != "pysqlite" or file in (None, ":memory:") or ":///file:" in self.url:
            return
        if not os.path.exists(str(file)):
            raise BadInput(f"cannot read from {self._url()}: there is no file {file}", path=self.query)

    def _reading(self, read: Callable[[], T]) -> T:
        """What `read` returns; what SQLAlchemy, or a driver below it, raises becomes a sentence."""
        try:
            return read()
        except BadInput:
            raise
        except Exception as error:
            if deferral.raised_by_handler(error):
                raise  # a time limit of the program, say: the query is not at fault
            sentence = (str(error).splitlines() or [""])[0] or type(error).__name__
            if "bind parameter" in sentence:
                sentence += "; a colon that begins no parameter, in a text say, is written \\:"
            raise BadInput(f"cannot read from {self._url()}: {sentence}", path=self.query) from None

    def _url(self) -> str:
        return without_passwords(self.url)

    def total(self) -> int | None:
        """Not known beforehand."""
        return None


def _sqlalchemy() -> Any:
    try:
        import sqlalchemy
    except ImportError:
        raise NotSupported("a query as input needs a library: pip install 'allcores[sql]'") from None
    return sqlalchemy
