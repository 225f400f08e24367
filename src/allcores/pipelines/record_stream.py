"""What comes out of a pipeline, as its consumer has it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

from allcores.outcome import Kind, Outcome
from allcores.pipelines.execution import Execution
from allcores.pipelines.marks import Failed, Sided
from allcores.pipelines.statistics import StageStatistics
from allcores.system.tracebacks import hide


class RecordStream(Iterator[Any]):
    """What comes out of a pipeline, as it comes. Also a context manager; leaving it cancels what is left."""

    def __init__(self, execution: Execution, elements: Generator[Any, None, None] | None = None) -> None:
        self._execution = execution
        self._elements: Iterator[Any] = iter(execution) if elements is None else elements

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

    def stop(self) -> None:
        """Pull no more and start nothing more; the iteration ends with what runs. Safe from any thread."""
        self._execution.stop()


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
            elif not isinstance(element, Sided):
                yield Outcome(index, Kind.OK, element)
                index += 1
