"""Jobs as rows and back: JSON that is kept exactly, and rows that are damaged and still shown."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from allcores.formatting import kind_text
from allcores.jobs.errors import BadJob
from allcores.jobs.model import (
    Job,
    JobError,
    Progress,
    ResultFile,
    State,
    WorkerInfo,
)

#: bytes of arguments, and of a result, as JSON: larger ones belong into files
MAX_JSON = 4 * 1024**2
#: lists and dicts in each other
MAX_DEPTH = 100
#: The tag of a job that runs only the items again that failed in the runs of its parent. It decides what runs, so it is
#: copied to no other job.
FAILED_ITEMS = "failed-items"
NOT_GIVEN = f"the tag {FAILED_ITEMS!r} is that of jobs which the retry of failed items makes: give another one"
#: whole numbers from it on, and from its negative on down, have more digits than Python reads unless it is told to
TOO_LONG = 10**4_300
#: characters of names: of a task, a tag, a key, of who submits
MAX_NAME = 500
#: tags of one job
MAX_TAGS = 20
#: characters of notes, messages and tracebacks; the middle of longer ones is left out
MAX_TEXT = 64 * 1024


def dumps(value: Any, what: str, *, characters: bool = False) -> str:
    """A value as JSON that gives the same value again.

    Args:
        value: None, booleans, integers, finite floats, strings, lists, tuples and dicts with string keys.
        what: What it is, for messages.
        characters: Refuse halves of surrogate pairs, too: Python reads them back, and what checks arguments does not.

    Raises:
        BadJob: It cannot be kept exactly, or is too large.
    """
    _check(value, what, 0, characters)
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:  # more digits than Python is told to write
        raise BadJob(f"{what} cannot be kept as JSON: {error}") from None
    if len(text) > MAX_JSON:
        raise BadJob(
            f"{what} takes {len(text):,} bytes as JSON, and {MAX_JSON:,} are allowed: put the data into a file"
            " and give its path"
        )
    return text


def _check(value: Any, what: str, depth: int, characters: bool) -> None:
    if isinstance(value, str):
        if characters and (half := half_of_pair(value)) is not None:
            raise BadJob(f"{what} has {half!r}, half of a surrogate pair, which is no character")
        return
    if value is None or value is True or value is False:
        return
    if isinstance(value, int):
        if not -TOO_LONG < value < TOO_LONG:
            raise BadJob(f"{what} is a whole number of more than 4,300 digits")
        return
    if type(value) is float:
        if not math.isfinite(value):
            raise BadJob(f"{what} is {value!r}, which JSON does not have: give a finite number, or None")
        return
    if depth >= MAX_DEPTH:
        raise BadJob(f"{what} is deeper than {MAX_DEPTH} lists and dicts in each other")
    if isinstance(value, Mapping) and isinstance(value, dict):
        for key, each in value.items():
            if type(key) is not str:
                raise BadJob(f"{what} has the key {key!r}: JSON has only strings as keys")
            _check(key, f"a key of {what}", depth + 1, characters)
            _check(each, f"{what}[{key!r}]", depth + 1, characters)
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            _check(each, f"{what}[{index}]", depth + 1, characters)
    elif not isinstance(value, float):  # its subclasses are written as what they are
        raise BadJob(
            f"{what} is of type {type(value).__name__}, which JSON does not have: give numbers, strings, lists or dicts"
        )


def half_of_pair(text: str) -> str | None:
    """The first half of a surrogate pair in it, which is no character (in names of files that are no text), if any."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return text[error.start]
    return None


def as_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as they were given: one text is one tag, not a tag for each letter.

    Raises:
        BadJob: One of them may not be given.
    """
    found = (tags,) if isinstance(tags, str) else tuple(tags)
    if FAILED_ITEMS in found:
        raise BadJob(NOT_GIVEN)
    return found


def check_name(text: Any, what: str, *, empty: bool = False) -> str:
    """A short text without control characters, which any database can keep.

    Raises:
        BadJob: It is not.
    """
    if not isinstance(text, str):
        raise BadJob(f"{what} is text, not {type(text).__name__}")
    if not text and not empty:
        raise BadJob(f"{what} is empty")
    if len(text) > MAX_NAME:
        raise BadJob(f"{what} has {len(text):,} characters, and {MAX_NAME} are allowed")
    if not text.isprintable():
        raise BadJob(f"{what} has characters that cannot be printed: {text!r}")
    return str(text)


def as_seconds(value: Any, what: str, above: float = -math.inf) -> float:
    """A number of seconds.

    Raises:
        BadJob: It is no number, or infinite, or not above the least.
    """
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:  # an integer
        found = math.inf
    if not math.isfinite(found) or found <= above:
        more = "" if above == -math.inf else f" above {above:g}"
        raise BadJob(f"{what} is a number of seconds{more}, not {shown(value)}")
    return found


def check_whole(value: Any, what: str, least: int = 0, most: int = 2**63 - 1) -> int:
    """A whole number that any database can keep.

    Raises:
        BadJob: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadJob(f"{what} is a whole number from {least:,} to {most:,}, not {shown(value)}")
    return value


def shown(value: Any) -> str:
    """A value in a message: not for pages, and whatever it is."""
    try:
        text = repr(value)
    except Exception:  # an integer with too many digits, or an object that has no text
        text = kind_text(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def plain_text(text: str) -> str:
    """Any text, so that every database can keep it: without NUL and halves of characters, and not too long."""
    if len(text) > MAX_TEXT:
        half = MAX_TEXT // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def new_id(now: float) -> str:
    """A UUID of version 7, as 32 hexadecimal digits: ordered by milliseconds, the rest is random."""
    number = int.from_bytes(os.urandom(10), "big")
    number |= (int(now * 1000) & (1 << 48) - 1) << 80
    number = number & ~(0xF << 76) | 7 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return f"{number:032x}"


def digest(task: str, arguments: Any) -> str:
    """Of what has to be the same when a key comes again; the order of keys does not count."""
    ordered = json.dumps(arguments, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{task}\n{ordered}".encode()).hexdigest()[:32]


def error_to_json(error: JobError | None) -> str | None:
    """An error as it is kept."""
    if error is None:
        return None
    return json.dumps(
        {
            "type": plain_text(error.type),
            "message": plain_text(error.message),
            "traceback": plain_text(error.traceback),
            "cause": plain_text(error.cause),
            "peak_memory": error.peak_memory,
        }
    )


def error_from_json(text: str | None) -> JobError | None:
    """The error that was kept."""
    if text is None:
        return None
    raw = _of_type(json.loads(text), dict, "error")
    peak = raw.get("peak_memory")
    return JobError(
        type=str(raw["type"]),
        message=str(raw["message"]),
        traceback=str(raw.get("traceback", "")),
        cause=str(raw.get("cause", "exception")),
        peak_memory=peak if isinstance(peak, int) else None,
    )


def progress_to_json(progress: Progress) -> str:
    """Progress as it is kept; when it is written is now, unless it says so itself."""
    return json.dumps(
        {
            "done": int(progress.done),
            "failed": int(progress.failed),
            "total": progress.total,
            "started": progress.started,
            "at": progress.at or time.time(),
            "run": progress.run,
            "note": plain_text(progress.note),
        }
    )


_PROGRESS: dict[str, Any] = {
    "done": int, "failed": int, "total": int | None, "started": int | float | None, "at": int | float,
    "run": str | None, "note": str,
}  # fmt: skip


def _is_usual(value: object) -> bool:
    return not isinstance(value, int | float) or 0 <= value < 2**63


def progress_from_json(text: str) -> Progress | None:
    """The progress that was kept; None if it cannot be read: it is no part of what was promised."""
    try:
        raw = json.loads(text)
        found = Progress(**{name: raw[name] for name in Progress.__slots__})
        values = [(getattr(found, name), kinds) for name, kinds in _PROGRESS.items()]
        # No page can do anything with NaN, or with more items than there can be.
        fits = all(isinstance(value, kinds) and (value is None or _is_usual(value)) for value, kinds in values)
        return found if fits else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def files_to_json(files: tuple[ResultFile, ...]) -> str:
    """The list of a job's files as it is kept."""
    for each in files:
        check_name(each.name, "the name of a result's file")
        if each.name in (".", "..") or "/" in each.name or "\\" in each.name:
            raise BadJob(f"the name of a result's file has no folders, as {each.name!r} has")
    return json.dumps([[each.name, int(each.size), each.media_type] for each in files])


def job_from_row(row: Mapping[str, Any], progress: str | None = None) -> Job:
    """The job of a row. One that is damaged is quarantined, says so, and has what could be read."""
    seq = row["seq"] if isinstance(row["seq"], int) else 0
    try:
        return _job(row, progress)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = plain_text(str(error) or type(error).__name__)
    note = f"its row is damaged: {reason}"
    return Job(
        id=any_text(row["id"]),
        seq=seq,
        task=any_text(row["task"]),
        arguments={},
        state=State.QUARANTINED,
        created=any_number(row["created"]),
        run_at=any_number(row["run_at"]),
        error=JobError(type="DamagedRow", message=note, cause="damaged row"),
        note=note,
        changed=row["changed"] if isinstance(row["changed"], int) else 0,
        damaged=reason,
    )


def _job(row: Mapping[str, Any], progress: str | None) -> Job:
    state = State(row["state"])
    result = row["result"]
    return Job(
        id=_of_type(row["id"], str, "id"),
        seq=_of_type(row["seq"], int, "seq"),
        task=_of_type(row["task"], str, "task"),
        arguments=_of_type(json.loads(row["arguments"]), dict, "arguments"),
        state=state,
        priority=_of_type(row["priority"], int, "priority"),
        tags=() if row["tags"] == "[]" else tuple(json.loads(row["tags"])),
        created=float(row["created"]),
        run_at=float(row["run_at"]),
        started=_time(row["started"]),
        finished=_time(row["finished"]),
        attempts=_of_type(row["attempts"], int, "attempts"),
        crashes=_of_type(row["crashes"], int, "crashes"),
        retries=None if row["retries"] is None else _of_type(row["retries"], int, "retries"),
        timeout=_time(row["timeout"]),
        result=None if result is None else json.loads(result),
        result_files=()
        if row["files"] == "[]"
        else tuple(ResultFile(str(n), int(size), str(kind)) for n, size, kind in json.loads(row["files"])),
        error=error_from_json(row["error"]),
        progress=None if progress is None else progress_from_json(progress),
        parent=row["parent"],
        key=row["key"],
        submitted_by=_of_type(row["submitted_by"], str, "submitted_by"),
        cancel_requested=bool(row["cancel_requested"]),
        worker=_worker(row) if state is State.RUNNING else None,
        note=_of_type(row["note"], str, "note"),
        webhook=row["webhook"],
        changed=_of_type(row["changed"], int, "changed"),
    )


def _worker(row: Mapping[str, Any]) -> WorkerInfo | None:
    pid = row["worker_pid"]
    # Below 0 is no process, but what a claim says of its job.
    return None if pid is None else WorkerInfo(max(0, int(pid)), float(row["started"] or 0))


def _of_type(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{what} is {type(value).__name__}, not {kind.__name__}")
    return value


def _time(value: Any) -> float | None:
    return None if value is None else float(value)


def json_or_none(text: Any) -> Any:
    """The value of a JSON text; None if a damaged row has it."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def any_text(value: Any) -> str:
    """What a damaged row has for a text."""
    return plain_text(value if isinstance(value, str) else repr(value))


def any_number(value: Any) -> float:
    """What a damaged row has for a number; 0 if it is none."""
    return float(value) if isinstance(value, int | float) else 0.0
