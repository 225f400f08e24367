"""The search for a setting with real functions, real pools, real kills. Speeds are not asserted.

The machine may be busy, and then the verdict is "unreliable", and nothing is kept.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cores import several_cores
from tests.process import advised
from tests.process.waiting import PATIENCE_S, wait_until

import allcores
from allcores import BrokenPool, UsageError
from allcores.advisor.tuning import tuning as tuning_file
from allcores.advisor.tuning.pools import Pools
from allcores.system import procfs
from allcores.tuned.files import Place
from allcores.tuned.journal import lines_of
from allcores.tuned.setting import PoolSetting

BUDGET_S = 3.0

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def check_against_schema(tuning: allcores.Tuning) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(Path(tuning_file.__file__).with_name("tuning.schema.json").read_text())
    found = json.loads(json.dumps(tuning.as_dict(), allow_nan=False))
    jsonschema.Draft202012Validator(schema).validate(found)


@pytest.fixture(scope="module")
def of_a_loop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, allcores.Tuning]:
    """A search for a loop in Python, and where what it found is kept."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLCORES_HOME", str(folder))
        tuning = allcores.tune(advised.loop, range(1_000), budget=4)
    return folder, tuning


@several_cores
def test_a_loop_in_python_gets_processes_and_that_is_kept(
    of_a_loop: tuple[Path, allcores.Tuning], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tuning = of_a_loop
    monkeypatch.setenv("ALLCORES_HOME", str(folder))
    check_against_schema(tuning)
    assert tuning.verdict != "serial"
    assert {each.setting.backend for each in tuning.tried} <= {"serial", "processes"}
    if tuning.verdict == "parallel":  # else so much else runs that time was up before all were tried
        assert {each.setting.backend for each in tuning.tried} == {"serial", "processes"}
        assert any(each.setting.chunk for each in tuning.tried)
        assert len({each.setting.workers for each in tuning.tried}) > 1
    place = Place(advised.loop)
    if tuning.verdict == "parallel":
        kept = place.read()
        assert kept is not None
        assert tuning.kept == place.path
        assert (kept.setting.backend, kept.setting.workers) == (tuning.backend, tuning.workers)
        assert tuning.speedup == kept.speedup
        assert "allcores.Pool(tuned=loop)" in tuning.code
        assert not os.path.exists(place.journal)
    else:
        assert tuning.kept is None
        assert place.read() is None


@several_cores
def test_its_page_has_the_chunk_sweep_and_loads_nothing(
    of_a_loop: tuple[Path, allcores.Tuning], tmp_path: Path
) -> None:
    pytest.importorskip("jinja2")
    _, tuning = of_a_loop
    file = tmp_path / "tuning.html"
    tuning.save_html(file)
    text = file.read_text()
    assert "<script" not in text
    assert "http://" not in text and "https://" not in text
    assert "prefers-color-scheme: dark" in text
    rows = text.count('<th scope="row" class="number">')
    growth = [] if tuning.growth is None else [*tuning.growth.rates, *tuning.growth.further]
    assert rows == sum(each.setting.backend != "serial" for each in tuning.tried) + len(growth)
    if tuning.verdict == "parallel":
        assert ">Chunk by chunk</h2>" in text
        assert "<h3>2 processes</h3>" in text
    with pytest.raises(UsageError, match="cannot be written"):
        tuning.save_html(tmp_path / "nowhere" / "tuning.html")


@several_cores
@pytest.mark.leaks_allowed  # Matplotlib keeps its fonts open
def test_its_picture_has_a_point_for_each_setting(of_a_loop: tuple[Path, allcores.Tuning], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from allcores.advisor.tuning import picture, sweep

    _, tuning = of_a_loop
    panel, *others = picture.as_figure(tuning).axes
    drawn = sweep.series_of(tuning)[: picture.MOST_SERIES]
    marks = [line for line in panel.get_lines() if line.get_marker() in picture.MARKS]
    assert [len(line.get_xdata()) for line in marks] == [len(series.tried) for series in drawn]
    assert len(others) == (tuning.growth is not None and bool(tuning.growth.rates))
    tuning.save_png(tmp_path / "tuning.png")
    assert (tmp_path / "tuning.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="cannot be written"):
        tuning.save_png(tmp_path / "nowhere" / "tuning.png")


def test_too_little_work_stays_in_the_loop_and_that_is_kept() -> None:
    """Whatever else runs: processor seconds tell it, and nothing has to be searched."""
    tuning = allcores.tune(advised.square, range(100_000), budget=20)
    check_against_schema(tuning)
    assert tuning.verdict == "serial"
    assert tuning.backend == "serial"
    assert tuning.tried == ()
    assert str(tuning).startswith("square: Don't: stay with the loop.\n  an item takes ")
    assert "for item in items" in tuning.code
    kept = Place(advised.square).read()
    assert kept is not None and kept.setting.backend == "serial"
    with allcores.Pool(tuned=advised.square) as pool:
        assert pool.map(advised.square, range(10)) == [number**2 for number in range(10)]


def test_who_waits_gets_more_workers_than_cores() -> None:
    tuning = allcores.tune(advised.wait, range(400), budget=6)
    check_against_schema(tuning)
    if tuning.verdict == "parallel":
        assert {each.setting.backend for each in tuning.tried} >= {"serial", "threads"}
        assert tuning.workers > allcores.core_budget().workers


@several_cores
def test_depths_are_tried_with_the_best(of_a_loop: tuple[Path, allcores.Tuning]) -> None:
    _, tuning = of_a_loop
    # On a machine that others keep busy the budget may end before they are.
    if tuning.verdict == "parallel":
        assert {each.setting.depth for each in tuning.tried} == {None, 1, 8}


def test_the_start_of_each_pool_is_that_of_a_program_which_has_no_other() -> None:
    """What workers are forked from is started with it: that of a pool before would make it four times as quick."""
    pools = Pools(advised.square, 2)
    settings = [PoolSetting("processes", 1), PoolSetting("processes", 2), PoolSetting("processes", 1, depth=8)]
    try:
        starters = set()
        for each in settings:
            assert pools.ready(each, range(4)) is not None
            workers = [status.pid for status in pools._open[each.place].worker_status() if status.pid]
            starters |= {procfs.parent(pid) for pid in workers}
    finally:
        pools.close()
    assert len(starters) == len(settings)


def test_what_cannot_travel_is_tried_in_a_loop_and_in_threads_alone() -> None:
    import threading

    tuning = allcores.tune(advised.with_lock, [(threading.Lock(), n) for n in range(100)], budget=BUDGET_S)
    assert "processes" not in {each.setting.backend for each in tuning.tried}


def test_items_that_a_function_changes_stay_as_they_were() -> None:
    rows = [{"price": 10.0, "text": "two words"} for _ in range(200)]
    tuning = allcores.tune(advised.raise_price, rows, budget=4)
    assert rows == [{"price": 10.0, "text": "two words"}] * 200
    assert any("changes the item that it is called with" in reason for reason in tuning.reasons)


def test_a_function_that_keeps_its_results_has_no_verdict() -> None:
    """Each setting but the first would be measured on items that the function knows by then."""
    advised.known.cache_clear()
    tuning = allcores.tune(advised.known, range(1_000), budget=10)
    assert (tuning.verdict, tuning.kept, tuning.tried) == ("unreliable", None, ())
    assert "keeps results" in tuning.reasons[0]


def test_pools_that_cannot_be_had_do_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three workers are one too many for this machine: the others are measured, and one of them wins."""
    ready = Pools.ready

    def refused(self: Pools, setting: PoolSetting, items: Any) -> float | None:
        if setting.workers == 3:
            raise BrokenPool("The system refuses what worker processes need: no more processes.")
        return ready(self, setting, items)

    monkeypatch.setattr(Pools, "ready", refused)
    tuning = allcores.tune(advised.loop, range(1_000), budget=4)
    check_against_schema(tuning)
    assert tuning.workers != 3
    # each was tried once, and no further
    assert {each.runs for each in tuning.tried if each.setting.workers == 3} <= {1}


@pytest.mark.parametrize(("function", "words"), [(advised.fail, "ValueError: no"), (advised.end, "ends its process")])
def test_a_function_that_does_not_work_is_told(function: Any, words: str, home: Path) -> None:
    with pytest.raises(UsageError, match=words):
        allcores.tune(function, range(10), budget=2)
    assert not list(home.rglob("*.json"))


def test_a_function_that_hangs_costs_the_budget() -> None:
    tuning = allcores.tune(advised.hang, range(10), budget=2)
    assert tuning.verdict == "unreliable"
    assert "was not done after" in tuning.reasons[0]
    check_against_schema(tuning)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"items": []}, "there are no items"),
        ({"budget": 0.1}, "budget=0.1"),
        ({"fn": 3}, "cannot be called"),
        ({"total": -1}, "total=-1"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {"fn": advised.square, "items": range(3), **given}
    with pytest.raises(UsageError, match=words):
        allcores.tune(**arguments)  # type: ignore[arg-type]


# --- a kill in the middle -------------------------------------------------------------------------

PROGRAM = """
import json, sys
import allcores
from allcores.advisor.measuring import calls
from allcores.advisor.tuning import searching
from tests.process import advised

# What comes before the search is not asked for here: it may take as long as it needs, but measures little.
searching.LEAST_PROBE_S = 8.0
calls.EACH_PART /= 5

tuning = allcores.tune(advised.loop, range(int(sys.argv[1])), budget=float(sys.argv[2]))
print(json.dumps(tuning.as_dict()))
"""


#: seconds of a search that a test ends itself: so many that the busiest machine gets to its runs
LONG_S = 25.0
#: seconds in which a search goes on behind a kill, and of one that is refused or begins anew: the least there may be
REST_S, LEAST_S = 1.0, 2.0
ITEMS = 1_000


def begin(items: int = ITEMS, budget: float = LONG_S) -> subprocess.Popen[str]:
    """A process of its own that tunes."""
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(items), str(budget)],
        cwd=root,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def runs_in(journal: str) -> list[tuple[int, int, str]]:
    """(stage, round, setting) of the runs that a journal has."""
    try:
        lines, _ = lines_of(Path(journal).read_bytes())
    except FileNotFoundError:
        return []
    return [(*line["run"], json.dumps(line["setting"])) for line in lines if "run" in line]


def kill_after(process: subprocess.Popen[str], journal: str, runs: int) -> None:
    """Kill a search with SIGKILL once so many runs are in its journal."""
    wait_until(lambda: len(runs_in(journal)) >= runs or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)


def spent_in(journal: str) -> float:
    """Seconds that the searches of a journal took."""
    lines, _ = lines_of(Path(journal).read_bytes())
    return float(sum(line.get("spent", 0.0) for line in lines))


def enough_for(journal: str) -> float:
    """Seconds for a search that goes on: those that are over are part of them, and on a quick machine those are few."""
    return max(LEAST_S, spent_in(journal) + REST_S)


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a search was killed once it had measured something: each test goes on with a copy of that."""
    folder = tmp_path_factory.mktemp("killed") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLCORES_HOME", str(folder))
        kill_after(begin(), Place(advised.loop).journal, 4)
    return folder


@pytest.fixture
def killed(killed_once: Path, home: Path) -> str:
    """The journal of that search, as this test has it."""
    shutil.copytree(killed_once, home)
    return Place(advised.loop).journal


@several_cores
def test_a_search_that_was_killed_goes_on_and_measures_nothing_twice(killed: str) -> None:
    journal = killed
    first = Path(journal).read_bytes()
    done = runs_in(journal)
    assert len(done) >= 4
    kill_after(begin(), journal, len(done) + 2)
    second = Path(journal).read_bytes()
    _, whole = lines_of(first)
    assert second.startswith(first[:whole]), "what was measured is kept as it is"
    again = runs_in(journal)
    assert len(again) >= len(done) + 2
    assert len(set(again)) == len(again), "nothing is measured twice"
    process = begin(budget=enough_for(journal))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert found["resumed"] == len(again)
    assert sum(each["runs"] for each in found["tried"]) >= len(again)
    assert (found["kept"] is None) == (found["verdict"] == "unreliable")


@several_cores
def test_the_seconds_and_calls_before_a_kill_count(killed: str) -> None:
    lines, _ = lines_of(Path(killed).read_bytes())
    spent = spent_in(killed)
    assert spent > 0
    tuning = allcores.tune(advised.loop, range(ITEMS), budget=enough_for(killed))
    assert tuning.seconds > spent
    assert tuning.resumed == sum("run" in line for line in lines)
    assert tuning.calls >= sum(line.get("calls", 0) for line in lines) > 0


@several_cores
def test_another_input_is_another_search(killed: str) -> None:
    assert runs_in(killed)
    tuning = allcores.tune(advised.loop, range(ITEMS - 1), budget=LEAST_S)
    assert tuning.resumed == 0
    assert tuning.items == ITEMS - 1


@several_cores
def test_a_journal_that_was_damaged_is_gone_on_with_up_to_there(killed: str) -> None:
    data = bytearray(Path(killed).read_bytes())
    data[len(data) * 3 // 4] ^= 0xFF
    Path(killed).write_bytes(data)
    left = len(runs_in(killed))
    tuning = allcores.tune(advised.loop, range(ITEMS), budget=enough_for(killed))
    assert tuning.resumed == left


@several_cores
def test_two_at_once_are_refused_with_the_process_that_is_there() -> None:
    process = begin()
    journal = Place(advised.loop).journal
    wait_until(lambda: len(runs_in(journal)) >= 1 or process.poll() is not None)
    with pytest.raises(UsageError, match=f"process {process.pid} is tuning this function"):
        allcores.tune(advised.loop, range(ITEMS), budget=LEAST_S)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    # what it held is free again
    assert allcores.tune(advised.loop, range(ITEMS), budget=enough_for(journal)).resumed >= 1


def test_another_function_is_tuned_beside_it() -> None:
    process = begin()
    journal = Place(advised.loop).journal
    wait_until(lambda: len(runs_in(journal)) >= 1 or process.poll() is not None)
    assert allcores.tune(advised.square, range(1_000), budget=2).resumed == 0
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)


def test_a_journal_of_another_user_is_not_believed() -> None:
    place = Place(advised.square)
    place.make()
    Path(place.journal).write_text("")
    os.chmod(place.journal, 0o666)
    with pytest.raises(UsageError, match="cannot be trusted: others may write to it"):
        allcores.tune(advised.square, range(1_000), budget=2)
    assert Path(place.journal).read_text() == ""
