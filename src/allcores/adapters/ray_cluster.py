"""Ray as the cluster below a pool: a node is a machine of it, where one actor with all of its CPUs carries requests.

The actor is a process that Ray starts anew (nothing of it is forked), and is not restarted: the pool orders another.
All pools of a program have the same one on a node: a second would wait for the CPUs of the first.
"""

from __future__ import annotations

import importlib
import os
import re
import threading
from typing import Any

import ray as untyped

from allcores.adapters.cluster import node as node_side
from allcores.adapters.cluster.base import Done, SchedulerLost, SchedulerSilent, listens
from allcores.errors import BrokenPool, UsageError

#: it comes with types that do not fit what it makes of classes
ray: Any = untyped
#: how a program shows that it belongs to a cluster that asks for it, for messages
TOKEN = "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to what `ray get-auth-token` prints there"
#: Requests that an actor carries at a time: of each pool one waits there, one brings new work, and one may end it. With
#: more than eight pools some wait until one of another has nothing to tell, for some seconds.
AT_A_TIME = 32


class NodeActor:
    """In a process of Ray's on the node: see `cluster.node.exchange`."""

    def exchange(self, data: bytes) -> bytes:
        """Carry out a request."""
        return node_side.exchange(data)

    def begin(self) -> None:
        """The first call: its end says that Ray has started the actor."""


class _Shared:
    """An actor, and the connections that use it."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.begun = actor.begin.remote()
        self.users: set[RayCluster] = set()


#: The actors of this program by node; connections that are open; what is held to look at these, or to change users.
_shared: dict[str, _Shared] = {}
_open: set[RayCluster] = set()
_shared_lock = threading.Lock()
#: the job by which the program is connected to Ray, if a pool has connected it: the last to close ends that
_our_job: str | None = None


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
        global _our_job
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
            except Exception as error:  # among them are errors of Ray's own
                raise BrokenPool(_no_connection(address or os.environ.get("RAY_ADDRESS", ""), error)) from error
            _our_job = _job()
        elif address is not None and not self._is_there(address):
            raise UsageError(
                f"address={address!r}: this program is connected to the Ray cluster at "
                f"{ray.get_runtime_context().gcs_address} already, and may use one alone; leave address= out."
            )
        self.address = str(ray.get_runtime_context().gcs_address)
        self._job = _job()
        #: CPUs of each node at the last look
        self._cores: dict[str, int] = {}
        #: those that it uses; a node that was lost and is used again has another
        self._actors: dict[str, _Shared] = {}
        with _shared_lock:
            _open.add(self)

    @staticmethod
    def _is_there(address: str) -> bool:
        return address == "auto" or str(ray.get_runtime_context().gcs_address) == address.removeprefix("ray://")

    def _is_connected(self) -> bool:
        # Whatever else Ray is asked, it would connect a program that has left it anew, or start a cluster for it.
        return bool(ray.is_initialized()) and _job() == self._job

    def nodes(self) -> dict[str, int]:
        """See Cluster."""
        self._check_connected()
        try:
            listed = ray.nodes()
        except Exception as error:
            raise SchedulerSilent(f"its head does not answer ({type(error).__name__})") from error
        found = {each["NodeID"]: int(each["Resources"].get("CPU", 0)) for each in listed if each["Alive"]}
        self._cores = {node: cores for node, cores in found.items() if cores}
        return dict(self._cores)

    def is_there(self) -> bool:
        """See Cluster."""
        host, _, port = self.address.rpartition(":")
        return not port.isdecimal() or listens(host.strip("[]"), int(port))

    def _check_connected(self) -> None:
        if not self._is_connected():
            raise SchedulerLost("this program has left it (ray.shutdown() was called)")

    def send(self, node: str, data: bytes, done: Done) -> None:
        """See Cluster."""
        self._check_connected()
        with _shared_lock:
            shared = self._actors.get(node)
            if shared is None:
                shared = _shared.get(node)
                if shared is None:
                    shared = _shared[node] = _Shared(self._start(node))
                shared.users.add(self)
                self._actors[node] = shared
        reference = shared.actor.exchange.remote(data)
        reference.future().add_done_callback(lambda future: _answer(future, done))

    def _start(self, node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        # Not asked for now: nobody is to wait for an answer here.
        cores = self._cores.get(node, 1)
        options = {"num_cpus": cores, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": AT_A_TIME}
        return ray.remote(NodeActor).options(scheduling_strategy=place, **options).remote()

    def delay(self, node: str) -> str | None:
        """See Cluster: the actor is started when all CPUs of its node are free."""
        with _shared_lock:
            shared = self._actors.get(node)
        if shared is None or not self._is_connected() or ray.wait([shared.begun], timeout=0)[0]:
            return None
        cores, free = self.nodes().get(node, 0), int(_free(node))
        if free >= cores:
            return None
        return (
            f"it has {free} of its {cores} CPUs free, and the pool takes all: other actors or tasks of Ray hold them, "
            "or its own process starts slowly (`ray status` and `ray list actors` show which). End those, or have the "
            "pool on other nodes"
        )

    def silence(self, node: str) -> str | None:
        """See Cluster: Ray itself gives such a node up."""
        return None

    def drop(self, node: str) -> None:
        """See Cluster. What another pool still has there may go on; who comes later gets a new actor."""
        self._leave(node, is_lost=True)

    def _leave(self, node: str, *, is_lost: bool) -> None:
        with _shared_lock:
            shared = self._actors.pop(node, None)
            if shared is None:
                return
            shared.users.discard(self)
            if (is_lost or not shared.users) and _shared.get(node) is shared:
                del _shared[node]
            ends = not shared.users
        if ends and self._is_connected():
            ray.kill(shared.actor)

    def close(self) -> None:
        """See Cluster."""
        for node in list(self._actors):
            self._leave(node, is_lost=False)
        global _our_job
        with _shared_lock:
            _open.discard(self)
            ends = not _open and _our_job is not None and ray.is_initialized() and _job() == _our_job
            if ends:
                _our_job = None
        if ends:
            ray.shutdown()


def _no_connection(address: str, error: BaseException) -> str:
    """The sentence for a cluster that this program could not connect to."""
    where = f"at {address}" if address not in ("", "auto") else "here"
    if type(error).__name__ == "AuthenticationError":  # not all versions have it
        why = str(getattr(error, "message", error)).rstrip(".")
        return f"The Ray cluster {where} wants a token, and this program has none, or another ({why}): set {TOKEN}."
    text = str(error).rstrip(".")
    # It waits twenty seconds for a head that refuses it, too, and says the same.
    head = re.search(r"([\w.-]+):(\d+)$", text)
    if isinstance(error, ConnectionError) and head is not None and listens(head[1], int(head[2])):
        return (
            f"What listens at {head[0]} does not take this program for one of its Ray cluster ({text}). If the cluster "
            f"wants a token, set {TOKEN}; else see that it is the address of a head, of the same version of Ray."
        )
    return f"There is no Ray cluster {where}: {text}. Start one (`ray start --head`), or correct the address."


def _free(node: str) -> float:
    """CPUs of a node that nothing holds."""
    try:
        state: Any = importlib.import_module("ray._private.state")
        per_node = state.available_resources_per_node  # what is public adds all nodes up
    except (ImportError, AttributeError):
        return float(ray.available_resources().get("CPU", 0))
    return float(per_node().get(node, {}).get("CPU", 0))


def _job() -> str:
    return str(ray.get_runtime_context().get_job_id())


def _answer(future: Any, done: Done) -> None:
    """On a thread of Ray: hand over what came back."""
    error = future.exception()
    done(None if error is not None else future.result(), error)
