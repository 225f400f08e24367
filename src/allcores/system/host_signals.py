"""Whether Ctrl-C has the handler that Python believes: a program that Python is part of may have set its own.

uWSGI does, after Python has set its own, and ends its workers by that signal. Python goes on to name its own. Whoever
sets one for a while, and then that again, takes the signal from the program, which waited a minute for each worker.
"""

from __future__ import annotations

import sys
from _signal import default_int_handler  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def not_set() -> Any:
    """What Python names as the handler of SIGINT though the process has another one; None if what it names is true."""
    return default_int_handler if "uwsgi" in sys.modules else None
