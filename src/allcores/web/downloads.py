"""Files that jobs made: only those that their rows name, only from the job's own folder, and never shown as pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flask
from werkzeug.exceptions import NotFound
from werkzeug.http import parse_range_header
from werkzeug.wrappers import Response

from allcores.web import job_details
from allcores.web.api import found_job
from allcores.web.state import current


def result_file(job_id: str, name: str) -> Any:
    """A result file, whole or a range of it."""
    job = found_job(job_id)
    file = next((each for each in job.result_files if each.name == name), None)
    if file is None or "\0" in name:
        raise NotFound
    folder = Path(current().store.folder, "results", job.id)
    path = folder / name
    # A job may have put a link there: what it leads to is not the job's.
    if path.is_symlink() or folder.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
        raise NotFound
    _leave_other_ranges(flask.request)
    answer = flask.send_from_directory(
        folder, name, mimetype=file.media_type, as_attachment=True, download_name=name.rsplit("/", 1)[-1],
        conditional=True, max_age=0,
    )  # fmt: skip
    if answer.status_code == 304:
        # nothing is read from the file any more
        answer.close()
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    answer.headers["Cache-Control"] = "private, no-cache"
    answer.headers["Accept-Ranges"] = "bytes"
    return answer


def _leave_other_ranges(request: flask.Request) -> None:
    """A client gets the whole file if it asks for several ranges, in another unit, or for what is no range."""
    wanted = parse_range_header(request.headers.get("Range"))
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        request.environ.pop("HTTP_RANGE", None)


def timeline(job_id: str) -> Any:
    """Where the cores' time went in a job that maps: the report of its run."""
    job = found_job(job_id)
    text = job_details.timeline_page(current(), job)
    if text is None:
        raise NotFound
    answer = Response(text, content_type="text/html; charset=utf-8")
    answer.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; sandbox"
    )
    return answer
