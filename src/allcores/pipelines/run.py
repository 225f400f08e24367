"""What `Pipeline.run` does: a source through a pipeline into its outputs, with a journal, and without one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allcores.errors import RunChanged, UsageError
from allcores.limits import Limits
from allcores.outcome import Outcome
from allcores.pipelines.execution import Execution, fused_of
from allcores.pipelines.identity import functions_of, identity_of
from allcores.pipelines.plan import Plan
from allcores.pipelines.source_outcomes import HeldStages, SourceOutcomes
from allcores.pipelines.stage_pools import open_pool
from allcores.pipelines.stage_view import StageView
from allcores.pipelines.statistics import StageStatistics
from allcores.pipelines.steps import Step
from allcores.pool.statistics import Statistics
from allcores.runs.base import OutcomeStream
from allcores.runs.options import Journal, OnError, RunResult
from allcores.runs.remaining_in_order import RemainingInOrder
from allcores.runs.rows_outcome import RowsOutcome
from allcores.runs.run import without_journal
from allcores.runs.session import RunSession
from allcores.runs.spec import RunHooks, RunSpec
from allcores.sinks.base import WholeSink
from allcores.sinks.destination import check_inputs_survive
from allcores.sinks.json_lines import JsonLinesFile
from allcores.sinks.many_rows import ROW, ManyRows, RowsFunction
from allcores.sources.open import source_of

if TYPE_CHECKING:
    from allcores.pool.pool import Pool


@dataclass(frozen=True, slots=True)
class PipelineResult(RunResult):
    """What became of a run of a pipeline. Its figures are of items of the source; see `RunResult`.

    An item counts as failed if anything that came of it did; the rows of it that were made are in the output.

    Attributes:
        stages: What each stage did in this session.
    """

    stages: tuple[StageStatistics, ...] = ()


class PipelineWork:
    """A pipeline, a source and outputs, looked at and ready to run: what a run needs to know, and what it maps with.

    Args:
        steps: The last one is `write`.
        plan: Of the steps.
        source: A path or pattern as for `allcores.run`, or anything that can be iterated.
        limits: As for `Pipeline.imap`, and the following.
        request: What was asked for, so that it can be asked again.

    Raises:
        UsageError: It leads nowhere, or an output cannot be written, has no place for failures, or would cost an input.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        plan: Plan,
        source: Any,
        *,
        limits: Limits | None = None,
        pool_options: dict[str, Any] | None = None,
        request: dict[str, Any] | None = None,
    ) -> None:
        if plan.line.sink is None:
            raise UsageError("the pipeline leads nowhere: end it with write(...), or read what comes out with imap()")
        self.plan = plan
        self.source = source_of(source)
        self._limits = limits
        self._pool_options = pool_options or {}
        held = HeldStages(self.plan)
        records = any(stage.options.on_error == "record" for stage in self.plan.stages)
        sink = ManyRows(_recording(self.plan.line.sink, records), [side.sink for side in self.plan.sides])
        functions = list(functions_of(steps))
        for output in sink.outputs:
            if output.path:
                check_inputs_survive(output.path, (), *functions)
        alone = self._alone()
        policy: OnError = "skip"
        if alone is not None:
            found = self.plan.line.stages[0].options.on_error
            assert isinstance(found, str)
            policy = found
        self.spec = RunSpec(
            alone or _never_called,
            self.source,
            _Lines(sink),
            policy,
            request=request or {},
            in_order=bool(held),
            stops_at=None if alone is not None else self._ends,
            identified=identity_of(steps),
            **self._stage_options(alone is not None),
        )
        self.spec.check()
        #: what maps
        self.pool: PipelinePool = (
            _Alone(self.plan, limits, self._pool_options)
            if alone is not None
            else _Stages(self.plan, held, limits, self._pool_options)
        )

    def _alone(self) -> Callable[..., Any] | None:
        """The function that does it all, if it is one stage of workers: then nothing has to be kept in order."""
        stages = self.plan.line.stages
        if len(stages) != 1 or stages[0].kind != "pool" or callable(stages[0].options.on_error):
            return None
        fused = fused_of(self.plan, stages[0])
        return RowsFunction(fused, str) if fused.gives_lists else fused

    def _ends(self, outcome: Outcome[str]) -> bool:
        """Whether a failure ends the run: as its stage says; one of the output itself as the last stage does."""
        if isinstance(outcome, RowsOutcome):
            return bool(outcome.ends)  # type: ignore[attr-defined]
        return self.plan.line.stages[-1].options.on_error not in ("skip", "record")

    def _stage_options(self, alone: bool) -> dict[str, Any]:
        if not alone:
            return {}
        options = self.plan.line.stages[0].options
        return {"timeout": options.timeout, "retries": options.retries, "chunk": options.chunk}


class PipelinePool:
    """What a run maps a pipeline with: a `RunPool`, and a context manager."""

    def __enter__(self) -> PipelinePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def outcomes(self) -> Callable[..., OutcomeStream[Outcome[Any]]]:
        """See `RunPool`."""
        raise NotImplementedError

    def statistics(self) -> tuple[StageStatistics, ...]:
        """What each stage has done so far, in the last map. Any thread may ask."""
        raise NotImplementedError

    def pool_statistics(self) -> list[Statistics]:
        """What its pools have done so far, in the last map."""
        raise NotImplementedError


class _Stages(PipelinePool):
    """Several stages, one execution for each map."""

    def __init__(self, plan: Plan, held: HeldStages, limits: Limits | None, pool_options: dict[str, Any]) -> None:
        self._plan = plan
        self._held = held
        self._limits = limits
        self._pool_options = pool_options
        self._execution: Execution | None = None

    @property
    def outcomes(self) -> Callable[..., OutcomeStream[Outcome[Any]]]:
        return self._open

    def statistics(self) -> tuple[StageStatistics, ...]:
        return () if self._execution is None else self._execution.statistics()

    def pool_statistics(self) -> list[Statistics]:
        return [] if self._execution is None else self._execution.pool_statistics()

    def _opened(self, execution: Execution) -> None:
        self._execution = execution

    def _open(self, function: Callable[..., Any], items: Iterable[Any], **options: Any) -> SourceOutcomes:
        if isinstance(items, RemainingInOrder) and self._held.to_restore(items.state) is None:
            sentence = "the state that was kept is of other steps than these, or of classes that are not there any more"
            raise RunChanged(
                f"{sentence}: the run cannot go on behind it; begin anew without resume", differences=(sentence,)
            )
        return SourceOutcomes(
            self._plan,
            items,
            held=self._held,
            limits=self._limits,
            pool_options=self._pool_options,
            opened=self._opened,
        )


class _Alone(PipelinePool):
    """One stage of workers."""

    def __init__(self, plan: Plan, limits: Limits | None, pool_options: dict[str, Any]) -> None:
        self._plan = plan
        self._limits = limits
        self._pool_options = pool_options
        self._stack = contextlib.ExitStack()
        self._pool: Pool | None = None
        self._named = _Named(plan)

    def __enter__(self) -> PipelinePool:
        (stage,) = self._plan.line.stages
        self._pool = self._stack.enter_context(
            open_pool(self._plan, self._plan.pools[stage.pool], self._limits or Limits(), self._pool_options)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def outcomes(self) -> Callable[..., OutcomeStream[Outcome[Any]]]:
        return self._open

    def _open(self, function: Callable[..., Any], items: Iterable[Any], **options: Any) -> OutcomeStream[Outcome[Any]]:
        assert self._pool is not None
        return self._named.over(self._pool.outcomes(function, items, **options))

    def pool_statistics(self) -> list[Statistics]:
        return [] if self._pool is None else [self._pool.statistics()]

    def statistics(self) -> tuple[StageStatistics, ...]:
        if self._pool is None:
            return ()
        found = self._pool.statistics()
        (stage,) = self._plan.line.stages
        failed = found.failed + found.timed_out + found.workers_lost
        return (
            StageStatistics(
                stage=stage.number,
                name=stage.name,
                runs_in=self._plan.place_text(stage),
                side=0,
                taken=found.ok + failed + found.items_in_flight,
                given=self._named.rows,
                failed=failed,
                queued=found.items_in_flight,
                most_queued=found.items_in_flight,
                seconds=found.busy_seconds,
                share=1.0,
                idle=0.0,
            ),
        )


class _Named:
    """The outcomes of a stage that is alone; failures say of which stage they are."""

    def __init__(self, plan: Plan) -> None:
        (self._stage,) = plan.line.stages
        self._stream: Any = None
        #: that came out, over all maps
        self.rows = 0

    def over(self, stream: Any) -> _Named:
        """Of this map from now on."""
        self._stream = stream
        return self

    def __iter__(self) -> Any:
        return map(self._looked_at, self._stream)

    def _looked_at(self, outcome: Outcome[Any]) -> Outcome[Any]:
        if outcome.error is None:
            line = outcome.value
            self.rows += line.count(ROW) + 1 if line else 0
            return outcome
        stage = self._stage
        fields = (getattr(outcome, name) for name in Outcome.__match_args__)
        return RowsOutcome(*fields, extra={"stage": stage.number, "stage_name": stage.name})

    def __enter__(self) -> _Named:
        self._stream.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(*error)

    def stop(self) -> None:
        self._stream.stop()

    def close(self) -> None:
        self._stream.close()


class _Lines(ManyRows):
    """Outputs of a pipeline whose stages make lines: nothing has to be made of what comes out of them."""

    def __init__(self, sink: ManyRows) -> None:
        super().__init__(sink.sink, sink.sides)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        return function


def run(
    steps: Sequence[Step],
    plan: Plan,
    source: Any,
    *,
    journal: Journal | bool,
    limits: Limits | None,
    progress: bool,
    pool_options: dict[str, Any],
) -> PipelineResult:
    """See `Pipeline.run`."""
    if not isinstance(progress, bool):
        raise UsageError(f"progress={progress!r} must be True or False")
    kept = Journal.of(journal)
    work = PipelineWork(steps, plan, source, limits=limits, pool_options=pool_options)
    with work.pool as pool, StageView(pool.statistics, visible=progress):
        if kept is None:
            result = without_journal(pool, work.spec, RunHooks())
        else:
            with RunSession(work.spec, kept) as opened:
                result = opened.work(pool, RunHooks())
        return as_pipeline_result(result, pool.statistics())


def as_pipeline_result(result: RunResult, stages: tuple[StageStatistics, ...]) -> PipelineResult:
    """The result of a run, as that of a pipeline."""
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(RunResult)}
    return PipelineResult(**fields, stages=stages)


def _recording(sink: WholeSink, records: bool) -> WholeSink:
    """The output as it has to be if failures are recorded."""
    if not records or sink.takes_failures:
        return sink
    if type(sink) is JsonLinesFile:
        return JsonLinesFile(sink.path, records=True)
    raise UsageError(
        f"on_error='record' of a stage writes failures as records, for which {sink.path} has no place: write to a"
        " .jsonl file, or skip failures and export them afterwards (allcores runs failures)"
    )


def _never_called(item: Any) -> Any:
    raise NotImplementedError
