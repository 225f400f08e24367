"""scikit-learn's own tests of searches, validation and forests, on the backend "allcores" with two workers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.exams.isolated import examine
from tests.installed import needed

needed("joblib", "sklearn")

PARTS = 24


if os.environ.get("ALLCORES_EXAMS"):  # with `make exams`: they are too many for `make test`

    @pytest.mark.parametrize("part", range(PARTS))
    def test_what_scikit_learn_asks_of_its_calls_in_parallel(part: int, tmp_path: Path) -> None:
        outcome, said = examine(["-m", "tests.exams.sklearn_questions", str(part), str(PARTS)], {}, tmp_path)
        assert outcome == "passed", f"{outcome}\n{said}"
        passed = re.search(r"(\d+) passed", said)
        assert passed and int(passed[1]) >= 9, said
