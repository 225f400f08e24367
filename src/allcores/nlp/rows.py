"""The function that runs in workers: all stages over a batch of records, with the error of each where it belongs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from allcores.nlp.reading.items import Item, record_of
from allcores.nlp.records import Field, Record, add_error, fitting, sentence_of
from allcores.nlp.stage import Found, Stage
from allcores.system import deferral

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
#: seconds of each stage for a batch, in its first row; it is counted, and not written
SECONDS = "_seconds"
#: where the stages are defined whose values need no check, for our tests are that check
_OURS = "allcores.nlp.stages."


def is_ours(function: Any) -> bool:
    """Whether a function, or a class, is one of the stages that allcores brings."""
    return getattr(function, "__module__", "").startswith(_OURS)


def copied(row: Record) -> Record:
    """A row of its own, for who may not change the row: what stands in it, and in its lists, is copied, too.

    A stage that changes what it gets would change what the stages behind it get, and twice where a batch runs again.
    """
    return {name: _copied(value) for name, value in row.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [dict(part) if isinstance(part, dict) else part for part in value]
    return value


def load_stages(stages: Sequence[Stage]) -> list[Any]:
    """What each stage has loaded, None for those of `load_own`. Runs once for all workers: `Pool(preload=...)`."""
    return [None if stage.per_worker else stage.loaded() for stage in stages]


def load_own(models: Sequence[Any], stages: Sequence[Stage]) -> list[Any]:
    """The same, with what each worker has to load for itself. Runs in each: `Pool(setup=...)`."""
    return [stage.loaded() if stage.per_worker else model for model, stage in zip(models, stages, strict=True)]


class RowFunction:
    """All stages, one after the other, over a batch of messages: a row for each.

    A stage that raises costs its fields in that row, whose `error` names the stage; the other stages go on. A batch
    that raises runs again one record at a time, so that the others have what they should have.
    """

    def __init__(self, stages: Sequence[Stage], names: Mapping[str, str] | None = None) -> None:
        """See the class.

        Args:
            stages: What runs.
            names: Under which items that are not read yet have their fields, see `reading.formats.records_of`.
        """
        self.stages = tuple(stages)
        self.names = names
        withholding = (number for number, stage in enumerate(stages) if _withheld(stage))
        #: errors of so many stages may show what a stage behind them is to keep out
        self.unguarded = max(withholding, default=0)

    def __call__(self, models: Sequence[Any], items: Sequence[Item]) -> list[Record]:
        """A row for each message; what was given stays as it is."""
        names = self.names
        rows = [dict(record_of(item, names)) for item in items]
        if "unicode" not in (stage.name for stage in self.stages):
            for row in rows:
                row["text_norm"] = row["text"]
        seconds: dict[str, float] = {}
        for number, (stage, model) in enumerate(zip(self.stages, models, strict=True)):
            if stage.each is not None or stage.batch is not None:
                started = perf_counter()
                self._run(stage, () if model is None else (model,), rows, number >= self.unguarded)
                seconds[stage.name] = round(perf_counter() - started, 7)
        if rows:
            rows[0][SECONDS] = seconds
        return rows

    def _run(self, stage: Stage, loaded: tuple[Any, ...], rows: Sequence[Record], tells: bool) -> None:
        """One stage over the rows that have what it takes; `tells`: what an error says may stand in a row."""
        wanted = [row for row in rows if all(row.get(name) is not None for name in ("text", *stage.takes))]
        if not wanted:
            return
        given = (lambda row: row) if is_ours(stage.each or stage.batch) else copied
        if stage.batch is not None:
            try:
                _put_all(stage, wanted, stage.batch(*loaded, [given(row) for row in wanted]))
                return
            except Exception as error:
                if deferral.raised_by_handler(error):
                    raise  # a time limit of the program, say: no failure of the stage
                if len(wanted) == 1:
                    _failed(stage, wanted[0], error, tells)
                    return
        for row in wanted:
            try:
                if stage.batch is not None:
                    _put_all(stage, [row], stage.batch(*loaded, [given(row)]))
                else:
                    assert stage.each is not None
                    row.update(_checked(stage, stage.each(*loaded, given(row))))
            except Exception as error:
                if deferral.raised_by_handler(error):
                    raise
                _failed(stage, row, error, tells)


def encoded(row: Record) -> str:
    """A row as a line of JSON; what is None is left out."""
    return _encode({name: value for name, value in row.items() if value is not None})


class RowEncoder:
    """`function`, but its value as a line of JSON text. Runs in the workers."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> str:
        """See the class."""
        return encoded(self.function(*args))

    def __repr__(self) -> str:
        return repr(self.function)


def _put_all(stage: Stage, rows: Sequence[Record], found: Sequence[Found]) -> None:
    """All or nothing: a batch of the wrong length, or with one wrong value, changes no row."""
    values = list(found)
    if len(values) != len(rows):
        raise ValueError(f"the stage got {len(rows)} records and returned {len(values)}")
    for row, value in zip(rows, [_checked(stage, value) for value in values], strict=True):
        row.update(value)


def _checked(stage: Stage, found: Found) -> Found:
    """What a stage gave, if it is what it said it would give."""
    if is_ours(stage.each or stage.batch):
        return found
    if not isinstance(found, Mapping):
        raise TypeError(f"a stage returns a dict of the fields it gives, not {type(found).__name__}")
    return checked_fields(stage.fields, found)


def checked_fields(given: Sequence[Field], found: Found) -> Found:
    """Values as their columns hold them.

    Args:
        given: The fields that a stage gives.
        found: What it gave.

    Raises:
        TypeError: If one is of another type. ValueError: If it is out of the type's range, or in no such field.
    """
    fields: dict[str, Field] = {field.name: field for field in given}
    checked = {}
    for name, value in found.items():
        if not isinstance(name, str):
            raise TypeError(f"a stage returns a dict of the fields it gives, by name, and {name!r:.60} is no name")
        if name.startswith("_"):
            checked[name] = value
        elif name in fields:
            checked[name] = fitting(fields[name], value)
            if name == "id" and value is None:
                raise ValueError("field 'id' cannot be None: other rows refer to it")
        else:
            raise ValueError(f"field {name!r} is not among those that the stage gives: {', '.join(fields)}")
    return checked


def _withheld(stage: Stage) -> Sequence[str]:
    """The fields that a stage is to keep out of rows."""
    return () if stage.withholds is None else stage.withholds(stage.options)


def _failed(stage: Stage, row: Record, error: Exception, tells: bool) -> None:
    add_error(row, f"{stage.name}: {sentence_of(error) if tells else type(error).__name__}")
    row.update(dict.fromkeys(_withheld(stage)))
