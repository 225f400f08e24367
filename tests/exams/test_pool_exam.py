"""CPython's own tests of `multiprocessing.Pool`, asked of the drop-in: all that are about what it does."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from tests.exams.isolated import examine

if importlib.util.find_spec("test") is None or importlib.util.find_spec("test._test_multiprocessing") is None:
    pytest.skip("this Python has no tests of its own", allow_module_level=True)

#: all three with `make exams`, a process for each question; one of them in full in `make test`
METHODS = ["fork", "spawn", "forkserver"] if os.environ.get("ALLCORES_EXAMS") else ["fork"]
#: of a process, which takes a third of a second to import them, most of the time of a question
AT_A_TIME = 1 if os.environ.get("ALLCORES_EXAMS") else 6


def _questions() -> list[str]:
    from tests.exams.pool_questions import PRIVATE, questions

    return [each for each in questions() if each.rpartition(".")[2] not in PRIVATE]


def _together() -> list[list[str]]:
    asked = _questions()
    return [asked[first : first + AT_A_TIME] for first in range(0, len(asked), AT_A_TIME)]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("questions", _together(), ids=", ".join)
def test_what_cpython_asks_of_its_pool(questions: list[str], method: str, tmp_path: Path) -> None:
    from tests.exams import pool_questions

    outcome, said = examine(
        ["-m", "tests.exams.pool_questions", *questions], {pool_questions.START_METHOD: method}, tmp_path
    )
    assert outcome == "passed", f"{outcome}\n{said}"


def test_all_of_the_questions_are_asked() -> None:
    assert len(_questions()) >= 29
