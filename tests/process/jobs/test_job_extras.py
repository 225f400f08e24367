"""What carries jobs is imported when it is asked for, and says what to install where it is not there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.process.jobs.conftest import PATIENCE_S, SOURCE

_WITHOUT = """
import sys
sys.modules[{library!r}] = None
try:
    import allcores.adapters.{library}
except ModuleNotFoundError as error:
    print(error)
"""


def printed(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    ).stdout


@pytest.mark.parametrize("library", ["celery", "rq"])
def test_a_library_that_is_missing_is_named_with_its_extra(library: str) -> None:
    assert printed(_WITHOUT.format(library=library)) == (
        f"allcores.adapters.{library} needs {library}: pip install 'allcores[{library}]'\n"
    )


def test_jobs_and_adapters_load_none_of_them() -> None:
    program = "import sys, allcores.adapters, allcores.jobs.supervisor, allcores.jobs.shared_store; print(*sys.modules)"
    assert not {"celery", "kombu", "rq", "redis"} & set(printed(program).split())
