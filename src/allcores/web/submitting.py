"""From a request to a job in the store: only registered tasks, only arguments that fit their signatures."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allcores.errors import UsageError
from allcores.jobs.given_text import NO_ADDRESS, is_web_address, parse_moment
from allcores.jobs.model import Submitted
from allcores.jobs.rows import FAILED_ITEMS, NOT_GIVEN

if TYPE_CHECKING:
    from allcores.web.state import Console

MOST_TAGS, MOST_TAG, MOST_KEY = 20, 100, 200
#: a job may be put off for ten years
MOST_DELAY = 10 * 366 * 86_400.0
MOST_PRIORITY = 1_000_000
MOST_RETRIES = 1_000
_FIELDS = {"task", "arguments", "priority", "delay", "run_at", "tags", "key", "timeout", "retries", "webhook"}


class WrongFields(UsageError):
    """Parts of a submission are wrong.

    Attributes:
        fields: Name of the part -> what is wrong with it.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {text}" if name else text for name, text in fields.items()) + ".")
        self.fields = dict(fields)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A submission; None stands for what the task says."""

    task: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    delay: float = 0.0
    run_at: float | None = None
    tags: tuple[str, ...] = ()
    key: str | None = None
    timeout: float | None = None
    retries: int | None = None
    parent: str | None = None
    webhook: str | None = None


def wanted_from_json(body: Any) -> Wanted:
    """What a JSON body asks for.

    Raises:
        WrongFields: With each part that is wrong.
    """
    if not isinstance(body, dict):
        raise WrongFields({"": "the body has to be an object"})
    wrong: dict[str, str] = {}
    for name in body.keys() - _FIELDS:
        wrong[str(name)[:60]] = f"there is no such part; there are {', '.join(sorted(_FIELDS))}"
    if not isinstance(body.get("task"), str):
        wrong["task"] = "the name of a task is needed, as a string"
    if not isinstance(body.get("arguments", {}), dict):
        wrong["arguments"] = "they have to be an object: each by its name"
    tags = body.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        wrong["tags"] = "they have to be a list of strings"
    for name in ("key", "webhook", "run_at"):
        if body.get(name) is not None and not isinstance(body[name], str):
            wrong[name] = "it has to be a string"
    for name, whole in (("priority", True), ("retries", True), ("delay", False), ("timeout", False)):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            wrong[name] = f"it has to be a {'whole ' if whole else ''}number"
    run_at = None
    if isinstance(body.get("run_at"), str):
        try:
            run_at = parse_moment(body["run_at"])
        except ValueError as error:
            wrong["run_at"] = str(error)
    if wrong:
        raise WrongFields(wrong)
    return Wanted(
        task=body["task"],
        arguments=body.get("arguments", {}),
        priority=body.get("priority"),
        delay=body.get("delay") or 0.0,
        run_at=run_at,
        tags=tuple(tags),
        key=body.get("key"),
        timeout=body.get("timeout"),
        retries=body.get("retries"),
        webhook=body.get("webhook"),
    )


def check_key(key: str | None) -> str | None:
    """A key that can be kept.

    Raises:
        WrongFields: If it cannot.
    """
    if key is not None and not re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?", key):
        raise WrongFields({"key": f"a key has 1 to {MOST_KEY} printable ASCII characters, no blanks around them"})
    return key


def check_wanted(wanted: Wanted) -> None:
    """See that each part is in its range.

    Raises:
        WrongFields: With each that is not.
    """
    wrong: dict[str, str] = {}
    if len(wanted.tags) > MOST_TAGS:
        wrong["tags"] = f"there may be {MOST_TAGS} at most"
    for tag in wanted.tags:
        if not 0 < len(tag) <= MOST_TAG or not tag.isprintable() or tag != tag.strip():
            wrong["tags"] = f"each has 1 to {MOST_TAG} printable characters, no blanks around them"
    if FAILED_ITEMS in wanted.tags:
        wrong["tags"] = NOT_GIVEN
    if wanted.run_at is not None and wanted.delay:
        wrong["delay"] = "run_at says when: give one of the two"
    if wanted.priority is not None and not -MOST_PRIORITY <= wanted.priority <= MOST_PRIORITY:
        wrong["priority"] = f"it is between -{MOST_PRIORITY:,} and {MOST_PRIORITY:,}"
    if wanted.retries is not None and not 0 <= wanted.retries <= MOST_RETRIES:
        wrong["retries"] = f"it is between 0 and {MOST_RETRIES:,}"
    if not _within(wanted.delay, 0.0, MOST_DELAY):
        wrong["delay"] = "it is a number of seconds, 0 or more, and ten years at most"
    if wanted.run_at is not None and not _within(wanted.run_at, 0.0, time.time() + MOST_DELAY):
        wrong["run_at"] = "it is within the next ten years"
    if wanted.timeout is not None and not (wanted.timeout > 0 and _within(wanted.timeout, 0.0, MOST_DELAY)):
        wrong["timeout"] = "it is a number of seconds, more than 0"
    if wanted.webhook is not None and not is_web_address(wanted.webhook):
        wrong["webhook"] = NO_ADDRESS
    if wrong:
        raise WrongFields(wrong)
    check_key(wanted.key)


def _within(value: float, least: float, most: float) -> bool:
    # An integer may have more digits than a float can hold.
    return (
        isinstance(value, int | float)
        and not (isinstance(value, float) and math.isnan(value))
        and least <= value <= most
    )


def submit(console: Console, wanted: Wanted, by: str, *, checked: dict[str, Any] | None = None) -> Submitted:
    """Put it into the store.

    Args:
        console: The app's.
        wanted: What is asked for.
        by: Who asks.
        checked: Its arguments, if a form has checked them already.

    Raises:
        TaskNotFound: If no such task is registered.
        ArgumentErrors: If the arguments do not fit; `fields` says which.
        WrongFields: If another part is wrong.
        KeyConflict: If the key was used for something else.
        StoreError: If the store cannot be written to.
    """
    task = console.tasks[wanted.task]
    check_wanted(wanted)
    arguments = task.arguments.check(wanted.arguments) if checked is None else checked
    run_at = wanted.run_at
    if run_at is None and wanted.delay > 0:
        run_at = time.time() + wanted.delay
    return console.store.submit(
        wanted.task,
        arguments,
        priority=task.priority if wanted.priority is None else wanted.priority,
        run_at=run_at,
        tags=tuple(dict.fromkeys([*task.tags, *wanted.tags])),
        key=wanted.key,
        timeout=task.timeout if wanted.timeout is None else float(wanted.timeout),
        retries=task.retries if wanted.retries is None else wanted.retries,
        parent=wanted.parent,
        by=by,
        webhook=wanted.webhook,
    )
