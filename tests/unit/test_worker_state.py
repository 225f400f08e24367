"""scheduler/worker_state.py: the states of a worker, and the moves between them."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest

import allcores
from allcores.errors import InternalError
from allcores.scheduler.worker_state import MOVES, Lifecycle, WorkerState

#: written out once more, so that a change of the table is a change of this test
ALLOWED = {
    (Lifecycle.STARTING, Lifecycle.READY),
    (Lifecycle.STARTING, Lifecycle.LEAVING),
    (Lifecycle.STARTING, Lifecycle.GONE),
    (Lifecycle.READY, Lifecycle.LEAVING),
    (Lifecycle.READY, Lifecycle.GONE),
    (Lifecycle.LEAVING, Lifecycle.GONE),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Lifecycle, Lifecycle)))
def test_moves_follow_the_table(before: Lifecycle, after: Lifecycle) -> None:
    """Each pair of states, the same state twice included: allowed, or an InternalError that leaves the state alone."""
    worker_state = WorkerState(3, 0)
    worker_state.lifecycle = before
    if (before, after) in ALLOWED:
        worker_state.move(after)
        assert worker_state.lifecycle is after
    else:
        with pytest.raises(InternalError, match=f"worker 3 cannot go from {before.value} to {after.value}"):
            worker_state.move(after)
        assert worker_state.lifecycle is before


def test_the_table_names_each_state() -> None:
    """GONE is final and can be reached from everywhere else; a new worker is STARTING."""
    assert MOVES.keys() == set(Lifecycle)
    assert {(before, after) for before, afters in MOVES.items() for after in afters} == ALLOWED
    assert WorkerState(1, 0).lifecycle is Lifecycle.STARTING


def test_nothing_changes_a_state_but_move() -> None:
    """An assignment to `lifecycle` anywhere else would go around the table."""
    assigned = set()
    for path in Path(allcores.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "lifecycle" not in text:  # parsing all takes seconds
            continue
        for node in ast.walk(ast.parse(text)):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Attribute) and target.attr == "lifecycle" for target in targets):
                assigned.add(path.name)
    assert assigned == {"worker_state.py"}
