"""What comes as text, from a command, a form or a request: times, and addresses of the web."""

from __future__ import annotations

import base64
import re
from datetime import datetime
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

NO_MOMENT = "it is no time like 2026-11-26T18:30 or 2026-11-26T17:30:00Z"
NO_ADDRESS = "it is an address that begins with http:// or https://"


def parse_moment(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 time; one without an offset is a time of this machine.

    Raises:
        ValueError: With a sentence, if it is none.
    """
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(NO_MOMENT) from None


def as_requested(address: str) -> tuple[str, str | None]:
    """An address of the web as a request has it: of ASCII alone; and what stands for the user and password in it.

    Returns:
        The address without them, and the header `Authorization`, if there are any.

    Raises:
        ValueError: If the name of its host cannot be written in ASCII.
    """
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    if not host.isascii():
        host = host.encode("idna").decode()
    # What is written as a request needs it already, stays.
    path, query = (quote(part, safe="%/:?=&+,;@!$'()*~[]|") for part in (parts.path, parts.query))
    credentials = base64.b64encode(unquote_to_bytes(user)).decode() if at else ""
    return urlunsplit((parts.scheme, host, path, query, "")), f"Basic {credentials}" if at else None


def is_web_address(text: str) -> bool:
    """Whether a text is an address of http or https, with a host."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 (raises ValueError if it is none)
        as_requested(text)
    except ValueError:
        return False
    return re.match(r"https?://\S+\Z", text) is not None and text.isprintable() and bool(parts.hostname)
