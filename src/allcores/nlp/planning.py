"""How embeddings use the cores: a process for each, with one thread, or one process with threads of the library.

Which is quicker depends on the model, the machine and the other stages. So a run that is long enough to make up for it
measures both with its first messages, before it begins: the pool that it is about to use, with all stages, and the one
stage in a process of its own with as many threads. The rows do not depend on the choice (vectors within 1e-5).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter
from typing import Any

from allcores.errors import SetupError, UsageError
from allcores.nlp.reading.source import ChatItems
from allcores.nlp.records import Record, new_record
from allcores.nlp.rows import SECONDS, RowFunction, load_own, load_stages
from allcores.nlp.stage import Stage
from allcores.pool.pool import Pool
from allcores.sources.base import close_reading
from allcores.sources.text import STDIN
from allcores.system.cores import core_budget

#: the value of a stage's option `threads` that leaves the choice to this module
AUTO = "auto"
#: messages from which on it is measured. Fewer are done before a choice would pay.
LEAST_MESSAGES = 2_000
#: the same for a stage that each worker loads for itself, which takes many seconds
LEAST_MESSAGES_OWN = 10_000
#: messages per worker that are measured, after as many that warm up. More is surer, and takes longer.
SAMPLE = 16
#: how much quicker one process has to be: it does the other stages alone, and a crash costs all of it
MARGIN = 1.05
#: seconds for a message of the sample; one that takes longer ends the measurement, not the run
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """What was chosen, and why.

    Attributes:
        stage: Of the embeddings.
        workers: Processes.
        threads: Of the library, in each.
        rates: Messages a second of `workers` processes with one thread, and of one process with threads; None if they
            were not measured.
        why: Why they were not.
    """

    stage: str
    workers: int
    threads: int
    rates: tuple[float, float] | None = None
    why: str = ""

    def as_text(self) -> str:
        """In one line."""
        chosen = _way(self.workers, self.threads)
        if self.rates is None:
            return f"{self.stage}: {chosen} (not measured: {self.why})"
        cores = max(self.workers, self.threads)
        ways = zip((_way(cores, 1), _way(1, cores)), self.rates, strict=True)
        measured = ", ".join(f"{way}: {rate:,.1f} messages/s" for way, rate in ways)
        return f"{self.stage}: {chosen} (measured: {measured})"


def _way(workers: int, threads: int) -> str:
    processes = "1 process" if workers == 1 else f"{workers} processes"
    return f"{processes} with {'1 thread' if threads == 1 else f'{threads} threads'}" + (" each" if workers > 1 else "")


def auto_stage(stages: Sequence[Stage]) -> Stage | None:
    """The stage whose threads are to be chosen; None if there is none."""
    return next((stage for stage in stages if stage.options.get("threads") == AUTO), None)


def stages_pool(stages: Sequence[Stage], **options: Any) -> Pool:
    """A pool whose workers have the models of stages loaded, once for all of them where that is safe."""
    if any(stage.per_worker for stage in stages):
        options |= {"setup": load_own, "setup_args": (stages,)}
    return Pool(preload=load_stages, preload_args=(stages,), **options)


@contextlib.contextmanager
def told_as_they_are() -> Iterator[None]:
    """In the block, what is wrong with an option of a stage, or is not installed, is told as that.

    It is found out where models are loaded, and would be told as an error of the pool's `preload`, which is ours.
    """
    found: BaseException | None = None
    try:
        yield
    except SetupError as error:
        found = error.__cause__
        if not isinstance(found, UsageError):
            raise
    if found is not None:
        raise found


@contextlib.contextmanager
def planned_pool(
    stages: Sequence[Stage],
    messages: Iterable[Any],
    names: Mapping[str, str] | None,
    **options: Any,
) -> Iterator[tuple[Pool, ThreadPlan | None]]:
    """The pool for a run, and what was chosen for the stage whose threads are to be; None without such a stage.

    Args:
        stages: Of the pipeline.
        messages: What will be read.
        names: See `RowFunction`.
        **options: Of the pool.
    """
    stage = auto_stage(stages)
    if stage is None:
        with stages_pool(stages, **options) as pool:
            yield pool, None
        return
    workers = options.get("workers") or core_budget().workers
    sample, why = _sample(stage, messages, workers, options.get("backend", "processes"))
    plan = ThreadPlan(stage.name, workers, 1, why=why)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(stages_pool(stages, **options))
        if not why:
            plan = measured(stages, stage, pool, sample, names, workers, options)
        if plan.threads > 1:
            stack.close()
            pool = stack.enter_context(stages_pool(with_threads(stages, plan.threads), **{**options, "workers": 1}))
        yield pool, plan


def with_threads(stages: Sequence[Stage], threads: int) -> tuple[Stage, ...]:
    """The stages, with so many threads where they are to be chosen. With threads a model cannot be shared by a fork."""
    return tuple(
        replace(stage, options={**stage.options, "threads": threads}, per_worker=stage.per_worker or threads > 1)
        if stage.options.get("threads") == AUTO
        else stage
        for stage in stages
    )


def _sample(stage: Stage, messages: Iterable[Any], workers: int, backend: Any) -> tuple[list[Any], str]:
    """The first messages; or why there is nothing to measure with them."""
    if backend != "processes":
        return [], f"the backend is {backend}"
    if workers < 2:
        return [], "there is one core for it"
    if not isinstance(messages, ChatItems) or not all(map(_is_file, messages.source.paths)):
        return [], "the input can be read only once"
    least = LEAST_MESSAGES_OWN if stage.per_worker else LEAST_MESSAGES
    reading = iter(messages)
    try:
        found = list(islice(reading, 2 * SAMPLE * workers))
        more = sum(1 for _ in islice(reading, max(0, least - len(found))))
    finally:
        close_reading(reading, unless=messages)
    if len(found) + more < least:
        return [], f"the input has fewer than {least:,} messages"
    return found, ""


def _is_file(path: str) -> bool:
    try:
        return path != STDIN and stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def measured(
    stages: Sequence[Stage],
    stage: Stage,
    pool: Pool,
    sample: Sequence[Any],
    names: Mapping[str, str] | None,
    workers: int,
    options: Mapping[str, Any],
) -> ThreadPlan:
    """Both ways, and which of them is quicker.

    Args:
        stages: Of the pipeline.
        stage: Whose threads are to be chosen.
        pool: Of `workers` processes, with one thread each.
        sample: Items; the first half warms up.
        names: See `RowFunction`.
        workers: Processes, or threads.
        options: Of the pool.
    """
    plan = ThreadPlan(stage.name, workers, 1, why="a message of the sample failed")
    timed = _timed(pool, RowFunction(stages, names), sample, workers)
    if timed is None:
        return plan
    rows, seconds = timed
    took = [row[SECONDS] for row in rows if SECONDS in row]
    others = sum(each for part in took for name, each in part.items() if name != stage.name) / len(rows)
    texts = [new_record("sample", number, text=row["text_norm"]) for number, row in enumerate(rows) if row["text_norm"]]
    if not texts:
        return replace(plan, why="the messages of the sample are empty")
    alone = with_threads([stage], workers)
    with stages_pool(alone, **{**options, "workers": 1}) as single:
        timed = _timed(single, RowFunction(alone), texts + texts, 1)
    if timed is None:
        return plan
    share = len(texts) / len(rows)
    processes = len(rows) / seconds
    threads = 1 / (others + share * timed[1] / len(texts))
    one = threads > MARGIN * processes
    return ThreadPlan(stage.name, 1 if one else workers, workers if one else 1, (processes, threads))


def _timed(pool: Pool, function: RowFunction, items: Sequence[Any], workers: int) -> tuple[list[Record], float] | None:
    """Rows of the second half of the items, and the wall time that they took; None if one was lost."""
    half = len(items) // 2
    batch = max(1, half // workers // 2)
    rows: list[Record] = []
    seconds = 0.0
    for part in (items[:half], items[half:]):
        began = perf_counter()
        outcomes = list(pool.outcomes(function, part, batch=batch, chunk=batch, timeout=PATIENCE_S))
        seconds = perf_counter() - began
        if not all(outcome.ok for outcome in outcomes):
            return None
        rows = [outcome.value for outcome in outcomes if outcome.value is not None]
    return rows, seconds
