"""The blueprint: which address is answered by what, who may ask, and how every refusal looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlunsplit

import flask
from werkzeug.exceptions import HTTPException, InternalServerError, SecurityError
from werkzeug.routing import RequestRedirect
from werkzeug.wrappers import Response

from allcores.web import actions, api, downloads, events, lists, live, openapi, pages, people, submit_pages
from allcores.web.answers import error_answer, problem
from allcores.web.security import Gate, Refused, Role, User, harden, nonce, parts_of, set_cookie
from allcores.web.settings import Settings
from allcores.web.state import current

GET, POST = ("GET",), ("POST",)
#: most fields of a form, and bytes of them that are no files
MOST_PARTS, MOST_FORM_BYTES = 1_000, 500_000


@dataclass(frozen=True, slots=True)
class Route:
    """One address.

    Attributes:
        role: Who may ask; None: anyone, as for the form that takes a token.
        upload: Its body may be as large as uploaded files are.
    """

    rule: str
    endpoint: str
    view: Callable[..., Any]
    methods: tuple[str, ...] = GET
    role: Role | None = Role.VIEWER
    upload: bool = False


VIEWER, OPERATOR, ADMIN = Role.VIEWER, Role.OPERATOR, Role.ADMIN

ROUTES = (
    # pages
    Route("/", "overview", pages.overview),
    Route("/list", "jobs", lists.jobs),
    Route("/job/<job_id>", "job", pages.job),
    Route("/job/<job_id>/timeline", "timeline", downloads.timeline),
    Route("/job/<job_id>/file/<path:name>", "result_file", downloads.result_file),
    Route("/failed", "failed", lists.failed),
    Route("/workers", "workers", live.workers),
    Route("/schedules", "schedules", live.schedules),
    Route("/settings", "settings", pages.settings),
    Route("/audit", "audit", pages.audit),
    Route("/submit", "submit", submit_pages.choose),
    Route("/events", "events", events.events),
    Route("/submit/<task>", "submit_task", submit_pages.form, role=OPERATOR),
    # what forms do
    Route("/submit/<task>", "submit_form", submit_pages.send, POST, OPERATOR, upload=True),
    Route("/job/<job_id>/cancel", "cancel", actions.cancel, POST, OPERATOR),
    Route("/job/<job_id>/retry", "retry", actions.retry, POST, OPERATOR),
    Route("/job/<job_id>/retry-failed-items", "retry_failed_items", actions.retry_failed_items, POST, OPERATOR),
    Route("/job/<job_id>/stack", "stack", live.stack, POST, OPERATOR),
    Route("/job/<job_id>/delete", "delete", actions.delete, POST, ADMIN),
    Route("/bulk", "bulk", actions.bulk, POST, OPERATOR),
    Route("/undo", "undo", actions.undo, POST, ADMIN),
    Route("/schedules/<name>/<what>", "schedule_action", live.schedule_action, POST, OPERATOR),
    # people
    Route("/login", "login", people.login, POST, None),
    Route("/logout", "logout", people.logout, POST, VIEWER),
    # programs
    Route("/api/jobs", "api_jobs", api.jobs),
    Route("/api/jobs", "api_submit", api.submit_job, POST, OPERATOR, upload=True),
    Route("/api/jobs/<job_id>", "api_job", api.job),
    Route("/api/jobs/<job_id>/cancel", "api_cancel", api.cancel, POST, OPERATOR),
    Route("/api/jobs/<job_id>/retry", "api_retry", api.retry, POST, OPERATOR),
    Route("/api/jobs/<job_id>/result/<path:name>", "api_result_file", downloads.result_file),
    Route("/api/tasks", "api_tasks", api.tasks),
    Route("/api/counts", "api_counts", api.counts),
    Route("/api/audit", "api_audit", api.audit),
    Route("/api/openapi.json", "api_openapi", openapi.document),
    Route("/healthz", "healthz", api.healthz),
    Route("/metrics", "metrics", api.metrics),
)
#: what an address without a token is offered, and what needs none
BY_ENDPOINT = {f"allcores.{route.endpoint}": route for route in ROUTES}


def blueprint(settings: Settings) -> flask.Blueprint:
    """A new one, for one app."""
    made = flask.Blueprint("allcores", __name__, template_folder="templates", static_folder="static")
    for route in ROUTES:
        made.add_url_rule(route.rule, route.endpoint, route.view, methods=route.methods)
    made.before_app_request(_guard)
    made.after_request(_after)
    made.register_error_handler(Exception, _failed)
    made.register_error_handler(InternalServerError, _failed)
    made.cli.help = "Jobs: see `allcores work`, `allcores serve` and `allcores jobs`."
    from allcores.web import flask_commands

    flask_commands.add(made.cli)
    return made


def _is_ours(settings: Settings) -> bool:
    """Whether a request is for the console: one of its addresses, or one below its prefix that is none."""
    if flask.request.blueprint == "allcores":
        return True
    path = flask.request.path
    return flask.request.routing_exception is not None and (path + "/").startswith(settings.prefix + "/")


def _guard() -> Any:
    """Before each request of the app: nobody gets further who may not."""
    console = current()
    if not _is_ours(console.settings):
        return None
    try:
        answer = _checked()
    except Exception as error:
        if problem(error) is None:
            raise
        answer = error_answer(error)
    if answer is not None and flask.request.blueprint != "allcores":
        # what comes after each request is for the blueprint's own addresses
        return _after(flask.make_response(answer))
    return answer


def _checked() -> Any:
    request, console = flask.request, current()
    route = BY_ENDPOINT.get(request.endpoint or "")
    gate = console.gate
    _limit(console.settings, route)
    if console.settings.open_health and _asks_for_health(route):
        return _open_health(gate)
    gate.check_host(request)
    if route is not None and route.role is None:
        gate.check_origin(request)
        return None
    user = gate.user(request, link=not _for_programs())
    flask.g.allcores_user = user
    if request.routing_exception is not None:
        if isinstance(request.routing_exception, RequestRedirect):
            return _within_this_site(request.routing_exception)
        raise request.routing_exception
    if user.cookie:
        return _without_token(user)
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        gate.check_origin(request)
        gate.check_form(request, user)
    needed = route.role if route is not None and route.role is not None else Role.VIEWER
    if not user.may(needed):
        raise Refused(
            403, "not_allowed", f"This needs the role {needed.name.lower()}; yours is {user.role.name.lower()}."
        )
    return None


def _within_this_site(wanted: RequestRedirect) -> Response:
    """Where a slash too few leads, as a path: behind a server that ends TLS, the address that Flask makes is http://."""
    parts = parts_of(wanted.new_url)
    # Never "//host": that would be another site.
    return flask.redirect(urlunsplit(("", "", "/" + parts.path.lstrip("/"), parts.query, "")), wanted.code)


def _asks_for_health(route: Route | None) -> bool:
    """Also by a name that Flask knows nothing of (`TRUSTED_HOSTS`): then it has looked for no route."""
    request = flask.request
    if isinstance(request.routing_exception, SecurityError) and request.method in GET:
        return request.path == f"{current().settings.prefix}/healthz"
    return route is not None and route.endpoint == "healthz"


def _open_health(gate: Gate) -> Any:
    """Probes of load balancers have no token, and call this machine by its number: they are told no details."""
    try:
        gate.check_host(flask.request)
        flask.g.allcores_user = gate.user(flask.request, link=False)
    except Refused as refused:
        if refused.code not in ("no_credentials", "unknown_host"):
            raise
    return api.healthz() if flask.request.routing_exception is not None else None


def _limit(settings: Settings, route: Route | None) -> None:
    request = flask.request
    # Other kinds of forms are read at once, and not part by part.
    files = route is not None and route.upload and request.mimetype == "multipart/form-data"
    request.max_content_length = settings.max_upload if files else settings.max_body
    request.max_form_memory_size = MOST_FORM_BYTES
    request.max_form_parts = MOST_PARTS


def _without_token(user: User) -> Response:
    """The same address without its token, which a browser would keep in its history; a cookie stands for it."""
    request = flask.request
    rest = [(key, value) for key, value in request.args.items(multi=True) if key != "token"]
    from urllib.parse import urlencode

    # Never "//host": that would be another site.
    path = "/" + flask.request.full_path.split("?", 1)[0].lstrip("/")
    answer = flask.redirect(request.script_root + path + (f"?{urlencode(rest)}" if rest else ""), 303)
    set_cookie(answer, request, user.cookie, current().settings)
    return answer


def _for_programs() -> bool:
    path = flask.request.path[len(current().settings.prefix) :]
    return path.startswith(("/api/", "/healthz", "/metrics", "/static/")) or path == "/api"


def _after(response: Response) -> Response:
    harden(response, nonce())
    return response


def _failed(error: Exception) -> Any:
    if problem(error) is None and not isinstance(error, HTTPException):
        # ours to repair: the app's own handling, which logs it
        raise error
    return error_answer(error)
