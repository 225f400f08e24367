"""The rows of a query as items."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import allcores
from allcores.runs.fingerprint import differences, fingerprint_of_source
from allcores.sources.text import BadInput

sqlalchemy = pytest.importorskip("sqlalchemy")


def test_rows_are_dicts_and_streamed(tmp_path: Path) -> None:
    """In the query's order, again and again; parameters by name."""
    from allcores.sources.sql import SqlQuery

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
    from allcores.sources.sql import SqlQuery

    one = fingerprint_of_source(SqlQuery("postgresql://me:secret@host/db", "SELECT 1 ORDER BY 1"))
    assert "secret" not in str(one) and "host" in str(one)
    other = fingerprint_of_source(SqlQuery("postgresql://me:secret@host/db", "SELECT 2 ORDER BY 1"))
    assert len(differences({"source": one}, {"source": other}, keyed=False)) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:sec/ret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:sec?ret:x@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@firm:secret@host/db", "postgresql://me@firm:***@host/db"),
        ("postgresql://:secret@/db?host=/run", "postgresql://:***@/db?host=/run"),
        ("postgresql:///db?user=me&password=secret&host=h", "postgresql:///db?user=me&password=***&host=h"),
        ("mysql://me@host/db?ssl=1&PASSWD=secret", "mysql://me@host/db?ssl=1&PASSWD=***"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
    ],
)
def test_a_password_of_any_characters_is_not_written_down(url: str, shown: str) -> None:
    """Nor one among the options; what is no password stays, so that the database can be told."""
    from allcores.sources.sql import SqlQuery

    assert SqlQuery(url, "SELECT 1").describe()["url"] == shown


@pytest.mark.parametrize(
    ("query", "parameters", "sentence"),
    [
        ("SELECT 1 AS a, 2 AS b, 3 AS a", {}, "the name 'a' occurs twice .columns 1 and 3.*AS"),
        ("SELECT :n AS a", {"n": 1 << 70}, "too large"),
        ("SELECT :n AS a", {}, "cannot read from sqlite"),
        ("SELECT CAST(x'ff41' AS TEXT) AS a", {}, "cannot read from sqlite"),
        ("INSERT INTO nowhere VALUES (1)", {}, "cannot read from sqlite"),
    ],
)
def test_rows_that_cannot_be_items(query: str, parameters: dict[str, object], sentence: str) -> None:
    """A sentence before the first of them, whatever the library or the driver below it raises."""
    from allcores.sources.sql import SqlQuery

    with pytest.raises(BadInput, match=sentence) as caught:
        next(iter(SqlQuery("sqlite://", query, parameters)))
    assert "\n" not in str(caught.value)
    for url in ("nothing://", "no url", "postgresql+nodriver://me:secret@host/db"):
        with pytest.raises(BadInput, match="cannot read from") as caught:
            next(iter(SqlQuery(url, "SELECT 1")))
        assert "secret" not in str(caught.value)


def test_a_query_that_returns_no_rows_at_all(tmp_path: Path) -> None:
    """Such as one that changes a table: it is no input."""
    from allcores.sources.sql import SqlQuery

    with pytest.raises(BadInput, match="cannot read from sqlite"):
        list(SqlQuery(f"sqlite:///{tmp_path}/rows.db", "CREATE TABLE rows (n)"))


def fails_at_5(row: dict[str, int]) -> int:
    if row["n"] == 5:
        raise KeyError(row["n"])
    return row["n"]


@pytest.mark.parametrize("query", ["SELECT n FROM rows ORDER BY n", "SELECT n, n FROM rows"])
@pytest.mark.parametrize("journal", [True, False])
def test_a_database_is_free_when_the_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, journal: bool
) -> None:
    """Also if it ended midway: a statement with rows left would lock it as long as somebody holds the exception."""
    from allcores.sources.sql import SqlQuery

    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path))
    path = tmp_path / "rows.db"
    db = sqlite3.connect(path, timeout=0)
    db.execute("CREATE TABLE rows (n)")
    db.executemany("INSERT INTO rows VALUES (?)", [(n,) for n in range(3_000)])
    db.commit()
    with allcores.Pool(1, backend="serial") as pool, pytest.raises((KeyError, BadInput)):
        pool.run(fails_at_5, SqlQuery(f"sqlite:///{path}", query), tmp_path / "out.jsonl", journal=journal)
    db.execute("DROP TABLE rows")
    db.close()


def test_a_database_that_is_not_there_is_told_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite opens any name, and leaves an empty file behind a misspelt one."""
    from allcores.sources.sql import SqlQuery

    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///rows.db", f"sqlite+pysqlite:///{tmp_path}/rows.db"):
        with pytest.raises(BadInput, match=r"cannot read from sqlite.*: there is no file .*rows\.db$"):
            list(SqlQuery(url, "SELECT 1 AS one"))
    assert not list(tmp_path.iterdir())
    for url in ("sqlite://", "sqlite:///:memory:"):
        assert list(SqlQuery(url, "SELECT 1 AS one")) == [{"one": 1}]
    assert not list(tmp_path.iterdir())
    # Its options say that it may be made.
    assert list(SqlQuery("sqlite:///file:rows.db?mode=rwc&uri=true", "SELECT 1 AS one")) == [{"one": 1}]


def test_a_colon_in_a_text_is_told_how_to_write() -> None:
    from allcores.sources.sql import SqlQuery

    with pytest.raises(
        BadInput, match=r"bind parameter 'c'; a colon that begins no parameter, in a text say, is written"
    ):
        list(SqlQuery("sqlite://", "SELECT ':c' AS x"))
    assert list(SqlQuery("sqlite://", "SELECT '\\:c' AS x")) == [{"x": ":c"}]
