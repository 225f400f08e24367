"""A program that uses the public names is type-checked as its writer would have it done: by mypy and by pyright."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = [str(path) for path in sorted((ROOT / "tests" / "typing").glob("*.py"))]


def check(*command: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    return f"{run.stdout}{run.stderr}" if run.returncode else ""


@pytest.mark.slow
def test_mypy_strict(tmp_path: Path) -> None:
    """Right calls pass, and each line with a mistake is refused: an ignore that is not needed is an error."""
    assert check("mypy", "--strict", "--cache-dir", str(tmp_path), *PROGRAMS) == ""


@pytest.mark.slow
@pytest.mark.skipif(
    not (importlib.util.find_spec("pyright") and shutil.which("node")), reason="needs pyright, and Node for it"
)
def test_pyright() -> None:
    """The same by pyright, which is told so in pyproject.toml."""
    assert check("pyright", "--pythonpath", sys.executable) == ""
