"""A template of a pool begins with what a process would that the program has started just now.

It is a copy of one that was started earlier, by the same program, which may have gone elsewhere since: to another
folder, with another environment, its output redirected. What a process inherits and can set is sent along and set here.
What it cannot set, or what matters to an interpreter as it starts, has to be the same (`backends.processes.templates`).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def adopt(settings: Mapping[str, Any], out: int, err: int, folder: int | None) -> None:
    """Take over the program's.

    Args:
        settings: `environ`, `path`, `argv`, `bounds` (limits of recursion and of digits), `umask` (None: as it is) and
            `folder`, the last by name.
        out: Descriptor of its standard output. This and the next two are closed.
        err: Of its standard error.
        folder: Of its working folder; None: it cannot be opened.
    """
    for number, descriptor in ((1, out), (2, err)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):
        _renew_stream(name, number)
    if settings["umask"] is not None:
        os.umask(settings["umask"])
    _adopt_environment(settings["environ"])
    recursion, digits = settings["bounds"]
    with contextlib.suppress(RecursionError):  # it is lower than where this is called
        sys.setrecursionlimit(recursion)
    sys.set_int_max_str_digits(digits)
    sys.path[:] = settings["path"]
    sys.argv[:] = settings["argv"]
    # Files may have come since this process has looked.
    importlib.invalidate_caches()
    # By its descriptor: its name may be gone, or mean another by now.
    with contextlib.suppress(OSError):
        os.chdir(settings["folder"] if folder is None else folder)
    if folder is not None:
        os.close(folder)


def _adopt_environment(environ: Mapping[str, str]) -> None:
    zone = os.environ.get("TZ")
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    for name, value in environ.items():
        if os.environ.get(name) != value:
            # A name that no system takes would not have come to a new process either.
            with contextlib.suppress(OSError, ValueError):
                os.environ[name] = value
    if zone != os.environ.get("TZ") and hasattr(time, "tzset"):
        time.tzset()


def _renew_stream(name: str, descriptor: int) -> None:
    """A stream as Python makes them when it starts: whether it goes to a terminal or a file may have changed."""
    old = getattr(sys, name)
    if type(old) is not io.TextIOWrapper or old is not getattr(sys, f"__{name}__"):
        return
    unbuffered = not isinstance(old.buffer, io.BufferedWriter)
    raw = io.FileIO(descriptor, "wb", closefd=False)
    raw.name = f"<{name}>"
    interactive = raw.isatty()
    stream = io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=old.encoding,
        errors=old.errors,
        newline="\n",
        line_buffering=interactive or name == "stderr",
        write_through=old.write_through,
    )
    stream.mode = "w"  # type: ignore[misc]
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)
