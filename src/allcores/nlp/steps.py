"""The stages of a chat pipeline as steps of an `allcores.Pipeline`, to go on from there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from allcores.errors import TaskTimeout, UsageError, WorkerLost
from allcores.nlp.catalogue import columns
from allcores.nlp.reading.formats import message_of
from allcores.nlp.records import Field, Record
from allcores.nlp.rows import RowFunction, load_stages
from allcores.nlp.stage import InOrder, Stage
from allcores.nlp.table import complete, lost_row
from allcores.nlp.watching import watchers
from allcores.pipelines.pipeline import Pipeline


class _State(NamedTuple):
    """What looks at all messages in order, how many it has seen, and the last row."""

    in_order: Sequence[InOrder]
    seen: int
    row: Record

    def __deepcopy__(self, memo: dict[int, Any]) -> _State:
        # What comes out of the scan is the row, which is a new one each time: not what is known of all messages.
        return self._replace(in_order=())


#: the id of a message that came without one, until its place is known
_NO_ID = "item:0"


class _OneRow:
    """All stages over one record: a row. Runs in the workers."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.rows = RowFunction(stages)

    def __call__(self, models: Sequence[Any], record: Record) -> Record:
        return self.rows(models, [message_of(record, 0)])[0]


def as_pipeline(stages: Sequence[Stage], *, timeout: float | None = None) -> Pipeline:
    """Steps from messages, as a `ChatSource` gives them, to rows. See `ChatPipeline.steps`.

    Raises:
        UsageError: If a stage has to be loaded in each worker.
    """
    for stage in stages:
        if stage.per_worker:
            raise UsageError(
                f"stage {stage.name!r} is loaded in each worker, which the steps of a Pipeline are not: run it"
            )
    fields = columns(stages)
    return (
        Pipeline()
        .map(
            _OneRow(stages),
            name="chat",
            preload=load_stages,
            preload_args=(tuple(stages),),
            timeout=timeout,
            on_error=partial(_lost, tuple(stages)),
        )
        .scan(partial(_seen, tuple(stages), fields), None)
        .map(_last_row, name="row", on="serial")
    )


def _lost(stages: Sequence[Stage], record: Any, error: BaseException) -> Record:
    kind = (
        "worker_lost" if isinstance(error, WorkerLost) else "timed_out" if isinstance(error, TaskTimeout) else "failed"
    )
    return lost_row(message_of(record, 0), kind, str(error), stages)


def _seen(stages: Sequence[Stage], fields: Sequence[Field], state: _State | None, row: Record) -> _State:
    in_order, position, _ = state or (watchers(stages), 0, row)
    if row.get("id") in (None, _NO_ID):
        row["id"] = f"item:{position + 1}"
    for each in in_order:
        each.see(position, row)
        each.fill(position, row)
    return _State(in_order, position + 1, complete(row, fields))


def _last_row(state: _State) -> Record:
    return state.row
