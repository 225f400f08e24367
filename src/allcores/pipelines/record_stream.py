"""What comes out of a pipeline, as its consumer has it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from allcores.limits import Limits
from allcores.outcome import Kind, Outcome
from allcores.pipelines.execution import Execution
from allcores.pipelines.marks import Failed
from allcores.pipelines.plan import Plan
from allcores.pipelines.statistics import StageStatistics
from allcores.pipelines.steps import Step
from allcores.system.tracebacks import hide

if TYPE_CHECKING:
    from allcores.pipelines.side_outputs import SideOutputs


class RecordStream(Iterator[Any]):
    """What comes out of a pipeline, as it comes. Also a context manager; leaving it cancels what is left.

    Outputs of sides (`Pipeline.tee`) appear with the end of the iteration. Where it is left early, or raises, none
    does.
    """

    def __init__(self, execution: Execution, elements: Iterator[Any], sides: SideOutputs | None = None) -> None:
        self._execution = execution
        self._elements = elements
        self._sides = sides

    def __iter__(self) -> Iterator[Any]:
        return self._elements

    def __next__(self) -> Any:
        try:
            return next(self._elements)
        except StopIteration:
            raise
        except BaseException as error:
            hide(error)
            raise

    def __enter__(self) -> RecordStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def statistics(self) -> tuple[StageStatistics, ...]:
        """What each stage has done so far: records, seconds, its share of them, its queue. Any thread may ask."""
        return self._execution.statistics()

    def close(self) -> None:
        """Cancel what is left, and end the workers."""
        self._execution.close()
        if self._sides is not None:
            self._sides.close()

    def stop(self) -> None:
        """Pull no more and start nothing more; the iteration ends with what runs. Safe from any thread."""
        self._execution.stop()


def streamed(
    plan: Plan,
    steps: Sequence[Step],
    source: Iterable[Any],
    *,
    outcomes: bool = False,
    limits: Limits | None,
    progress: bool,
    pool_options: dict[str, Any],
) -> RecordStream:
    """What comes out of a pipeline.

    Args:
        plan: Of the pipeline.
        steps: The same.
        source: The records.
        outcomes: Each as an outcome.
        limits: As for `Pipeline.imap`.
        progress: As for `Pipeline.imap`.
        pool_options: As for `Pipeline.imap`.
    """
    sides: SideOutputs | None = None
    if plan.sides:
        from allcores.pipelines.identity import functions_of
        from allcores.pipelines.side_outputs import SideOutputs

        sides = SideOutputs(plan.sides, source, functions_of(steps))
        source = sides.looked_at(source)
    try:
        execution = Execution(plan, source, limits=limits, pool_options=pool_options, marks=outcomes, progress=progress)
    except BaseException:
        if sides is not None:
            sides.close()
        raise
    elements = iter(execution) if sides is None else sides.over(execution)
    return RecordStream(execution, as_outcomes(elements) if outcomes else elements, sides)


def as_outcomes(elements: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """Elements with marks as outcomes; closes them at its end."""
    index = 0
    with closing(elements):
        for element in elements:
            if isinstance(element, Failed):
                if element.policy != "skip":
                    yield Outcome(
                        element.index, element.kind, None, element.error, element.item, element.attempts,
                        element.seconds, element.worker,
                    )  # fmt: skip
            else:
                yield Outcome(index, Kind.OK, element)
                index += 1
