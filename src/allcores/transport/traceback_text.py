"""The worker's traceback as text: without frames of ours, and with source lines that only the program knows."""

from __future__ import annotations

import os
import re
import sys

from allcores.system import tracebacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

#: the line of a frame, behind what groups put before it
_FRAME = re.compile(r'([ |]*)File "(.+)", line (\d+), in (.*)')
#: a longer script that was read from standard input is not looked up, bytes
LONGEST_SCRIPT = 4 << 20


def formatted(error: BaseException, trace: TracebackType | None) -> str:
    """What Python prints of an exception, its causes and contexts. Raises whatever code of the exception does."""
    from traceback import TracebackException

    found = TracebackException(type(error), error, trace, compact=True)
    if not tracebacks.full():
        for each in _parts(found):
            each.stack[:] = [frame for frame in each.stack if not frame.filename.startswith(tracebacks.HERE)]
    return "".join(found.format())


def _parts(found: Any) -> Iterator[Any]:
    waiting, seen = [found], set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += (each.__cause__, each.__context__, *(each.exceptions or ()))


def completed(text: str) -> str:
    """A traceback from a worker, with the source lines of what is no file: cells of a notebook, `python -c`, stdin."""
    lines = text.split("\n")
    whole = []
    for number, line in enumerate(lines):
        whole.append(line)
        frame = _FRAME.fullmatch(line)
        if frame is None:
            continue
        indent = frame[1] + "  "
        if number + 1 < len(lines) and lines[number + 1].startswith(indent):
            continue
        if source := _source_line(frame[2], int(frame[3]), frame[4]):
            whole.append(indent + source)
    return "\n".join(whole)


def _source_line(file: str, number: int, function: str) -> str:
    import linecache

    if (line := linecache.getline(file, number).strip()) or not file.startswith("<"):
        return line
    source = _script_of(file)
    name = function.rpartition(".")[2]
    # Code that was compiled elsewhere may have the same name for its file.
    if source is None or (name != "<module>" and f"def {name}" not in source and not name.startswith("<")):
        return ""
    lines = source.splitlines()
    line = lines[number - 1].strip() if number <= len(lines) else ""
    return line if name != "<lambda>" or "lambda" in line else ""


def _script_of(file: str) -> str | None:
    """The source of a program that has no file; None if it cannot be had."""
    if getattr(sys.modules.get("__main__"), "__file__", None) not in (None, "<stdin>"):
        return None
    if file == "<string>" and "-c" in sys.orig_argv[1:-1]:
        return sys.orig_argv[sys.orig_argv.index("-c", 1) + 1]
    if file == "<stdin>":
        try:
            # It fails for pipes, and they have given all they had.
            return os.pread(0, LONGEST_SCRIPT, 0).decode()
        except (OSError, ValueError):
            return None
    return None
