"""A real cluster of Dask on this machine, its scheduler and nodes each a process: run as a script.

It prints the address, and ends when its input does.

python benchmarks/scale/cluster_program.py NODES CORES
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

if __name__ != "__main__":
    from benchmarks.processes import RUN, environment


def main() -> None:
    """Start it, and wait for the end."""
    import dask
    import distributed

    dask.config.set({"distributed.admin.tick.limit": "60s"})
    nodes, cores = map(int, sys.argv[1:3])
    with distributed.LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=nodes, threads_per_worker=cores, processes=True, dashboard_address=":0"
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()


@contextmanager
def nodes_here(nodes: int, cores: int) -> Iterator[str]:
    """The address of the scheduler of a cluster, which is ended with the block."""
    program = subprocess.Popen(
        [sys.executable, __file__, str(nodes), str(cores)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(RUN),
    )
    assert program.stdin is not None and program.stdout is not None
    try:
        yield program.stdout.readline().strip()
        program.stdin.close()
        program.wait(60)
    finally:
        program.kill()
        program.wait(60)
        program.stdout.close()


if __name__ == "__main__":
    main()
