"""One adapter per contender: the same five verbs, spoken to each library in the way that suits it best.

A contender that lacks a verb raises `NotOffered`, and the table shows a dash.
Libraries are imported when a contender is opened, so that what is not installed does not matter.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks import baselines

Function = Callable[[Any], Any]


class NotOffered(Exception):
    """This contender has no such verb."""


class Contender:
    """A warm pool of `workers` behind five verbs.

    package: what must be installed; version: as its metadata tells.
    """

    name = ""
    label = ""
    package: str | None = None
    peer = True

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.open()

    @classmethod
    def installed(cls) -> bool:
        """Whether the library can be imported here."""
        return cls.package is None or importlib.util.find_spec(cls.package) is not None

    @classmethod
    def version(cls) -> str:
        """The installed version; empty for what comes with Python."""
        if cls.package is None:
            return ""
        try:
            return importlib.metadata.version(cls.package)
        except importlib.metadata.PackageNotFoundError:
            return "from the checkout"

    def open(self) -> None:
        """Start the pool."""

    def close(self) -> None:
        """End the pool."""

    def start_again(self) -> None:
        """A fresh pool, whose workers are there."""
        self.close()
        self.open()
        # Nobody tells for all contenders when the workers are there.
        time.sleep(1.0)

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        """Results one by one; `chunk` is the size that suits the work, for those who need to be told."""
        raise NotOffered("no stream")

    def one_by_one(self, fn: Function, items: Iterable[Any]) -> Iterator[Any]:
        """Results as they land, each item sent alone."""
        return self.stream(fn, items, 1, ordered=False)

    def list_map(self, fn: Function, items: list[Any], chunk: int | None = None) -> list[Any]:
        """All results of a list; chunk None: the library's own choice."""
        raise NotOffered("no map")

    def call(self, fn: Function, argument: Any) -> Any:
        """One call there and back."""
        raise NotOffered("no single call")

    def shared(self, array: Any) -> Any:
        """What to give to tasks in an array's place, so that it is not carried again and again."""
        raise NotOffered("nothing is shared")

    def after_crash(self, fn: Function, path: str, answer: Function) -> None:
        """Run `fn(path)`, which kills its worker, then return when the pool has answered `answer(1)`."""
        try:
            self.call(fn, path)
        except Exception:
            pass
        self.call(answer, 1)


class Allcores(Contender):
    name, label, package, peer = "allcores", "allcores", "allcores", False

    def open(self) -> None:
        self.pool = importlib.import_module("allcores").Pool(self.workers)

    def close(self) -> None:
        self.pool.close()

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        # `chunk` is not passed on: allcores has to find it.
        return iter((self.pool.imap if ordered else self.pool.imap_unordered)(fn, items))

    def one_by_one(self, fn: Function, items: Iterable[Any]) -> Iterator[Any]:
        return iter(self.pool.imap_unordered(fn, items, chunk=1))

    def list_map(self, fn: Function, items: list[Any], chunk: int | None = None) -> list[Any]:
        results: list[Any] = self.pool.map(fn, items)
        return results

    def call(self, fn: Function, argument: Any) -> Any:
        return self.pool.submit(fn, argument).result()

    def shared(self, array: Any) -> Any:
        return self.pool.share(array)


class MultiprocessingPool(Contender):
    name, label = "multiprocessing", "multiprocessing.Pool"

    def open(self) -> None:
        self.pool = multiprocessing.get_context("fork").Pool(self.workers)

    def close(self) -> None:
        self.pool.terminate()

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        return (self.pool.imap if ordered else self.pool.imap_unordered)(fn, items, chunksize=chunk)

    def list_map(self, fn: Function, items: list[Any], chunk: int | None = None) -> list[Any]:
        return self.pool.map(fn, items, chunksize=chunk)

    def call(self, fn: Function, argument: Any) -> Any:
        return self.pool.apply(fn, (argument,))

    def after_crash(self, fn: Function, path: str, answer: Function) -> None:
        self.pool.apply_async(fn, (path,))  # its result never comes
        self.pool.apply(answer, (1,))


class ProcessPoolExecutor(Contender):
    name, label = "executor", "ProcessPoolExecutor"

    def open(self) -> None:
        futures = importlib.import_module("concurrent.futures")
        self.pool = futures.ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("fork"))

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        results: Iterator[Any] = self.pool.map(fn, items, chunksize=chunk)
        return results

    def list_map(self, fn: Function, items: list[Any], chunk: int | None = None) -> list[Any]:
        return list(self.pool.map(fn, items, chunksize=chunk or 64))

    def call(self, fn: Function, argument: Any) -> Any:
        return self.pool.submit(fn, argument).result()

    def after_crash(self, fn: Function, path: str, answer: Function) -> None:
        try:
            self.pool.submit(fn, path).result()
        except Exception:  # BrokenProcessPool: there is nothing to do but to start anew
            self.open()
        self.pool.submit(answer, 1).result()


class Joblib(Contender):
    name, label, package = "joblib", "joblib", "joblib"

    def open(self) -> None:
        self.joblib = importlib.import_module("joblib")

    def close(self) -> None:
        importlib.import_module("joblib.externals.loky").get_reusable_executor().shutdown(kill_workers=True)

    @staticmethod
    def _batch(chunk: int | None) -> int | str:
        # For tiny tasks its own batches beat a fixed 64: 4.5 against 11 µs an item.
        return "auto" if chunk is None or chunk >= 64 else chunk

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        parallel = self.joblib.Parallel(
            n_jobs=self.workers,
            return_as="generator" if ordered else "generator_unordered",
            batch_size=self._batch(chunk),
        )
        results: Iterator[Any] = parallel(self.joblib.delayed(fn)(item) for item in items)
        return results

    def list_map(self, fn: Function, items: list[Any], chunk: int | None = None) -> list[Any]:
        parallel = self.joblib.Parallel(n_jobs=self.workers, batch_size=self._batch(chunk))
        results: list[Any] = parallel(self.joblib.delayed(fn)(item) for item in items)
        return results

    def call(self, fn: Function, argument: Any) -> Any:
        # With n_jobs=1 joblib would run the task in this very process.
        return self.joblib.Parallel(n_jobs=max(2, self.workers))([self.joblib.delayed(fn)(argument)])[0]


class Mpire(Contender):
    name, label, package = "mpire", "mpire", "mpire"

    def open(self) -> None:
        mpire = importlib.import_module("mpire")
        self.pool = mpire.WorkerPool(n_jobs=self.workers, keep_alive=True, start_method="fork")

    def close(self) -> None:
        self.pool.terminate()

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        verb = self.pool.imap if ordered else self.pool.imap_unordered
        results: Iterator[Any] = verb(fn, ((item,) for item in items), chunk_size=chunk)
        return results

    def list_map(self, fn: Function, items: list[Any], chunk: int | None = None) -> list[Any]:
        return list(self.pool.map(fn, [(item,) for item in items], chunk_size=chunk))

    def call(self, fn: Function, argument: Any) -> Any:
        return self.pool.apply(fn, (argument,))

    def after_crash(self, fn: Function, path: str, answer: Function) -> None:
        try:
            self.pool.apply(fn, (path,))
        except Exception:  # "Worker-0 died unexpectedly" ends the pool
            self.open()
        self.pool.apply(answer, (1,))


class Pebble(Contender):
    name, label, package = "pebble", "pebble", "pebble"

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version("Pebble")

    def open(self) -> None:
        pebble = importlib.import_module("pebble")
        self.pool = pebble.ProcessPool(self.workers, context=multiprocessing.get_context("fork"))

    def close(self) -> None:
        self.pool.stop()
        self.pool.join(5)

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        results: Iterator[Any] = self.pool.map(fn, items, chunksize=chunk).result()
        return results

    def list_map(self, fn: Function, items: list[Any], chunk: int | None = None) -> list[Any]:
        return list(self.pool.map(fn, items, chunksize=chunk or 64).result())

    def call(self, fn: Function, argument: Any) -> Any:
        return self.pool.schedule(fn, args=(argument,)).result()


class Ray(Contender):
    name, label, package = "ray", "ray", "ray"

    def open(self) -> None:
        self.ray = importlib.import_module("ray")
        self.ray.init(num_cpus=self.workers, include_dashboard=False, logging_level="ERROR")
        self.pool = importlib.import_module("ray.util.multiprocessing").Pool(self.workers)
        self.remote: dict[Function, Any] = {}

    def close(self) -> None:
        self.ray.shutdown()

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        return iter((self.pool.imap if ordered else self.pool.imap_unordered)(fn, items, chunksize=chunk))

    def list_map(self, fn: Function, items: list[Any], chunk: int | None = None) -> list[Any]:
        return list(self.pool.map(fn, items, chunksize=chunk))

    def call(self, fn: Function, argument: Any) -> Any:
        if fn not in self.remote:
            self.remote[fn] = self.ray.remote(max_retries=0)(fn)
        return self.ray.get(self.remote[fn].remote(argument))


class Dask(Contender):
    name, label, package = "dask", "dask.distributed", "distributed"

    def open(self) -> None:
        distributed = importlib.import_module("distributed")
        self.client = distributed.Client(
            n_workers=self.workers, threads_per_worker=1, processes=True, dashboard_address=":0"
        )

    def close(self) -> None:
        self.client.close()

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        # Dask maps over lists only; chunks are made here, else each item would cost a millisecond.
        pending = iter(items)
        chunks = list(iter(lambda: list(itertools.islice(pending, chunk)), []))
        futures = self.client.map(_run_chunk, [fn] * len(chunks), chunks, pure=False)
        return itertools.chain.from_iterable(self.client.gather(futures))

    def list_map(self, fn: Function, items: list[Any], chunk: int | None = None) -> list[Any]:
        return list(self.stream(fn, items, chunk or max(1, len(items) // (8 * self.workers))))

    def call(self, fn: Function, argument: Any) -> Any:
        return self.client.submit(fn, argument, pure=False).result()


def _run_chunk(fn: Function, chunk: list[Any]) -> list[Any]:
    return [fn(item) for item in chunk]


class Serial(Contender):
    """A for loop."""

    name, label, peer = "serial", "serial loop", False

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        return map(fn, items)

    def list_map(self, fn: Function, items: list[Any], chunk: int | None = None) -> list[Any]:
        return [fn(item) for item in items]


class BareLoop(Contender):
    """Two socket pairs, hand-made chunks and nothing else: what pickling and the kernel cost."""

    name, label, peer = "bare", "bare loop, socket pairs", False

    def open(self) -> None:
        self.pool = baselines.SocketWorkers(self.workers)

    def close(self) -> None:
        self.pool.close()

    def stream(self, fn: Function, items: Iterable[Any], chunk: int, *, ordered: bool = True) -> Iterator[Any]:
        return self.pool.stream(fn, items, chunk=1024)


class PingPong(Contender):
    """Eight bytes to another process and back: what the kernel costs."""

    name, label, peer = "ping-pong", "pipe ping-pong", False

    def open(self) -> None:
        self.pipe = baselines.PingPong()

    def close(self) -> None:
        self.pipe.close()

    def call(self, fn: Function, argument: Any) -> Any:
        return self.pipe.exchange(argument) + 1


class ConnectionPingPong(Contender):
    """A number to another process and back over `multiprocessing.Pipe`, pickled."""

    name, label, peer = "connection", "multiprocessing.Pipe ping-pong", False

    def open(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=baselines.echo, args=(theirs, self.connection), daemon=True)
        self.process.start()

    def close(self) -> None:
        self.connection.close()

    def call(self, fn: Function, argument: Any) -> Any:
        self.connection.send(argument)
        return self.connection.recv() + 1


class NaiveDriver(Contender):
    """A driver thread, a selector and socket pairs, written in the straightforward way."""

    name, label, peer = "naive", "naive driver thread", False

    def open(self) -> None:
        self.pool = baselines.DriverThread(self.workers)

    def close(self) -> None:
        self.pool.close()

    def call(self, fn: Function, argument: Any) -> Any:
        return self.pool.submit(fn, argument).result()


class Unconnected(Contender):
    """Processes that know nothing of each other; each has its share from the start, in a plain loop."""

    name, label, peer = "unconnected", "unconnected processes", False

    def split_run(self, fn: Function, shares: list[list[Any]]) -> tuple[float, float]:
        """Seconds until the last one is done with its share, and the sum of the results."""
        return baselines.split_run(fn, shares)


CONTENDERS: dict[str, type[Contender]] = {
    kind.name: kind
    for kind in (
        Allcores,
        MultiprocessingPool,
        ProcessPoolExecutor,
        Joblib,
        Mpire,
        Pebble,
        Ray,
        Dask,
        Serial,
        BareLoop,
        PingPong,
        ConnectionPingPong,
        NaiveDriver,
        Unconnected,
    )
}


def names(*, peers: bool = True) -> list[str]:
    """The contenders that are installed: allcores first, then the peers."""
    return [
        kind.name
        for kind in CONTENDERS.values()
        if kind.installed() and (kind.name == "allcores" or (peers and kind.peer))
    ]
