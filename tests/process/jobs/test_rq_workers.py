"""Jobs that RQ carries: what becomes of them when a worker or Redis is killed, and of messages nobody sent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.installed import late
from tests.process.jobs import postgresql
from tests.process.jobs.conftest import PATIENCE_S, TASKS, lines, until
from tests.process.jobs.message_workers import Workers, nothing_is_lost

from allcores.errors import UsageError
from allcores.jobs import AlreadySupervised

redis, rq, serializers = late("redis"), late("rq"), late("rq.serializers")
adapter = late("allcores.adapters.rq")

pytestmark = pytest.mark.slow


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with Workers(tmp_path, "rq") as found:
        yield found


def forged(workers: Workers, id: str) -> None:
    """Send messages to the workers that no publisher sent: functions that are none of ours, and callbacks."""
    with redis.Redis.from_url(workers.redis.url) as connection:
        name = f"allcores.{workers.queue.store.identity}"
        ours = rq.Queue(name, connection=connection, serializer=serializers.JSONSerializer)
        for other in ("0" * 32, id, "etc", "a" * 1000):
            ours.enqueue_call("os.system", args=("touch forged",), job_id=other, on_success=rq.Callback("os.abort"))
        pickled = rq.Queue(name, connection=connection)
        pickled.enqueue_call("os.system", args=("touch forged",), job_id="pickled")
        connection.rpush(ours.key, "nothing")
        for odd in ("odd", "../../etc", "\x00"):
            connection.hset(f"rq:job:{odd}", mapping={"data": json.dumps(["os.abort"]), "created_at": "odd"})
            connection.rpush(ours.key, odd)
        connection.rpush(ours.key, b"\xff")


def test_a_worker_runs_jobs_on_its_cores(workers: Workers, tmp_path: Path) -> None:
    worker = workers.start()
    queue = workers.queue
    jobs = queue.submit_all([queue.submission("add", {"a": n}) for n in range(50)])
    assert [queue.result(each.job.id, PATIENCE_S) for each in jobs] == [n + 1 for n in range(50)]
    whole = queue.wait(queue.submit("run_items", {"path": str(tmp_path / "out.jsonl"), "count": 40}).id, PATIENCE_S)
    assert whole.state == "succeeded" and len(lines(tmp_path / "out.jsonl")) == 40
    # Both cores at work, and one more job waiting: its message is given back, and not lost.
    held = [queue.submit("hold", {"path": str(tmp_path / "h")}) for _ in range(3)]
    until(lambda: len(lines(tmp_path / "h.pids")) >= 2)
    forged(workers, jobs[0].job.id)
    (tmp_path / "h").touch()
    assert [queue.result(each.id, PATIENCE_S) for each in held] == ["held"] * 3
    assert queue.result(queue.submit("add", {"a": 1}).id, PATIENCE_S) == 2
    assert {job.attempts for each in jobs if (job := queue.get(each.job.id))} == {1}
    assert not (tmp_path / "forged").exists()
    assert worker.end() == 0
    assert queue.store.supervisor_pid() is None and queue.store.records("lease") == {}


def test_nothing_is_lost_or_committed_twice_whatever_is_killed(tmp_path: Path) -> None:
    """As on two machines, with the store in PostgreSQL."""
    if (reason := postgresql.why_not()) is not None:
        pytest.skip(reason)
    with postgresql.server() as server, Workers(tmp_path, "rq", server.new_database()) as workers:
        nothing_is_lost(workers, tmp_path)


def test_what_would_not_run_jobs_as_promised_is_refused(workers: Workers, tmp_path: Path) -> None:
    worker = adapter.make_worker(tmp_path / "jobs.sqlite", TASKS, url=workers.redis.url)
    with pytest.raises(UsageError, match=r"with_scheduler=True .* @task\(schedule=.*; burst=True"):
        worker.work(with_scheduler=True, burst=True)
    worker.connection.close()
    workers.redis.kill()
    with pytest.raises(UsageError, match=r"no Redis at 127.0.0.1:\d+/0: .*; start it"):
        adapter.make_worker(tmp_path / "jobs.sqlite", TASKS, url=workers.redis.url.replace("//", "//user:secret@"))
    with pytest.raises(UsageError, match=r"no Redis at .*password=\*\*\*: .*; start it"):
        adapter.make_worker(tmp_path / "jobs.sqlite", TASKS, url=f"{workers.redis.url}?password=hush")


def test_a_supervisor_that_has_the_store_for_itself(workers: Workers) -> None:
    """It is not joined, nor does it join: one sentence says which process it is."""
    with workers.queue.store.become_supervisor():
        worker = adapter.make_worker(workers.folder / "jobs.sqlite", TASKS, url=workers.redis.url)
        with pytest.raises(AlreadySupervised, match=f"process {os.getpid()} runs the jobs of the store"):
            worker.work()
        worker.connection.close()
