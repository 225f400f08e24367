"""The names of a program's main module: what is in it, no other process can import.

A process that `multiprocessing` has started by "spawn" or "forkserver" has read the script anew, as `__mp_main__`.
"""

from __future__ import annotations

import sys

MAIN, OF_A_CHILD = "__main__", "__mp_main__"
NAMES = (MAIN, OF_A_CHILD)


def is_of_a_child() -> bool:
    """Whether what is in this process's main module has the other name, or is a copy of what has it."""
    return OF_A_CHILD in sys.modules
