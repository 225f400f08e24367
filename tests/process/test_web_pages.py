"""The console's pages without a browser: forms, lists, actions on what was seen, polling, and as a part of an app."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import io
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import flask
import pytest
from tests.process.console import TASKS, TOKEN, bearer, console, csrf_of, ended, logged_in, store_of

from allcores.errors import UsageError
from allcores.jobs import Queue, health, secret_values
from allcores.jobs import actions as job_actions
from allcores.jobs.database import Database
from allcores.jobs.model import Finished, Job, Progress, State, Submission
from allcores.jobs.store import JobStore
from allcores.web import Allcores, pages, state, views
from allcores.web import actions as web_actions


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    with console(tmp_path) as made:
        yield made


@pytest.fixture
def client(app: flask.Flask) -> Any:
    return logged_in(app)


def only(app: flask.Flask) -> Job:
    (job,) = store_of(app).page().jobs
    return job


def send(client: Any, path: str, **fields: Any) -> Any:
    return client.post(path, data={"_csrf": csrf_of(client), **fields})


def errors_in(text: str) -> dict[str, str]:
    """Names of fields, and what stands beside them."""
    found = {}
    for field in re.findall(r'<div class="field wrong.*?</p>\s*</div>', text, re.S):
        name, error = re.search(r'name="([^"]+)"', field), re.search(r'class="error" id="([^"]+)">([^<]+)<', field)
        assert name is not None
        assert error is not None
        assert f'aria-describedby="{error[1]}"' in field or f' {error[1]}"' in field
        found[name[1]] = html.unescape(error[2])
    return found


# --- forms ---


def test_a_form_has_a_field_for_each_argument(client: Any) -> None:
    """Made from the signature, with its defaults, and with what each is."""
    text = client.get("/submit/kinds").text
    for name, kind in (
        ("count", 'inputmode="numeric"'),
        ("share", 'inputmode="decimal"'),
        ("keep", "checkbox"),
        ("crop", "textarea"),
    ):
        assert re.search(rf'(<textarea[^>]*name="argument.{name}")|(<input[^>]*name="argument.{name}")', text), name
        assert kind in text
    assert re.findall(r'<option value="(\w+)"(?: selected)?>(\w+)</option>', text) == [
        ("small", "small"),
        ("large", "large"),
    ]
    assert '<option value="small" selected>small</option>' in text
    assert 'type="password"' in client.get("/submit/secretive").text
    pictures = client.get("/submit/pictures").text
    assert 'enctype="multipart/form-data"' in pictures
    assert re.search(r'type="file"[^>]* multiple', pictures)
    assert client.get("/submit/none").status_code == 404


def test_a_form_makes_a_job(client: Any, app: flask.Flask) -> None:
    answer = send(
        client, "/submit/kinds", **{"argument.count": "123456789012345678901234567890", "argument.share": "0.25",
        "argument.text": "two\r\nlines <b>", "argument.size": "large", "argument.names": '["a", "ü"]',
        "argument.crop": '{"left": 3}', "argument.keep": "true", "tags": "blue, red", "priority": "3"},
    )  # fmt: skip
    assert answer.status_code == 303
    job = only(app)
    assert job.arguments == {
        "count": 123456789012345678901234567890, "share": 0.25, "text": "two\nlines <b>", "size": "large",
        "names": ["a", "ü"], "crop": {"left": 3, "top": 0}, "keep": True,
    }  # fmt: skip
    assert (job.tags, job.priority, job.submitted_by) == (("blue", "red"), 3, "admin")
    assert answer.headers["Location"].startswith(f"/job/{job.id}")


def test_what_is_wrong_stands_beside_its_field(client: Any, app: flask.Flask) -> None:
    """And what was typed in is still there."""
    answer = send(
        client, "/submit/kinds", **{"argument.count": "many", "argument.share": "0.5", "argument.text": "<i>kept</i>",
        "argument.names": "[1,", "argument.crop": '{"top": "x"}', "priority": "high", "run_at": "soon"},
    )  # fmt: skip
    assert answer.status_code == 422
    wrong = errors_in(answer.text)
    assert set(wrong) >= {"argument.names"}
    assert "no JSON" in wrong["argument.names"]
    assert html.escape("<i>kept</i>") in answer.text
    answer = send(
        client, "/submit/kinds", **{"argument.count": "many", "argument.share": "0.5", "argument.text": "x",
        "argument.crop": '{"top": "x"}', "priority": "high", "run_at": "soon"},
    )  # fmt: skip
    wrong = errors_in(answer.text)
    assert set(wrong) == {"argument.count", "argument.crop", "priority", "run_at"}
    assert "crop.left" in wrong["argument.crop"]
    assert store_of(app).counts().total == 0


def test_a_key_that_is_taken_stands_beside_its_field(client: Any, app: flask.Flask) -> None:
    """And what was typed in is not lost; a file that was sent is kept for no job."""
    send(client, "/submit/square", **{"argument.n": "3", "key": "k"})
    answer = send(client, "/submit/square", **{"argument.n": "4", "key": "k"})
    assert answer.status_code == 422
    assert errors_in(answer.text)["key"].startswith("the key 'k' was used for job")
    assert 'name="argument.n" value="4"' in answer.text
    files = [(io.BytesIO(b"abc"), "a.png")]
    assert send(client, "/submit/pictures", key="k", **{"argument.files": files}).status_code == 422
    assert list((store_of(app).folder / "uploads").iterdir()) == []
    assert store_of(app).counts().total == 1


def test_files_in_a_form(client: Any, app: flask.Flask) -> None:
    """They are kept; run again without new ones, the job has the same."""
    files = [(io.BytesIO(b"abc"), "a.png"), (io.BytesIO(b"d"), "b.png")]
    answer = send(client, "/submit/pictures", **{"argument.files": files})
    assert answer.status_code == 303
    job = only(app)
    assert [(each["name"], each["size"]) for each in job.arguments["files"]] == [("a.png", 3), ("b.png", 1)]
    assert "a.png, b.png again" in client.get(f"/submit/pictures?like={job.id}").text
    send(client, "/submit/pictures", like=job.id)
    assert store_of(app).page(limit=1).jobs[0].arguments == job.arguments


def test_files_of_a_form_that_comes_back_are_not_kept(client: Any, app: flask.Flask) -> None:
    """They are chosen again; those of the job that the form is like stay."""
    send(client, "/submit/pictures", **{"argument.files": [(io.BytesIO(b"abc"), "a.png")]})
    kept = store_of(app).folder / "uploads"
    (first,) = kept.iterdir()
    for wrong in ({"priority": "high"}, {"priority": "9" * 20}):
        more = {"argument.files": [(io.BytesIO(b"d"), "b.png")], **wrong}
        assert send(client, "/submit/pictures", like=only(app).id, **more).status_code == 422
        assert list(kept.iterdir()) == [first]


def test_a_job_is_run_again_with_other_arguments(client: Any, app: flask.Flask) -> None:
    """From a form that has what it had; it stays linked, and a time that was chosen is kept to."""
    first = ended(store_of(app), State.FAILED, arguments={"n": 2**100}, tags=("blue",))
    text = client.get(f"/submit/square?like={first.id}").text
    assert f'value="{2**100}"' in text
    send(client, "/submit/square", like=first.id, **{"argument.n": "5", "run_at": "2031-05-06T07:08", "tags": "blue"})
    job = store_of(app).page(limit=1).jobs[0]
    assert (job.arguments, job.parent, job.state) == ({"n": 5}, first.id, State.QUEUED)
    assert time.strftime("%Y-%m-%dT%H:%M", time.localtime(job.run_at)) == "2031-05-06T07:08"
    assert f'href="/job/{first.id}"' in client.get(f"/job/{job.id}").text


def filled_in(text: str) -> dict[str, str]:
    """What a browser sends of a form in which nothing is changed."""
    form = text.split('<form method="post" action="/submit/')[1].split("</form>")[0]
    found = {}
    one_line = r'<input type="(?:text|hidden|password|datetime-local)"[^>]* name="([^"]+)"[^>]*>'
    for field in re.finditer(one_line, form.replace("><", ">\n<")):
        value = re.search(r' value="([^"]*)"', field[0])
        # A field of one line has no ends of lines.
        found[field[1]] = re.sub(r"[\r\n]", "", html.unescape(value[1])) if value else ""
    for name, value in re.findall(r'<textarea[^>]* name="([^"]+)"[^>]*>\n(.*?)</textarea>', form, re.S):
        found[name] = html.unescape(value).replace("\n", "\r\n")
    for name in re.findall(r'<input type="checkbox"[^>]* name="([^"]+)"[^>]* checked', form):
        found[name] = "true"
    for name, options in re.findall(r'<select[^>]* name="([^"]+)"[^>]*>(.*?)</select>', form):
        chosen = re.search(r'<option value="([^"]*)" selected', options) or re.search(
            r'<option value="([^"]*)"', options
        )
        assert chosen is not None
        found[name] = html.unescape(chosen[1])
    return found


@pytest.mark.parametrize(
    ("task", "arguments", "same"),
    [
        ("defaults", {}, {"text": "some", "careful": True, "sure": True, "most": 5}),
        ("defaults", {"careful": False, "sure": False, "most": None}, {"text": "some"}),
        ("defaults", {"text": "two\nlines", "careful": True, "sure": None, "most": 0, "note": "a\nb"}, {}),
        ("kinds", {"count": 3, "share": 1e-7, "text": "a\nb", "size": "large", "crop": {"left": 3, "top": 0}},
         {"names": [], "keep": False}),
    ],
)  # fmt: skip
def test_a_job_that_is_run_again_as_it_is_has_the_same_arguments(
    client: Any, app: flask.Flask, task: str, arguments: dict[str, Any], same: dict[str, Any]
) -> None:
    """What it was not given it gets as it had it: by its default. Its deadline, too, is what it was."""
    first = store_of(app).submit(task, arguments, timeout=1234567.25).job
    form = filled_in(client.get(f"/submit/{task}?like={first.id}").text)
    assert client.post(f"/submit/{task}", data=form).status_code == 303
    job = store_of(app).page(limit=1).jobs[0]
    known = app.extensions["allcores"].tasks[task].arguments
    assert known.values({**same, **job.arguments}) == known.values({**same, **arguments})
    assert (job.timeout, job.parent) == (first.timeout, first.id)


def test_none_is_chosen_by_an_empty_field(client: Any, app: flask.Flask) -> None:
    """Where there may be None; a field that was not sent is the default."""
    send(
        client,
        "/submit/defaults",
        **{"argument.most": "", "argument.text": "", "argument.sure": "", "argument.pin": ""},
    )
    assert only(app).arguments == {"most": None, "sure": None, "careful": False}


def test_secrets_are_typed_in_again(client: Any, app: flask.Flask) -> None:
    """A form like a job has none of them, at any depth, and a job without them would be another one."""
    arguments = {"api_token": "hunter2", "options": {"dbPassword": "hunter2", "author": "Ada"}}
    first = store_of(app).submit("secretive", arguments).job
    page = client.get(f"/submit/secretive?like={first.id}").text
    assert "hunter2" not in page and "Ada" in page
    form = filled_in(page)
    answer = client.post("/submit/secretive", data=form)
    assert answer.status_code == 422
    wrong = errors_in(answer.text)
    assert set(wrong) == {"argument.api_token", "argument.options"}
    assert all("type it in again" in each for each in wrong.values())
    form |= {"argument.api_token": "new", "argument.options": '{"dbPassword": "other", "author": "Ada"}'}
    assert client.post("/submit/secretive", data=form).status_code == 303
    assert store_of(app).page(limit=1).jobs[0].arguments["api_token"] == "new"


def test_a_job_like_one_of_failed_items_is_a_whole_one(client: Any, app: flask.Flask) -> None:
    """The tag says what runs; nobody gives it by a form."""
    (made,) = store_of(app).submit_many([Submission("square", {"n": 1}, tags=("blue", "failed-items"))])
    text = client.get(f"/submit/square?like={made.job.id}").text
    assert 'value="blue"' in text and "failed-items" not in text
    fields = {"argument.n": "5", "tags": "blue, failed-items"}
    answer = send(client, "/submit/square", like=made.job.id, **fields)
    assert answer.status_code == 422 and "the retry of failed items makes" in answer.text


def test_a_tag_with_a_comma_stays_one(client: Any, app: flask.Flask) -> None:
    """Unless the field is changed: there a comma stands between two."""
    first = store_of(app).submit("square", {"n": 1}, tags=["a, b", "blue"]).job
    form = filled_in(client.get(f"/submit/square?like={first.id}").text)
    for tags, has in ((form["tags"], {"a, b", "blue"}), (f"{form['tags']}, red", {"a", "b", "blue", "red"})):
        assert client.post("/submit/square", data={**form, "tags": tags}).status_code == 303
        assert set(store_of(app).page(limit=1).jobs[0].tags) - {"numbers"} == has


# --- lists and what is done to them ---


def bulk_forms(text: str) -> dict[str, dict[str, str]]:
    """The forms that act on all jobs of a list: the word of each button, and its fields."""
    found = {}
    for form in re.findall(r'<form method="post" action="/bulk">(.*?)</form>', text, re.S):
        fields = {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)}
        button = re.search(r"<button[^>]*>([^<]+)<", form)
        assert button is not None
        found[button[1]] = fields
    return found


def test_all_jobs_of_a_list_are_those_that_were_seen(client: Any, app: flask.Flask) -> None:
    """The button says how many; what has come or changed since is left alone, and a deletion can be undone."""
    store = store_of(app)
    seen = [ended(store, State.FAILED).id for _ in range(5)]
    forms = bulk_forms(client.get("/list?state=failed").text)
    assert set(forms) == {"Retry 5 jobs", "Delete up to 5 jobs"}
    store.retry(seen[:1], "someone")
    late = ended(store, State.FAILED, task="anything", arguments={}).id
    answer = client.post("/bulk", data=forms["Retry 5 jobs"])
    assert "did=retry&count=4&skipped=1" in answer.headers["Location"]
    assert {job.id for job in store.page().jobs if job.state is State.QUEUED} == set(seen)
    assert [job.id for job in store.page().jobs if job.state is State.FAILED] == [late]
    page = client.get(answer.headers["Location"]).text
    assert "4 jobs queued again. 1 had changed in between" in page
    assert 'action="/undo"' not in page
    forms = bulk_forms(client.get("/list?state=failed").text)
    answer = client.post("/bulk", data=forms["Delete up to 1 jobs"])
    assert store.get(late) is None
    page = client.get(answer.headers["Location"]).text
    audit = re.search(r'name="audit" value="(\d+)"', page)
    assert audit is not None
    send(client, "/undo", what="delete", audit=audit[1])
    assert store.get(late) is not None
    assert [row.action for row in store.audit(limit=3)] == ["undelete", "delete", "retry"]


def test_what_takes_too_long_for_a_request_goes_on_with_the_next_one(
    client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million jobs take minutes; a server or a proxy would give up, and the page would not be told what was done."""
    monkeypatch.setattr(job_actions, "PORTION", 2)
    monkeypatch.setattr(web_actions, "BULK_S", 0.0)
    store = store_of(app)
    for _ in range(3):
        ended(store, State.FAILED)
    (delete,) = (fields for button, fields in bulk_forms(client.get("/list").text).items() if "Delete" in button)
    page = client.get(client.post("/bulk", data=delete).headers["Location"]).text
    assert "2 jobs deleted. Time was up before all were done: do the same again for the rest." in page
    (delete,) = (fields for button, fields in bulk_forms(client.get("/list").text).items() if "Delete" in button)
    page = client.get(client.post("/bulk", data=delete).headers["Location"]).text
    assert "1 job deleted." in page and "Time was up" not in page and store.counts().total == 0
    audits = [row.seq for row in store.audit() if row.action == "delete"]
    page = client.get(send(client, "/undo", what="delete", audit=audits[-1]).headers["Location"]).text
    assert "2 jobs restored. Time was up" in page and f'name="audit" value="{audits[-1]}"' in page
    page = client.get(send(client, "/undo", what="delete", audit=audits[-1]).headers["Location"]).text
    assert "0 jobs restored." in page and 'action="/undo"' not in page


def test_chosen_jobs(client: Any, app: flask.Flask) -> None:
    store = store_of(app)
    ids = [ended(store, State.FAILED).id for _ in range(3)]
    assert send(client, "/bulk", what="retry").status_code == 400
    refused = send(client, "/bulk", what="retry", id=["a"] * 501)
    assert refused.status_code == 400
    assert "501 jobs were chosen: choose 500 at most." in refused.text
    assert send(client, "/bulk", what="burn", id=ids).status_code == 400
    answer = send(client, "/bulk", what="delete", id=ids[:2], back="/failed")
    assert answer.headers["Location"].startswith("/failed?did=delete&count=2")
    assert [store.get(each) is None for each in ids] == [True, True, False]
    assert (
        send(client, "/bulk", what="cancel", id=ids[2:], back="https://example.org/")
        .headers["Location"]
        .startswith("/list?")
    )


def test_what_waits_is_not_deleted_and_no_result_is_given_up(client: Any, app: flask.Flask) -> None:
    """Whether all of a list was meant, a whole page was ticked, or a page was older than the job's end."""
    store = store_of(app)
    done, bad = ended(store, result=9), ended(store, State.FAILED)
    waiting = store.submit("square", {"n": 1}).job
    everything = [done.id, bad.id, waiting.id]
    answer = send(client, "/bulk", what="retry", id=everything)
    assert "did=retry&count=1&skipped=2" in answer.headers["Location"]
    assert send(client, f"/job/{done.id}/retry").status_code == 409
    assert store.get(done.id) == done
    store.cancel([bad.id], "x")
    (delete,) = (fields for button, fields in bulk_forms(client.get("/list").text).items() if "Delete" in button)
    answer = client.post("/bulk", data=delete)
    assert "did=delete&count=2&skipped=1" in answer.headers["Location"]
    assert store.get(waiting.id) == waiting
    assert "did=delete&count=0&skipped=1" in send(client, "/bulk", what="delete", id=waiting.id).headers["Location"]


@pytest.mark.parametrize("damage", ["state = 'lost'", "arguments = '{'"])
def test_a_damaged_job_can_be_deleted(client: Any, app: flask.Flask, damage: str) -> None:
    """It is shown as one that has ended, whatever its row says."""
    store = store_of(app)
    job = store.submit("square", {"n": 1}).job
    with contextlib.closing(sqlite3.connect(store.name)) as connection, connection:
        connection.execute(f"UPDATE allcores_jobs SET {damage}")
    text = client.get(f"/job/{job.id}").text
    assert "Its row in the store is damaged: " in text and text.count("is damaged") == 1
    assert "did=delete&count=1" in send(client, f"/job/{job.id}/delete").headers["Location"]
    assert store.get(job.id) is None


def test_lists_have_pages_and_say_what_was_searched(client: Any, app: flask.Flask) -> None:
    store = store_of(app)
    for number in range(60):
        store.submit("square", {"n": number}, tags=["even"] if number % 2 == 0 else [])
    first = client.get("/list").text
    assert len(re.findall(r'name="id" value="', first)) == 50
    older = re.search(r'href="(/list\?after=\d+)" rel="next"', first)
    assert older is not None
    assert len(re.findall(r'name="id" value="', client.get(older[1]).text)) == 10
    assert len(re.findall(r'name="id" value="', client.get("/list?tag=even").text)) == 30
    searched = client.get("/list?q=59").text
    assert "of 60 jobs" in searched
    assert len(re.findall(r'name="id" value="', searched)) >= 1
    assert "No job fits this filter." in client.get("/list?q=nowhere-to-be-found").text


def test_a_filter_stays_what_it_is(client: Any, app: flask.Flask) -> None:
    """On the next page, and when another field is filled in: also several states, a time that has no name, a tab."""
    store = store_of(app)
    for each in [State.FAILED, State.CANCELLED] * 26:
        ended(store, each)
    page = client.get("/list?state=failed&state=cancelled&until=2040-01-01&since=2020-01-01").text
    older = re.search(r'href="([^"]+)" rel="next"', page)
    assert older is not None
    assert len(re.findall(r'name="id" value="', client.get(html.unescape(older[1])).text)) == 2
    form = page.split('class="filters"')[1].split("</form>")[0]
    assert dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', form)) == {
        "state": "failed,cancelled",
        "until": "2040-01-01",
    }
    assert '<option value="2020-01-01" selected>since 2020-01-01</option>' in form
    form = client.get("/failed?state=timed_out").text.split('class="filters"')[1].split("</form>")[0]
    assert '<input type="hidden" name="state" value="timed_out">' in form
    assert 'name="state"' not in client.get("/failed").text.split('class="filters"')[1].split("</form>")[0]


def test_the_audit_ends_where_it_ends(client: Any, app: flask.Flask) -> None:
    store = store_of(app)
    for number in range(100):
        store.write_audit("me", "thing", number)
    assert ">Older</a>" not in client.get("/audit").text
    store.write_audit("me", "thing")
    older = re.search(r'href="([^"]+)">Older</a>', client.get("/audit").text)
    assert older is not None
    assert client.get(older[1]).text.count("<td>thing</td>") == 1


def test_a_list_writes_as_much_of_arguments_as_it_shows(
    client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large they are: a page of fifty jobs, each with a megabyte of them, would take many seconds."""
    rows = [{"name": f"item {number}", "password": "hunter2", "values": [number]} for number in range(20_000)]
    store_of(app).submit("anything", {"value": rows})
    store_of(app).submit("anything", {"value": "x" * 1_000_000})
    asked: list[str] = []

    def counted(name: str, pattern: re.Pattern[str]) -> bool:
        asked.append(name)
        return secret_values.is_secret(name, pattern)

    monkeypatch.setattr(views, "is_secret", counted)
    page = client.get("/list").text
    assert "hunter2" not in page
    text = 'value=[{"name": "item 0", "password": "(hidden)", "values": [0]}, {"name": "item 1"'
    assert html.escape(text, quote=True).replace("&quot;", "&#34;") in page
    assert 0 < len(asked) < 100


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"n": 3, "text": 'a "b"', "none": None}, 'n=3, text="a \\"b\\"", none=null'),
        ({"names": ["a", 1.5, True, {"k": []}]}, 'names=["a", 1.5, true, {"k": []}]'),
        ({"file": {"upload": "0", "name": "a.png", "size": 1, "media_type": "x"}}, "file=a.png"),
        ({"files": [{"upload": "0", "name": name, "size": 1, "media_type": "x"} for name in "a "]}, "files=a,  "),
        ({"api_key": "x", "in": {"pin": 7, "token": ""}}, 'api_key="(hidden)", in={"pin": "(hidden)", "token": ""}'),
        ({}, ""),
        ("ü" * 200, '"' + "ü" * 158 + "…"),
        ([1] * 53, "[" + "1, " * 52 + "1]"),
    ],
)  # fmt: skip
def test_values_on_one_line(app: flask.Flask, value: Any, text: str) -> None:
    assert views.short(value, pattern=app.extensions["allcores"].settings.secret) == text


# --- one job ---


def test_progress_that_stopped_is_unknown(client: Any, app: flask.Flask) -> None:
    """Never a stale green: it says since when; and fresh progress has a range of time left."""
    store, now = store_of(app), time.time()
    job_id = store.submit("square", {"n": 3}).job.id
    with store.become_supervisor():
        (claim,) = store.claim(1, ["square"])
        store.report_worker(claim, os.getpid())
        store.report_progress(claim, Progress(400, 3, 1_000, now - 40, now, note="going on"))
        text = client.get(f"/job/{job_id}").text
        assert "Unknown since" not in text
        assert re.search(r"about \d+ (s|min)", text)
        assert "going on" in text
        store.report_progress(claim, Progress(400, 3, 1_000, now - 600, now - 300))
        text = client.get(f"/job/{job_id}").text
        assert "Unknown since" in text
        assert "about" not in text
        store.finish(claim, Finished(State.SUCCEEDED, result={"primes": 168}))
    text = client.get(f"/job/{job_id}").text
    assert "Unknown since" not in text
    assert "&#34;primes&#34;: 168" in text


def fact(client: Any, job: Job, name: str) -> str:
    """What the page of a job says behind a name, without marks."""
    found = re.search(rf"<dt>{name}</dt><dd>(.*?)</dd>", client.get(f"/job/{job.id}").text)
    assert found is not None
    return html.unescape(re.sub(r"<[^>]+>", "", found[1]))


def test_a_page_has_the_deadline_that_holds_and_the_attempt_that_runs(client: Any, app: flask.Flask) -> None:
    """Who has submitted it may not have known its task (`allcores jobs submit` without --tasks)."""
    store = store_of(app)
    timeout = app.extensions["allcores"].tasks["limited"].timeout
    assert timeout == 90
    own, said = store.submit("limited", {"n": 1}).job, store.submit("limited", {"n": 1}, timeout=5, retries=2).job
    assert fact(client, own, "deadline") == "1 min 30 s, as its task says"
    assert fact(client, said, "deadline") == "5.00 s"
    assert fact(client, store.submit("square", {"n": 1}).job, "deadline") == "none"
    assert fact(client, store.submit("not there", {}, timeout=7).job, "deadline") == "7.00 s"
    assert fact(client, said, "attempts") == "0 of 3"
    square = store.submit("square", {"n": 1}).job
    assert app.extensions["allcores"].tasks["square"].retries == 2
    assert fact(client, square, "attempts") == "0 of 3, as its task says"
    unknown = store.submit("not there", {}).job
    assert fact(client, unknown, "attempts") == "0, as its task says"
    assert fact(client, unknown, "deadline") == "as its task says"
    assert client.get(f"/submit/square?like={square.id}").status_code == 200
    with store.become_supervisor():
        store.claim(10, ["limited"])
        assert fact(client, said, "attempts") == "1 of 3"


def test_actions_fit_the_state(client: Any, app: flask.Flask) -> None:
    """No button that cannot do anything."""
    store = store_of(app)
    waiting = store.submit("square", {"n": 1}).job
    assert {"/cancel"} == acts(client, waiting)
    assert {"/retry", "/delete"} == acts(client, ended(store, State.FAILED))
    assert {"/delete"} == acts(client, ended(store))
    assert send(client, f"/job/{ended(store).id}/stack").status_code == 409


def acts(client: Any, job: Job) -> set[str]:
    text = client.get(f"/job/{job.id}").text
    return set(re.findall(rf'action="/job/{job.id}(/[\w-]+)"', text))


def test_arguments_come_byte_for_byte(client: Any, app: flask.Flask) -> None:
    """Large integers, order of keys, directions of text, long ones: as they are, to be copied."""
    value = {"z": 2**200, "a": "\u202eright to left\u202c", "emoji": "👩‍🔬", "long": "x" * 100_000, "empty": {}}
    job = ended(store_of(app), task="anything", arguments={"value": value})
    text = client.get(f"/job/{job.id}").text
    shown = re.search(r'id="arguments-text"[^>]*>(.*?)</pre>', text, re.S)
    assert shown is not None
    assert json.loads(html.unescape(shown[1])) == {"value": value}
    assert list(json.loads(html.unescape(shown[1]))["value"]) == list(value)


def test_the_password_of_a_webhook_is_not_shown(client: Any, app: flask.Flask) -> None:
    for url, shown in (
        (
            "https://ann:hunter2@example.org:80/x?auth_token=hunter2&n=1",
            "https://ann:***@example.org:80/x?auth_token=***&amp;n=1",
        ),
        ("http://example.org:80/to@me?mail=a@b", "http://example.org:80/to@me?mail=a@b"),
    ):
        job = store_of(app).submit("square", {"n": 1}, webhook=url).job
        page = client.get(f"/job/{job.id}").text
        assert "hunter2" not in page and f"<dd>{shown}</dd>" in page


def test_a_job_that_is_run_again_tells_the_same_address(client: Any, app: flask.Flask) -> None:
    """Its password does not travel to the browser and back; an address that is changed needs it anew."""
    url = "https://ann:hunter2@example.org/ended"
    first = store_of(app).submit("square", {"n": 1}, webhook=url).job
    page = client.get(f"/submit/square?like={first.id}").text
    assert "hunter2" not in page
    form = filled_in(page)
    for change, told in (
        ({}, url),
        ({"webhook": ""}, None),
        ({"webhook": "http://example.org/other"}, "http://example.org/other"),
    ):
        assert client.post("/submit/square", data={**form, **change}).status_code == 303
        job = store_of(app).page(limit=1).jobs[0]
        assert (job.webhook, job.parent) == (told, first.id)
    for wrong in ("https://ann:***@elsewhere.org/ended", "ftp://example.org"):
        answer = client.post("/submit/square", data={**form, "webhook": wrong})
        assert answer.status_code == 422 and "webhook" in errors_in(answer.text)


# --- polling ---


@pytest.mark.parametrize("path", ["/", "/list", "/failed", "/workers", "/job/{id}"])
def test_polling_is_cheap_and_right(client: Any, app: flask.Flask, path: str) -> None:
    """304 as long as nothing has changed, and then the new page; a plain visit always gets the whole page."""
    store = store_of(app)
    job = ended(store, State.FAILED)
    path = path.replace("{id}", job.id)

    def poll() -> Any:
        # the pages of what moves get a new tag every other second
        for _ in range(50):
            first = client.get(path)
            again = client.get(path, headers={"X-Poll": "1", "If-None-Match": first.headers["ETag"]})
            # As a proxy that compresses has made it.
            weak = client.get(path, headers={"X-Poll": "1", "If-None-Match": f"W/{first.headers['ETag']}"})
            if again.status_code == weak.status_code == 304:
                return first.headers["ETag"]
        raise AssertionError("never unchanged")

    tag = poll()
    store.retry([job.id], "x")
    changed = client.get(path, headers={"X-Poll": "1", "If-None-Match": tag})
    assert changed.status_code == 200
    assert client.get(path, headers={"If-None-Match": changed.headers["ETag"]}).status_code == 200
    assert "Content-Security-Policy" not in client.get(path, headers={"X-Poll": "1", "If-None-Match": poll()}).headers


@pytest.mark.parametrize("path", ["/list", "/failed", "/job/{id}"])
def test_what_changes_while_a_page_is_made_comes_with_the_next_poll(
    client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """After whichever of its reads: a page is never older than its tag, else it would stay as it is for good."""
    monkeypatch.setattr(state, "CHANGE_S", 0.0)
    store = store_of(app)
    kept = Database.reading
    left = 0

    @contextlib.contextmanager
    def reading(database: Database) -> Iterator[Any]:
        nonlocal left
        with kept(database) as connection:
            yield connection
        left -= 1
        if left == 0:
            store.retry([job.id], "x")

    def words(page: Any) -> str:
        """Without what differs from visit to visit: nonces, times."""
        return re.sub(r'nonce="[^"]*"|value="[^"]*"|[0-9]', "", page.text)

    monkeypatch.setattr(Database, "reading", reading)
    changed = 0
    for reads in range(1, 50):
        job = ended(store, State.FAILED)
        address = path.replace("{id}", job.id)
        left = reads
        made = client.get(address)
        if left > 0:
            break
        changed += 1
        again = client.get(address, headers={"X-Poll": "1", "If-None-Match": made.headers["ETag"]})
        if again.status_code == 304:
            # Then the page has what has changed, as a visit shows.
            assert words(made) == words(client.get(address)), f"after read {reads}"
    assert changed > 2


def test_open_pages_share_what_one_has_read(client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty of them cost the store no more than one, also when all get a new page; a visit reads what there is."""
    reads: list[int] = []
    kept = Database.reading

    def counted(database: Database) -> Any:
        reads.append(1)
        return kept(database)

    monkeypatch.setattr(state, "CHANGE_S", 3_600.0)
    monkeypatch.setattr(pages, "SHARED_S", 3_600.0)
    store = store_of(app)
    store.submit("square", {"n": 1})
    tag = client.get("/").headers["ETag"]
    monkeypatch.setattr(Database, "reading", counted)
    for known in [tag] * 20 + ["of another time"] * 20:
        client.get("/", headers={"X-Poll": "1", "If-None-Match": known})
    assert len(reads) == 0
    # What this process changed is seen at once, and what another one did by a visit.
    store.submit("square", {"n": 2})
    assert client.get("/", headers={"X-Poll": "1", "If-None-Match": tag}).status_code == 200
    with JobStore.open(store.name) as other:
        other.submit("square", {"n": 3})
    assert client.get("/").headers["ETag"] != tag and len(reads) > 5


def test_the_picture_of_the_cores_is_of_what_ran_however_many_wait(client: Any, app: flask.Flask) -> None:
    store = store_of(app)
    ended(store, task="square")
    ended(store, State.FAILED, task="square")
    store.submit_many([Submission("square", {"n": 1})] * 500)
    page = client.get("/").text
    assert "Nothing has run" not in page
    drawn = page.split('id="cores"')[1].split("</section>")[0]
    assert (drawn.count('<rect class="fill-good" x'), drawn.count('<rect class="fill-bad" x')) == (1, 1)


def test_a_supervisor_that_is_silent(client: Any, app: flask.Flask) -> None:
    """None, one that tells of itself, one that has stopped doing so: each is told as it is."""
    store, now = store_of(app), time.time()
    assert "No supervisor is running" in client.get("/").text
    with store.become_supervisor():
        told = health.SupervisorHealth(os.getpid(), now, now - 60, "working", cores=4, running=1)
        health.write(store.folder, told)
        assert "supervisor" not in re.sub(
            r"(?s)<footer.*", "", client.get("/").text.split('id="notes"')[1].split('id="facts"')[0]
        )
        assert "<dd>4</dd>" in client.get("/workers").text
        health.write(store.folder, dataclasses.replace(told, at=now - 100))
        assert "unknown" in client.get("/").text
        assert "unknown" in client.get("/workers").text
        health.write(store.folder, dataclasses.replace(told, trouble="workers cannot be started: <b>"))
        assert "workers cannot be started: &lt;b&gt;" in client.get("/").text
    assert "No supervisor is running" in client.get("/").text


def test_a_job_that_the_supervisor_cannot_run_says_so(client: Any, app: flask.Flask) -> None:
    """It has none of that name: another file of tasks, or a name that was mistyped. It would wait without a word."""
    store, now = store_of(app), time.time()
    job = store.submit("sqaure", {"n": 1}).job
    told = health.SupervisorHealth(os.getpid(), now, now - 60, "working", tasks=("square", "words"))
    assert "It waits" not in client.get(f"/job/{job.id}").text
    health.write(store.folder, told)
    reason = f"the supervisor that runs (process {os.getpid()}) has no task 'sqaure': did you mean 'square'?"
    assert f"It waits: {reason}" in html.unescape(client.get(f"/job/{job.id}").text)
    health.write(store.folder, dataclasses.replace(told, tasks=("sqaure",)))
    assert "It waits" not in client.get(f"/job/{job.id}").text
    health.write(store.folder, dataclasses.replace(told, at=now - 100))
    assert health.why_none_runs(store.folder, job.task) == ""


def test_schedules(client: Any, app: flask.Flask) -> None:
    text = client.get("/schedules").text
    assert "<code>0 3 * * *</code>" in text
    answer = send(client, "/schedules/nightly/run")
    assert answer.status_code == 303
    assert only(app).task == "nightly"
    assert send(client, "/schedules/square/run").status_code == 404


# --- as a part of an app ---


def test_an_app_submits_jobs_and_starts_nothing(tmp_path: Path) -> None:
    """No thread, no file, no process by the extension itself; a job has addresses below the prefix."""
    app = flask.Flask("shop")
    app.config["ALLCORES_TOKEN"] = TOKEN
    before = threading.active_count()
    jobs = Allcores(tasks=TASKS, store=tmp_path / "store" / "jobs.sqlite")
    jobs.init_app(app)
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []

    @app.post("/start")
    def start() -> Any:
        job = jobs.submit("square", {"n": 10**30}, key=flask.request.form.get("key"))
        return {"id": job.id, "status_url": job.url, "replayed": job.replayed}, 202

    client: Any = app.test_client()
    answer = client.post("/start", data={"key": "a"})
    assert answer.status_code == 202
    assert answer.json["status_url"] == f"/jobs/api/jobs/{answer.json['id']}"
    assert client.post("/start", data={"key": "a"}).json == {**answer.json, "replayed": True}
    assert client.get(answer.json["status_url"]).status_code == 401
    assert client.get(answer.json["status_url"], headers=bearer()).json["arguments"] == {"n": 10**30}
    assert client.get(f"/jobs/?token={TOKEN}").headers["Location"] == "/jobs/"
    assert client.get("/jobs/").status_code == 200
    assert client.get("/jobs/nothing").status_code == 404
    # what is beside the console is the app's own affair
    assert app.test_client().get("/elsewhere", headers={"Host": "example.org"}).status_code == 404
    with app.test_request_context():
        with pytest.raises(UsageError, match="did you mean 'square'"):
            jobs.submit("sqare", {})
        with pytest.raises(UsageError, match="run_at says when"):
            jobs.submit("square", {"n": 1}, delay=5, run_at=2e9)
        with pytest.raises(UsageError, match="both say when"):
            Queue(jobs.store, tasks=TASKS).submit("square", {"n": 1}, delay=5, run_at=2e9)
        with pytest.raises(UsageError, match="begins with http:// or https://"):
            jobs.submit("square", {"n": 1}, webhook="example.org")
        at = datetime(2030, 1, 1, tzinfo=UTC)
        put_off = jobs.get(jobs.submit("square", {"n": 1}, run_at=at, webhook="http://example.org/").id)
        assert put_off is not None
        assert (put_off.run_at, put_off.webhook) == (at.timestamp(), "http://example.org/")
        found = jobs.get(answer.json["id"])
        assert found is not None
        assert found.state is State.QUEUED
    with app.app_context():
        # A command of the app, or a thread of its own: the job is in the store, so its addresses have to be told.
        made = jobs.submit("square", {"n": 2}, tags="blue")
        assert (made.url, made.page) == (f"/jobs/api/jobs/{made.id}", f"/jobs/job/{made.id}")
        found = jobs.get(made.id)
        assert found is not None and found.tags == ("numbers", "blue")
        with pytest.raises(UsageError, match="the retry of failed items makes"):
            jobs.submit("square", {"n": 2}, tags="failed-items")
    with pytest.raises(UsageError, match="has the allcores extension already"):
        jobs.init_app(app)
    assert threading.active_count() == before
    store_of(app).close()


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_an_app_that_refuses_a_request_itself(tmp_path: Path, status: int) -> None:
    """Before the console has seen it, for want of a login or of a token in a form: its answer is told, and drawn."""
    app = flask.Flask("shop")
    app.config.update(ALLCORES_TOKEN=TOKEN, PROPAGATE_EXCEPTIONS=False)

    @app.before_request
    def refuse() -> None:
        flask.abort(status, "No, says the shop.")

    Allcores(app, tasks=TASKS, store=tmp_path / "store" / "jobs.sqlite")
    for path in ("/jobs/", "/jobs/api/jobs"):
        answer = app.test_client().get(path, headers=bearer())
        assert answer.status_code == status
        assert "No, says the shop." in answer.text or status == 500
        nonce = re.search(r"'nonce-([^']+)'", answer.headers["Content-Security-Policy"])
        assert nonce is not None
        assert path != "/jobs/" or f'<style nonce="{nonce[1]}">' in answer.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_nothing_is_carried_across_a_fork(tmp_path: Path) -> None:
    """A server that loads the app, serves a request and then forks: both go on, with connections of their own."""
    with console(tmp_path) as app:
        client = logged_in(app)
        inherited = store_of(app)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                # Let go of as it forks: its first requests may come at once, on several threads.
                at_once = app.extensions["allcores"]._store is None
                same = store_of(app) is inherited
                answer = app.test_client().post(
                    "/api/jobs", json={"task": "square", "arguments": {"n": 1}}, headers=bearer()
                )
                os.write(write, f"{answer.status_code} {same} {at_once}".encode())
            finally:
                os._exit(0)
        os.close(write)
        with open(read, "rb") as file:
            assert file.read() == b"202 False True"
        os.waitpid(pid, 0)
        assert client.get("/").status_code == 200
        assert store_of(app) is inherited
        assert store_of(app).counts().total == 1
