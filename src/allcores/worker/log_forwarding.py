"""What a worker logs or prints, sent to the parent. Imported only where that is wanted: it takes `logging`."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from allcores.transport import frames
from allcores.transport.pickling import dumps, loads

#: characters of a message, a traceback or a line that are sent
MOST_CHARACTERS = 32_768
#: bytes of a record's own attributes (`extra`) that are sent
MOST_EXTRA = 65_536
#: bytes of what a preload function logs and prints that are kept for the program; the rest goes to standard error
MOST_KEPT = 16 << 20

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class Notes(Protocol):
    """Takes frames for the parent."""

    def note(self, data: bytes) -> bool:
        """Take a frame, without waiting; False if it cannot be."""


class NoteFile:
    """Frames in a file that the parent will read, as they come: also what comes before a crash.

    Args:
        descriptor: Of the file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._left = MOST_KEPT
        self._process = os.getpid()

    def note(self, data: bytes) -> bool:
        """See `Notes`. What the function forks has its own standard error for it."""
        if len(data) > self._left or os.getpid() != self._process:
            return False
        self._left -= len(data)
        return os.write(self._descriptor, data) == len(data)

    def close(self) -> None:
        """Take no more: whoever holds on to a stream of ours writes to the one below."""
        self._left = 0


def uninstall() -> None:
    """End what `install` has begun: nothing is forwarded, and lines go where they went before."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, LogForwarder)]:
        root.removeHandler(handler)
    for name in ("stdout", "stderr"):
        lines = getattr(sys, name)
        if isinstance(lines, Lines):
            lines.finish()
            setattr(sys, name, lines.below)


def install(frame_writer: Notes, body: bytes) -> None:
    """Begin: from now on records go to the parent, and printed lines, if it asked for them."""
    levels, disabled, prints = loads(body)
    if levels is not None:
        _configure(LogForwarder(frame_writer), levels, disabled)
    if prints:
        sys.stdout = Lines(frame_writer, "stdout", sys.stdout)
        sys.stderr = Lines(frame_writer, "stderr", sys.stderr)
        _installed[:] = sys.stdout, sys.stderr


#: in the place of the standard streams; tasks may put others there, which write to these
_installed: list[Lines] = []


def finish() -> None:
    """At the end of the worker: what was printed and has no end of a line is sent, too."""
    for lines in _installed:
        lines.finish()


def _configure(log_forwarder: LogForwarder, levels: dict[str, int], disabled: int) -> None:
    root = logging.getLogger()
    known = [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for logger in (root, *known):
        # A forked worker has copies of the parent's handlers: with them each record would come out twice.
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.disabled = False
        # The parent decides where a record goes from here; on the way there it passes the root.
        logger.propagate = True
    root.addHandler(log_forwarder)
    set_levels(levels, disabled)


def set_levels(levels: dict[str, int], disabled: int) -> None:
    """Have loggers send what the program's own would handle; nothing where their records do not go there."""
    if not _is_forwarding():
        return
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)
    logging.disable(disabled)


def capture_warnings(captured: bool) -> None:
    """Have warnings be records as in the program, likewise."""
    if _is_forwarding():
        logging.captureWarnings(captured)


def _is_forwarding() -> bool:
    return any(isinstance(each, LogForwarder) for each in logging.getLogger().handlers)


class LogForwarder(logging.Handler):
    """Turns records into frames. It takes no lock: a thread that logs never waits for another."""

    def __init__(self, frame_writer: Notes) -> None:
        super().__init__()
        self._frame_writer = frame_writer

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            body = pack(record)
        except Exception:
            self.handleError(record)
            return
        if self._frame_writer.note(frames.frame(frames.LOG, 0, body)):
            return
        last = logging.lastResort
        if last is not None and record.levelno >= last.level:
            last.handle(record)


def pack(record: logging.LogRecord) -> bytes:
    """A record as bytes: its message is made here, attributes that will not pickle become text."""
    facts = {name: value for name, value in record.__dict__.items() if name in _STANDARD}
    try:
        message = record.getMessage()
    except Exception as error:
        message = f"{record.msg!r} (its arguments do not fit: {type(error).__name__}: {error})"
    facts["msg"], facts["args"] = _cut(message), None
    if record.exc_info and not record.exc_text:
        facts["exc_text"] = _cut("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
    facts["exc_info"] = None
    for name, value in facts.items():
        if not isinstance(value, (str, int, float, type(None))):
            facts[name] = repr(value)
    extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    return dumps((facts, _pack_extra(extra) if extra else b""))


def _pack_extra(extra: dict[str, Any]) -> bytes:
    try:
        packed = dumps(extra, to_parent=True)
    except Exception:
        extra = {name: value if _pickles(value) else _text(value) for name, value in extra.items()}
        packed = dumps(extra, to_parent=True)
    return packed if len(packed) <= MOST_EXTRA else b""


def _pickles(value: Any) -> bool:
    try:
        dumps(value, to_parent=True)
    except Exception:
        return False
    return True


def _text(value: Any) -> str:
    try:
        return _cut(repr(value))
    except Exception:
        return f"<{type(value).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"


class _Begun:
    """A line that a thread has begun, which is one when the thread ends.

    Args:
        send: Takes it then.
    """

    __slots__ = ("__weakref__", "_process", "_send", "text")

    def __init__(self, send: Callable[[str], None]) -> None:
        self.text = ""
        self._send = send
        self._process = os.getpid()

    def finish(self) -> None:
        """There is no more to come."""
        rest, self.text = self.text, ""
        # In a process that was forked meanwhile it is a copy, of a thread that is not there.
        if rest and os.getpid() == self._process:
            self._send(rest)

    def __del__(self) -> None:
        self.finish()


class Lines(io.TextIOBase):
    """In place of sys.stdout or sys.stderr: sends whole lines. What writes to the descriptor itself passes by it."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, frame_writer: Notes, name: str, below: Any) -> None:
        self._frame_writer = frame_writer
        self.name = name
        self.below = below
        #: of each thread, what it has written of a line; and all of them
        self._this_thread = threading.local()
        self._all: list[weakref.ref[_Begun]] = []

    def __getattr__(self, name: str) -> Any:
        # What is asked of a stream beyond lines (`reconfigure`, `buffer`) is that of the one below.
        if name == "below":
            raise AttributeError(name)
        return getattr(self.below, name)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        number: int = self.below.fileno()
        return number

    def write(self, text: str) -> int:
        begun = getattr(self._this_thread, "begun", None)
        if begun is None:
            begun = self._this_thread.begun = _Begun(self._finish)
            self._all.append(weakref.ref(begun, self._all.remove))
        *lines, rest = (begun.text + text).split("\n")
        if len(rest) > MOST_CHARACTERS:
            lines, rest = [*lines, rest], ""
        begun.text = rest
        if lines:
            self._send(lines)
        return len(text)

    def flush(self) -> None:
        """A line that is not finished stays: the function may go on with it."""

    def finish(self) -> None:
        """At the end of the worker: lines without an end are some, too, of whichever thread."""
        for each in list(self._all):
            begun = each()
            if begun is not None:
                begun.finish()

    def _finish(self, rest: str) -> None:
        self._send([rest])

    def _send(self, lines: list[str]) -> None:
        body = dumps((self.name, [_cut(line) for line in lines]))
        if not self._frame_writer.note(frames.frame(frames.LOG, 1, body)):
            self.below.write("\n".join([*lines, ""]))
            self.below.flush()
