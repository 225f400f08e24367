"""Ray as the cluster below a pool: a node is a machine of it, where one actor with all of its CPUs carries requests.

The actor is a process that Ray starts anew (nothing of it is forked), and is not restarted: the pool orders another.
"""

from __future__ import annotations

import threading
from typing import Any

import ray as untyped

from allcores.adapters.cluster import node as node_side
from allcores.adapters.cluster.base import Done, SchedulerLost
from allcores.errors import BrokenPool, UsageError

#: it comes with types that do not fit what it makes of classes
ray: Any = untyped
#: Requests that an actor carries at a time: one waits there, one brings new work, and one may end it.
AT_A_TIME = 4


class NodeActor:
    """In a process of Ray's on the node: see `cluster.node.exchange`."""

    def exchange(self, data: bytes) -> bytes:
        """Carry out a request."""
        return node_side.exchange(data)


class RayCluster:
    """See `cluster.base.Cluster`.

    Args:
        address: Of a cluster ("10.0.0.1:6379", "auto", "ray://..."); None: the one that the program is connected to,
            else one on this machine.
    """

    title = "Ray"

    def __init__(self, address: Any = None) -> None:
        if address is not None and not isinstance(address, str):
            raise UsageError(f"address={address!r} is no address of a Ray cluster; give a text, or ray.init() before.")
        self._own = not ray.is_initialized()
        if self._own:
            try:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise BrokenPool(
                    f"There is no Ray cluster at {address}: {error}. Start one (`ray start --head`), or correct the "
                    "address."
                ) from error
        elif address is not None and not self._is_there(address):
            raise UsageError(
                f"address={address!r}: this program is connected to the Ray cluster at "
                f"{ray.get_runtime_context().gcs_address} already, and may use one alone; leave address= out."
            )
        self.address = str(ray.get_runtime_context().gcs_address)
        self._actors: dict[str, Any] = {}
        self._lock = threading.Lock()

    @staticmethod
    def _is_there(address: str) -> bool:
        return address == "auto" or str(ray.get_runtime_context().gcs_address) == address.removeprefix("ray://")

    def nodes(self) -> dict[str, int]:
        """See Cluster."""
        try:
            listed = ray.nodes()
        except Exception as error:
            raise SchedulerLost(f"its head does not answer ({type(error).__name__})") from error
        found = {each["NodeID"]: int(each["Resources"].get("CPU", 0)) for each in listed if each["Alive"]}
        return {node: cores for node, cores in found.items() if cores}

    def send(self, node: str, data: bytes, done: Done) -> None:
        """See Cluster."""
        with self._lock:
            actor = self._actors.get(node)
            if actor is None:
                actor = self._actors[node] = self._start(node)
        reference = actor.exchange.remote(data)
        reference.future().add_done_callback(lambda future: _answer(future, done))

    def _start(self, node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        cores = self.nodes().get(node, 1)
        options = {"num_cpus": cores, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": AT_A_TIME}
        return ray.remote(NodeActor).options(scheduling_strategy=place, **options).remote()

    def drop(self, node: str) -> None:
        """See Cluster."""
        with self._lock:
            actor = self._actors.pop(node, None)
        if actor is not None:
            ray.kill(actor)

    def close(self) -> None:
        """See Cluster."""
        for node in list(self._actors):
            self.drop(node)
        if self._own:
            ray.shutdown()


def _answer(future: Any, done: Done) -> None:
    """On a thread of Ray: hand over what came back."""
    error = future.exception()
    done(None if error is not None else future.result(), error)
