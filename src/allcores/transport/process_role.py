"""What this process is for: whether a pool that is made here is made to be used.

Modules hold pools (`pool = Pool()` below the imports). Processes that do another's work import the same modules, for
the functions in them, and so make these pools, too; nearly always nobody uses them there.
"""

from __future__ import annotations

import sys

_is_worker = False
_in_interpreter = False
_place = 0


def become_worker() -> None:
    """This process, and what is forked from it, does the work of another: it is a worker, or a template of workers."""
    global _is_worker
    _is_worker = True


def is_worker() -> bool:
    """Whether this process does the work of another."""
    return _is_worker


def become_interpreter() -> None:
    """This interpreter is one of several of its process, and does the work of another of them."""
    global _in_interpreter
    become_worker()
    _in_interpreter = True


def in_interpreter() -> bool:
    """Whether this is an interpreter beside that of the program: the process is not its own."""
    return _in_interpreter


def take_place(place: int) -> None:
    """This worker has the place of that number, from 1: the one that is started in its stead has the same."""
    global _place
    _place = place


def place() -> int:
    """The number of this worker's place among those of its pool, from 1; 0 where it is none."""
    return _place


def only_imports() -> bool:
    """Whether a pool that is made now may wait for its first use.

    So in a worker, or while multiprocessing imports the main module of a program for a process that is being made.
    """
    if _is_worker:
        return True
    process = sys.modules.get("multiprocessing.process")
    # Its own word for that time; set in a process of "spawn", and in the server of "forkserver".
    return process is not None and getattr(process.current_process(), "_inheriting", False)
