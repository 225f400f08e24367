"""What is to be done, and who looks on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Literal

from allcores.errors import UsageError
from allcores.limits import Retry
from allcores.outcome import Outcome
from allcores.runs.base import OutcomeStream
from allcores.runs.fingerprint import fingerprint_of_function, fingerprint_of_source, stated
from allcores.runs.given_names import ByIndex, GivenNames, Places
from allcores.runs.options import OnError
from allcores.runs.rows import RunRow
from allcores.sinks.base import Block, Lost, WholeSink
from allcores.sinks.batches import wrapped
from allcores.sinks.destination import are_looked_at, check_inputs_survive, items_survive
from allcores.sinks.many_rows import ROWS


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What is to be done.

    setup, preload and their arguments: of the pool, for they are part of what makes it the same work.

    Attributes:
        sink: Where to.
        request: What was asked for, so that it can be asked again.
        called: What runs in the place of `fn`, and gives what it gives, but may have kept it; None: `fn` itself.
        in_order: Outcomes depend on the items before them: what maps gives them in order, and states (see `states`).
        stops_at: Says of an outcome that failed whether it ends the run, and is not settled; None goes by `on_error`.
        identified: What makes it the same work, in the place of functions and options; of a pipeline.
    """

    fn: Callable[..., Any]
    source: Iterable[Any]
    sink: WholeSink
    on_error: OnError = "raise"
    timeout: float | None = None
    retries: int | Retry = 0
    chunk: int | None = None
    setup: Callable[..., Any] | None = None
    setup_args: tuple[Any, ...] = ()
    preload: Callable[..., Any] | None = None
    preload_args: tuple[Any, ...] = ()
    batch: int | Literal["auto"] | None = None
    request: dict[str, Any] = field(default_factory=dict)
    called: Callable[..., Any] | None = None
    in_order: bool = False
    stops_at: Callable[[Outcome[str]], bool] | None = None
    identified: dict[str, Any] | None = None

    @property
    def function(self) -> Callable[..., Any]:
        """What runs in the workers: its value as one line of text, for the sink."""
        return wrapped(self.sink.wrap, self.called or self.fn, batches=self.batch is not None)

    def check(self) -> None:
        """Raise UsageError if the output cannot be written, has no place for failures, or would cost an input."""
        if self.on_error == "record" and not self.sink.takes_failures:
            raise UsageError(
                f"failures cannot be recorded in {self.sink.path}: write to JSON Lines with records, or skip failures"
                " and export them afterwards (allcores runs failures)"
            )
        for sink in self._outputs:
            path = getattr(sink, "path", None)
            if path:
                functions = (self.fn, self.setup, self.preload)
                check_inputs_survive(os.fspath(path), self.source, *functions, inside=getattr(sink, "inside", None))
        check = getattr(self.sink, "check", None)  # a sink that is not ours may have none
        if callable(check):
            check()

    def is_end(self, outcome: Outcome[str]) -> bool:
        """Whether an outcome that failed ends the run."""
        return self.on_error == "raise" if self.stops_at is None else self.stops_at(outcome)

    @property
    def _outputs(self) -> Sequence[WholeSink]:
        """The sink, or, of one that is several, each."""
        outputs: Sequence[WholeSink] = getattr(self.sink, "outputs", (self.sink,))
        return outputs

    def looked_at(self, items: Iterable[Any]) -> Iterable[Any]:
        """The items of a reading; an iterator's end the run if they name what would be replaced."""
        if are_looked_at(self.source):
            return items
        for sink in self._outputs:
            path = getattr(sink, "path", None)
            if path:
                items = items_survive(os.fspath(path), items)
        return items

    def shown(self, entries: Iterable[Block | Lost]) -> Iterable[Block | Lost]:
        """What of a run's entries the output gets: failures only if they are to be recorded.

        Of a pipeline its sink says that, for each stage has a say of its own.
        """
        if self.on_error != "skip" or self.stops_at is not None:
            return entries
        return (entry for entry in entries if isinstance(entry, Block) or ROWS in entry.record)

    def names_once(self, settled: Iterable[Block | Lost], places: Places | None = None) -> GivenNames | None:
        """What lets an item fail if it gave a name that another item has; None if the sink has no names.

        Args:
            settled: What was settled before, by slot.
            places: Where items are in the journal; None: each at its index.
        """
        names_of = _names_of(self.sink)
        if names_of is None:
            return None
        many = getattr(self.sink, "names_of", None) is not None
        return GivenNames(names_of, settled, places or ByIndex(), many=many, is_end=self.is_end)

    def identity(self, key: str | int | None) -> dict[str, Any]:
        """What makes it the same work, as plain JSON."""
        if self.identified is not None:
            source = {"sink": self.sink.describe(), "source": fingerprint_of_source(self.source)}
            options = {**self.identified.get("options", {}), "key": key}
            return {**self.identified, "options": options, **source}
        return {
            "function": fingerprint_of_function(self.fn),
            "setup": fingerprint_of_function(self.setup),
            "preload": fingerprint_of_function(self.preload),
            "options": {
                "setup_args": list(map(stated, self.setup_args)),
                "preload_args": list(map(stated, self.preload_args)),
                "key": key,
            },
            "sink": self.sink.describe(),
            "source": fingerprint_of_source(self.source),
        }


class RunHooks:
    """Who looks on while a run is at work, and may end it. This one does neither."""

    @property
    def stopped(self) -> bool:
        """It was asked to end before the input did."""
        return False

    def opened(self, run_row: RunRow, resumed: int) -> None:
        """The run is open.

        Args:
            resumed: Items that are settled already.
        """

    def started(self, stream: OutcomeStream[Any]) -> None:
        """Its stream is there; `stream.stop()` ends it in peace."""

    def guarded(self, items: Iterable[Any]) -> Iterator[Any]:
        """Around each reading of the input; may end it."""
        return iter(items)

    def settled(self, outcome: Outcome[str]) -> None:
        """An outcome came, and is on its way to the disk."""


def _names_of(sink: WholeSink) -> Callable[[str], list[str]] | None:
    """What tells the names that a line gives; None if the sink has no names."""
    names_of: Callable[[str], list[str]] | None = getattr(sink, "names_of", None)
    name_of: Callable[[str], str | None] | None = getattr(sink, "name_of", None)
    if names_of is not None or name_of is None:
        return names_of

    def one(line: str) -> list[str]:
        name = name_of(line)
        return [] if name is None else [name]

    return one


def count_of(source: Iterable[Any]) -> int | None:
    """How many items a source has, where that can be told quickly."""
    total = getattr(source, "total", None)
    if callable(total):
        count = total()
        return count if isinstance(count, int) else None
    try:
        return len(source) if isinstance(source, Sized) else None
    except Exception:  # one that is around another, which has no length (tqdm(rows()))
        return None
