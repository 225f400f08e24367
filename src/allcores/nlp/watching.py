"""Stages that look at all messages in the order of the input: what they raise, or fill wrongly, costs that row."""

from __future__ import annotations

from collections.abc import Sequence

from allcores.errors import UsageError
from allcores.nlp.records import Field, Record, add_error, sentence_of
from allcores.nlp.rows import checked_fields, copied, is_ours
from allcores.nlp.stage import InOrder, Stage
from allcores.system import deferral


class _Watched:
    """A user's `InOrder`, with the promises of a stage: one that raises costs its own fields in that row.

    It is part of what a journal keeps of a pipeline, so it holds the fields and not the stage, whose functions may be
    such as cannot be kept.
    """

    def __init__(self, name: str, fields: Sequence[Field], watcher: InOrder) -> None:
        self._name = name
        self._fields = tuple(fields)
        self._watcher = watcher
        self._failed: dict[int, str] = {}

    def see(self, position: int, record: Record) -> None:
        """See `InOrder`."""
        try:
            self._watcher.see(position, copied(record))
        except Exception as error:
            if deferral.raised_by_handler(error):
                raise
            self._failed[position] = sentence_of(error)

    def fill(self, position: int, record: Record) -> None:
        """See `InOrder`."""
        sentence = self._failed.pop(position, None)
        if sentence is None:
            try:
                record.update(self._filled(position, record))
            except Exception as error:
                if deferral.raised_by_handler(error):
                    raise
                sentence = sentence_of(error)
        if sentence is not None:
            add_error(record, f"{self._name}: {sentence}")

    def _filled(self, position: int, record: Record) -> Record:
        given = copied(record)
        filled = dict(given)
        self._watcher.fill(position, filled)
        own = {field.name for field in self._fields}
        changed = {
            name: value
            for name, value in filled.items()
            if name in own or name not in given or value is not given[name]
        }
        return dict(checked_fields(self._fields, changed))


def watchers(stages: Sequence[Stage]) -> list[InOrder]:
    """What looks at all messages in order, new.

    Raises:
        UsageError: If one of a user's cannot be made.
    """
    found: list[InOrder] = []
    for stage in stages:
        if stage.in_order is None:
            continue
        if is_ours(stage.in_order):
            found.append(stage.in_order(**stage.options))
            continue
        try:
            watcher = stage.in_order(**stage.options)
        except Exception as error:
            if deferral.raised_by_handler(error):
                raise
            raise UsageError(f"stage {stage.name!r}: its in_order= cannot be made: {sentence_of(error)}") from error
        found.append(_Watched(stage.name, stage.fields, watcher))
    return found
