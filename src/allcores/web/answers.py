"""Refusals and failures: one sentence each, as JSON for programs and as a page for people."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import Any

import flask
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from allcores.errors import UsageError
from allcores.jobs.errors import (
    ArgumentErrors,
    BadJob,
    KeyConflict,
    SchemaTooNew,
    StoreAway,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreGone,
    StoreReadOnly,
    TaskNotFound,
    TooLarge,
    UndoExpired,
)
from allcores.web.json_text import json_answer
from allcores.web.rendering import plain_page
from allcores.web.security import Refused
from allcores.web.state import current
from allcores.web.submitting import WrongFields

#: seconds after which a store that was locked, or away, may be asked again
RETRY_AFTER = 5

_BY_STATUS = {
    400: "bad_request",
    401: "no_credentials",
    403: "not_allowed",
    404: "not_found",
    405: "wrong_method",
    409: "conflict",
    413: "too_large",
    415: "wrong_content_type",
    416: "bad_range",
    422: "wrong_arguments",
}
_SENTENCES = {
    404: "There is nothing at this address.",
    405: "This address cannot be asked that way: see Allow.",
    413: "The body is too large.",
    416: "The file has no such range.",
    500: "Something went wrong here; the log of the server says what.",
}
_STORE: tuple[tuple[type[Exception], int, str], ...] = (
    (StoreBusy, 503, "store_busy"),
    (StoreFull, 507, "store_full"),
    (StoreReadOnly, 503, "store_read_only"),
    (StoreAway, 503, "store_away"),
    (StoreGone, 503, "store_gone"),
    (StoreDamaged, 503, "store_damaged"),
    (SchemaTooNew, 503, "store_too_new"),
    (StoreError, 503, "store_failed"),
    (KeyConflict, 409, "key_conflict"),
    (UndoExpired, 409, "undo_expired"),
    (TooLarge, 413, "too_large"),
    (TaskNotFound, 422, "unknown_task"),
    (BadJob, 422, "wrong_arguments"),
)


def problem(error: Exception) -> dict[str, Any] | None:
    """What is told of an error: status, code and message; None for one that is not for the caller."""
    if isinstance(error, Refused):
        return {"status": error.status, "code": error.code, "message": error.message, "wait": error.wait}
    if isinstance(error, ArgumentErrors):
        fields = {name: "; ".join(sentences) for name, sentences in error.fields.items()}
        return {"status": 422, "code": "wrong_arguments", "message": _sentence(str(error)), "fields": fields}
    if isinstance(error, WrongFields):
        return {"status": 422, "code": "wrong_fields", "message": _sentence(str(error)), "fields": error.fields}
    for kind, status, code in _STORE:
        if isinstance(error, kind):
            wait = RETRY_AFTER if kind in (StoreAway, StoreBusy) else None
            return {"status": status, "code": code, "message": _sentence(str(error)), "wait": wait}
    if isinstance(error, HTTPException):
        status = error.code or 500
        message = _SENTENCES.get(status) or error.description or error.name
        return {"status": status, "code": _BY_STATUS.get(status, "error"), "message": message}
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return {"status": 507, "code": "no_room", "message": no_room(error)}
    if isinstance(error, UsageError):
        return {"status": 503, "code": "not_set_up", "message": _sentence(str(error))}
    return None


def no_room(error: OSError) -> str:
    """What is told of a disk that is full: large bodies wait in temporary files, which have no name of their own."""
    named = isinstance(error.filename, str | bytes) and error.filename  # or it is a descriptor, or none
    where = f"for {os.path.basename(os.fsdecode(error.filename))}" if named else f"in {tempfile.gettempdir()}"
    return f"There is no room {where} on the server: {error.strerror or error}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def error_answer(error: Exception) -> Response:
    """The response for an error that `problem` knows, or for any other."""
    if isinstance(error, HTTPException) and error.response is not None:
        return flask.make_response(error.response)
    found = problem(error) or {"status": 500, "code": "error", "message": _SENTENCES[500]}
    answer = _as_json(found) if for_programs() else _as_page(found)
    if isinstance(error, HTTPException) and (allowed := getattr(error, "valid_methods", None)):
        answer.headers["Allow"] = ", ".join(sorted(allowed))
    if found["status"] == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if found.get("wait"):
        answer.headers["Retry-After"] = str(found["wait"])
    return answer


def for_programs() -> bool:
    """Whether a program asks: then errors are JSON."""
    path = flask.request.path[len(current().settings.prefix) :]
    return path.startswith(("/api", "/healthz", "/metrics", "/static/"))


def _as_json(found: dict[str, Any]) -> Response:
    body = {key: found[key] for key in ("code", "message", "fields") if key in found}
    answer = json_answer({"error": body})
    answer.status_code = found["status"]
    return answer


def _as_page(found: dict[str, Any]) -> Response:
    if found["status"] in (401, 429):
        return flask.make_response(plain_page("console/login.html.j2", problem=found), found["status"])
    return flask.make_response(plain_page("console/error.html.j2", problem=found), found["status"])
