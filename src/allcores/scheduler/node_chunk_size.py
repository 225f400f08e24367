"""How many items travel to a node at once: enough work for all of its cores, since a message costs more there."""

from __future__ import annotations

from allcores.scheduler.chunk_size import Chunker


class NodeChunker(Chunker):
    """Sizes chunks of which each is run by all cores of a node.

    Args:
        fixed: The caller's chunk size; None for chunks that size themselves.
        cores: Of a node.
    """

    #: A remote task costs 5 to 10 ms of several processes. With 20 ms of work it would be a third of the time, with
    #: 100 ms, growing to a second with the run, it is 1 to 5 %. Larger: results come in larger bursts, and more is run
    #: again when a node is lost.
    first_ns = 100_000_000
    most_ns = 1_000_000_000
    tail_ns = 20_000_000
    #: A message costs this program, and the scheduler of Dask, two to three ms of a core each. With 20 ms they are busy
    #: for half of the time or more, with however many nodes, reports of parts included; see docs/design/scale.md.
    #: Smaller: they are the bound from some dozen nodes on. Larger: results come in larger bursts.
    each_worker_ns = 20_000_000

    __slots__ = ("_cores",)

    def __init__(self, fixed: int | None, cores: int) -> None:
        super().__init__(fixed)
        self._cores = cores

    def observe(self, count: int, total_ns: int, size_bytes: int, batch: int = 1) -> None:
        """See `Chunker`: what items take of the node's time, of which all cores are a part."""
        super().observe(count, total_ns // self._cores, size_bytes, batch)
