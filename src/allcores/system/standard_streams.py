"""What was printed is written out, whatever the program has in the place of the standard streams."""

from __future__ import annotations

import contextlib
import sys


def flush() -> None:
    """Flush standard output and error, and what Python made of them, which one of the program's own may write to.

    Such an object need not have a method for that: `print` asks for none.
    """
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            # It may be closed, its reader may be gone, and an object of the program's own may raise what it will.
            with contextlib.suppress(Exception):
                stream.flush()
