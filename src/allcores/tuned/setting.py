"""A setting of a pool, as it is searched for and kept."""

from __future__ import annotations

from typing import Any

from allcores.formatting import counted
from allcores.system.plain_record import record

#: backends that a setting may have
BACKENDS = ("serial", "threads", "processes")
#: what a worker, a chunk and a depth may be at most; what is kept and lies above was not written here
MOST_WORKERS, MOST_CHUNK, MOST_DEPTH = 4_096, 1 << 40, 4_096


@record
class PoolSetting:
    """How a pool runs a function.

    Attributes:
        backend: "serial" (a loop), "threads" or "processes".
        workers: How many; 1 for "serial".
        chunk: Items that travel together; None: chunks size themselves.
        depth: Chunks that a worker holds at most; None: as `Limits` has it.
    """

    backend: str
    workers: int = 1
    chunk: int | None = None
    depth: int | None = None

    @property
    def place(self) -> tuple[str, int, int | None]:
        """What the pool has to be made with: settings that differ in their chunk alone share a pool."""
        return self.backend, self.workers, self.depth

    @property
    def text(self) -> str:
        """In words: "2 processes, chunk of 64, depth of 4"."""
        if self.backend == "serial":
            return "a loop"
        words = [counted(self.workers, *(("thread",) if self.backend == "threads" else ("process", "processes")))]
        if self.chunk is not None:
            words.append(f"chunk of {self.chunk:,}")
        if self.depth is not None:
            words.append(f"depth of {self.depth}")
        return ", ".join(words)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"backend": self.backend, "workers": self.workers, "chunk": self.chunk, "depth": self.depth}


def setting_from(found: Any) -> PoolSetting:
    """The setting in plain JSON.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(found, dict) or found.keys() != {"backend", "workers", "chunk", "depth"}:
        raise ValueError("it is no setting")
    backend = found["backend"]
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend {backend!r}")
    return PoolSetting(
        backend,
        _number(found["workers"], MOST_WORKERS),
        None if found["chunk"] is None else _number(found["chunk"], MOST_CHUNK),
        None if found["depth"] is None else _number(found["depth"], MOST_DEPTH),
    )


def _number(value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{value!r} is no number from 1 to {most}")
    return value
