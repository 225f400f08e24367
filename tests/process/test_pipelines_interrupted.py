"""Ctrl-C while a pipeline is read: what runs is handed over, wherever in a turn of its loop it comes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.process import scripts
from tests.process.interrupting import Interrupting, leading, python_handler
from tests.process.waiting import Gate
from tests.tracing import traced

from allcores import Pipeline
from allcores.pipelines import links, operators, outputs, source_reader, worked
from allcores.pipelines.execution import Execution

INTERRUPTED = """
import itertools, os, signal, sys, threading, traceback
from contextlib import ExitStack
from functools import partial
from allcores import Pipeline
from tests.process.waiting import wait_at, wait_until

def first(number):
    return number

def second(gate, number):
    if number == 5:
        open(gate + ".reached", "w").close()
        wait_at(gate)
    return number

def waits(thread):
    return any(frame.name == "_wait" for frame in traceback.extract_stack(sys._current_frames()[thread]))

def interrupt(thread):
    wait_until(lambda: os.path.exists(sys.argv[1] + ".reached") and waits(thread))
    os.killpg(os.getpid(), signal.SIGINT)
    print("interrupted", flush=True)

if __name__ == "__main__":
    pipeline = Pipeline().map(first).map(partial(second, sys.argv[1]), fuse=False, chunk=1)
    found = []
    try:
        for record in pipeline.imap(itertools.count(), workers=2):
            found.append(record)
            if record == 4:
                threading.Thread(target=interrupt, args=[threading.get_ident()]).start()
    except KeyboardInterrupt:
        print(found == list(range(len(found))), len(found) > 5, flush=True)
        raise SystemExit(3)
"""


def test_ctrl_c_hands_over_what_is_finished(tmp_path: Path) -> None:
    """What runs at that moment comes to its end, and is handed over before the exception."""
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    with Gate(tmp_path / "gate") as gate:
        with scripts.running([str(script), gate.path], folder=tmp_path, start_new_session=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"interrupted\n"
            gate.open()
            ended = scripts.finish(process)
    assert ended.lines == ["True True"]
    assert ended.code == 3, ended.err
    assert "Traceback" not in ended.err


#: where records are in someone's hands
MOVING = (links, operators, outputs, source_reader, worked)


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    with python_handler():
        yield


def same(value: Any) -> Any:
    return value


def later(before: int, pair: tuple[int, int]) -> int:
    return max(before, pair[1])


def begin(started: list[int], value: int) -> int:
    started.append(value)
    return value


@pytest.mark.parametrize("first", ["stage", "operator"])
@pytest.mark.parametrize("seed", range(2))
def test_nothing_that_has_begun_is_lost_at_any_line(seed: int, first: str) -> None:
    """Of the last stage, for what ends an earlier one is not begun in the next."""
    choice = random.Random(seed)
    for _ in range(10):
        started: list[int] = []
        interrupting = Interrupting(choice.randrange(1, 1200), MOVING, [Execution._turn.__code__])
        # A source is pulled by the first stage, or by the loop for an operator.
        pipeline = Pipeline().map(same) if first == "stage" else Pipeline()
        pipeline = pipeline.enumerate().scan(later, 0).map(partial(begin, started), fuse=False)
        found = []
        with pytest.raises(KeyboardInterrupt), ExitStack() as from_then_on:
            for value in pipeline.imap(itertools.count(), workers=2, backend="threads"):
                found.append(value)
                if len(found) == 20:
                    from_then_on.enter_context(traced(interrupting))
        assert interrupting.left <= 0
        assert found == leading(started)
