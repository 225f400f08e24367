"""The tables of a store, and the triggers that count, for SQLite and PostgreSQL.

All names begin with `allcores_`, so that a database may hold other tables. Values are plain: text, numbers and JSON as
text, fit to be read with any tool. States are words. Times are seconds since 1970.

The counters are kept by triggers, so that they are right whoever changes a row. Everything else that belongs together
is written in one transaction by the functions of this room.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import BigInteger, Column, Double, Float, Integer, MetaData, Table, Text
from sqlalchemy.types import TypeEngine

from allcores.jobs.model import FINAL_STATES, State

#: of the tables below: one more with each change, and a step in jobs/migrations.py
VERSION = 3
#: "acjb": what SQLite keeps in the head of a file to say whose it is
APPLICATION = 0x61636A62
#: seconds that ends of jobs are counted together for
BUCKET_S = 10

_whole: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")
_time: TypeEngine[float] = Double().with_variant(Float, "sqlite")

metadata = MetaData()

#: name and value: "version", "store" (a name that no other store has)
meta = Table("allcores_meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

#: one row: grows with each transaction, and the last number given to a job
changes = Table(
    "allcores_changes",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("number", _whole, nullable=False),
    Column("last_seq", _whole, nullable=False),
)


def _job_columns() -> list[Column[object]]:
    return [
        Column("seq", _whole, primary_key=True, autoincrement=False),
        Column("id", Text, nullable=False),
        Column("task", Text, nullable=False),
        Column("arguments", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("priority", Integer, nullable=False),
        Column("tags", Text, nullable=False),
        Column("created", _time, nullable=False),
        Column("run_at", _time, nullable=False),
        # 1: it may be claimed now; set by a claim once run_at has come
        Column("due", Integer, nullable=False),
        Column("started", _time),
        Column("finished", _time),
        # seconds between when it could run and its last claim
        Column("wait", _time),
        Column("attempts", Integer, nullable=False),
        Column("crashes", Integer, nullable=False),
        # of whatever its task says, where it is NULL
        Column("retries", Integer),
        Column("timeout", _time),
        # the fence: which claim it is at, and what only its holder knows
        Column("attempt", Integer, nullable=False),
        Column("token", Text),
        Column("result", Text),
        Column("files", Text, nullable=False),
        Column("error", Text),
        # "cause\ntype" of the error: to be counted without reading tracebacks
        Column("failure", Text),
        Column("parent", Text),
        Column("key", Text),
        # a digest of task and arguments: what a second submission with the key is compared with
        Column("body", Text),
        Column("submitted_by", Text, nullable=False),
        Column("cancel_requested", Integer, nullable=False),
        Column("worker_pid", Integer),
        Column("note", Text, nullable=False),
        Column("webhook", Text),
        # the change number of its last change of state
        Column("changed", _whole, nullable=False),
        # what arguments, result, error and files take
        Column("bytes", _whole, nullable=False),
    ]


jobs = Table("allcores_jobs", metadata, *_job_columns())

#: deleted jobs, until there is no undo any more
deleted = Table(
    "allcores_deleted",
    metadata,
    *_job_columns(),
    Column("deleted", _time, nullable=False),
    # the row of the audit
    Column("audit", _whole, nullable=False),
)

job_tags = Table(
    "allcores_tags",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("seq", _whole, primary_key=True, autoincrement=False),
)

#: of running jobs; apart, so that large arguments are not written again with each report
progress = Table(
    "allcores_progress",
    metadata,
    Column("seq", _whole, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

#: attempts that did not succeed
attempts = Table(
    "allcores_attempts",
    metadata,
    Column("seq", _whole, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("started", _time, nullable=False),
    Column("finished", _time, nullable=False),
    Column("state", Text, nullable=False),
    Column("crashed", Integer, nullable=False),
    Column("error", Text),
    Column("note", Text, nullable=False),
)

counters = Table(
    "allcores_counters",
    metadata,
    Column("task", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("due", Integer, primary_key=True, autoincrement=False),
    Column("n", _whole, nullable=False),
    Column("bytes", _whole, nullable=False),
)

#: ends of jobs by time
ends = Table(
    "allcores_ends",
    metadata,
    Column("bucket", _whole, primary_key=True, autoincrement=False),
    Column("state", Text, primary_key=True),
    Column("n", _whole, nullable=False),
)

audit = Table(
    "allcores_audit",
    metadata,
    Column("seq", _whole, primary_key=True, autoincrement=False),
    Column("at", _time, nullable=False),
    Column("by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("count", _whole, nullable=False),
    Column("detail", Text, nullable=False),
)

#: small things that outlive a process and are no jobs: schedules, deliveries of webhooks
records = Table(
    "allcores_records",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("body", Text, nullable=False),
    Column("changed", _whole, nullable=False),
)

#: ends that are to be told to an address, until they are taken (jobs/untold.py): kept by a trigger
untold = Table(
    "allcores_untold",
    metadata,
    Column("id", Text, primary_key=True),
    Column("finished", _time, primary_key=True, autoincrement=False),
)

#: what a claim looks at, word for word as in the index below, or SQLite does not use it
READY = "state = 'queued' AND due = 1"
DELAYED = "state = 'queued' AND due = 0"
CANCELS = "state = 'running' AND cancel_requested = 1"
RUNNING = "state = 'running'"

_INDEXES = (
    "CREATE UNIQUE INDEX allcores_jobs_id ON allcores_jobs (id)",
    "CREATE UNIQUE INDEX allcores_jobs_key ON allcores_jobs (key) WHERE key IS NOT NULL",
    f"CREATE INDEX allcores_jobs_ready ON allcores_jobs (task, priority DESC, seq) WHERE {READY}",
    f"CREATE INDEX allcores_jobs_delayed ON allcores_jobs (run_at) WHERE {DELAYED}",
    f"CREATE INDEX allcores_jobs_cancels ON allcores_jobs (seq) WHERE {CANCELS}",
    "CREATE INDEX allcores_jobs_state ON allcores_jobs (state, seq)",
    "CREATE INDEX allcores_jobs_task ON allcores_jobs (task, state, seq)",
    "CREATE INDEX allcores_jobs_created ON allcores_jobs (created)",
    "CREATE INDEX allcores_jobs_finished ON allcores_jobs (finished) WHERE finished IS NOT NULL",
    "CREATE INDEX allcores_tags_seq ON allcores_tags (seq)",
    "CREATE INDEX allcores_deleted_at ON allcores_deleted (deleted)",
    "CREATE INDEX allcores_deleted_audit ON allcores_deleted (audit)",
)

_FINAL = ", ".join(f"'{state}'" for state in FINAL_STATES)
_STATES = ", ".join(f"'{state}'" for state in State)


def _add(row: str) -> str:
    return (
        "INSERT INTO allcores_counters (task, state, due, n, bytes)"
        f" VALUES ({row}.task, {row}.state, {row}.due, 1, {row}.bytes)"
        " ON CONFLICT (task, state, due) DO UPDATE"
        " SET n = allcores_counters.n + 1, bytes = allcores_counters.bytes + excluded.bytes;"
    )


def _take(row: str) -> str:
    return (
        f"UPDATE allcores_counters SET n = n - 1, bytes = bytes - {row}.bytes"
        f" WHERE task = {row}.task AND state = {row}.state AND due = {row}.due;"
    )


_END = (
    "INSERT INTO allcores_ends (bucket, state, n)"
    f" VALUES (CAST(floor(new.finished / {BUCKET_S}) AS bigint), new.state, 1)"
    " ON CONFLICT (bucket, state) DO UPDATE SET n = allcores_ends.n + 1;"
)
_ENDS = f"new.state IN ({_FINAL}) AND new.finished IS NOT NULL AND old.state NOT IN ({_FINAL})"
_TELL = "INSERT INTO allcores_untold (id, finished) VALUES (new.id, new.finished) ON CONFLICT DO NOTHING;"
_TOLD = f"{_ENDS} AND new.webhook IS NOT NULL"
_COUNTED = "state, task, due, bytes"
_GONE = "DELETE FROM allcores_tags WHERE seq = old.seq; DELETE FROM allcores_progress WHERE seq = old.seq;"


def _sqlite_triggers() -> Iterator[str]:
    end = _END.replace("floor(new.finished / 10)", "new.finished / 10").replace("bigint", "INTEGER")
    on = "ON allcores_jobs"
    yield f"CREATE TRIGGER allcores_job_new AFTER INSERT {on} BEGIN {_add('new')} END"
    yield f"CREATE TRIGGER allcores_job_gone AFTER DELETE {on} BEGIN {_take('old')} {_GONE} END"
    yield f"CREATE TRIGGER allcores_job_moved AFTER UPDATE OF {_COUNTED} {on} BEGIN {_take('old')} {_add('new')} END"
    yield f"CREATE TRIGGER allcores_job_end AFTER UPDATE OF state {on} WHEN {_ENDS} BEGIN {end} END"


def _postgresql_triggers() -> Iterator[str]:
    on = "ON allcores_jobs FOR EACH ROW"
    yield (
        "CREATE FUNCTION allcores_count() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF TG_OP <> 'INSERT' THEN {_take('old')} END IF;"
        f" IF TG_OP <> 'DELETE' THEN {_add('new')} END IF;"
        f" IF TG_OP = 'DELETE' THEN {_GONE} END IF;"
        " RETURN NULL; END $$"
    )
    yield (
        f"CREATE FUNCTION allcores_count_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_END} RETURN NULL; END $$"
    )
    yield (
        f"CREATE TRIGGER allcores_job_moved AFTER INSERT OR DELETE OR UPDATE OF {_COUNTED} {on}"
        " EXECUTE FUNCTION allcores_count()"
    )
    yield (
        f"CREATE TRIGGER allcores_job_end AFTER UPDATE OF state {on} WHEN ({_ENDS})"
        " EXECUTE FUNCTION allcores_count_end()"
    )


def telling(dialect: str) -> Iterator[str]:
    """What writes down ends that are to be told."""
    if dialect == "sqlite":
        yield (
            f"CREATE TRIGGER allcores_job_told AFTER UPDATE OF state ON allcores_jobs WHEN {_TOLD} BEGIN {_TELL} END"
        )
        return
    yield f"CREATE FUNCTION allcores_tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_TELL} RETURN NULL; END $$"
    yield (
        "CREATE TRIGGER allcores_job_told AFTER UPDATE OF state ON allcores_jobs FOR EACH ROW"
        f" WHEN ({_TOLD}) EXECUTE FUNCTION allcores_tell()"
    )


def statements(dialect: str) -> Iterator[str]:
    """What makes indexes, triggers and first rows of a new store, after its tables."""
    yield from _INDEXES
    yield from _sqlite_triggers() if dialect == "sqlite" else _postgresql_triggers()
    yield from telling(dialect)
    yield "INSERT INTO allcores_changes (one, number, last_seq) VALUES (1, 0, 0)"
