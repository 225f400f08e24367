"""What each node makes its pool of, as it travels."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allcores.adapters.cluster.messages import Opening
from allcores.adapters.cluster.node import versions
from allcores.transport import pickling

if TYPE_CHECKING:
    from allcores.backends.base import WorkerInit
    from allcores.limits import Limits
    from allcores.shared_memory.buffers import BufferedPickle

    Pack = Callable[[object], bytes | BufferedPickle]


#: Seconds that a node may take to make its pool, besides `Limits.setup_s`, which may be small and is for workers.
OPEN_MORE_S = 30.0


class Openings:
    """Packed anew for each node: what setup and preload are given may have grown.

    Args:
        settings: Options of a node's pool.
        worker_init: See `Pool`; each node does it.
        limits: Of the pool.
    """

    def __init__(self, settings: dict[str, Any], worker_init: WorkerInit, limits: Limits) -> None:
        self._setup_s = limits.setup_s
        self._options = settings | {
            "limits": limits,
            "setup": worker_init.setup,
            "setup_args": worker_init.setup_args,
            "teardown": worker_init.teardown,
            "preload": worker_init.preload,
            "preload_args": worker_init.preload_args,
        }

    def check(self, pack: Pack) -> None:
        """Whether it can be packed at all. Raises NotPicklable."""
        pickling.dump_named(self._options, "pool", pack)

    def opening(
        self, pack: Pack, contents: Callable[[int], bytes], cores: int, report_s: float, logs: bytes | None
    ) -> Opening:
        """What a node is told. A node has nothing before its pool: contents that are shared go along.

        Args:
            pack: Makes bytes.
            contents: Of what is shared, by number.
            cores: Of the node.
            report_s: See Opening.
            logs: See Opening.
        """
        packed = pack(self._options)
        blobs: tuple[tuple[int, bytes], ...] = ()
        if not isinstance(packed, bytes):
            blobs = tuple((number, contents(number)) for number in packed.leases)
            packed = packed.data
        open_s = self._setup_s + OPEN_MORE_S
        return Opening(packed, cores, *versions(), blobs, report_s, logs, _module_path(), open_s)

    def clear(self) -> None:
        """Let go of all of it."""
        self._options = {}


def _module_path() -> tuple[str, ...]:
    """Where this program finds its modules, for processes with another working folder."""
    found = []
    for entry in sys.path:
        with contextlib.suppress(OSError):  # the working folder is gone
            if isinstance(entry, str):
                found.append(os.path.abspath(entry))
    return tuple(found)
