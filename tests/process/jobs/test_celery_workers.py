"""Jobs that Celery carries: what becomes of them when a worker or Redis is killed, and of messages nobody sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.process.jobs.conftest import PATIENCE_S, lines, until
from tests.process.jobs.message_workers import Workers

from allcores.jobs.pool_side import is_alive

pytest.importorskip("celery")

pytestmark = pytest.mark.slow


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with Workers(tmp_path, "celery") as found:
        yield found


def test_a_worker_runs_jobs_on_its_cores(workers: Workers, tmp_path: Path) -> None:
    worker = workers.start()
    queue = workers.queue
    jobs = queue.submit_all([queue.submission("add", {"a": n}) for n in range(50)])
    assert [queue.result(each.job.id, PATIENCE_S) for each in jobs] == [n + 1 for n in range(50)]
    job = queue.wait(queue.submit("flaky", {"path": str(tmp_path / "f"), "times": 2}).id, PATIENCE_S)
    assert (job.state, job.attempts) == ("succeeded", 3)
    # Both cores at work, and more jobs waiting: the message of the third is given back, and not lost.
    held = [queue.submit("hold", {"path": str(tmp_path / "h")}) for _ in range(3)]
    until(lambda: len(lines(tmp_path / "h.pids")) >= 2)
    stuck = queue.submit("stuck_in_c", {"path": str(tmp_path / "c")}, priority=5)
    (tmp_path / "h").touch()
    assert [queue.result(each.id, PATIENCE_S) for each in held] == ["held"] * 3
    (pid,) = until(lambda: lines(tmp_path / "c.pids"))
    assert queue.cancel(stuck.id)
    assert queue.wait(stuck.id, PATIENCE_S).state == "cancelled" and not is_alive(int(pid))
    assert worker.end() == 0
    assert queue.store.supervisor_pid() is None and queue.store.records("lease") == {}
    assert "Traceback" not in worker.log.read_text()
