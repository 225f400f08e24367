"""A console with a store of its own, for tests: jobs get to their ends without being run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask
from flask.testing import FlaskClient

from allcores.jobs.model import Finished, Job, JobError, ResultFile, State
from allcores.jobs.store import JobStore
from allcores.web import create_app

TASKS = "tests.process.web_tasks"
TOKEN = "the-token-of-these-tests"
TOKENS = {
    "olga": {"token": "olgas-token", "role": "operator"},
    "vera": {"token": "veras-token", "role": "viewer"},
}


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def make_app(folder: Path, **config: Any) -> flask.Flask:
    app = create_app(
        tasks=TASKS,
        store=folder / "store" / "jobs.sqlite",
        token=TOKEN,
        config={"ALLCORES_TOKENS": TOKENS, "TESTING": True, **config},
    )
    return app


def store_of(app: flask.Flask) -> JobStore:
    store: JobStore = app.extensions["allcores"].store
    return store


@contextmanager
def console(folder: Path, **config: Any) -> Iterator[flask.Flask]:
    """An app; its store is closed at the end."""
    app = make_app(folder, **config)
    try:
        yield app
    finally:
        store_of(app).close()


def logged_in(app: flask.Flask, token: str = TOKEN) -> FlaskClient:
    """A browser that has opened the address with the token."""
    client = app.test_client()
    answer = client.get(f"/?token={token}")
    assert answer.status_code == 303, answer.text
    return client


def csrf_of(client: FlaskClient, path: str = "/audit") -> str:
    """What a form of this user carries."""
    found = re.search(r'name="_csrf" value="([0-9a-f]+)"', client.get(path).text)
    assert found is not None
    return found[1]


def ended(
    store: JobStore,
    state: State = State.SUCCEEDED,
    *,
    task: str = "square",
    arguments: dict[str, Any] | None = None,
    result: Any = None,
    error: JobError | None = None,
    files: dict[str, bytes] | None = None,
    tags: tuple[str, ...] = (),
) -> Job:
    """A job that came to its end."""
    made = store.submit(task, {"n": 3} if arguments is None else arguments, tags=tags, by="test").job
    with store.become_supervisor():
        (claim,) = (each for each in store.claim(1_000, [task]) if each.job.id == made.id)
        kept = []
        for name, data in (files or {}).items():
            path = store.folder / "results" / made.id / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            kept.append(ResultFile(name, len(data), "text/html" if name.endswith("html") else "text/csv"))
        if error is None and state is not State.SUCCEEDED:
            error = JobError("ValueError", "it went wrong", "Traceback ...")
        assert store.finish(claim, Finished(state, result, tuple(kept), error))
    found = store.get(made.id)
    assert found is not None
    return found
