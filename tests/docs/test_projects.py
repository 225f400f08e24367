"""Pages that show a whole project: files with a title, and what commands print. Both are tried as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, commands
from tests.process.scripts import PATHS
from tests.process.waiting import PATIENCE_S

pytest.importorskip("coverage")

_FILE = re.compile(r'^```\w+ title="(?P<name>[\w./]+)"\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


def write_files(page: str, folder: Path) -> None:
    for found in _FILE.finditer(page):
        file = folder / found["name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found["text"])


def test_the_project_on_the_page_about_tests(tmp_path: Path) -> None:
    page = (ROOT / "docs/howto/testing.md").read_text()
    write_files(page, tmp_path)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
    for name in [name for name in environ if name.startswith(("COVERAGE_", "PYTEST_"))]:
        del environ[name]
    shown = commands(page)
    assert [printed for _, printed in shown if printed], "the page shows what nothing prints"
    for command, printed in shown:
        program, *arguments = command.split()
        done = subprocess.run(
            [sys.executable, "-m", program, *arguments],
            cwd=tmp_path,
            env=environ,
            timeout=PATIENCE_S,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if printed:
            assert done.stdout == printed
