"""A page that starts heavy work, as it should have been: `/start` hands a job over, `/result/<id>` shows its end.

    allcores serve examples/jobs/tasks.py --app examples/jobs/app.py:app       # what `make web` does

No pool, no thread and no future lives in this process: it may be killed, restarted or run eight times over.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from allcores.errors import UsageError
from allcores.web import Allcores

app = Flask(__name__)
app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]
app.config["ALLCORES_TASKS"] = "tasks"
app.config.from_prefixed_env()  # FLASK_ALLCORES_STORE, FLASK_ALLCORES_TOKEN, ...
jobs = Allcores(app)


@app.before_request
def only_from_our_own_pages() -> None:
    """A page of another site must not start work here: browsers say where a request comes from."""
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        abort(403)


@app.get("/")
def index() -> str:
    """The article's page: a form that starts a job."""
    return render_template("index.html")


@app.post("/start")
def start() -> Any:
    """Hand a job over. It is kept before the answer goes out, and nothing of it runs here."""
    try:
        n = int(request.form.get("n", "100000"))
        job = jobs.submit("count_primes", {"n": n})
    except (ValueError, UsageError) as error:
        return {"error": str(error)}, 400
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return redirect(url_for("result", job_id=job.id), 303)
    return {"id": job.id, "status_url": job.url, "result_url": url_for("result", job_id=job.id)}, 202


@app.get("/result/<job_id>")
def result(job_id: str) -> str | Response:
    """What became of a job, of any of the four tasks; the page looks again as long as the job is not at its end."""
    job = jobs.get(job_id)
    if job is None:
        abort(404)
    return render_template("result.html", job=job)
