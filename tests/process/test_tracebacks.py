"""Tracebacks: the program's call, the worker's part with source lines, no frames of ours unless they are asked for."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import linecache
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from tests.process import scripts
from tests.process.waiting import Watcher, begin_records, wait_full_strength

import allcores
import allcores.compat
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


VERBS: dict[str, Callable[[Any, Any], object]] = {
    "map": lambda pool, function: pool.map(function, [1, 0]),
    "starmap": lambda pool, function: pool.starmap(function, [(1,), (0,)]),
    "imap": lambda pool, function: loop(pool.imap(function, [0])),
    "imap_unordered": lambda pool, function: loop(pool.imap_unordered(function, [0])),
    "next": lambda pool, function: next(pool.imap(function, [0])),
    "submit": lambda pool, function: pool.submit(function, 0).result(),
    "aimap": lambda pool, function: read_async(lambda: pool.aimap(function, [0])),
    "outcome": lambda pool, function: next(pool.outcomes(function, [0])).result(),
    "reduce": lambda pool, function: pool.reduce(function, [0], max),
}


@pytest.mark.parametrize("name", VERBS)
def test_frames_of_ours_are_left_out(pool: allcores.Pool, name: str) -> None:
    """Of each verb: the call and the line in the worker are there, and nothing in between."""
    text = shown(lambda: VERBS[name](pool, invert))
    there, here = text.split("direct cause")
    assert "in invert" in there and "return 1 / number" in there
    assert "in shown" in here and "VERBS[name](pool, invert)" in here
    assert OURS not in text


@pytest.mark.quick
@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("backend", ["threads", "serial"])
def test_without_processes_the_lines_follow_each_other(backend: str, name: str) -> None:
    with allcores.Pool(1, backend=backend) as pool:
        text = shown(lambda: VERBS[name](pool, invert))
    assert text.index("in shown") < text.index("in invert")
    assert "return 1 / number" in text and OURS not in text


def add(left: float, right: float) -> float:
    return left + right


@pytest.mark.quick
@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("backend", ["threads", "serial"])
def test_without_processes_a_call_that_does_not_fit_is_shown_at_the_programs_line(backend: str, name: str) -> None:
    """The function has no frame of its own then: nothing but frames of ours is behind the program's line."""
    with allcores.Pool(1, backend=backend) as pool:
        text = shown(lambda: VERBS[name](pool, add))
        assert "in shown" in text and "TypeError: add() missing" in text and OURS not in text
        text = shown(lambda: pool.starmap(add, [1]))  # type: ignore[list-item]
        assert "TypeError" in text and OURS not in text
        text = shown(lambda: pool.map(add, [1], batch=2))  # type: ignore[arg-type]
        assert "TypeError: add() missing" in text and OURS not in text


@pytest.mark.quick
@pytest.mark.parametrize("backend", ["threads", "serial"])
def test_errors_that_are_handed_over_begin_at_the_function(backend: str) -> None:
    """As futures and outcomes have them, without being raised once more."""
    with allcores.Pool(1, backend=backend) as pool:
        kinds: list[tuple[Callable[..., Any], list[str]]] = [(invert, ["invert"]), (add, [])]
        for function, names in kinds:
            errors = [
                next(pool.outcomes(function, [0])).error,
                next(pool.outcomes(function, [0], timeout=None, retries=1)).error,
                pool.submit(function, 0).exception(),
            ]
            for error in errors:
                assert error is not None
                assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == names
                # The mark that hiding leaves is for what no frame says any more.
                assert ("__tracebackhide__" in vars(error)) == (not names)
        exited = next(pool.outcomes(sys.exit, [1])).error
        assert exited is not None and OURS not in "".join(traceback.format_exception(exited))


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


class Index:
    size = 3

    def search(self, word: str) -> str:
        raise LookupError(word)


ON_AN_ACTOR: dict[str, Callable[[Any], object]] = {
    "no method": lambda actor: actor.nope,
    "no method, by call": lambda actor: actor.call("nope"),
    "no method, by sync": lambda actor: actor.sync.nope,
    "an attribute": lambda actor: actor.size,
    "not public": lambda actor: actor._search,
    "not public, by sync": lambda actor: actor.sync._search,
    "no name": lambda actor: actor.call(5),
    "no argument": lambda actor: actor.search().result(),
    "its error": lambda actor: actor.search("word").result(),
    "its error, by sync": lambda actor: actor.sync.search("word"),
    "closed": lambda actor: (actor.close(), actor.search("word")),
    "closed, by sync": lambda actor: (actor.close(), actor.sync.search("word")),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", ON_AN_ACTOR)
def test_of_an_actor(name: str) -> None:
    with allcores.Pool(1, backend="threads") as pool:
        actor = pool.actor(Index)
        text = shown(lambda: ON_AN_ACTOR[name](actor))
        assert "in shown" in text and OURS not in text, text


DROP_IN: dict[str, Callable[[Any], object]] = {
    "map": lambda pool: pool.map(invert, [1, 0]),
    "map_async": lambda pool: pool.map_async(invert, [1, 0]).get(),
    "starmap": lambda pool: pool.starmap(invert, [(0,)]),
    "imap": lambda pool: loop(pool.imap(invert, [0])),
    "imap_unordered": lambda pool: loop(pool.imap_unordered(invert, [0])),
    "next": lambda pool: pool.imap(invert, [0]).next(),
    "apply": lambda pool: pool.apply(invert, (0,)),
    "apply_async": lambda pool: pool.apply_async(invert, (0,)).get(),
    "map, does not fit": lambda pool: pool.map(add, [1]),
    "apply, does not fit": lambda pool: pool.apply(add, (1,)),
    "imap, does not fit": lambda pool: next(pool.imap(add, [1])),
    "map, no function": lambda pool: pool.map(5, [1]),
    "map_async, no function": lambda pool: pool.map_async(5, [1]).get(),
    "imap, no function": lambda pool: next(pool.imap(5, [1])),
    "apply, no function": lambda pool: pool.apply(5),
    "map, no input": lambda pool: pool.map(invert, 5),
    "map_async, no input": lambda pool: pool.map_async(invert, 5),
    "imap, no input": lambda pool: next(pool.imap(invert, 5)),
    "apply, no arguments": lambda pool: pool.apply(invert, 5),
    "map, nothing": lambda pool: pool.map(),
    "map, no chunk size": lambda pool: pool.map(invert, [1], "a"),
    "imap, no chunk size": lambda pool: pool.imap(invert, [1], 0),
    "map, input fails": lambda pool: pool.map(invert, failing()),
    "imap, input fails": lambda pool: list(pool.imap(invert, failing())),
    "map, input of C fails": lambda pool: pool.map(invert, map(int, ["a"])),
    "map, lock": lambda pool: pool.map(invert, [threading.Lock()]),
    "imap, lock": lambda pool: next(pool.imap(invert, [threading.Lock()])),
    "get, too late": lambda pool: pool.apply_async(time.sleep, (0.3,)).get(0),
    "map get, too late": lambda pool: pool.map_async(time.sleep, (0.3,)).get(0),
    "next, too late": lambda pool: pool.imap(time.sleep, (0.3,)).next(0),
    "successful": lambda pool: pool.apply_async(time.sleep, (0.3,)).successful(),
    "join": lambda pool: pool.join(),
    "no processes": lambda pool: type(pool)(0),
    "no initializer": lambda pool: type(pool)(1, 5),
    "no option": lambda pool: type(pool)(workers=5),
}


@pytest.mark.parametrize("name", DROP_IN)
def test_of_the_drop_in_for_multiprocessing(name: str) -> None:
    """Also where Python's own exceptions say what is wrong, as in the original."""
    with allcores.compat.Pool(1) as pool:
        text = shown(lambda: DROP_IN[name](pool))
    assert "in shown" in text and OURS not in text, text
    assert "pop from empty list" not in text, "how results are kept is no cause of anything"


def test_of_a_drop_in_that_is_closed_and_to_callbacks() -> None:
    told: list[BaseException] = []
    with allcores.compat.Pool(1) as pool:
        for _ in range(2):  # both show the last place only
            result = pool.map_async(invert, [0], error_callback=told.append)
            assert OURS not in shown(result.get)
        pool.apply_async(invert, (0,), error_callback=told.append).wait()
    assert len(told) == 3
    assert all(OURS not in "".join(traceback.format_exception(error)) for error in told)
    calls: list[Callable[[], object]] = [
        lambda: pool.map(invert, [1]),
        lambda: pool.imap(invert, [1]),
        lambda: pool.apply_async(invert, (1,)),
        lambda: pool.__enter__(),
    ]
    for call in calls:
        text = shown(call)
        assert "ValueError: Pool not running" in text and OURS not in text


WRONG: dict[str, Callable[[], object]] = {
    "Limits": lambda: allcores.Limits(items_in_flight=-1),
    "Limits, no number": lambda: allcores.Limits(depth="a"),  # type: ignore[arg-type]
    "Limits, no option": lambda: allcores.Limits(nope=1),  # type: ignore[call-arg]
    "Limits, too many": lambda: allcores.Limits(*range(40)),
    "Limits, replaced": lambda: dataclasses.replace(allcores.Limits(), depth=-1),
    "Retry": lambda: allcores.Retry(times=-1),
    "Retry, no number": lambda: allcores.Retry(jitter="a"),  # type: ignore[arg-type]
    "Retry, twice": lambda: allcores.Retry(1, times=2),  # type: ignore[misc]
    "Journal": lambda: allcores.Journal(fsync="a"),  # type: ignore[arg-type]
    "Journal, no folder": lambda: allcores.Journal(folder=5),  # type: ignore[arg-type]
    "Logs": lambda: allcores.Logs(nope=5),  # type: ignore[call-arg]
    "Outcome": lambda: allcores.Outcome(0),  # type: ignore[call-arg]
    "Pool": lambda: allcores.Pool(1, 2),  # type: ignore[call-arg, arg-type]
    "Executor": lambda: allcores.Executor(1, initializer=5),  # type: ignore[arg-type]
    "Executor, too many": lambda: allcores.Executor(1, 2, 3, 4, 5, 6),  # type: ignore[call-arg, arg-type]
    "Executor, no context": lambda: allcores.Executor(1, 5),  # type: ignore[arg-type]
    "Timeline": lambda: allcores.Timeline(5.5),  # type: ignore[arg-type]
    "save_report": lambda: allcores.Timeline(memory=False).save_report("/no/such/folder/x.html"),
    "save_trace": lambda: allcores.Timeline(memory=False).save_trace("/no/such/folder/x.json"),
    "write_to": lambda: allcores.Timeline(memory=False).write_to("/no/such/folder/x.json"),
    "Pipeline": lambda: allcores.Pipeline(5),  # type: ignore[call-arg]
    "Pipeline.map": lambda: allcores.Pipeline().map(),  # type: ignore[call-arg]
    "Pipeline, does not fit": lambda: list(allcores.Pipeline().map(add, on="threads").imap([0])),
    "map": lambda: allcores.map(),  # type: ignore[call-overload]
    "submit": lambda: allcores.submit(),  # type: ignore[call-arg]
    "close": lambda: allcores.close(1),  # type: ignore[call-arg]
    "core_budget": lambda: allcores.core_budget(1),  # type: ignore[call-arg, arg-type]
    "advise": lambda: allcores.advise(invert, 5),  # type: ignore[arg-type]
    "tune": lambda: allcores.tune(invert, 5),  # type: ignore[arg-type]
}


@pytest.mark.quick
@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_made_or_called_so_is_shown_at_the_programs_line(name: str) -> None:
    """Constructors that look at their arguments, and arguments that are too many or too few."""
    text = shown(WRONG[name])
    assert "in shown" in text and "in <lambda>" in text and OURS not in text, text


ON_A_POOL: dict[str, Callable[[Any], object]] = {
    "map": lambda pool: pool.map(invert),
    "map, inputs": lambda pool: pool.map(add, [1], 5),
    "map, input of C fails": lambda pool: pool.map(invert, map(int, ["a"])),
    "reduce": lambda pool: pool.reduce(invert, [], max),
    "call": lambda pool: pool.call(invert, 5),
    "counter": lambda pool: pool.counter("a"),
    "length": lambda pool: len(pool.imap(invert, failing())),
    "aimap": lambda pool: read_async(lambda: pool.aimap(invert, 5)),
    "aimap, no loop": lambda pool: pool.aimap(invert, [1]),
    "aimap, input of C fails": lambda pool: read_async(lambda: pool.aimap(invert, map(int, ["a"]))),
    "exception, too late": lambda pool: pool.submit(time.sleep, 0.2).exception(timeout=0),
    "actors": lambda pool: allcores.actors(Index, nope=1),  # type: ignore[call-arg]
    "actor": lambda pool: allcores.actor(5),  # type: ignore[arg-type]
    "collect": lambda pool: pool.imap(invert, [0]).collect([]),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", ON_A_POOL)
def test_of_a_pool(name: str) -> None:
    with allcores.Pool(1, backend="threads") as pool:
        text = shown(lambda: ON_A_POOL[name](pool))
        assert "in shown" in text and OURS not in text, text


def test_of_the_end_of_a_pool_on_the_programs_own_thread() -> None:
    def use() -> None:
        with allcores.Pool(1, backend="serial", setup=int, teardown=lambda state: invert(state)) as pool:
            pool.map(max, [(1, 2)])

    text = shown(use)
    assert "in invert" in text and OURS not in text, text


ON_AN_EXECUTOR: dict[str, Callable[[allcores.Executor], object]] = {
    "submit": lambda executor: executor.submit(),  # type: ignore[call-arg]
    "map": lambda executor: executor.map(invert, 5),  # type: ignore[arg-type]
    "map, no chunk size": lambda executor: executor.map(invert, [1], chunksize=0),
    "map, no buffer size": lambda executor: executor.map(invert, [1], buffersize="a"),  # type: ignore[arg-type]
    "closed": lambda executor: (executor.shutdown(), executor.submit(invert, 1)),
    "closed, map": lambda executor: (executor.shutdown(), executor.map(invert, [1])),
}


@pytest.mark.parametrize("name", ON_AN_EXECUTOR)
def test_of_an_executor_that_is_used_in_another_way(name: str) -> None:
    with allcores.Executor(1) as executor:
        text = shown(lambda: ON_AN_EXECUTOR[name](executor))
        assert "in shown" in text and OURS not in text, text


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


@pytest.mark.quick
def test_arguments_of_ours_that_do_not_fit_are_a_mistake_of_ours() -> None:
    """It is told by the same line as the program's mistakes, but for whose call it was."""
    names: dict[str, Any] = {"Outcome": allcores.Outcome, "hidden": tracebacks.hiding(invert)}
    text = "def build():\n    Outcome(0)\ndef call():\n    hidden()\n"
    exec(compile(text, str(Path(OURS, "of_ours.py")), "exec"), names)
    assert "in build" in shown(tracebacks.hiding(names["build"]))
    assert "in call" in shown(tracebacks.hiding(names["call"]))
    names = {"Limits": allcores.Limits}
    exec(compile("def build():\n    Limits(depth=-1)\n", str(Path(OURS, "of_ours.py")), "exec"), names)
    assert OURS not in shown(tracebacks.hiding(names["build"])), "an option of the program's, handed on"


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


def test_a_step_without_a_line_is_left_as_it_is() -> None:
    """Generated code has such steps, as that of `dataclasses.replace`: what a handler raised there was lost."""
    lineless = FunctionType(invert.__code__.replace(co_linetable=b""), globals())
    with allcores.Pool(backend="serial") as pool:
        try:
            pool.map(lineless, [0])
        except ZeroDivisionError as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            assert trace is not None
            assert trace.tb_frame.f_code is lineless.__code__
            assert trace.tb_lineno is None
        else:
            pytest.fail("it did not raise")
