"""From templates to pages: the parts that all pages have, and tags that make polling cheap."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import flask
import jinja2
import markupsafe
from werkzeug.wrappers import Response

import allcores
from allcores.formatting import percent_text, precise_seconds_text, size_text
from allcores.jobs.model import State
from allcores.web import events, views
from allcores.web.security import CSRF_FIELD, Role, User, nonce
from allcores.web.state import Console, current, is_poll, root

#: how a state is called on a page
WORDS = {
    "queued": "Queued",
    "running": "Running",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "timed_out": "Timed out",
    "cancelled": "Cancelled",
    "quarantined": "Quarantined",
}
NAV = (
    ("overview", "Overview"),
    ("jobs", "Jobs"),
    ("failed", "Failed"),
    ("submit", "Submit"),
    ("schedules", "Schedules"),
    ("workers", "Workers"),
    ("audit", "Audit"),
    ("settings", "Settings"),
)
WITHOUT_SUCCESS = (State.FAILED, State.TIMED_OUT, State.QUARANTINED)


def _environment(console: Console) -> jinja2.Environment:
    """The templates of the console: apart from the app's own, so that nothing of it changes how values are escaped."""
    if console.environment is None:
        made = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        secret = console.settings.secret
        made.filters.update(
            count=lambda value: f"{value:,}",
            compact=_compact,
            seconds=precise_seconds_text,
            span=views.span_text,
            size=size_text,
            percent=percent_text,
            rate=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
            clean=views.clean,
            address=views.address,
            exact=views.exact,
            moment=views.moment,
            ago=views.ago,
            took=views.took,
            fresh=views.is_fresh,
            arguments_line=lambda job: views.clean(views.short(job.arguments, pattern=secret)),
        )
        made.globals.update(url_for=flask.url_for, csrf=_csrf, words=WORDS, version=allcores.__version__)
        console.environment = made
    return console.environment


def _compact(value: int) -> str:
    return f"{value:,}" if value < 10_000 else f"{value // 1000:,}k"


def _render(template: str, **context: Any) -> str:
    return _environment(current()).get_template(template).render(nonce=nonce(), **context)


def _csrf() -> markupsafe.Markup:
    user: User = flask.g.allcores_user
    return markupsafe.Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, user.csrf)


def plain_page(template: str, **context: Any) -> str:
    """A page that needs neither a user nor the store: the form for a token, and errors."""
    request = flask.request
    path = request.script_root + request.full_path.rstrip("?") if request.method == "GET" else ""
    if request.endpoint == "allcores.login":
        # A token that was wrong: it is still the same way back, which is looked at where it is gone.
        path = request.form.get("next", "")
    # Not by `url_for`: where the host is not known, Flask makes no addresses.
    return _render(template, next=_without_token(path), root=root(), **context)


def _without_token(path: str) -> str:
    return path if "token=" not in path else ""


def page(template: str, here: str, *, poll: bool = False, tag: str = "", status: int = 200, **context: Any) -> Response:
    """A whole page with its head and its foot.

    Args:
        template: Its name.
        here: The entry of the navigation that it belongs to.
        poll: It asks for itself again as long as it is looked at.
        tag: Of what it was made from, for that.
        status: Of the answer.
        context: What the template needs.
    """
    console = current()
    counts = context.pop("counts", None) or console.store.counts()
    user: User = flask.g.allcores_user
    text = _render(
        template,
        user=user,
        nav=[entry for entry in NAV if entry[0] != "submit" or user.may(Role.OPERATOR)],
        here=here,
        now=time.time(),
        poll=console.settings.poll if poll else 0,
        tag=tag,
        events=events.address() if poll else "",
        counts=counts,
        failed_count=sum(counts.by_state.get(state, 0) for state in WITHOUT_SUCCESS),
        said=_said(),
        **context,
    )
    answer = flask.make_response(text, status)
    if tag:
        answer.headers["ETag"] = tag
    return answer


def live_tag(*parts: object, change: int | None = None) -> str:
    """A tag of what a page is made from: the store's change number (None: now), the user, the address."""
    user: User = flask.g.allcores_user
    change = current().change_and_running()[0] if change is None else change
    text = "|".join(map(str, (change, user.name, user.role, flask.request.full_path, *parts)))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def unchanged(tag: str) -> Response | None:
    """304, if the page that asks again has what there is; cheap, as nothing was read but one number."""
    # A proxy that compresses pages makes their tags weak ones (W/"...").
    if is_poll() and flask.request.if_none_match.contains_weak(tag.strip('"')):
        answer = Response(status=304)
        answer.headers["ETag"] = tag
        return answer
    return None


def _said() -> dict[str, Any] | None:
    """What was just done, from the address that an action leads to: numbers and words that are known, nothing else."""
    args = flask.request.args
    what, count = args.get("did", ""), args.get("count", "")
    words = {
        "retry": "queued again", "cancel": "asked to end", "delete": "deleted", "undelete": "restored",
        "submit": "submitted", "undo": "undone", "stack": "looked at",
    }  # fmt: skip
    if what not in words or not (count.isascii() and count.isdigit() and len(count) < 12):
        return None
    number = int(count)
    text = f"{number:,} {'job' if number == 1 else 'jobs'} {words[what]}."
    skipped = args.get("skipped", "")
    if skipped.isascii() and skipped.isdigit() and 0 < len(skipped) < 12 and int(skipped):
        text += f" {int(skipped):,} had changed in between, or could not be, and were left alone."
    more = args.get("more") == "1"
    if more:
        text += " Time was up before all were done: do the same again for the rest."
    undo = args.get("undo", "")
    undoable = (
        (what == "delete" or (more and what == "undelete"))
        and undo.isascii()
        and undo.isdigit()
        and len(undo) < 19
        and number
    )
    user: User = flask.g.allcores_user
    return {"text": text, "undo": int(undo) if undoable and user.may(Role.ADMIN) else None}
