"""The parent's side of failures: exceptions as the caller gets them."""

from __future__ import annotations

from typing import Any

from allcores.errors import RemoteTraceback, TaskExited
from allcores.outcome import Kind
from allcores.transport import exceptions, remote_exceptions, traceback_text
from allcores.transport.error_hints import hint_of
from allcores.transport.pickling import FUNCTION_UNREAD, ITEM_UNREAD, RESULT_UNWRITTEN

#: exceptions that would end the caller's loop or program instead of being seen as a failure
EXITING = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration)

#: notes of exceptions that the function has not raised -> how the sentence about them begins
STEPS = {
    FUNCTION_UNREAD: "Unpickling the function for ",
    ITEM_UNREAD: "Unpickling ",
    RESULT_UNWRITTEN: "Pickling the result of ",
}


def unpack_error(packed: tuple[str, str, str, bytes | None], *, what: str, **facts: Any) -> tuple[Kind, BaseException]:
    """The exception as the caller gets it: as it was in the worker, with the worker's traceback.

    Args:
        packed: From `exceptions.pack_error`.
        what: Names the item, for the note.
        facts: Index, attempts, worker.
    """
    name, message, text, data = packed
    error = remote_exceptions.unpack(data, **facts) if data is not None else None
    if error is None:
        error = remote_exceptions.stand_in(name, message, **facts)
    append_traceback(error, text)
    kind, failure = as_failure(error, name, message, what=what, **facts)
    hint = hint_of(name, message, text)
    if hint is not None:
        exceptions.add_note(failure, hint)
    return kind, failure


def as_failure(error: BaseException, name: str, message: str, *, what: str, **facts: Any) -> tuple[Kind, BaseException]:
    """What a task raised as the caller gets it: with a note, and in an error of ours if it would end the caller's loop.

    Args:
        error: The exception, with the worker's traceback.
        name: Of its type.
        message: Its text.
        what: Names the item.
        facts: Index, attempts, worker.
    """
    kind = Kind.FAILED
    if isinstance(error, EXITING) or not isinstance(error, Exception):
        step = next((STEPS[note] for note in step_notes(error)), "")
        code = f" with exit code {exceptions.repr_of(error.code)}" if isinstance(error, SystemExit) else ""
        if isinstance(error, SystemExit):
            kind = Kind.WORKER_LOST
        ended = TaskExited(
            f"{step}{what} raised {name}({message}){code}: a task that does this would end its caller; return or raise "
            "another exception instead.",
            **facts,
        )
        ended.__cause__ = error
        error = ended
    note = f"allcores: {what} failed"
    if "worker" in facts:
        note += f" in worker {facts['worker']}, attempt {facts.get('attempts')}"
    exceptions.add_note(error, note)
    return kind, error


def as_raised(error: BaseException) -> BaseException:
    """The same as Python itself has it where nobody loops over results: a `StopIteration` of the function is itself.

    What is no `Exception` would end the program, which the function has no say in: it stays wrapped.
    """
    cause = exceptions.CAUSE.__get__(error)
    if not isinstance(error, TaskExited) or not isinstance(cause, Exception):
        return error
    for note in getattr(error, "__notes__", ()):
        exceptions.add_note(cause, note)
    return cause


def step_notes(error: BaseException) -> list[str]:
    """The notes that say it was not the function that raised it."""
    notes = exceptions.ATTRIBUTES.__get__(error).get("__notes__")
    # A function may leave anything there.
    return [note for note in notes if type(note) is str and note in STEPS] if isinstance(notes, (list, tuple)) else []


def append_traceback(error: BaseException, text: str) -> None:
    """Have the worker's traceback at the end of an exception's causes, which Python prints first."""
    seen = {id(error)}
    while (cause := exceptions.CAUSE.__get__(error)) is not None and id(cause) not in seen:
        seen.add(id(cause))
        error = cause
    exceptions.set_cause(error, RemoteTraceback(traceback_text.completed(text)))


def unread_result(error: BaseException, what: str, **facts: Any) -> BaseException:
    """The same as `as_exception`, with a note that says so."""
    exceptions.add_note(error, f"allcores: the result of {what} could not be unpickled")
    return as_exception(error, what, **facts)


def as_exception(error: BaseException, what: str, **facts: Any) -> BaseException:
    """What came up here when the result of `what` was unpickled, or a stand-in if it would end the caller's loop.

    Args:
        error: The exception.
        what: Names the item.
        facts: Index, attempts, worker.
    """
    if isinstance(error, Exception) and not isinstance(error, EXITING):
        return error
    text = exceptions.text_of(error)
    stand_in = TaskExited(
        f"Unpickling the result of {what} raised {type(error).__name__}({text}): what does this would end its caller; "
        "raise another exception instead.",
        **facts,
    )
    stand_in.__cause__ = error
    return stand_in
