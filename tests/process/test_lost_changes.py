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


@pytest.mark.parametrize("arguments", [("map", "processes", "spawn"), ("map", "executor", "")])
def test_other_ways_to_start(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert len(said(tmp_path, *arguments)) == 2


@pytest.mark.parametrize("backend", ["threads", "serial"])
def test_nothing_is_said_where_it_works(backend: str, tmp_path: Path) -> None:
    assert said(tmp_path, "map", backend, "") == ["100"]
