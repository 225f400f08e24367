"""Answers in JSON: the same in each app, whatever its own JSON provider does to integers, or to the order of keys."""

from __future__ import annotations

import json
from typing import Any

import flask


def json_answer(value: Any, status: int = 200) -> flask.Response:
    """A value as the body of an answer: integers exact, keys in their order."""
    text = json.dumps(value, separators=(",", ":"))
    return flask.Response(f"{text}\n", status, mimetype="application/json")
