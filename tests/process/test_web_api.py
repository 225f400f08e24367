"""The JSON API on a real store: what programs send and get, and what is refused with which sentence."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flask
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from tests.process.console import bearer, console, ended, store_of

from allcores.jobs.errors import StoreFull, StoreGone
from allcores.jobs.model import State
from allcores.jobs.store import JobStore
from allcores.web.openapi import describe


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    with console(tmp_path) as made:
        yield made


@pytest.fixture
def client(app: flask.Flask) -> Any:
    """A program: it sends its token with each request."""
    made = app.test_client()
    made.environ_base["HTTP_AUTHORIZATION"] = bearer()["Authorization"]
    return made


def error_of(answer: Any) -> dict[str, Any]:
    """The error of an answer, whose shape is the one that is described."""
    schemas = describe("")["components"]["schemas"]
    Draft202012Validator(schemas["Error"]).validate(answer.json)
    assert answer.headers["Content-Type"] == "application/json"
    found: dict[str, Any] = answer.json["error"]
    return found


def submit(client: Any, **body: Any) -> Any:
    return client.post("/api/jobs", json={"task": "square", "arguments": {"n": 3}, **body})


def test_a_job_is_submitted_and_looked_at(client: Any, app: flask.Flask) -> None:
    answer = submit(client, priority=4, tags=["blue"], timeout=1.5)
    assert answer.status_code == 202
    body = answer.json
    assert answer.headers["Location"] == f"/api/jobs/{body['id']}" == body["url"]
    assert {name: body[name] for name in ("state", "task", "arguments", "attempts", "crashes", "priority")} == {
        "state": "queued", "task": "square", "arguments": {"n": 3}, "attempts": 0, "crashes": 0, "priority": 4,
    }  # fmt: skip
    # the task's own tags and retries stand beside those that were sent
    assert (body["tags"], body["retries"], body["timeout"]) == (["numbers", "blue"], 2, 1.5)
    assert client.get(body["url"]).json == body
    assert store_of(app).counts().total == 1


def test_a_job_that_ended_shows_its_result(client: Any, app: flask.Flask) -> None:
    large = 2**200
    job = ended(store_of(app), result={"n": large, "text": "größer \u202e <b>"})
    answer = client.get(f"/api/jobs/{job.id}")
    assert (answer.json["state"], answer.json["result"]) == ("succeeded", {"n": large, "text": "größer \u202e <b>"})
    assert str(large) in answer.text
    failed = ended(store_of(app), State.FAILED)
    error = client.get(f"/api/jobs/{failed.id}").json["error"]
    assert (error["type"], error["message"], error["cause"]) == ("ValueError", "it went wrong", "exception")


def test_answers_are_the_same_in_each_app(tmp_path: Path) -> None:
    """Whatever its own JSON provider does: keys in their order, integers exact."""

    class Provider(flask.json.provider.DefaultJSONProvider):
        def dumps(self, obj: Any, **_: Any) -> str:
            raise OverflowError("Integer exceeds 64-bit range")

    value = {"z": [2**200, {"b": 1, "a": 2}], "a": 1.5}
    with console(tmp_path) as app:
        app.json = Provider(app)
        client: Any = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = bearer()["Authorization"]
        job = ended(store_of(app), arguments={"n": 2**70, "m": 1}, result=value)
        text = client.get(f"/api/jobs/{job.id}").text
        assert f'"result":{json.dumps(value, separators=(",", ":"))}' in text
        assert f'"arguments":{{"n":{2**70},"m":1}}' in text
        for path in ("/api/jobs", "/api/tasks", "/api/counts", "/api/audit", "/api/openapi.json", "/healthz"):
            assert client.get(path).status_code == 200, path
        assert client.get("/api/jobs/nothing").json["error"]["code"] == "not_found"


def test_answers_are_as_described(client: Any, app: flask.Flask) -> None:
    """Each kind of job fits the schema of the OpenAPI document, which itself is one."""
    document = client.get("/api/openapi.json").json
    assert document["openapi"].startswith("3.1")
    schemas = {"$defs": document["components"]["schemas"]}
    validator = Draft202012Validator(
        json.loads(json.dumps(schemas).replace("#/components/schemas", "#/$defs")) | {"$ref": "#/$defs/Job"}
    )
    ids = [submit(client).json["id"]]
    ids += [ended(store_of(app), state, files={"a.csv": b"1"}).id for state in State if state.is_final]
    for job_id in ids:
        validator.validate(client.get(f"/api/jobs/{job_id}").json)
    paths = {
        (method.upper(), str(rule.rule).replace("<path:", "<").replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method in ("GET", "POST") and rule.rule.startswith(("/api", "/healthz", "/metrics"))
    }
    described = {(method.upper(), path) for path, each in document["paths"].items() for method in each}
    assert described == paths


def test_lists_are_turned_by_keys(client: Any, app: flask.Flask) -> None:
    """Each job is on one page, also if more are submitted meanwhile."""
    ids = [submit(client).json["id"] for _ in range(7)]
    seen: list[str] = []
    after = None
    while True:
        answer = client.get("/api/jobs", query_string={"limit": 3, **({} if after is None else {"after": after})}).json
        seen += [job["id"] for job in answer["jobs"]]
        submit(client)
        after = answer["after"]
        if after is None:
            break
    assert seen == ids[::-1]
    ended(store_of(app), State.FAILED, task="anything", arguments={"value": "x"}, tags=("red",))
    for query, number in (
        ("state=failed", 1),
        ("state=queued,failed&task=anything", 1),
        ("tag=red", 1),
        ("q=wrong", 1),
        ("state=running", 0),
    ):
        assert len(client.get(f"/api/jobs?{query}").json["jobs"]) == number, query


@pytest.mark.parametrize(
    "query",
    [
        "state=lost",
        "limit=0",
        "limit=x",
        "after=-1",
        "after=9e9",
        "since=yesterday",
        "task=" + "x" * 201,
        "q=%00",
        "after=1&before=2",
        "stat=failed",
        "tag=a&tag=b",
    ],
)
def test_filters_that_make_no_sense(client: Any, query: str) -> None:
    answer = client.get(f"/api/jobs?{query}")
    assert (answer.status_code, error_of(answer)["code"]) == (400, "bad_query")


def test_polling_costs_little(client: Any) -> None:
    """What has not changed is not sent again."""
    url = submit(client).json["url"]
    for address in (url, "/api/jobs"):
        first = client.get(address)
        again = client.get(address, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")
    client.post(f"{url}/cancel")
    assert client.get(url, headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "no JSON"),
        (b"{", "line 1, column 2"),
        (b"[]", "object"),
        (b'{"task": "anything", "task": "square"}', "twice"),
        (b'{"task": "anything", "arguments": {"value": NaN}}', "NaN"),
        (b'{"task": "anything", "arguments": {"value": 1e999}}', "too large"),
        (b'{"task": "anything", "arguments": {"value": ' + b"9" * 100_000 + b"}}", "too many digits"),
        (b'{"task": "anything", "arguments": {"value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "levels"),
        (b'{"task": "anything", "arguments": {"value": ' + b"[" * 40 + b"]" * 40 + b"}}", "levels"),
        (b'{"task": "anything", "arguments": {"value": "\\ud800"}}', "surrogate"),
        (b'{"task": "\xff"}', "UTF-8"),
        (b'{"arguments": ' + b"[" + b"0," * 300_000 + b"0]}", "values"),
    ],
)
def test_bodies_that_are_refused(client: Any, app: flask.Flask, data: bytes, part: str) -> None:
    """Malformed, ambiguous, too deep, too large in number: one sentence each, and nothing is stored."""
    answer = client.post("/api/jobs", data=data, content_type="application/json")
    assert answer.status_code in (400, 422)
    assert part in error_of(answer)["message"]
    assert store_of(app).counts().total == 0


def test_bodies_of_another_kind_or_size(client: Any, app: flask.Flask) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/pickle"):
        answer = client.post("/api/jobs", data=b'{"task": "square"}', content_type=kind)
        assert (answer.status_code, error_of(answer)["code"]) == (415, "wrong_content_type")
    answer = client.post("/api/jobs", data=b" " * (2 << 20), content_type="application/json")
    assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")
    many = {f"field{number}": "x" for number in range(1_100)}
    assert client.post("/submit/square", data=many, content_type="multipart/form-data").status_code == 413
    assert client.post("/submit/square", data={"argument.n": "x" * 2_000_000}).status_code == 413


@pytest.mark.parametrize(
    ("body", "code", "fields"),
    [
        ({"task": "sqare", "arguments": {"n": 1}}, "unknown_task", None),
        ({"task": "os.system", "arguments": {}}, "unknown_task", None),
        ({"task": "tests.process.web_tasks.square", "arguments": {"n": 1}}, "unknown_task", None),
        ({"task": "square", "arguments": {}}, "wrong_arguments", {"n"}),
        ({"task": "square", "arguments": {"n": "3"}}, "wrong_arguments", {"n"}),
        ({"task": "square", "arguments": {"n": 3, "m": 4}}, "wrong_arguments", {"m"}),
        ({"task": "kinds", "arguments": {"count": 1.5, "share": 1, "text": 3}}, "wrong_arguments", {"count", "text"}),
        ({"task": "square", "arguments": [3]}, "wrong_fields", {"arguments"}),
        ({"task": "square", "arguments": {"n": 3}, "prio": 1}, "wrong_fields", {"prio"}),
        ({"task": "square", "arguments": {"n": 3}, "priority": 10**9}, "wrong_fields", {"priority"}),
        ({"task": "square", "arguments": {"n": 3}, "retries": -1}, "wrong_fields", {"retries"}),
        ({"task": "square", "arguments": {"n": 3}, "delay": -1, "timeout": 0.0}, "wrong_fields", {"delay", "timeout"}),
        ({"task": "square", "arguments": {"n": 3}, "delay": 10**400}, "wrong_fields", {"delay"}),
        ({"task": "square", "arguments": {"n": 3}, "tags": ["", "ok"]}, "wrong_fields", {"tags"}),
        ({"task": "square", "arguments": {"n": 3}, "tags": ["failed-items"]}, "wrong_fields", {"tags"}),
        ({"task": "square", "arguments": {"n": 3}, "run_at": "2026-01-01", "delay": 5}, "wrong_fields", {"delay"}),
        ({"task": "square", "arguments": {"n": 3}, "run_at": "soon"}, "wrong_fields", {"run_at"}),
        ({"task": "square", "arguments": {"n": 3}, "webhook": "javascript:alert(1)"}, "wrong_fields", {"webhook"}),
        ({"task": "square", "arguments": {"n": 3}, "webhook": "http://host:abc/"}, "wrong_fields", {"webhook"}),
        ({"task": "square", "arguments": {"n": 3}, "webhook": "http:///path"}, "wrong_fields", {"webhook"}),
        ({"task": "square", "arguments": {"n": 3}, "key": " k"}, "wrong_fields", {"key"}),
    ],
)  # fmt: skip
def test_submissions_that_are_refused(
    client: Any, app: flask.Flask, body: dict[str, Any], code: str, fields: set[str] | None
) -> None:
    """Only registered names, only arguments that fit; each part at fault is named."""
    answer = client.post("/api/jobs", json=body)
    error = error_of(answer)
    assert (answer.status_code, error["code"], set(error["fields"]) if fields else None) == (422, code, fields)
    assert store_of(app).counts().total == 0


def test_the_same_key_is_the_same_job(client: Any, app: flask.Flask) -> None:
    """Also if fifty are sent at once; with other arguments it is a conflict."""

    def send(_: int) -> tuple[int, str]:
        answer: Any = app.test_client().post(
            "/api/jobs",
            json={"task": "square", "arguments": {"n": 3}},
            headers={**bearer(), "Idempotency-Key": "order 7"},
        )
        return answer.status_code, answer.json["id"]

    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(send, range(50)))
    assert len(answers) == 1
    assert store_of(app).counts().total == 1
    answer = submit(client, key="order 7")
    assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (202, "true")
    answer = submit(client, key="order 7", arguments={"n": 4})
    assert (answer.status_code, error_of(answer)["code"]) == (409, "key_conflict")
    answer = client.post(
        "/api/jobs", json={"task": "square", "arguments": {"n": 3}, "key": "a"}, headers={"Idempotency-Key": "b"}
    )
    assert (answer.status_code, set(error_of(answer)["fields"])) == (422, {"key"})


def test_cancel_and_retry(client: Any, app: flask.Flask) -> None:
    url = submit(client).json["url"]
    answer = client.post(f"{url}/retry")
    assert (answer.status_code, error_of(answer)["code"]) == (409, "not_ended")
    answer = client.post(f"{url}/cancel")
    assert (answer.status_code, answer.json["state"]) == (202, "cancelled")
    assert client.post(f"{url}/cancel").status_code == 200
    assert client.post(f"{url}/retry").json["state"] == "queued"
    done = ended(store_of(app))
    for act in ("cancel", "retry"):
        answer = client.post(f"/api/jobs/{done.id}/{act}")
        assert answer.status_code == 409
        assert error_of(answer)["message"].endswith("succeeded.")
    by = [(row["by"], row["action"], row["count"]) for row in client.get("/api/audit").json["audit"]]
    assert by[:2] == [("admin", "retry", 1), ("admin", "cancel", 1)]


@pytest.mark.parametrize("job_id", ["0" * 32, "x", "..", "%2e%2e", "a" * 500, "a%00b", "é"])
def test_ids_of_no_job(client: Any, job_id: str) -> None:
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/result/a.csv")):
        answer = client.open(f"/api/jobs/{job_id}{path}", method=method)
        assert answer.status_code in (404, 405), path
        error_of(answer)


# --- files ---


def test_result_files_come_whole_and_in_ranges(client: Any, app: flask.Flask) -> None:
    data = bytes(range(256)) * 40
    job = ended(store_of(app), files={"all.csv": data})
    (file,) = client.get(f"/api/jobs/{job.id}").json["result_files"]
    assert (file["name"], file["size"]) == ("all.csv", len(data))
    with client.get(file["url"]) as whole:
        assert (whole.status_code, whole.data) == (200, data)
        assert whole.headers["Content-Disposition"].startswith("attachment")
    with client.get(file["url"], headers={"Range": "bytes=100-199"}) as part:
        assert (part.status_code, part.data) == (206, data[100:200])
        assert part.headers["Content-Range"] == f"bytes 100-199/{len(data)}"
    assert client.get(file["url"], headers={"Range": "bytes=999999-"}).status_code == 416
    for other in ("bytes=0-1,5-6", "bytes=-1,0-0", "lines=0-1", "bytes=5-2", "bytes=a-b", "bytes"):
        with client.get(file["url"], headers={"Range": other}) as whole:
            assert (whole.status_code, whole.data) == (200, data), other
    assert client.get(file["url"], headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize(
    "name",
    ["../../jobs.sqlite", "..%2f..%2fjobs.sqlite", "%2e%2e/%2e%2e/jobs.sqlite", "/etc/passwd",
     "..\\..\\jobs.sqlite", "C:\\boot.ini", "secret.txt", "link.csv", "all.csv%00.html", ".", "", "folder/../all.csv"],
)  # fmt: skip
def test_only_files_that_the_job_made_are_sent(client: Any, app: flask.Flask, tmp_path: Path, name: str) -> None:
    """Not what lies beside, above or behind a link, however the name is written."""
    job = ended(store_of(app), files={"all.csv": b"1,2\n", "link.csv": b"x"})
    folder = store_of(app).folder / "results" / job.id
    (folder / "secret.txt").write_text("not named by the row")
    (tmp_path / "outside").write_text("secret")
    (folder / "link.csv").unlink()
    (folder / "link.csv").symlink_to(tmp_path / "outside")
    for kind in ("result", "file"):
        answer = client.get(f"{'/api/jobs' if kind == 'result' else '/job'}/{job.id}/{kind}/{name}")
        assert answer.status_code in (404, 308), name
        assert b"secret" not in answer.data


def test_files_are_handed_in(client: Any, app: flask.Flask) -> None:
    """As parts of a form beside the JSON; they are kept under names of our own."""
    parts: dict[str, Any] = {
        "job": json.dumps({"task": "pictures", "tags": ["album"]}),
        "files": [(io.BytesIO(b"one"), "../../one.png"), (io.BytesIO(b"two"), "two.png")],
    }
    answer = client.post("/api/jobs", data=parts, content_type="multipart/form-data")
    assert answer.status_code == 202, answer.text
    first, second = answer.json["arguments"]["files"]
    assert (first["name"], first["size"], second["size"]) == ("../../one.png", 3, 3)
    kept = sorted(path.read_bytes() for path in (store_of(app).folder / "uploads").iterdir())
    assert kept == [b"one", b"two"]
    parts = {"job": json.dumps({"task": "square", "arguments": {"n": 1}}), "n": (io.BytesIO(b"x"), "x")}
    answer = client.post("/api/jobs", data=parts, content_type="multipart/form-data")
    assert (answer.status_code, set(error_of(answer)["fields"])) == (422, {"n"})


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"job": '{"task": "pictures"}', "priority": "5"}, "priority"),
        ({"job": ['{"task": "pictures"}', '{"task": "square"}']}, "job"),
        ({"job": '{"task": "pictures", "arguments": {"files": []}}', "files": (io.BytesIO(b"x"), "x")}, "files"),
        ({"job": '{"arguments": {}}'}, "task"),
    ],
)
def test_no_part_of_a_form_is_dropped_without_a_word(
    client: Any, app: flask.Flask, parts: dict[str, Any], named: str
) -> None:
    answer = client.post("/api/jobs", data=parts, content_type="multipart/form-data")
    assert (answer.status_code, set(error_of(answer)["fields"])) == (422, {named})
    assert store_of(app).counts().total == 0


def test_the_same_key_with_the_same_file_is_the_same_job(client: Any, app: flask.Flask) -> None:
    """A program whose answer was lost sends the file once more; another file, or another name, is another job."""

    def post(data: bytes, name: str = "a.png") -> Any:
        parts: dict[str, Any] = {"job": json.dumps({"task": "pictures"}), "files": [(io.BytesIO(data), name)]}
        headers = {"Idempotency-Key": "one"}
        return client.post("/api/jobs", data=parts, content_type="multipart/form-data", headers=headers)

    first, again = post(b"x" * 100_000), post(b"x" * 100_000)
    assert (first.status_code, again.status_code, again.headers["Idempotent-Replayed"]) == (202, 202, "true")
    assert first.json["id"] == again.json["id"]
    assert [post(b"y" * 100_000).status_code, post(b"x" * 100_000, "b.png").status_code] == [409, 409]
    assert store_of(app).counts().total == 1


NAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "a\0b.png",
    "x" * 300,
    "..",
    "",
    "\u202egnp.exe",
    "<script>.png",
    "same",
    "same",
]


def test_names_of_files_are_shown_and_never_used(client: Any, app: flask.Flask) -> None:
    """Whatever they are called, and two of one name are two files."""
    files = [(io.BytesIO(str(number).encode()), name) for number, name in enumerate(NAMES)]
    parts: dict[str, Any] = {"job": json.dumps({"task": "pictures"}), "files": files}
    answer = client.post("/api/jobs", data=parts, content_type="multipart/form-data")
    assert answer.status_code == 202, answer.text
    kept = answer.json["arguments"]["files"]
    folder = store_of(app).folder / "uploads"
    assert {each["upload"] for each in kept} == {path.name for path in folder.iterdir()}
    assert sorted((folder / each["upload"]).read_text() for each in kept) == list("0123456789")[: len(kept)]
    assert all(len(each["name"]) <= 255 for each in kept) and [each["name"] for each in kept][-2:] == ["same", "same"]
    page = client.get(f"/job/{answer.json['id']}")
    assert page.status_code == 200 and b"<script>.png" not in page.data


# What werkzeug had of a body that was cut off is left to the collector.
@pytest.mark.filterwarnings("ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning")
def test_files_that_do_not_arrive_or_fit_are_not_kept(
    client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too large, cut off on the way, or without room on the disk: a refusal each, and nothing is left."""
    folder = store_of(app).folder / "uploads"

    def post(data: bytes, **more: Any) -> Any:
        parts: dict[str, Any] = {"job": json.dumps({"task": "pictures"}), "files": [(io.BytesIO(data), "a.png")]}
        return client.post("/api/jobs", data=parts, content_type="multipart/form-data", **more)

    app.extensions["allcores"].settings = dataclasses.replace(app.extensions["allcores"].settings, max_upload=100_000)
    assert post(b"x" * 200_000).status_code == 413
    job = json.dumps({"task": "pictures", "arguments": {"files": []}}).encode()
    body = b'--b\r\nContent-Disposition: form-data; name="job"\r\n\r\n' + job + b"\r\n"
    body += b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + b"x" * 50_000
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "90000"}
    answer = client.post("/api/jobs", input_stream=io.BytesIO(body), headers=headers)
    assert answer.status_code in (400, 422), answer.text

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("allcores.jobs.uploads.os.fsync", full)
    answer = post(b"x")
    assert (answer.status_code, error_of(answer)["code"]) == (507, "store_full")
    assert not folder.exists() or list(folder.iterdir()) == []
    assert store_of(app).counts().total == 0


def test_who_asks_again_costs_two_numbers(client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that has not changed is not read again, and one that has is."""
    submit(client)
    first = client.get("/api/jobs?state=queued")
    kept = JobStore.page

    def unread(*_: object, **__: object) -> Any:
        raise AssertionError("the list was read")

    monkeypatch.setattr(JobStore, "page", unread)
    again = client.get("/api/jobs?state=queued", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    # Also where a proxy that compresses has made the tag a weak one.
    weak = {"If-None-Match": f"W/{first.headers['ETag']}"}
    assert client.get("/api/jobs?state=queued", headers=weak).status_code == 304
    monkeypatch.setattr(JobStore, "page", kept)
    for path in ("/api/jobs?state=failed", "/api/jobs?state=queued&limit=1"):
        assert client.get(path, headers={"If-None-Match": first.headers["ETag"]}).status_code == 200
    submit(client)
    changed = client.get("/api/jobs?state=queued", headers={"If-None-Match": first.headers["ETag"]})
    assert (changed.status_code, len(changed.json["jobs"])) == (200, 2)


# --- for monitors ---


def test_a_probe_without_a_token_is_told_no_more_than_well_or_not(tmp_path: Path) -> None:
    """Where that is asked for; elsewhere it is 401, see the crawl."""
    with console(tmp_path, ALLCORES_OPEN_HEALTH=True) as app:
        probe: Any = app.test_client()
        well = probe.get("/healthz", headers={"Host": "10.0.0.7:8321"})
        assert (well.status_code, well.json) == (200, {"status": "ok"})
        assert "supervisor" in probe.get("/healthz", headers=bearer()).json
        # A token by a name of this server that is not known tells no more either; a wrong one is refused.
        assert probe.get("/healthz", headers={"Host": "evil.example", **bearer()}).json == {"status": "ok"}
        assert probe.get("/healthz", headers=bearer("wrong")).status_code == 401
        assert {probe.get(path).status_code for path in ("/", "/metrics", "/api/jobs", "/healthz/")} == {401}
        store = Path(store_of(app).name)
        store.rename(store.with_suffix(".away"))
        ill = probe.get("/healthz")
        assert (ill.status_code, ill.json) == (503, {"status": "failing"})
        assert "removed" in probe.get("/healthz", headers=bearer()).json["store"]
        store.with_suffix(".away").rename(store)


def test_health_and_metrics(client: Any, app: flask.Flask) -> None:
    submit(client)
    ended(store_of(app), State.FAILED, task="anything", arguments={})
    health = client.get("/healthz")
    assert (health.status_code, health.json["status"], health.json["supervisor"]["alive"]) == (200, "ok", False)
    text = client.get("/metrics").text
    assert 'allcores_jobs{task="square",state="queued"} 1\n' in text
    assert 'allcores_jobs{task="anything",state="failed"} 1\n' in text
    assert "allcores_supervisor_up 0\n" in text
    with store_of(app).become_supervisor():
        assert client.get("/healthz").json["supervisor"]["alive"] is True
    assert client.get("/api/counts").json["by_state"]["failed"] == 1


def test_a_store_that_is_gone_is_told(client: Any, app: flask.Flask) -> None:
    """Nothing is made anew in its place, health is red, and a submission is not taken."""
    submit(client)
    store = store_of(app)
    path = store.folder.parent / "jobs.sqlite"
    moved = path.rename(path.with_name("moved.sqlite"))
    assert client.get("/healthz").status_code == 503
    answer = submit(client)
    assert answer.status_code == 503
    error_of(answer)
    assert not path.exists()
    moved.rename(path)
    assert client.get("/healthz").status_code == 200
    assert submit(client).status_code == 202


def test_secrets_are_left_out(client: Any, app: flask.Flask) -> None:
    """At any depth, in the API and on pages."""
    body = {
        "task": "secretive",
        "arguments": {"api_token": "hunter2", "options": {"dbPassword": "hunter2", "author": "Ada"}},
    }
    answer = client.post("/api/jobs", json=body)
    assert answer.json["arguments"] == {"api_token": "(hidden)", "options": {"dbPassword": "(hidden)", "author": "Ada"}}
    job_id = answer.json["id"]
    for path in (f"/api/jobs/{job_id}", "/api/jobs", f"/job/{job_id}", "/list", f"/submit/secretive?like={job_id}"):
        text = client.get(path).text
        assert "hunter2" not in text, path
        assert "Ada" in text, path
    for words, found in (("hunt", 0), ('token":"h', 0), ("ada", 1)):
        assert len(client.get("/api/jobs", query_string={"q": words}).json["jobs"]) == found, words
        page = client.get("/list", query_string={"q": words}).text
        assert (f"/job/{job_id}" in page, "Cancel all 1" in page) == (found == 1, found == 1), words


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"arguments": {"wrong": 1}}, 422),
        ({"priority": "high"}, 422),
        ({"webhook": "ftp://x"}, 422),
        ({"key": "taken"}, 409),
        ({"key": "the same"}, 202),
    ],
)
def test_files_that_no_job_names_are_not_kept(
    client: Any, app: flask.Flask, change: dict[str, Any], status: int
) -> None:
    """Programs send again what was refused, and what they had no answer to: each copy would lie there for a day."""
    kept = store_of(app).folder / "uploads"

    def post(data: bytes, **more: Any) -> Any:
        parts: dict[str, Any] = {"job": json.dumps({"task": "pictures", **more}), "files": [(io.BytesIO(data), "a")]}
        return client.post("/api/jobs", data=parts, content_type="multipart/form-data")

    named = {post(b"y", key="taken").json["arguments"]["files"][0]["upload"]}
    named.add(post(b"x", key="the same").json["arguments"]["files"][0]["upload"])
    assert [post(b"x", **change).status_code for _ in range(2)] == [status] * 2
    assert {path.name for path in kept.iterdir()} == named


def test_files_stay_where_a_job_may_have_been_committed(
    client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of a store is gone in the moment of a commit; one that is full has refused it."""
    kept = store_of(app).folder / "uploads"
    for error, left in ((StoreFull("no room"), 0), (StoreGone("no answer"), 2)):

        def submit(*given: Any, told: Exception = error, **more: Any) -> Any:
            raise told

        monkeypatch.setattr(JobStore, "submit", submit)
        parts: dict[str, Any] = {
            "job": json.dumps({"task": "pictures"}),
            "files": [(io.BytesIO(b"x"), "a"), (io.BytesIO(b"y"), "b")],
        }
        assert client.post("/api/jobs", data=parts, content_type="multipart/form-data").status_code in (503, 507)
        assert len(list(kept.iterdir())) == left


def test_of_many_files_none_is_kept_if_one_has_no_room(
    client: Any, app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store_of(app).folder / "uploads"
    written: list[int] = []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("allcores.jobs.uploads.os.fsync", full)
    monkeypatch.setattr("allcores.jobs.uploads.sync_folder", lambda folder: None)
    files = [(io.BytesIO(b"x"), "a"), (io.BytesIO(b"y"), "b")]
    parts: dict[str, Any] = {"job": json.dumps({"task": "pictures"}), "files": files}
    assert client.post("/api/jobs", data=parts, content_type="multipart/form-data").status_code == 507
    assert len(written) == 2 and list(kept.iterdir()) == []


@pytest.mark.parametrize(
    "head",
    ["", '; filename="a.txt"', "; name*=utf-8'latin-1'%FF", '; name=""; name="%0A"'],
    ids=["text", "file", "coded", "twice"],
)
def test_a_part_without_a_name_is_refused(client: Any, head: str) -> None:
    """However the library reads it: no 500, and no job."""
    parts = [f"Content-Disposition: form-data{head}", 'Content-Disposition: form-data; name="job"']
    texts = ["x", json.dumps({"task": "square", "arguments": {"number": 2}})]
    body = "".join(f"--b\r\n{part}\r\n\r\n{text}\r\n" for part, text in zip(parts, texts, strict=True)) + "--b--\r\n"
    answer = client.post("/api/jobs", data=body, content_type="multipart/form-data; boundary=b")
    assert answer.status_code in (400, 422), answer.text
    if head in ("", '; filename="a.txt"'):
        assert "has no name" in answer.text
