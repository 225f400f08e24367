"""Schedules that fire, and addresses that are told of ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.process.jobs.conftest import Running, until

from allcores.jobs import JobFilter, JobStore, Registry, task
from allcores.jobs import webhooks as hooks
from allcores.jobs.duties import ScheduleDuty
from allcores.jobs.schedules import Seen
from allcores.jobs.tasks import task_of


@task(schedule="* * * * *", timezone="UTC")
def minutely() -> None: ...


def test_each_time_fires_once(tmp_path: Path) -> None:
    """Also with a second supervisor that has not seen the first one's note."""
    found = task_of(minutely)
    assert found is not None
    registry = Registry([found])
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        start = 1_800_000_000.0  # a whole minute
        ScheduleDuty(store, registry).look(start - 1, stopping=False)
        duty = ScheduleDuty(store, registry)
        Seen(store.folder).put({"minutely": ("* * * * *", start - 1)})
        for each in (duty, ScheduleDuty(store, registry)):
            each.look(start + 0.5, stopping=False)
            each.look(start + 1.5, stopping=False)
        assert len(store.page(JobFilter(task="minutely")).jobs) == 1
        duty.look(start + 60.5, stopping=False)
        duty.look(start + 59.0, stopping=False)  # the clock was set back
        jobs = store.page(JobFilter(task="minutely")).jobs
        assert [(job.key, job.submitted_by) for job in jobs] == [
            (f"schedule:minutely:{int(start) + 60}", "schedule"),
            (f"schedule:minutely:{int(start)}", "schedule"),
        ]
        assert duty.next_times()["minutely"] > time.time()


class Receiver:
    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.refusals = 1
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.headers[hooks.HEADER], body))
                self.send_response(500 if len(receiver.requests) <= receiver.refusals else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/told"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_an_end_is_told_signed_and_again(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "BETWEEN_S", (0.05, 1.0))
    with Running(tmp_path) as running:
        job = running.run("add", {"a": 1}, webhook=receiver.url)
        until(lambda: len(receiver.requests) == 2, "the second try")
        secret = hooks.secret_of(running.store.folder)
        for header, body in receiver.requests:
            assert hooks.is_signed(secret, header, body)
            assert not hooks.is_signed(secret, header, body + b" ")
            assert not hooks.is_signed(b"another", header, body)
            assert not hooks.is_signed(secret, header, body, now=time.time() + 1_000)
            facts = json.loads(body)
            assert (facts["id"], facts["state"], facts["task"]) == (job.id, "succeeded", "add")
        until(lambda: running.store.records("webhook") == {}, "that nothing is left to tell")
        # A job that never ran is told of, too.
        late = running.queue.submit("add", {"a": 1}, webhook=receiver.url, delay=1_000)
        running.queue.cancel(late.id)
        until(lambda: len(receiver.requests) == 3)
        assert json.loads(receiver.requests[2][1])["state"] == "cancelled"


def test_what_cannot_be_reached_says_why() -> None:
    assert hooks.post("ftp://127.0.0.1/", b"{}", b"s") == "it is no address of http or https"
    assert "refused" in str(hooks.post("http://127.0.0.1:1/", b"{}", b"s")).lower()
