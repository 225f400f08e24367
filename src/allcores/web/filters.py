"""Filters as they stand in addresses: state, task, tag, q, since, until."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict

from allcores.jobs.given_text import parse_moment
from allcores.jobs.model import JobFilter, State
from allcores.web.security import Refused
from allcores.web.views import moment

#: spans of time that may be chosen by name
SPANS = {"hour": 3_600, "day": 86_400, "week": 7 * 86_400}
MOST_TEXT = 200


def read_filter(
    args: MultiDict[str, str] | Mapping[str, str], hidden: re.Pattern[str], states: tuple[State, ...] = ()
) -> JobFilter:
    """What an address asks for. `state` may hold several, joined by commas.

    Args:
        args: Of the request, or of a form.
        hidden: Names of secrets: no text is looked for in what nobody is shown, since an answer would tell it.
        states: Those that are meant where none is named.

    Raises:
        Refused: 400, with what cannot be.
    """
    given = args.getlist("state") if isinstance(args, MultiDict) else [args.get("state", "")]
    names = [name.strip() for each in given for name in each.split(",") if name.strip()]
    try:
        chosen = tuple(dict.fromkeys(State(name) for name in names))
    except ValueError:
        raise Refused(400, "bad_query", f"state is one of {', '.join(State)}, or several joined by commas.") from None
    for name in ("task", "tag", "q"):
        if len(args.get(name, "")) > MOST_TEXT or "\0" in args.get(name, ""):
            raise Refused(400, "bad_query", f"{name} has {MOST_TEXT} characters at most.")
    return JobFilter(
        states=chosen or states,
        task=args.get("task") or None,
        tag=args.get("tag") or None,
        text=args.get("q", "").strip() or None,
        since=_moment(args.get("since", ""), "since"),
        until=_moment(args.get("until", ""), "until"),
        hidden=hidden,
    )


def _moment(text: str, name: str) -> float | None:
    if not text:
        return None
    if text in SPANS:
        return time.time() - SPANS[text]
    try:
        return parse_moment(text)
    except ValueError as error:
        raise Refused(400, "bad_query", f"{name}: {error}.") from None


def as_pairs(wanted: JobFilter) -> list[tuple[str, str]]:
    """The filter as fields of a form or an address; times are fixed, so that it stays the same filter."""
    pairs = [("state", ",".join(wanted.states)), ("task", wanted.task), ("tag", wanted.tag), ("q", wanted.text)]
    pairs += [("since", moment(wanted.since)), ("until", moment(wanted.until))]
    return [(name, value) for name, value in pairs if value]


def as_query(wanted: JobFilter, **more: object) -> str:
    """The filter as the end of an address."""
    pairs = [*as_pairs(wanted), *((name, str(value)) for name, value in more.items() if value is not None)]
    return urlencode(pairs)
