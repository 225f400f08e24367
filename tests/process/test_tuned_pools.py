"""Pools that are given what was found for a function: `Pool(tuned=...)`, `configure(tuned=...)`."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.process import advised

import allcores
from allcores import Limits, NotSupported, UsageError
from allcores.pool import map_methods, planning
from allcores.tuned.facts import facts_of
from allcores.tuned.files import Kept, Place
from allcores.tuned.setting import PoolSetting


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def settings_as_at_first() -> Iterator[None]:
    yield
    allcores.configure()


def keep(setting: PoolSetting, function: Any = advised.square, **changed: Any) -> None:
    """Keep a setting, as `allcores.tune` does."""
    place = Place(function)
    place.make()
    place.keep(Kept(setting, replace(facts_of(function), **changed), 2.0, time.time()))


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The chunks that maps are planned with."""
    found: list[int | None] = []
    plan = planning.plan_map

    def planned(*given: Any, **options: Any) -> Any:
        found.append(options["chunk"])
        return plan(*given, **options)

    monkeypatch.setattr(map_methods, "plan_map", planned)
    return found


SETTINGS = [
    PoolSetting("processes", 3, 7, 1),
    PoolSetting("processes", 2),
    PoolSetting("threads", 3, 16),
    PoolSetting("serial"),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_pool_has_what_was_found(setting: PoolSetting, chunks: list[int | None]) -> None:
    keep(setting)
    with allcores.Pool(tuned=advised.square, limits=Limits(items_in_flight=1_000)) as pool:
        assert pool.workers == setting.workers
        assert pool.limits == Limits(items_in_flight=1_000, depth=setting.depth)
        assert f" {setting.backend}," in repr(pool)
        assert pool.map(advised.square, range(100)) == [number**2 for number in range(100)]
        assert chunks == [setting.chunk]


@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
@pytest.mark.parametrize("method", ["template", "forkserver", "spawn", "fork"])
def test_it_goes_with_every_start_method(method: str, chunks: list[int | None]) -> None:
    keep(PoolSetting("processes", 2, 7, 1))
    with allcores.Pool(tuned=advised.square, start_method=method) as pool:
        assert pool.map(advised.square, range(30)) == [number**2 for number in range(30)]
        assert (pool.workers, pool.limits.depth, chunks) == (2, 1, [7])


def test_the_chunk_is_for_maps_of_that_function_in_every_method(chunks: list[int | None]) -> None:
    keep(PoolSetting("processes", 2, 7))
    with allcores.Pool(tuned=advised.square) as pool:
        list(pool.imap(advised.square, range(20)))
        list(pool.imap_unordered(advised.square, range(20)))
        pool.starmap(advised.square, [(1,), (2,)])
        list(pool.outcomes(advised.square, range(20)))
        pool.reduce(advised.square, range(20), max)
        pool.map(functools.partial(advised.square), range(20))
        assert chunks == [7] * 6
        chunks.clear()
        pool.map(advised.square, range(20), chunk=3)
        pool.map(abs, range(20))
        pool.map(lambda numbers: numbers, range(20), batch=4)
        assert chunks == [3, None, None]


def test_a_run_gets_it_too(chunks: list[int | None], tmp_path: Path) -> None:
    keep(PoolSetting("processes", 2, 7))
    with allcores.Pool(tuned=advised.square) as pool:
        pool.run(advised.square, range(20), tmp_path / "out.jsonl")
    assert chunks == [7]


def test_the_functions_of_the_module_use_it(chunks: list[int | None]) -> None:
    keep(PoolSetting("threads", 3, 5))
    allcores.configure(tuned=advised.square)
    assert allcores.map(advised.square, range(10)) == [number**2 for number in range(10)]
    assert chunks == [5]
    with pytest.raises(UsageError, match="tuned= and workers=7"):
        allcores.map(advised.square, range(10), workers=7)


def test_a_function_that_was_never_tuned_says_how() -> None:
    with pytest.raises(UsageError, match=r"square was not tuned on this machine .*allcores tune MODULE:square INPUT"):
        allcores.Pool(tuned=advised.square)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cores": 1_000}, "the core budget was 1000 and is"),
        ({"python": "CPython 2.7.18"}, "Python was CPython 2.7.18 and is"),
        ({"libraries": {"numpy": "0.0.1"}}, "numpy was 0.0.1 and is not installed"),
        ({"code": "0"}, "the function's code, or that of a function it calls, has changed"),
    ],
)
def test_what_has_changed_is_refused(changed: dict[str, Any], words: str) -> None:
    keep(PoolSetting("processes", 2), **changed)
    with pytest.raises(UsageError, match=rf"^what was tuned for .*square does not hold any more: .*{words}"):
        allcores.Pool(tuned=advised.square)


@pytest.mark.parametrize(
    "given",
    [
        {"limits": Limits(memory_per_worker=10**9)},
        {"start_method": "spawn"},
        {"logs": allcores.Logs(prints=True)},
    ],
)
def test_what_the_found_backend_cannot_do_is_told_with_the_reason(given: dict[str, Any]) -> None:
    keep(PoolSetting("threads", 2))
    with pytest.raises(NotSupported, match="That is what tuned= has found to be the fastest"):
        allcores.Pool(tuned=advised.square, **given)


WORK = """
import allcores

SIZE = {size}

def part(number):
    return number + SIZE

def measure(number):
    return part(number)  {remark}
"""
TUNE = """
import time
import work
from allcores.tuned.facts import facts_of
from allcores.tuned.files import Kept, Place
from allcores.tuned.setting import PoolSetting

place = Place(work.measure)
place.make()
place.keep(Kept(PoolSetting("processes", 2, 5), facts_of(work.measure), 2.0, time.time()))
"""
USE = """
import allcores
import work

with allcores.Pool(tuned=work.measure) as pool:
    print(pool.workers, pool.map(work.measure, range(3)))
"""
IN_MODULE = """
import allcores
from work import measure

pool = allcores.Pool(tuned=measure)

def twice(number):
    return 2 * measure(number)
"""
USE_MODULE = """
import module

print(module.pool.map(module.twice, range(3)))
"""


def python(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    return subprocess.run([sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_program_that_was_edited_is_refused_and_one_with_another_remark_is_not(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK.format(size=1, remark=""))
    assert python(tmp_path, TUNE).stderr == ""
    assert python(tmp_path, USE).stdout == "2 [1, 2, 3]\n"
    (tmp_path / "work.py").write_text(WORK.format(size=1, remark="# a remark"))
    assert python(tmp_path, USE).stdout == "2 [1, 2, 3]\n"
    (tmp_path / "work.py").write_text(WORK.format(size=1000, remark=""))
    done = python(tmp_path, USE)
    assert done.returncode == 1
    assert "does not hold any more: the function's code, or that of a function it calls, has changed" in done.stderr


def test_a_module_with_such_a_pool_can_be_imported_by_workers(tmp_path: Path) -> None:
    """Their core budget is another, and their pool is not used."""
    (tmp_path / "work.py").write_text(WORK.format(size=1, remark=""))
    (tmp_path / "module.py").write_text(IN_MODULE)
    assert python(tmp_path, TUNE).stderr == ""
    done = python(tmp_path, USE_MODULE)
    assert (done.stdout, done.stderr) == ("[2, 4, 6]\n", "")
