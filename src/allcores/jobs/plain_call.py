"""Runs in a pool's worker: one attempt of a task that maps nothing, from stored arguments to a result as text.

The supervisor gets plain values only, so that it never unpickles what a task made.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from allcores.jobs import descendants, stacks, uploads
from allcores.jobs.errors import ArgumentErrors
from allcores.jobs.results import ResultFolder, encode, keeping, kept
from allcores.jobs.tasks import Registry
from allcores.system import own_imports

#: characters of a traceback and a message that are kept
MOST_TRACEBACK = 20_000
MOST_MESSAGE = 2_000

#: seconds that an attempt cannot have taken, and bytes that its files cannot have: no store has a place for them
MOST_SECONDS, MOST_BYTES = 1e10, 2**60

_registry: Registry | None = None


class Answer(NamedTuple):
    """What became of an attempt.

    Attributes:
        ok: It returned.
        text: Its result as JSON; None if that is in a file.
        files: Names, sizes and media types.
        type: Of the exception.
        message: Of the exception.
        traceback: Of the exception.
        seconds: How long it ran.
        final: Another attempt would end the same way.
    """

    ok: bool
    text: str | None = None
    files: tuple[tuple[str, int, str], ...] = ()
    type: str = ""
    message: str = ""
    traceback: str = ""
    seconds: float = 0.0
    final: bool = False


_FIELDS: dict[str, Any] = {
    "ok": bool, "text": str | None, "type": str, "message": str, "traceback": str, "seconds": int | float,
    "final": bool,
}  # fmt: skip


def answer_of(fields: Any) -> Answer:
    """The answer that a worker, or a process of a job, has sent.

    Raises:
        TypeError, ValueError, AttributeError: It is none: a task has damaged it, or it is of another version.
    """
    found = Answer(*fields)
    files = tuple((str(name), int(size), str(media_type)) for name, size, media_type in found.files)
    if not all(isinstance(getattr(found, name), kinds) for name, kinds in _FIELDS.items()):
        raise ValueError("it is no answer")
    if not 0 <= found.seconds < MOST_SECONDS:  # nor is NaN
        raise ValueError("it is no number of seconds")
    if not all(0 <= size < MOST_BYTES for _, size, _ in files) or sum(size for _, size, _ in files) >= MOST_BYTES:
        raise ValueError("no file has so many bytes")
    return found._replace(files=files)


class TaskFailed(Exception):
    """What an attempt that failed raises: its argument holds the fields of an `Answer`.

    It is raised, and not returned, so that the pool can tell what the task raised by itself from what it raised
    because it was being ended.
    """


class JobCall(NamedTuple):
    """What an attempt is told.

    Attributes:
        job: Its id.
        attempt: Its number, from 1.
        task: Name of the task.
        arguments: As stored.
        store_folder: Where files are.
    """

    job: str
    attempt: int
    task: str
    arguments: dict[str, Any]
    store_folder: str


def load(places: tuple[str, ...], store_folder: str) -> None:
    """Import the tasks; before the first worker is forked, so that none has to."""
    global _registry
    own_imports.install()
    _registry = Registry.load(places)
    uploads.use(store_folder)


def run(call: JobCall) -> tuple[Any, ...]:
    """One attempt. Returns the fields of an `Answer`.

    Raises:
        TaskFailed: The attempt failed; nothing of the task's own is raised.
    """
    stacks.listen(call.store_folder)
    started = perf_counter()
    # What the task starts has it from here, wherever it goes.
    os.environ[descendants.MARK] = descendants.mark_of(call.job, call.attempt)
    answer = _attempt(call)
    os.environ.pop(descendants.MARK, None)
    fields = tuple(answer._replace(seconds=perf_counter() - started))
    if not answer.ok:
        raise TaskFailed(fields)
    return fields


def words(_: str, arguments: Sequence[Any], __: Mapping[str, Any]) -> str:
    """What a message calls an attempt: by its task, without the arguments, which may be secret."""
    return f"task {arguments[0].task!r}"


def _attempt(call: JobCall) -> Answer:
    try:
        assert _registry is not None, "tasks are loaded before workers start"
        task = _registry[call.task]
        try:
            values = task.arguments.values(call.arguments)
        except ArgumentErrors as error:
            return failure(error)._replace(final=True)
        value = task.function(**values)
        text = encode(value)
        if len(text) < 1_000:
            return Answer(True, text)
        files = ResultFolder(call.store_folder, call.job)
        files.begin()
        row = kept(text, files)
        if row is not None:
            return Answer(True, row)
        with keeping(files):
            return Answer(True, None, tuple(files.publish()))
    except BaseException as error:
        return failure(error)


def failure(error: BaseException) -> Answer:
    """What is told of an exception: texts, cut to a size."""
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = str(error)
    except BaseException as odd:
        message = f"<its text cannot be had: {type(odd).__name__}>"
    here = os.path.dirname(__file__)
    trace = error.__traceback__
    while trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == here:
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(kind, error, trace))
    except BaseException:
        text = f"{name}: {message}"
    if len(text) > MOST_TRACEBACK:
        text = f"{text[: MOST_TRACEBACK // 2]}\n...\n{text[-MOST_TRACEBACK // 2 :]}"
    return Answer(False, type=name, message=message[:MOST_MESSAGE], traceback=text)
