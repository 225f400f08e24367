"""The API on what a machine makes up from its own description: answers as described, and never an error of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.installed import needed
from tests.process.console import bearer, console, ended, store_of

needed("schemathesis")


@pytest.mark.slow
def test_answers_to_what_is_made_up(tmp_path: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    wanted = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    tried = 0
    with console(tmp_path) as app:
        ended(store_of(app), files={"a.csv": b"1"})
        schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app, headers=bearer())
        for result in schema.get_all_operations():
            operation = result.ok()

            @settings(max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy())
            def run(case: Any) -> None:
                nonlocal tried
                case.call_and_validate(headers=bearer(), checks=wanted)
                tried += 1

            run()
    assert tried > 50
