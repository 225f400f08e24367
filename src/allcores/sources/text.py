"""Files of text, line by line, and the sentences about what cannot be read.

Lines are split at newlines in the *bytes*, so that a number in a message is the number an editor
shows, and a byte that will not decode can be told with its line. (`str.splitlines` would also split at
U+2028 and form feeds.)
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import select
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from allcores.errors import UsageError
from allcores.formatting import size_text
from allcores.sources.compression import compression_of, decompressing
from allcores.sources.file_names import all_inside
from allcores.system import deferral
from allcores.system.file_beginnings import UNPACKS, UTF_16, ZIP, compression_by_content

#: the file name that means standard input
STDIN = "-"
#: bytes; a longer line is refused, for most likely it is no text file and would fill the memory
LINE_BYTES_MAX = 256 * 1024 * 1024
#: bytes; up to here a file's lines are counted beforehand (some 40 ms), so that progress knows its end
COUNT_BYTES_MAX = 32 * 1024 * 1024
#: what to do about line ends that are none
CARRIAGE_RETURNS = "its lines end with carriage returns alone: convert them first (tr '\\r' '\\n' < OLD > NEW)"
#: what to do about text of another encoding, where that can be named
NAME_ENCODING = "if the text is in another encoding, name it (--encoding latin-1, for one)"
_JSON_BEGINS = frozenset(b'{["-0123456789tfn')


class BadInput(UsageError):
    """An input cannot be read; the message names the file and, where there is one, the line.

    Args:
        path: The file's name as it was given, "-" for standard input.
        line: The line, counted from 1; None if the trouble is the file as a whole.
    """

    def __init__(self, message: str, *, path: str, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


def check_encoding(encoding: str) -> None:
    """Raise UsageError unless `encoding` is known and has newlines that are the byte 10."""
    try:
        # utf-8-sig writes a byte order mark first, which is no matter for reading.
        newline = codecs.encode("\n", encoding).removeprefix(codecs.BOM_UTF8)
        known = newline == b"\n" and b"\n".decode(encoding) == "\n"
    except Exception as error:  # of the codec: there are some that are no text, and some that refuse everything
        if deferral.raised_by_handler(error):
            raise
        known = False
    if not known:
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
            inside = all_inside(path)
            raise BadInput(f"{path} is a folder: for the files in it, use --files '{inside}'", path=path)
        if not os.access(path, os.R_OK):
            raise BadInput(f"cannot read {path}: Permission denied", path=path)
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput) or deferral.raised_by_handler(error):
            raise
        raise BadInput(f"cannot read {path}: {reason_of(error)}", path=path) from None


def first_line(number: int, raw: bytes) -> bytes:
    """A line without the byte order mark that a file may begin with.

    Args:
        number: Counted from 1.
    """
    return raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw


def decoded(path: str, number: int, raw: bytes, encoding: str) -> str:
    """A line as text, without line end and byte order mark.

    Args:
        number: Counted from 1.

    Raises:
        BadInput: If it is not text of that encoding.
    """
    if len(raw) >= LINE_BYTES_MAX and is_too_long(raw):
        raise too_long(path, number)
    if number == 1:
        raw = first_line(number, raw)
    try:
        text = raw.decode(encoding)
    except UnicodeError as error:
        raise undecodable(path, number, raw, encoding, error) from None
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def is_blank(text: str) -> bool:
    """True for a line of JSON Lines that is passed over. The one rule, whoever reads, counts or skips."""
    return not text or text.isspace()


def is_too_long(raw: bytes) -> bool:
    """True if `raw`, read with a limit of `LINE_BYTES_MAX`, is the beginning of a line that is longer."""
    return len(raw) >= LINE_BYTES_MAX and not raw.endswith(b"\n")


def too_long(path: str, number: int) -> BadInput:
    """A line is longer than any line should be."""
    return bad_line(path, number, f"longer than {size_text(LINE_BYTES_MAX)}; is this a file of lines?")


def undecodable(
    path: str, number: int, raw: bytes, encoding: str, error: UnicodeError, *, advice: str = NAME_ENCODING
) -> BadInput:
    """The bytes of a line are no text."""
    if number == 1 and (found := no_text(path, raw)):
        advice = found
    elif b"\0" in raw:
        advice = "is this a file of text?"
    if isinstance(error, UnicodeDecodeError):
        fault = f"byte 0x{raw[error.start]:02x} at position {error.start + 1} is not {encoding}"
    else:
        fault = f"not {encoding} ({error})"
    return bad_line(path, number, f"{fault}; {advice}")


def no_text(path: str, raw: bytes) -> str | None:
    """What a file is that is no text by its first bytes, and the way to its lines; None if they do not tell."""
    if raw.startswith(UTF_16):
        return "it begins as UTF-16 does: convert it first (iconv -f utf-16 -t utf-8)"
    if raw.startswith(ZIP):
        return "it begins as an archive does, which .xlsx files are: unpack it, or save the table as CSV"
    suffix = compression_by_content(raw)
    if suffix is None:
        return None
    if names_read_once(path) is not None:
        return f"it begins as {suffix} does: unpack it on the way ({UNPACKS[suffix]} FILE | ...)"
    return f"it begins as {suffix} does: give it a name that ends with {suffix}, and it is unpacked on the way"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        name = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {_shortened(name)!r} occurs twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def json_value(text: str) -> Any:
    """The value of a JSON text, in which no value is lost: two of one name in an object are refused.

    Raises:
        ValueError: If it is none (`json.JSONDecodeError`), or cannot be had; RecursionError if it is too deep.
    """
    return _DECODER.decode(text)


def json_value_at(text: str, place: int) -> tuple[Any, int]:
    """The same for a value in the midst of a text.

    Args:
        text: What has the value.
        place: Where it begins.

    Returns:
        The value, and the place behind it.
    """
    return _DECODER.raw_decode(text, place)


def json_item(path: str, number: int, text: str) -> Any:
    """The JSON value in a line.

    Raises:
        BadInput: If the file is not of its format.
    """
    try:
        return json_value(text)
    except (ValueError, RecursionError) as error:
        raise bad_line(path, number, f"{json_trouble(error)}: {_shortened(text)}") from None


def bad_line(path: str, number: int, trouble: str) -> BadInput:
    """What is wrong with a line."""
    return BadInput(f"{place(path, number)}: {trouble}", path=path, line=number)


def read_trouble(path: str, number: int, error: Exception) -> BadInput:
    """A line could not be read at all.

    Raises:
        Exception: The error itself, if a signal's handler raised it, a time limit say: the file is not at fault.
    """
    if deferral.raised_by_handler(error):
        raise error
    return BadInput(f"cannot read {place(path, number)}: {reason_of(error)}", path=path)


@contextlib.contextmanager
def opened(path: str) -> Iterator[tuple[BinaryIO, bool]]:
    """The file, open for reading bytes, and whether it gives them once; standard input stays open afterwards.

    What a pipe, a socket or a device has given is gone, whatever its name is (/dev/stdin, a FIFO, <(…) of a shell).
    """
    if path == STDIN:
        file = getattr(sys.stdin, "buffer", None)
        if file is None:
            raise BadInput("standard input is closed, or no stream of bytes", path=path)
        yield _waiting(file), True
        return
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(open(path, "rb", buffering=0))
            once = gives_once(os.fstat(raw.fileno()).st_mode)
            reader = stack.enter_context(decompressing(raw, path))
        except (OSError, ValueError) as error:
            if deferral.raised_by_handler(error):
                raise  # a pipe that nobody opens is waited for
            raise BadInput(f"cannot read {path}: {reason_of(error)}", path=path) from None
        yield reader, once


def _waiting(file: BinaryIO) -> BinaryIO:
    """Standard input as a file whose reads wait; it may be shared with a program that made it non-blocking."""
    try:
        if os.get_blocking(file.fileno()):
            return file
    except (OSError, ValueError) as error:  # it has no descriptor, or none that is open: reading will tell
        if deferral.raised_by_handler(error):
            raise
        return file
    return io.BufferedReader(_Waiting(file))


class _Waiting(io.RawIOBase):
    """A file that has nothing yet is waited for; io.BufferedReader would take that for its end."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            count: int | None = self._file.readinto1(buffer)
            if count is not None:
                return count
            select.select([self._file], [], [])


def gives_once(mode: int) -> bool:
    """True if what a file of this mode has given is gone. The one rule, for open files and for names."""
    return stat.S_IFMT(mode) in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)


def names_read_once(path: str) -> tuple[int, int] | None:
    """What a path names, if that can be read only once; None for what can be read again, or is not there."""
    try:
        facts = os.fstat(0) if path == STDIN else os.stat(path)
    except (OSError, ValueError) as error:
        if deferral.raised_by_handler(error):
            raise
        return (-1, -1) if path == STDIN else None
    return (facts.st_dev, facts.st_ino) if path == STDIN or gives_once(facts.st_mode) else None


def count_lines(path: str, encoding: str | None = None) -> int | None:
    """The number of lines of a small regular file, else None.

    Args:
        encoding: Of one whose blank lines are not counted.
    """
    if path == STDIN or compression_of(path):
        return None
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > COUNT_BYTES_MAX:
            return None
        with open(path, "rb") as file:
            if encoding is None:
                return sum(1 for _ in file)
            # Decoding takes most of the time, so it is left out for lines that begin as a JSON value does.
            return sum(
                1
                for number, raw in enumerate(file, 1)
                if raw[0] in _JSON_BEGINS or not is_blank(first_line(number, raw).decode(encoding, "replace"))
            )
    except (OSError, ValueError) as error:
        if deferral.raised_by_handler(error):
            raise
        return None


def check_names(names: Iterable[str], where: str, *, path: str, advice: str) -> None:
    """Raise BadInput if a name occurs twice: an item, a dict, would hold one of the values and lose the other."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        first = seen.setdefault(name, number)
        if first != number:
            columns = f"columns {first} and {number}"
            raise BadInput(f"{where}: the name {_shortened(repr(name))} occurs twice ({columns}): {advice}", path=path)


def place(path: str, line: int) -> str:
    """A line of a file, for messages."""
    return f"{'standard input' if path == STDIN else path}, line {line}"


def reason_of(error: Exception) -> str:
    """What went wrong, in a line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


def json_trouble(error: ValueError | RecursionError) -> str:
    """What is wrong with a text that is no JSON, as `json_value` raises it."""
    if isinstance(error, json.JSONDecodeError):
        begun = error.doc.strip()
        more = ""
        if begun in ("[", "{", "[{"):  # of a whole document, laid out for people
            way = "jq -c '.[]'" if begun.startswith("[") else "jq -c ."
            more = f"; each value has to be in a line of its own, as {way} writes them"
        elif error.msg == "Extra data" and "\r" in error.doc[: error.pos]:
            more = f"; {CARRIAGE_RETURNS}"
        return f"not JSON ({error.msg}, column {error.colno}{more})"
    if isinstance(error, RecursionError):
        return "JSON nested too deeply"
    # a name that occurs twice, or a number of more digits than sys.get_int_max_str_digits()
    return f"not usable JSON ({error})"


def _shortened(text: str, limit: int = 60) -> str:
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return short if short.isprintable() else ascii(short)
