"""All measurements of a function, one after the other, within a budget of seconds.

The first call is made in a worker, with a deadline: so a function that hangs, or kills its process, costs the probe and
nothing else, and what the later calls will take is known before they are made here.
"""

from __future__ import annotations

import functools
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from allcores.advisor.measuring import in_worker, libraries, loops, memory, source_text, travel
from allcores.advisor.measuring.machine import Load
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model import costs
from allcores.advisor.model.decision import HOLDS_S, LOAD_S, SHARE_BYTES
from allcores.advisor.model.probes import LEAST_SWITCHES, Probes, Timing, Traits, Travel, Trial, together
from allcores.errors import NotPicklable, SetupError, TaskTimeout, UsageError, WorkerLost
from allcores.formatting import seconds_text
from allcores.pool.pool import Pool

if TYPE_CHECKING:
    from allcores.advisor.measuring.in_worker import FirstCalls

#: parts of the budget: for the first call; for each of the other measurements
FIRST_PART = 0.5
EACH_PART = 0.035
#: items of a trial, at most
MOST_ITEMS = 200_000
#: pairs of a loop and workers, one after the other, that a trial is made of
PAIRS = 3
#: seconds of its loop, at least: a shorter one would measure the start of a map, and not what workers do to each other
LEAST_TRIAL_S = 0.05
#: seconds from which on what passed is the items' way
LEAST_WAY_S = 0.02
#: bytes of a trial's items, at most
MOST_BYTES = 256 << 20
#: calls that are timed one by one take at least so many seconds
SINGLE_S = 50e-6
#: tries to find an item that the function does not raise for
TRIES = 3
#: numbers of threads that are tried with a function that waits
WAITING_THREADS = (2, 8, 32)
#: effects that are told before there are many calls
MOST_TOLD = 3
#: bytes of a result from which on its way back is measured with real results
LARGE_RESULT = 4096


class TooSlow(Exception):
    """An item takes longer than the probe may."""


class Probing:
    """The measurements of one function.

    Args:
        fn: The function.
        sample: Its items.
        began: When the budget began, as `perf_counter` tells it.
        budget: Seconds for everything, of which this uses about half.
        tell: Is called after the first calls, before there are many, with what was seen of a function that does
            something outside, or gives other results each time: a clause.

    Attributes:
        pool: The workers that were made for it, None without; `close` ends them.
        shared: The object that is in every item; None.
    """

    def __init__(
        self,
        fn: Callable[[Any], Any],
        sample: Sample,
        *,
        began: float,
        budget: float,
        tell: Callable[[str], None] = lambda clause: None,
    ) -> None:
        self.fn = fn
        self.sample = sample
        self.load = Load()
        self.pool: Pool | None = None
        self.preloaded: Pool | None = None
        self.shared: Any = None
        self._began = began
        self._budget = budget
        self._each_s = EACH_PART * budget
        self._first: FirstCalls | None = None
        self._item_s = 0.0
        self._remembers = False
        self._failed = 0
        self._tell = tell
        self._held_bytes = 0

    def close(self) -> None:
        """End the workers."""
        for pool in (self.pool, self.preloaded):
            if pool is not None:
                pool.close()
        self.pool = self.preloaded = None

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self._budget - (perf_counter() - self._began)

    def run(self) -> Probes:
        """Measure.

        Raises:
            UsageError: There are no items, or the function raises for each that was tried, or kills its process.
            TooSlow: One item takes longer than there is time.
        """
        if not self.sample.count:
            raise UsageError("there are no items: advice needs some to measure the function with")
        way = self._look_at_travel()
        start_s, first = self._first_calls(way)
        seen = [*first["effects"][:MOST_TOLD], *(["gives other results for the same item"] if first["differs"] else [])]
        if seen:
            # Whoever reads it can still end this: what follows is calls by the hundred.
            self._tell(" and ".join(seen))
        timing, results = self._time_loop(first)
        probes = Probes(
            items=self.sample.total,
            timing=timing,
            machine=self.load.machine(),
            travel=way,
            libraries=libraries.loaded(),
            traits=self._traits(first, timing),
            start_s=max(0.0, start_s),
        )
        probes = replace(probes, late_s=self._lateness())
        probes = replace(probes, threads=self._threads(probes))
        if self.pool is not None:
            probes = self._processes(probes, results)
        machine = self.load.machine()
        if machine.memory is not None:
            # What these workers have taken is there for those that are recommended.
            machine = replace(machine, memory=machine.memory + self._held_bytes)
        return replace(probes, machine=machine)

    # --- the steps --------------------------------------------------------------------------------

    def _look_at_travel(self) -> Travel:
        problem, what = travel.problem_of(self.fn), "function"
        some = self.sample.look(64)
        found = travel.Pickled()
        if problem is None:
            found = travel.pickled(some)
            problem, what = found.problem, "item"
        if problem is not None:
            return Travel(problem=problem, what=what)
        self.shared = travel.common_object([item for _, item in some])
        common = travel.size_of(self.shared) if self.shared is not None else 0
        return Travel(found.size, 0.0, found.dumps_s, 0.0, found.loads_s, found.dumps_s, common)

    def _first_calls(self, way: Travel) -> tuple[float, FirstCalls]:
        """Seconds until a worker was there, and what the first calls showed."""
        second = self.sample.repeat
        if way.problem is not None:
            return 0.0, self._first_calls_here(second)
        workers = max(2, self.load.cores)
        if self.sample.total is not None:
            workers = max(1, min(workers, self.sample.total))
        began = perf_counter()
        self.pool = Pool(workers, name="advice", logs=False)
        error = ""
        for _ in range(TRIES):
            taken = self.sample.take(1)
            if not taken:
                break
            index, item = taken[0]
            timeout = max(0.5, min(FIRST_PART * self._budget, self.left() - 0.5))
            self.sample.called([index], 2 if second else 1)
            try:
                found = self.pool.call(in_worker.first_calls, (self.fn, item, second), timeout=timeout).result()
            except TaskTimeout:
                raise TooSlow(
                    f"item {index} was not done after {seconds_text(timeout)}: give it more time (budget), or"
                    " smaller items"
                ) from None
            except WorkerLost as lost:
                raise UsageError(f"the function ends its process with item {index}: {lost}") from None
            start_s = perf_counter() - began - found["task_s"]
            if found["error"] is None:
                return start_s, found
            error = f"{found['error']} (item {index})"
        raise UsageError(f"the function raises {error}: give it items that it can work on")

    def _first_calls_here(self, second: bool) -> FirstCalls:
        """The same in this process, for what cannot travel; nothing watches it."""
        taken = self.sample.take(1)
        index, item = taken[0]
        start = perf_counter()
        try:
            self.fn(item)
        except Exception as error:
            raise UsageError(
                f"the function raises {type(error).__name__}: {error} (item {index}): give it items that it can work on"
            ) from None
        first_s = perf_counter() - start
        second_s = None
        if second and first_s < 0.2 * self._budget:
            start = perf_counter()
            loops.call_all(self.fn, [item])
            second_s = perf_counter() - start
        self.sample.called([index], 1 if second_s is None else 2)
        return {
            "first_s": first_s, "second_s": second_s, "task_s": 0.0, "error": None, "differs": None, "effects": [],
            "sleeps": False, "opens_pool": False, "bytes_out": 0, "dumps_s": 0.0, "loads_s": 0.0, "problem": None,
            "own_bytes": 0,
        }  # fmt: skip

    def _time_loop(self, first: FirstCalls) -> tuple[Timing, list[Any]]:
        """The plain loop; also some results, if they are large."""
        second = first["second_s"]
        expected = second if second is not None else first["first_s"]
        if self.left() < 0.15 * self._budget:
            spent = seconds_text(perf_counter() - self._began)
            raise TooSlow(f"{spent} were over when the first worker was there: give it more time (budget)")
        if expected > 0.4 * self.left():
            raise TooSlow(
                f"an item takes {seconds_text(expected)}: too long to measure in {seconds_text(self._budget)} (budget)"
            )
        here = self._take(1)
        start = perf_counter()
        results: list[Any] = []
        if here:
            try:
                results.append(self.fn(here[0]))
            except Exception:
                pass  # it counts among those that failed, below
        first_here = perf_counter() - start
        # The first call may have loaded something: what the next ones take is seen by making them.
        total, times = loops.each(self.fn, self._take(self._count(min(expected, first_here), least=3, most=400)))
        count = len(times)
        if not times:
            return Timing(1, max(first_here, 1e-9), first_here), results
        self._item_s = max(total.wall_s / count, 1e-9)
        if statistics.median(times) < SINGLE_S:
            size = self._count(self._item_s)
            blocks = [loops.loop(self.fn, part) for part in (self._take(size // 3) for _ in range(3)) if part]
            if blocks:
                count = 3 * (size // 3)
                total = loops.Loop(*(sum(values) for values in zip(*(_values(block) for block in blocks), strict=True)))
        self._item_s = max(total.wall_s / count, 1e-9)
        median = statistics.median(times)
        if second is not None and median > 20e-6 and second < 0.1 * median:
            # It knows the item: it must be measured with items that it has not seen.
            self._remembers = True
            self.sample.repeat = False
        spread = statistics.pstdev(times) / statistics.fmean(times) if len(times) > 2 and median >= SINGLE_S else 0.0
        wall_s = _without_load(total, count)
        first_s = max(0.0, first_here - max(times)) if first_here > 3 * median else 0.0
        self._failed = total.failed
        timing = Timing(
            count, wall_s, total.cpu_s / count, total.system_s / count, total.switches / count, spread, first_s
        )
        if first["bytes_out"] > LARGE_RESULT:
            for item in self._take(self._count(self._item_s, most=7)):
                try:
                    results.append(self.fn(item))
                except Exception:
                    continue
        return timing, results

    def _lateness(self) -> float | None:
        items = self._take(self._count(self._item_s))
        return loops.lateness(self.fn, items) if items else None

    def _threads(self, probes: Probes) -> tuple[Trial, ...]:
        waits = probes.timing.waits
        numbers: Sequence[int] = WAITING_THREADS if waits else sorted({2, min(self.load.cores, 64)} - {1})
        if probes.late_s is not None and probes.late_s > HOLDS_S and not waits:
            numbers = (2,)
        trials = []
        for number in numbers:
            trial = self._threads_trial(number, waits)
            if trial is None:
                break
            trials.append(trial)
        return tuple(trials)

    def _threads_trial(self, number: int, waits: bool) -> Trial | None:
        """So many threads against a loop, in pairs; None if there is no time, or the function does not bear it."""
        many = 1 if waits else PAIRS
        wanted = self._count(self._item_s * many / (number if waits else 1), least=number)
        wanted = max(number, wanted // number * number)
        if many * wanted * self._item_s / (number if waits else 1) > 0.25 * self.left():
            many = 1
        if wanted * self._item_s / (number if waits else 1) > 0.25 * self.left():
            return None
        pairs: list[Trial] = []
        while len(pairs) < many:
            items = self._take(wanted)
            if len(items) < number:
                break
            if waits:
                alone_s = len(items) * self._item_s
            else:
                alone_s = loops.loop(self.fn, items).wall_s
                items = self._take_same(items)
                if len(items) < number:
                    break
            warm = 0 if waits or len(items) < 3 * number else 1
            seconds, failed = loops.in_threads(self.fn, items, number, warm)
            if failed > self._failed + len(items) // 2:
                return None  # it cannot be called by several threads at a time
            timed = len(items) - warm * number
            pairs.append(Trial(number, alone_s * timed / len(items) / max(seconds, 1e-9), timed))
        return together(pairs) if pairs else None

    def _processes(self, probes: Probes, results: list[Any]) -> Probes:
        pool = self.pool
        assert pool is not None
        first = self._first
        assert first is not None
        # each worker has made its first call, and knows the function
        self._map(pool, self._take(2 * pool.workers), 1)
        probes = replace(probes, travel=self._way(pool, probes, results))
        trial = None
        if pool.workers > 1 and self.left() > 0.3 * self._budget:
            trial = self._processes_trial(pool, probes)
        own, now, rest = memory.of_workers(_pids(pool))
        self._held_bytes = now
        load_s = self._load_seconds(first)
        probes = replace(
            probes,
            processes=() if trial is None else (trial,),
            worker_bytes=max(first["own_bytes"], own),
            rest_bytes=rest,
            start_s=probes.start_s + load_s,
        )
        if (
            load_s >= max(LOAD_S, 10 * probes.timing.wall_s)
            and self.sample.repeat
            and self.left() > 0.35 * self._budget
        ):
            probes = replace(probes, warm_start_s=self._warm_start())
            if self.preloaded is not None:
                own, now, rest = memory.of_workers(_pids(self.preloaded))
                self._held_bytes += now
                probes = replace(probes, warm_worker_bytes=own, warm_rest_bytes=rest)
        return probes

    def _processes_trial(self, pool: Pool, probes: Probes) -> Trial | None:
        """Workers against a loop, in pairs, with what is in every item shared; None if loops are too short for that."""
        way, one = probes.travel, None
        if way.common_bytes >= SHARE_BYTES:
            one = pool.share(self.shared)
            rest = max(0.0, 1 - way.common_bytes / way.bytes_in)
            way = replace(way, way_in_s=way.way_in_s * rest, bytes_in=way.bytes_in * rest)
        chunk = costs.chunk_for(probes, pool.workers)
        per_item = self._item_s / pool.workers + way.way_in_s + way.way_out_s
        wanted = self._count(per_item, least=2 * pool.workers, most=self._most(way))
        pairs: list[Trial] = []
        most_s = 0.2 * self.left()
        while len(pairs) < PAIRS and (items := self._take(wanted)):
            began = perf_counter()
            alone_s = loops.loop(self.fn, items).wall_s
            items = self._take_same(items)
            if len(items) < pool.workers or alone_s < LEAST_TRIAL_S:
                break
            if one is not None:
                items = [travel.replaced(item, self.shared, one) for item in items]
            travelling = max(1, min(chunk, len(items) // (16 * pool.workers)))
            seconds, done = self._timed_map(pool, items, travelling)
            speedup = alone_s * done / len(items) / seconds
            pairs.append(Trial(pool.workers, speedup, done, chunk=travelling, shared=one is not None))
            most_s -= perf_counter() - began
            if most_s < perf_counter() - began:
                break
        return together(pairs) if pairs else None

    def _warm_start(self) -> float | None:
        """Seconds until workers are there that were forked after the first call, and have done an item."""
        pool = self.pool
        assert pool is not None
        index, item = self.sample.look(1)[0]
        began = perf_counter()
        with warnings.catch_warnings():
            # That it leaves threads behind, so that nothing is shared: the advice says it with figures.
            warnings.simplefilter("ignore", RuntimeWarning)
            self.preloaded = Pool(
                pool.workers, preload=functools.partial(in_worker.warm, self.fn, item), name="advice", logs=False
            )
            try:
                found = self.preloaded.call(
                    in_worker.first_calls, (self.fn, item, False), timeout=max(0.5, 0.4 * self.left())
                ).result()
            except (TaskTimeout, WorkerLost, NotPicklable, SetupError):
                self.preloaded.close()
                self.preloaded = None
                return None
        self.sample.called([index], 2)
        return max(0.0, perf_counter() - began - found["task_s"]) + max(0.0, found["first_s"] - 2 * self._item_s)

    def _way(self, pool: Pool, probes: Probes, results: list[Any]) -> Travel:
        """How long items and results take to a worker that does nothing with them."""
        first = self._first
        assert first is not None
        known = probes.travel
        per_item = max(known.way_in_s + known.worker_s, 0.3e-6) + known.bytes_in / 300e6
        count = self._count(2 * per_item, least=2, most=min(20_000, self._most(known)))
        items = [item for _, item in self.sample.look(count)]
        chunk = costs.chunk_for(probes, pool.workers)
        way_in = self._drop(pool, items, chunk, per_item)
        way_out = first["loads_s"] + 0.3e-6
        if first["bytes_out"] > LARGE_RESULT and results:
            way_out = max(way_out, self._drop(pool, results, 1, way_out + first["bytes_out"] / 300e6))
        parent_s = known.parent_s + first["loads_s"]
        if self.load.others() >= costs.BUSY_PART * self.load.cores:
            # What passed meanwhile is others' work for the most part: what is sure is pickling.
            way_in, way_out = known.parent_s + costs.ITEM_S, first["loads_s"] + costs.ITEM_S
        return replace(
            known,
            bytes_out=float(first["bytes_out"]),
            way_in_s=way_in,
            way_out_s=way_out,
            worker_s=known.worker_s + first["dumps_s"],
            parent_s=parent_s,
            problem=first["problem"],
            what=None if first["problem"] is None else "result",
        )

    def _drop(self, pool: Pool, items: list[Any], chunk: int, computed: float) -> float:
        """Seconds of an item's way; as computed where there are too few of them for more than the start of a map."""
        pool.map(in_worker.drop, items[: pool.workers], chunk=1)  # so that workers know it
        start = perf_counter()
        pool.map(in_worker.drop, items, chunk=max(1, min(max(chunk, 256), len(items) // (4 * pool.workers))))
        seconds = perf_counter() - start
        measured = max(0.0, seconds - 0.5e-3) / max(1, len(items))
        return measured if seconds >= LEAST_WAY_S else min(measured, computed)

    # --- help -------------------------------------------------------------------------------------

    def _traits(self, first: FirstCalls, timing: Timing) -> Traits:
        self._first = first
        # A global that is changed is no effect outside, and may be a model that the first call loads.
        changed = [f"changes the global '{name}'" for name in source_text.globals_changed(self.fn)]
        return Traits(
            differs=first["differs"],
            effects=(*first["effects"], *changed),
            sleeps=(first["sleeps"] or source_text.sleeps(self.fn)) and timing.waits,
            random=bool(first["differs"]) and source_text.draws_random(self.fn),
            nested=source_text.is_nested(self.fn),
            opens_pool=first["opens_pool"] or source_text.opens_pool(self.fn),
            failed=self._failed,
            remembers=self._remembers,
        )

    def _load_seconds(self, first: FirstCalls) -> float:
        """What the first call in a worker took longer than a later one."""
        usual = first["second_s"] if first["second_s"] is not None and not self._remembers else 3 * self._item_s
        return max(0.0, first["first_s"] - max(usual, self._item_s))

    def _most(self, way: Travel) -> int:
        """How many items a trial may have, by their bytes."""
        return max(2, min(MOST_ITEMS, int(MOST_BYTES / max(1.0, way.bytes_in + way.bytes_out))))

    def _count(self, item_s: float, *, least: int = 1, most: int = MOST_ITEMS) -> int:
        """How many items fill a measurement."""
        return max(least, min(most, int(self._each_s / max(item_s, 1e-9))))

    def _take(self, count: int) -> list[Any]:
        """Items, noted as called once."""
        taken = self.sample.take(count)
        self.sample.called(index for index, _ in taken)
        return [item for _, item in taken]

    def _take_same(self, items: list[Any]) -> list[Any]:
        """The same items again where that is allowed, else as many others."""
        if not self.sample.repeat:
            return self._take(len(items))
        self.sample.called_again()
        return items

    def _timed_map(self, pool: Pool, items: list[Any], chunk: int) -> tuple[float, int]:
        """Seconds of a map and how many items it has done in them: all, unless it takes too much of the budget."""
        most_s = max(0.2, 0.25 * self.left())
        done = 0
        start = perf_counter()
        with pool.imap(self.fn, items, chunk=chunk, on_error="skip") as stream:
            for _ in stream:
                done += 1
                if perf_counter() - start > most_s:
                    break
            seconds = perf_counter() - start
        return max(seconds, 1e-9), max(done, 1)

    def _map(self, pool: Pool, items: list[Any], chunk: int) -> None:
        if items:
            pool.map(self.fn, items, chunk=chunk, on_error="skip")


def _pids(pool: Pool) -> list[int]:
    return [status.pid for status in pool.worker_status() if status.pid]


def _without_load(total: loops.Loop, count: int) -> float:
    """Seconds of an item on a core of its own.

    One that gives up its core by itself waits, and that is its time. One that does not, and still has fewer processor
    seconds than passed, was held up by other programs.
    """
    waits = total.switches / count >= LEAST_SWITCHES
    return max((total.wall_s if waits else min(total.wall_s, max(total.cpu_s, 1e-9))) / count, 1e-9)


def _values(block: loops.Loop) -> tuple[float, float, float, int, int]:
    return block.wall_s, block.cpu_s, block.system_s, block.switches, block.failed
