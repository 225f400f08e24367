"""What can be set in `app.config`: keys that begin with ALLCORES_, their defaults, and what they may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flask

from allcores.errors import UsageError
from allcores.system.async_functions import check_not_async

#: key -> default; each may be given as `app.config.from_prefixed_env()` reads it, too
DEFAULTS: dict[str, Any] = {
    "ALLCORES_STORE": None,
    "ALLCORES_TASKS": None,
    "ALLCORES_URL_PREFIX": "/jobs",
    "ALLCORES_TOKEN": None,
    "ALLCORES_TOKENS": None,
    "ALLCORES_AUTHORIZE": None,
    "ALLCORES_TRUSTED_HOSTS": None,
    "ALLCORES_SECURE_COOKIE": None,
    "ALLCORES_MAX_BODY_BYTES": 1 << 20,
    "ALLCORES_MAX_UPLOAD_BYTES": 64 << 20,
    "ALLCORES_MAX_JSON_DEPTH": 32,
    "ALLCORES_PAGE_SIZE": 50,
    "ALLCORES_POLL_SECONDS": 2.0,
    "ALLCORES_EVENT_STREAMS": 0,
    "ALLCORES_SECRET_NAMES": (),
    "ALLCORES_ALLOW_NETWORK_FILES": False,
    "ALLCORES_OPEN_HEALTH": False,
}

#: hosts that a browser on this machine may call the console by
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_SECRET_NAME = (
    r"pass(?:word|wd|phrase|code)?|secret|token|api_?key|access_?key|private_?key|credentials?|auth(?:orization)?|"
    r"cookie|session_?id|pin|pwd"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What was set, checked.

    Attributes:
        tokens: Names of users, each with a token and the name of a role.
        trusted_hosts: Host names, without a port, that requests may name; ".example.org" stands for all below.
        streams: Pages of one process that are told of changes as they happen, at most; each keeps a thread.
        secret: Finds names of arguments whose values are never shown.
        open_health: Whether /healthz answers who has no token, without details.
    """

    store: Any
    tasks: Any
    prefix: str
    tokens: Mapping[str, tuple[str, str]]
    authorize: Callable[[flask.Request], Any] | None
    trusted_hosts: tuple[str, ...]
    secure_cookie: bool | None
    max_body: int
    max_upload: int
    max_depth: int
    page_size: int
    poll: float
    streams: int
    secret: re.Pattern[str]
    allow_network: bool
    open_health: bool


def read_settings(config: Mapping[str, Any]) -> Settings:
    """What an app's configuration says.

    Raises:
        UsageError: If a value makes no sense; the message names the key.
    """
    prefix = str(config["ALLCORES_URL_PREFIX"] or "").rstrip("/")
    if prefix and not prefix.startswith("/"):
        raise UsageError(f"ALLCORES_URL_PREFIX is a path that begins with a slash, like '/jobs', not {prefix!r}.")
    authorize = config["ALLCORES_AUTHORIZE"]
    if authorize is not None and not callable(authorize):
        raise UsageError("ALLCORES_AUTHORIZE is a function from the request to a User (or None), or is left out.")
    check_not_async(authorize, "ALLCORES_AUTHORIZE")
    poll = _number(config, "ALLCORES_POLL_SECONDS", 0.2)
    return Settings(
        store=config["ALLCORES_STORE"],
        tasks=config["ALLCORES_TASKS"],
        prefix=prefix,
        tokens=_tokens(config),
        authorize=authorize,
        trusted_hosts=_hosts(config),
        secure_cookie=None if config["ALLCORES_SECURE_COOKIE"] is None else _flag(config, "ALLCORES_SECURE_COOKIE"),
        max_body=int(_number(config, "ALLCORES_MAX_BODY_BYTES", 1_000)),
        max_upload=int(_number(config, "ALLCORES_MAX_UPLOAD_BYTES", 1_000)),
        max_depth=int(_number(config, "ALLCORES_MAX_JSON_DEPTH", 1)),
        page_size=min(500, int(_number(config, "ALLCORES_PAGE_SIZE", 1))),
        poll=poll,
        streams=int(_number(config, "ALLCORES_EVENT_STREAMS", 0)),
        secret=_secret(config["ALLCORES_SECRET_NAMES"]),
        allow_network=_flag(config, "ALLCORES_ALLOW_NETWORK_FILES"),
        open_health=_flag(config, "ALLCORES_OPEN_HEALTH"),
    )


def _number(config: Mapping[str, Any], key: str, least: float) -> float:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e15:
        raise UsageError(f"{key} is a number, at least {least:g}, not {value!r}.")
    return value


def _flag(config: Mapping[str, Any], key: str) -> bool:
    value = config[key]
    # A text is true, also "False", as FLASK_..._HEALTH=False of the environment comes (true and false are read there).
    if value is not None and (not isinstance(value, int) or value not in (False, True)):
        raise UsageError(f"{key} is True or False (in the environment: true or false), not {value!r}.")
    return bool(value)


def _tokens(config: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    if (token := config["ALLCORES_TOKEN"]) is not None:
        if isinstance(token, int | float):
            raise UsageError(
                "ALLCORES_TOKEN is a string of printable ASCII characters, and not a number: in the environment, put"
                " quotes around it (FLASK_ALLCORES_TOKEN='\"123\"')."
            )
        if not _is_token(token):
            raise UsageError("ALLCORES_TOKEN is a string of printable ASCII characters, without blanks around them.")
        found["admin"] = (token, "admin")
    users = config["ALLCORES_TOKENS"] or {}
    if not isinstance(users, Mapping):
        raise UsageError("ALLCORES_TOKENS is a dictionary: names of users, each with 'token' and 'role'.")
    for name, each in users.items():
        if not isinstance(each, Mapping) or set(each) != {"token", "role"}:
            raise UsageError(f"ALLCORES_TOKENS[{name!r}] is a dictionary with 'token' and 'role'.")
        if each["role"] not in ("viewer", "operator", "admin"):
            raise UsageError(f"The role of {name!r} in ALLCORES_TOKENS is viewer, operator or admin.")
        if not re.fullmatch(r"[\w.@-]{1,64}", str(name), re.ASCII) or name in found:
            raise UsageError(f"{name!r} in ALLCORES_TOKENS is no name: letters, digits and _ . @ -, each once.")
        if not _is_token(each["token"]):
            raise UsageError(
                f"The token of {name!r} in ALLCORES_TOKENS is a string of printable ASCII characters, without blanks"
                " around them."
            )
        found[name] = (each["token"], each["role"])
    return found


def _is_token(value: object) -> bool:
    """Whether a token can be sent in a header: one that was read from a file with the end of its line cannot."""
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable() and value == value.strip()


def _hosts(config: Mapping[str, Any]) -> tuple[str, ...]:
    given = config["ALLCORES_TRUSTED_HOSTS"]
    if given is None:
        given = config.get("TRUSTED_HOSTS")
    if isinstance(given, str):
        given = _words(given)
    found = list(given) if given is not None else []
    if given is None and config.get("SERVER_NAME"):
        found.append(str(config["SERVER_NAME"]).rsplit(":", 1)[0])
    return tuple(host.lower() for host in dict.fromkeys([*found, *LOCAL_HOSTS]))


def _words(text: str) -> list[str]:
    """Of a list in one text, as the environment has it."""
    return [part for part in re.split(r"[\s,]+", text) if part]


def _secret(names: Any) -> re.Pattern[str]:
    given = _words(names) if isinstance(names, str) else list(names or ())
    more = "".join(f"|{re.escape(str(name))}" for name in given)
    # "author" and "pinned" hold no secrets, "db_password" and "authToken" do.
    return re.compile(rf"(?<![a-z])(?:{_SECRET_NAME}{more})s?(?![a-z])", re.IGNORECASE)


def trusted(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether a request may name that host, which is given without its port."""
    host = host.lower().rstrip(".")
    return any(host == each or (each.startswith(".") and host.endswith(each)) for each in hosts)


def without_port(host: str) -> str:
    """The name in a Host header: "[::1]:80" is "[::1]"."""
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.split(":", 1)[0]
