"""The rows of a query as items."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from allcores.journal.identity import differences, identity_of_source
from allcores.streams.text import BadInput

sqlalchemy = pytest.importorskip("sqlalchemy")


def test_rows_are_dicts_and_streamed(tmp_path: Path) -> None:
    """In the query's order, again and again; parameters by name."""
    from allcores.streams.sql import SqlQuery

    path = tmp_path / "rows.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE rows (n, text)")
    db.executemany("INSERT INTO rows VALUES (?, ?)", [(n, str(n)) for n in range(3_000)])
    db.commit()
    db.close()
    query = SqlQuery(f"sqlite:///{path}", "SELECT n, text FROM rows WHERE n >= :least ORDER BY n", {"least": 10})
    items = iter(query)
    assert next(items) == {"n": 10, "text": "10"}
    items.close()  # type: ignore[attr-defined]
    assert len(list(query)) == 2_990 and query.total() is None
    with pytest.raises(BadInput, match="cannot read from sqlite"):
        list(SqlQuery(f"sqlite:///{path}", "SELECT nothing FROM nowhere"))


def test_the_password_is_not_written_down() -> None:
    """A run's catalogue names the database, and another query is another input."""
    from allcores.streams.sql import SqlQuery

    one = identity_of_source(SqlQuery("postgresql://me:secret@host/db", "SELECT 1 ORDER BY 1"))
    assert "secret" not in str(one) and "host" in str(one)
    other = identity_of_source(SqlQuery("postgresql://me:secret@host/db", "SELECT 2 ORDER BY 1"))
    assert len(differences({"source": one}, {"source": other}, keyed=False)) == 1
