"""CPython's own tests of `ProcessPoolExecutor`, asked of `allcores.Executor`: all that are about what it does.

All but those that want one dead worker to break the pool. Not every Python is installed with these tests.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from tests.exams import executor_questions as asked
from tests.exams.isolated import examine

if importlib.util.find_spec("test") is None or importlib.util.find_spec(asked.PACKAGE) is None:
    pytest.skip("this Python has no tests of its own of concurrent.futures", allow_module_level=True)

#: all with `make exams`; with no context, as programs have it, in `make test`. Without one, tests for "spawn" apply.
METHODS = {"default": "spawn", "future": "future"}
if os.environ.get("ALLCORES_EXAMS"):
    METHODS |= {method: method for method in ("fork", "spawn", "forkserver")}


def _cases() -> list[tuple[str, str]]:
    left_out = asked.PRIVATE.keys() | asked.BREAKS
    return [
        (name, group)
        for group, method in METHODS.items()
        for name, of in asked.questions()
        if of == method and name.rpartition(".")[2] not in left_out
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("question", "group"), _cases())
def test_what_cpython_asks_of_its_executor(question: str, group: str, tmp_path: Path) -> None:
    outcome, said = examine(["-m", "tests.exams.executor_questions", question, group], {}, tmp_path)
    if outcome == "skipped":
        pytest.skip(said)
    assert outcome == "passed", f"{outcome}\n{said}"


def test_all_of_the_questions_are_asked() -> None:
    assert len(_cases()) >= 70
