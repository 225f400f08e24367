"""What a cluster has to offer: which nodes there are, and a way for bytes to each of them and back."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

#: takes a node's reply, or what went wrong; on any thread
Done = Callable[[bytes | None, BaseException | None], None]


#: seconds to see whether an address is listened at
LISTEN_S = 2.0


class SchedulerLost(Exception):
    """The cluster cannot be reached any more; the message is the end of a sentence."""


class SchedulerSilent(Exception):
    """The cluster cannot be reached now, and may be again; the message is the end of a sentence."""


class NodeSilent(Exception):
    """A node does not take what is sent to it, and may do so again; the message is the end of a sentence."""


class Cluster(Protocol):
    """One connection to a cluster. Methods may be called from two threads: one asks for nodes, one sends."""

    #: as people call it
    title: str
    #: where it is, for messages
    address: str

    def nodes(self) -> dict[str, int]:
        """The nodes that can be used now, and how many cores each offers. May wait some seconds.

        Raises:
            SchedulerLost: The cluster is gone.
            SchedulerSilent: It cannot be asked now. So is what else is raised.
        """

    def is_there(self) -> bool:
        """Whether the process that `nodes` asks is there, as the system it runs on says. Waits two seconds at most."""

    def send(self, node: str, data: bytes, done: Done) -> None:
        """Have `node.exchange(data)` called on a node; `done` gets what it returns.

        Waits no longer than the data need on their way.

        Raises:
            NodeSilent: They do not arrive. What else goes wrong is raised, or `done` gets it.
        """

    def delay(self, node: str) -> str | None:
        """Why a node that was sent its first request some seconds ago has not begun with it, the end of a sentence.

        None if it has begun, or nobody knows. May wait some seconds.
        """

    def silence(self, node: str) -> str | None:
        """Why a node is not among `nodes` though the cluster has it: it says nothing. The end of a sentence.

        None if the cluster does not have it. Waits for nothing.
        """

    def drop(self, node: str) -> None:
        """A node is not used any more."""

    def close(self) -> None:
        """End the connection; bounded."""


def listens(host: str, port: int) -> bool:
    """Whether a process listens there; the system answers for one that is stopped or busy, too."""
    try:
        socket.create_connection((host, port), LISTEN_S).close()
    except OSError:
        return False
    return True
