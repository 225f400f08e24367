"""How objects of `multiprocessing` are pickled: with its own ways, and with ours for semaphores without a name."""

from __future__ import annotations

import sys

from allcores.transport.inheritance import this_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def reducers_for(data: bytes | None = None) -> Mapping[Any, Any] | None:
    """How to pickle what multiprocessing has ways of its own for; None where plain pickle will do.

    Args:
        data: What plain pickle made of it, if that was tried. It copies the number of a connection's descriptor, which
            means something else in another process.
    """
    if this_thread.legacy is None and (
        data is None or "multiprocessing.connection" not in sys.modules or b"multiprocessing.connection" not in data
    ):
        return None
    from multiprocessing.reduction import ForkingPickler

    known: Mapping[Any, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    if this_thread.legacy is None and this_thread.many:
        from multiprocessing.connection import Connection

        return {**known, Connection: _refuse}
    if "multiprocessing.synchronize" not in sys.modules:
        return known
    from allcores.transport import semaphores

    return {**known, **semaphores.REDUCERS}


def _refuse(connection: object) -> tuple[Any, ...]:
    raise TypeError(f"{type(connection).__name__} objects can be handed over once")
