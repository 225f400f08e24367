"""The parent's side of failures: exceptions as the caller gets them."""

from __future__ import annotations

from typing import Any

from allcores.errors import RemoteError, RemoteTraceback, TaskExited
from allcores.outcome import Kind
from allcores.transport.pickling import FUNCTION_UNREAD, ITEM_UNREAD, RESULT_UNWRITTEN, loads

#: exceptions that would end the caller's loop or program instead of being seen as a failure
EXITING = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration)

#: notes of exceptions that the function has not raised -> how the sentence about them begins
STEPS = {
    FUNCTION_UNREAD: "Unpickling the function for ",
    ITEM_UNREAD: "Unpickling ",
    RESULT_UNWRITTEN: "Pickling the result of ",
}


def unpack_error(packed: tuple[str, str, str, bytes | None], *, what: str, **facts: Any) -> tuple[Kind, BaseException]:
    """The exception as the caller gets it: its own type if possible, with the worker's traceback.

    Args:
        what: Names the item, for the note.
        facts: Index, attempts, worker.
    """
    name, message, text, data = packed
    error: BaseException | None = None
    if data is not None:
        try:
            loaded = loads(data)
            error = loaded if isinstance(loaded, BaseException) else None
        except BaseException:
            error = None
    if error is None:
        error = RemoteError(
            f"{name}: {message} (the exception itself could not be pickled, so this stands in for it)",
            type_name=name,
            **facts,
        )
    kind = Kind.FAILED
    cause: BaseException = RemoteTraceback(text)
    if isinstance(error, EXITING) or not isinstance(error, Exception):
        step = next((STEPS[note] for note in getattr(error, "__notes__", ()) if note in STEPS), "")
        code = f" with exit code {error.code!r}" if isinstance(error, SystemExit) else ""
        if isinstance(error, SystemExit):
            kind = Kind.WORKER_LOST
        ended = TaskExited(
            f"{step}{what} raised {name}({message}){code}: a task that does this would end its caller; return or raise "
            "another exception instead.",
            **facts,
        )
        error.__cause__ = cause
        cause, error = error, ended
    note = f"allcores: {what} failed"
    if "worker" in facts:
        note += f" in worker {facts['worker']}, attempt {facts.get('attempts')}"
    try:
        error.__cause__ = cause
        error.add_note(note)
    except Exception:
        # A frozen exception takes neither cause nor note: it keeps its type, and goes without.
        error = error if isinstance(error, Exception) else RemoteError(f"{name}: {message}", type_name=name, **facts)
    return kind, error


def as_exception(error: BaseException, what: str) -> BaseException:
    """`error`, or a stand-in if seeing it raised would end the caller's loop or program.

    It came up when the result of `what` was unpickled.
    """
    if isinstance(error, Exception) and not isinstance(error, EXITING):
        return error
    stand_in = TaskExited(
        f"Unpickling the result of {what} raised {type(error).__name__}({error}): what does this would end its caller; "
        "raise another exception instead."
    )
    stand_in.__cause__ = error
    return stand_in
