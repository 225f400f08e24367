"""The pages for those who come from another library: both versions of each program run, and print the same."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, Block, blocks, name
from tests.process.jobs.redis_server import RedisServer
from tests.process.scripts import PATHS
from tests.process.waiting import PATIENCE_S

PAGES = sorted((ROOT / "docs" / "coming-from").glob("*.md"))
#: what the program of the other library imports
NEEDED = {"Celery": "celery", "concurrent.futures": "concurrent", "Dask": "distributed", "Ray": "ray"}
#: of Redis, in the programs of a page
PORT = ":6379/"


def pairs(page: Path) -> list[tuple[Block, Block]]:
    """The programs of a page: of the other library, and ours after it."""
    titled = [block for block in blocks(page) if block.title]
    return list(zip(titled[::2], titled[1::2], strict=True))


EVERY = [pytest.param(*pair, id=f"{page.stem}-{pair[0].line}") for page in PAGES for pair in pairs(page)]


def printed(block: Block, file: Path) -> str:
    """What a program prints on its standard output; progress goes to the other one."""
    file.write_text(block.code)
    # Ray makes sockets in there, whose paths must be short.
    with tempfile.TemporaryDirectory(prefix="ac-", dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, str(file)],
            cwd=file.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("theirs", "ours"), EVERY)
def test_both_versions_print_the_same(theirs: Block, ours: Block, tmp_path: Path) -> None:
    assert theirs.title is not None
    assert ours.title == "allcores"
    needed = NEEDED.get(theirs.title, theirs.title)
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    with ExitStack() as stack:
        if any(PORT in each.code for each in (theirs, ours)):
            port = f":{stack.enter_context(RedisServer(tmp_path / 'redis')).port}/"
            theirs, ours = (replace(each, code=each.code.replace(PORT, port)) for each in (theirs, ours))
        said = printed(ours, tmp_path / "ours.py")
        assert said
        assert said == printed(theirs, tmp_path / "theirs.py")


def test_each_page_compares_programs_and_words() -> None:
    assert len(PAGES) >= 7
    for page in PAGES:
        # Those of the longest page are files, which tests/journeys/test_examples.py runs.
        included = [block for block in blocks(page) if block.included]
        assert pairs(page) or included, f"{name(page)} compares no programs"
        assert "## Word for word" in page.read_text(), name(page)
