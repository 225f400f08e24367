"""The end of a process that a task has forked, and that came back from the function: a copy of the worker."""

from __future__ import annotations

import contextlib
import os
import sys

from allcores.system import standard_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def leave(error: BaseException | None = None) -> NoReturn:
    """End this process as Python would, which its parent may wait for: it must not answer in the worker's name.

    Args:
        error: What the function has raised; None: it returned. Then nothing is written out: what waits to be is a copy.
    """
    code = 0
    with contextlib.suppress(BaseException):
        code = _code_of(error)
        if error is not None:
            standard_streams.flush()
    os._exit(code)


def _code_of(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1
