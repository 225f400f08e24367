"""Clusters that tests run, each a program of its own that ends with its input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.process.waiting import PATIENCE_S

import allcores

HERE = Path(__file__).parent
#: Dask looks at its stacks a hundred times a second, and at itself fifty times, also at rest
RARELY = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__MONITOR_INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "500ms",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s",
}


class DaskNodes:
    """A Dask cluster of `nodes` processes with `threads` each, ended at the end of the block.

    With `tls`, variables of the environment that name certificates, it accepts nothing else than TLS.

    Attributes:
        address: Of its scheduler.
        pids: Of the nodes that it began with.
        scheduler: Pid of the process that schedules.
    """

    def __init__(self, nodes: int = 2, threads: int = 1, *, tls: dict[str, str] | None = None) -> None:
        root = HERE.parents[1]
        self._program = subprocess.Popen(
            [sys.executable, str(HERE / "dask_nodes.py"), str(nodes), str(threads), "tcp" if tls is None else "tls"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Nodes import what tests do.
            cwd=root,
            env={**os.environ, **RARELY, **(tls or {}), "PYTHONPATH": f"{root}:{Path(allcores.__file__).parents[1]}"},
        )
        assert self._program.stdout is not None
        told = json.loads(self._program.stdout.readline())
        self.address: str = told["address"]
        self.pids: list[int] = told["pids"]
        self.scheduler: int = told["pid"]

    def __enter__(self) -> DaskNodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and wait for that."""
        program = self._program
        assert program.stdin is not None and program.stdout is not None
        program.stdin.close()
        try:
            program.wait(PATIENCE_S)
        finally:
            program.kill()
            program.wait(PATIENCE_S)
            program.stdout.close()
