"""The JSON API: submit, look, list, cancel, retry; health and metrics."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import flask
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from allcores.jobs.errors import StoreError
from allcores.jobs.model import Job, State
from allcores.web import supervision
from allcores.web.filters import read_filter
from allcores.web.handed_in import HandedIn
from allcores.web.json_text import json_answer
from allcores.web.metrics_text import as_text
from allcores.web.security import CSRF_FIELD, Refused, User
from allcores.web.state import current
from allcores.web.strict_json import read_json
from allcores.web.submitting import WrongFields, check_key, wanted_from_json
from allcores.web.views import job_json, moment

#: what a list may be asked for; `state` more than once
_QUERY = ("state", "task", "tag", "q", "since", "until", "after", "before", "limit")
#: parts of a submission with files that are none
_PARTS = {"job", CSRF_FIELD}
#: jobs on a page, at most
MOST_JOBS = 500


def _user() -> User:
    user: User = flask.g.allcores_user
    return user


def found_job(job_id: str) -> Job:
    """The job of that id.

    Raises:
        NotFound: If there is none, or it can be none.
    """
    job = current().store.get(job_id) if job_id.isascii() and job_id.isalnum() and len(job_id) <= 64 else None
    if job is None:
        raise NotFound
    return job


def _tag(parts: tuple[object, ...]) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:32]


def _known(*parts: object) -> Response | None:
    """304, if the client has the answer that is made from these parts."""
    tag = _tag(parts)
    if not flask.request.if_none_match.contains_weak(tag):
        return None
    answer = Response(status=304)
    answer.set_etag(tag)
    return answer


def _tagged(answer: Response, *parts: object) -> Response:
    """The answer, or 304 if the client has it: with a tag of what it was made from."""
    answer.set_etag(_tag(parts))
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer.make_conditional(flask.request)


def _body() -> Any:
    """The body as strict JSON.

    Raises:
        Refused: 415 for another content type, 413, or 400.
    """
    request = flask.request
    if request.mimetype != "application/json":
        raise Refused(415, "wrong_content_type", "Send JSON, with 'Content-Type: application/json'.")
    settings = current().settings
    request.max_content_length = settings.max_body
    data = request.get_data(cache=False)
    return read_json(data, settings.max_depth)


def submit_job() -> Any:
    """POST /api/jobs."""
    console, request = current(), flask.request
    with HandedIn() as files:
        body = _form_body(files) if request.mimetype == "multipart/form-data" else _body()
        header = request.headers.get("Idempotency-Key")
        if header is not None and isinstance(body, dict):
            if body.get("key") not in (None, header):
                raise WrongFields({"key": "it is another one than the header Idempotency-Key has"})
            body = {**body, "key": check_key(header)}
        found = files.submit(wanted_from_json(body))
    answer = json_answer(job_json(found.job, console.settings.secret))
    answer.status_code = 202
    answer.headers["Location"] = flask.url_for("allcores.api_job", job_id=found.job.id)
    if found.replayed:
        answer.headers["Idempotent-Replayed"] = "true"
    return answer


def _form_body(handed_in: HandedIn) -> dict[str, Any]:
    """A submission with files: the part `job` is the JSON body, each file is the argument that has its field's name."""
    console, request = current(), flask.request
    # The library reads a part without a name, or with one that is none, under None.
    if any(name is None for name in (*request.form, *request.files)):
        raise WrongFields({"": "a part of the body has no name (Content-Disposition: form-data; name=...)"})
    if "job" not in request.form:
        raise WrongFields({"job": "a part of that name is needed: what a JSON body would be"})
    # What is in none of them would be dropped without a word.
    wrong = {name[:60]: "there is no such part: it belongs into job" for name in request.form.keys() - _PARTS}
    if len(request.form.getlist("job")) > 1:
        wrong["job"] = "it is there more than once"
    if wrong:
        raise WrongFields(wrong)
    body = read_json(request.form["job"].encode(), console.settings.max_depth)
    if not isinstance(body, dict) or not isinstance(body.setdefault("arguments", {}), dict):
        raise WrongFields({"job": "it has to be an object, and its arguments another"})
    if not isinstance(body.get("task"), str):
        raise WrongFields({"task": "the name of a task is needed, as a string"})
    task = console.tasks[body["task"]]
    kinds = {each.name: each.kind for each in task.arguments.parameters}
    for name, files in request.files.lists():
        if kinds.get(name) not in ("file", "files"):
            raise WrongFields({name: "the task takes no file under that name"})
        if len(files) > 1 and kinds[name] == "file":
            raise WrongFields({name: f"it is one file, and {len(files)} were sent"})
        if name in body["arguments"]:
            raise WrongFields({name: "it is among the arguments, and a file, too: give one of the two"})
        kept = [handed_in.keep(each) for each in files]
        body["arguments"][name] = kept if kinds[name] == "files" else kept[0]
    return body


def job(job_id: str) -> Any:
    """GET /api/jobs/ID."""
    settings = current().settings
    found = job_json(found_job(job_id), settings.secret)
    return _tagged(json_answer(found), json.dumps(found, sort_keys=True))


def jobs() -> Any:
    """GET /api/jobs: newest first; `after` goes on behind the last one seen."""
    console, args = current(), flask.request.args
    if unknown := sorted(args.keys() - set(_QUERY)):
        raise Refused(400, "bad_query", f"There is no {unknown[0][:60]!r} to ask for; there are {', '.join(_QUERY)}.")
    if twice := [name for name in args if name != "state" and len(args.getlist(name)) > 1]:
        raise Refused(400, "bad_query", f"{twice[0]} is there more than once.")
    wanted = read_filter(args, console.settings.secret)
    limit = _whole("limit", 50, 1, MOST_JOBS)
    after, before = _whole("after", None, 0, 2**63 - 1), _whole("before", None, 0, 2**63 - 1)
    if after is not None and before is not None:
        raise Refused(400, "bad_query", "A page is after a job or before one, not both.")
    # What a page is made from, without reading it: a client that asks again and again costs next to nothing. Progress
    # and spans of time change by themselves.
    change, running = console.change_and_running()
    moving = running or any(name in flask.request.args for name in ("since", "until"))
    made_from = (change, flask.request.full_path, int(time.time() // 5) if moving else 0)
    if (known := _known(*made_from)) is not None:
        return known
    page = console.store.page(wanted, after=after, before=before, limit=50 if limit is None else limit)
    found = {
        "jobs": [job_json(each, console.settings.secret, whole=False) for each in page.jobs],
        "after": page.older,
        "before": page.newer,
        "searched": page.searched,
        "searched_all": page.searched_all,
    }
    return _tagged(json_answer(found), *made_from)


def _whole(name: str, default: int | None, least: int, most: int) -> int | None:
    text = flask.request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise Refused(400, "bad_query", f"{name} is a whole number between {least} and {most}.")
    return int(text)


def cancel(job_id: str) -> Any:
    """POST /api/jobs/ID/cancel."""
    console, before = current(), found_job(job_id)
    if before.state.is_final:
        if before.state is not State.CANCELLED:
            raise Refused(409, "already_ended", f"The job has ended: it is {before.state.value}.")
        return json_answer(job_json(before, console.settings.secret))
    console.store.cancel([job_id], _user().name)
    return _changed(job_id)


def retry(job_id: str) -> Any:
    """POST /api/jobs/ID/retry."""
    console, before = current(), found_job(job_id)
    if not before.state.is_final or before.state is State.SUCCEEDED:
        raise Refused(
            409, "not_ended", f"Only a job that ended without success is retried: it is {before.state.value}."
        )
    done = console.store.retry([job_id], _user().name, succeeded=False)
    if not done.count:
        raise Refused(409, "conflict", "The job has changed in between: look at it again.")
    return _changed(job_id)


def _changed(job_id: str) -> Response:
    answer = json_answer(job_json(found_job(job_id), current().settings.secret))
    answer.status_code = 202
    return answer


def tasks() -> Any:
    """GET /api/tasks: what can be submitted, and the JSON schema of the arguments."""
    found = [
        {
            "name": task.name,
            "description": task.description,
            "timeout": task.timeout,
            "retries": task.retries,
            "priority": task.priority,
            "tags": list(task.tags),
            "schedule": task.schedule,
            "arguments": task.arguments.schema(),
        }
        for _, task in sorted(current().tasks.items())
    ]
    return json_answer({"tasks": found})


def counts() -> Any:
    """GET /api/counts."""
    found = current().store.counts()
    return json_answer(
        {
            "total": found.total,
            "by_state": {state.value: found.by_state.get(state, 0) for state in State},
            "by_task": {
                task: {state.value: n for state, n in each.items()} for task, each in sorted(found.by_task.items())
            },
        }
    )


def audit() -> Any:
    """GET /api/audit: who changed what, newest first."""
    rows = current().store.audit(_whole("after", None, 0, 2**63 - 1))
    return json_answer(
        {
            "audit": [
                {"seq": row.seq, "at": moment(row.at), "by": row.by, "action": row.action, "count": row.count,
                 "detail": dict(row.detail)}
                for row in rows
            ],
            "after": rows[-1].seq if rows else None,
        }
    )  # fmt: skip


def healthz() -> Any:
    """GET /healthz: 200 if the store can be read, else 503; with what is known of the supervisor.

    Who has no token, where that is allowed, is told no more than that.
    """
    known = flask.g.get("allcores_user") is not None
    try:
        store = current().store
        change = store.change_number()
    except StoreError as error:
        return json_answer({"status": "failing", **({"store": str(error)} if known else {})}, 503)
    if not known:
        return json_answer({"status": "ok"})
    seen = supervision.look(store)
    return json_answer({"status": "ok", "store": "ok", "change": change, "supervisor": seen.as_json()})


def metrics() -> Any:
    """GET /metrics: for Prometheus."""
    store = current().store
    text = as_text(store.counts(), supervision.look(store))
    return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")
