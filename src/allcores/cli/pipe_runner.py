"""Carries out `allcores pipe`: as `allcores run`, but for a pipeline, and with the figures of its stages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from allcores.cli.exits import CommandError, Exit
from allcores.cli.interrupt import GuardedSource, Interrupts
from allcores.cli.output import show
from allcores.cli.pipe_request import PipeOptions, file_of_pipeline, pipeline_of
from allcores.cli.recorder import Recorder
from allcores.cli.request import check_journal, check_standard, source_of, with_stdout_named
from allcores.cli.runner import RunExit, Runner, interruptible, told
from allcores.cli.summary import Summary
from allcores.cli.target import both
from allcores.formatting import counted
from allcores.outcome import Kind, Outcome
from allcores.pipelines.identity import functions_of
from allcores.pipelines.pipeline import Pipeline
from allcores.pipelines.run import PipelinePool, PipelineWork
from allcores.pipelines.side_outputs import SideOutputs
from allcores.pipelines.stage_view import StageView
from allcores.pipelines.statistics import StageStatistics, table_text
from allcores.sinks.base import Entries
from allcores.sinks.destination import (
    check_file,
    check_file_survives,
    check_inputs_survive,
    check_not_appended,
    looked_up,
)
from allcores.sinks.json_stream import STDOUT, JsonLinesSink, failure_record
from allcores.sinks.json_text import JsonFunction, NotJson
from allcores.sinks.many_rows import ROWS, failures_in, taken_apart
from allcores.sources.base import Source
from allcores.sources.chain import reported


def pipe(options: PipeOptions) -> int:
    """Do what `allcores pipe` does; the exit code."""
    return interruptible(lambda stdout_fd, interrupts: _pipe(options, stdout_fd, interrupts))


def explain(options: PipeOptions) -> int:
    """Show the plan; the exit code."""
    pipeline = pipeline_of(options.function)
    if not pipeline.ends:
        pipeline = pipeline.write(StandardOutput() if options.output == STDOUT else options.output)
    source = ", ".join((*options.inputs, *options.files)) or None
    show(pipeline.explain(source, workers=options.workers, backend=options.backend).rstrip("\n"))
    return Exit.OK


def _pipe(options: PipeOptions, stdout_fd: int, interrupts: Interrupts) -> int:
    source, pipeline = both(lambda: source_of(options), lambda: pipeline_of(options.function))
    options, pipeline = _with_output(options, pipeline)
    check_standard(options)
    check_journal(options)
    streamed = options.output == STDOUT
    if streamed:
        if options.json:
            raise CommandError("--json prints the summary on standard output, so the rows need a file: -o OUT.jsonl")
        check_not_appended(stdout_fd, source)
    plan = pipeline.plan(workers=options.workers, backend=options.backend)
    pools = sum(planned.workers > 0 for planned in plan.pools)
    outputs = [line.sink.path for line in plan.sides]
    outputs += [] if streamed else [plan.line.sink.path]
    _check_recordings(options, source, pools, functions_of(pipeline.steps), outputs)
    _check_pipeline_survives(options, outputs)
    # A recording is of one pool: workers of several have the same numbers.
    journalled = options.journal and not streamed and pools == 1
    with Recorder(options.timeline, options.trace, journalled=journalled) as recorder:
        runner = _PipeRunner(options, interrupts, stdout_fd, recorder)
        runner.workers = sum(planned.workers for planned in plan.pools) or 1
        pool_options: dict[str, Any] = {"observers": (runner.meter, *recorder.observers)}
        if options.start_method is not None:
            pool_options["start_method"] = options.start_method
        work = PipelineWork(
            pipeline.steps,
            plan,
            source,
            pool_options=pool_options,
            request={"cwd": os.getcwd(), "command": "pipe", "options": asdict(options)},
        )
        runner.pool = work.pool
        visible = options.progress and not options.quiet

        def do() -> None:
            with StageView(work.pool.statistics, visible=visible):
                if streamed:
                    runner.stream(
                        work,
                        GuardedSource(reported(source, runner.leave_out), interrupts),
                        functions_of(pipeline.steps),
                    )
                else:
                    runner.map_whole(work.pool, work.spec)

        runner.run(work.pool, do, runner.figures)
    return told(options, runner, stdout_fd)


def _check_pipeline_survives(options: PipeOptions, outputs: Iterable[str]) -> None:
    """Raise UsageError if something that is written would replace the file of the pipeline."""
    file = file_of_pipeline(options.function)
    for path in (*outputs, options.timeline, options.trace):
        if file is not None and path is not None:
            check_file_survives(path, file, "the file of the pipeline")


def _check_recordings(
    options: PipeOptions,
    source: Source[Any],
    pools: int,
    functions: Iterable[Callable[..., Any]],
    outputs: Iterable[str],
) -> None:
    """Raise CommandError, or UsageError, if what is to be recorded cannot be."""
    called, written = list(functions), {looked_up(path)[0] for path in outputs}
    for name, path in (("--timeline", options.timeline), ("--trace", options.trace)):
        if path is None:
            continue
        if pools != 1:
            raise CommandError(
                f"{name} records one pool, and the stages of this pipeline have {counted(pools, 'pool')}: leave it out,"
                " or let stages share their workers (without on= and workers=)"
            )
        check_file(path, whole=False)
        check_inputs_survive(path, source, *called)
        real = os.path.realpath(path)
        if real in written:
            raise CommandError(f"{name} {path} is written to already: choose another file")
        written.add(real)


def _with_output(options: PipeOptions, pipeline: Pipeline) -> tuple[PipeOptions, Pipeline]:
    """The options with the output that there will be, and the pipeline that ends with it."""
    options = with_stdout_named(options)
    if pipeline.ends:
        end = pipeline.steps[-1]
        if options.output != STDOUT:
            raise CommandError(f"the pipeline ends with {end.text}, which is its output: leave -o {options.output} out")
        return replace(options, output=end.sink.path), pipeline  # type: ignore[union-attr]
    if options.output != STDOUT:
        return options, pipeline.write(options.output)
    return options, pipeline.write(StandardOutput())


class StandardOutput:
    """What stands for standard output at the end of a pipeline: rows are JSON, and are written as they come."""

    path = ""
    looks_twice = False
    wants_details = False
    takes_failures = True

    def describe(self) -> dict[str, Any]:
        """See `WholeSink`."""
        return {"kind": "StandardOutput", "path": STDOUT}

    def check(self) -> None:
        """See `WholeSink`."""

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        """See `WholeSink`."""
        return JsonFunction(function)

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None:
        """Not at once: see `_PipeRunner.stream`."""
        raise CommandError("standard output is written as rows come, and not as a whole: name a file with -o")

    def __str__(self) -> str:
        return "standard output"


class _PipeRunner(Runner):
    """One run of a pipeline, and what is known about it so far."""

    way_on = "on_error='skip' or 'record' of the stage would go on"
    pool: PipelinePool

    def figures(self) -> tuple[int, int, float]:
        """Retries, workers lost and seconds in the functions."""
        pools = self.pool.pool_statistics()
        seconds = sum(stage.seconds for stage in self.pool.statistics())
        return sum(each.retries for each in pools), sum(each.workers_lost for each in pools), seconds

    def stream(self, work: PipelineWork, source: GuardedSource[Any], functions: Iterable[Callable[..., Any]]) -> None:
        """Rows to standard output, as they come; those of sides to their outputs, which appear whole after the last.

        Args:
            work: What is done.
            source: Its items.
            functions: Of the pipeline, none of whose files an output may replace.
        """
        spec = work.spec
        lines = work.plan.sides
        stream = work.pool.outcomes(
            spec.function, source, timeout=spec.timeout, retries=spec.retries, chunk=spec.chunk, batch=None
        )
        self.interrupts.stop_with(stream.stop)
        recording = any(stage.options.on_error == "record" for stage in work.plan.stages)
        with ExitStack() as stack:
            sink = stack.enter_context(JsonLinesSink.open(STDOUT, records=recording, stdout_fd=self.stdout_fd))
            stack.enter_context(stream)
            sides = stack.enter_context(SideOutputs(lines, work.source, functions)) if lines else None
            for outcome in stream:
                self.tally.add(outcome)
                if outcome.kind is Kind.CANCELLED:
                    continue
                try:
                    for number, row in _rows(outcome):
                        if not number:
                            sink.write(row)
                        elif sides is not None:
                            sides.add(number, row.value)
                except NotJson as error:  # a name that an earlier row has given to a file
                    self.ending = RunExit(Exit.STOPPED, f"stopped at item {outcome.index}: {error}")
                    return
                if not outcome.ok:
                    for record in failures_in(failure_record(outcome), skipped=False):
                        sink.write_failure(record)
                if not outcome.ok and spec.is_end(outcome):
                    self.stop_at(outcome)
                    return
            if sides is not None and self.interrupts.received is None:
                sides.publish()

    def summary(self) -> PipeSummary:
        """The run in numbers, with those of its stages."""
        found = super().summary()
        fields = {name: getattr(found, name) for name in Summary.__dataclass_fields__}
        return PipeSummary(**fields, stages=self.pool.statistics())


@dataclass(frozen=True, slots=True)
class PipeSummary(Summary):
    """A finished run of a pipeline, in numbers; items are those of the source."""

    stages: tuple[StageStatistics, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """See Summary."""
        names = StageStatistics.__match_args__
        stages = [{name: getattr(stage, name) for name in names} for stage in self.stages]
        return {**Summary.as_json(self), "stages": stages}

    def as_text(self) -> str:
        """See Summary."""
        text = Summary.as_text(self)
        return f"{text}\n{table_text(self.stages).rstrip()}" if self.stages else text


def _rows(outcome: Outcome[str]) -> Iterator[tuple[int, Outcome[Any]]]:
    """An outcome for each row of an item, each with the number of its output."""
    line = outcome.value if outcome.ok else getattr(outcome, "extra", {}).get(ROWS, "")
    for number, row in taken_apart(line or ""):
        yield (
            number,
            Outcome(
                outcome.index, Kind.OK, row, attempts=outcome.attempts, seconds=outcome.seconds, worker=outcome.worker
            ),
        )
