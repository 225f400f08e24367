"""`Pipeline`: steps over a stream of records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from allcores.errors import NotSupported, UsageError
from allcores.formatting import kind_text
from allcores.limits import Limits, Retry, check_workers, is_whole, whole
from allcores.pipelines import operators
from allcores.pipelines.plan import Plan, plan
from allcores.pipelines.record_stream import RecordStream, streamed
from allcores.pipelines.steps import (
    ENDLESS,
    ON,
    ON_CLUSTERS,
    InlineStep,
    On,
    OnError,
    Step,
    TeeStep,
    WorkerStep,
    WriteStep,
    name_of,
    one_line,
    worker_step,
)
from allcores.system.async_functions import check_not_async
from allcores.system.cores import core_budget
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from allcores.pipelines.run import PipelineResult
    from allcores.runs.options import Journal


class Pipeline:
    """Steps that records go through, from a source to a stream or an output.

        p = Pipeline().map(parse).filter(is_english).batch(64).map(embed).unbatch()
        for record in p.imap(messages): ...

    Each method that adds a step gives a new pipeline; the one before stays as it is, and several may begin with it.
    Functions of `map`, `filter` and `flat_map` run in workers, and neighbours among them are one task unless told
    otherwise; all other steps are taken by the program, in order. Records come out in the order of the source, and what
    comes out does not depend on how many workers there are, or on what is one task.
    """

    __slots__ = ("_steps",)

    @hiding
    def __init__(self) -> None:
        self._steps: tuple[Step, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps so far."""
        return self._steps

    def __repr__(self) -> str:
        return f"Pipeline(){one_line(self._steps)}"

    # --- steps that workers take ---

    @hiding
    def map(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        on: On | None = None,
        workers: int | None = None,
        preload: Callable[..., Any] | None = None,
        preload_args: Iterable[Any] = (),
        timeout: float | None = None,
        retries: int | Retry = 0,
        on_error: OnError = "raise",
        chunk: int | None = None,
        fuse: bool = True,
    ) -> Pipeline:
        """Each record becomes `fn(record)`.

        Args:
            fn: The function; with `preload`, it is called as `fn(loaded, record)`.
            name: What messages and reports call the step; None: what the function is called.
            on: "processes", "threads", "interpreters" (Python 3.14 and later) or "serial" (the program itself);
                None: where the pipeline runs.
            workers: Workers that this stage has for itself; None: it shares those of the pipeline.
            preload: Run once for all workers of the stage's pool, before the first of them starts. What it returns,
                unless None, exists once in memory and is the function's first argument.
            preload_args: Its arguments.
            timeout: Seconds for a record in this stage, per attempt; one that uses them up is ended, others go on.
            retries: Further attempts for a record that fails in this stage, or a `Retry` with the details.
            on_error: What becomes of a record that fails: "raise" ends the pipeline at its place, "skip" leaves it out,
                "record" keeps its failure for the outcomes or the output, and a function, called in the program as
                `on_error(record, error)`, gives what is to go on in its place.
            chunk: Records that travel together; None sizes chunks by measurement.
            fuse: False: a stage of its own, and not one task with the step before.

        Returns:
            The pipeline with this step.

        Raises:
            UsageError: An option makes no sense, or the step cannot follow.
            NotSupported: A deadline for tasks that cannot be ended.
        """
        options = dict(locals())
        del options["self"], options["fn"]
        return self._with(worker_step("map", fn, **options))

    @hiding
    def filter(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        on: On | None = None,
        workers: int | None = None,
        preload: Callable[..., Any] | None = None,
        preload_args: Iterable[Any] = (),
        timeout: float | None = None,
        retries: int | Retry = 0,
        on_error: OnError = "raise",
        chunk: int | None = None,
        fuse: bool = True,
    ) -> Pipeline:
        """Records for which `fn(record)` is true. Arguments as for `map`."""
        options = dict(locals())
        del options["self"], options["fn"]
        return self._with(worker_step("filter", fn, **options))

    @hiding
    def flat_map(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        on: On | None = None,
        workers: int | None = None,
        preload: Callable[..., Any] | None = None,
        preload_args: Iterable[Any] = (),
        timeout: float | None = None,
        retries: int | Retry = 0,
        on_error: OnError = "raise",
        chunk: int | None = None,
        fuse: bool = True,
    ) -> Pipeline:
        """All that `fn(record)` gives, a list or a generator, one after the other. Arguments as for `map`."""
        options = dict(locals())
        del options["self"], options["fn"]
        return self._with(worker_step("flat_map", fn, **options))

    # --- steps that the program takes, in order ---

    @hiding
    def batch(self, size: int, *, by: Callable[[Any], float] | str | None = None) -> Pipeline:
        """Lists of neighbouring records; the last one may be shorter. As `itertools.batched`.

        Args:
            size: Records in a list; with `by`, what they may weigh together.
            by: Gives the weight of a record, `len` say; "bytes": of texts, bytes and arrays, their size. A record that
                weighs more than `size` is alone.
        """
        size = whole(size)
        if not is_whole(size):
            raise UsageError(f"batch({size!r}): the size must be a whole number, 1 or more.")
        if by is not None and by != "bytes" and not callable(by):
            raise UsageError(f"batch(by={by!r}) must be a function that gives the weight of a record, or 'bytes'.")
        weigh: Any = operators.bytes_of if by == "bytes" else by
        shown = "" if by is None else f", by={by!r}" if isinstance(by, str) else f", by={name_of(by)}"
        return self._inline("batch", f"{size}{shown}", partial(operators.Batch, size, weigh), (size, by), groups=True)

    @hiding
    def unbatch(self) -> Pipeline:
        """The records of each list, one after the other: `itertools.chain.from_iterable`.

        Behind a step that workers take it is a part of its task, unless a function of `on_error` may give such lists.
        """
        if self._steps and isinstance(self._steps[-1], WorkerStep) and not self._steps[-1].replaces:
            return self._with(WorkerStep("unbatch", None, "unbatch", None))
        return self._inline("unbatch", "", operators.Unbatch, ())

    @hiding
    def group_by(self, key: Callable[[Any], Any], *, limit: int | None = None) -> Pipeline:
        """(key, list of records) for neighbours with the same key. As `itertools.groupby`: sort before, if need be.

        Args:
            key: Gives the key of a record. NaN is one key, wherever it came from.
            limit: Records in a list at most: a longer group comes in several. It bounds memory.
        """
        if not callable(key):
            raise UsageError(f"group_by({key!r}): that cannot be called; it is the function that gives the key.")
        limit = whole(limit)
        if limit is not None and not is_whole(limit):
            raise UsageError(f"group_by(limit={limit!r}) must be a whole number, 1 or more, or None for no limit.")
        shown = name_of(key) + ("" if limit is None else f", limit={limit}")
        make = partial(operators.GroupBy, key, limit)
        return self._inline("group_by", shown, make, (key, limit), groups=True)

    @hiding
    def window(self, n: int, *, step: int = 1) -> Pipeline:
        """Tuples of `n` neighbouring records, each `step` records behind the one before.

        Fewer than `n` records have no window; nor has what is left at the end.
        """
        n, step = whole(n), whole(step)
        for word, number in (("n", n), ("step", step)):
            if not is_whole(number):
                raise UsageError(f"window({word}={number!r}) must be a whole number, 1 or more.")
        shown = f"{n}" + ("" if step == 1 else f", step={step}")
        return self._inline("window", shown, partial(operators.Window, n, step), (n, step), groups=True)

    @hiding
    def enumerate(self, start: int = 0) -> Pipeline:
        """(number, record), counted from `start`."""
        start = whole(start)
        if isinstance(start, bool) or not isinstance(start, int):
            raise UsageError(f"enumerate({start!r}): the first number must be a whole one.")
        return self._inline("enumerate", f"{start}" if start else "", partial(operators.Enumerate, start), (start,))

    @hiding
    def islice(self, *places: int | None) -> Pipeline:
        """Some records by their places, as `itertools.islice`: `islice(stop)` or `islice(start, stop, step)`.

        Behind the last of them the source is not pulled any further, unless workers come before: they read ahead.
        """
        if not 1 <= len(places) <= 3:
            raise UsageError("islice takes (stop), (start, stop) or (start, stop, step).")
        places = tuple(map(whole, places))
        start, stop, step = (0, places[0], 1) if len(places) == 1 else (*places, 1)[:3]
        for word, number, least in (("start", start, 0), ("stop", stop, 0), ("step", step, 1)):
            if number is None:
                continue
            if not is_whole(number, least):
                raise UsageError(f"islice({word}={number!r}) must be a whole number, {least} or more, or None.")
        shown = ", ".join(map(repr, places))
        make = partial(operators.Islice, start or 0, stop, step or 1)
        return self._inline("islice", shown, make, (start or 0, stop, step or 1))

    @hiding
    def scan(self, fn: Callable[[Any, Any], Any], initial: Any) -> Pipeline:
        """The states of a fold: each record becomes `state = fn(state, record)`, of which the first is `initial`.

        As `itertools.accumulate`, without the initial state. `fn` may change the state and return it: what comes out
        is a copy of it, as it was behind that record.
        """
        if not callable(fn):
            raise UsageError(f"scan({fn!r}): that cannot be called; it is a function of state and record.")
        return self._inline("scan", name_of(fn), partial(_scan, fn, initial), (fn, initial))

    @hiding
    def distinct(self, key: Callable[[Any], Any] | None = None) -> Pipeline:
        """Each record the first time that it comes; with `key`, the first record of each key. It remembers all keys.

        Records, or keys, must be hashable; NaN is one of them, wherever it came from.
        """
        if key is not None and not callable(key):
            raise UsageError(f"distinct({key!r}): that cannot be called; it is the function that gives the key.")
        shown = "" if key is None else name_of(key)
        return self._inline("distinct", shown, partial(operators.Distinct, key), (key,))

    @hiding
    def tee(self, *sides: Pipeline) -> Pipeline:
        """Every record goes on, and also into each side: a pipeline of its own, which ends with `write`.

        Outputs of sides appear whole, when all records have come: at the end of `run`, or when what `imap` or
        `outcomes` gives was read to its end. Until then their rows wait on the disk; where a stream is left early, or
        raises, there are no such outputs.
        """
        if not sides:
            raise UsageError("tee() needs a side: a Pipeline that ends with write(...).")
        for number, side in enumerate(sides, 1):
            if not isinstance(side, Pipeline):
                raise UsageError(f"tee: side {number} is {side!r}; a side is a Pipeline that ends with write(...).")
            if not side.ends:
                raise UsageError(f"tee: side {number} ({side!r}) leads nowhere; end it with write(...).")
        return self._with(TeeStep(tuple(side.steps for side in sides)))

    @hiding
    def write(self, sink: Any) -> Pipeline:
        """The end: records are the rows of an output, which appears whole.

        Args:
            sink: A path (.jsonl, .csv, .parquet, `out.db:table`, `folder/`), or one of the sinks, as for
                `allcores.run`.
        """
        from allcores.sinks.open import sink_of

        found = sink_of(sink)
        grouped = self._grouping()
        if grouped is not None and type(found).__name__ in ("CsvFile", "ParquetFile", "SqliteTable"):
            raise UsageError(
                f"write({getattr(found, 'path', found)}): the records are those of {grouped}, and no rows; add "
                ".unbatch(), or a map that makes a row of each."
            )
        return self._with(WriteStep(found))

    def _grouping(self) -> str | None:
        """The step whose lists would be written, if none after it makes something else of them."""
        for step in reversed(self._steps):
            if isinstance(step, InlineStep):
                if step.groups:
                    return step.text
                if step.kind in ("islice", "distinct"):
                    continue
            if isinstance(step, TeeStep) or (isinstance(step, WorkerStep) and step.kind == "filter"):
                continue
            return None
        return None

    @property
    def ends(self) -> bool:
        """It ends with `write`."""
        return bool(self._steps) and isinstance(self._steps[-1], WriteStep)

    def _inline(
        self, kind: str, shown: str, make: Callable[[], operators.Operator], arguments: tuple[Any, ...], *,
        groups: bool = False,
    ) -> Pipeline:  # fmt: skip
        for each in arguments:
            check_not_async(each, kind)
        return self._with(InlineStep(kind, f"{kind}({shown})", make, arguments, groups))

    def _with(self, step: Step) -> Pipeline:
        if self.ends:
            raise UsageError(f"{step.text} stands behind {self._steps[-1].text}, and nothing can follow an end.")
        longer = Pipeline()
        longer._steps = (*self._steps, step)
        return longer

    # --- what runs it ---

    @hiding
    def explain(self, source: Any = None, *, workers: int | None = None, backend: On = "processes") -> str:
        """The plan as text: stages, which steps are one task, and whose workers run them. Nothing is started.

        Args:
            source: What would be read; only named.
            workers: As for `imap`.
            backend: As for `imap`.
        """
        text = self.plan(workers=workers, backend=backend).text()
        return (
            text
            if source is None
            else f"source  {source if isinstance(source, (str, os.PathLike)) else type(source).__name__}\n{text}"
        )

    @hiding
    def plan(self, *, workers: int | None = None, backend: On = "processes") -> Plan:
        """What would run, see `explain`."""
        if workers is not None:
            workers = check_workers(workers)
        if backend not in ON and backend.partition("://")[0] not in ON_CLUSTERS:
            raise UsageError(
                f"backend={backend!r} must be 'processes', 'threads', 'interpreters' or 'serial', or a cluster's: "
                "'dask://HOST:PORT'."
            )
        made = plan(self._steps, cores=core_budget().workers, workers=workers, backend=backend)
        for stage in made.stages:
            if stage.options.timeout is not None and made.pools[stage.pool].on in ENDLESS:
                raise NotSupported(
                    f"timeout={stage.options.timeout:g} of stage {stage.number} ({stage.name}) needs processes: "
                    f"backend={backend!r} cannot end a task that runs too long."
                )
        return made

    @hiding
    def imap(
        self,
        source: Any,
        *,
        workers: int | None = None,
        backend: On = "processes",
        limits: Limits | None = None,
        progress: bool = False,
        **pool_options: Any,
    ) -> RecordStream:
        """What comes out, one by one, in the order of the source and in bounded memory; the source may be endless.

        The source is pulled on the thread that reads the stream. Leaving the loop cancels what is left.

        Args:
            source: The records: a path or pattern as for `allcores.run`, or anything that can be iterated.
            workers: Of the pipeline, besides those that stages have for themselves; None: what these leave of the core
                budget.
            backend: Where stages run that do not say so; "serial": all of them in the program itself, for debugging.
            limits: Of all stages together.
            progress: Show what each stage does, on standard error: a table in a terminal, elsewhere a line every half
                minute.
            **pool_options: Further ones of `Pool`, for each pool: start_method, preload_modules, observers, logs, name,
                contextvars.

        Returns:
            An iterator, and a context manager, which closes it.

        Raises:
            UsageError: The pipeline ends with `write`, or keeps failures as records: use `run` or `outcomes`. Or the
                output of a side (`tee`) cannot be written.
            JournalError: The output of a side could not be written.
            Exception: What a step or the source has raised, behind the records before it.
        """
        self._check_streamed("imap")
        made = self.plan(workers=workers, backend=backend)
        for stage in made.stages:
            if stage.options.on_error == "record":
                raise UsageError(
                    f"on_error='record' of stage {stage.number} ({stage.name}) keeps failures for run() and "
                    "outcomes(); a stream of records has no place for them: use outcomes(), or 'skip'."
                )
        return streamed(
            made, self._steps, _records(source), limits=limits, progress=progress, pool_options=pool_options
        )

    @hiding
    def outcomes(
        self,
        source: Any,
        *,
        workers: int | None = None,
        backend: On = "processes",
        limits: Limits | None = None,
        progress: bool = False,
        **pool_options: Any,
    ) -> RecordStream:
        """An `Outcome` for each record that comes out, and for each that failed on the way, at its place.

        That is before records that a step still gathers, for a batch say.
        A failed one has the record as its stage was given it, its index among the records of that stage, and an error
        whose notes name stage and step. Whatever `on_error` says, none is raised; those to be skipped are left out.
        What fails in a side (`tee`) is among them, at its place. Arguments as for `imap`.
        """
        self._check_streamed("outcomes")
        made = self.plan(workers=workers, backend=backend)
        return streamed(
            made,
            self._steps,
            _records(source),
            outcomes=True,
            limits=limits,
            progress=progress,
            pool_options=pool_options,
        )

    @hiding
    def run(
        self,
        source: Any,
        *,
        journal: Journal | bool = True,
        workers: int | None = None,
        backend: On = "processes",
        limits: Limits | None = None,
        progress: bool = False,
        **pool_options: Any,
    ) -> PipelineResult:
        """A source through the pipeline into its outputs, so that it can go on after anything; outputs appear whole.

        With a journal, what came of each item of the source is kept, and what steps hold in between (half a batch, a
        sum, what was seen) as well, some ten times a second. So a run that was killed anywhere goes on, and its outputs
        are those of one that was not, byte for byte, with any number of workers.

        Args:
            source: A path (.jsonl, .csv, .parquet, lines), a pattern or folder of files, or anything that can be
                iterated.
            journal: True keeps a journal with its defaults, a `Journal` says how, False keeps none.
            workers: As for `imap`.
            backend: As for `imap`.
            limits: As for `imap`.
            progress: Show what the stages do, on standard error: a live table in a terminal, elsewhere a line every
                half minute.
            **pool_options: As for `imap`.

        Returns:
            How many items of the source have an outcome, and what each stage did.

        Raises:
            UsageError: The pipeline does not end with `write`, or an output cannot be written.
            RunChanged: Steps, options or input are not those of the run that is resumed.
            RunInUse: Another process goes on with that run.
            RunNotFound: There is no run of the name that `journal` asks for.
            JournalError: The journal, or an output, cannot be read or written.
            Exception: What a step whose `on_error` is "raise", or the source, has raised. What is done is kept.
        """
        from allcores.pipelines.run import run

        made = self.plan(workers=workers, backend=backend)
        return run(
            self._steps, made, source, journal=journal, limits=limits, progress=progress, pool_options=pool_options
        )

    def _check_streamed(self, method: str) -> None:
        if self.ends:
            raise UsageError(
                f"the pipeline ends with {self._steps[-1].text}: use run(), or {method}() without that step."
            )


def _records(source: Any) -> Iterable[Any]:
    # Lists and generators need no look at what they may be.
    if isinstance(source, str) or type(source).__module__ != "builtins":
        from allcores.sources.open import source_of

        return source_of(source)
    # What has numbered items alone can be iterated as well, see `source_of`.
    if not isinstance(source, Iterable) and not hasattr(type(source), "__getitem__"):
        raise UsageError(f"{source!r} is no source: give a path, a pattern, or anything that can be iterated")
    records: Iterable[Any] = source
    return records


def _scan(fn: Callable[[Any, Any], Any], initial: Any) -> operators.Operator:
    from copy import deepcopy

    # A fold may change its state and return it: the next run begins with what was given.
    try:
        own = deepcopy(initial)
    except Exception as error:
        raise UsageError(
            f"scan({name_of(fn)}): the initial state is {kind_text(initial)}, which cannot be copied ({error}); each "
            "run begins with a copy of it."
        ) from error
    return operators.Scan(fn, own)
