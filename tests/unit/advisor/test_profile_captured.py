"""What does not pickle is found where it is: in functions that are called, and in objects."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from allcores.advisor.profiling import captured, facts
from allcores.advisor.profiling.attribution import Values
from allcores.advisor.profiling.independence import judge
from allcores.advisor.profiling.records import Code, Fact, Observation
from allcores.advisor.profiling.sites import SourceFile

PROGRAM = """
def look_up(x):
    with LOCK:
        return inner(x)

def inner(x):
    return TABLE, x

class Service:
    def run(self, xs):
        out = []
        for x in xs:
            out.append(look_up(self.change(x)))
        for x in xs:
            print(x, look_up(x), file=log)
        return [Service() for x in xs]
"""


@pytest.mark.parametrize(
    ("line", "seen", "expected"),
    [
        (12, {("look_up", 2, "LOCK"): "_thread.lock"}, ("LOCK", "_thread.lock")),
        (12, {("inner", 6, "TABLE"): "sqlite3.Connection"}, ("TABLE", "sqlite3.Connection")),
        (12, {("Service.run", 10, "self.log"): "_io.TextIOWrapper"}, ("self.log", "_io.TextIOWrapper")),
        (12, {("Service.run", 10, "self.rows"): "list"}, None),
        (12, {("Service.run", 10, "out"): "_io.TextIOWrapper"}, None),
        (14, {("Service.run", 10, "log"): "_io.TextIOWrapper"}, None),
        (14, {("look_up", 2, "LOCK"): "_thread.lock"}, ("LOCK", "_thread.lock")),
        (16, {("look_up", 2, "LOCK"): "_thread.lock"}, None),
    ],
)
def test_what_called_functions_and_objects_have_is_looked_at(
    line: int, seen: dict[tuple[str, int, str], str], expected: tuple[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    source = SourceFile(str(path))
    site = next(each for each in source.sites() if each.line == line)
    looks: dict[Code, list[Observation]] = {}
    for (function, first, name), kind in seen.items():
        fact: Fact = (kind, -1, None)
        looks[Code(str(path), first, function, True)] = [Observation(line, 1.0, {name: fact})]
    record: Any = SimpleNamespace(observations=looks)
    assert captured.unpicklable(site, judge(site, source), Values(record), source) == expected


class Service:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rows = [1]


class Sent(Service):
    def __getstate__(self) -> dict[str, object]:
        return {}


def test_attributes_that_do_not_pickle_are_seen_unless_the_class_says_what_is() -> None:
    found: dict[str, tuple[object, ...]] = {}
    facts._add(found, "service", Service())
    facts._add(found, "sent", Sent())
    assert found["service.lock"] == ("_thread.lock", -1, None)
    assert not {"service.rows", "sent.lock"} & set(found)
