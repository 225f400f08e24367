"""What goes through a pipeline besides records, in order with them."""

from __future__ import annotations

from typing import Any, Literal

from allcores.outcome import Kind

#: what becomes of a record that fails in a stage
Policy = Literal["raise", "skip", "record"]


class Mark:
    """Base of all of them: stages pass marks on, each in its place, and no step sees one."""

    __slots__ = ()


class Barrier(Mark):
    """Behind a record of the source: all that came of records up to there comes before it.

    Attributes:
        index: Of that record.
        states: What in-line operators hold at this point, by the numbers of their stages, which fill it in as it
            passes; None if nobody has asked.
    """

    __slots__ = ("index", "states")

    def __init__(self, index: int, states: dict[int, Any] | None = None) -> None:
        self.index = index
        self.states = states

    def __repr__(self) -> str:
        return f"Barrier({self.index})"


class Failed(Mark):
    """A record that a stage has no result for.

    Attributes:
        stage: Number of the stage, as `explain` shows it.
        name: Of the stage.
        index: Place of the record in what the stage was given, from 0.
        kind: How it ended; never `Kind.OK`.
        error: The exception.
        item: The record as the stage was given it.
        policy: What is to become of it, as the stage says.
        attempts: How often it was tried.
        seconds: Wall time of the last attempt.
        worker: Number of the worker of the last attempt, in the stage's pool; None if it never started.
        on_line: A tee has passed it on, along the pipeline's own line and into sides: its place is on that line.
        told: The consumer has it.
    """

    __slots__ = (
        "attempts", "error", "index", "item", "kind", "name", "on_line", "policy", "seconds", "stage", "told", "worker",
    )  # fmt: skip

    def __init__(
        self,
        stage: int,
        name: str,
        index: int,
        kind: Kind,
        error: BaseException,
        item: Any,
        policy: Policy = "raise",
        *,
        attempts: int = 1,
        seconds: float = 0.0,
        worker: int | None = None,
    ) -> None:
        self.stage = stage
        self.name = name
        self.index = index
        self.kind = kind
        self.error = error
        self.item = item
        self.policy = policy
        self.attempts = attempts
        self.seconds = seconds
        self.worker = worker
        self.on_line = self.told = False

    def __repr__(self) -> str:
        return f"Failed(stage={self.stage}, name={self.name!r}, index={self.index}, error={self.error!r})"


class Sided(Mark):
    """A row of a side (`Pipeline.tee`) that has come to its end.

    Attributes:
        side: Number of the side, from 1, in the order in which `explain` shows them.
        row: What came out of its stages.
    """

    __slots__ = ("row", "side")

    def __init__(self, side: int, row: Any) -> None:
        self.side = side
        self.row = row

    def __repr__(self) -> str:
        return f"Sided({self.side}, {self.row!r})"
