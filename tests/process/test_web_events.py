"""The stream of events: what is told, how many there may be, and that none is left when a page or the server goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from tests.process.console import console, ended, logged_in, store_of

from allcores.jobs.errors import StoreError
from allcores.jobs.store import JobStore
from allcores.web import streams

#: of a stream, in a store without jobs
FIRST = b"retry: 2000\ndata: 0\n\n"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    with console(tmp_path, ALLCORES_EVENT_STREAMS=1) as made:
        yield made


@pytest.fixture
def client(app: flask.Flask) -> Any:
    return logged_in(app)


def stream(client: Any, *, threads: bool = True) -> Any:
    return client.get("/events", environ_overrides={"wsgi.multithread": threads})


def test_a_change_is_told_once_and_a_page_says_where(client: Any, app: flask.Flask) -> None:
    answer = stream(client)
    lines = answer.iter_encoded()
    assert answer.mimetype == "text/event-stream"
    assert next(lines) == b"retry: 2000\ndata: %d\n\n" % store_of(app).change_number()
    ended(store_of(app))
    assert int(next(lines).removeprefix(b"data: ")) <= store_of(app).change_number()
    answer.close()
    page = client.get("/", environ_overrides={"wsgi.multithread": True}).text
    assert 'data-events="/events"' in page
    assert "data-events" not in client.get("/audit", environ_overrides={"wsgi.multithread": True}).text


def test_there_are_so_many_and_a_page_that_leaves_makes_room(client: Any) -> None:
    first = stream(client)
    assert stream(client).data == b"event: full\ndata:\n\n"
    first.close()
    first.close()
    second = stream(client)
    assert stream(client).data == b"event: full\ndata:\n\n"
    second.close()


def test_a_server_without_threads_for_it_has_none(client: Any, app: flask.Flask) -> None:
    """One whose workers answer one request at a time would answer no other one."""
    assert stream(client, threads=False).status_code == 404
    assert "data-events" not in client.get("/", environ_overrides={"wsgi.multithread": False}).text


def test_without_a_change_a_line_is_sent_and_it_ends_with_the_server(
    client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "KEEP_S", 0.0)
    monkeypatch.setattr(streams, "LOOK_S", 0.01)
    answer = stream(client)
    lines = answer.iter_encoded()
    assert [next(lines), next(lines)] == [FIRST, b":\n\n"]
    app.extensions["allcores"].streams.close()
    assert len(list(lines)) <= 1
    answer.close()


def test_a_number_that_was_set_back_is_told(client: Any, app: flask.Flask) -> None:
    """By a crash of PostgreSQL: a page that waits for a higher one would be told nothing for so many changes."""
    store = store_of(app)
    ended(store)
    answer = stream(client)
    lines = answer.iter_encoded()
    next(lines)
    with store.reading() as connection:
        connection.exec_driver_sql("UPDATE allcores_changes SET number = 1")
        connection.commit()
    assert next(lines) == b"data: 1\n\n"
    answer.close()
    for _ in range(2):
        assert client.get("/list", headers={"X-Poll": "1"}).status_code == 200
        assert store.last_change == 1


def test_it_ends_by_itself_and_where_the_store_cannot_be_read(
    client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_S", 0.0)
    answer = stream(client)
    assert list(answer.iter_encoded()) == [FIRST]
    answer.close()
    monkeypatch.setattr(streams, "MOST_S", 60.0)

    def lost(*_: object) -> int:
        raise StoreError("gone")

    monkeypatch.setattr(type(store_of(app)), "wait_for_change", lost)
    answer = stream(client)
    assert list(answer.iter_encoded()) == [FIRST]
    answer.close()


def test_without_a_token_there_is_none(app: flask.Flask) -> None:
    assert stream(app.test_client()).status_code == 401


def test_a_page_that_was_told_of_a_change_gets_nothing_older(client: Any, app: flask.Flask, tmp_path: Path) -> None:
    """Though another page, a moment ago, has read what both share."""
    store = JobStore.open(tmp_path / "store" / "jobs.sqlite")
    try:
        for path, shown in (("/", "ended in the last hour</dt><dd>{}<"), ("/list", "{}")):
            client.get(path, headers={"X-Poll": "1"})
            ended(store)
            count = store.counts().total
            answer = client.get(path, headers={"X-Poll": "1", "X-Change": str(store.change_number())})
            assert shown.format(count) in answer.text
    finally:
        store.close()
    assert client.get("/", headers={"X-Poll": "1", "X-Change": "many"}).status_code == 200
