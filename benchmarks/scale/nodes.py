"""Clusters on this machine: two nodes of one core each, by our pools and by the libraries' own ways."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from allcores import Pool
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings
from benchmarks.tasks import add_one, spin_for

NODES = 2


#: what a function is given: microseconds, or a number
_ITEM = {spin_for: 1_000, add_one: 1}


def _inputs(function: Callable[[int], Any], items: int) -> list[int]:
    return [_ITEM[function]] * items


def _per_item(run: Callable[[], int], items: int) -> float:
    """µs an item; the median of up to three runs, as many as a second allows."""
    taken: list[float] = []
    while len(taken) < 3 and sum(taken) < 1.0:
        started = time.perf_counter()
        found = run()
        taken.append(time.perf_counter() - started)
        assert found == items, "results are missing"
    return statistics.median(taken) / items * 1e6


def _ours(pool: Pool, function: Callable[[int], Any], items: int) -> float:
    return _per_item(lambda: sum(1 for _ in pool.imap(function, _inputs(function, items))), items)


def _client_map(client: Any, function: Callable[[int], Any], items: int) -> float:
    return _per_item(lambda: len(client.gather(client.map(function, _inputs(function, items), pure=False))), items)


def _remote(ray: Any, function: Callable[[int], Any], items: int) -> float:
    remote = ray.remote(function)
    return _per_item(lambda: len(ray.get([remote.remote(number) for number in _inputs(function, items)])), items)


def _ray_pool(pool: Any, function: Callable[[int], Any], items: int) -> float:
    return _per_item(lambda: len(pool.map(function, _inputs(function, items))), items)


@contextmanager
def _dask() -> Iterator[dict[str, Callable[[Callable[[int], Any], int], float]]]:
    distributed = importlib.import_module("distributed")
    with (
        distributed.LocalCluster(n_workers=NODES, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        Pool(backend="dask", address=client) as on_nodes,
        Pool(NODES) as local,
    ):
        on_nodes.map(add_one, range(1_000))
        local.map(add_one, range(1_000))
        yield {
            "allcores": partial(_ours, on_nodes),
            "client.map + gather": partial(_client_map, client),
            "allcores, processes": partial(_ours, local),
        }


@contextmanager
def _ray() -> Iterator[dict[str, Callable[[Callable[[int], Any], int], float]]]:
    ray = importlib.import_module("ray")
    cluster_class = importlib.import_module("ray.cluster_utils").Cluster
    own_pool = importlib.import_module("ray.util.multiprocessing").Pool
    cluster = cluster_class(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")

        def with_ours(function: Callable[[int], Any], items: int) -> float:
            # It has the CPUs of its nodes for itself, so there is one contender at a time.
            with Pool(backend="ray") as pool:
                pool.map(add_one, range(1_000))
                return _ours(pool, function, items)

        def with_theirs(function: Callable[[int], Any], items: int) -> float:
            pool = own_pool(NODES)
            try:
                pool.map(add_one, range(1_000))
                return _ray_pool(pool, function, items)
            finally:
                pool.terminate()

        yield {
            "allcores": with_ours,
            "ray.remote per item": partial(_remote, ray),
            "ray.util.multiprocessing.Pool": with_theirs,
        }
    finally:
        ray.shutdown()
        cluster.shutdown()


def _measured(nodes: Any, function: Callable[[int], Any], row: Row, settings: Settings) -> None:
    sizes = {"allcores": settings.size(20_000 if function is spin_for else 200_000, 1_000)}
    few = settings.size(4_000, 500)
    measures = {
        way: partial(measure, function, sizes["allcores"] if way.startswith("allcores") else few)
        for way, measure in nodes.items()
    }
    in_turn(row, measures, settings.rounds, settings)


def rows(settings: Settings) -> list[Row]:
    """`scale-dask-1ms`, `scale-dask-tiny`, `scale-ray-1ms`, `scale-ray-tiny`; those whose library is there."""
    found: list[Row] = []
    for library, title, nodes in (("distributed", "dask", _dask), ("ray", "ray", _ray)):
        if importlib.util.find_spec(library) is None:
            continue
        with nodes() as ways:
            for kind, function, what in (("1ms", spin_for, "items of 1 ms"), ("tiny", add_one, "x+1")):
                row = Row(
                    f"scale-{title}-{kind}",
                    f"{what} over two local nodes of {title.title()} with one core each",
                    "µs per item",
                    "A pool whose workers are nodes beside the library's own ways, on one cluster, warm.",
                )
                _measured(ways, function, row, settings)
                for other in ways:
                    if other == "allcores":
                        continue
                    least = _LEAST.get((title, kind, other))
                    if least is not None:
                        row.judge(f"{other} / allcores", row.ratios(other, "allcores"), least=least)
                found.append(row)
    return found


#: by library, items and other way: so many times as long as ours, at least
_LEAST = {
    ("dask", "1ms", "client.map + gather"): 3.0,
    ("dask", "1ms", "allcores, processes"): 0.9,
    ("dask", "tiny", "client.map + gather"): 50.0,
    ("ray", "1ms", "ray.remote per item"): 3.0,
    ("ray", "1ms", "ray.util.multiprocessing.Pool"): 1.5,
    ("ray", "tiny", "ray.remote per item"): 3.0,
    ("ray", "tiny", "ray.util.multiprocessing.Pool"): 1.5,
}
