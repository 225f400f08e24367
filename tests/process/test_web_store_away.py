"""What the console answers while the server of its store is away: when to ask again, and nothing that looks broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.process.console import bearer, console, store_of

from allcores.jobs.database import Database
from allcores.jobs.errors import StoreAway
from allcores.web.routes import GET, ROUTES

#: they need nothing of the store, or tell of it in their own way
WITHOUT = {"api_openapi", "api_tasks", "events", "healthz", "submit"}


@pytest.mark.parametrize("opened", [True, False])
def test_each_address_says_when_to_ask_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: bool) -> None:
    """Also if the store was never opened by this process."""

    def taken(database: Database) -> Any:
        raise StoreAway("the server of the store cannot be reached: connection refused")

    with console(tmp_path) as app:
        client: Any = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = bearer()["Authorization"]
        if opened:
            assert client.get("/").status_code == 200
        with monkeypatch.context() as patched:
            patched.setattr(Database, "_taken", taken)
            mine = [each for each in ROUTES if each.methods == GET and each.endpoint not in WITHOUT]
            rules = [each.rule for each in mine if "<" not in each.rule]
            assert len(rules) > 10
            for rule in rules:
                answer = client.get(rule)
                assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "5"), rule
                assert "annot be reached: connection refused" in answer.text
            answer = client.post("/api/jobs", json={"task": "square", "arguments": {"n": 3}})
            assert (answer.status_code, answer.json["error"]["code"]) == (503, "store_away")
            assert client.get("/healthz").status_code == 503
        assert client.post("/api/jobs", json={"task": "square", "arguments": {"n": 3}}).status_code == 202
        assert store_of(app).counts().total == 1
