"""A real Dask cluster of processes on this machine, for tests: a scheduler and nodes, run as a script.

It prints the address and the pids of its nodes' processes, and ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    """Start so many nodes as the first argument says, with so many threads each as the second says.

    The third is their protocol: tcp, or tls with the certificates that the environment names.
    """
    import dask
    import distributed

    untyped: Any = distributed

    dask.config.set({"distributed.admin.tick.limit": "60s", "distributed.worker.daemon": True})
    with untyped.LocalCluster(
        n_workers=int(sys.argv[1]),
        threads_per_worker=int(sys.argv[2]),
        processes=True,
        dashboard_address=":0",
        protocol=f"{sys.argv[3]}://",
        security=untyped.Security(),
    ) as cluster:
        pids = [nanny.pid for nanny in cluster.workers.values()]
        print(json.dumps({"pid": os.getpid(), "address": cluster.scheduler_address, "pids": pids}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
