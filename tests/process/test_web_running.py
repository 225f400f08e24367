"""The console and a supervisor that runs: what is submitted by JSON ends, shows its stack, and is cancelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.process.console import bearer, console, store_of
from tests.process.waiting import wait_until as until

from allcores.jobs.supervisor import Supervisor, run_in_thread


@pytest.mark.slow
def test_jobs_run_and_are_looked_at(tmp_path: Path) -> None:
    with console(tmp_path) as app:
        client: Any = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = bearer()["Authorization"]
        supervisor = Supervisor(store_of(app), app.extensions["allcores"].tasks, workers=1, grace=1.0)
        thread = run_in_thread(supervisor)
        try:
            first = client.post("/api/jobs", json={"task": "square", "arguments": {"n": 12}}).json["url"]
            done = until(lambda: (job := client.get(first).json)["state"] == "succeeded" and job)
            assert (done["result"], done["attempts"], done["crashes"]) == (144, 1, 0)
            busy = client.post("/api/jobs", json={"task": "busy", "arguments": {}}).json["url"]
            until(lambda: (client.get(busy).json["worker"] or {}).get("pid"))
            # it begins a moment after its process is known
            page = busy.replace("/api/jobs/", "/job/")
            text = until(
                lambda: (
                    (answer := client.post(f"{page}/stack")).status_code == 200
                    and "in busy" in answer.text
                    and answer.text
                )
            )
            assert "Of the job&#39;s process" in text or "Of the job's process" in text
            assert client.get("/healthz").json["supervisor"]["alive"] is True
            assert "allcores_supervisor_up 1" in client.get("/metrics").text
            assert client.post(f"{busy}/cancel").status_code == 202
            until(lambda: client.get(busy).json["state"] == "cancelled")
        finally:
            supervisor.stop(now=True)
            thread.join()
