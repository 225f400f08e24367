"""A cluster whose nodes are pools of this very process, and that loses what a test wants it to lose."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from allcores.adapters.cluster import node as node_side
from allcores.adapters.cluster.base import Done


class NodesHere:
    """See `allcores.adapters.cluster.base.Cluster`.

    Args:
        names: Of its nodes.
        is_lost: Whether a node's answer to its request of this number is lost on the way.
    """

    title = "test"
    address = "here"

    def __init__(self, names: str, is_lost: Callable[[str, int], bool]) -> None:
        #: more may come
        self.names = names
        #: of each
        self.cores = 1
        self._is_lost = is_lost
        self._sent: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        #: what it knows of a node that does not begin
        self.why: str | None = None
        #: why nodes that it does not name are silent; None: it does not have them
        self.silent: str | None = None
        #: nodes that are not used any more
        self.dropped: list[str] = []
        self.is_closed = False

    def nodes(self) -> dict[str, int]:
        return dict.fromkeys(self.names, self.cores)

    def is_there(self) -> bool:
        return True

    def send(self, node: str, data: bytes, done: Done) -> None:
        self._sent[node] = self._sent.get(node, 0) + 1
        thread = threading.Thread(target=self._carry, args=(node, self._sent[node], data, done))
        self._threads.append(thread)
        thread.start()

    def _carry(self, node: str, number: int, data: bytes, done: Done) -> None:
        reply = node_side.exchange(data)
        if not self._is_lost(node, number):
            done(reply, None)

    def sent(self, node: str) -> int:
        """How many requests went to a node."""
        return self._sent.get(node, 0)

    def delay(self, node: str) -> str | None:
        return self.why

    def silence(self, node: str) -> str | None:
        return self.silent

    def drop(self, node: str) -> None:
        self.dropped.append(node)

    def close(self) -> None:
        self.is_closed = True

    def join(self) -> None:
        """Until nothing is on its way, and no node has a pool: one that hears nothing ends it."""
        for thread in self._threads:
            thread.join()
        for thread in threading.enumerate():
            if thread.name == "allcores-lease":
                thread.join()


def given(address: Any) -> Any:
    """The connection to a cluster that is given as the address."""
    return address
