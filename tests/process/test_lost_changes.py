"""A script whose function fills a list in vain is told so, once, at its own line; and not where it works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.process import scripts

SCRIPT = """
import asyncio, sys, warnings
import allcores

found = []
def work(item):
    found.append(item)
    return item

def use(pool, verb):
    if verb == "map":
        pool.map(work, range(50))                           # here
    elif verb == "imap":
        for _ in pool.imap(work, range(50)): pass           # here
    elif verb == "submit":
        pool.submit(work, 1).result()                       # here
    elif verb == "aimap":
        async def read():
            async for _ in pool.aimap(work, range(50)):     # here
                pass
        asyncio.run(read())

verb, backend, method = sys.argv[1:]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    if backend == "executor":
        with allcores.Executor(2) as executor:
            list(executor.map(work, range(50)))             # here
            list(executor.map(work, range(50)))
    else:
        with allcores.Pool(2, backend=backend, start_method=method or None) as pool:
            use(pool, verb)
            use(pool, verb)
lines = open(__file__).read().splitlines()
for each in caught:
    if each.category is allcores.LostChangeWarning:
        assert each.filename == __file__ and "# here" in lines[each.lineno - 1], each
        print(each.message)
print(len(found))
"""


def said(tmp_path: Path, *arguments: str) -> list[str]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, str(path), *arguments],
        env={**scripts.environment(), "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ended.stdout.splitlines()


@pytest.mark.quick
@pytest.mark.parametrize("verb", ["map", "imap", "submit", "aimap"])
def test_it_is_said_once_at_the_line_that_reads(verb: str, tmp_path: Path) -> None:
    """It names the function, the global and the way out."""
    message, count = said(tmp_path, verb, "processes", "")
    assert message.startswith("work has changed 'found' in a worker process") and "reduce" in message
    assert count == "0"


MODULE = """
found, late = [], []
def work(item):
    found.append(item)
    return item
def fills_late(item):
    if item == 60:
        late.append(item)
    return item
def start():
    pass
"""
IMPORTING = """
import sys, warnings
import allcores, helpers

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with allcores.Pool(1, setup=getattr(helpers, sys.argv[2], None)) as pool:
        pool.map(getattr(helpers, sys.argv[1]), range(100), chunk=3)
for each in caught:
    if each.category is allcores.LostChangeWarning:
        print(each.message)
"""


@pytest.mark.parametrize(
    ("function", "setup", "global_"), [("work", "", "found"), ("fills_late", "", "late"), ("work", "start", None)]
)
def test_an_imported_module_of_the_program(function: str, setup: str, global_: str | None, tmp_path: Path) -> None:
    """It is said of its functions, too, also in a later chunk; not where its setup function may have meant it so."""
    (tmp_path / "helpers.py").write_text(MODULE)
    (tmp_path / "script.py").write_text(IMPORTING)
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), function, setup],
        env={**scripts.environment(), "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = ended.stdout.splitlines()
    assert [line.split(" in a worker")[0] for line in said] == (
        [f"{function} has changed '{global_}'"] if global_ else []
    )


FILLING = """
import sys, warnings
import numpy, allcores
squares = numpy.zeros(int(sys.argv[1]))
def square(number):
    squares[number] = number * number

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with allcores.Pool(2) as pool:
        pool.map(square, range(50))
print(*(each.message for each in caught if each.category is allcores.LostChangeWarning), sep="|")
"""


@pytest.mark.parametrize("length", [100, 1_000_000])
def test_an_array_that_tasks_fill(length: int, tmp_path: Path) -> None:
    """It came to the worker as a copy, in the message or in a block beside it."""
    pytest.importorskip("numpy")
    ended = scripts.run(FILLING, tmp_path, str(length))
    assert ended.out.startswith("square has changed 'squares' in a worker process"), ended.err
    assert "|" not in ended.out


@pytest.mark.parametrize("arguments", [("map", "processes", "spawn"), ("map", "executor", "")])
def test_other_ways_to_start(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert len(said(tmp_path, *arguments)) == 2


@pytest.mark.parametrize("backend", ["threads", "serial"])
def test_nothing_is_said_where_it_works(backend: str, tmp_path: Path) -> None:
    assert said(tmp_path, "map", backend, "") == ["100"]


DRAWING = """
import random, warnings
import allcores

generator = random.Random(1)
def draw(_):
    return generator.random()

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with allcores.Pool(2, backend=BACKEND) as pool:
        pool.map(draw, range(50))
        pool.map(draw, range(50))
print([str(each.message)[:45] for each in caught if each.category is allcores.LostChangeWarning])
"""


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
def test_random_numbers_that_all_workers_draw_alike_are_told_of_once(tmp_path: Path, backend: str) -> None:
    """Where there are no copies there is nothing to tell."""
    path = tmp_path / "script.py"
    path.write_text(DRAWING.replace("BACKEND", repr(backend)))
    environment = {**scripts.environment(), "PYTHONWARNINGS": ""}
    ended = subprocess.run(
        [sys.executable, str(path)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    told = ["draw draws random numbers from 'generator', o"] if backend == "processes" else []
    assert ended.stdout == f"{told}\n", ended.stderr
