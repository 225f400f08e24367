"""Pipelines that are run, and killed wherever they are: resumed, their outputs are those of an undisturbed run."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from tests.process import piped
from tests.process.waiting import wait_until
from tests.process.warm import Interpreter

import allcores
from allcores.failpoints import RUN

#: More than twice as many as are in flight. A run takes its time mostly by the number of these.
ITEMS = 160


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepared(tmp_path)


def prepared(folder: Path) -> Path:
    """A folder with the program and its input."""
    shutil.copy(Path(piped.__file__), folder)
    (folder / "in.txt").write_text("".join(f"{n}\n" for n in range(ITEMS)))
    return folder


@contextlib.contextmanager
def program_in(folder: Path) -> Iterator[ModuleType]:
    """The program as a module of this process, under the name that it has as a script."""
    sys.path.insert(0, str(folder))
    here = os.getcwd()
    os.chdir(folder)
    try:
        yield importlib.import_module("piped")
    finally:
        os.chdir(here)
        sys.path.remove(str(folder))
        sys.modules.pop("piped", None)
        importlib.invalidate_caches()


def finish(folder: Path, chain: str, **settings: Any) -> allcores.RunResult:
    """A session that is left in peace, in this process."""
    with program_in(folder) as program:
        result: allcores.RunResult = program.run(chain=chain, **settings)
        return result


def outputs(folder: Path) -> dict[str, bytes]:
    """All that was published."""
    return {name: (folder / name).read_bytes() for name in piped.OUTPUTS if (folder / name).exists()}


def left_over(folder: Path) -> set[str]:
    """What is there besides what belongs there."""
    return set(os.listdir(folder)) - {"in.txt", "piped.py", "runs", "__pycache__", *piped.OUTPUTS}


class Undisturbed(NamedTuple):
    """What a run of a chain that nobody disturbs, without a journal, gives: one for all tests of that chain.

    numbers: each function that may kill the program -> the numbers of the rows that it has.
    """

    outputs: dict[str, bytes]
    numbers: dict[str, list[int]]


@functools.cache
def undisturbed(chain: str) -> Undisturbed:
    numbers: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as place, program_in(prepared(Path(place))) as program:
        vars(program)["dying"] = lambda name, number: numbers.setdefault(name, []).append(number)
        program.run(chain=chain, journal=False)
        found = outputs(Path(place))
    assert found["out.jsonl"]
    return Undisturbed(found, numbers)


def wanted(chain: str) -> dict[str, bytes]:
    """Each output of a chain, whole."""
    return undisturbed(chain).outputs


#: With one worker nothing overtakes anything, whatever the steps: so one stage, several, and all steps.
ALONE = ("alone", "stages", "all")


@pytest.mark.parametrize(("workers", "chain"), [(1, chain) for chain in ALONE] + [(3, chain) for chain in piped.CHAINS])
def test_outputs_are_the_same_with_any_workers(folder: Path, chain: str, workers: int) -> None:
    """In processes, with a journal, states and all."""
    result = finish(folder, chain, backend="processes", workers=workers)
    assert outputs(folder) == wanted(chain)
    assert result.items == (ITEMS if chain != "islice" else result.items) and not left_over(folder)


#: where a function of each chain may kill the program: its name, and the number of the row that it has then
STAGES = [
    ("alone", "parse"), ("stages", "parse"), ("stages", "last"), ("batch", "parse"), ("batch", "summed"),
    ("batch", "last"), ("weighed", "summed"), ("group_by", "grouped"), ("window", "of_window"),
    ("enumerate", "numbered"), ("distinct", "last"), ("scan", "parse"), ("islice", "last"), ("replaced", "numbered"),
    ("tee", "summed"), ("tee", "of_window"), ("tee of stages", "last"), ("all", "summed"), ("all", "numbered"),
    ("all", "grouped"),
]  # fmt: skip


@pytest.mark.parametrize(("chain", "function"), STAGES)
@pytest.mark.slow
def test_killed_in_each_stage(warm: Interpreter, folder: Path, chain: str, function: str) -> None:
    """By a row of that stage, in workers; what is resumed has another number of them."""
    at = {"distinct": 89, "islice": 85, "window": 115, "all": 75}.get(chain, 124)
    # Not each row comes to each stage, and a batch is known by its last one.
    number = min(each for each in undisturbed(chain).numbers[function] if each >= at)
    told = {"chain": chain, "backend": "processes", "workers": 2, "kill_at": [function, number]}
    done = warm.script(folder / "piped.py", json.dumps(told), folder=folder)
    assert done.code == -signal.SIGKILL, done.err
    assert not outputs(folder)
    finish(folder, chain)
    assert outputs(folder) == wanted(chain)
    assert not left_over(folder)


@pytest.mark.parametrize("chain", piped.CHAINS)
@pytest.mark.slow
def test_killed_at_moments_of_a_commit(warm: Interpreter, folder: Path, chain: str) -> None:
    """Again and again, each time a little further; the last session is left in peace."""
    chance = random.Random(chain)
    sessions = 0
    for _ in range(6):
        point = chance.choice([each for each in RUN if each.startswith(("log.", "commit.", "checkpoint."))])
        # The first one at once: how often the others write depends on how quick the disk is.
        often = 0 if point.startswith("checkpoint") or not sessions else chance.randrange(1, 4)
        told = {"chain": chain, "kill": [point, often], "state_s": chance.choice([0.0, 0.01]), "pause": 0.002}
        told["journal"] = {"fsync": "commit"}
        done = warm.script(folder / "piped.py", json.dumps(told), folder=folder)
        assert done.code in (0, -signal.SIGKILL), done.err
        sessions += done.code != 0
        if done.code == 0:
            break
        assert outputs(folder) in ({}, wanted(chain))  # after the end there is a commit as well
    result = finish(folder, chain)
    assert outputs(folder) == wanted(chain)
    assert sessions and not left_over(folder)
    assert result.items == (ITEMS if chain != "islice" else result.items)


@pytest.mark.parametrize("point", [each for each in RUN if each.startswith(("publish", "finish"))])
@pytest.mark.slow
def test_killed_while_outputs_are_published(warm: Interpreter, folder: Path, point: str) -> None:
    """Each output is there whole or not at all; that of the pipeline itself comes last."""
    for passed in range(3):
        told = {"chain": "tee", "kill": [point, passed], "journal": {"fsync": "commit"}}
        done = warm.script(folder / "piped.py", json.dumps(told), folder=folder)
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done.err
        found = outputs(folder)
        assert all(wanted("tee")[name] == content for name, content in found.items())
        assert "out.jsonl" not in found or len(found) == 3
    finish(folder, "tee")
    assert outputs(folder) == wanted("tee") and not left_over(folder)


@pytest.mark.slow
@pytest.mark.parametrize("chain", piped.CHAINS)
def test_killed_from_outside_at_any_moment(warm: Interpreter, folder: Path, chain: str) -> None:
    """Twice, with workers, wherever it is by then; nothing of it is left running."""
    chance = random.Random(f"{chain} from outside")
    told = {"chain": chain, "backend": "processes", "workers": 2, "pause": 0.005, "journal": {"commit_s": 0.002}}
    for _ in range(2):
        before = _log_bytes(folder)
        enough = before + chance.randrange(1, 800)
        process = warm.begin(folder / "piped.py", json.dumps(told), folder=folder)
        wait_until(lambda: process.poll() is not None or _log_bytes(folder) >= enough)  # noqa: B023
        process.kill()
        process.wait()
        assert outputs(folder) in ({}, wanted(chain))
    finish(folder, chain, backend="threads", workers=3)
    assert outputs(folder) == wanted(chain)
    assert not left_over(folder)


def _log_bytes(folder: Path) -> int:
    return sum(log.stat().st_size for log in folder.glob("runs/*/outcomes.log"))
