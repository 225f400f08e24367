"""Jobs that Celery carries: what becomes of them when a worker or Redis is killed, and of messages nobody sent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.installed import late, needed
from tests.process.jobs.conftest import PATIENCE_S, SOURCE, TASKS, lines, until
from tests.process.jobs.message_workers import Workers, nothing_is_lost

from allcores.errors import UsageError
from allcores.jobs.pool_side import is_alive

needed("celery")
adapter = late("allcores.adapters.celery")

pytestmark = pytest.mark.slow


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with Workers(tmp_path, "celery") as found:
        yield found


def app_of(workers: Workers) -> Any:
    return adapter.make_app(workers.folder / "jobs.sqlite", TASKS, broker=workers.redis.url)


def forged(workers: Workers, *arguments: Any) -> None:
    """Send messages to the workers that no publisher sent; the last one is no JSON, but a pickle."""
    app = app_of(workers)
    with app.connection_for_write() as connection:
        for each in arguments:
            app.send_task(adapter.TASK, args=each, connection=connection)
        app.send_task("os.system", args=["touch forged"], connection=connection)
        app.send_task(adapter.TASK, args=["0" * 32], serializer="pickle", connection=connection)


def test_a_worker_runs_jobs_on_its_cores(workers: Workers, tmp_path: Path) -> None:
    worker = workers.start()
    queue = workers.queue
    jobs = queue.submit_all([queue.submission("add", {"a": n}) for n in range(50)])
    assert [queue.result(each.job.id, PATIENCE_S) for each in jobs] == [n + 1 for n in range(50)]
    job = queue.wait(queue.submit("flaky", {"path": str(tmp_path / "f"), "times": 2}).id, PATIENCE_S)
    assert (job.state, job.attempts) == ("succeeded", 3)
    whole = queue.wait(queue.submit("run_items", {"path": str(tmp_path / "out.jsonl"), "count": 40}).id, PATIENCE_S)
    assert whole.state == "succeeded" and len(lines(tmp_path / "out.jsonl")) == 40
    # Both cores at work, and more jobs waiting: the message of the third is given back, and not lost.
    held = [queue.submit("hold", {"path": str(tmp_path / "h")}) for _ in range(3)]
    until(lambda: len(lines(tmp_path / "h.pids")) >= 2)
    stuck = queue.submit("stuck_in_c", {"path": str(tmp_path / "c")}, priority=5)
    # Messages that nobody sent run nothing, and hold up nobody.
    forged(workers, [jobs[0].job.id], ["0" * 32], ["../../etc/passwd"], [["a", "list"]], [], [jobs[1].job.id, "more"])
    (tmp_path / "h").touch()
    assert [queue.result(each.id, PATIENCE_S) for each in held] == ["held"] * 3
    (pid,) = until(lambda: lines(tmp_path / "c.pids"))
    assert queue.cancel(stuck.id)
    assert queue.wait(stuck.id, PATIENCE_S).state == "cancelled" and not is_alive(int(pid))
    # Behind all of these messages.
    assert queue.result(queue.submit("add", {"a": 1}).id, PATIENCE_S) == 2
    assert not (tmp_path / "forged").exists()
    assert {found.attempts for each in jobs if (found := queue.get(each.job.id))} == {1}
    assert worker.end() == 0
    assert queue.store.supervisor_pid() is None and queue.store.records("lease") == {}
    log = worker.log.read_text()
    assert "unregistered task of type 'os.system'" in log and "Refusing to deserialize untrusted content" in log
    # Of these two; that a message was given back is not told.
    assert log.count("Traceback") == 2


#: for a worker's program: Redis does not answer in time that a message is done with, once
UNANSWERED = """
import allcores.adapters.celery as adapter
import redis.exceptions
from kombu.transport.redis import QoS
adapter.ANSWER_S, kept, times = 0.2, QoS.ack, []
def ack(self, tag):
    if times.append(tag) is None and len(times) == 1:
        raise redis.exceptions.TimeoutError("Timeout reading from socket")
    kept(self, tag)
QoS.ack = ack
"""


def test_a_redis_that_does_not_answer_for_a_moment_stops_no_worker(workers: Workers) -> None:
    """Celery takes no message more while it has one that it could not say to be done with."""
    with (workers.folder / "work.py").open("a") as file:
        file.write(UNANSWERED)
    worker = workers.start()
    jobs = workers.queue.submit_all([workers.queue.submission("add", {"a": n}) for n in range(5)])
    assert [workers.queue.result(each.job.id, PATIENCE_S) for each in jobs] == [1, 2, 3, 4, 5]
    assert "Couldn't ack" in worker.log.read_text() and worker.popen.poll() is None


def test_nothing_is_lost_or_committed_twice_whatever_is_killed(workers: Workers, tmp_path: Path) -> None:
    """Redis is emptied, and killed and started again, empty; a worker is killed, the one that leads."""
    nothing_is_lost(workers, tmp_path)


def test_one_that_leads_and_hangs_is_followed_and_ends_once_it_goes_on(workers: Workers, tmp_path: Path) -> None:
    queue, path = workers.queue, tmp_path / "h"
    hung = workers.start()
    job = queue.submit("hold", {"path": str(path)})
    (pid,) = until(lambda: lines(f"{path}.pids"))
    until(lambda: (found := queue.get(job.id)) and found.worker and found.worker.pid == int(pid))
    assert queue.store.supervisor_pid() == hung.popen.pid
    workers.start()
    hung.popen.send_signal(signal.SIGSTOP)
    until(lambda: len(lines(f"{path}.pids")) == 2)
    path.touch()
    assert queue.wait(job.id, PATIENCE_S).result == "held"
    assert queue.result(queue.submit("add", {"a": 1}).id, PATIENCE_S) == 2
    hung.popen.send_signal(signal.SIGCONT)
    assert hung.popen.wait(PATIENCE_S) == 1
    assert "others took over its jobs: start it again" in hung.log.read_text()
    ended = queue.get(job.id)
    assert ended and (ended.state, ended.attempts, ended.crashes) == ("succeeded", 1, 1)


@pytest.mark.parametrize(
    ("setting", "wrong", "says"),
    [
        ("task_acks_late", False, "task_acks_late is off"),
        ("task_reject_on_worker_lost", False, "task_reject_on_worker_lost is off"),
        ("visibility_timeout", 10, r"visibility_timeout differs .*\(3600, 3600, 10\)"),
        ("broker_transport_options", {}, r"visibility_timeout differs .*\(None, 3600, 3600\)"),
        ("result_backend_transport_options", {}, r"visibility_timeout differs .*\(3600, None, 3600\)"),
        ("accept_content", ["json", "pickle"], "accept_content"),
        ("task_always_eager", True, "task_always_eager is on"),
    ],
)
def test_settings_that_lose_jobs_are_refused(tmp_path: Path, setting: str, wrong: Any, says: str) -> None:
    app = adapter.make_app(tmp_path / "jobs.sqlite", TASKS)
    adapter.check(app)
    app.conf[setting] = wrong
    with pytest.raises(UsageError, match=says):
        adapter.check(app)


def test_the_password_of_a_broker_is_in_no_message(tmp_path: Path) -> None:
    """A traceback may be logged, and a broker of another kind is what a program had before."""
    for broker in ("amqp://user:hush@host/vhost", "sqs://host?secret=hush"):
        with pytest.raises(UsageError, match=r"\*\*\*") as caught:
            adapter.make_app(tmp_path / "jobs.sqlite", TASKS, broker=broker)
        assert "hush" not in str(caught.value)


def test_another_pool_than_solo_and_another_broker_than_redis_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"amqp://.* is no address of a Redis"):
        adapter.make_app(tmp_path / "jobs.sqlite", TASKS, broker="amqp://127.0.0.1")
    (tmp_path / "work.py").write_text(
        f"from allcores.adapters.celery import make_app\napp = make_app('jobs.sqlite', {TASKS!r})\n"
    )
    command = [sys.executable, "-m", "celery", "-A", "work", "worker", "-P", "threads", "-Q", "mail"]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode != 0
    assert "the worker has the pool 'thread', but cores are allcores' own: start it with -P solo" in done.stderr
    assert "asks for messages of mail alone: leave -Q out, or add allcores." in done.stderr
    assert "Traceback" not in done.stderr, done.stderr
