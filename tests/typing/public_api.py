"""The public API as a stranger uses it. Type-checked (mypy --strict), never run.

`assert_type` says what a caller gets; `type: ignore[...]` marks what must be refused, and mypy complains
when one of them is not needed any more.
"""

from __future__ import annotations

import functools
import math
import multiprocessing
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, assert_type

import allcores
from allcores import compat, events


def length(text: str) -> int:
    return len(text)


def add(left: int, right: int) -> float:
    return left + right


def words() -> Iterator[str]:
    yield "word"


async def pages() -> AsyncIterator[str]:
    yield "page"


def the_verbs_of_the_module() -> None:
    assert_type(allcores.map(length, ["a"]), list[int])
    assert_type(allcores.map(length, words(), timeout=1.5, retries=2, chunk=3, on_error="skip"), list[int])
    assert_type(allcores.starmap(add, [(1, 2)]), list[float])
    assert_type(allcores.imap(length, words()), allcores.Stream[int])
    assert_type(allcores.imap_unordered(length, words()), allcores.Stream[int])
    assert_type(allcores.outcomes(length, words()), allcores.Stream[allcores.AnyOutcome[int]])
    assert_type(allcores.aimap(length, pages()), allcores.AsyncStream[int])
    assert_type(allcores.submit(add, 1, right=2), Future[float])
    assert_type(allcores.Pipeline().map(length).write("o.jsonl").run(["a"]), allcores.PipelineResult)
    assert_type(allcores.run(length, ["a"], "out.jsonl"), allcores.RunResult)
    assert_type(allcores.map(lambda text: text + "!", ["a"]), list[str])


class Index:
    def __init__(self, path: str, words: int = 3) -> None:
        self.path = path

    def search(self, word: str, limit: int = 1) -> list[int]:
        return [1]


def actors() -> None:
    with allcores.Pool() as pool, pool.actor(Index, "a.txt", timeout=1.5, restart=None) as index:
        assert_type(index, allcores.Actor[Index])
        # By its methods: exact arguments and results, as futures.
        assert_type(index.call(Index.search, "word"), Future[list[int]])
        assert_type(index.call(Index.search, "word", limit=2), Future[list[int]])
        assert_type(index.call(lambda obj: obj.path), Future[str])
        assert_type(index.with_options(timeout=2).call(Index.search, "word"), Future[list[int]])
        index.call(Index.search, 5)  # type: ignore[call-overload]
        index.call(Index.search, "word", limt=2)  # type: ignore[call-arg]
        assert_type(index.call("search", "word"), Future[Any])
        # As the object itself: exact arguments and results, waited for.
        assert_type(index.sync, Index)
        assert_type(index.sync.search("word"), list[int])
        index.sync.search(5)  # type: ignore[arg-type]
        index.sync.serch("word")  # type: ignore[attr-defined]
        # By name: a future of anything.
        assert_type(index.search("word"), Future[Any])
    assert_type(allcores.actors(Index, "a.txt", 5, count=3, max_queued=None), allcores.Actor[Index])
    allcores.actor(Index, 5)  # type: ignore[arg-type]
    allcores.actor(Index)  # type: ignore[arg-type]
    allcores.actor(Index, "a.txt", restrat=3)  # type: ignore[call-arg]
    with allcores.actor(Index, "a.txt") as other:
        assert_type(other, allcores.Actor[Index])


def slices_of_files() -> None:
    source = allcores.slices.npy(Path("big.npy"), rows=100)
    assert_type(source, allcores.slices.Slices)
    assert_type(source[0], allcores.slices.Slice)
    assert_type(source[:3], allcores.slices.Slices)
    assert_type(allcores.map(length, source), list[int])
    allcores.slices.memmap("raw", "float32", (100, 3), offset=8)
    allcores.slices.hdf5("big.h5", "/images")
    allcores.slices.parquet("table.parquet", columns=["price"])
    allcores.slices.lines("log.txt", slice_bytes=1000)
    allcores.slices.npy("big.npy", 100)  # type: ignore[call-arg]


def groups_of_frames() -> None:
    frame: Any = None
    assert_type(allcores.frames.apply_groups(frame, ["city", "year"], length, timeout=5, on_error="skip"), Any)
    allcores.frames.apply_groups(frame, "city", length, on_error="stop")  # type: ignore[arg-type]


def the_verbs_of_a_pool() -> None:
    with allcores.Pool(2, name="mine") as pool:
        assert_type(pool, allcores.Pool)
        assert_type(pool.map(length, ["a"], timeout=None, retries=allcores.Retry(2)), list[int])
        assert_type(pool.starmap(add, [(1, 2)], on_error="raise"), list[float])
        assert_type(pool.imap(length, words(), chunk=None), allcores.Stream[int])
        assert_type(pool.imap_unordered(length, words()), allcores.Stream[int])
        assert_type(pool.outcomes(length, words(), ordered=False), allcores.Stream[allcores.AnyOutcome[int]])
        assert_type(pool.submit(length, "a"), Future[int])
        assert_type(pool.call(length, ("a",), timeout=2, retries=1), Future[int])
        assert_type(pool.workers, int)
        assert_type(pool.statistics(), allcores.Statistics)
        assert_type(pool.statistics().items_done, int)
        assert_type(pool.statistics().busy_seconds, float)
        pool.close()


def scale(number: float, factor: float = 1, *, offset: int = 0) -> float:
    return number * factor + offset


def three(first: int, second: str, third: float) -> str:
    return f"{first} {second} {third}"


def several_inputs() -> None:
    assert_type(allcores.map(add, [1], [2]), list[float])
    assert_type(allcores.map(three, [1], ["b"], [3.5], timeout=2), list[str])
    assert_type(allcores.map(max, [1], [2], [3], [4]), list[Any])
    assert_type(list(allcores.imap(add, iter([1]), range(3))), list[float])
    assert_type(allcores.outcomes(add, [1], [2]), allcores.Stream[allcores.AnyOutcome[float]])
    with allcores.Pool() as pool:
        assert_type(pool.imap_unordered(add, [1], [2], chunk=3), allcores.Stream[float])
    allcores.map(add, [1], ["b"])  # type: ignore[arg-type]
    allcores.map(three, [1], ["b"], ["c"])  # type: ignore[arg-type]
    allcores.map(length, ["a"], ["b"])  # type: ignore[arg-type]


def constants() -> None:
    assert_type(allcores.map(scale, [1, 2], factor=3, offset=1), list[float])
    assert_type(allcores.imap(scale, [1, 2], factor=3), allcores.Stream[float])
    assert_type(allcores.map(functools.partial(scale, offset=3), [1, 2], timeout=3), list[float])
    with allcores.Pool() as pool:
        assert_type(pool.outcomes(scale, [1], offset=2), allcores.Stream[allcores.AnyOutcome[float]])
        pool.run(scale, [1], "out.jsonl", offset=2)
    # Options and constants in one call.
    assert_type(allcores.map(scale, [1, 2], factor=3, timeout=2, retries=allcores.Retry(2)), list[float])
    assert_type(allcores.imap(scale, iter([1]), timeout=2, offset=3, workers=2), allcores.Stream[float])
    assert_type(allcores.outcomes(scale, [1], offset=2, ordered=False), allcores.Stream[allcores.AnyOutcome[float]])
    assert_type(allcores.map(scale, [1], [2], offset=2, on_error="skip"), list[float])
    assert_type(allcores.starmap(scale, [(1, 2)], offset=2, timeout=3), list[float])
    assert_type(allcores.reduce(scale, [1], max, factor=2, initial=0.5, timeout=3), float)
    assert_type(allcores.run(scale, [1], "out.jsonl", factor=2, retries=3), allcores.RunResult)
    assert_type(allcores.aimap(scale, pages_of_numbers(), factor=2, timeout=3), allcores.AsyncStream[float])
    with allcores.Pool(setup=load, setup_args=[Path("model")]) as pool:
        assert_type(pool.map(look_up_or, ["a"], default=3, timeout=2), list[int])
        pool.map(look_up_or, ["a"], default="3", timeout=2)  # type: ignore[call-overload]
    allcores.map(scale, [1], factor=3, timout=5)  # type: ignore[call-overload]
    allcores.imap(scale, [1], factor=3, timeout="5")  # type: ignore[call-overload]
    allcores.outcomes(scale, [1], factor=3, on_error="skip")  # type: ignore[call-overload]
    allcores.starmap(scale, [(1, 2)], ofset=2, timeout=3)  # type: ignore[call-overload]
    allcores.reduce(scale, [1], max, factor="b", timeout=3)  # type: ignore[call-overload]
    allcores.run(scale, [1], "out.jsonl", factor=2, retry=3)  # type: ignore[call-overload]
    allcores.map(length, ["a"], 5)  # type: ignore[call-overload]
    allcores.map(scale, [1], factor="b")  # type: ignore[call-overload]
    allcores.map(scale, [1], factr=3)  # type: ignore[call-overload]
    allcores.map(length, ["a"], timout=5)  # type: ignore[call-overload]


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def merge(left: list[int], right: list[int]) -> list[int]:
    return left + right


def reducing() -> None:
    assert_type(allcores.reduce(lengths, [["a"]], merge, timeout=3), list[int])
    assert_type(allcores.reduce(lengths, [["a"]], merge, initial=[1]), list[int])
    assert_type(allcores.reduce(lengths, [["a"]], merge, [1], timeout=3), list[int])
    assert_type(allcores.Pool().reduce(length, ["a"], max, 3), int)
    assert_type(allcores.reduce(length, ["a"], max), int)
    assert_type(allcores.Pool().reduce(scale, [1], max, factor=2), float)
    assert_type(allcores.reduce(lengths, ["a"], max, batch=4), int)
    assert_type(allcores.Pool().reduce(lengths, ["a"], max, 0, batch="auto", timeout=3), int)
    allcores.reduce(lengths, [["a"]], merge, intial=[1])  # type: ignore[call-overload]
    allcores.reduce(length, ["a"], merge)  # type: ignore[misc]


def the_pool_of_the_module() -> None:
    allcores.configure(workers=2, limits=allcores.Limits(), preload=load, backend="threads")
    assert_type(allcores.map(length, ["a"], workers=2, timeout=3), list[int])
    assert_type(len(allcores.imap(length, ["a"], workers=2)), int)
    allcores.close()
    assert_type(allcores.map(length, ["a"], progress="pages"), list[int])
    allcores.run(length, ["a"], "out.jsonl", progress=True)
    allcores.map(length, ["a"], progress=3)  # type: ignore[call-overload]
    allcores.configure(n_jobs=2)  # type: ignore[call-arg]
    allcores.configure(tuned=length)
    assert_type(allcores.tune(length, ["a"], budget=5), allcores.Tuning)
    assert_type(allcores.Pool(tuned=length).map(length, ["a"]), list[int])
    allcores.Pool(tuned="length")  # type: ignore[arg-type]
    allcores.map(length, ["a"], workers="2")  # type: ignore[call-overload]
    allcores.Pool().map(length, ["a"], workers=2)  # type: ignore[call-overload]


def batches() -> None:
    assert_type(allcores.map(lengths, ["a"], batch=3, timeout=2), list[int])
    assert_type(allcores.imap(lengths, iter(["a"]), batch="auto"), allcores.Stream[int])
    assert_type(allcores.outcomes(lengths, ["a"], batch=3), allcores.Stream[allcores.AnyOutcome[int]])
    allcores.map(length, ["a"], batch=3)  # type: ignore[arg-type]
    allcores.map(lengths, ["a"])  # type: ignore[arg-type]
    allcores.map(lengths, ["a"], batch="some")  # type: ignore[call-overload]


def items_fit_the_function() -> None:
    assert_type(allcores.map(int, ["1"]), list[int])
    assert_type(allcores.map(Path, ["a"]), list[Path])
    assert_type(allcores.map(math.sqrt, [1, 2]), list[float])
    assert_type(allcores.map(scale, [1, 2]), list[float])
    allcores.map(length, [1])  # type: ignore[arg-type]
    allcores.imap(length, [1])  # type: ignore[arg-type]
    allcores.outcomes(length, [b"a"])  # type: ignore[arg-type]
    allcores.starmap(add, [(1, "b")])  # type: ignore[arg-type]
    allcores.starmap(add, [(1, 2, 3)])  # type: ignore[arg-type]


def submitted_calls_are_checked() -> None:
    assert_type(allcores.submit(add, 1, 2), Future[float])
    allcores.submit(add, 1)  # type: ignore[call-arg]
    allcores.submit(add, 1, "b")  # type: ignore[arg-type]
    allcores.submit(add, 1, rihgt=2)  # type: ignore[call-arg]
    with allcores.Pool() as pool:
        assert_type(pool.submit(add, 1, 2), Future[float])
        pool.submit(add, 1, "b")  # type: ignore[call-overload]
        pool.submit(add, 1, 2, 3)  # type: ignore[call-overload]


def wrong_options_are_refused() -> None:
    pool = allcores.Pool()
    pool.map(length, ["a"], on_error="ignore")  # type: ignore[call-overload]
    pool.map(length, ["a"], timeout="1")  # type: ignore[call-overload]
    pool.map(length, ["a"], chunksize=1)  # type: ignore[call-overload]
    pool.map(length, 3)  # type: ignore[call-overload]
    pool.map("length", ["a"])  # type: ignore[call-overload]
    pool.imap(length, pages())  # type: ignore[call-overload]
    pool.run(length, 3, "out.jsonl")  # type: ignore[call-overload]
    pool.run(length, ["a"], 3)  # type: ignore[call-overload]
    pool.run(length, ["a"], "out.jsonl", on_error="ignore")  # type: ignore[call-overload]
    allcores.map(length, ["a"], chunksize=1)  # type: ignore[call-overload]
    allcores.map(length, ["a"], ordered=False)  # type: ignore[call-overload]
    allcores.imap(length, ["a"], timeout="1")  # type: ignore[call-overload]
    allcores.imap_unordered(length, ["a"], on_error="ignore")  # type: ignore[call-overload]
    allcores.starmap(add, [(1, 2)], retry=1)  # type: ignore[call-overload]
    allcores.outcomes(length, ["a"], on_error="skip")  # type: ignore[call-overload]
    allcores.aimap(length, pages(), chunksize=1)  # type: ignore[call-overload]
    allcores.run(length, ["a"], "out.jsonl", resume=True)  # type: ignore[call-overload]
    allcores.run(length, ["a"], 3)  # type: ignore[call-overload]
    allcores.Pool(2, load)  # type: ignore[call-arg]
    allcores.Pool(limits={"setup_s": 1})  # type: ignore[arg-type]
    allcores.Limits(items_per_worker=2).items_per_worker = 3  # type: ignore[misc]


def streams() -> None:
    stream = allcores.imap(length, words())
    assert_type(next(stream), int)
    for value in stream:
        assert_type(value, int)
    assert_type(stream.done, int)
    stream.stop()
    stream.close()
    with allcores.imap(length, words()) as closing:
        assert_type(list(closing), list[int])


async def async_streams() -> None:
    async for value in allcores.aimap(length, words(), ordered=False):
        assert_type(value, int)
    stream = allcores.Pool().aimap(length, pages(), timeout=1)
    assert_type(await anext(stream), int)
    await stream.aclose()


def outcomes() -> None:
    for outcome in allcores.outcomes(length, words()):
        assert_type(outcome.kind, allcores.Kind)
        assert_type(outcome.ok, bool)
        assert_type(outcome.value, int | None)
        assert_type(outcome.error, BaseException | None)
        assert_type(outcome.result(), int)
        assert_type(outcome.index, int)
        assert_type(outcome.attempts, int)
        assert_type(outcome.seconds, float)
        assert_type(outcome.worker, int | None)


def outcomes_narrow(found: allcores.AnyOutcome[int]) -> int:
    """By the error in both checkers; pyright does not look into the truth of an attribute."""
    for outcome in allcores.outcomes(length, words()):
        if outcome.error is None:
            assert_type(outcome.value, int)
        else:
            assert_type(outcome.error, BaseException)
            assert_type(outcome.value, None)
        if outcome.ok is True:
            assert_type(outcome.value, int)
        else:
            assert_type(outcome.error, BaseException)
    plain: allcores.Outcome[int] = found
    stream: allcores.Stream[allcores.Outcome[int]] = allcores.outcomes(length, words())
    print(stream)
    print(plain.ok)
    failed = [outcome.error.args for outcome in allcores.outcomes(length, words()) if outcome.error is not None]
    assert_type(failed, list[tuple[Any, ...]])
    return found.value if found.error is None else 0


def load(path: Path) -> dict[str, int]:
    return {path.name: 1}


def unload(model: dict[str, int]) -> None:
    model.clear()


def look_up(model: dict[str, int], word: str) -> int:
    return model[word]


def look_up_or(model: dict[str, int], word: str, default: int = 0) -> int:
    return model.get(word, default)


async def pages_of_numbers() -> AsyncIterator[int]:
    yield 1


def setup() -> None:
    with allcores.Pool(setup=load, setup_args=[Path("model")], teardown=unload) as pool:
        assert_type(pool.map(look_up, ["a"]), list[int])


class Watcher:
    """An observer may be any callable."""

    def __call__(self, event: events.PoolEvent) -> None:
        if isinstance(event, events.TaskFailed):
            assert_type(event.outcome, allcores.Outcome[Any])
        elif isinstance(event, events.Progress):
            assert_type(event.total, int | None)


def observers_and_limits() -> None:
    def watch(event: events.PoolEvent) -> None:
        assert_type(event.worker if isinstance(event, events.WorkerStarted) else 0, int)

    limits = allcores.Limits(memory_per_worker=10**9, items_per_worker=100, setup_s=1, grace_s=0)
    assert_type(limits.setup_s, float)
    allcores.Pool(limits=limits, observers=[watch, Watcher(), allcores.ProgressBar("pages", transient=True)])
    with allcores.Pool(observers=[allcores.LiveView("pages", workers=4)], logs=allcores.Logs(prints=True)) as pool:
        assert_type(pool.worker_status(), list[allcores.WorkerStatus])
        assert_type(pool.item_times(), list[tuple[float, int]])
        assert_type(pool.closed, bool)
    allcores.Pool(logs=False, observers=[allcores.metrics.Prometheus(), allcores.metrics.OpenTelemetry()])
    allcores.Pool(logs="yes")  # type: ignore[arg-type]
    allcores.Pool(backend="threads")
    allcores.Pool(start_method="spawn")
    allcores.Pool(preload=load, preload_args=[Path("model")], setup=load)
    allcores.Pool(preload="model.bin")  # type: ignore[arg-type]
    allcores.Retry(times=3, on=(OSError, ValueError), wait_s=1, jitter=0, on_timeout=False)
    allcores.Retry(on="OSError")  # type: ignore[arg-type]


def executors() -> None:
    context = multiprocessing.get_context("spawn")
    with allcores.Executor(2, context, print, ("hello",), max_tasks_per_child=10) as executor:
        assert_type(executor.submit(add, 1, 2), Future[float])
        assert_type(list(executor.map(add, [1], [2], timeout=1, chunksize=2, buffersize=3)), list[float])
        executor.submit(add, 1, "2")  # type: ignore[arg-type]
        executor.submit(add, 1)  # type: ignore[call-arg]
        executor.submit(add, 1, 2, timeout=3)  # type: ignore[call-arg]
    plain: Executor = allcores.Executor()
    assert_type(plain.submit(length, "a").result(timeout=1), int)
    plain.shutdown(wait=False, cancel_futures=True)


def drop_in_pools() -> None:
    """As typeshed has the original."""
    with compat.Pool(2, print, ("hello",)) as pool:
        assert_type(pool.apply(add, (1, 2)), float)
        assert_type(pool.apply_async(add, (1,), {"right": 2}, callback=print).get(timeout=1), float)
        assert_type(pool.map(length, ["a"], chunksize=3), list[int])
        assert_type(pool.map_async(length, words()).get(), list[int])
        assert_type(pool.starmap(add, [(1, 2)]), list[float])
        assert_type(pool.starmap_async(add, [(1, 2)], callback=print).get(), list[float])
        assert_type(list(pool.imap(length, words())), list[int])
        assert_type(pool.imap_unordered(length, words()).next(timeout=1), int)
        pool.map(length, [1])  # type: ignore[arg-type]
        pool.imap(length, [1])  # type: ignore[arg-type]


def runs() -> None:
    journal = allcores.Journal(folder="runs", resume=True, retry_failed=True, key="id", fsync="end", commit_s=0.5)
    with allcores.Pool() as pool:
        result = pool.run(length, "in.txt", "out.jsonl", journal=journal, timeout=1, on_error="skip")
        assert_type(result, allcores.RunResult)
        assert_type(result.output, str | None)
        assert_type(result.failures, int)
        pool.run(length, iter(["a"]), "out.csv", journal=False, retries=allcores.Retry(2))


def budget() -> None:
    found = allcores.core_budget()
    assert_type(found, allcores.Budget)
    assert_type(found.workers, int)
    assert_type(found.quota, float | None)
    assert_type(found.reasons, tuple[str, ...])


def errors() -> None:
    try:
        allcores.map(length, ["a"])
    except allcores.WorkerLost as error:
        assert_type(error.signal, str | None)
        assert_type(error.exitcode, int | None)
        assert_type(error.peak_memory, int | None)
        assert_type(error.stack, str | None)
        assert_type(error.index, int | None)
    except allcores.TaskTimeout as error:
        assert_type(error.timeout, float)
        caught: TimeoutError = error
        print(caught)
    except allcores.NotPicklable as error:
        assert_type(error.path, str | None)
    except allcores.RemoteError as error:
        assert_type(error.type_name, str)
    except allcores.RunChanged as error:
        assert_type(error.differences, tuple[str, ...])
    except allcores.RunInUse as error:
        assert_type(error.pid, int | None)
    except allcores.TaskError as error:
        assert_type(error.attempts, int)
        assert_type(error.worker, int | None)
    except (allcores.UsageError, allcores.PoolClosed, allcores.SetupError, allcores.BrokenPool) as error:
        assert_type(error.args, tuple[Any, ...])
    except allcores.Interrupted as interrupt:
        assert_type(interrupt.done, list[Any])


def caches(path: Path) -> None:
    cache = allcores.Cache(path, version="1", max_bytes=None)
    assert_type(allcores.map(length, ["a"], cache=cache), list[int])
    assert_type(allcores.imap(length, words(), cache=True, timeout=1), allcores.Stream[int])
    assert_type(allcores.outcomes(length, words(), cache="folder"), allcores.Stream[allcores.AnyOutcome[int]])
    assert_type(allcores.run(length, ["a"], "out.jsonl", cache=path), allcores.RunResult)
    assert_type(cache.statistics(), allcores.CacheStatistics)
    assert_type(cache.clear(length), int)
    allcores.map(length, ["a"], cache=5)  # type: ignore[call-overload]
