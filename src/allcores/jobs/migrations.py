"""A store is made, and brought up to date step by step; one that is newer than this program is left alone."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, inspect, text

from allcores.jobs import schema
from allcores.jobs.database import Database
from allcores.jobs.errors import NoStore, SchemaTooNew, StoreDamaged, StoreError

_APPLICATION = "PRAGMA application_id"


def _retries_may_be_null(connection: Connection) -> None:
    """2: a job that was submitted where its task is not known has the retries that the task says.

    In SQLite the text of the table is changed, and no row: a copy of a million jobs would hold up all others.
    Source: https://www.sqlite.org/lang_altertable.html#otheralter, "removing ... NOT NULL constraints".
    """
    tables = (schema.jobs.name, schema.deleted.name)
    if connection.dialect.name != "sqlite":
        for table in tables:
            connection.exec_driver_sql(f"ALTER TABLE {table} ALTER COLUMN retries DROP NOT NULL")
        return
    seen = int(connection.exec_driver_sql("PRAGMA schema_version").scalar() or 0)
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    try:
        for table in tables:
            connection.exec_driver_sql(
                "UPDATE sqlite_master SET sql = replace(sql, 'retries INTEGER NOT NULL', 'retries INTEGER')"
                f" WHERE type = 'table' AND name = '{table}'"
            )
        # All connections, this one too, read the tables anew.
        connection.exec_driver_sql(f"PRAGMA schema_version = {seen + 1}")
    finally:
        connection.exec_driver_sql("PRAGMA writable_schema = OFF")
    for table in tables:
        columns = connection.exec_driver_sql(f"PRAGMA table_info({table})").all()
        if any(name == "retries" and required for _, name, _, required, *_ in columns):
            raise StoreError(f"the table {table} cannot be brought up to date: its text is not what allcores made")


def _ends_are_written_down(connection: Connection) -> None:
    """3: ends that are to be told are written down as they come; they were looked for by their times.

    Those of the last seconds that were looked at may be told twice, as after each start of a supervisor so far.
    """
    schema.untold.create(connection)
    for statement in schema.telling(connection.dialect.name):
        connection.exec_driver_sql(statement)
    known = connection.execute(
        text("SELECT body FROM allcores_records WHERE kind = 'webhooks' AND name = 'since'")
    ).scalar()
    since = 0.0 if known is None else float(json.loads(known)) - 5.0
    connection.execute(
        text(
            "INSERT INTO allcores_untold (id, finished) SELECT id, finished FROM allcores_jobs"
            " WHERE finished IS NOT NULL AND finished >= :since AND webhook IS NOT NULL"
        ),
        {"since": since},
    )
    connection.exec_driver_sql("DELETE FROM allcores_records WHERE kind = 'webhooks'")


#: version -> what makes it of the version before; all steps that are needed are one transaction
STEPS: Mapping[int, Callable[[Connection], None]] = {2: _retries_may_be_null, 3: _ends_are_written_down}


def no_store(name: str) -> NoStore:
    """What to raise where there is none."""
    return NoStore(
        f"there is no store of jobs at {name}: name the one that `allcores serve` or `allcores work` was given"
        " (--store, $ALLCORES_STORE); those two, and the first job that is submitted, begin one"
    )


def version_of(connection: Connection) -> int | None:
    """Version of the tables; None if there are none.

    Raises:
        StoreDamaged: There are tables without a version.
    """
    if not inspect(connection).has_table(schema.meta.name):
        return None
    found = connection.execute(text("SELECT value FROM allcores_meta WHERE name = 'version'")).scalar()
    try:
        return int(found)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise StoreDamaged(f"the store has tables of allcores, and its version is {found!r}: is it damaged?") from None


def prepare(
    database: Database,
    *,
    known: int = schema.VERSION,
    steps: Mapping[int, Callable[[Connection], None]] = STEPS,
    create: bool = True,
) -> str:
    """Make the tables if there are none, or bring them up to date; returns the store's own name.

    Args:
        database: It.
        known: The version that this program knows.
        steps: What leads there.
        create: Make them if there are none.

    Raises:
        NoStore: There are none, and none are to be made.
        SchemaTooNew: A newer program made or changed them.
        StoreError: The database is of another program, or cannot be used.
    """
    with database.plain() as connection:
        found = version_of(connection)
        if found is None:
            _check_is_free(database, connection)
            if not create:
                raise no_store(database.location.name)
    if found is None and database.dialect == "sqlite":
        with database.plain() as connection:
            # Not in a transaction; deleted rows leave pages that new ones take.
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    if found is None or found < known:
        with database.writing() as connection:
            found = version_of(connection)
            if found is None:
                _make(database, connection, known)
                found = known
            while found < known:
                found += 1
                if found not in steps:
                    raise StoreError(
                        f"the store {database.location.name} is older than any that this allcores can read"
                    )
                steps[found](connection)
                connection.execute(
                    text("UPDATE allcores_meta SET value = :value WHERE name = 'version'"), {"value": str(found)}
                )
    if found > known:
        raise SchemaTooNew(
            f"the store {database.location.name} was made or changed by a newer allcores (its tables have version"
            f" {found}, this program knows up to {known}), and is left as it is: use that one, or another store",
            found=found,
            known=known,
        )
    with database.plain() as connection:
        return str(connection.execute(text("SELECT value FROM allcores_meta WHERE name = 'store'")).scalar())


def _check_is_free(database: Database, connection: Connection) -> None:
    if database.dialect != "sqlite":
        return
    owner = connection.exec_driver_sql(_APPLICATION).scalar()
    tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
    # Another process may have made them between the two looks.
    if version_of(connection) is None and (owner or tables):
        raise StoreError(
            f"{database.location.name} is a database of another program: jobs get a file of their own. Name another one"
        )


def _make(database: Database, connection: Connection, version: int) -> None:
    schema.metadata.create_all(connection)
    for statement in schema.statements(database.dialect):
        connection.exec_driver_sql(statement)
    connection.execute(
        text("INSERT INTO allcores_meta (name, value) VALUES ('version', :version), ('store', :store)"),
        {"version": str(version), "store": secrets.token_hex(16)},
    )
    if database.dialect == "sqlite":
        connection.exec_driver_sql(f"{_APPLICATION} = {schema.APPLICATION}")
