"""Real Dask clusters whose processes are killed while a pool works on them."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.installed import needed
from tests.process.clusters import DaskNodes
from tests.process.waiting import (
    PATIENCE_S,
    Bell,
    Gate,
    Watcher,
    lines,
    ring,
    wait_at,
    wait_full_strength,
    wait_gone,
    wait_until,
)

import allcores
from allcores import BrokenPool, Journal, Kind, Limits, NotSupported, Pipeline, Pool
from allcores.adapters.cluster import node_table, silence
from allcores.runs import directory

needed("distributed")
pytestmark = pytest.mark.cluster_client


@pytest.fixture(scope="module")
def nodes() -> Iterator[DaskNodes]:
    """Of all tests that leave it as it is. Two threads: a pool has two workers on each node."""
    with DaskNodes(2, threads=2) as nodes:
        # Each node's template starts with its first pool, and stays.
        watcher = Watcher()
        with Pool(backend="dask", address=nodes.address, observers=[watcher]) as pool:
            wait_full_strength(pool, watcher)
        yield nodes


def tell_parent(job: tuple[str, str, int]) -> int:
    """Tells the process that the node is, and waits at the gate."""
    bell, gate, number = job
    ring(bell, os.getppid())
    wait_at(gate)
    return number


def quick(number: int) -> int:
    return number + 1


def is_even(number: int) -> bool:
    return number % 2 == 0


def end(number: int) -> int:
    if number == 5:
        os._exit(7)
    return number


def node_of(pid: int) -> int:
    """The process of Dask above a worker of ours."""
    while True:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pid = int(fields[1])
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"multiprocessing" in words and b"allcores" not in words:
            return pid


class TestNodes:
    def test_a_crash_costs_one_item_and_what_needs_one_machine_is_refused(self, nodes: DaskNodes) -> None:
        with Pool(backend="dask", address=nodes.address) as pool:
            found = list(pool.outcomes(end, range(40)))
            for refused in (pool.counter, pool.flag, lambda: pool.empty_shared(3)):
                with pytest.raises(NotSupported, match="several machines"):
                    refused()
            with pytest.raises(NotSupported, match="one machine"):
                pool.actor(dict)
            with pytest.raises(NotSupported, match="its nodes have threads"):
                Pool(backend="dask", address=nodes.address, start_method="fork")
        assert [outcome.index for outcome in found if not outcome.ok] == [5]
        assert found[5].kind is Kind.WORKER_LOST
        assert "exited with code 7" in str(found[5].error)

    def test_a_node_that_is_killed_costs_nothing(self, tmp_path: Path) -> None:
        with (
            DaskNodes(2) as nodes,
            Bell(tmp_path / "bell") as bell,
            Gate(tmp_path / "gate") as gate,
            Pool(backend="dask", address=nodes.address) as pool,
        ):
            jobs = [(bell.path, gate.path, number) for number in range(6)]
            futures = [pool.submit(tell_parent, job) for job in jobs]
            first = bell.pids(2)
            victim = node_of(first[0])
            os.kill(victim, signal.SIGKILL)
            wait_gone([victim, first[0]])
            gate.open()
            assert [future.result(PATIENCE_S) for future in futures] == list(range(6))
            assert pool.statistics().requeues > 0
            assert pool.map(quick, range(100)) == list(range(1, 101))


def test_a_scheduler_that_is_killed_is_noticed_within_ten_seconds(tmp_path: Path) -> None:
    with DaskNodes(1) as nodes, Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        with Pool(backend="dask", address=nodes.address) as pool:
            future = pool.submit(tell_parent, (bell.path, gate.path, 1))
            bell.hear()
            os.kill(nodes.scheduler, signal.SIGKILL)
            begun = monotonic()
            with pytest.raises(BrokenPool, match=r"The Dask cluster at .* is lost: .* goes on where it stood"):
                future.result(PATIENCE_S)
            assert monotonic() - begun < 15
            gate.open()


def test_a_scheduler_that_stalls_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped until it was looked for three times: its system answers for it."""
    monkeypatch.setattr(silence, "SILENT_NS", 500_000_000)
    found: list[bool] = []
    kind = importlib.import_module("allcores.adapters.dask_cluster").DaskCluster
    look = kind.is_there

    def counted(cluster: Any) -> bool:
        found.append(look(cluster))
        return found[-1]

    monkeypatch.setattr(kind, "is_there", counted)
    with (
        DaskNodes(1) as nodes,
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        Pool(backend="dask", address=nodes.address) as pool,
    ):
        future = pool.submit(tell_parent, (bell.path, gate.path, 1))
        bell.hear()
        found.clear()
        os.kill(nodes.scheduler, signal.SIGSTOP)
        try:
            wait_until(lambda: len(found) >= 3)
        finally:
            os.kill(nodes.scheduler, signal.SIGCONT)
        gate.open()
        assert future.result(PATIENCE_S) == 1
        assert pool.map(quick, range(100)) == list(range(1, 101))
    assert all(found)


def stuck(job: tuple[str, int]) -> int:
    """Of number 2 in C code, which no exception reaches: it ends with its process."""
    bell, number = job
    if number == 2:
        ring(bell)
        re.match(r"(a+)+$", "a" * 60 + "b")
    return number


def hungry(number: int) -> int:
    if number == 2:
        held = bytearray(400_000_000)
        held[::4096] = b"x" * len(held[::4096])
        threading.Event().wait(PATIENCE_S)
    return number


def test_what_is_in_c_code_or_takes_too_much_memory_is_ended_on_its_node(nodes: DaskNodes, tmp_path: Path) -> None:
    limits = Limits(memory_per_worker=300_000_000)
    with Bell(tmp_path / "bell") as bell, Pool(backend="dask", address=nodes.address, limits=limits) as pool:
        jobs = [(bell.path, number) for number in range(5)]
        assert [outcome.kind for outcome in pool.outcomes(stuck, jobs, timeout=1)][2] is Kind.TIMED_OUT
        future = pool.submit(stuck, jobs[2])
        [_, (pid, _)] = bell.hear(2)
        assert future.cancel()
        wait_gone([pid])
        found = list(pool.outcomes(hungry, range(5)))
        assert [outcome.index for outcome in found if not outcome.ok] == [2]
        assert "Limits(memory_per_worker=...)" in str(found[2].error)
        assert pool.map(quick, range(10)) == list(range(1, 11))


def own_pool(number: int) -> list[int]:
    with Pool(2) as pool:
        return pool.map(quick, range(number))


@pytest.mark.leaks_allowed  # the template of its pool stays with the process of Dask, which ends with the cluster
def test_a_task_of_dask_may_have_a_pool(nodes: DaskNodes) -> None:
    """Dask's workers are daemonic processes, which may have no children by the standard library's way."""
    import distributed

    make_client: Any = distributed.Client
    with make_client(nodes.address) as client:
        assert client.submit(own_pool, 5).result(PATIENCE_S) == [1, 2, 3, 4, 5]


def note(job: list[object]) -> object:
    """Notes in a file that it runs, and waits at the gate from a number on."""
    ran, gate, number = job
    assert isinstance(number, int)
    with Path(str(ran)).open("a") as file:
        file.write(f"{number}\n")
    if number >= 200:
        wait_at(str(gate))
    return number


def test_a_run_whose_scheduler_is_killed_goes_on_elsewhere(tmp_path: Path) -> None:
    ran, out = tmp_path / "ran", tmp_path / "out.jsonl"
    journal = Journal(folder=tmp_path / "runs", resume=True)
    with Gate(tmp_path / "gate") as gate:
        jobs = [[str(ran), gate.path, number] for number in range(220)]
        with DaskNodes(1) as nodes, Pool(backend=f"dask://{nodes.address.removeprefix('tcp://')}") as pool:

            def kill() -> None:
                # A node works at its chunks side by side: when the last ones wait, others may have hardly begun.
                wait_until(lambda: ran.exists() and any(int(number) >= 200 for number in lines(ran)))
                wait_until(lambda: pool.statistics().ok > 0)
                os.kill(nodes.scheduler, signal.SIGKILL)

            killer = threading.Thread(target=kill)
            killer.start()
            with pytest.raises(BrokenPool, match="goes on where it stood"):
                pool.run(note, jobs, str(out), journal=journal)
            killer.join()
            gate.open()
        before = len(lines(ran))
        with Pool(2) as pool:
            result = pool.run(note, jobs, str(out), journal=journal)
    assert [json.loads(line) for line in lines(out)] == list(range(220))
    assert result.resumed > 0
    assert len(lines(ran)) - before == 220 - result.resumed


def drive(address: str, folder: str, gate: str) -> None:
    """A program that runs `note` on a cluster."""
    out = Path(folder, "out.jsonl")
    with Pool(backend="dask", address=address) as pool:
        pool.run(note, jobs_of(folder, gate), str(out), journal=journal_in(folder))


def jobs_of(folder: str, gate: str) -> list[list[object]]:
    return [[f"{folder}/ran", gate, number] for number in range(220)]


def journal_in(folder: str) -> Journal:
    return Journal(folder=Path(folder, "runs"), resume=True)


def test_a_run_whose_program_is_killed_goes_on_elsewhere(tmp_path: Path) -> None:
    ran, folder = tmp_path / "ran", str(tmp_path)
    with Gate(tmp_path / "gate") as gate, DaskNodes(1) as nodes:
        code = "import sys\nfrom tests.process.test_dask_faults import drive\ndrive(*sys.argv[1:])"
        root = Path(__file__).parents[2]
        path = f"{root}:{Path(allcores.__file__).parents[1]}"
        program = subprocess.Popen(
            [sys.executable, "-c", code, nodes.address, folder, gate.path],
            cwd=root,
            env={**os.environ, "PYTHONPATH": path},
        )
        wait_until(lambda: ran.exists() and any(int(number) >= 200 for number in lines(ran)))
        # A run is told of within a quarter of a second, and then has it in its journal: what is in a file of outcomes
        # counts once the catalogue says so.
        runs = str(tmp_path / "runs")
        wait_until(lambda: any(known.run_row.settled for known in directory.known_runs(runs)))
        program.kill()
        program.wait(PATIENCE_S)
        gate.open()
    before = len(lines(ran))
    with Pool(2) as pool:
        result = pool.run(note, jobs_of(folder, gate.path), str(tmp_path / "out.jsonl"), journal=journal_in(folder))
    assert [json.loads(line) for line in lines(tmp_path / "out.jsonl")] == list(range(220))
    assert result.resumed > 0
    assert len(lines(ran)) - before == 220 - result.resumed


def test_pipelines_and_the_command_line_have_clusters_too(nodes: DaskNodes, tmp_path: Path) -> None:
    place = nodes.address.replace("tcp://", "dask://")
    pipeline = Pipeline().map(quick).filter(is_even)
    assert list(pipeline.imap(range(100), backend=place)) == list(range(2, 101, 2))
    # An address that is said apart is that of the stages on the cluster, not of all.
    beside = Pipeline().map(quick).map(quick, on="threads", workers=1).map(quick, on="processes", workers=1)
    assert list(beside.imap(range(20), backend="dask", address=nodes.address)) == list(range(3, 23))
    (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(50)))
    command = [sys.executable, "-m", "allcores", "run", "json:loads", "in.txt", "-o", "out.jsonl", "--backend", place]
    home = str(tmp_path / "runs")
    done = subprocess.run(
        [*command, "--runs-dir", home], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in lines(tmp_path / "out.jsonl")] == list(range(50))


def test_no_scheduler_is_one_sentence() -> None:
    """In a program of its own: a client of Dask that found nobody leaves a descriptor open."""
    code = (
        "import allcores\nfrom allcores.adapters import dask_cluster\ndask_cluster.CONNECT_S = 1.0\n"
        "try:\n    allcores.Pool(backend='dask', address='tcp://127.0.0.1:9')\n"
        "except allcores.BrokenPool as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.startswith("There is no Dask scheduler at tcp://127.0.0.1:9: ")
    assert run.stdout.strip().endswith(
        "Start one (`dask scheduler`), or correct the address; one with TLS has tls://..., and no other."
    )


def test_a_missing_library_is_one_sentence(tmp_path: Path) -> None:
    code = (
        "import sys, allcores\nsys.modules['distributed'] = None\n"
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "hidden = lambda name: None if name == 'distributed' else find(name)\nimportlib.util.find_spec = hidden\n"
        "try:\n    allcores.Pool(backend='dask://127.0.0.1:1')\n"
        "except allcores.NotSupported as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "backend='dask' needs distributed: pip install 'allcores[dask]'"


def test_who_has_the_threads_that_a_pool_waits_for_is_told(
    nodes: DaskNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed

    monkeypatch.setattr(node_table, "DELAY_NS", 1)
    make_client: Any = distributed.Client
    with Gate(tmp_path / "gate") as gate, make_client(nodes.address) as client:
        held = [
            client.submit(wait_at, gate.path, workers=[each], pure=False)
            for each, threads in client.nthreads().items()
            for _ in range(threads)
        ]
        wait_until(lambda: all(len(tasks) == 2 for tasks in client.processing().values()))
        with pytest.warns(RuntimeWarning) as told, Pool(backend="dask", address=nodes.address) as pool:
            future = pool.submit(quick, 1)
            wait_until(lambda: len(told) == 2)
            gate.open()
            assert future.result(PATIENCE_S) == 2
        client.gather(held)
    for each in told:
        assert re.search(
            r"has not begun with this pool: other tasks have its 2 threads \(2 are there, as 'wait_at-.*'\)\. Wait for "
            r"them or cancel them, or .*\. The pool waits for it, 180 s at most\.$",
            str(each.message),
        )


def count_all(held: bytes, loaded: int, job: tuple[bytes, int]) -> tuple[int, int, int, int]:
    shared, number = job
    return len(held), loaded, len(shared), number


def test_what_is_shared_preloaded_or_bound_travels_once_to_each_node(
    nodes: DaskNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with each chunk, nor to each worker of the node."""
    from allcores.adapters.dask_cluster import DaskCluster

    sent: dict[str, int] = {}
    send = DaskCluster.send

    def counting(self: DaskCluster, node: str, data: bytes, done: Any) -> None:
        sent[node] = sent.get(node, 0) + len(data)
        send(self, node, data, done)

    monkeypatch.setattr(DaskCluster, "send", counting)
    with Pool(backend="dask", address=nodes.address, preload=len, preload_args=(b"p" * 4_000_000,)) as pool:
        shared = pool.share(b"s" * 4_000_000)
        jobs = [(shared, number) for number in range(100)]
        count = partial(count_all, b"f" * 2_000_000)
        found = pool.map(count, jobs, chunk=2)
        # A node that came late was given nothing of a map that was over by then.
        while len(sent) < 2 or min(sent.values()) < 10_000_000:
            assert pool.map(count, jobs, chunk=2) == found
    assert found == [(2_000_000, 4_000_000, 4_000_000, number) for number in range(100)]
    assert [each // 1_000_000 for each in sent.values()] == [10, 10]


OWN_MODULE = """
begun = 0
def begin(loaded, number):
    global begun
    begun = number
class Loaded:
    number = 40
def load(loaded):
    return loaded()
def work(loaded, number):
    return loaded.number + begun + number
"""


def test_setup_and_preload_may_be_of_a_module_that_only_the_program_has(
    nodes: DaskNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found where the program finds it, also by a path from its working folder."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "allcores_own_module.py").write_text(OWN_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("own")
    module = importlib.import_module("allcores_own_module")
    monkeypatch.setitem(sys.modules, "allcores_own_module", module)
    with Pool(
        backend="dask",
        address=nodes.address,
        preload=module.load,
        preload_args=(module.Loaded,),
        setup=module.begin,
        setup_args=(2,),
    ) as pool:
        assert pool.map(module.work, range(3)) == [42, 43, 44]


def total(*given: bytes) -> int:
    """The state of a worker: the sum of all bytes that it was given."""
    return sum(sum(bytes(each)) for each in given)


def with_state(state: int, number: int) -> int:
    return state + number


def test_what_another_pool_shares_may_be_given_to_setup_and_preload(nodes: DaskNodes) -> None:
    """Also what a pool of this cluster has: contents travel, whatever memory they lie in."""
    with Pool(backend="dask", address=nodes.address) as first, Pool(1) as here:
        there, near = first.share(b"\x01" * 10_000), here.share(b"\x02" * 10_000)
        for option in ("setup", "preload"):
            options: dict[str, object] = {option: total, f"{option}_args": (there, near)}
            with Pool(backend="dask", address=nodes.address, **options) as pool:  # type: ignore[arg-type]
                assert pool.map(with_state, range(3)) == [30_000, 30_001, 30_002]
