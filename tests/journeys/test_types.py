"""A program that uses the public names is type-checked as its writer would have it done: by pyright.

By mypy, `make lint` does so, with all other tests.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(
    not (importlib.util.find_spec("pyright") and shutil.which("node")), reason="needs pyright, and Node for it"
)
def test_pyright() -> None:
    """Right calls pass, and each line with a mistake is refused: an ignore that is not needed is an error."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, f"{run.stdout}{run.stderr}"
