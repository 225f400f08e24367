"""What commands write: plain text for people, JSON for machines; sizes and seconds as people read them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal

import click

from allcores.cli.exits import CommandError, Exit
from allcores.errors import UsageError
from allcores.limits import check_batch
from allcores.system import posix
from allcores.system.terminal_text import safe_json, safe_text

_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """Bytes from "500M", "1.5 GiB", "800kb" or "1048576". Prefixes count in 1,024.

    Raises:
        UsageError: If it is no size, or below one byte.
    """
    match = _SIZE.fullmatch(text)
    number = float(match[1]) * 1024 ** _POWERS[match[2].lower()] if match else 0.0
    size = int(number) if math.isfinite(number) else 0
    if size < 1:
        raise UsageError(f"'{text}' is no size: write bytes, or a number like 500M or 1.5G")
    return size


class Seconds(click.FloatRange):
    """The type, for click, of an option that is a number of seconds: "nan" and "inf" are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, within the range."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return found


def size_option(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """The callback, for click, of an option that is a size in bytes."""
    if value is None:
        return None
    try:
        return parse_size(value)
    except UsageError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def batch_option(ctx: click.Context, param: click.Parameter, value: str | None) -> int | Literal["auto"] | None:
    """The callback, for click, of the option that is the size of a batch."""
    if value is None:
        return None
    try:
        return check_batch("auto" if value == "auto" else int(value))
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a whole number, 1 or more, nor auto", ctx, param) from None


def shortened(text: str, limit: int = 60) -> str:
    """`text` in one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


#: those of the descriptors 0 to 2 that the command was started without; they are the null device now
missing: set[int] = set()


def keep_standard() -> None:
    """Open what is missing, before a file of ours gets its number; what is printed there goes nowhere."""
    missing.update(posix.keep_standard())
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", errors="replace", closefd=False))  # noqa: SIM115


def is_of_output(error: OSError) -> bool:
    """Whether an error comes from writing text on standard output, and not from what a command did."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is click.echo.__code__


def unwritten() -> OSError | None:
    """What keeps text that was written on standard output from getting there; None if all of it is there.

    What is left goes nowhere from then on, nor does what is left for standard error: Python would try once more as it
    ends, tell of that in lines of its own, and end with a code of its own.
    """
    _flush(2, sys.stderr)
    return _flush(1, sys.stdout)


def _flush(number: int, stream: Any) -> OSError | None:
    try:
        stream.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            _to_nowhere(number, stream)
        return error
    except (AttributeError, ValueError):  # there is none, or it is closed
        return None
    return None


def _to_nowhere(number: int, stream: Any) -> None:
    """Have a standard stream write to the null device."""
    if stream.fileno() != number:
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, number)
    finally:
        os.close(null)
    stream.flush()


def check_stdout() -> None:
    """Raise CommandError if nobody would get what is written on standard output."""
    if 1 in missing:
        raise CommandError("standard output is closed, and that is where this goes: give it, or name a file with -o")


def show(text: str) -> None:
    """Write for people what they asked for: lines on standard output."""
    check_stdout()
    text = safe_text(text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:  # as on standard error: what a terminal of another language has no sign for is escaped
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    click.echo(text)


def say(text: str) -> None:
    """Write for people: lines on standard error. If nobody listens there any more, so be it."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(safe_text(text), err=True)


def note(sentence: str) -> None:
    """What is worth knowing although the command goes on."""
    say(f"note: {sentence.removeprefix('allcores: ')}")


def print_error(sentence: str) -> None:
    """The one sentence that tells why a command ended."""
    say(f"allcores: {sentence}")


def write_json(value: Any, *, fd: int | None = None) -> None:
    """Write for machines: one JSON document on standard output (or the descriptor that stands for it).

    Raises:
        CommandError: It takes nothing; BrokenPipeError: nobody reads it any more.
    """
    check_stdout()
    text = safe_json(json.dumps(value, indent=2)) + "\n"
    if fd is None:
        click.echo(text, nl=False)
        return
    rest = text.encode()
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write standard output: {error.strerror}", Exit.OUTPUT) from None


@contextlib.contextmanager
def reserved_stdout() -> Iterator[int]:
    """A private descriptor of standard output; meanwhile, what is printed goes to standard error.

    So a `print` in the function, or in a worker, cannot end up between the lines of the output.
    """
    sys.stdout.flush()
    private = os.dup(1)
    try:
        os.dup2(2, 1)
        yield private
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.dup2(private, 1)
        os.close(private)
