"""Forks elsewhere in the program wait while descriptors of ours are in the making.

Another thread may fork (a `multiprocessing.Pool`, say) in the middle of a launch. Its child would keep
copies of half-made descriptors that no at-fork hook knows of yet: of the pipe by which `subprocess` learns
that a program has started, so that the launch never returned; of our end of the template's socket, so
that nobody noticed the end of this process. So forks and launches take turns.
"""

from __future__ import annotations

import os
import threading

#: seconds that a fork waits for a launch at most; a launch takes milliseconds
PATIENCE_S = 5.0

#: held while descriptors are made and written down, and around every fork
_turn = threading.RLock()
#: threads whose fork has the turn
_forking: set[int] = set()


class ForkLock:
    """A block in which no other thread of this program forks."""

    def __enter__(self) -> None:
        _turn.acquire()

    def __exit__(self, *_: object) -> None:
        _turn.release()


def _before() -> None:
    if _turn.acquire(timeout=PATIENCE_S):
        _forking.add(threading.get_ident())


def _after() -> None:
    if threading.get_ident() in _forking:
        _forking.discard(threading.get_ident())
        _turn.release()


def _after_in_child() -> None:
    global _turn
    # Whoever else held it or waited for it does not exist here.
    _forking.clear()
    _turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
