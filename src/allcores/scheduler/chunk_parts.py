"""What chunks that were cut from one have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allcores.shared_memory.buffers import BufferedPickle


class PulledItems:
    """What chunks that were cut from one have in common: its bytes.

    Args:
        payload: The bytes of all its items.
        count: How many items these are.
    """

    __slots__ = ("count", "payload", "plain", "waiting")

    def __init__(self, payload: bytes | BufferedPickle, count: int) -> None:
        self.payload = payload
        self.count = count
        #: the items, as `backends.pulled_items` has read them back; None: it has not tried; empty: it cannot
        self.plain: list[Any] | None = None
        #: chunks of these items that wait for another attempt
        self.waiting = 0


class CancelToken:
    """Shared by a chunk and everything that was cut from it: a cancelled call stays so when it is requeued."""

    __slots__ = ("cancelled", "cancelled_ns", "is_sent")

    def __init__(self) -> None:
        self.cancelled = False
        #: since when
        self.cancelled_ns = 0
        #: of a call: a worker has it
        self.is_sent = False
