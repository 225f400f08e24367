"""A line that a task prints is one write also where Python is unbuffered (`PYTHONUNBUFFERED`, `python -u`).

There `print` writes the text, and then the end of the line, and what another worker prints comes between the two. It is
put together here, and written at once, as is what has no end of a line: nothing waits.
"""

from __future__ import annotations

import builtins
import sys
from io import TextIOWrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_python_print = builtins.print


def begin() -> None:
    """Print whole lines from now on, to standard streams as Python has made them."""
    unbuffered = any(type(each) is TextIOWrapper and each.write_through for each in (sys.stdout, sys.stderr))
    if unbuffered and builtins.print is _python_print:
        builtins.print = _print


def _print(
    *values: object, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
) -> None:
    stream = sys.stdout if file is None else file
    texts = sep is None or isinstance(sep, str), end is None or isinstance(end, str)
    if type(stream) is not TextIOWrapper or not stream.write_through or not all(texts):
        _python_print(*values, sep=sep, end=end, file=file, flush=flush)
        return
    stream.write((" " if sep is None else sep).join(map(str, values)) + ("\n" if end is None else end))
    if flush:
        stream.flush()


# As the function that it stands for, also where it is an item or a result, and is known by its name.
_print.__module__, _print.__name__, _print.__qualname__ = "builtins", "print", "print"
_print.__doc__ = _python_print.__doc__
