"""The code that advice gives to be pasted runs as it stands, and does what the loop does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allcores.advisor.measuring import travel
from allcores.advisor.model.code import Common, Names, code_for
from allcores.advisor.model.decision import Setting

pytestmark = pytest.mark.slow

WORK = """
import os, sys

TABLE = bytes(range(256)) * 400

def work(item):
    if isinstance(item, int):
        return item * item
    number, table = (item["number"], item["table"]) if isinstance(item, dict) else item
    return number * number + bytes(table)[number]

def items_of(kind):
    return [kind(number) for number in range(40)]
"""
#: what items are made of, in the program, and here with an object of its own in the place of the table
KINDS: dict[str, tuple[str, Callable[[int, bytes], Any]]] = {
    "numbers": ("lambda number: number", lambda number, table: number),
    "tuples": ("lambda number: (number, TABLE)", lambda number, table: (number, table)),
    "lists": ("lambda number: [number, TABLE]", lambda number, table: [number, table]),
    "dicts": (
        'lambda number: {"number": number, "table": TABLE}',
        lambda number, table: {"number": number, "table": table},
    ),
}


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        (Setting("serial"), "numbers"),
        (Setting("threads", 2), "tuples"),
        (Setting("processes", 2, chunk=8), "tuples"),
        (Setting("processes", 2, chunk=8, share=True), "dicts"),
        (Setting("processes", 2, share=True), "lists"),
        (Setting("processes", 2, chunk=3, share=True, preload=True), "tuples"),
    ],
    ids=str,
)
def test_what_is_pasted_runs(tmp_path: Path, setting: Setting, kind: str) -> None:
    source, make = KINDS[kind]
    common = None
    if setting.share:
        table = bytes(1_000)
        items: list[Any] = [make(number, table) for number in range(3)]
        found = travel.common_object(items)
        assert found is table
        common = Common(type(items[0]).__name__, travel.place_of(items[0], found))
    names = Names("work", ("from own_work import TABLE, items_of, work",), (f"items = items_of({source})",))
    checks = f"assert results == [work(item) for item in items_of({source})]\nprint('the same')\n"
    check_prints(tmp_path, code_for(setting, names, common=common) + checks)
    # The same where the program has them already, one by one.
    begin = f"from own_work import TABLE, items_of, work\nitems = iter(items_of({source}))\n"
    code = code_for(setting, Names("work"), common=common, in_order=False)
    check_prints(tmp_path, begin + code + checks)


def check_prints(tmp_path: Path, program: str) -> None:
    (tmp_path / "own_work.py").write_text(WORK)
    (tmp_path / "pasted.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "pasted.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr
