"""Where outcomes go: JSON Lines in a file or on standard output."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import threading
from types import TracebackType
from typing import Any

from allcores.errors import RemoteTraceback, SliceError
from allcores.formatting import error_text, repr_text
from allcores.outcome import Kind, Outcome
from allcores.sinks.json_text import to_json
from allcores.system import deferral
from allcores.system.terminal_text import safe_json

#: the file name that means standard output
STDOUT = "-"
#: seconds that a line may wait for company before it is written. Larger saves system calls, smaller shows
#: results sooner and loses less when the parent is killed.
FLUSH_S = 0.1
#: characters; a flush comes early when this much waits
FLUSH_CHARACTERS = 256 * 1024
#: seconds for which lines that wait are tried to be written where Ctrl-C ends it all: nobody may read the pipe any more
LAST_S = 1.0
#: characters of the text of an item that is none of JSON, in the record of its failure
LONGEST_TEXT = 10_000


class OutputError(OSError):
    """The output cannot be opened or written; the message is a sentence.

    Args:
        reader_left: True if standard output is a pipe whose reader ended (`| head`).
    """

    def __init__(self, message: str, *, reader_left: bool = False) -> None:
        super().__init__(message)
        self.reader_left = reader_left


def failure_record(outcome: Outcome[Any], *, raised_here: bool = False) -> dict[str, Any]:
    """What is written about an item that failed; all of it is plain JSON.

    Args:
        raised_here: Where no worker has sent a traceback, that of the error itself is wanted.
    """
    error = outcome.error
    record: dict[str, Any] = {
        "index": outcome.index,
        "kind": outcome.kind.value,
        "error": None if error is None else error_name(error),
        "message": None if error is None else error_text(error),
        "item": _item(outcome.item),
        **_circumstances(outcome),
    }
    traceback = remote_traceback(error)
    if traceback is None and raised_here and error is not None and error.__traceback__ is not None:
        from traceback import format_exception

        traceback = "".join(format_exception(error)).rstrip("\n")
    if traceback is not None:
        record["traceback"] = traceback
    extra: dict[str, Any] | None = getattr(outcome, "extra", None)  # of a pipeline
    return record | extra if extra else record


def error_name(error: BaseException) -> str:
    """The type's name, with its module unless that is `builtins`."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def remote_traceback(error: BaseException | None) -> str | None:
    """The worker's traceback as text; None if it has no line of the program's."""
    if isinstance(error, SliceError):
        return None  # all of it is ours, and its sentence says what there is to say
    cause, seen = error, set[int]()
    while cause is not None and not isinstance(cause, RemoteTraceback) and id(cause) not in seen:
        seen.add(id(cause))
        cause = cause.__cause__
    if not isinstance(cause, RemoteTraceback):
        return None
    text = cause.tb.strip("\n")
    return text if '\n  File "' in text else None


def _circumstances(outcome: Outcome[Any]) -> dict[str, Any]:
    return {"attempts": outcome.attempts, "seconds": round(outcome.seconds, 6), "worker": outcome.worker}


def _item(item: Any) -> Any:
    """The item if JSON holds it, else a text: code of its class may run, and raise what it will."""
    try:
        to_json(item)
    except Exception:
        return _shown(item)
    return item


def _shown(item: Any) -> str:
    """The text of an item that is none of JSON: for people, so no longer than they read."""
    if isinstance(item, (bytes, bytearray)) and len(item) > LONGEST_TEXT:  # four times as long as a text
        return f"{repr_text(item[: LONGEST_TEXT // 8])} ... ({len(item):,} bytes)"
    text = repr_text(item)
    left_out, half = len(text) - LONGEST_TEXT, LONGEST_TEXT // 2
    return text if left_out <= 0 else f"{text[:half]} ... ({left_out:,} characters) ... {text[-half:]}"


class JsonLinesSink:
    """Writes outcomes of a `JsonFunction`, a line each: the bare value, or a full record.

    A record is {"index", "kind", "value", "attempts", "seconds", "worker"}; one of a failure has "error",
    "message", "item" and, for an exception of the function, "traceback" in place of "value".
    Without records, failures are not written.

    Lines are on their way after `FLUSH_S` at the latest, also when the next outcome takes long: a small
    thread sees to that. It uses a descriptor, no buffered file: a forked worker's copy of a file's buffer
    would be written a second time as the worker ends.
    """

    def __init__(self, fd: int, *, name: str, records: bool = False) -> None:
        """See the class.

        Args:
            fd: An open descriptor, closed by `close()`.
            name: What messages call it.
        """
        self.records = records
        self._fd = fd
        self._name = name
        #: a person looks at it
        self._terminal = os.isatty(fd)
        self._lines: list[str] = []
        self._waiting = 0  # characters in _lines
        self._error: OutputError | None = None
        self._lock = threading.Lock()  # guards the four above
        self._closing = threading.Event()
        self._flusher = threading.Thread(target=self._keep_flushing, name="allcores-sink", daemon=True)
        try:
            self._flusher.start()
        except BaseException:  # of a signal's handler: it runs already, and nobody would end it
            self._closing.set()
            raise

    @classmethod
    def open(cls, path: str, *, records: bool = False, stdout_fd: int = 1) -> JsonLinesSink:
        """A sink that replaces the file `path`, or writes to standard output ("-").

        Args:
            stdout_fd: The descriptor that is standard output; it is not closed.
        """
        try:
            if path == STDOUT:
                fd, name = os.dup(stdout_fd), "standard output"
            else:
                fd, name = os.open(path, _REPLACE, 0o666), path
            try:
                return cls(fd, name=name, records=records)
            except BaseException:  # no thread can be had
                os.close(fd)
                raise
        except (OSError, ValueError) as error:
            if deferral.raised_by_handler(error):
                raise
            raise OutputError(_sentence("standard output" if path == STDOUT else path, error)) from None

    def write(self, outcome: Outcome[Any]) -> None:
        """Take one outcome. Raises OutputError if this or an earlier one could not be written."""
        line = self._line(outcome)
        if line is not None:
            self._put(line)

    def write_failure(self, record: dict[str, Any]) -> None:
        """Take the record of a failure, as `failure_record` makes it. Raises OutputError as above."""
        if self.records:
            self._put(to_json(record) + "\n")

    def _put(self, line: str) -> None:
        if self._terminal:
            line = safe_json(line)
        with self._lock:
            self._lines.append(line)
            self._waiting += len(line)
            if self._waiting >= FLUSH_CHARACTERS:
                self._flush()
            self._check()

    def close(self) -> None:
        """Write what waits and close. Raises OutputError if something could not be written."""
        self._closing.set()
        self._flusher.join()
        with self._lock:
            if self._fd < 0:
                return
            self._flush()
            fd, self._fd = self._fd, -1
            try:
                os.close(fd)  # a network file system may tell here that the disk is full
            except OSError as error:
                self._error = self._error or OutputError(_sentence(self._name, error))
            self._check()

    def __enter__(self) -> JsonLinesSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            # Now: a reader that is stopped, or takes its time (`| less`), must not hold up who was interrupted.
            self._closing.set()
            self._flusher.join(LAST_S)
            if self._flusher.is_alive():
                return
        with contextlib.suppress(OutputError) if error is not None else contextlib.nullcontext():
            self.close()

    def _line(self, outcome: Outcome[Any]) -> str | None:
        if outcome.ok:
            if not self.records:
                return f"{outcome.value}\n"
            start = f'{{"index": {outcome.index}, "kind": "{Kind.OK.value}", "value": '
            return f"{start}{outcome.value}, {json.dumps(_circumstances(outcome))[1:]}\n"
        return to_json(failure_record(outcome)) + "\n" if self.records else None

    def _keep_flushing(self) -> None:
        over = False
        while not over:
            over = self._closing.wait(FLUSH_S)
            with self._lock:
                self._flush()

    def _flush(self) -> None:
        """Write all lines; the lock is held. After an error nothing more is written."""
        lines, self._lines, self._waiting = self._lines, [], 0
        if self._error is not None or not lines:
            return
        rest = memoryview("".join(lines).encode())
        try:
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:  # another program made the pipe non-blocking, and it is full
                    select.select([], [self._fd], [])
        except OSError as error:
            left = error.errno == errno.EPIPE
            self._error = OutputError(_sentence(self._name, error), reader_left=left)
            if deferral.raised_by_handler(error):
                raise  # a time limit, say; a part of a line may be there, so that no other is to follow

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


_REPLACE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _sentence(name: str, error: OSError | ValueError) -> str:
    return f"cannot write {name}: {getattr(error, 'strerror', None) or error}"
