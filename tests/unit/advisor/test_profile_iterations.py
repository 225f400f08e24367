"""How often a loop is executed, where looks at its names alone tell: in a function that is called in a `while`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from allcores.advisor.profiling import captured
from allcores.advisor.profiling.attribution import SiteTime, Values, attribute
from allcores.advisor.profiling.independence import Verdict, judge
from allcores.advisor.profiling.iterations import Iterations, count
from allcores.advisor.profiling.ranking import Candidate, candidate
from allcores.advisor.profiling.records import Code, Observation, Place, Stack
from allcores.advisor.profiling.sites import SourceFile

SOURCE = """
def update(particles):
    moved = []
    for each in particles:
        moved.append(move(each))
    return moved


def deeper(depth, particles):
    moved = []
    for each in particles:
        moved.append(move(each))
    return deeper(depth - 1, moved)


turns = 0
while turns < 1000:
    update([])
    turns += 1
update([])
"""
INSIDE, OUTSIDE = 19, 21


def found(
    folder: Path, places: list[tuple[str, int, int]], lengths: list[int], cores: int = 8, own: float = 10.0
) -> tuple[Iterations, Candidate]:
    """What is found of the innermost loop of a stack that computed for 10 s, looked at each 10 ms.

    Args:
        folder: For the program.
        places: Name, first line and line of each frame, the innermost first.
        lengths: Of `moved`, at each look.
        cores: Of the machine.
        own: Seconds of the ten in which it had a core.
    """
    path = folder / "program.py"
    path.write_text(SOURCE)
    codes = [(Code(str(path), first, name, True), line) for name, first, line in places]
    stack = Stack(tuple(Place(code, line) for code, line in codes), True, 1000, 10.0, 10.0, 0.0, 10.0, 1000, 0, 0, 0.0)
    stack.own_wall = own
    looks = [
        Observation(codes[0][1], 1.0 + at / 100, {"moved": ("list", length, None), "particles": ("list", 100, None)})
        for at, length in enumerate(lengths)
    ]
    process: Any = SimpleNamespace(stacks=[stack], observations={codes[0][0]: looks}, python=(3, 13))
    (time,) = attribute(process, {str(path): SourceFile(str(path))})
    iterations = count([time], Values(process))[time.site]
    return iterations, candidate(time, Verdict(()), iterations, 10.0, cores)


UPDATE = ("update", 2, 5)
DEEPER = ("deeper", 9, 12)


@pytest.mark.parametrize(
    "places", [[UPDATE, ("<module>", 1, INSIDE)], [DEEPER, ("deeper", 9, 13), ("<module>", 1, OUTSIDE)]]
)
@pytest.mark.parametrize("lengths", [[3, 90, 40, 41, 7], [5, 60], []])
def test_one_that_may_be_short_is_no_candidate(places: list[Any], lengths: list[int], tmp_path: Path) -> None:
    """A millisecond ten thousand times: as a map each execution would take longer, and by chance some looks fit."""
    iterations, one = found(tmp_path, places, lengths)
    assert iterations.often
    assert not one.pays
    assert "how often it is executed is not known" in " ".join(one.why_not)


def test_one_that_goes_on_from_look_to_look_is_executed_as_often_as_that_says(tmp_path: Path) -> None:
    iterations, one = found(tmp_path, [UPDATE, ("<module>", 1, INSIDE)], [10, 12, 14, 16, 18])
    assert not iterations.often
    assert iterations.executions == pytest.approx(20)
    assert one.pays


def test_one_that_is_called_once_is_as_it_was(tmp_path: Path) -> None:
    iterations, one = found(tmp_path, [UPDATE, ("<module>", 1, OUTSIDE)], [10, 12])
    assert (iterations.often, iterations.each, iterations.executions) == (False, 100.0, 1.0)
    assert one.pays


@pytest.mark.parametrize("lengths", [[500, 510, 520], [5, 60]])
def test_what_it_waited_for_a_core_does_not_change_how_often_it_iterates(lengths: list[int], tmp_path: Path) -> None:
    """A rate that was seen is one by the clock, and so is the time that it is multiplied by."""
    places = [UPDATE, ("<module>", 1, INSIDE)]
    with_a_core, _ = found(tmp_path, places, lengths)
    without, _ = found(tmp_path, places, lengths, own=2.5)
    assert without.total == with_a_core.total


@pytest.mark.parametrize("own", [10.0, 2.5])
def test_what_a_list_grew_by_is_counted_for_all_the_time_of_the_loop(own: float, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text("rows = []\nfor n in produce():\n    rows.append(work(n))\n")
    code = Code(str(path), 1, "<module>", True)
    stack = Stack((Place(code, 3),), True, 1000, 10.0, 10.0, 0.0, 10.0, 1000, 0, 0, 0.0)
    stack.own_wall = own
    looks = [Observation(3, 1.0 + at, {"rows": ("list", 600 * at, None)}) for at in range(4)]
    process: Any = SimpleNamespace(stacks=[stack], observations={code: looks}, python=(3, 13))
    (time,) = attribute(process, {str(path): SourceFile(str(path))})
    assert count([time], Values(process))[time.site].total == pytest.approx(6000)


def test_on_one_core_that_is_the_reason(tmp_path: Path) -> None:
    _, one = found(tmp_path, [UPDATE, ("<module>", 1, OUTSIDE)], [10, 12], cores=1)
    assert one.why_not == ("there is one core (--cores predicts for more)",)


@pytest.mark.parametrize(("body", "pays"), [("total += n * n % 7", False), ("total += work(n)", True)])
def test_a_plain_loop_of_unknown_length_is_no_candidate(body: str, pays: bool, tmp_path: Path) -> None:
    """An iteration that calls nothing is short, however many there are."""
    path = tmp_path / "program.py"
    path.write_text(f"total = 0\nfor n in produce():\n    {body}\n")
    code = Code(str(path), 1, "<module>", True)
    stack = Stack((Place(code, 3),), True, 1000, 10.0, 10.0, 0.0, 10.0, 1000, 0, 0, 0.0)
    stack.own_wall = 10.0
    process: Any = SimpleNamespace(stacks=[stack], observations={}, python=(3, 13))
    (time,) = attribute(process, {str(path): SourceFile(str(path))})
    iterations = count([time], Values(process))[time.site]
    assert iterations.each is None
    assert candidate(time, Verdict(()), iterations, 10.0, 8).pays == pays


NEEDS = """
def main(rows, log, out, paths):
    for row in rows:
        y = work(row, log)
        out.write(y)
    return [work(path, log) for path in paths]
"""


@pytest.mark.parametrize(
    ("line", "name", "kind", "expected"),
    [
        (4, "log", "_io.TextIOWrapper", ("log", "_io.TextIOWrapper")),
        (4, "log", "generator", ("log", "generator")),
        (4, "log", "list", None),
        (4, "log", "module", None),
        (4, "out", "_io.TextIOWrapper", None),  # what it is used for stays in the program
        (4, "row", "_io.TextIOWrapper", None),  # it is the item
        (6, "log", "_thread.lock", ("log", "_thread.lock")),
    ],
)
def test_what_iterations_use_has_to_be_pickled(
    line: int, name: str, kind: str, expected: tuple[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "program.py"
    path.write_text(NEEDS)
    source = SourceFile(str(path))
    code = Code(str(path), 2, "main", True)
    site = next(each for each in source.sites() if each.holds(line, None))
    looks: Any = SimpleNamespace(observations={code: [Observation(line, 1.0, {name: (kind, -1, None)})]})
    found_in = captured.unpicklable(site, judge(site, source), Values(looks), source)
    assert found_in == expected
    iterations = Iterations(100.0, 1.0, "")
    one = candidate(
        SiteTime(site, samples=900, seconds=9.0, cpu=9.0, held=900), Verdict(()), iterations, 10.0, 4, found_in
    )
    assert one.pays is (expected is None)
    assert expected is None or one.why_not == (f"it uses `log` ({kind}), which does not pickle",)


@pytest.mark.parametrize(
    ("seconds", "program", "total", "item", "why"),
    [
        (0.35, 0.6, 100.0, ("int", 9, "yes"), "starting workers takes much of what it would save"),
        (10.0, 14.0, 100.0, ("bytes", 10_000_000, "yes"), "its items are large"),
        (10.0, 14.0, 1.7e6, ("int", 9, "yes"), "its iterations are short"),
        (10.0, 200.0, 100.0, ("int", 9, "yes"), None),  # it is its share that says it
        (10.0, 14.0, 100.0, ("int", 9, "yes"), None),  # it pays
    ],
)
def test_a_gain_that_its_costs_make_small_says_which(
    seconds: float, program: float, total: float, item: tuple[str, int, str], why: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "program.py"
    path.write_text("rows = []\nfor n in produce():\n    rows.append(work(n))\n")
    (site,) = SourceFile(str(path)).sites()
    time = SiteTime(site, samples=900, seconds=seconds, cpu=seconds, held=900)
    one = candidate(time, Verdict(()), Iterations(total, 1.0, "", item), program, 2)
    assert one.pays is (program == 14.0 and why is None)
    if why is None:
        assert one.why_not == ()
    else:
        (reason,) = one.why_not
        assert reason.startswith(f"as processes it would give {one.gain:.2f}x: {why}")
