"""The commands on the page on jobs, as they stand there: under `allcores serve` with the page's own files.

What they leave out is left out here, too: the store is the one that a user has without a word.
"""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import commands
from tests.journeys.serving_jobs import TOKEN, Server, environment, started
from tests.journeys.test_jobs_servers import FIRST, project
from tests.process.waiting import PATIENCE_S, wait_until

pytest.importorskip("flask")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is for Linux"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="the page uses curl"),
]
ADDRESS = r"http://127\.0\.0\.1:(\d+)/"


def shell(command: str, folder: Path, server: Server, **variables: str) -> str:
    """What a command of the page prints, with the server's real port and `allcores` of this checkout."""
    command = re.sub(r"127\.0\.0\.1:8321", server.address.removeprefix("http://"), command)
    program = f'allcores() {{ "{sys.executable}" -m allcores "$@"; }}; {command}'
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=folder,
        env=environment(**variables),
        timeout=PATIENCE_S,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def check(wanted: str, got: str, command: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(wanted, got, flags), f"{command}\nwanted: {wanted}\ngot: {got}"


def test_the_page_from_the_skeleton_to_the_real_thing(tmp_path: Path) -> None:
    project(tmp_path)
    shown = commands(FIRST.read_text())
    own, alone = shown[:2], shown[2:]
    assert len(alone) == 3 and all(":8321/" in each[0] for each in shown[:3])
    home = str(tmp_path / "home")
    serve = ["-m", "allcores", "serve", "tasks.py", "--port", "0", "--token", TOKEN]
    assert "allcores serve tasks.py --app app.py:app" in FIRST.read_text()
    with started([*serve, "--app", "app.py:app"], tmp_path, ADDRESS, ALLCORES_HOME=home) as server:
        (first, wanted), (second, wanted_then) = own
        got = shell(first, tmp_path, server, ALLCORES_HOME=home)
        check(wanted, got, first)
        found = re.search(r'"id":\s*"(\w+)"', got)
        assert found is not None
        wait_until(lambda: "succeeded" in shell(second, tmp_path, server, ID=found[1], ALLCORES_HOME=home))
        check(wanted_then, shell(second, tmp_path, server, ID=found[1], ALLCORES_HOME=home), second)
    with started(serve, tmp_path, ADDRESS, ALLCORES_HOME=home) as server:
        for command, printed in alone:
            check(printed, shell(command, tmp_path, server, TOKEN=TOKEN, ALLCORES_HOME=home), command)
