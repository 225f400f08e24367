"""`allcores cache` at the shell."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.contract.cache_tasks import Double, Refuse

from allcores import Cache, Pool
from allcores.cache.database import FILE
from allcores.cli.exits import Exit
from allcores.cli.main import main

DOUBLE, REFUSE = "tests.contract.cache_tasks.Double", "tests.contract.cache_tasks.Refuse"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    folder = str(tmp_path / "cache")
    with Pool(backend="serial") as made:
        pool: Any = made
        for _ in range(2):
            pool.map(Double(str(tmp_path / "computed")), range(5), cache=folder)
        pool.map(Refuse(str(tmp_path / "computed")), [2, 4], cache=folder)
    return folder


def test_it_lists_what_is_kept_of_each_function(folder: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list", "--folder", folder]) == Exit.OK
    head, double, refuse, total = capfd.readouterr().out.splitlines()
    assert head.split() == ["entries", "size", "hits", "misses", "function"]
    assert (double.split()[0], double.split()[-3:]) == ("5", ["5", "5", DOUBLE])
    assert (refuse.split()[0], refuse.split()[-3:]) == ("2", ["0", "2", REFUSE])
    assert (total.split()[0], total.split()[-1]) == ("7", folder)
    assert main(["cache", "list", "--folder", folder, "--json"]) == Exit.OK
    found = json.loads(capfd.readouterr().out)
    assert (found["entries"], [row["hits"] for row in found["functions"]]) == (7, [5, 0])


def test_it_removes_what_is_kept_of_one_function_or_of_all(folder: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "clear", REFUSE, "--folder", folder]) == Exit.OK
    assert capfd.readouterr().err == "2 entries removed\n"
    assert list(Cache(folder).statistics().functions) == [DOUBLE]
    assert main(["cache", "clear", "--folder", folder]) == Exit.OK
    assert capfd.readouterr().err == "5 entries removed\n"
    assert main(["cache", "list", "--folder", folder]) == Exit.OK
    assert capfd.readouterr().out == f"nothing is kept in {folder}\n"


@pytest.mark.parametrize("damage", ["name = x'ff'", "entries = 'many'", "hits = x'00'"])
def test_a_list_that_is_damaged_is_said(folder: str, capfd: pytest.CaptureFixture[str], damage: str) -> None:
    with contextlib.closing(sqlite3.connect(Path(folder) / FILE)) as db:
        db.execute("DROP TRIGGER entry_new")
        db.execute(f"UPDATE functions SET {damage}")
        db.commit()
    for more in ([], ["--json"]):
        assert main(["cache", "list", "--folder", folder, *more]) == Exit.USAGE
        assert "is damaged" in capfd.readouterr().err


def test_one_that_cannot_be_trusted_is_refused(folder: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path(folder).chmod(0o777)
    assert main(["cache", "clear", "--folder", folder]) == Exit.USAGE
    assert "cannot be trusted: others may write to it" in capfd.readouterr().err
