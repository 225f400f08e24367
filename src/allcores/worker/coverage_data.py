"""What coverage.py has counted in a worker, written when the worker ends.

coverage.py saves when Python exits (`atexit`), which a forked worker never does: it ends by `os._exit`, as those of
`multiprocessing` do. Without this the lines that ran in workers would be reported as missed.
"""

from __future__ import annotations

import contextlib
import sys


def save() -> None:
    """Write what was counted in this process, if coverage.py runs here and each process has a data file of its own.

    Called at the normal end of a worker. Nothing is imported: where the program is not measured this is one lookup.
    """
    coverage = sys.modules.get("coverage")
    if coverage is None:
        return
    # A measurement that cannot be saved is no reason to take the worker's end for a crash.
    with contextlib.suppress(Exception):
        current = coverage.Coverage.current()
        # Without `parallel` a forked worker would write to the very file of the process it was forked from.
        if current is not None and current.get_option("run:parallel"):
            current.stop()
            current.save()
