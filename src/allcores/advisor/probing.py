"""All measurements of a function, one after the other, within a budget of seconds.

The first call is made in a worker, with a deadline: so a function that hangs, or kills its process, costs the probe and
nothing else, and what the later calls will take is known before they are made here.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from allcores.advisor.measuring import (
    first_here,
    in_worker,
    libraries,
    loops,
    memory,
    plain_loop,
    pool_way,
    source_text,
    travel,
    trials,
)
from allcores.advisor.measuring.calls import LEAST_PART, Calls
from allcores.advisor.measuring.machine import Load
from allcores.advisor.measuring.no_answer import TooSlow
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model.decision import HOLDS_S, LOAD_S
from allcores.advisor.model.probes import Probes, Timing, Traits, Travel, Trial
from allcores.errors import NotPicklable, SetupError, TaskTimeout, UsageError, WorkerLost
from allcores.formatting import seconds_text
from allcores.pool.pool import Pool
from allcores.transport import pickling

if TYPE_CHECKING:
    from allcores.advisor.measuring.in_worker import FirstCalls

#: part of the budget for the first call
FIRST_PART = 0.5
#: tries to find an item that the function does not raise for
TRIES = 3
#: numbers of threads that are tried with a function that waits
WAITING_THREADS = (2, 8, 32)
#: effects that are told before there are many calls
MOST_TOLD = 3


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
        self.calls = Calls(fn, sample, began, budget)
        self._first: FirstCalls | None = None
        self._remembers = False
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
        return self.calls.left()

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
        if first["later"] is not None:
            raise UsageError(f"the function {first['later']}")
        if first["changes"]:
            # It is called here, too, from now on: the items of the program stay as they are.
            self.sample.copied, self.shared = True, None
            way = replace(way, common_bytes=0)
        seen = [*first["effects"][:MOST_TOLD], *(["gives other results for the same item"] if first["differs"] else [])]
        if seen:
            # Whoever reads it can still end this: what follows is calls by the hundred.
            self._tell(" and ".join(seen))
        timing, results, self._remembers = plain_loop.measured(self.calls, first)
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
        if probes.threads:
            first_s, each_s = trials.start_of_threads([trial.workers for trial in probes.threads])
            probes = replace(probes, threads_start_s=first_s, thread_start_s=each_s)
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
        self._import_in_workers(self.pool)
        error = ""
        for _ in range(TRIES):
            taken = self.sample.take(1)
            if not taken:
                break
            index, item = taken[0]
            timeout = max(0.5, min(FIRST_PART * self.calls.budget, self.left() - 0.5))
            self.sample.called([index], 2 if second else 1)
            try:
                found = self.pool.call(in_worker.first_calls, (self.fn, item, second), timeout=timeout).result()
            except TaskTimeout:
                raise TooSlow(
                    f"item {index}{', called twice,' if second else ''} was not done after {seconds_text(timeout)}:"
                    " give it more time (budget), or smaller items"
                ) from None
            except WorkerLost as lost:
                raise UsageError(f"the function ends its process with item {index}: {lost}") from None
            start_s = perf_counter() - began - found["task_s"]
            if found["error"] is None:
                return start_s, found
            error = f"{found['error']} (item {index})"
        raise UsageError(f"the function raises {error}: give it items that it can work on")

    def _import_in_workers(self, pool: Pool) -> None:
        """Have the workers import what the function needs, so that no first call seems to take as long."""
        left, data = self.left(), pickling.dumps(self.fn)
        spent = seconds_text(self.calls.budget - left)
        if left < LEAST_PART * self.calls.budget:
            raise TooSlow(f"importing the function took {spent} here: give it more time (budget)")
        timeout = max(0.5, left - LEAST_PART * self.calls.budget)
        for outcome in pool.outcomes(in_worker.read, [data] * pool.workers, chunk=1, timeout=timeout):
            # Of anything else the first call will tell.
            if isinstance(outcome.error, TaskTimeout):
                raise TooSlow(
                    f"a worker was not done with importing the function after {seconds_text(timeout)} ({spent} were"
                    " over before): give it more time (budget)"
                )

    def _first_calls_here(self, second: bool) -> FirstCalls:
        """The same in this process, for what cannot travel; nothing watches it."""
        taken = self.sample.take(1)
        index, item = taken[0]
        found = first_here.first_calls(self.fn, item, 0.2 * self.calls.budget if second else 0.0)
        if found["error"] is not None:
            raise UsageError(f"the function raises {found['error']} (item {index}): give it items that it can work on")
        self.sample.called([index], 1 if found["second_s"] is None else 2)
        return found

    def _lateness(self) -> float | None:
        if not self.calls.fits(1):
            return None
        items = self.calls.take(self.calls.count(self.calls.item_s))
        return loops.lateness(self.fn, items) if items else None

    def _threads(self, probes: Probes) -> tuple[Trial, ...]:
        waits = probes.timing.waits
        numbers: Sequence[int] = WAITING_THREADS if waits else sorted({2, min(self.load.cores, 64)} - {1})
        if probes.late_s is not None and probes.late_s > HOLDS_S and not waits:
            numbers = (2,)
        found = []
        for number in numbers:
            trial = trials.of_threads(self.calls, number, waits)
            if trial is None:
                break
            found.append(trial)
        return tuple(found)

    def _processes(self, probes: Probes, results: list[Any]) -> Probes:
        pool = self.pool
        assert pool is not None
        first = self._first
        assert first is not None
        # each worker has made its first call, and knows the function
        if self.calls.fits(2) and (known := self.calls.take(2 * pool.workers)):
            pool.map(self.fn, known, chunk=1, on_error="skip")
        way = pool_way.measured(self.calls, pool, probes, first, results, self.load)
        probes = replace(probes, travel=way)
        trial = None
        if pool.workers > 1 and self.left() > 0.3 * self.calls.budget:
            trial = trials.of_processes(self.calls, pool, probes, self.shared)
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
            and self.left() > 0.35 * self.calls.budget
        ):
            probes = replace(probes, warm_start_s=self._warm_start())
            if self.preloaded is not None:
                own, now, rest = memory.of_workers(_pids(self.preloaded))
                self._held_bytes += now
                probes = replace(probes, warm_worker_bytes=own, warm_rest_bytes=rest)
        return probes

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
        return max(0.0, perf_counter() - began - found["task_s"]) + max(0.0, found["first_s"] - 2 * self.calls.item_s)

    # --- help -------------------------------------------------------------------------------------

    def _traits(self, first: FirstCalls, timing: Timing) -> Traits:
        self._first = first
        # A global that is changed is no effect outside, and may be a model that the first call loads.
        changed = [f"changes the global '{name}'" for name in source_text.globals_changed(self.fn)]
        return Traits(
            differs=first["differs"],
            changes=first["changes"],
            effects=(*first["effects"], *changed),
            sleeps=(first["sleeps"] or source_text.sleeps(self.fn)) and timing.waits,
            random=bool(first["differs"]) and source_text.draws_random(self.fn),
            nested=source_text.is_nested(self.fn),
            opens_pool=first["opens_pool"] or source_text.opens_pool(self.fn),
            failed=self.calls.failed,
            remembers=self._remembers,
        )

    def _load_seconds(self, first: FirstCalls) -> float:
        """What the first call in a worker took longer than a later one."""
        usual = first["second_s"] if first["second_s"] is not None and not self._remembers else 3 * self.calls.item_s
        return max(0.0, first["first_s"] - max(usual, self.calls.item_s))


def _pids(pool: Pool) -> list[int]:
    return [status.pid for status in pool.worker_status() if status.pid]
