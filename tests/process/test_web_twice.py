"""Buttons and forms that are sent twice: a double click in a browser without scripts, or a request that is repeated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import flask
import pytest
from tests.process.console import TASKS, console, csrf_of, ended, logged_in, store_of

from allcores.jobs import Queue, retried_items
from allcores.jobs.job_files import JobFiles
from allcores.jobs.model import Finished, Job, JobFilter, Progress, State
from allcores.jobs.store import JobStore


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    with console(tmp_path) as made:
        yield made


@pytest.fixture
def client(app: flask.Flask) -> Any:
    return logged_in(app)


def twice(client: Any, path: str, **fields: Any) -> list[str]:
    """Where the same form leads, sent twice: it is the same form."""
    data = {**fields, "_csrf": csrf_of(client)}
    answers = [client.post(path, data=data) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    return [answer.headers["Location"] for answer in answers]


def all_of(store: JobStore) -> tuple[Job, ...]:
    return store.page(JobFilter(), limit=100).jobs


def fields_of(client: Any, path: str, action: str) -> dict[str, str]:
    """The hidden fields of a form of a page."""
    found = re.search(rf'<form[^>]*action="{re.escape(action)}".*?</form>', client.get(path).text, re.S)
    assert found is not None
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', found[0]))


def with_failed_items(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job that has ended and left failed items."""
    monkeypatch.setattr(JobFiles, "runs", lambda _: [object()])
    job = store.submit("square", {"n": 1}).job
    finish(store, job, State.SUCCEEDED)
    found = store.get(job.id)
    assert found is not None
    return found


def finish(store: JobStore, job: Job, state: State) -> None:
    with store.become_supervisor():
        (claim,) = store.claim(1, [job.task])
        assert claim.job.id == job.id
        assert store.finish(claim, Finished(state, progress=Progress(done=1, failed=2, total=3)))


def test_failed_items_run_in_one_job(client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that one has ended before the second click; from a page that is newer, they run once more."""
    store = store_of(app)
    job = with_failed_items(store, monkeypatch)
    action = f"/job/{job.id}/retry-failed-items"
    fields = fields_of(client, f"/job/{job.id}", action)
    first, second = twice(client, action, **fields)
    assert first == second and len(all_of(store)) == 2
    made = all_of(store)[0]
    assert first.startswith(f"/job/{made.id}?") and made.parent == job.id
    finish(store, made, State.SUCCEEDED)
    assert twice(client, action, **fields)[0] == first and len(all_of(store)) == 2
    newer = fields_of(client, f"/job/{job.id}", action)
    assert len(set(twice(client, action, **newer))) == 1 and len(all_of(store)) == 3


def test_failed_items_that_are_asked_for_twice_run_in_one_job(
    app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python, and from the shell, until that one has ended; and after another end of the job there are others."""
    store = store_of(app)
    job = with_failed_items(store, monkeypatch)
    with Queue(store, tasks=TASKS) as queue:
        submitted = [queue.submit_all([retried_items.job_of_them(store, job, "me")])[0].job.id for _ in range(2)]
        assert submitted[0] == submitted[1]
        store.cancel(submitted, "me")
        assert retried_items.job_of_them(store, job, "me").key != retried_items.job_of_them(store, job, "me", 1).key
        store.retry([job.id], "me")
        finish(store, job, State.SUCCEEDED)
        later = queue.get(job.id)
        assert later is not None
        assert queue.submit_all([retried_items.job_of_them(store, later, "me")])[0].job.id not in submitted


def test_a_form_makes_one_job(client: Any, app: flask.Flask) -> None:
    """Unless something in it was changed; one that is shown anew makes another."""
    store = store_of(app)
    fields = fields_of(client, "/submit/square", "/submit/square")
    first, second = twice(client, "/submit/square", **{**fields, "argument.n": "3"})
    assert first == second and len(all_of(store)) == 1
    for changed in ({"argument.n": "4"}, {"argument.n": "3", "priority": "1"}, {"argument.n": "3", "tags": "a"}):
        twice(client, "/submit/square", **{**fields, **changed})
    assert len(all_of(store)) == 4
    again = fields_of(client, "/submit/square", "/submit/square")
    twice(client, "/submit/square", **{**again, "argument.n": "3"})
    assert len(all_of(store)) == 5
    assert "form:" not in client.get(first).text


def test_a_schedule_that_is_run_now_makes_one_job(client: Any, app: flask.Flask) -> None:
    """Once for each time that the page is shown."""
    for shown in (1, 2):
        fields = fields_of(client, "/schedules", "/schedules/nightly/run")
        assert len(set(twice(client, "/schedules/nightly/run", **fields))) == 1
        assert len(all_of(store_of(app))) == shown


def test_files_of_a_form_that_is_sent_twice_are_kept_once(client: Any, app: flask.Flask) -> None:
    store = store_of(app)
    fields = {**fields_of(client, "/submit/pictures", "/submit/pictures"), "_csrf": csrf_of(client)}
    for _ in range(2):
        data = {**fields, "argument.files": (BytesIO(b"abc"), "a.txt")}
        assert client.post("/submit/pictures", data=data).status_code == 303
    assert len(all_of(store)) == 1
    assert len(list((store.folder / "uploads").iterdir())) == 1


def test_the_second_click_of_a_button_leads_to_where_the_first_one_did(client: Any, app: flask.Flask) -> None:
    """And what was deleted can be brought back from there."""
    store = store_of(app)
    waiting, failed = store.submit("square", {"n": 1}).job, ended(store, State.FAILED)
    for path in (f"/job/{waiting.id}/cancel", f"/job/{failed.id}/retry"):
        first, second = twice(client, path)
        assert first.partition("&undo")[0] == second.partition("&undo")[0] and "count=1" in second
    some = [ended(store, State.FAILED).id for _ in range(3)]
    for path, fields in ((f"/job/{some[0]}/delete", {}), ("/bulk", {"what": "delete", "id": some[1:]})):
        first, second = twice(client, path, **fields)
        assert first == second and "undo=" in first
        number = re.findall(r"undo=(\d+)", second)[0]
        gone = [each for each in some if store.get(each) is None]
        assert gone
        twice(client, "/undo", what="delete", audit=number)
        assert [store.get(each) is not None for each in gone] == [True] * len(gone)
