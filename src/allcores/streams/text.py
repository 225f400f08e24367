"""Files of text, line by line, and the sentences about what cannot be read.

Lines are split at newlines in the *bytes*, so that a number in a message is the number an editor
shows, and a byte that will not decode can be told with its line. (`str.splitlines` would also split at
U+2028 and form feeds.)
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from allcores.errors import UsageError
from allcores.streams.compression import compression_of, open_to_read

#: the file name that means standard input
STDIN = "-"
#: bytes; a longer line is refused, for most likely it is no text file and would fill the memory
LINE_BYTES_MAX = 256 * 1024 * 1024
#: bytes; up to here a file's lines are counted beforehand (some 40 ms), so that progress knows its end
COUNT_BYTES_MAX = 32 * 1024 * 1024


class BadInput(UsageError):
    """An input cannot be read; the message names the file and, where there is one, the line.

    path: the file's name as it was given, "-" for standard input.
    line: the line, counted from 1; None if the trouble is the file as a whole.
    """

    def __init__(self, message: str, *, path: str, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


def check_encoding(encoding: str) -> None:
    """Raise UsageError unless `encoding` is known and has newlines that are the byte 10."""
    try:
        newline = codecs.encode("\n", encoding)
    except (LookupError, UnicodeError, TypeError):
        newline = None
    if newline != b"\n":
        raise UsageError(
            f"encoding {encoding!r} is not known, or not one that can be read line by line:"
            " try utf-8, latin-1 or cp1252, or convert the file first"
        )


def check_readable(path: str) -> None:
    """Raise BadInput if it is plain already that `path` cannot be read."""
    if path == STDIN:
        return
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            inside = os.path.join(path, "**", "*")
            raise BadInput(f"{path} is a folder: for the files in it, use --files '{inside}'", path=path)
        if not os.access(path, os.R_OK):
            raise BadInput(f"cannot read {path}: Permission denied", path=path)
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"cannot read {path}: {_reason(error)}", path=path) from None


def decoded(path: str, number: int, raw: bytes, encoding: str) -> str:
    """A line as text, without line end and byte order mark. number: counted from 1. Raises: BadInput."""
    if len(raw) == LINE_BYTES_MAX and not raw.endswith(b"\n"):
        size = f"{LINE_BYTES_MAX >> 20} MB"
        message = f"{_place(path, number)}: longer than {size}; is this a file of lines?"
        raise BadInput(message, path=path, line=number)
    if number == 1 and raw.startswith(codecs.BOM_UTF8):
        raw = raw[len(codecs.BOM_UTF8) :]
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        culprit = f"byte 0x{raw[error.start]:02x} at position {error.start + 1}"
        message = (
            f"{_place(path, number)}: {culprit} is not {encoding};"
            " if the text is in another encoding, name it (--encoding latin-1, for one)"
        )
        raise BadInput(message, path=path, line=number) from None
    return text.removesuffix("\n").removesuffix("\r")


def json_item(path: str, number: int, text: str) -> Any:
    """The JSON value in a line. Raises: BadInput."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_line(path, number, f"{_json_trouble(error)}: {_shortened(text)}") from None


def bad_line(path: str, number: int, trouble: str) -> BadInput:
    """What is wrong with a line."""
    return BadInput(f"{_place(path, number)}: {trouble}", path=path, line=number)


def read_trouble(path: str, number: int, error: Exception) -> BadInput:
    """A line could not be read at all."""
    return BadInput(f"cannot read {_place(path, number)}: {_reason(error)}", path=path)


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file, open for reading bytes; standard input stays open afterwards."""
    if path == STDIN:
        if sys.stdin is None:
            raise BadInput("standard input is closed", path=path)
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_to_read(path))
        except (OSError, ValueError) as error:
            raise BadInput(f"cannot read {path}: {_reason(error)}", path=path) from None
        yield file


def count_lines(path: str, *, skip_blank: bool) -> int | None:
    """The number of lines of a small regular file, else None."""
    try:
        facts = os.stat(path) if path != STDIN else os.fstat(0)
        if path == STDIN or not stat.S_ISREG(facts.st_mode) or facts.st_size > COUNT_BYTES_MAX or compression_of(path):
            return None
        with open(path, "rb") as file:
            return sum(1 for line in file if not (skip_blank and line.isspace()))
    except (OSError, ValueError):
        return None


def _place(path: str, line: int) -> str:
    return f"{'standard input' if path == STDIN else path}, line {line}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _json_trouble(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg}, column {error.colno})"
    if isinstance(error, RecursionError):
        return "JSON nested too deeply"
    return f"not usable JSON ({error})"  # a number of more digits than sys.get_int_max_str_digits()


def _shortened(text: str, limit: int = 60) -> str:
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return short if short.isprintable() else ascii(short)
