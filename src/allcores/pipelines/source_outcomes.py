"""What a run is told of a pipeline: an outcome for each item of the source, whatever became of it on the way.

Behind each item of the source stands a barrier, and barriers keep their places. So all that arrives between two of them
came of one item: its rows, and its failures. If steps hold something from record to record, a barrier also takes along
what they hold when it passes them, some ten times a second: that is the state from which a run can go on.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from time import monotonic
from typing import Any

from allcores.limits import Limits
from allcores.outcome import Kind, Outcome
from allcores.pipelines.execution import Execution
from allcores.pipelines.marks import Barrier, Failed, Sided
from allcores.pipelines.operators import Operator
from allcores.pipelines.plan import Plan, Stage
from allcores.pipelines.steps import InlineStep
from allcores.runs.remaining_in_order import RemainingInOrder
from allcores.runs.rows_outcome import RowsOutcome
from allcores.runs.states import State
from allcores.sinks.json_stream import failure_record
from allcores.sinks.many_rows import MORE, ROWS, joined
from allcores.transport.refilled_items import as_pulled

#: seconds between two states. Larger makes more run again after a kill, smaller costs more.
STATE_S = 0.1
#: bytes of states in a second at most: large ones are taken less often
STATE_BYTES = 20_000_000
#: of a state, what tells of which steps it is
_STEPS = 0
_NOTHING = pickle.dumps([])


class HeldStages:
    """The stages of a plan that hold something from record to record; what one holds is known by its place among them.

    Numbers of stages will not do: they depend on what is one task, and that may be another tomorrow.
    """

    def __init__(self, plan: Plan) -> None:
        self._stages: list[tuple[Stage, bool]] = []
        texts = []
        for stage in plan.stages:
            step = stage.steps[0]
            if isinstance(step, InlineStep):
                operator = step.make()
                if type(operator).restore is not Operator.restore:
                    self._stages.append((stage, operator.grows))
                    texts.append(f"{stage.side}: {step.text}")
        self._texts = pickle.dumps(texts)

    def __bool__(self) -> bool:
        return bool(self._stages)

    def state(self, barrier: Barrier) -> State | None:
        """What a barrier has taken along; None: nothing, or not all, because a stage of a side has ended before."""
        if barrier.states is None or any(stage.number not in barrier.states for stage, _ in self._stages):
            return None
        parts: dict[int, bytes] = {_STEPS: self._texts}
        added: dict[int, bytes] = {}
        for place, (stage, grows) in enumerate(self._stages, 1):
            content = barrier.states[stage.number]
            if not grows:
                parts[place] = content
            elif content != _NOTHING:
                added[place] = content
        return State(barrier.index + 1, parts, added)

    def to_restore(self, state: dict[int, list[bytes]]) -> dict[int, list[bytes]] | None:
        """What stages begin with, by their numbers; None if the state is not of these steps, or cannot be read."""
        if not state:
            return {}
        if state.get(_STEPS) != [self._texts]:
            return None
        for contents in state.values():
            try:
                list(map(pickle.loads, contents))
            except Exception:  # a class of the program is not there any more, or is another one
                return None
        return {stage.number: state[place] for place, (stage, _) in enumerate(self._stages, 1) if place in state}


class SourceOutcomes:
    """The outcomes of a pipeline's source, one for each item, as `RunPool.outcomes` gives them: in order.

    Args:
        plan: With outputs: what comes out are texts.
        items: The source, or what is left of it; its items are numbered as it says.
        held: Of the plan.
        stages: Called with the execution's figures when it ends.
    """

    def __init__(
        self,
        plan: Plan,
        items: Iterable[Any],
        *,
        held: HeldStages,
        limits: Limits | None,
        pool_options: dict[str, Any],
        opened: Callable[[Execution], object] = lambda execution: None,
    ) -> None:
        self._items = items
        self._may_copy = plan.may_copy
        self._held = held
        self._remaining = items if isinstance(items, RemainingInOrder) else None
        states: dict[int, list[bytes]] = {}
        if self._remaining is not None:
            states = held.to_restore(self._remaining.state) or {}
        self._exhausted = False
        self._stopped = False
        self._began = self._next_index = 0
        self._state_at = monotonic() + STATE_S
        self._execution = Execution(
            plan, self._numbered(), limits=limits, pool_options=pool_options, barriers=True, states=states or None
        )
        opened(self._execution)

    def __enter__(self) -> SourceOutcomes:
        return self

    def __exit__(self, *_: object) -> None:
        self._execution.close()

    def stop(self) -> None:
        """Begin nothing more; what runs still gives its outcome. Any thread may call it."""
        self._stopped = True
        self._execution.stop()

    def close(self) -> None:
        """Cancel what is left."""
        self._execution.close()

    def __iter__(self) -> Iterator[Outcome[str]]:
        return self._in_order() if self._held else self._one_by_one()

    # --- the source ---

    def _numbered(self) -> Iterator[Any]:
        """The items, each with its barrier."""
        takes_states = self._remaining is not None
        upcoming: Callable[[], tuple[int, int]] | None = getattr(self._items, "upcoming", None)
        iterator = as_pulled(self._items) if self._may_copy else iter(self._items)
        while True:
            index, number = (0, None) if upcoming is None else upcoming()
            here = iterator if number is None else islice(iterator, number)
            place = index - 1
            for place, item in zip(count(index), here, strict=False):
                self._next_index = place + 1
                yield item
                if takes_states and monotonic() >= self._state_at:
                    self._state_at = monotonic() + STATE_S
                    yield Barrier(place, {})
                else:
                    yield Barrier(place)
            if number is None or place + 1 < index + number:
                break
        self._exhausted = True

    # --- the outcomes ---

    def _one_by_one(self) -> Iterator[Outcome[str]]:
        """No step holds anything: what came of an item is there when its barrier is."""
        rows: list[tuple[int, str]] = []
        failures: list[Failed] = []
        for element in self._execution:
            if isinstance(element, Barrier):
                yield _outcome(element.index, rows, failures)
                rows, failures = [], []
            else:
                _add(element, rows, failures)

    def _in_order(self) -> Iterator[Outcome[str]]:
        """What comes behind the last barrier is of the last item: so an outcome waits until another item follows."""
        barrier: Barrier | None = None
        rows: list[tuple[int, str]] = []
        failures: list[Failed] = []
        here: list[tuple[int, str]] = []
        failed_here: list[Failed] = []
        for element in self._execution:
            if not isinstance(element, Barrier):
                _add(element, here, failed_here)
                if failed_here and failed_here[-1].policy == "raise":
                    break  # in its place: what comes behind it is not wanted
                continue
            if barrier is not None:
                state = self._held.state(barrier)
                if state is not None and self._remaining is not None:
                    size = sum(map(len, (*state.parts.values(), *state.added.values())))
                    self._state_at = max(self._state_at, monotonic() + size / STATE_BYTES)
                    self._remaining.take(state)
                yield _outcome(barrier.index, rows, failures)
            barrier, rows, failures, here, failed_here = element, here, failed_here, [], []
        yield from self._last(barrier, rows, failures, here, failed_here)

    def _last(
        self,
        barrier: Barrier | None,
        rows: list[tuple[int, str]],
        failures: list[Failed],
        here: list[tuple[int, str]],
        failed_here: list[Failed],
    ) -> Iterator[Outcome[str]]:
        """The end: of the input, of what is wanted of it, or because it was asked to stop or something failed."""
        ends = next((each for each in failed_here if each.policy == "raise"), None)
        if ends is not None:
            if barrier is not None:
                yield _outcome(barrier.index, rows, failures)
            index = self._first_index() if barrier is None else barrier.index + 1
            yield _outcome(index, here, failed_here)
            return
        if self._stopped:
            return  # whether anything would have followed is not known: the last item is to run again
        if barrier is None:
            if not (here or failed_here or self._next_index):
                return  # there was no item
            index = self._first_index()
        else:
            index = barrier.index
        if self._remaining is not None and not (self._exhausted and index + 1 == self._next_index):
            self._remaining.end(index + 1)  # the input may have been read further, but nothing more is wanted
        yield _outcome(index, rows + here, failures + failed_here)

    def _first_index(self) -> int:
        return 0 if self._remaining is None else self._remaining.start


def _add(element: Any, rows: list[tuple[int, str]], failures: list[Failed]) -> None:
    if isinstance(element, Failed):
        failures.append(element)
    elif isinstance(element, Sided):
        rows.append((element.side, element.row))
    else:
        rows.append((0, element))


def _outcome(index: int, rows: list[tuple[int, str]], failures: list[Failed]) -> Outcome[str]:
    if not failures:
        return Outcome(index, Kind.OK, joined(rows))
    # One that ends the run is what the run is to tell of.
    first = next((each for each in failures if each.policy == "raise"), failures[0])
    others = [each for each in failures if each is not first]
    extra = _told(first)
    if rows:
        extra[ROWS] = joined(rows)
    if others:
        extra[MORE] = [{**failure_record(_failed(index, each)), **_told(each)} for each in others]
    return _failed(index, first, extra)


def _failed(index: int, failed: Failed, extra: dict[str, Any] | None = None) -> RowsOutcome:
    return RowsOutcome(
        index,
        failed.kind,
        error=failed.error,
        item=failed.item,
        attempts=failed.attempts,
        seconds=failed.seconds,
        worker=failed.worker,
        extra=extra,
        ends=failed.policy == "raise",
    )


def _told(failed: Failed) -> dict[str, Any]:
    return {"stage": failed.stage, "stage_name": failed.name, "on_error": failed.policy}
