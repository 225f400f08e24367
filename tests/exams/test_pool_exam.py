"""CPython's own tests of `multiprocessing.Pool`, asked of the drop-in: all that are about what it does."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from tests.exams.isolated import examine

if importlib.util.find_spec("test") is None or importlib.util.find_spec("test._test_multiprocessing") is None:
    pytest.skip("this Python has no tests of its own", allow_module_level=True)

#: all three with `make exams`; one of them in full in `make test`
METHODS = ["fork", "spawn", "forkserver"] if os.environ.get("ALLCORES_EXAMS") else ["fork"]


def _questions() -> list[str]:
    from tests.exams.pool_questions import PRIVATE, questions

    return [each for each in questions() if each.rpartition(".")[2] not in PRIVATE]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("question", _questions())
def test_what_cpython_asks_of_its_pool(question: str, method: str, tmp_path: Path) -> None:
    from tests.exams import pool_questions

    outcome, said = examine(
        ["-m", "tests.exams.pool_questions", question], {pool_questions.START_METHOD: method}, tmp_path
    )
    assert outcome == "passed", f"{outcome}\n{said}"


def test_all_of_the_questions_are_asked() -> None:
    assert len(_questions()) >= 29
