"""Changes as they happen, for pages that are looked at: a stream of events (SSE), where the server has threads for it.

A stream keeps a thread of the server, and a browser opens six connections to a host, so there are few of them: a page
that gets none asks again and again, as all do where there are no streams. An event says that something has changed,
and nothing more; the page then asks for itself.
"""

from __future__ import annotations

from typing import Any

import flask
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from allcores.web.state import current


def address() -> str:
    """Where a page finds the stream; empty if there is none here."""
    return flask.url_for("allcores.events") if _are_allowed() else ""


def _are_allowed() -> bool:
    return current().settings.streams > 0 and bool(flask.request.environ.get("wsgi.multithread"))


def events() -> Any:
    """The stream; not found where there is none, and an event `full` where there are enough."""
    if not _are_allowed():
        raise NotFound
    console = current()
    stream = console.streams.open(console.store)
    if stream is None:
        return Response("event: full\ndata:\n\n", mimetype="text/event-stream")
    answer = Response(iter(stream), mimetype="text/event-stream")
    answer.call_on_close(stream.close)
    answer.headers["X-Accel-Buffering"] = "no"
    return answer
