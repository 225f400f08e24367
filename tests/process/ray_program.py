"""A program on a real Ray cluster of two nodes on this machine: all that a pool has, then one is lost, then the head.

Run as a script by a test. It prints what came out as one line of JSON. The cluster is its own, and ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import allcores


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
    until = time.monotonic() + 120.0
    while not (Path(folder) / "go").exists():
        assert time.monotonic() < until, "nobody said go"
        time.sleep(0.01)
    return number


def fail_once(job: tuple[str, int]) -> int:
    """Fails at the first attempt."""
    folder, number = job
    try:
        (Path(folder) / f"tried.{number}").touch(exist_ok=False)
    except FileExistsError:
        return number
    raise ValueError(f"not yet {number}")


def load() -> dict[str, int]:
    return {"pid": os.getpid()}


def begin(loaded: dict[str, int], held: bytes) -> tuple[dict[str, int], int]:
    return loaded, len(held)


def with_state(state: tuple[dict[str, int], int], number: int) -> tuple[int, int, bool]:
    """What the worker was given, and whether `load` ran in a process above it, once for all workers of the node."""
    loaded, length = state
    return number, length, loaded["pid"] != os.getpid()


def note(job: list[Any]) -> int:
    """Tells that it runs, and where, and from a number on waits until the folder has a file of the name `over`."""
    folder, number = job
    with (Path(folder) / "ran").open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    while number >= 60 and not (Path(folder) / "over").exists():
        time.sleep(0.01)
    return int(number)


def add(one: int, other: int) -> int:
    return one + other


def parents(pid: int) -> list[int]:
    """The processes above one, the nearest first, up to one that is gone."""
    found: list[int] = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            break
        found.append(pid)
    return found


def contract() -> int:
    """Run those tests of the backends' contract that were asked for here, where the cluster is; pytest's exit code."""
    if len(sys.argv) < 3:
        return 0
    import pytest

    os.environ["ALLCORES_CONTRACT_PLACE"] = "ray"
    names = " or ".join(sys.argv[2:])
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", names]
    # The pool has imported libraries that are plugins of pytest, too.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    with contextlib.redirect_stdout(sys.stderr):
        return int(pytest.main([*options, "tests/contract/backends"]))


def every_method(pool: Any, told: dict[str, Any], folder: str) -> None:
    """What a pool has, in the order of its page."""
    numbers, doubled = range(40), [2 * n for n in range(40)]
    told["map"] = pool.map(double, range(500)) == [2 * n for n in range(500)]
    told["imap"] = list(pool.imap(double, iter(numbers))) == doubled
    told["imap_unordered"] = sorted(pool.imap_unordered(double, numbers)) == doubled
    told["starmap"] = pool.starmap(add, [(1, 2), (3, 4)])
    told["reduce"] = pool.reduce(double, numbers, add)
    told["submit"] = [pool.submit(double, n).result(60) for n in range(3)]

    async def asynchronous() -> list[int]:
        return [value async for value in pool.aimap(double, numbers)]

    told["aimap"] = asyncio.run(asynchronous()) == doubled
    told["refused"] = [o.index for o in pool.outcomes(refuse_sevens, range(30)) if not o.ok]
    told["ended"] = [(o.index, o.kind.value) for o in pool.outcomes(end, range(10)) if not o.ok]
    hung = pool.outcomes(hang, range(5), timeout=1)
    told["hung"] = [(o.index, o.kind.value) for o in hung if not o.ok]
    tried = pool.outcomes(fail_once, [(folder, number) for number in range(6)], retries=1)
    told["tried"] = [(o.value, o.attempts) for o in tried]
    shared = pool.share(bytes(range(256)) * 1000)
    told["shared"] = pool.map(len, [shared] * 4)
    result = pool.run(double, numbers, f"{folder}/first.jsonl", journal=journal_in(folder))
    told["run"] = result.ok, Path(folder, "first.jsonl").read_text().split() == [str(n) for n in doubled]
    refused = []
    for method in (pool.counter, pool.flag, lambda: pool.empty_shared(3), lambda: pool.actor(dict)):
        try:
            method()
        except allcores.NotSupported as error:
            refused.append(str(error).endswith("."))
    told["sentences"] = refused


def journal_in(folder: str) -> allcores.Journal:
    return allcores.Journal(folder=f"{folder}/runs", resume=True)


class Holder:
    """An actor of another's, which holds a CPU."""

    def begin(self) -> None:
        """Its end says that the actor has what it wants."""


def wait_for_cpus(told: dict[str, Any]) -> None:
    """Others have all CPUs: the pool says so while it waits, and goes on when it has them."""
    import ray as untyped
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from allcores.adapters.cluster import node_table

    ray: Any = untyped
    nodes = [each["NodeID"] for each in ray.nodes()]
    places = [NodeAffinitySchedulingStrategy(node_id=node, soft=False) for node in nodes]
    holders = [ray.remote(Holder).options(num_cpus=1, scheduling_strategy=place).remote() for place in places]
    ray.get([each.begin.remote() for each in holders])
    delay_ns, node_table.DELAY_NS = node_table.DELAY_NS, 1
    with warnings.catch_warnings(record=True) as heard, allcores.Pool(backend="ray") as pool:
        warnings.simplefilter("always")
        future = pool.submit(double, 2)
        while len(heard) < 2:
            threading.Event().wait(0.01)
        for each in holders:
            ray.kill(each)
        told["held"] = [future.result(120), *(("it has 0 of its 1 CPUs free" in str(each.message)) for each in heard)]
    node_table.DELAY_NS = delay_ns


def load_bytes(held: bytes) -> int:
    return len(held)


def count_all(held: bytes, loaded: int, job: tuple[bytes, int]) -> tuple[int, int, int, int]:
    shared, number = job
    return len(held), loaded, len(shared), number


def count_bytes(told: dict[str, Any]) -> None:
    """What each node is sent, in MB: what is shared, given to `preload` or bound to the function goes to it once."""
    from allcores.adapters.ray_cluster import RayCluster

    sent: dict[str, int] = {}
    send = RayCluster.send

    def counting(self: RayCluster, node: str, data: bytes, done: Any) -> None:
        sent[node] = sent.get(node, 0) + len(data)
        send(self, node, data, done)

    setattr(RayCluster, "send", counting)  # noqa: B010
    with allcores.Pool(backend="ray", preload=load_bytes, preload_args=(b"p" * 4_000_000,)) as pool:
        jobs = [(pool.share(b"s" * 4_000_000), number) for number in range(100)]
        count = functools.partial(count_all, b"f" * 2_000_000)
        found = pool.map(count, jobs[:1] * 100, chunk=2)
        # A node that came late was given nothing of a map that was over by then.
        while len(sent) < 2 or min(sent.values()) < 10_000_000:
            found += pool.map(count, jobs[:1] * 100, chunk=2)
    setattr(RayCluster, "send", send)  # noqa: B010
    told["counted"] = set(found) == {(2_000_000, 4_000_000, 4_000_000, 0)}
    told["sent_mb"] = [each // 1_000_000 for each in sent.values()]


#: a program that is not let in
OUTSIDE = """
import sys, allcores
try:
    allcores.Pool(backend="ray", address=sys.argv[1])
except allcores.BrokenPool as error:
    print(error)
"""


def ask_from_outside(address: str) -> list[subprocess.Popen[str]]:
    """Programs with another token than the cluster's, with none, and that know nothing of tokens."""
    token: dict[str, str] = {"RAY_AUTH_TOKEN": "0" * 64}
    without = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_TOKEN"}
    known = {key: value for key, value in without.items() if key != "RAY_AUTH_MODE"}
    return [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", OUTSIDE, address],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for env in (without | token, without, known)
    ]


def lose_the_head(cluster: Any, pool: Any, told: dict[str, Any], folder: str) -> None:
    """In the middle of a run, which goes on from its journal on this machine."""
    jobs = [[folder, number] for number in range(64)]
    head = cluster.head_node.all_processes["gcs_server"][0].process.pid
    before = pool.statistics().ok
    ran = Path(folder) / "ran"

    def begun_items() -> list[tuple[int, int]]:
        lines = ran.read_text().splitlines() if ran.exists() else []
        return [(int(number), int(pid)) for number, pid in (line.split() for line in lines)]

    def kill() -> None:
        # A node works at its chunks side by side: when the last one waits, others may have hardly begun.
        while not any(number >= 60 for number, _ in begun_items()):
            time.sleep(0.01)
        while pool.statistics().ok == before:
            time.sleep(0.01)
        os.kill(head, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    begun = time.monotonic()
    try:
        pool.run(note, jobs, f"{folder}/second.jsonl", journal=journal_in(folder), chunk=8)
    except allcores.BrokenPool as error:
        told["head"] = str(error).partition(" at ")[0], str(error).endswith("goes on where it stood, on any backend.")
    told["in_time"] = time.monotonic() - begun < 40
    killer.join()
    (Path(folder) / "over").touch()
    nodes = {pid for _, pid in begun_items()}  # what is left of them may still work
    with allcores.Pool(2) as here:
        result = here.run(note, jobs, f"{folder}/second.jsonl", journal=journal_in(folder))
    told["went_on"] = result.ok, result.resumed > 0, result.resumed + sum(pid not in nodes for _, pid in begun_items())
    told["output"] = Path(folder, "second.jsonl").read_text().split() == [str(number) for number in range(64)]


def end_all(cluster: Any) -> None:
    """End what is left of the cluster, which without a head cannot be asked to."""
    for node in cluster.list_all_nodes():
        for infos in node.all_processes.values():
            for info in infos:
                info.process.kill()
                info.process.wait(60)
    # What these had started would end when it notices, in minutes on a busy machine. Orphans have become our children.
    until = time.monotonic() + 60.0
    while (
        left := [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and os.getpid() in parents(int(pid))]
    ) and (time.monotonic() < until):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def adopt_orphans() -> None:
    """What a process leaves that this one has started, however far away, becomes a child of this one."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def main() -> None:
    """See the module. Ends without the library's end, which waits for the head, for a minute."""
    code = 1
    try:
        code = work()
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def work() -> int:
    """Use the pool, kill a node in the middle, and then the head, and tell; the exit code."""
    faulthandler.dump_traceback_later(270, exit=True)
    adopt_orphans()
    import ray
    import ray.exceptions
    from ray.cluster_utils import Cluster

    untyped: Any = Cluster
    folder = sys.argv[1]
    told: dict[str, Any] = {}
    # Nothing here looks at pages or logs, nor wants more nodes: each of these is a Python of its own.
    spare = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    cluster = untyped(initialize_head=True, head_node_args={"num_cpus": 1, **spare})
    try:
        second = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        # They wait for long, and need little. Older versions of Ray ask nobody.
        asked = ask_from_outside(cluster.address) if hasattr(ray.exceptions, "AuthenticationError") else []
        wait_for_cpus(told)
        # While one pool is open, all others have its process of Ray on each node: without it, each would have another,
        # which takes most of a second to start.
        with allcores.Pool(backend="ray") as pool:
            told["contract"] = contract()
            count_bytes(told)
            told["workers"] = pool.workers
            every_method(pool, told, folder)
            told["outside"] = [each.communicate(timeout=120)[0].partition(" (")[0] for each in asked]
            told["outside"] = [each.replace(cluster.address, "HEAD").strip() for each in told["outside"]]
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
            with allcores.Pool(backend="ray", preload=load, setup=begin, setup_args=(b"x" * 5000,)) as other:
                told["state"] = other.map(with_state, range(3))
            lose_the_head(cluster, pool, told, folder)
    except BaseException:
        print(json.dumps(told), file=sys.stderr)
        raise
    finally:
        end_all(cluster)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    main()
