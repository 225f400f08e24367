"""The console without an app of one's own, for `allcores serve`; and where it may be bound to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

import flask

from allcores.errors import UsageError
from allcores.system.tracebacks import hiding
from allcores.web.extension import Allcores

#: characters of a token that others on the network may try to guess
LEAST_TOKEN = 16


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address: 127.0.0.0/8, ::1 and localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_address(host: str, tokens: Iterable[str]) -> None:
    """Refuse to listen where others reach it, unless whoever starts it has said who may come in.

    Args:
        host: What is to be bound to.
        tokens: Those that were set; a token that was made up and printed does not count.

    Raises:
        UsageError: With the way out.
    """
    if is_local(host):
        return
    given = list(tokens)
    if not given:
        raise UsageError(
            f"{host!r} is reached from other machines: give a token of your own (--token, at least {LEAST_TOKEN} "
            "characters), or bind 127.0.0.1 and let a server with TLS pass requests on."
        )
    for token in given:
        if len(token) < LEAST_TOKEN:
            raise UsageError(
                f"{host!r} is reached from other machines: a token needs at least {LEAST_TOKEN} characters there."
            )


@hiding
def create_app(
    *,
    tasks: str | Sequence[str] | None = None,
    store: Any = None,
    token: str | None = None,
    trusted_hosts: Sequence[str] = (),
    config: dict[str, Any] | None = None,
) -> flask.Flask:
    """A Flask app that is the console and nothing else, at the root of its address.

    Args:
        tasks: Modules or files with tasks.
        store: A path, an address of SQLAlchemy, or None for this user's own file.
        token: Of the admin. Default: the one that is kept beside the store.
        trusted_hosts: Names, besides those of this machine, that requests may name.
        config: More keys of `app.config`.

    Raises:
        UsageError: If a setting makes no sense.
    """
    app = flask.Flask("allcores_console", static_folder=None)
    app.config.update({"ALLCORES_URL_PREFIX": "", "ALLCORES_TOKEN": token})
    if trusted_hosts:
        app.config["ALLCORES_TRUSTED_HOSTS"] = (
            [trusted_hosts] if isinstance(trusted_hosts, str) else list(trusted_hosts)
        )
    app.config.update(config or {})
    Allcores(app, tasks=tasks, store=store)
    return app
