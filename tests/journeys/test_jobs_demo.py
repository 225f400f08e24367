"""`make web`: the four tasks of examples/jobs, their pages, and the article's /start and /result."""

from __future__ import annotations

import io
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import ROOT
from tests.installed import installed
from tests.journeys.serving_jobs import TOKEN, Server, started
from tests.process.waiting import PATIENCE_S, wait_until

pytest.importorskip("flask")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is for Linux")]


@contextmanager
def demonstrating(tmp_path: Path) -> Iterator[Server]:
    """What `make web` starts."""
    made = re.search(r"-m allcores serve (\S+) --app (\S+) ", (ROOT / "Makefile").read_text())
    assert made is not None
    folder = ROOT / "examples/jobs"
    tasks, app = str(folder / made[1]), str(folder / made[2])
    command = [
        "-m",
        "allcores",
        "serve",
        tasks,
        "--app",
        app,
        "--store",
        "jobs.sqlite",
        "--port",
        "0",
        "--token",
        TOKEN,
    ]
    with started(command, tmp_path, r"http://127\.0\.0\.1:(\d+)/jobs/\?token=") as server:
        yield server


def page(server: Server, path: str, form: dict[str, Any] | None = None, **headers: str) -> tuple[int, str, str]:
    """Status, text and final address, as a browser gets them."""
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    sent = {"Accept": "text/html", **{key.replace("_", "-"): value for key, value in headers.items()}}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(server.address + path, data, sent), timeout=PATIENCE_S
        ) as answer:
            return answer.status, answer.read().decode(), answer.url
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.url or ""


def submit(server: Server, task: str, **arguments: Any) -> str:
    status, job, _ = server.ask("/jobs/api/jobs", {"task": task, "arguments": arguments})
    assert status == 202, job
    return str(job["id"])


def ended(server: Server, job_id: str) -> dict[str, Any]:
    def job() -> dict[str, Any]:
        found: dict[str, Any] = server.ask(f"/jobs/api/jobs/{job_id}")[1]
        return found

    wait_until(lambda: job()["state"] not in ("queued", "running"))
    assert job()["state"] == "succeeded", (job(), server.log.read_text())
    return job()


def test_the_demo(tmp_path: Path) -> None:
    """All of it in one test: each start takes as long as the tasks."""
    with demonstrating(tmp_path) as demo:
        start_and_result_as_they_should_have_been(demo)
        tasks_that_use_all_cores(demo)
        if installed("PIL"):
            thumbnails_of_uploaded_pictures(demo)
    if not installed("PIL"):
        pytest.skip("the rest passed; for thumbnails Pillow is not installed")


def start_and_result_as_they_should_have_been(demo: Server) -> None:
    status, text, _ = page(demo, "/")
    assert status == 200
    assert 'action="/start"' in text
    status, text, address = page(demo, "/start", {"n": 1000})
    assert status == 200
    assert "/result/" in address
    job_id = address.rpartition("/")[2]
    wait_until(lambda: "succeeded" in page(demo, f"/result/{job_id}")[1])
    assert re.search(r"<b>168</b> primes below 1,000", page(demo, f"/result/{job_id}")[1])
    assert page(demo, "/start", {"n": "many"})[0] == 400
    assert page(demo, "/start", {"n": 10}, Sec_Fetch_Site="cross-site")[0] == 403
    assert page(demo, "/", Host="evil.example")[0] == 400
    assert page(demo, "/result/nothing")[0] == 404
    # Of the API, which was not told n: the task's default counts.
    job_id = submit(demo, "count_primes")
    assert ended(demo, job_id)["result"] == 9_592
    assert re.search(r"<b>9,592</b> primes below 100,000", page(demo, f"/result/{job_id}")[1])
    # a program
    request = urllib.request.Request(demo.address + "/start", b"n=100", {"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.status == 202
        told = json.loads(answer.read())
    assert demo.ask(told["status_url"])[1]["id"] == told["id"]


def tasks_that_use_all_cores(demo: Server) -> None:
    hashed = ended(demo, submit(demo, "hash_stream", records=200))
    assert hashed["result"]["records"] == 200
    assert {file["name"] for file in hashed["result_files"]} == {"hashes.jsonl"}
    status, text, _ = demo.ask(f"/jobs/api/jobs/{hashed['id']}/result/hashes.jsonl")
    assert (status, len(str(text).splitlines())) == (200, 200)

    measured = ended(demo, submit(demo, "measure_standard_library", modules=12))
    assert measured["result"]["modules"] + measured["result"]["not_python"] == 12
    assert len(measured["result"]["most_complex"]) <= 10
    text = page(demo, f"/result/{measured['id']}")[1]
    assert "lines of code" in text
    assert measured["result"]["most_complex"][0]["module"] in text


def thumbnails_of_uploaded_pictures(demo: Server) -> None:
    import PIL.Image as image

    pictures = []
    for color, size in (("red", (640, 320)), ("blue", (100, 400))):
        file = io.BytesIO()
        image.new("RGB", size, color).save(file, "PNG")
        pictures.append((f"../{color} <b>.png", file.getvalue()))
    pictures.append(("no picture.png", b"this is text"))
    edge = "----allcores-test"
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="job"\r\n\r\n'
        f"{json.dumps({'task': 'thumbnails', 'arguments': {'size': 64}})}\r\n".encode()
    ]
    for name, data in pictures:
        head = f'--{edge}\r\nContent-Disposition: form-data; name="pictures"; filename="{name}"\r\n'
        parts.append(head.encode() + b"Content-Type: image/png\r\n\r\n" + data + b"\r\n")
    body = b"".join(parts) + f"--{edge}--\r\n".encode()
    request = urllib.request.Request(
        demo.address + "/jobs/api/jobs",
        body,
        {"Content-Type": f"multipart/form-data; boundary={edge}", "Authorization": f"Bearer {TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        job_id = json.loads(answer.read())["id"]
    done = ended(demo, job_id)
    first, second, third = done["result"]
    assert (first["width"], first["height"]) == (64, 32)
    assert (second["width"], second["height"]) == (16, 64)
    assert "UnidentifiedImageError" in third["error"]
    names = {file["name"] for file in done["result_files"]}
    assert {first["file"], second["file"]} <= names
    request = urllib.request.Request(
        f"{demo.address}/jobs/api/jobs/{job_id}/result/{first['file']}", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert image.open(io.BytesIO(answer.read())).size == (64, 32)
    text = page(demo, f"/result/{job_id}")[1]
    assert "&lt;b&gt;" in text and "<b>.png" not in text
