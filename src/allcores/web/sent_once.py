"""Forms that are sent twice (a double click, without a script that holds the second one back) make one job."""

from __future__ import annotations

import re
import secrets

import flask

#: the hidden field of such a form
FIELD = "once"
_TOKEN = re.compile(r"[0-9a-f]{32}")


def token() -> str:
    """What the form has in its field: something else each time that it is shown."""
    return secrets.token_hex(16)


def key_of(what: str) -> str | None:
    """The key of the job that the form which was sent asks for; None if it has no such field.

    Args:
        what: What tells it from other jobs that the same page, or a form that was changed since, asks for.
    """
    found = flask.request.form.get(FIELD, "")
    return f"form:{found}:{what}" if _TOKEN.fullmatch(found) else None
