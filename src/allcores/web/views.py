"""A job as others see it: as JSON for programs, and in words for pages. Secrets are left out of both."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import flask

from allcores.formatting import without_passwords
from allcores.jobs.model import Job, JobError, Progress, State
from allcores.jobs.secret_values import HIDDEN, hide_secrets, is_secret

#: what HTML may not hold
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
#: characters that turn the direction of text: shown as what they are, so that a name cannot pretend to be another
_DIRECTION = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: progress that is older is not known to be true any more
FRESH_SECONDS = 15.0


def emptied_secrets(before: Any, now: Any, pattern: re.Pattern[str]) -> Iterator[tuple[str, ...]]:
    """Where a JSON value has an empty text, or nothing, for a secret that another one had: the keys that lead there."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key, each in before.items():
            if is_secret(str(key), pattern) and each not in (None, ""):
                if now.get(key) in (None, ""):
                    yield (str(key),)
            elif key in now:
                for path in emptied_secrets(each, now[key], pattern):
                    yield (str(key), *path)
    elif isinstance(before, list) and isinstance(now, list):
        for place, (each, other) in enumerate(zip(before, now, strict=False)):
            for path in emptied_secrets(each, other, pattern):
                yield (str(place), *path)


def clean(text: object) -> str:
    """Text without characters that HTML may not hold, or that turn what stands around them."""
    return _DIRECTION.sub("�", _CONTROL.sub("�", str(text)))


def exact(text: object) -> str:
    """Text as it is, but for characters that HTML may not hold."""
    return _CONTROL.sub("�", str(text))


def address(url: str) -> str:
    """An address of the web without the password that it may have, and without what its options call one."""
    front, mark, query = url.partition("?")
    front = re.sub(r"^(\w+://[^/@:]*):[^/]*@", r"\1:***@", front)
    return front + without_passwords(mark + query)


def pretty(value: Any) -> str:
    """A JSON value as text, with its keys in order, integers exact and every character itself."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def short(value: Any, size: int = 160, pattern: re.Pattern[str] | None = None) -> str:
    """A JSON value on one line, cut off: as much of it is written as is shown, however large it is.

    Args:
        value: The value; a dict is shown as arguments are.
        size: Characters.
        pattern: Names of secrets, which are hidden at any depth.
    """
    text = ""
    for part in _arguments(value, size, pattern) if isinstance(value, dict) else _parts(value, size, pattern):
        text += part
        if len(text) > size:
            return text[: size - 1] + "…"
    return text


def _arguments(value: dict[str, Any], size: int, pattern: re.Pattern[str] | None) -> Iterator[str]:
    for number, (key, each) in enumerate(value.items()):
        yield f"{', ' if number else ''}{key}="
        yield from _shown(key, each, size, pattern)


def _parts(value: Any, size: int, pattern: re.Pattern[str] | None) -> Iterator[str]:
    """A value as JSON, part by part; uploaded files as they were called."""
    if is_file(value):
        yield clean(value["name"] or "a file")
    elif isinstance(value, dict):
        yield "{"
        for number, (key, each) in enumerate(value.items()):
            yield f"{', ' if number else ''}{json.dumps(key[: size + 1], ensure_ascii=False)}: "
            yield from _shown(key, each, size, pattern)
        yield "}"
    elif isinstance(value, list | tuple):
        files = bool(value) and all(map(is_file, value))
        yield "" if files else "["
        for number, each in enumerate(value):
            yield ", " if number else ""
            yield from _parts(each, size, pattern)
        yield "" if files else "]"
    else:
        yield json.dumps(value[: size + 1] if isinstance(value, str) else value, ensure_ascii=False)


def _shown(key: str, value: Any, size: int, pattern: re.Pattern[str] | None) -> Iterator[str]:
    if pattern is not None and value not in (None, "") and is_secret(key, pattern):
        yield json.dumps(HIDDEN)
    else:
        yield from _parts(value, size, pattern)


def is_file(value: Any) -> bool:
    """Whether an argument stands for an uploaded file."""
    return isinstance(value, dict) and value.keys() == {"upload", "name", "size", "media_type"}


def span_text(seconds: float) -> str:
    """A whole span in words: "5 minutes", "hour"."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if seconds >= size:
            number = round(seconds / size)
            return unit if number == 1 else f"{number} {unit}s"
    return f"{seconds:g} s"


def moment(seconds: float | None) -> str | None:
    """A time as RFC 3339 has it, in UTC: "2026-11-26T08:00:00.123Z"."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return None


def ago(seconds: float | None, now: float | None = None) -> str:
    """How long ago, or in how long: "12 s ago", "in 3 min"."""
    if seconds is None:
        return ""
    difference = (time.time() if now is None else now) - seconds
    size = abs(round(difference))
    text = (
        f"{size} s" if size < 60 else f"{size // 60} min" if size < 3600 else f"{size // 3600} h" if size < 86_400
        else f"{size // 86_400} d"
    )  # fmt: skip
    return f"{text} ago" if difference >= 0 else f"in {text}"


def took(job: Job, now: float | None = None) -> float | None:
    """Seconds that the last attempt took, or has taken so far; None if it has not begun. Never less than 0."""
    if job.started is None or job.state is State.QUEUED:
        return None
    end = job.finished if job.finished is not None else (time.time() if now is None else now)
    return max(0.0, end - job.started)


def is_fresh(progress: Progress, now: float | None = None) -> bool:
    """Whether progress is from just now: what is older is shown as unknown since then."""
    return (time.time() if now is None else now) - progress.at <= FRESH_SECONDS


def job_json(job: Job, pattern: re.Pattern[str], *, whole: bool = True) -> dict[str, Any]:
    """A job for programs.

    Args:
        job: The job.
        pattern: Names of secrets.
        whole: With its result, traceback and progress; lists leave them out.
    """
    found: dict[str, Any] = {
        "id": job.id,
        "seq": job.seq,
        "task": job.task,
        "state": job.state.value,
        "arguments": hide_secrets(job.arguments, pattern),
        "priority": job.priority,
        "tags": list(job.tags),
        "created": moment(job.created),
        "run_at": moment(job.run_at),
        "started": moment(job.started),
        "finished": moment(job.finished),
        "attempts": job.attempts,
        "crashes": job.crashes,
        "retries": job.retries,
        "timeout": job.timeout,
        "cancel_requested": job.cancel_requested,
        "parent": job.parent,
        "key": job.key,
        "submitted_by": job.submitted_by,
        "note": job.note,
        "progress": None if job.progress is None else _progress_json(job.progress),
        "error": None if job.error is None else _error_json(job.error, whole),
        "url": flask.url_for("allcores.api_job", job_id=job.id),
        "page": flask.url_for("allcores.job", job_id=job.id),
    }
    if whole:
        found["result"] = hide_secrets(job.result, pattern)
        found["result_files"] = [
            {
                "name": file.name,
                "size": file.size,
                "media_type": file.media_type,
                "url": flask.url_for("allcores.api_result_file", job_id=job.id, name=file.name),
            }
            for file in job.result_files
        ]
        found["worker"] = None if job.worker is None else {"pid": job.worker.pid, "since": moment(job.worker.since)}
        if job.damaged:
            found["damaged"] = job.damaged
    return found


def _progress_json(progress: Progress) -> dict[str, Any]:
    return {
        "done": progress.done,
        "failed": progress.failed,
        "total": progress.total,
        "started": moment(progress.started),
        "at": moment(progress.at),
        "fresh": is_fresh(progress),
        "run": progress.run,
        "note": progress.note,
    }


def _error_json(error: JobError, whole: bool) -> dict[str, Any]:
    found = {"type": error.type, "message": error.message, "cause": error.cause, "peak_memory": error.peak_memory}
    return {**found, "traceback": error.traceback} if whole else found
