"""The programs of the how-to page about Celery and RQ, as they stand there, with a real Redis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, blocks, commands
from tests.journeys.serving_jobs import environment
from tests.process.jobs.message_workers import WorkerProcess
from tests.process.jobs.redis_server import RedisServer
from tests.process.waiting import PATIENCE_S

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is for Linux")]

PAGE = ROOT / "docs/howto/jobs-celery.md"
#: what starts a worker, as the page says, and what its log says then
WORKERS = {
    "celery": ("celery -A work worker -P solo", "[queues]"),
    "rq": ("python rq_work.py", "Listening on"),
}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.mark.parametrize("library", WORKERS)
def test_the_page_as_it_stands(redis: RedisServer, tmp_path: Path, library: str) -> None:
    pytest.importorskip(library)
    for block in blocks(PAGE):
        if block.title:
            (tmp_path / block.title).write_text(block.code.replace(":6379/", f":{redis.port}/"))
    command, ready = WORKERS[library]
    text = PAGE.read_text()
    assert f"\n    {command}\n" in text
    words = command.removeprefix("python ").removesuffix(".py").split()
    worker = WorkerProcess(words, tmp_path, "worker", ready)
    try:
        ((submit, printed),) = commands(text)
        assert submit == "python submit.py" and printed
        done = subprocess.run(
            [sys.executable, "submit.py"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert (done.stdout, done.stderr) == (printed, ""), worker.log.read_text()
        assert worker.end() == 0
    finally:
        if worker.popen.poll() is None:
            worker.kill()
