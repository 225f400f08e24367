"""Schedules that fire, and addresses that are told of ends."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.process.jobs.conftest import PATIENCE_S, Running, until

from allcores.errors import UsageError
from allcores.jobs import JobFilter, JobStore, Registry, signatures, submissions, task, untold
from allcores.jobs import webhooks as hooks
from allcores.jobs.duties import ScheduleDuty
from allcores.jobs.errors import StoreError
from allcores.jobs.given_text import is_web_address
from allcores.jobs.model import Submission
from allcores.jobs.schedules import KIND, as_seen
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
        store.put_record(KIND, "minutely", as_seen(found, start - 1))
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


def test_a_clock_that_was_a_year_ahead_is_put_right_and_schedules_go_on(tmp_path: Path) -> None:
    """Both while it runs, and with the note of a supervisor that has ended; what had fired fires no second time."""
    found = task_of(minutely)
    assert found is not None
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        start, ahead = 1_800_000_000.0, 1_800_000_000.0 + 366 * 86_400
        running = ScheduleDuty(store, Registry([found]))
        for wall in (start - 1, start + 0.5, ahead - 1, ahead + 0.5):
            running.look(wall, stopping=False)
        store.put_record(KIND, "minutely", as_seen(found, ahead + 0.5))
        before = len(store.page(JobFilter(task="minutely")).jobs)
        for number, duty in enumerate((running, ScheduleDuty(store, Registry([found])))):
            duty.look(start + 30 + number * 60, stopping=False)
            duty.look(start + 60.5 + number * 60, stopping=False)
        keys = [job.key for job in store.page(JobFilter(task="minutely")).jobs]
        assert keys[:-before] == [f"schedule:minutely:{int(start) + 120}", f"schedule:minutely:{int(start) + 60}"]
        assert len(set(keys)) == len(keys)


def test_schedules_go_on_from_what_an_earlier_version_kept(tmp_path: Path) -> None:
    """It was in a file beside the store; a task that is new begins now."""
    found = task_of(minutely)
    assert found is not None
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        start = 1_800_000_000.0
        (store.folder / "schedules.json").write_text(json.dumps({"minutely": as_seen(found, start - 1)}))
        ScheduleDuty(store, Registry([found])).look(start + 20.0, stopping=False)
        (job,) = store.page(JobFilter(task="minutely")).jobs
        assert job.key == f"schedule:minutely:{int(start)}"
        # From then on the store says so.
        (store.folder / "schedules.json").write_text(json.dumps({"minutely": as_seen(found, start - 600)}))
        duty = ScheduleDuty(store, Registry([found]))
        # What it has written shows that the store can be used, though nothing was due.
        assert [duty.look(start + after, stopping=False) for after in (30.0, 31.0)] == [True, False]
        assert len(store.page(JobFilter(task="minutely")).jobs) == 1


def test_who_leads_again_goes_on_where_another_one_was(tmp_path: Path) -> None:
    """What the other one fired, and somebody deleted, is not fired again."""
    found = task_of(minutely)
    assert found is not None
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        start = 1_800_000_000.0
        first, other = (ScheduleDuty(store, Registry([found])) for _ in range(2))
        first.look(start - 1, stopping=False)
        first.put_down()
        other.look(start + 1, stopping=False)
        (job,) = store.page(JobFilter(task="minutely")).jobs
        assert store.delete([job.id], "ann").count == 1
        other.put_down()
        first.look(start + 2, stopping=False)
        assert store.page(JobFilter(task="minutely")).jobs == ()


def test_who_leads_no_longer_fires_nothing_that_another_one_fired(tmp_path: Path) -> None:
    """It does not know yet, and the job of the other one is deleted; what the other one wrote down stays so."""
    found = task_of(minutely)
    assert found is not None
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        start = 1_800_000_000.0
        stale, leader = (ScheduleDuty(store, Registry([found])) for _ in range(2))
        for duty in (stale, leader):
            duty.look(start - 1, stopping=False)
        leader.look(start + 61, stopping=False)
        jobs = store.page(JobFilter(task="minutely")).jobs
        assert len(jobs) == 1 and store.delete([job.id for job in jobs], "ann").count == 1
        stale.look(start + 1, stopping=False)
        stale.look(start + 61, stopping=False)
        assert store.page(JobFilter(task="minutely")).jobs == ()
        stale.look(start + 2, stopping=False)
        assert store.records(KIND)["minutely"]["seen"] >= start + 61
        leader.look(start + 121, stopping=False)
        assert len(store.page(JobFilter(task="minutely")).jobs) == 1


class Receiver:
    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.refusals, self.refusal = 1, 500
        self.asked: list[str] = []
        self.authorization: str | None = None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.headers[signatures.HEADER], body))
                receiver.asked.append(self.path)
                receiver.authorization = self.headers["Authorization"]
                self.send_response(receiver.refusal if len(receiver.requests) <= receiver.refusals else 204)
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
        first = running.queue.submit("add", {"a": 1}, run_at=time.time() + 1_000)
        job = running.run("add", {"a": 1}, webhook=receiver.url, parent=first.id)
        until(lambda: len(receiver.requests) == 2, "the second try")
        secret = signatures.secret_of(running.store.folder)
        for header, body in receiver.requests:
            assert signatures.is_signed(secret, header, body)
            assert not signatures.is_signed(secret, header, body + b" ")
            assert not signatures.is_signed(b"another", header, body)
            assert not signatures.is_signed(secret, header, body, now=time.time() + 1_000)
            facts = json.loads(body)
            assert (facts["id"], facts["state"], facts["task"]) == (job.id, "succeeded", "add")
            assert facts["parent"] == first.id
        until(lambda: running.store.records("webhook") == {}, "that nothing is left to tell")
        # A job that never ran is told of, too.
        late = running.queue.submit("add", {"a": 1}, webhook=receiver.url, delay=1_000)
        running.queue.cancel(late.id)
        until(lambda: len(receiver.requests) == 3)
        assert json.loads(receiver.requests[2][1])["state"] == "cancelled"


NO_SIGNATURES = [
    "",
    "t=",
    "t=x,v1=y",
    "t=1,v1=\xe9",
    "t=1,v1=\udc80",
    f"t={'9' * 400},v1=y",
    "t=\u0661,v1=y",
    "t=-1",
    ",=,",
]


@pytest.mark.parametrize("header", NO_SIGNATURES)
def test_what_anybody_may_send_as_a_signature_is_none(header: str) -> None:
    assert not signatures.is_signed(b"secret", header, b"{}", now=1.0)


def test_nothing_is_signed_with_a_key_that_was_lost(tmp_path: Path) -> None:
    """Anybody could sign with an empty one."""
    (tmp_path / signatures.KEY_FILE).touch(0o600)
    with pytest.raises(UsageError, match="is empty: remove the file"):
        signatures.secret_of(tmp_path)
    (tmp_path / signatures.KEY_FILE).unlink()
    key = signatures.secret_of(tmp_path)
    assert (len(key), signatures.secret_of(tmp_path)) == (64, key)


def test_what_cannot_be_reached_says_why() -> None:
    assert hooks.post("ftp://127.0.0.1/", b"{}", b"s") == "it is no address of http or https"
    assert "refused" in str(hooks.post("http://127.0.0.1:1/", b"{}", b"s")).lower()


@pytest.mark.parametrize(
    ("path", "asked", "user"),
    [
        ("/ended/Jürgen ß?of=Ähre&n=1#part", None, None),
        ("/ended/Jürgen?of=Ähre&n=1#part", "/ended/J%C3%BCrgen?of=%C3%84hre&n=1", None),
        ("/a%20b/%C3%A4;v=1,2?q=a+b%26c", "/a%20b/%C3%A4;v=1,2?q=a+b%26c", None),
        ("/", "/", "ann:p%40ss"),
    ],
)
def test_an_address_is_asked_as_it_is_meant(receiver: Receiver, path: str, asked: str | None, user: str | None) -> None:
    """With letters that a request does not have, and with a name and password in it; or it is refused at once."""
    url = receiver.url.removesuffix("/told") + path
    url = url if user is None else url.replace("://", f"://{user}@")
    assert is_web_address(url) == (asked is not None)
    if asked is not None:
        assert hooks.post(url, b"{}", b"s") is not None, "the first try is not taken"
        assert hooks.post(url, b"{}", b"s") is None
        assert receiver.asked == [asked] * 2
        name = None if user is None else "Basic " + base64.b64encode(b"ann:p@ss").decode()
        assert receiver.authorization == name


@pytest.fixture
def answering() -> Iterator[Any]:
    """Makes servers that take one connection and answer it with these blocks, one each hundredth of a second."""
    threads: list[threading.Thread] = []
    servers: list[socket.socket] = []

    def serve(blocks: Iterable[bytes]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def answer() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for block in blocks:
                    connection.sendall(block)
                    time.sleep(0.01)

        threads.append(threading.Thread(target=answer))
        threads[-1].start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/"

    yield serve
    for thread in threads:
        thread.join()
    for server in servers:
        server.close()


def test_whatever_an_address_is_or_answers_the_others_are_told(
    tmp_path: Path, receiver: Receiver, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong addresses, no HTTP, and a receiver that never comes to an end, each more often than there are threads."""
    monkeypatch.setattr(hooks, "REQUEST_S", 0.5)
    monkeypatch.setattr(hooks, "TRIES", 1)
    # They are refused now, and may be in a store that is older.
    monkeypatch.setattr(submissions, "is_web_address", lambda text: True)
    never = itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X"))
    with Running(tmp_path) as running:
        for _ in range(5):
            for url in ("http://127.0.0.1:abc/", answering([b"garbage\r\n\r\n"]), answering(never)):
                running.queue.submit("add", {"a": 1}, webhook=url)
        running.run("add", {"a": 1}, webhook=receiver.url)
        until(lambda: receiver.requests, "the one that listens")
        until(lambda: running.store.records("webhook") == {}, "that nothing is left to tell")


def test_a_receiver_that_never_ends_is_given_up(answering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "REQUEST_S", 0.3)
    url = answering(itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X")))
    assert hooks.post(url, b"{}", b"s") == "it took longer than 0.3 s"


def test_a_name_whose_look_up_takes_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system gives it as long as it likes. Whoever asks for it meanwhile has no thread of their own for it."""
    go, asked = threading.Event(), []

    def look_up(*given: Any, **_: Any) -> Any:
        asked.append(given)
        assert go.wait(PATIENCE_S)
        raise OSError("no such name")

    monkeypatch.setattr(hooks, "REQUEST_S", 0.3)
    monkeypatch.setattr("socket.getaddrinfo", look_up)
    try:
        for _ in range(2):
            found = hooks.post("http://slow.test/", b"{}", b"s")
            assert found is not None and ("0.3 s" in found or "looked up" in found)
        assert asked == [("slow.test", 80)]
    finally:
        go.set()
    until(lambda: not any(each.name == "allcores-name" for each in threading.enumerate()), "its thread's end")
    monkeypatch.setattr(hooks, "REQUEST_S", PATIENCE_S)
    assert hooks.post("http://slow.test/", b"{}", b"s") == "no such name"


def looked(duty: hooks.WebhookDuty, is_so: Callable[[], bool]) -> Callable[[], bool]:
    """A look now, and whether that was enough."""

    def look() -> bool:
        duty.look(time.time(), stopping=False)
        return is_so()

    return look


def raises(error: Exception) -> Callable[..., Any]:
    """Raises it, however it is called."""

    def call(*_: Any) -> Any:
        raise error

    return call


def test_an_address_that_says_that_it_is_gone_is_asked_no_more(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """410 says so for good; the end of another job is told there, for that job names it again."""
    monkeypatch.setattr(hooks, "BETWEEN_S", (0.0, 0.0))
    receiver.refusals, receiver.refusal = 5, 410
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        duty = hooks.WebhookDuty(store)
        for told in (1, 2):
            job = store.submit("add", {"a": told}, webhook=receiver.url).job
            store.cancel([job.id], "ann")
            until(looked(duty, lambda: store.records(untold.KIND) != {}), "that it is to be told")
            until(looked(duty, lambda: store.records(untold.KIND) == {}), "that nothing is left to tell")
            assert len(receiver.requests) == told
            said = "its webhook was not taken (try 1): it answered 410: that address is gone; it is given up"
            assert f"job {job.id}: {said}" in caplog.messages
        duty.close()


class Posted:
    """Stands for the network: takes everything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[str] = []
        monkeypatch.setattr(hooks, "post", self)

    def __call__(self, url: str, body: bytes, secret: bytes) -> None:
        self.ids.append(json.loads(body)["id"])


def test_all_ends_of_one_moment_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are read at once, with one time: those of a bulk cancel."""
    monkeypatch.setattr(untold, "MOST_TAKEN", 3)
    posted = Posted(monkeypatch)
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        duty = hooks.WebhookDuty(store)
        duty.look(time.time(), stopping=False)
        one = Submission("f", {}, webhook="http://127.0.0.1/", run_at=time.time() + 1_000)
        jobs = [each.job.id for each in store.submit_many([one] * 20)]
        store.cancel(jobs, "me")
        until(looked(duty, lambda: len(posted.ids) >= 20), "the last of them")
        duty.close()
    assert sorted(posted.ids) == sorted(jobs)


@pytest.mark.parametrize("ahead", [-3_600.0, -60.0, 60.0, 3_600.0])
def test_ends_are_told_whatever_the_clocks_of_their_machines_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """After one of another machine, whose clock is ahead or behind, and before one of a third."""
    posted = Posted(monkeypatch)
    real = time.time
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        duty = hooks.WebhookDuty(store)
        jobs = []
        for clock in (ahead, 0.0, -ahead):
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr(time, "time", lambda clock=clock: real() + clock)
                jobs.append(store.submit("f", {}, webhook="http://127.0.0.1/", run_at=real() + 10_000).job.id)
                store.cancel(jobs[-1:], "me")
            until(looked(duty, lambda: posted.ids == jobs), "its end")
        until(looked(duty, lambda: not store.records("webhook")), "that all is told")
        duty.close()


def test_what_another_clock_has_planned_waits_no_longer_than_by_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor that leads now may have a clock that is behind the one before."""
    posted = Posted(monkeypatch)
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        duty = hooks.WebhookDuty(store)
        job = store.submit("f", {}, webhook="http://127.0.0.1/", run_at=time.time() + 1_000).job.id
        store.cancel([job], "me")
        for name, record in store.take_ends(time.time()).items():
            store.put_record(untold.KIND, name, {**record, "tries": 1, "at": time.time() + 3_000})
        now = time.time()
        duty.look(now, stopping=False)
        assert posted.ids == []
        until(lambda: duty.look(now + 3.0, stopping=False) and posted.ids == [job], "its end")
        duty.close()


def test_an_end_is_told_though_the_store_could_not_be_read_when_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else has to change until it is looked for again."""
    posted = Posted(monkeypatch)
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        duty = hooks.WebhookDuty(store)
        duty.look(time.time(), stopping=False)
        job = store.submit("f", {}, webhook="http://127.0.0.1/", run_at=time.time() + 1_000).job.id
        store.cancel([job], "me")
        with monkeypatch.context() as away:
            away.setattr(untold, "are_there", raises(StoreError("the server is away")))
            with pytest.raises(StoreError):
                duty.look(time.time(), stopping=False)
        until(looked(duty, lambda: posted.ids == [job]), "its end")
        duty.close()


def test_an_end_is_told_whose_taking_was_committed_and_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks in that moment."""
    posted = Posted(monkeypatch)
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        duty, take = hooks.WebhookDuty(store), store.take_ends
        job = store.submit("f", {}, webhook="http://127.0.0.1/", run_at=time.time() + 1_000).job.id
        store.cancel([job], "me")

        def broken(at: float) -> Any:
            take(at)
            raise StoreError("the connection broke")

        with monkeypatch.context() as breaking:
            breaking.setattr(store, "take_ends", broken)
            with pytest.raises(StoreError, match="broke"):
                duty.look(time.time(), stopping=False)
        until(looked(duty, lambda: posted.ids == [job]), "its end")
        duty.close()


def test_the_first_end_of_a_store_is_told_though_no_supervisor_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted = Posted(monkeypatch)
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        job = store.submit("f", {}, webhook="http://127.0.0.1/", run_at=time.time() + 1_000).job.id
        store.cancel([job], "me")
        duty = hooks.WebhookDuty(store)
        an_hour_later = time.time() + 3_600
        duty.look(an_hour_later, stopping=False)
        until(lambda: posted.ids == [job], "its end")
        duty.close()


def test_an_end_that_a_retry_has_undone_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job waits again by the time the receiver is there: it would be told of a job that is queued."""
    bodies: list[dict[str, Any]] = []
    taken = False

    def post(url: str, body: bytes, secret: bytes) -> str | None:
        if not taken:
            return "it is down"
        bodies.append(json.loads(body))
        return None

    monkeypatch.setattr(hooks, "post", post)
    monkeypatch.setattr(hooks, "BETWEEN_S", (0.01, 0.01))
    monkeypatch.setattr(hooks, "TRIES", 1_000_000)
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        duty = hooks.WebhookDuty(store)
        job = store.submit("f", {}, webhook="http://127.0.0.1/", run_at=time.time() + 1_000).job.id
        store.cancel([job], "me")
        until(looked(duty, lambda: any(each["tries"] for each in store.records("webhook").values())), "a try")
        store.retry([job], "me")
        taken = True
        until(looked(duty, lambda: not store.records("webhook")), "that nothing is left to tell")
        store.cancel([job], "me")
        until(looked(duty, lambda: bool(bodies)), "the end that counts")
        duty.close()
        kept = store.get(job)
    assert kept is not None
    assert [(each["state"], each["finished"]) for each in bodies] == [("cancelled", kept.finished)]


@pytest.mark.parametrize("damage", ["x", "[]", '{"job": 5}'])
def test_ends_are_told_whose_records_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """The names of records say of which jobs they are."""
    posted = Posted(monkeypatch)
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        jobs = [store.submit("add", {}, webhook="http://127.0.0.1/").job.id for _ in range(2)]
        store.cancel(jobs, "ann")
        taken = store.take_ends(time.time())
        with store._database.writing() as connection:
            connection.exec_driver_sql("UPDATE allcores_records SET body = ? WHERE name = ?", (damage, min(taken)))
        duty = hooks.WebhookDuty(store)
        until(looked(duty, lambda: store.records(untold.KIND) == {}))
        duty.close()
    assert sorted(posted.ids) == sorted(jobs)


def test_a_job_that_was_deleted_is_told_of_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its end was seen before that or not."""
    posted = Posted(monkeypatch)
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        duty = hooks.WebhookDuty(store)
        duty.look(time.time(), stopping=False)
        one = Submission("f", {}, webhook="http://127.0.0.1/", run_at=time.time() + 1_000)
        gone, kept = (each.job.id for each in store.submit_many([one] * 2))
        store.cancel([gone], "me")
        store.delete([gone], "me")
        store.cancel([kept], "me")
        until(looked(duty, lambda: posted.ids == [kept]), "the other one")
        until(looked(duty, lambda: not store.records("webhook")), "that nothing is left to tell")
        duty.close()
    assert posted.ids == [kept]


def test_an_address_that_hangs_is_asked_by_one_request_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the ends that it is to be told of keep all threads for hours, and nobody else is told."""
    asked: list[str] = []

    def post(url: str, body: bytes, secret: bytes) -> str | None:
        asked.append(url)
        return "it took longer than 0 s" if "hangs" in url else None

    monkeypatch.setattr(hooks, "post", post)
    monkeypatch.setattr(hooks, "REQUEST_S", 0.0)
    monkeypatch.setattr(hooks, "SILENT_S", 1_000.0)
    monkeypatch.setattr(hooks, "TRIES", 1)
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        duty = hooks.WebhookDuty(store)
        urls = [*(f"http://hangs/{number}" for number in range(50)), "http://listens/"]
        jobs = store.submit_many([Submission("f", {}, webhook=url, run_at=time.time() + 1_000) for url in urls])
        store.cancel([each.job.id for each in jobs], "me")
        until(looked(duty, lambda: "http://listens/" in asked), "the one that listens")
        until(looked(duty, lambda: not store.records("webhook")), "that all is told or given up")
        duty.close()
    assert 1 <= sum("hangs" in url for url in asked) <= hooks._THREADS


def test_an_address_that_hung_is_tried_by_one_request_and_then_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "REQUEST_S", 1_000.0)
    monkeypatch.setattr(hooks, "SILENT_S", 0.0)
    silent = hooks._Silent()
    assert silent.may_ask("http://a/1") and silent.may_ask("http://a/2")
    silent.asked("http://a/1", 1_000.0, taken=False)
    assert silent.may_ask("http://a/2") and not silent.may_ask("http://a/3") and silent.may_ask("http://b/")
    silent.asked("http://a/2", 0.1, taken=False)  # refused at once: that keeps nobody
    assert silent.may_ask("http://a/3") and silent.may_ask("http://a/4")


def test_who_leads_again_tells_nothing_that_another_one_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posted = Posted(monkeypatch)
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        first, second = hooks.WebhookDuty(store), hooks.WebhookDuty(store)
        first.look(time.time(), stopping=False)
        first.put_down()
        jobs = [store.submit("f", {}, webhook="http://a/", run_at=time.time() + 1_000).job.id for _ in range(2)]
        for number, job in enumerate(jobs, 1):
            store.cancel([job], "me")
            until(looked(second, lambda number=number: len(posted.ids) >= number), "its end")  # type: ignore[misc]
        until(looked(second, lambda: not store.records("webhook")), "that all is written down")
        first.look(time.time(), stopping=False)
        until(looked(first, lambda: not store.records("webhook")), "that nothing is left to tell")
        first.close()
        second.close()
    assert posted.ids.count(jobs[0]) == 1


def test_a_time_whose_key_is_taken_keeps_no_other_one(tmp_path: Path) -> None:
    """Any program may submit with any key."""

    @task(name="later", schedule="* * * * *", timezone="UTC")
    def later() -> None: ...

    found = [task_of(minutely), task_of(later)]
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        start = 1_800_000_000.0
        store.submit("another", {"a": 1}, key=f"schedule:minutely:{int(start)}")
        duty = ScheduleDuty(store, Registry([each for each in found if each is not None]))
        for wall in (start - 1, start + 0.5, start + 60.5):
            duty.look(wall, stopping=False)
        fired = {name: len(store.page(JobFilter(task=name)).jobs) for name in ("minutely", "later")}
    assert fired == {"minutely": 1, "later": 2}
