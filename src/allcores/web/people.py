"""Who looks: a token is exchanged for a cookie, and the cookie is given up."""

from __future__ import annotations

from typing import Any

import flask

from allcores.web.actions import local_path
from allcores.web.security import cookie_name, set_cookie
from allcores.web.state import current, root


def login() -> Any:
    """POST /login: a token that was typed in."""
    console, request = current(), flask.request
    user = console.gate.by_token(request, request.form.get("token", ""))
    answer = flask.redirect(local_path(request.form.get("next", ""), flask.url_for("allcores.overview")), 303)
    set_cookie(answer, request, console.gate.new_cookie(user.name), console.settings)
    return answer


def logout() -> Any:
    """POST /logout."""
    answer = flask.redirect(flask.url_for("allcores.overview"), 303)
    answer.delete_cookie(cookie_name(flask.request), path=root() or "/")
    return answer
