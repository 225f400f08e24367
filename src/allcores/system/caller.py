"""Warnings that name the line of the program that called allcores, however deep inside they arise."""

from __future__ import annotations

import os
import sys
import threading
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: tells a warning in the place of `warnings`: a command has no line of a program to name
tell: Callable[[str], None] | None = None
_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep
#: where the stack of a thread begins: no line of the program's
_THREADS = threading.__file__


def warn(message: str, kind: type[Warning] = RuntimeWarning) -> None:
    """A warning at the innermost line outside of this package; on a thread of ours, at the line that calls.

    Told by `tell` where there is one. Python 3.12 has `skip_file_prefixes` for this. A fixed `stacklevel` is wrong as
    soon as a function is put between.
    """
    if tell is not None:
        tell(message)
        return
    level, frame = 2, sys._getframe(1)
    outside = 0
    while frame is not None and not outside:
        name = frame.f_code.co_filename
        if name == _THREADS:
            break
        if not name.startswith(_HERE):
            outside = level
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(message, kind, stacklevel=outside or 2)
