"""Lists of jobs: filters, pages, and what can be done to all jobs of a list as they were seen."""

from __future__ import annotations

from typing import Any

import flask
from werkzeug.wrappers import Response

from allcores.jobs.model import Counts, JobFilter, Snapshot, State
from allcores.web.filters import SPANS, as_pairs, as_query, read_filter
from allcores.web.rendering import WITHOUT_SUCCESS, WORDS, live_tag, page, unchanged
from allcores.web.security import Refused, Role, User
from allcores.web.state import current

#: for counting a list, so that its buttons can say how many they are for
COUNT_SECONDS = 0.03


def jobs() -> Any:
    """Jobs, newest first."""
    return _list("jobs", "Jobs", ())


def failed() -> Any:
    """Those that did not succeed, for whatever reason."""
    return _list("failed", "Failed and quarantined", WITHOUT_SUCCESS)


def _list(endpoint: str, heading: str, states: tuple[State, ...]) -> Response:
    console = current()
    args = flask.request.args
    tag = live_tag()
    if (answer := unchanged(tag)) is not None:
        return answer
    wanted = read_filter(args, console.settings.secret, states)
    counts = console.store.counts()
    # Before the page is read: what comes in between is not in the snapshot.
    user: User = flask.g.allcores_user
    snapshot = console.store.snapshot(wanted, seconds=COUNT_SECONDS) if user.may(Role.OPERATOR) else None
    found = console.store.page(
        wanted,
        after=sequence("after"),
        before=None if sequence("after") is not None else sequence("before"),
        limit=console.settings.page_size,
    )
    here = flask.url_for(f"allcores.{endpoint}")
    # Times stay as they were chosen: "the last hour" is one that ends now, on each page.
    query = {name: args[name] for name in ("state", "task", "tag", "q", "since", "until") if args.get(name)}
    if "state" in query:
        query["state"] = ",".join(wanted.states)  # there may be several

    def address(**more: Any) -> str:
        values: dict[str, Any] = {**query, **more}
        return flask.url_for(f"allcores.{endpoint}", **values)

    return page(
        "console/jobs.html.j2",
        endpoint,
        poll=sequence("after") is None and sequence("before") is None and wanted.text is None,
        tag=tag,
        counts=counts,
        heading=heading,
        endpoint=endpoint,
        wanted=wanted,
        since=args.get("since", ""),
        spans=_spans(args.get("since", "")),
        kept=[(name, query[name]) for name in ("state", "until") if name in query],
        filtered=bool(wanted.task or wanted.tag or wanted.text or wanted.since or wanted.until),
        task_names=sorted({*counts.by_task, *([wanted.task] if wanted.task else [])}),
        tabs=_tabs(endpoint, wanted, counts, states, query),
        page=found,
        older=address(after=found.older) if found.older is not None else None,
        newer=address(before=found.newer) if found.newer is not None else None,
        back=f"{here}?{as_query(wanted)}" if as_query(wanted) else here,
        snapshot=snapshot,
        bulk_acts=[] if snapshot is None else _bulk_acts(snapshot, user),
    )


def _spans(since: str) -> list[tuple[str, str]]:
    """Spans of time to choose from; a time that is in the address is one more, so that it is not lost."""
    found = [(name, f"in the last {name}") for name in SPANS]
    return found if not since or since in SPANS else [*found, (since, f"since {since}")]


def sequence(name: str) -> int | None:
    """A number of a row in the address; None if it names none.

    Raises:
        Refused: 400.
    """
    text = flask.request.args.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused(400, "bad_query", f"{name} is a whole number.")
    return int(text)


def _tabs(
    endpoint: str, wanted: JobFilter, counts: Counts, states: tuple[State, ...], query: dict[str, str]
) -> list[dict[str, Any]]:
    rest: dict[str, Any] = {name: value for name, value in query.items() if name != "state"}
    by_state = counts.by_state if not wanted.task else counts.by_task.get(wanted.task, {})
    choice = states or tuple(State)
    tabs = [
        {
            "state": "",
            "text": "All",
            "count": sum(by_state.get(state, 0) for state in choice),
            "url": flask.url_for(f"allcores.{endpoint}", **rest),
            "chosen": wanted.states == states,
        }
    ]
    for state in choice:
        url = flask.url_for(f"allcores.{endpoint}", state=state.value, **rest)
        chosen = wanted.states == (state,)
        tabs.append(
            {
                "state": state.value,
                "text": WORDS[state.value],
                "count": by_state.get(state, 0),
                "url": url,
                "chosen": chosen,
            }
        )
    return tabs


def _bulk_acts(snapshot: Snapshot, user: User) -> list[dict[str, Any]]:
    chosen = set(snapshot.filter.states or State)
    pairs = [*as_pairs(snapshot.filter), ("change", str(snapshot.change)), ("count", str(snapshot.count))]
    number = f"{snapshot.count:,}" + ("" if snapshot.counted_all else "+")
    acts = []
    if chosen <= {*WITHOUT_SUCCESS, State.CANCELLED}:
        acts.append(
            {
                "word": f"Retry all {number}",
                "what": "retry",
                "question": "They are queued again, with all their attempts.",
                "button": f"Retry {number} jobs",
                "danger": False,
            }
        )
    if chosen & {State.QUEUED, State.RUNNING}:
        acts.append(
            {
                "word": f"Cancel all {number}",
                "what": "cancel",
                "question": "Those that wait or run are ended; those that have ended stay as they are.",
                "button": f"Cancel up to {number} jobs",
                "danger": True,
            }
        )
    if user.may(Role.ADMIN) and chosen - {State.QUEUED, State.RUNNING}:
        acts.append(
            {
                "word": f"Delete all {number}",
                "what": "delete",
                "question": "Those that have ended are removed with their result files; this can be undone.",
                "button": f"Delete up to {number} jobs",
                "danger": True,
            }
        )
    return [{**act, "pairs": [*pairs, ("what", act["what"])]} for act in acts]
