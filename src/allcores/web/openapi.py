"""The JSON API, described for programs: OpenAPI 3.1, made from the routes and the registered tasks."""

from __future__ import annotations

from typing import Any

import allcores
from allcores.jobs.model import State
from allcores.web.json_text import json_answer
from allcores.web.state import root
from allcores.web.submitting import MOST_DELAY, MOST_KEY, MOST_PRIORITY, MOST_RETRIES, MOST_TAG, MOST_TAGS

_TEXT = {"type": "string"}
_TIME = {"type": ["string", "null"], "format": "date-time"}
_WHOLE = {"type": "integer"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_KEY = {"type": "string", "minLength": 1, "maxLength": MOST_KEY, "pattern": r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$"}
_SEQ = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}


def _object(properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        **more,
    }


def _schemas() -> dict[str, Any]:
    progress = _object(
        {
            "done": _WHOLE, "failed": _WHOLE, "total": {"type": ["integer", "null"]}, "started": _TIME, "at": _TIME,
            "fresh": {"type": "boolean", "description": "Whether this was written just now."}, "run": _MAYBE_TEXT,
            "note": _TEXT,
        }
    )  # fmt: skip
    error = _object(
        {
            "type": _TEXT, "message": _TEXT, "cause": _TEXT, "peak_memory": {"type": ["integer", "null"]},
            "traceback": _TEXT,
        },
        ["type", "message", "cause", "peak_memory"],
    )  # fmt: skip
    file = _object({"name": _TEXT, "size": _WHOLE, "media_type": _TEXT, "url": _TEXT})
    listed = {
        "id": _TEXT, "seq": _WHOLE, "task": _TEXT, "state": {"enum": [state.value for state in State]},
        "arguments": {"type": "object"}, "priority": _WHOLE, "tags": {"type": "array", "items": _TEXT},
        "created": _TIME, "run_at": _TIME, "started": _TIME, "finished": _TIME, "attempts": _WHOLE, "crashes": _WHOLE,
        "retries": {"type": ["integer", "null"]}, "timeout": {"type": ["number", "null"]},
        "cancel_requested": {"type": "boolean"},
        "parent": _MAYBE_TEXT, "key": _MAYBE_TEXT, "submitted_by": _TEXT, "note": _TEXT,
        "progress": {"oneOf": [progress, {"type": "null"}]}, "error": {"oneOf": [error, {"type": "null"}]},
        "url": _TEXT, "page": _TEXT,
    }  # fmt: skip
    worker = {"oneOf": [_object({"pid": _WHOLE, "since": _TIME}), {"type": "null"}]}
    whole = {**listed, "result": {}, "result_files": {"type": "array", "items": file}, "worker": worker}
    return {
        "ListedJob": _object(listed),
        "Job": _object({**whole, "damaged": _TEXT}, list(whole)),
        "Error": _object(
            {
                "error": _object(
                    {"code": _TEXT, "message": _TEXT, "fields": {"type": "object", "additionalProperties": _TEXT}},
                    ["code", "message"],
                )
            }
        ),
        "Submission": _object(
            {
                "task": {"type": "string", "description": "The name of a registered task."},
                "arguments": {"type": "object", "description": "By name, as the task's signature says."},
                "priority": {"type": ["integer", "null"], "minimum": -MOST_PRIORITY, "maximum": MOST_PRIORITY},
                "delay": {"type": ["number", "null"], "minimum": 0, "maximum": MOST_DELAY},
                "run_at": {"type": ["string", "null"], "description": "ISO 8601."},
                "tags": {
                    "type": "array",
                    "maxItems": MOST_TAGS,
                    "items": {"type": "string", "minLength": 1, "maxLength": MOST_TAG},
                },
                "key": {**_KEY, "type": ["string", "null"]},
                "timeout": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": MOST_DELAY},
                "retries": {"type": ["integer", "null"], "minimum": 0, "maximum": MOST_RETRIES},
                "webhook": {"type": ["string", "null"], "format": "uri", "description": "Told of the job's end."},
            },
            ["task"],
            additionalProperties=False,
        ),
    }


def _answer(text: str, schema: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    made: dict[str, Any] = {"description": text}
    if schema is not None:
        made["content"] = {"application/json": {"schema": schema}}
    if headers:
        made["headers"] = {
            name.replace("_", "-"): {"schema": _TEXT, "description": what} for name, what in headers.items()
        }
    return made


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


_ERRORS = {
    "400": "What was sent cannot be read, or names a host that is not known.",
    "401": "Without a token, or with a wrong one.",
    "403": "The role does not allow it, or the request comes from another site.",
    "404": "There is no such job.",
    "405": "Not with this method.",
    "409": "It does not fit the state of the job, or the key was used for something else.",
    "413": "It is too large.",
    "415": "It is no JSON.",
    "416": "The file has no such range.",
    "422": "There is no such task, or an argument is wrong: `fields` says which.",
    "429": "Too many wrong tokens.",
    "503": "The store cannot be used now.",
    "507": "There is no room on the disk.",
}


def _responses(good: dict[str, dict[str, Any]], *errors: int) -> dict[str, Any]:
    codes = sorted({400, 401, 403, 405, 429, 503, *errors})
    return {**good, **{str(code): _answer(_ERRORS[str(code)], _ref("Error")) for code in codes}}


def _paths() -> dict[str, Any]:
    job_id = {"name": "job_id", "in": "path", "required": True, "schema": _TEXT}
    if_none = {"name": "If-None-Match", "in": "header", "required": False, "schema": _TEXT}
    not_modified = {"304": {"description": "It is as the ETag says."}}
    lists = [
        _query("state", _TEXT, f"One of {', '.join(State)}; several are joined by commas."),
        _query("task", {"type": "string", "maxLength": 200}, "Of this task."),
        _query("tag", {"type": "string", "maxLength": 200}, "With this tag."),
        _query(
            "q", {"type": "string", "maxLength": 200}, "With this text in id, task, key, arguments, error or result."
        ),
        _query("since", _TEXT, "Submitted at this time (ISO 8601) or later; or hour, day, week."),
        _query("until", _TEXT, "Submitted before this time."),
        _query("after", _SEQ, "Behind the job of this number: the answer before says it."),
        _query("before", _SEQ, "Before the job of this number."),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "Jobs on a page."),
    ]
    jobs = _object(
        {
            "jobs": {"type": "array", "items": _ref("ListedJob")}, "after": {"type": ["integer", "null"]},
            "before": {"type": ["integer", "null"]}, "searched": _WHOLE, "searched_all": {"type": "boolean"},
        }
    )  # fmt: skip
    submitted = _answer(
        "It is stored, and will run.", _ref("Job"), Location="Where it is.", Idempotent_Replayed="true if it was there."
    )
    file_part = {
        "schema": {
            "type": "object",
            "properties": {"job": {"type": "string", "description": "What a JSON body would be."}},
            "required": ["job"],
            "description": "Each file is the argument that its part is named after.",
        }
    }
    return {
        "/api/jobs": {
            "get": {
                "operationId": "listJobs",
                "summary": "Jobs, newest first",
                "parameters": [*lists, if_none],
                "responses": _responses({"200": _answer("A page of them.", jobs), **not_modified}),
            },
            "post": {
                "operationId": "submitJob",
                "summary": "Submit a job",
                "parameters": [
                    {
                        "name": "Idempotency-Key",
                        "in": "header",
                        "required": False,
                        "schema": _KEY,
                        "description": "The same key is the same job.",
                    }
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _ref("Submission")}, "multipart/form-data": file_part},
                },
                "responses": _responses({"202": submitted}, 409, 413, 415, 422, 507),
            },
        },
        "/api/jobs/{job_id}": {
            "get": {
                "operationId": "getJob",
                "summary": "A job as it is now",
                "parameters": [job_id, if_none],
                "responses": _responses({"200": _answer("The job.", _ref("Job")), **not_modified}, 404),
            }
        },
        "/api/jobs/{job_id}/cancel": {
            "post": {
                "operationId": "cancelJob",
                "summary": "End a job: it is cancelled once its process is gone",
                "parameters": [job_id],
                "responses": _responses(
                    {
                        "200": _answer("It was cancelled before.", _ref("Job")),
                        "202": _answer("It is being cancelled.", _ref("Job")),
                    },
                    404,
                    409,
                    507,
                ),
            }
        },
        "/api/jobs/{job_id}/retry": {
            "post": {
                "operationId": "retryJob",
                "summary": "Queue a job again that ended without success",
                "parameters": [job_id],
                "responses": _responses({"202": _answer("It is queued.", _ref("Job"))}, 404, 409, 507),
            }
        },
        "/api/jobs/{job_id}/result/{name}": {
            "get": {
                "operationId": "getResultFile",
                "summary": "A file that a job made, or a range of it",
                "parameters": [
                    job_id,
                    {"name": "name", "in": "path", "required": True, "schema": _TEXT},
                    {"name": "Range", "in": "header", "required": False, "schema": _TEXT},
                ],
                "responses": _responses(
                    {"200": {"description": "The file."}, "206": {"description": "The range."}, **not_modified},
                    404,
                    416,
                ),
            }
        },
        "/api/tasks": {
            "get": {
                "operationId": "listTasks",
                "summary": "What can be submitted, with the schema of its arguments",
                "responses": _responses(
                    {"200": _answer("The tasks.", _object({"tasks": {"type": "array", "items": {"type": "object"}}}))}
                ),
            }
        },
        "/api/counts": {
            "get": {
                "operationId": "countJobs",
                "summary": "Exact counts",
                "responses": _responses(
                    {
                        "200": _answer(
                            "By state, and by task and state.",
                            _object({"total": _WHOLE, "by_state": {"type": "object"}, "by_task": {"type": "object"}}),
                        )
                    }
                ),
            }
        },
        "/api/audit": {
            "get": {
                "operationId": "listChanges",
                "summary": "Who changed what, newest first",
                "parameters": [_query("after", _SEQ, "Behind the row of this number.")],
                "responses": _responses(
                    {
                        "200": _answer(
                            "Rows.",
                            _object(
                                {
                                    "audit": {"type": "array", "items": {"type": "object"}},
                                    "after": {"type": ["integer", "null"]},
                                }
                            ),
                        )
                    }
                ),
            }
        },
        "/api/openapi.json": {
            "get": {
                "operationId": "describe",
                "summary": "This document",
                "responses": _responses({"200": _answer("OpenAPI 3.1.", {"type": "object"})}),
            }
        },
        "/healthz": {
            "get": {
                "operationId": "health",
                "summary": "Whether the store can be used",
                "responses": {
                    **_responses({"200": _answer("It can.", {"type": "object"})}),
                    "503": _answer("It cannot.", {"type": "object"}),
                },
            }
        },
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "For Prometheus",
                "responses": _responses(
                    {"200": {"description": "Text, version 0.0.4.", "content": {"text/plain": {"schema": _TEXT}}}}
                ),
            }
        },
    }


def describe(prefix: str) -> dict[str, Any]:
    """The document, for a console below a prefix."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "allcores jobs",
            "version": allcores.__version__,
            "description": "Jobs that are kept in a store and run on all cores. Every error has one shape.",
        },
        "servers": [{"url": prefix or "/"}],
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def document() -> Any:
    """GET /api/openapi.json."""
    return json_answer(describe(root()))
