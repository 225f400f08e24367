"""joblib's own tests of its default backend, asked of the backend "allcores": as loky passes them."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest
from tests.exams.isolated import examine

if importlib.util.find_spec("joblib") is None or importlib.util.find_spec("joblib.test") is None:
    pytest.skip("joblib and its tests are not installed", allow_module_level=True)

PARTS = 24
#: all of them with `make exams`; in `make test` two of them
ASKED = range(PARTS) if os.environ.get("ALLCORES_EXAMS") else (11, 16)


@pytest.mark.slow
@pytest.mark.parametrize("part", ASKED)
def test_what_joblib_asks_of_its_default_backend(part: int, tmp_path: Path) -> None:
    outcome, said = examine(["-m", "tests.exams.joblib_questions", str(part), str(PARTS)], {}, tmp_path)
    assert outcome == "passed", f"{outcome}\n{said}"
    passed = re.search(r"(\d+) passed", said)
    assert passed and int(passed[1]) >= 9, said
