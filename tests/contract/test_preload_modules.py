"""`preload_modules`: imported once, where all workers share it, before anything else of the program's runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.contract import tasks

from allcores import Kind, Pool, SetupError, UsageError

pytestmark = pytest.mark.filterwarnings(
    "ignore:start_method='fork':RuntimeWarning", "ignore:start_method='spawn':RuntimeWarning"
)

PLACES: list[dict[str, Any]] = [
    {"start_method": "template"},
    {"start_method": "fork"},
    {"start_method": "spawn"},
    {"backend": "threads"},
    {"backend": "serial"},
]


def is_loaded(name: str) -> bool:
    return name in sys.modules


def loaded_by(value: object, _: object) -> object:
    return value


def load() -> bool:
    return is_loaded("allcores_test_heavy.part")


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that notes each of its imports."""
    package = tmp_path / "allcores_test_heavy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "part.py").write_text(f"with open({str(tmp_path / 'book')!r}, 'a') as file: file.write('x')\n")
    (package / "broken.py").write_text("import allcores_test_missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("allcores_test_heavy", "allcores_test_heavy.part"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "book"


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_workers_have_them_from_the_start(heavy: Path, place: dict[str, Any]) -> None:
    with Pool(2, preload_modules=["allcores_test_heavy.part"], **place) as pool:
        assert all(pool.map(is_loaded, ["allcores_test_heavy.part"] * 4, chunk=1))


def test_imported_once_also_for_workers_that_replace_others(heavy: Path) -> None:
    with Pool(2, preload_modules=["allcores_test_heavy.part"]) as pool:
        outcomes = list(pool.outcomes(sys.exit, [3])) + list(pool.outcomes(tasks.end_process, [3]))
        assert outcomes[-1].kind is Kind.WORKER_LOST
        assert pool.map(is_loaded, ["allcores_test_heavy.part"]) == [True]
    assert heavy.read_text() == "x"


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_before_the_preload_function(heavy: Path, place: dict[str, Any]) -> None:
    with Pool(1, preload=load, preload_modules=["allcores_test_heavy.part"], **place) as pool:
        assert pool.map(loaded_by, [0]) == [True]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_name_that_does_not_exist(place: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match=r"^preload_modules: there is no module 'nunpy' on sys\.path"):
        Pool(1, preload_modules=["nunpy.linalg"], **place)


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize(
    ("name", "why"), [("missing", "No module named 'allcores_test_heavy"), ("broken", "'allcores_test_missing'")]
)
def test_an_import_that_fails(heavy: Path, name: str, why: str, place: dict[str, Any]) -> None:
    sentence = rf"^preload_modules: the import of 'allcores_test_heavy\.{name}' raised ModuleNotFoundError: .*{why}"
    with pytest.raises(SetupError, match=sentence):
        with Pool(1, preload_modules=[f"allcores_test_heavy.{name}"], **place) as pool:
            pool.map(abs, [1])


@pytest.mark.parametrize(
    ("given", "sentence"), [("numpy", "is one name"), (["a b"], "no name of a module"), ([3], "3")]
)
def test_what_is_no_list_of_names(given: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Pool(1, preload_modules=given)


def test_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("import sys\ndef look(line):\n    return 'colorsys' in sys.modules\n")
    (tmp_path / "in.txt").write_text("1\n")
    words = ["run", "work.py:look", "in.txt", "-o", "-", "--quiet", "--no-journal", "--preload-module"]
    command = [sys.executable, "-m", "allcores", *words]
    ended = subprocess.run([*command, "colorsys"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.returncode) == ("true\n", 0), ended.stderr
    ended = subprocess.run([*command, "colorsis"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert "there is no module 'colorsis'" in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
