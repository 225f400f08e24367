"""Tracebacks: the program's call, the worker's part with source lines, no frames of ours unless they are asked for."""

from __future__ import annotations

import asyncio
import functools
import linecache
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process import scripts
from tests.process.waiting import Watcher, begin_records, wait_full_strength

import allcores
from allcores.errors import InternalError, RemoteTraceback
from allcores.system import tracebacks

OURS = str(Path(allcores.__file__).parent)


@pytest.fixture(scope="module")
def pool() -> Iterator[allcores.Pool]:
    watcher = Watcher()
    with allcores.Pool(1, observers=[watcher]) as pool:
        wait_full_strength(pool, watcher)
        begin_records(pool)
        yield pool


def invert(number: float) -> float:
    return 1 / number


def shown(call: Callable[[], object]) -> str:
    """What Python prints of what `call` raises."""
    try:
        call()
    except BaseException as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("nothing was raised")


def loop(stream: Any) -> None:
    for _ in stream:
        pass


def read_async(stream: Callable[[], Any]) -> None:
    async def main() -> None:
        async for _ in stream():
            pass

    asyncio.run(main())


def failing() -> Iterator[int]:
    yield 1
    raise OSError("the input is gone")


VERBS: dict[str, Callable[[Any], object]] = {
    "map": lambda pool: pool.map(invert, [1, 0]),
    "starmap": lambda pool: pool.starmap(invert, [(1,), (0,)]),
    "imap": lambda pool: loop(pool.imap(invert, [0])),
    "imap_unordered": lambda pool: loop(pool.imap_unordered(invert, [0])),
    "next": lambda pool: next(pool.imap(invert, [0])),
    "submit": lambda pool: pool.submit(invert, 0).result(),
    "aimap": lambda pool: read_async(lambda: pool.aimap(invert, [0])),
    "outcome": lambda pool: next(pool.outcomes(invert, [0])).result(),
}


@pytest.mark.parametrize("name", VERBS)
def test_frames_of_ours_are_left_out(pool: allcores.Pool, name: str) -> None:
    """Of each verb: the call and the line in the worker are there, and nothing in between."""
    text = shown(lambda: VERBS[name](pool))
    there, here = text.split("direct cause")
    assert "in invert" in there and "return 1 / number" in there
    assert "in shown" in here and "VERBS[name](pool)" in here
    assert OURS not in text


@pytest.mark.quick
@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("backend", ["threads", "serial"])
def test_without_processes_the_lines_follow_each_other(backend: str, name: str) -> None:
    with allcores.Pool(1, backend=backend) as pool:
        text = shown(lambda: VERBS[name](pool))
    assert text.index("in shown") < text.index("in invert")
    assert "return 1 / number" in text and OURS not in text


def test_of_an_executor_and_a_run(tmp_path: Path) -> None:
    with allcores.Executor(1) as executor:
        for call in (
            lambda: executor.submit(invert, 0).result(),
            lambda: list(executor.map(invert, [1, 0])),
            lambda: list(executor.map(invert, [1, 0], chunksize=2)),
        ):
            text = shown(call)
            assert "return 1 / number" in text and "in shown" in text and OURS not in text
    text = shown(lambda: allcores.run(invert, [0], tmp_path / "out.jsonl", journal=False))
    assert "return 1 / number" in text and OURS not in text


def test_what_the_program_does_wrong_is_shown_at_its_line(pool: allcores.Pool) -> None:
    """Options, things that will not pickle, inputs that are none or fail, and waits that end."""
    lock, waiting = threading.Lock(), threading.Event()
    with allcores.Pool(1, backend="threads") as threads:
        calls: list[Callable[[], object]] = [
            lambda: pool.map(invert, [1], chunk=0),
            lambda: allcores.map(invert, [1], timeout=-1),
            lambda: pool.map(invert, 5),  # type: ignore[call-overload]
            lambda: pool.map(lambda number: (lock, number), [1]),
            lambda: pool.submit(lambda number: (lock, number), 1).result(),
            lambda: pool.map(invert, failing()),
            lambda: threads.submit(waiting.wait).result(timeout=0),
            lambda: allcores.Pool(0),
        ]
        for call in calls:
            text = shown(call)
            assert "in shown" in text and OURS not in text, text
        waiting.set()


def test_an_error_that_is_raised_again_shows_the_last_place_only(pool: allcores.Pool) -> None:
    """A future gives the same exception to all who ask."""
    future = pool.submit(invert, 0)

    def first() -> None:
        future.result()

    assert "in first" in shown(first)
    assert "in first" not in shown(future.result)


def test_frames_of_ours_may_be_asked_for(pool: allcores.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracebacks.FULL_VARIABLE, "1")
    assert OURS in shown(lambda: pool.map(invert, [0]))
    monkeypatch.setenv(tracebacks.FULL_VARIABLE, "0")
    assert OURS not in shown(lambda: pool.map(invert, [0]))


def test_mistakes_of_ours_are_shown_whole() -> None:
    """Nothing is left out of what should be reported."""
    assert "in hidden" in shown(tracebacks.hiding(lambda: _fail_as(InternalError("a mistake"))))
    text = shown(lambda: allcores.Outcome(0, allcores.Kind.OK, unknown=3))  # type: ignore[call-arg]
    assert "unknown" in text


def _fail_as(error: BaseException) -> None:
    raise error


def test_the_frames_of_others_stay_where_they_are() -> None:
    """A traceback that somebody holds is not changed."""
    try:
        tracebacks.hiding(lambda: _fail_as(ValueError("x")))()
    except ValueError as error:
        held = error.__traceback__
        names = [frame.name for frame in traceback.extract_tb(held)]
        tracebacks.hide(error)
        assert [frame.name for frame in traceback.extract_tb(held)] == names
        assert names[-1] == "_fail_as" and "hidden" not in names


CELL = "def halve(number):\n    return number / 0  # of a cell\n"


def test_lines_of_a_notebook_are_shown(pool: allcores.Pool) -> None:
    """Cells are no files: a worker has no source of them, but the program does."""
    name = "<ipython-input-1-0123456789ab>"
    linecache.cache[name] = (len(CELL), None, CELL.splitlines(keepends=True), name)
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CELL, name, "exec"), space)
    text = shown(lambda: pool.map(space["halve"], [1]))
    assert f'File "{name}", line 2, in halve\n    return number / 0  # of a cell\n' in text
    group = shown(lambda: pool.map(functools.partial(_in_group, space["halve"]), [1]))
    assert "  |     return number / 0  # of a cell\n" in group or "    |     return number / 0  # of a cell\n" in group


def _in_group(function: Callable[[int], object], item: int) -> None:
    try:
        function(item)
    except ZeroDivisionError as error:
        raise ExceptionGroup("several", [error]) from None


PROGRAM = """
import allcores
def halve(number):
    return number / 0  # of a program
with allcores.Pool(1) as pool:
    pool.map(halve, [1])
"""


@pytest.mark.parametrize("how", ["file", "-c", "stdin"])
def test_lines_of_a_program_are_shown(how: str, tmp_path: Path) -> None:
    """Also of one that is given on the command line, or on standard input from a file."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    command = {"file": [str(path)], "-c": ["-c", PROGRAM], "stdin": []}[how]
    with path.open() as file:
        ended = subprocess.run(
            [sys.executable, *command],
            stdin=file if how == "stdin" else subprocess.DEVNULL,
            env=scripts.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 1
    assert "in halve\n    return number / 0  # of a program\n" in ended.stderr
    assert "line 6, in <module>" in ended.stderr and OURS not in ended.stderr


LOGGED = """
import logging, traceback
import allcores
def halve(number):
    return number / 0
try:
    allcores.map(halve, [1])
except ZeroDivisionError as error:
    logging.exception("it failed")
    traceback.print_exception(error)
    from rich.console import Console
    Console(stderr=True, width=1000).print_exception(width=None)
"""


def test_others_print_it_as_python_does(tmp_path: Path) -> None:
    """logging, traceback and rich: the worker's part, then the call, no frames of ours."""
    path = tmp_path / "program.py"
    path.write_text(LOGGED)
    ended = subprocess.run(
        [sys.executable, str(path)], env=scripts.environment(), capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stderr.count("in halve") == 3 and ended.stderr.count("in <module>") == 3
    assert OURS not in ended.stderr


def test_pytest_shows_the_call_and_the_workers_lines(tmp_path: Path) -> None:
    path = tmp_path / "test_halving.py"
    path.write_text("import allcores\ndef halve(x):\n    return x / 0\ndef test_it():\n    allcores.map(halve, [1])\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    ended = subprocess.run(
        command, env=scripts.environment(), capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert "in halve" in ended.stdout and ">       allcores.map(halve, [1])" in ended.stdout
    assert OURS not in ended.stdout


def test_the_text_alone_is_there_for_programs(pool: allcores.Pool) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        pool.map(invert, [0])
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback) and "in invert" in cause.tb and OURS not in cause.tb
