"""The advice in words: a table of ways, and code that was not proven says so."""

from __future__ import annotations

from typing import Literal

import pytest

from allcores.advisor.advice import Advice
from allcores.advisor.model.code import Names, code_for
from allcores.advisor.model.decision import Setting
from allcores.advisor.model.intervals import Interval
from allcores.advisor.page import as_html
from allcores.advisor.record import Pattern
from allcores.advisor.text import as_text

Verdict = Literal["parallel", "serial", "unreliable"]
PROCESSES, LOOP = Setting("processes", 2, 25), Setting("serial")
PREDICTED = Interval(1.5, 0.75, 3.0)


def advice(verdict: Verdict, setting: Setting) -> Advice:
    """Of a function for which processes were predicted to be quicker."""
    return Advice(
        function="work",
        verdict=verdict,
        recommendation=setting,
        predicted=PREDICTED,
        measured=None,
        needed=None,
        reasons=("other programs used 1.7 of 2 cores meanwhile",),
        pitfalls=(),
        patterns=(
            Pattern(PROCESSES, PREDICTED, None, 1.67, "the cores"),
            Pattern(LOOP, Interval(1.0, 1.0, 1.0), None, 2.5, "one core"),
        ),
        code=code_for(setting, Names("work")),
        calls=10,
        called_on=((0, 9),),
        seconds=1.0,
        machine={"cores": 2, "others": 1.7, "load": [1.0, 2.0, 3.0]},
    )


def test_seconds_stand_in_a_column_of_their_own() -> None:
    lines = as_text(advice("parallel", PROCESSES)).splitlines()
    head = next(line for line in lines if "predicted" in line)
    rows = [line for line in lines if line.endswith(("the cores", "one core"))]
    assert [line[: head.index("takes") + 5].split("  ")[-1].strip() for line in rows] == ["1.67 s", "2.50 s"]


@pytest.mark.parametrize(
    ("verdict", "setting", "said"),
    [("unreliable", PROCESSES, True), ("unreliable", LOOP, False), ("parallel", PROCESSES, False)],
)
def test_code_that_was_not_proven_says_so(verdict: Verdict, setting: Setting, said: bool) -> None:
    given = advice(verdict, setting)
    assert ("Not proven" in as_text(given)) is said
    pytest.importorskip("jinja2")
    assert ("Not proven" in as_html(given)) is said


def test_figures_of_the_machine_have_names() -> None:
    pytest.importorskip("jinja2")
    page = as_html(advice("unreliable", PROCESSES))
    assert "cores used by other programs" in page
    assert "1.0, 2.0, 3.0" in page
