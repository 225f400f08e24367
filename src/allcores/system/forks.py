"""Objects that have to begin anew in a child of a fork: locks that other threads held, what the parent had opened.

As the child begins, and not when one is first used there: its first threads may use one at the same moment.
"""

from __future__ import annotations

import os

from allcores.system.weak_objects import WeakObjects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Renewed(Protocol):
        """What is told."""

        def after_fork(self) -> None:
            """This process is the child. No thread but this one is there; who held a lock does not exist here."""


#: of this process, as long as they are there
_renewed: WeakObjects[Renewed] = WeakObjects()


def renew_in_children(each: Renewed) -> None:
    """Have an object told of it in each child of a fork."""
    _renewed.add(each)


def in_child(function: Callable[[], None]) -> Callable[[], None]:
    """Have a module's function called in each child of a fork, where there are forks: a decorator."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


@in_child
def _after_fork() -> None:
    for each in _renewed.all():
        each.after_fork()
