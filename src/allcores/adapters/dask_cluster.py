"""Dask as the cluster below a pool: a node is one of its workers, with as many cores as that has threads.

A request is one task, pinned to its worker, never merged with an equal one (`pure=False`, a key of its own), and it
leaves the worker's own threads at once, so that it takes none of the places that other programs' tasks have.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ssl
import uuid
from itertools import count
from time import monotonic
from typing import Any

import distributed as untyped

from allcores.adapters.cluster import node as node_side
from allcores.adapters.cluster.base import Done, NodeSilent, SchedulerLost, SchedulerSilent, listens
from allcores.errors import BrokenPool, UsageError

#: it comes without types
distributed: Any = untyped
#: seconds to reach the scheduler at first
CONNECT_S = 10.0
#: A worker that has said nothing for so long is as good as gone, seconds; they tell of themselves every second or so.
SILENT_S = 30.0
#: Of what passes between two answers of the scheduler so much counts as silence of workers, at most, seconds: it was
#: busy or stopped itself, or this program was, and heard nobody.
MOST_PASSED_S = 5.0
#: So often it is looked whether a worker that takes long to get a large request is silent, or gone, seconds.
LOOK_S = 1.0
#: answers without any worker, though there are some, until that is believed
LOOKS = 10
#: what a client says of itself that may be used
_OPEN = ("running", "newly-created")
#: where a program has its certificates, for messages
CERTIFICATES = (
    "distributed.comm.tls.ca-file, .client.cert and .client.key of Dask's configuration "
    "(DASK_DISTRIBUTED__COMM__TLS__CA_FILE=... and so on), or address=Client(address, security=...)"
)
#: Requests of more bytes go ahead of their task: Dask warns of tasks that are large.
LARGE = 1_000_000


def exchange(data: bytes) -> bytes:
    """On a worker of Dask, in one of its threads: see `cluster.node.exchange`."""
    distributed.secede()
    return node_side.exchange(data)


class DaskCluster:
    """See `cluster.base.Cluster`.

    Args:
        address: Of the scheduler ("tcp://10.0.0.1:8786"; with TLS "tls://10.0.0.1:8786", and certificates as Dask's
            configuration names them), a `distributed.Client`, or a cluster object of Dask, with the certificates that
            it has. None: the client that the program has made last.

    Raises:
        UsageError: For what is no address, or if there is no certificate for one with TLS.
        BrokenPool: If the scheduler cannot be reached, or refuses the connection.
    """

    title = "Dask"

    def __init__(self, address: Any = None) -> None:
        self._own: Any = None
        if address is None:
            try:
                self._client = distributed.default_client()
            except ValueError:
                raise UsageError(
                    'backend="dask" needs address=..., that of a scheduler ("tcp://10.0.0.1:8786"), a Client or a '
                    "cluster; or a Client that was made before."
                ) from None
        elif isinstance(address, distributed.Client):
            self._client = address
            if address.status not in _OPEN:
                raise UsageError(f"address={address!r} is {address.status}: give a Client that is connected.")
        else:
            target = getattr(address, "scheduler_address", address)
            if not isinstance(target, str):
                raise UsageError(f"address={address!r} is neither an address nor a Client nor a cluster of Dask.")
            security = getattr(address, "security", None) or None
            if security is None:
                _check_certificates(target)
            try:
                self._own = self._client = distributed.Client(
                    target, security=security, timeout=CONNECT_S, set_as_default=False, name="allcores"
                )
            except Exception as error:  # types of many libraries: sockets, TLS, Dask, tornado
                raise BrokenPool(_no_connection(target, error)) from error
        self.address = str(getattr(self._client.scheduler, "addr", None) or target)
        self._name = uuid.uuid4().hex
        self._numbers = count(1)
        self._open: set[Any] = set()
        #: replies on their way from a node
        self._fetches: set[concurrent.futures.Future[bytes]] = set()
        #: of each worker when it was heard of last, as the scheduler says, and for how long it says that, in seconds
        self._seen: dict[str, tuple[float | None, float]] = {}
        #: when the scheduler has answered last, by our clock
        self._looked_s = monotonic()

    def nodes(self) -> dict[str, int]:
        """See Cluster."""
        status = self._client.status
        if status not in _OPEN:
            lost = SchedulerSilent if status == "connecting" else SchedulerLost
            raise lost(f"its scheduler does not answer (the connection is {status})")
        for _ in range(LOOKS):
            try:
                # Some versions tell of five of them unless told otherwise.
                info: Any = self._client.scheduler_info(n_workers=-1)
            except Exception as error:
                raise SchedulerSilent(f"its scheduler does not answer ({type(error).__name__})") from error
            if info["workers"] or not info.get("n_workers"):
                break
            # The client itself asks every other second how many there are, and may have written its answer over ours.
        now, found, before, seen = monotonic(), {}, self._seen, {}
        passed_s, self._looked_s = min(now - self._looked_s, MOST_PASSED_S), now
        for name, worker in dict(info["workers"]).items():
            told = worker.get("last_seen")
            last, silent_s = before.get(name, (None, 0.0))
            # By the scheduler's clock, which may differ from ours by anything.
            silent_s = silent_s + passed_s if told is not None and told == last else 0.0
            seen[name] = told, silent_s
            if silent_s < SILENT_S:
                found[name] = max(1, int(worker.get("nthreads", 1)))
        self._seen = seen
        return found

    def _sent_ahead(self, node: str, data: bytes) -> Any:
        """Have a worker get bytes before the task that needs them; what stands for them.

        That takes as long as the network needs; Dask itself would wait for a worker that is stopped for as long as that
        is, and meanwhile no other would be served.

        Raises:
            NodeSilent: The worker says nothing any more, or is gone.
        """
        client = self._client
        scattered = client.scatter(data, workers=[node], hash=False, asynchronous=True)
        way = asyncio.run_coroutine_threadsafe(scattered, client.loop.asyncio_loop)
        while True:
            with contextlib.suppress(TimeoutError):
                return way.result(LOOK_S)
            if way.done():  # it was Dask that gave up
                return way.result()
            silence = self._silence(node)
            if silence is not None:
                way.cancel()
                raise NodeSilent(silence)

    def _silence(self, node: str) -> str | None:
        """Why nothing is to be had of a worker, as of the last look; None if it speaks."""
        seen = self._seen
        if node not in seen:
            return "it went away while it was sent something"
        return self.silence(node) if seen[node][1] >= SILENT_S else None

    def silence(self, node: str) -> str | None:
        """See Cluster."""
        if node not in self._seen:
            return None
        return f"it has said nothing for {SILENT_S:g} s: its process is stopped, or its machine, or the network"

    def is_there(self) -> bool:
        """See Cluster."""
        try:
            host, port = distributed.comm.parse_host_port(distributed.comm.parse_address(self.address)[1])
        except ValueError:  # in this process, or as another way of Dask names it
            return True
        return listens(host, int(port))

    def send(self, node: str, data: bytes, done: Done) -> None:
        """See Cluster."""
        client, argument = self._client, data
        if len(data) > LARGE:
            argument = self._sent_ahead(node, data)
        future: Any = client.submit(
            exchange,
            argument,
            key=f"allcores-{self._name}-{next(self._numbers)}",
            workers=[node],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        # Dask gives a task up that nobody refers to.
        self._open.add(future)
        future.add_done_callback(lambda ended: self._answer(ended, done))

    def delay(self, node: str) -> str | None:
        """See Cluster: it begins when one of the worker's threads is free."""
        running = self._client.processing(workers=[node]).get(node, ())
        if not any(str(key).startswith(f"allcores-{self._name}-") for key in running):
            return None
        others = [str(key) for key in running if not str(key).startswith("allcores-")]
        threads = self.nodes().get(node, 1)
        if len(others) < threads:
            return None
        return (
            f"other tasks have its {threads} threads ({len(others)} are there, as {others[0]!r}). Wait for them or "
            "cancel them, or give the pool a worker of its own"
        )

    def drop(self, node: str) -> None:
        """See Cluster: a worker that is back has another address."""

    def close(self) -> None:
        """See Cluster."""
        if self._own is not None:
            # The loop of a client that is not ours goes on with them; a gather may bring what others wait for, too.
            for fetch in list(self._fetches):
                fetch.cancel()
            self._own.close(timeout=2)

    def _answer(self, future: Any, done: Done) -> None:
        """On the only thread that Dask has for this: have what came back fetched.

        A large reply takes as long as the network needs, so there is no limit. No thread waits for it: where the
        scheduler is lost meanwhile, the watcher notices that, and where the node is, it or `ANSWER_NS` does.
        """
        try:
            if future.status == "finished":
                fetched = self._client.gather(future, asynchronous=True)
                fetch = asyncio.run_coroutine_threadsafe(fetched, self._client.loop.asyncio_loop)
                self._fetches.add(fetch)
                fetch.add_done_callback(lambda ended: self._fetched(ended, future, done))
                return
            error = future.exception(timeout=5) if future.status == "error" else None
            done(None, error or RuntimeError(f"it is {future.status}"))
        except BaseException as error:
            done(None, error)
        self._open.discard(future)

    def _fetched(self, fetch: concurrent.futures.Future[bytes], future: Any, done: Done) -> None:
        """On the thread of the client's loop: hand over what came back."""
        self._fetches.discard(fetch)
        self._open.discard(future)
        try:
            reply = fetch.result()
        except BaseException as error:  # also that it was cancelled
            done(None, error)
        else:
            done(reply, None)


def _check_certificates(target: str) -> None:
    """Whether there is what a connection to this address needs: a client that finds so itself hangs when it ends.

    Raises:
        UsageError: If there is no certificate, or it cannot be read, or encryption is asked for and not there.
    """
    if _option("client.security-loader"):  # who knows what that will give
        return
    try:
        arguments = distributed.Security().get_connection_args("client")
    except (OSError, ValueError) as error:  # also the errors of TLS
        named = [_option(f"comm.tls.{name}") for name in ("ca-file", "client.cert", "client.key")]
        names = ", ".join(str(each) for each in named if each)
        raise UsageError(
            f"The certificates that Dask's configuration names ({names}) cannot be read: {error}. Correct "
            f"{CERTIFICATES}."
        ) from error
    scheme, separator, _ = target.partition("://")
    scheme = scheme if separator else _option("comm.default-scheme") or "tcp"
    if scheme in ("tls", "wss") and arguments.get("ssl_context") is None:
        raise UsageError(f"address={target!r} needs certificates, and this program has none: set {CERTIFICATES}.")
    if scheme in ("tcp", "ws") and arguments.get("require_encryption"):
        raise UsageError(
            f"address={target!r} has no TLS, and Dask's configuration asks for it "
            "(distributed.comm.require-encryption): give the scheduler's address as tls://HOST:PORT."
        )


def _option(name: str) -> Any:
    """What Dask's configuration has for "distributed.NAME", None if nothing."""
    import dask

    config: Any = dask.config
    return config.get(f"distributed.{name}", None)


#: what OpenSSL and tornado say of a scheduler that has no TLS: it has answered in plain bytes, or has spoken first
_WITHOUT_TLS = ("WRONG_VERSION_NUMBER", "IOStream is not idle; cannot convert to SSL")


def _no_connection(target: str, error: BaseException) -> str:
    """The sentence for a scheduler that a client of Dask could not connect to."""
    told: BaseException | None = error
    text = str(error) or type(error).__name__
    while told is not None:
        if any(words in str(told) for words in _WITHOUT_TLS):
            break
        # Dask tells of some refusals in text alone.
        if isinstance(told, ssl.SSLError) or "SSL" in str(told) or "<TLS (closed)" in str(told):
            return (
                f"The Dask scheduler at {target} and this program do not accept each other's certificates ({text}): "
                f"they need ones that the same CA has signed. Correct {CERTIFICATES}."
            )
        told = told.__cause__ or told.__context__
    return (
        f"There is no Dask scheduler at {target}: {text}. Start one (`dask scheduler`), or correct the address; one "
        "with TLS has tls://..., and no other."
    )
