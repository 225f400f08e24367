"""A program on a real Ray cluster of two nodes on this machine, one of which is killed; run as a script by a test.

It prints what came out as one line of JSON. The cluster is its own, and ends with it.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any


def double(number: int) -> int:
    return number * 2


def refuse_sevens(number: int) -> int:
    if number % 10 == 7:
        raise ValueError(f"no {number}")
    return number


def end(number: int) -> int:
    if number == 5:
        os._exit(7)
    return number


def hang(number: int) -> int:
    if number == 2:
        time.sleep(600)
    return number


def meet(job: tuple[str, int]) -> int:
    """Tell who runs this, and wait until the folder has a file of the name `go`."""
    folder, number = job
    (Path(folder) / f"{os.getpid()}-{os.getppid()}").touch()
    while not (Path(folder) / "go").exists():
        time.sleep(0.01)
    return number


def parents(pid: int) -> list[int]:
    """The processes above one, the nearest first."""
    found: list[int] = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def main() -> None:
    """Work, kill a node in the middle, and tell."""
    faulthandler.dump_traceback_later(200, exit=True)
    import ray
    from ray.cluster_utils import Cluster

    import allcores

    untyped: Any = Cluster
    folder = sys.argv[1]
    told: dict[str, Any] = {}
    cluster = untyped(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        with allcores.Pool(backend="ray") as pool:
            told["workers"] = pool.workers
            told["doubled"] = pool.map(double, range(500)) == [2 * n for n in range(500)]
            told["refused"] = [o.index for o in pool.outcomes(refuse_sevens, range(30)) if not o.ok]
            told["ended"] = [(o.index, o.kind.value) for o in pool.outcomes(end, range(10)) if not o.ok]
            hung = pool.outcomes(hang, range(5), timeout=1)
            told["hung"] = [(o.index, o.kind.value) for o in hung if not o.ok]
            shared = pool.share(bytes(range(256)) * 1000)
            told["shared"] = pool.map(len, [shared] * 4)
            del shared
            futures = [pool.submit(meet, (folder, number)) for number in range(4)]
            seen: set[int] = set()
            while len(seen) < 2:
                for future in futures:
                    if future.done():  # it waits for the others, so it has failed
                        future.result()
                seen |= {int(each.name.split("-")[0]) for each in Path(folder).iterdir() if "-" in each.name}
                threading.Event().wait(0.01)
            lost = {info.process.pid for infos in second.all_processes.values() for info in infos}
            victims = [pid for pid in seen if lost & set(parents(pid))]
            for pid in lost:
                os.kill(pid, signal.SIGKILL)
            told["on_the_lost_node"] = len(victims)
            (Path(folder) / "go").touch()
            told["met"] = [future.result(120) for future in futures]
            told["afterwards"] = pool.map(double, range(50)) == [2 * n for n in range(50)]
        ray.shutdown()
    except BaseException:
        print(json.dumps(told), file=sys.stderr)
        raise
    finally:
        cluster.shutdown()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
