"""Who may do what in the console, and what a page elsewhere can make a browser do: nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient
from tests.process.console import TASKS, TOKEN, bearer, console, csrf_of, ended, logged_in, store_of
from werkzeug.exceptions import NotFound
from werkzeug.test import Client

from allcores.errors import UsageError
from allcores.jobs.model import JobError, State
from allcores.jobs.secret_values import is_secret
from allcores.web import Allcores, Role, User, check_address
from allcores.web.credentials import kept_secret
from allcores.web.routes import ROUTES
from allcores.web.security import MOST_WRONG
from allcores.web.settings import read_settings, trusted


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    with console(tmp_path) as made:
        yield made


def addresses(app: flask.Flask, job_id: str) -> list[tuple[str, str]]:
    """Each method and address of the app, with values for what varies."""
    values = {"job_id": job_id, "name": "a.csv", "task": "square", "what": "run", "filename": "console.css"}
    found = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: values[match[1]], rule.rule)
        found += [(method, path) for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})]
    assert len(found) > 35
    return found


def test_without_a_token_there_is_nothing(app: flask.Flask) -> None:
    """Each address, with each method: 401 or 404, no word of what is behind it, and no cookie."""
    job = ended(store_of(app), files={"a.csv": b"behind"})
    before = store_of(app).change_number()
    for method, path in [
        *addresses(app, job.id),
        ("GET", "/nothing"),
        ("GET", f"/job/{job.id}/cancel"),
        ("OPTIONS", "/api/jobs"),
    ]:
        answer = app.test_client().open(path, method=method)
        assert answer.status_code in (401, 404), (method, path)
        assert "Set-Cookie" not in answer.headers
        assert b"behind" not in answer.data
    for header in (
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "allcores_console=admin|1|x"},
    ):
        assert app.test_client().get("/api/jobs", headers=header).status_code == 401
    assert store_of(app).change_number() == before


def test_each_role_may_do_what_it_may(app: flask.Flask) -> None:
    """A viewer changes nothing, whichever address is asked; an operator does not delete."""
    job = ended(store_of(app), State.FAILED)
    before = store_of(app).change_number()
    for method, path in addresses(app, job.id):
        if method == "GET" or path in ("/login", "/logout"):
            continue
        answer = app.test_client().open(path, method=method, headers=bearer("veras-token"))
        assert answer.status_code == 403, (method, path)
    assert store_of(app).change_number() == before
    vera = logged_in(app, "veras-token")
    for page in ("/", "/list", f"/job/{job.id}", "/submit", "/audit"):
        text = vera.get(page).text
        assert re.findall(r'<form method="post" action="([^"]*)"', text) == ["/logout"], page
    operator = bearer("olgas-token")
    assert app.test_client().post(f"/job/{job.id}/delete", headers=operator).status_code == 403
    assert app.test_client().post("/bulk", data={"what": "delete", "id": job.id}, headers=operator).status_code == 403
    assert app.test_client().post("/undo", data={"what": "delete", "audit": "1"}, headers=operator).status_code == 403
    assert app.test_client().post(f"/api/jobs/{job.id}/retry", headers=operator).status_code == 202
    assert store_of(app).audit()[0].by == "olga"


def test_get_changes_nothing(app: flask.Flask) -> None:
    """The admin opens every address there is, also those that only take forms."""
    job = ended(store_of(app), State.FAILED, files={"a.csv": b"1"})
    before = store_of(app).change_number()
    for _, path in addresses(app, job.id):
        answer = app.test_client().get(path, headers=bearer())
        assert answer.status_code in (200, 404, 405), path
        answer.close()
    assert store_of(app).change_number() == before
    answer = app.test_client().get(f"/api/jobs/{job.id}/retry", headers=bearer())
    assert (answer.status_code, answer.headers["Allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize(("token", "role"), [("veras-token", Role.VIEWER), ("olgas-token", Role.OPERATOR)])
def test_each_address_is_for_who_may_ask_it(app: flask.Flask, token: str, role: Role) -> None:
    """Crawled: what needs more than a user's role is refused, whatever is sent along, and the rest is not."""
    job = ended(store_of(app), State.FAILED)
    needed = {(method, f"allcores.{route.endpoint}"): route.role for route in ROUTES for method in route.methods}
    seen = set()
    for method, path in addresses(app, job.id):
        with app.test_request_context(path, method=method) as context:
            endpoint = context.request.endpoint
        wanted = needed.get((method, endpoint or ""), Role.VIEWER)
        if wanted is None:
            continue
        before = store_of(app).change_number()
        for headers in (bearer(token), {**bearer(token), "X-HTTP-Method-Override": "POST", "X-CSRF-Token": "x"}):
            answer = app.test_client().open(path, method=method, headers=headers)
            assert (answer.status_code == 403) == (wanted > role), (method, path, answer.status_code)
            answer.close()
        if wanted > role or method == "GET":
            assert store_of(app).change_number() == before, (method, path)
        seen.add(wanted)
    assert seen == set(Role)


def test_routes_that_change_something_need_a_role() -> None:
    assert {route.endpoint for route in ROUTES if "POST" in route.methods and (route.role or 0) < Role.OPERATOR} == {
        "login", "logout",
    }  # fmt: skip


# --- tokens and cookies ---


def test_a_token_in_the_address_becomes_a_cookie(app: flask.Flask) -> None:
    """As with Jupyter: once, then it is out of the address, and no script can read the cookie."""
    client = app.test_client()
    answer = client.get(f"/list?state=failed&token={TOKEN}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/list?state=failed")
    (cookie,) = answer.headers.getlist("Set-Cookie")
    for part in ("HttpOnly", "SameSite=Lax", "Path=/"):
        assert part in cookie
    assert TOKEN not in cookie
    assert client.get("/list").status_code == 200
    # programs send a header: an address with a token would be written to logs
    assert app.test_client().get(f"/api/jobs?token={TOKEN}").status_code == 401
    assert app.test_client().get("/?token=wrong").status_code == 401
    assert app.test_client().get(f"//example.org/?token={TOKEN}").headers.get("Location", "/").startswith("/")
    client.post("/logout", data={"_csrf": csrf_of(client)})
    assert client.get("/list").status_code == 401


def test_cookies_cannot_be_made_up_or_moved(app: flask.Flask) -> None:
    client = logged_in(app, "veras-token")
    cookie = client.get_cookie("allcores_console")
    assert cookie is not None
    name, issued, signature = cookie.decoded_value.split("|")
    for forged in (
        f"admin|{issued}|{signature}",
        f"{name}|{int(issued) + 1}|{signature}",
        f"{name}|{issued}|",
        "admin",
        "||",
        "é|1|x",
    ):
        other = app.test_client()
        other.set_cookie("allcores_console", forged)
        assert other.get("/").status_code == 401, forged


def mounted(app: flask.Flask, path: str) -> Any:
    """The app below a path, and nothing beside it."""

    def answer(environ: dict[str, Any], start: Any) -> Any:
        if not environ["PATH_INFO"].startswith(f"{path}/"):
            return NotFound()(environ, start)
        rest = environ["PATH_INFO"].removeprefix(path)
        return app.wsgi_app({**environ, "SCRIPT_NAME": path, "PATH_INFO": rest}, start)

    return answer


@pytest.mark.parametrize("prefix", ["", "/jobs"])
def test_an_app_that_is_mounted_below_a_path(tmp_path: Path, prefix: str) -> None:
    """Or behind a proxy that takes a part of the path off: a browser gets in, stays below it, and out again."""
    with console(tmp_path, ALLCORES_URL_PREFIX=prefix) as app:
        job = ended(store_of(app), State.FAILED)
        here = f"/shop{prefix}"
        browser: Any = Client(mounted(app, "/shop"))
        page = browser.get(f"{here}/list?state=failed")
        assert (page.status_code, f'value="{here}/list?state=failed"' in page.text) == (401, True)
        answer = browser.post(f"{here}/login", data={"token": TOKEN, "next": f"{here}/list?state=failed"})
        assert answer.headers["Location"] == f"{here}/list?state=failed"
        assert f"Path={here};" in answer.headers["Set-Cookie"] + ";"
        page = browser.get(answer.headers["Location"])
        assert page.status_code == 200
        found = re.search(r'name="_csrf" value="([0-9a-f]+)"', page.text)
        back = re.search(r'name="back" value="([^"]+)"', page.text)
        assert found is not None and back is not None
        data = {"_csrf": found[1], "what": "retry", "id": job.id, "back": back[1]}
        assert browser.post(f"{here}/bulk", data=data).headers["Location"].startswith(f"{here}/list?state=failed&did=")
        assert browser.get(f"{here}/api/openapi.json", headers=bearer()).json["servers"] == [{"url": here}]
        # Not to http://, which a server that ends TLS may not even answer.
        answer = browser.get(f"{here}/api//jobs?state=failed&q=a%20b", headers=bearer())
        assert (answer.status_code, answer.headers["Location"]) == (308, f"{here}/api/jobs?state=failed&q=a%20b")
        browser.post(f"{here}/logout", data={"_csrf": found[1]})
        assert browser.get(f"{here}/").status_code == 401
        answer = browser.get(f"{here}/?token={TOKEN}")
        assert (answer.headers["Location"], browser.get(f"{here}/").status_code) == (f"{here}/", 200)


def test_the_form_for_a_token(app: flask.Flask) -> None:
    client = app.test_client()
    page = client.get("/list?state=failed")
    assert page.status_code == 401
    assert 'value="/list?state=failed"' in page.text
    again = client.post("/login", data={"token": "wrong", "next": "/list?state=failed"})
    assert (again.status_code, 'value="/list?state=failed"' in again.text) == (401, True)
    answer = client.post("/login", data={"token": TOKEN, "next": "/list?state=failed"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/list?state=failed")
    for elsewhere in ("https://example.org/", "//example.org", "/\\example.org", "javascript:alert(1)", "/\n/x"):
        answer = app.test_client().post("/login", data={"token": TOKEN, "next": elsewhere})
        assert answer.headers["Location"] == "/"


def test_who_guesses_is_told_to_wait_and_a_right_token_is_let_in(app: flask.Flask) -> None:
    """All users may have one address, that of a proxy: one program with an old token is not to keep out the others."""
    inside = logged_in(app)
    for _ in range(MOST_WRONG):
        assert app.test_client().get("/api/jobs", headers=bearer("guess")).status_code == 401
    answer: Any = app.test_client().get("/api/jobs", headers=bearer("guess"))
    assert (answer.status_code, answer.json["error"]["code"]) == (429, "too_many_wrong_tokens")
    assert 0 < int(answer.headers["Retry-After"]) <= 61
    assert app.test_client().get("/api/jobs", headers=bearer()).status_code == 200
    assert app.test_client().post("/login", data={"token": TOKEN}).status_code == 303
    assert app.test_client().get(f"/?token={TOKEN}").status_code == 303
    assert inside.get("/").status_code == 200
    other = {"REMOTE_ADDR": "10.0.0.7"}
    assert app.test_client().get("/api/jobs", headers=bearer("guess"), environ_base=other).status_code == 401


def test_a_token_that_nobody_gave_is_kept_beside_the_store(tmp_path: Path) -> None:
    """For this user alone, the same for all processes; one that others may read is not trusted."""
    first, again = kept_secret(tmp_path), kept_secret(tmp_path)
    assert first == again
    assert len(first) >= 40
    path = tmp_path / "console-secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["console-secret"]
    path.chmod(0o644)
    with pytest.raises(UsageError, match="not this user's alone"):
        kept_secret(tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_other_addresses_need_a_token_of_ones_own(host: str) -> None:
    with pytest.raises(UsageError, match="other machines"):
        check_address(host, [])
    with pytest.raises(UsageError, match="at least 16"):
        check_address(host, ["short"])
    check_address(host, ["long-enough-for-a-network"])
    for local in ("127.0.0.1", "localhost", "::1", "[::1]"):
        check_address(local, [])


# --- requests from elsewhere ---


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Origin": "http://localhost:8000"},
        {"Origin": "http://["},
        {"Origin": "http://[::1"},
    ],
)
def test_a_page_elsewhere_cannot_send_forms(app: flask.Flask, headers: dict[str, str]) -> None:
    """Not even with the right token in the form."""
    client = logged_in(app)
    token = csrf_of(client)
    job = ended(store_of(app), State.FAILED)
    answer = client.post(f"/job/{job.id}/retry", data={"_csrf": token}, headers=headers)
    assert answer.status_code == 403
    assert store_of(app).get(job.id) == job
    answer = client.post(
        f"/job/{job.id}/retry",
        data={"_csrf": token},
        headers={"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    )
    assert answer.status_code == 303


def test_a_proxy_that_passes_on_the_host_without_its_port(app: flask.Flask) -> None:
    """As with nginx's `$host`: the browser's word that a form is of this site counts, and the form's token as ever."""
    client = app.test_client()
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": "https://localhost:8443"}
    assert client.post("/login", data={"token": TOKEN}, headers=headers).status_code == 303
    job = ended(store_of(app), State.FAILED)
    assert client.post(f"/job/{job.id}/retry", data={"_csrf": "x"}, headers=headers).status_code == 403
    token = csrf_of(client)
    assert client.post(f"/job/{job.id}/retry", data={"_csrf": token}, headers=headers).status_code == 303


@pytest.mark.parametrize("place", ["http://[", "//[", "/\\[", "https://example.org/", "//example.org", "javascript:x"])
def test_a_form_leads_nowhere_else(app: flask.Flask, place: str) -> None:
    """Nor is its action done, and then answered with an error, because the way back cannot be read."""
    client = logged_in(app)
    token = csrf_of(client)
    job = ended(store_of(app), State.FAILED)
    data = {"_csrf": token, "what": "retry", "id": job.id, "back": place}
    answer = client.post("/bulk", data=data)
    assert (answer.status_code, answer.headers["Location"].split("?")[0]) == (303, "/list")


def test_forms_without_their_token(app: flask.Flask) -> None:
    """Missing, wrong, or another user's; also for the JSON API, when a browser's cookie asks."""
    client, other = logged_in(app), logged_in(app, "olgas-token")
    job = ended(store_of(app), State.FAILED)
    for data in ({}, {"_csrf": ""}, {"_csrf": "0" * 64}, {"_csrf": csrf_of(other)}):
        assert client.post(f"/job/{job.id}/retry", data=data).status_code == 403
        assert (
            client.post(f"/api/jobs/{job.id}/retry", headers={"X-CSRF-Token": data.get("_csrf", "")}).status_code == 403
        )
    assert client.post("/api/jobs", json={"task": "square", "arguments": {"n": 1}}).status_code == 403
    assert store_of(app).get(job.id) == job
    assert client.post(f"/api/jobs/{job.id}/retry", headers={"X-CSRF-Token": csrf_of(client)}).status_code == 202


def test_names_that_lead_here_from_elsewhere(app: flask.Flask) -> None:
    """A page of another site whose name was made to mean this machine is refused, token or not."""
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example"):
        answer = app.test_client().get("/api/jobs", headers={**bearer(), "Host": host})
        assert answer.status_code == 400, host
    for host in ("localhost", "127.0.0.1:8321", "[::1]:8321", "LOCALHOST"):
        assert app.test_client().get("/api/jobs", headers={**bearer(), "Host": host}).status_code == 200, host
    assert trusted("a.example.org", (".example.org",))
    assert not trusted("aexample.org", (".example.org",))


def test_names_that_flask_itself_refuses(tmp_path: Path) -> None:
    """With `TRUSTED_HOSTS`, as the page on proxies says: one sentence, no 500; a probe is told whether all is well."""
    elsewhere = {"Host": "10.0.0.7:8321"}
    hosts = ["shop.example.org"]
    with console(tmp_path, TRUSTED_HOSTS=hosts, ALLCORES_OPEN_HEALTH=True, ALLCORES_URL_PREFIX="/jobs") as app:
        client: Any = app.test_client()
        for path in ("/jobs/", "/jobs/list", "/jobs/nothing", "/jobs/api/jobs", "/jobs/static/console.css"):
            answer = client.get(path, headers={**bearer(), **elsewhere})
            assert answer.status_code == 400, path
            assert "add it to TRUSTED_HOSTS" in answer.text
        assert client.get("/", headers=elsewhere).status_code == 400
        well = client.get("/jobs/healthz", headers=elsewhere)
        assert (well.status_code, well.json) == (200, {"status": "ok"})
        assert client.get("/jobs/healthz", headers={**elsewhere, **bearer()}).json == {"status": "ok"}
        assert client.post("/jobs/healthz", headers=elsewhere).status_code == 400
        assert client.get("/jobs/", headers={"Host": "shop.example.org", **bearer()}).status_code == 200
    with console(tmp_path / "closed", TRUSTED_HOSTS=hosts) as app:
        assert app.test_client().get("/healthz", headers=elsewhere).status_code == 400


# --- what is shown ---

EVIL = '<script>alert(1)</script><img src=x onerror=alert(2)>" onmouseover="alert(3)\' {{ 123456789*9 }} \u202e'


def test_values_are_text_and_nothing_else(app: flask.Flask) -> None:
    """In arguments, results, errors, names of files, tags, and in what is typed into filters."""
    store = store_of(app)
    error = JobError(EVIL, EVIL, EVIL, EVIL)
    ids = [
        ended(
            store,
            task="anything",
            arguments={"value": {EVIL: EVIL}},
            result=EVIL,
            files={"x' onclick='y.html": b"<script>"},
        ).id,
        ended(
            store, State.FAILED, task="anything", arguments={"value": EVIL}, error=error, tags=("javascript:alert(1)",)
        ).id,
    ]
    client = logged_in(app)
    pages = ["/", "/list", "/failed", "/audit", f"/list?q={EVIL}", "/list?tag=javascript:alert(1)", f"/nothing/{EVIL}"]
    pages += [f"/job/{each}" for each in ids] + [f"/submit/anything?like={each}" for each in ids]
    for page in pages:
        answer = client.get(page)
        text = answer.text
        assert "<img src=x" not in text, page
        assert "<script>alert" not in text, page
        assert "1111111101" not in text, page
        assert not re.search(r"<[^>]*\son\w+=", re.sub(r'"[^"]*"', '""', text)), page
        assert not re.search(r'(?:href|src|action)="\s*javascript:', text), page
        nonces = set(re.findall(r'<script nonce="([^"]+)"', text))
        policy = answer.headers["Content-Security-Policy"]
        assert all(f"'nonce-{nonce}'" in policy for nonce in nonces)
        assert len(re.findall("<script", text)) == len(re.findall(r"<script nonce=", text))


def test_headers_of_each_answer(app: flask.Flask) -> None:
    job = ended(store_of(app), files={"page.html": b"<script>alert(1)</script>"})
    client = logged_in(app)
    nonces = set()
    for path in (
        "/",
        "/list",
        f"/job/{job.id}",
        "/api/jobs",
        "/static/console.css",
        "/nothing",
        "/healthz",
        f"/job/{job.id}/file/page.html",
    ):
        answer = client.get(path)
        headers = answer.headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
        nonces |= set(re.findall("'nonce-([^']+)'", headers["Content-Security-Policy"]))
        answer.close()
    assert len(nonces) == 7  # each answer its own; the file has none
    # a file that is a page comes as a download, and may run nothing if it is opened all the same
    answer = client.get(f"/job/{job.id}/file/page.html")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    answer.close()


@pytest.mark.parametrize(
    "name", ["password", "db_password", "apiKey", "API_KEY", "authToken", "client_secret", "Authorization", "tokens"]
)
def test_names_of_secrets(name: str) -> None:
    pattern = read_settings({**_defaults(), "ALLCORES_SECRET_NAMES": ["codeword"]}).secret
    assert is_secret(name, pattern)
    assert is_secret("my_codeword", pattern)
    for other in ("author", "pinned", "tokenize_text", "key", "n", "passage", "secretary"):
        assert not is_secret(other, pattern), other


@pytest.mark.parametrize("names", ["salary", "iban, salary", ["iban", "salary"]])
def test_names_of_secrets_from_the_environment(names: object) -> None:
    """One text is one name, or several, and not its letters."""
    pattern = read_settings({**_defaults(), "ALLCORES_SECRET_NAMES": names}).secret
    assert is_secret("salary", pattern)
    assert not any(is_secret(other, pattern) for other in ("s", "a", "y"))


def _defaults() -> dict[str, object]:
    app = flask.Flask("x")
    Allcores(app)
    return dict(app.config)


# --- as a part of an app ---


def test_the_app_may_say_who_is_who(tmp_path: Path) -> None:
    """Users of its own login; a token is not needed then, and forms carry what is theirs."""

    def who(request: flask.Request) -> User | None:
        name = request.headers.get("X-User")
        return User(name, Role.OPERATOR if name == "olga" else Role.VIEWER) if name else None

    with console(tmp_path, ALLCORES_AUTHORIZE=who, ALLCORES_TOKENS=None, ALLCORES_TOKEN=None) as app:
        client: FlaskClient = app.test_client()
        assert client.get("/").status_code == 401
        client.environ_base["HTTP_X_USER"] = "olga"
        token = csrf_of(client)
        assert client.post("/submit/square", data={"argument.n": "3"}).status_code == 403
        assert client.post("/submit/square", data={"argument.n": "3", "_csrf": token}).status_code == 303
        (job,) = store_of(app).page().jobs
        assert job.submitted_by == "olga"
        client.environ_base["HTTP_X_USER"] = "vera"
        assert client.post("/submit/square", data={"argument.n": "3", "_csrf": csrf_of(client)}).status_code == 403


async def who_is_it(request: flask.Request) -> None:
    """No function that a page could ask."""


def test_settings_that_make_no_sense() -> None:
    for key, value, part in (
        ("ALLCORES_URL_PREFIX", "jobs", "begins with a slash"),
        ("ALLCORES_TOKEN", "", "printable"),
        ("ALLCORES_TOKENS", {"x": "y"}, "dictionary"),
        ("ALLCORES_TOKENS", {"x": {"token": "t", "role": "boss"}}, "viewer, operator or admin"),
        ("ALLCORES_MAX_BODY_BYTES", "1", "a number"),
        ("ALLCORES_AUTHORIZE", "me", "a function"),
        ("ALLCORES_AUTHORIZE", who_is_it, "is async, a call of it does nothing by itself"),
        ("ALLCORES_TOKEN", 123, "put quotes around it"),
        ("ALLCORES_TOKEN", "secret ", "without blanks"),
        ("ALLCORES_TOKENS", ["x"], "is a dictionary"),
        ("ALLCORES_TOKENS", {"x": {"token": "from a file\n", "role": "viewer"}}, "without blanks"),
        ("ALLCORES_OPEN_HEALTH", "False", "true or false"),
        ("ALLCORES_SECURE_COOKIE", "no", "True or False"),
        ("ALLCORES_ALLOW_NETWORK_FILES", 2, "True or False"),
    ):
        app = flask.Flask("x")
        app.config[key] = value
        with pytest.raises(UsageError, match=part):
            Allcores(app, tasks=TASKS)
