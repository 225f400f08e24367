"""A function on its way to the workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Function:
    """A function as the pipes know it: a number, and bytes that travel once per worker.

    Args:
        style: How a worker calls it: "one" fn(item), "star" fn(*item), "call" fn(*args, **kwargs).
        target: The function, where it is called in this process; None if workers have it from its bytes.
    """

    __slots__ = ("__weakref__", "doubtful", "leases", "name", "number", "payload", "style", "target", "words")

    def __init__(
        self, number: int, target: Any, payload: bytes, style: str, name: str, leases: dict[int, Any] | None = None
    ) -> None:
        #: what of it lies in shared memory: offsets of blocks, and what keeps them
        self.leases = leases or {}
        self.number = number
        self.target = target
        self.payload = payload
        self.style = style
        self.name = name
        #: a node was lost that had it, and nothing of it has come back since: to read it may be what ends nodes
        self.doubtful = False
        #: what messages call a call of it, from its name and arguments; None: the name alone
        self.words: Callable[[str, Sequence[Any], Mapping[str, Any]], str] | None = None
