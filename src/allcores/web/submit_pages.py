"""Forms made from the signatures of tasks; what is wrong stands beside its field."""

from __future__ import annotations

import json
import re
from typing import Any

import flask
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import NotFound

from allcores.jobs import uploads
from allcores.jobs.arguments import Parameter
from allcores.jobs.errors import ArgumentErrors, KeyConflict
from allcores.jobs.given_text import parse_moment
from allcores.jobs.model import Changed, Job
from allcores.jobs.rows import FAILED_ITEMS, digest
from allcores.jobs.secret_values import hide_secrets, is_secret
from allcores.jobs.tasks import Task
from allcores.web import sent_once
from allcores.web.actions import _go
from allcores.web.api import found_job
from allcores.web.handed_in import HandedIn
from allcores.web.rendering import page
from allcores.web.security import CSRF_FIELD
from allcores.web.state import current
from allcores.web.submitting import Wanted, WrongFields
from allcores.web.views import address, emptied_secrets

#: before the names of arguments in a form, so that they cannot be those of its other fields
PREFIX = "argument."
#: beside a secret that a job like the one of the form had
TYPE_IN = "it is a secret, which no form has: type it in again"
_STEPS = {"integer": "1", "number": "any"}


def choose() -> Any:
    """The tasks."""
    tasks = sorted(current().tasks.values(), key=lambda task: task.name)
    return page("console/choose.html.j2", "submit", tasks=tasks)


def _task(name: str) -> Task:
    task = current().tasks.get(name)
    if not isinstance(task, Task):
        raise NotFound
    return task


def form(task: str) -> Any:
    """The form of one task; `like` fills it with the arguments of a job."""
    wanted = _task(task)
    like = flask.request.args.get("like")
    given = found_job(like) if like else None
    return _form(wanted, _texts_of(wanted, given), {}, {}, given)


def _texts_of(task: Task, job: Job | None) -> dict[str, str]:
    """What the fields hold at first."""
    texts: dict[str, str] = {}
    secret = current().settings.secret
    given = {} if job is None else hide_secrets(job.arguments, secret, "")
    for each in task.arguments.parameters:
        if each.name in given:
            texts[PREFIX + each.name] = _text(given[each.name], each)
        elif not each.required and each.default is not None:
            # Also of a job: what it was not given it had by its default.
            texts[PREFIX + each.name] = _text(each.default, each)
    if job is not None:
        texts["priority"] = str(job.priority)
        texts["tags"] = ", ".join(_tags_of(job))
        texts["retries"] = "" if job.retries is None else str(job.retries)
        texts["timeout"] = _seconds(job.timeout) if job.timeout else ""
        texts["webhook"] = address(job.webhook) if job.webhook else ""
    # No secret is sent to a browser: it has to be typed in again.
    return {name: "" if is_secret(name.removeprefix(PREFIX), secret) else text for name, text in texts.items()}


def _tags_of(job: Job) -> tuple[str, ...]:
    """Those that a job like it has, too."""
    return tuple(each for each in job.tags if each != FAILED_ITEMS)


def _seconds(value: float) -> str:
    """All digits of a number of seconds, and no more."""
    return str(int(value)) if value.is_integer() else repr(value)


def _text(value: Any, parameter: Parameter) -> str:
    if parameter.kind in ("file", "files"):
        return ""
    if isinstance(value, str) and parameter.kind != "json":
        return value
    if value is None and parameter.optional:
        return ""
    return json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, list | dict) and value else None)


def _form(
    task: Task,
    texts: dict[str, str],
    errors: dict[str, str],
    options: dict[str, str],
    like: Job | None = None,
    status: int = 200,
) -> Any:
    """The form, with what is wrong with arguments and with the fields that every task has."""
    secret = current().settings.secret
    known = {each.name for each in task.arguments.parameters}
    inside = {name: text for name, text in errors.items() if name not in known and name.split(".")[0] in known}

    def error_of(name: str) -> str:
        parts = [f"{path}: {text}" for path, text in inside.items() if path.split(".")[0] == name]
        return "; ".join([*([errors[name]] if name in errors else []), *parts])

    fields: list[dict[str, Any]] = [
        {
            "name": PREFIX + each.name,
            "label": each.name.replace("_", " "),
            "kind": _kind(each, secret),
            "required": each.required and not each.optional,
            "hint": _hint(each),
            "step": _STEPS.get(each.kind),
            "choices": [
                (_text(choice, each) if isinstance(choice, str) else json.dumps(choice))
                for choice in (each.choices or (True, False))
            ],
            "optional": each.optional or not each.required,
            "text": texts.get(PREFIX + each.name, ""),
            "long": each.kind == "text" and _is_long(texts.get(PREFIX + each.name, "")),
            "error": error_of(each.name),
            "kept": _kept_files(like, each),
        }
        for each in task.arguments.parameters
    ]
    general = {name: text for name, text in errors.items() if name not in known and name not in inside}
    return page(
        "console/form.html.j2",
        "submit",
        status=status,
        task=task,
        fields=fields,
        texts=texts,
        wrong=len(errors) + len(options),
        options=options,
        general=general,
        like=like,
        once=sent_once.token(),
        upload=any(field["kind"] in ("file", "files") for field in fields),
        limit=current().settings.max_upload,
    )


def _kind(parameter: Parameter, secret: re.Pattern[str]) -> str:
    """Which field a parameter has."""
    if parameter.kind == "text" and is_secret(parameter.name, secret):
        return "password"
    # A box is ticked or not: it has no third state for None.
    return "choice" if parameter.kind == "boolean" and parameter.optional else parameter.kind


def _is_long(text: str) -> bool:
    """Whether a text needs a field of several lines: one of a single line would lose their ends."""
    return len(text) > 60 or "\n" in text


def _kept_files(like: Job | None, parameter: Parameter) -> list[str]:
    """Names of files that a job had, which a new one like it has again unless others are chosen."""
    if like is None or parameter.kind not in ("file", "files"):
        return []
    value = like.arguments.get(parameter.name)
    files = value if isinstance(value, list) else [value]
    return [str(each.get("name") or "file") for each in files if isinstance(each, dict)]


def _hint(parameter: Parameter) -> str:
    words = {
        "integer": "a whole number",
        "number": "a number",
        "text": "",
        "json": "as JSON",
        "date": "a date",
        "datetime": "a time",
        "file": "a file",
        "files": "files",
    }
    parts = [words.get(parameter.kind, "")]
    if parameter.kind == "json" and parameter.schema.get("type") in ("array", "object"):
        parts[0] = {"array": 'a list, as JSON: ["a", "b"]', "object": 'an object, as JSON: {"a": 1}'}[
            parameter.schema["type"]
        ]
    for key, word in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "less than"),
    ):
        if key in parameter.schema:
            parts.append(f"{word} {parameter.schema[key]}")
    if parameter.optional:
        parts.append("may be left empty")
    elif not parameter.required:
        parts.append("its default is used if it is left empty")
    return ", ".join(part for part in parts if part)


def send(task: str) -> Any:
    """What the form sends: a job, or the form again with what is wrong."""
    wanted, request = _task(task), flask.request
    texts = {name: request.form[name] for name in request.form if name != CSRF_FIELD}
    like_id = request.form.get("like")
    like = found_job(like_id) if like_id else None
    errors: dict[str, str] = {}
    wrong: dict[str, str] = {}
    checked: dict[str, Any] = {}
    with HandedIn() as handed_in:
        try:
            checked = wanted.arguments.check_form(_given(wanted, like, handed_in))
        except ArgumentErrors as error:
            errors |= {name: "; ".join(sentences) for name, sentences in error.fields.items()}
        if like is not None and not errors:
            secret = current().settings.secret
            errors |= {".".join(path): TYPE_IN for path in emptied_secrets(like.arguments, checked, secret)}
        try:
            options = _options(texts, like)
            if not errors:
                parent = like.id if like is not None else None
                if options["key"] is None:
                    # What is changed in it before it is sent again is another job.
                    content = [uploads.by_content(checked), {**options, "parent": parent}]
                    options["key"] = sent_once.key_of(digest(wanted.name, content))
                made = handed_in.submit(Wanted(task=wanted.name, parent=parent, **options), checked=checked)
                return _go(flask.url_for("allcores.job", job_id=made.job.id), "submit", Changed(1))
        except WrongFields as error:
            wrong = error.fields
        except KeyConflict as error:
            wrong = {"key": str(error)}
    return _form(wanted, texts, errors, wrong, like, status=422)


def _given(task: Task, like: Job | None, handed_in: HandedIn) -> dict[str, Any]:
    form, files = flask.request.form, flask.request.files
    given: dict[str, Any] = {}
    for each in task.arguments.parameters:
        name = PREFIX + each.name
        if each.kind in ("file", "files"):
            sent: list[FileStorage] = [file for file in files.getlist(name) if file.filename]
            if sent:
                kept = [handed_in.keep(file) for file in sent]
                given[each.name] = kept if each.kind == "files" else kept[0]
            elif like is not None and like.arguments.get(each.name):
                given[each.name] = like.arguments[each.name]
        elif name in form and not _has_unseen_default(each, form[name]):
            # Browsers end lines with two characters.
            given[each.name] = form[name].replace("\r\n", "\n")
    return given


def _has_unseen_default(parameter: Parameter, text: str) -> bool:
    """Whether a field is empty because its default is a secret, which no form shows."""
    return text == "" and not parameter.required and is_secret(parameter.name, current().settings.secret)


def _options(texts: dict[str, str], like: Job | None) -> dict[str, Any]:
    """The fields that every task has.

    Args:
        texts: As they were sent.
        like: The job of which the form was made. Its webhook and its tags, as they are shown, stand for all of them.

    Raises:
        WrongFields: With each that cannot be read.
    """
    found: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, kind, sentence in (
        ("priority", int, "it has to be a whole number"),
        ("retries", int, "it has to be a whole number"),
        ("timeout", float, "it has to be a number of seconds"),
    ):
        if text := texts.get(name, "").strip():
            try:
                found[name] = kind(text)
            except ValueError:
                wrong[name] = sentence
    if text := texts.get("run_at", "").strip():
        try:
            found["run_at"] = parse_moment(text)
        except ValueError as error:
            wrong["run_at"] = str(error)
    tags = texts.get("tags", "")
    if like is not None and tags == ", ".join(_tags_of(like)):
        found["tags"] = _tags_of(like)  # one of them may have a comma
    else:
        found["tags"] = tuple(tag.strip() for tag in tags.split(",") if tag.strip())
    found["key"] = texts.get("key", "").strip() or None
    found["webhook"] = webhook = texts.get("webhook", "").strip() or None
    if like is not None and like.webhook is not None and webhook == address(like.webhook):
        found["webhook"] = like.webhook
    elif webhook is not None and "***" in webhook:
        wrong["webhook"] = "its password is hidden: type it in, or leave the address as it was"
    if wrong:
        raise WrongFields(wrong)
    return found
