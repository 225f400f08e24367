"""The advisor against functions whose answer is known. What is asserted are kinds and counts, not speeds.

The machine may be busy, and then the verdict is "unreliable": so a test says what may not be said.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from tests.cores import several_cores
from tests.installed import needed
from tests.process import advised
from tests.process.waiting import Bell, Gate

import allcores
from allcores import UsageError
from allcores.advisor import advice as advice_file
from allcores.advisor import confirm as confirm_file
from allcores.advisor import library_way, page
from allcores.advisor.advise import advise_named
from allcores.advisor.core_seconds import recorded_run
from allcores.advisor.measuring import calls, trials
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model.code import Names
from allcores.advisor.model.decision import Setting
from allcores.advisor.model.probes import Machine, Probes, Timing
from allcores.advisor.probing import Probing
from allcores.advisor.text import setting_text
from allcores.cli import measured
from allcores.cli.advise import command
from allcores.cli.exits import CommandError
from allcores.system import procfs

BUDGET_S = 2.5
#: with `few_calls`: more than a busy machine needs, of which a quiet one uses little
AMPLE_S = 10.0

pytestmark = pytest.mark.slow


def names(advice: allcores.Advice) -> set[str]:
    return {pitfall.name for pitfall in advice.pitfalls}


def check_against_schema(advice: allcores.Advice) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(Path(advice_file.__file__).with_name("advice.schema.json").read_text())
    found = json.loads(json.dumps(advice.as_dict(), allow_nan=False))
    jsonschema.Draft202012Validator(schema).validate(found)


@contextlib.contextmanager
def few_calls(rounds: int) -> Iterator[None]:
    """As many items in each measurement as a quarter of `AMPLE_S` would give, and at most so many rounds.

    So what is measured does not take longer than with a small budget, and a busy machine comes to all of it in time.
    """
    block = confirm_file._block
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "EACH_PART", calls.EACH_PART / 4)
        patch.setattr(confirm_file, "MOST_ROUNDS", rounds)
        patch.setattr(
            confirm_file,
            "_block",
            lambda sample, probes, settings, left_s: block(sample, probes, settings, min(left_s, 1.0)),
        )
        yield


@pytest.fixture
def briefly() -> Iterator[None]:
    """For tests that do not assert how sure a verdict is: of the rounds, one."""
    with few_calls(rounds=1):
        yield


@pytest.fixture(scope="module")
def of_a_loop() -> allcores.Advice:
    """On the function that holds the interpreter's lock."""
    with few_calls(rounds=7):
        return allcores.advise(advised.loop, range(3_000), budget=AMPLE_S)


@pytest.fixture(scope="module")
def of_long_lists() -> allcores.Advice:
    """On the function whose results are large."""
    with few_calls(rounds=7):
        return allcores.advise(advised.long_list, range(500), budget=AMPLE_S)


@several_cores
def test_a_loop_in_python_is_not_for_threads(of_a_loop: allcores.Advice) -> None:
    advice = of_a_loop
    assert advice.verdict != "serial"
    assert advice.decision is not None
    assert advice.decision.kind == "python"
    assert "threads" in advice.decision.impossible
    assert advice.probes is not None
    assert advice.probes.late_s is not None
    assert advice.probes.late_s > 0.002
    check_against_schema(advice)
    if advice.verdict == "parallel":
        assert advice.recommendation.pattern == "processes"
        assert "with allcores.Pool(workers=" in advice.code


@pytest.mark.parametrize(
    "setting",
    [
        Setting("processes", 2, chunk=8),
        Setting("processes", 3, preload=True),
        Setting("threads", 2),
    ],
    ids=str,
)
def test_recorded_seconds_of_workers_add_up(setting: Setting) -> None:
    recorded = recorded_run(advised.loop, list(range(200)), setting, None)
    assert (recorded.workers, recorded.items) == (setting.workers, 200)
    total = sum(use.seconds for use in recorded.uses)
    assert total == pytest.approx(setting.workers * recorded.seconds, rel=0.02)
    assert {use.key for use in recorded.uses} >= {"function"} | ({"start"} if setting.pattern == "processes" else set())


def measured_like(item_s: float) -> Probes:
    """Of a function that takes so many seconds, before anything else was measured."""
    return Probes(items=100, timing=Timing(3, item_s, item_s), machine=Machine(2))


def confirmed_once(advice: allcores.Advice, sample: Sample, left_s: float, **changes: Any) -> confirm_file.Confirmation:
    """One round of processes against the loop; `changes` of what was measured of the function."""
    probes, decision = advice.probes, advice.decision
    assert probes is not None
    assert decision is not None
    first = next(each for each in decision.predictions if each.setting.pattern == "processes")
    with allcores.Pool(2) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(confirm_file, "MOST_ROUNDS", 1)
        return confirm_file.confirm(
            advised.loop,
            sample,
            replace(probes, **changes),
            [first],
            pools={False: pool},
            shared=None,
            left=lambda: left_s,
        )


@several_cores
def test_the_first_choice_is_recorded_and_shown(of_a_loop: allcores.Advice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm_file, "_block", lambda *_: 40)
    sample = Sample(range(3_000))
    recorded = confirmed_once(of_a_loop, sample, 1e9).core_seconds
    assert recorded is not None
    assert recorded.items == 40
    assert sum(sample.calls.values()) == 3 * 40, "the loop, the workers, and the recorded run"
    advice = replace(of_a_loop, core_seconds=recorded)
    assert f"Recorded: {recorded.workers} workers x " in str(advice)
    assert "Workers, recorded" in page.as_html(advice)
    check_against_schema(advice)


@several_cores
def test_a_verdict_is_worth_more_than_a_record(of_a_loop: allcores.Advice) -> None:
    """Where workers take long to start, the seconds that are left are for the rounds."""
    found = confirmed_once(of_a_loop, Sample(range(3_000)), 4.0, start_s=3.0)
    assert found.hindered is None
    assert [len(ratios) for ratios in found.ratios.values()] == [1]
    assert found.core_seconds is None


def an_encode() -> Any:
    needed("tokenizers")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    return Tokenizer(WordLevel({"a": 0, "?": 1}, unk_token="?")).encode


TEXTS = [f"{'a ' * 2_000}{number}" for number in range(100)]


def test_a_librarys_own_way_that_was_not_measured_is_told(monkeypatch: pytest.MonkeyPatch, briefly: None) -> None:
    monkeypatch.setattr(library_way, "measure", lambda *_: None)
    advice = allcores.advise(an_encode(), TEXTS, budget=AMPLE_S)
    assert advice.library is None
    assert any(reason.startswith("tokenizers' encode_batch was not measured") for reason in advice.reasons)


@several_cores
def test_a_librarys_own_way_is_measured(briefly: None) -> None:
    advice = allcores.advise(an_encode(), TEXTS, budget=AMPLE_S)
    if advice.library is None:  # on a machine that others use
        assert any(reason.startswith("tokenizers' encode_batch was not measured") for reason in advice.reasons)
        return
    assert advice.library.whole
    assert advice.library.cores == 2 or advice.library.cores == allcores.core_budget().workers
    assert ".encode_batch(items)" in advice.library.code
    assert any(reason.startswith("tokenizers' encode_batch on ") for reason in advice.reasons)
    if advice.recommendation.pattern == "library" and advice.recommendation.workers > 1:
        assert "encode_batch(items)" in advice.code
        assert "import allcores" not in advice.code
    check_against_schema(advice)


@several_cores
def test_too_little_work_stays_in_the_loop() -> None:
    advice = allcores.advise(advised.square, range(100_000), budget=BUDGET_S)
    assert advice.verdict == "serial"
    assert advice.recommendation.pattern == "serial"
    # Where all cores are others' no number of items pays.
    assert advice.needed is None or advice.needed.startswith(("it pays from", "it would pay"))
    assert "too small items" in names(advice)
    assert "for item in items" in advice.code
    check_against_schema(advice)


def test_few_items_are_told_how_many_it_takes() -> None:
    advice = allcores.advise(advised.loop, range(4), budget=BUDGET_S)
    assert advice.verdict != "parallel"
    if advice.verdict == "serial":
        # Where all cores are others' no number of items pays.
        assert advice.needed is None or "there are 4" in advice.needed
    assert advice.probes is not None
    assert advice.probes.processes == (), "four items are no trial of what workers do to each other"
    assert advice.probes.travel.way_in_s < 1e-4, "nor of how long a number is on its way"


def test_a_short_input_of_quick_items_has_their_seconds() -> None:
    """There are fewer of them than time; what they took was divided by as many as there was time for."""
    with contextlib.closing(Probing(advised.briefly, Sample(range(30)), began=perf_counter(), budget=10.0)) as probing:
        probes = probing.run()
    assert probes.timing.wall_s > advised.BRIEFLY_S / 2
    assert probes.timing.items == 90


def test_who_waits_gets_threads() -> None:
    advice = allcores.advise(advised.wait_long, range(200), budget=BUDGET_S)
    assert advice.decision is not None
    assert advice.decision.kind == "waiting"
    # Threads that come to their turn late, for the cores are others', differ too much to tell.
    assert advice.verdict in ("parallel", "unreliable")
    assert advice.recommendation.pattern == "threads"
    assert advice.recommendation.workers > 2
    assert "time.sleep" in names(advice)
    assert 'backend="threads"' in advice.code


def test_who_releases_the_lock_lets_others_run(of_a_loop: allcores.Advice, briefly: None) -> None:
    advice = allcores.advise(advised.digest, range(1_000), budget=AMPLE_S)
    assert advice.probes is not None
    assert advice.probes.late_s is not None
    held = of_a_loop.probes
    assert held is not None
    assert held.late_s is not None
    assert advice.probes.late_s < held.late_s


@several_cores
def test_the_memory_of_workers_is_predicted(briefly: None, tmp_path: Path) -> None:
    """Within 15 % of what the program, the workers and what starts them take at their largest."""
    advice = allcores.advise(advised.hold, range(60), budget=AMPLE_S)
    predicted = advice.memory
    if predicted is None:
        pytest.skip("the system does not tell")
    assert predicted.worker > advised.HELD_BYTES
    assert "Memory of 2 processes at its largest" in str(advice)
    check_against_schema(advice)
    with (
        Bell(tmp_path / "bell") as bell,
        Gate(tmp_path / "gate") as gate,
        allcores.Pool(predicted.workers) as pool,
    ):
        # All of them hold theirs at once while it is looked at, which calls that only happen to overlap seldom do.
        held = [pool.submit(advised.hold_there, bell.path, gate.path) for _ in range(predicted.workers)]
        workers = set(bell.pids(predicted.workers))
        pids = {os.getpid(), *workers, *(procfs.parent(pid) for pid in workers)}
        largest = sum(procfs.proportional_bytes(pid) or 0 for pid in pids if pid is not None)
        gate.open()
        assert [each.result() for each in held] == [advised.HELD_BYTES] * predicted.workers
    assert predicted.peak == pytest.approx(largest, rel=0.15)


def test_a_load_is_seen(briefly: None) -> None:
    advised._loaded = None
    advice = allcores.advise(advised.first_is_slow, range(5_000), budget=AMPLE_S)
    assert advice.probes is not None
    assert advice.probes.timing.first_s > 0.1
    assert advice.probes.timing.dropped_s == 0  # results are small
    assert advice.probes.start_s > 0.25
    assert "a load in every worker" in names(advice)


def test_large_results_are_named(of_long_lists: allcores.Advice) -> None:
    advice = of_long_lists
    assert "results larger than inputs" in names(advice)
    assert advice.probes is not None
    assert advice.probes.timing.dropped_s > 0  # nobody kept the results of some calls
    assert advice.verdict != "parallel" or advice.recommendation.pattern != "threads"


def test_what_is_in_every_item_is_named(briefly: None) -> None:
    common = bytes(1 << 20)
    advice = allcores.advise(advised.with_common, [(common, number) for number in range(1_000)], budget=AMPLE_S)
    assert "huge argument in every item" in names(advice)
    assert all(each.setting.share for each in advice.patterns if each.setting.pattern == "processes")


def test_random_numbers_are_noticed(briefly: None) -> None:
    with pytest.warns(RuntimeWarning, match="gives other results for the same item"):
        advice = allcores.advise(advised.draw, range(100), budget=AMPLE_S)
    assert "unseeded random numbers" in names(advice)


def test_what_cannot_travel_is_named_before_a_worker_starts() -> None:
    advice = allcores.advise(advised.with_lock, [(threading.Lock(), number) for number in range(100)], budget=BUDGET_S)
    assert advice.verdict != "parallel" or advice.recommendation.pattern == "threads"
    assert advice.decision is not None
    assert "[0]" in advice.decision.impossible["processes"]
    assert "cannot be pickled" in names(advice)


@several_cores
def test_a_lambda_is_advised_and_named(briefly: None) -> None:
    advice = allcores.advise(lambda number: advised.loop(number), range(500), budget=AMPLE_S)
    assert "lambda or nested function" in names(advice)
    assert advice.decision is not None
    assert "processes" not in advice.decision.impossible


@pytest.mark.parametrize("count", [1, 2])
def test_one_item_that_may_be_called_once_has_its_seconds(count: int) -> None:
    advice = allcores.advise(advised.wait_long, range(count), budget=BUDGET_S, repeat=False)
    assert advice.verdict != "parallel"
    assert advice.calls == count
    assert advice.probes is not None
    assert advice.probes.timing.wall_s >= 0.05
    check_against_schema(advice)


def test_an_item_that_takes_nothing_is_not_taken_for_one_that_is_known(briefly: None) -> None:
    """Of numbers from zero on, say; what is kept for items that were called is noticed all the same."""
    advice = allcores.advise(advised.count_up, range(2_000), budget=AMPLE_S)
    assert "remembers results" not in names(advice)
    advised.known.cache_clear()
    advice = allcores.advise(advised.known, range(2_000), budget=AMPLE_S)
    assert "remembers results" in names(advice)


@pytest.mark.parametrize("repeat", [True, False])
@pytest.mark.parametrize("function", [advised.raise_price, advised.take_text, lambda row: advised.raise_price(row)])
def test_items_that_a_function_changes_stay_as_they_were(function: Any, repeat: bool, briefly: None) -> None:
    """Those of the program; and each call is of an item as it was, so that none fails for what another one did."""
    rows = [{"price": 10.0, "text": "two words"} for _ in range(400)]
    advice = allcores.advise(function, rows, budget=AMPLE_S, repeat=repeat)
    assert rows == [{"price": 10.0, "text": "two words"}] * 400
    assert "changes its items" in names(advice)
    assert advice.probes is not None
    assert advice.probes.traits.failed == 0
    assert advice.probes.traits.differs in (False, None)
    check_against_schema(advice)


def test_items_that_cannot_travel_and_are_changed_are_not_noticed_but_called(briefly: None) -> None:
    rows = [[threading.Lock(), number] for number in range(50)]
    advice = allcores.advise(advised.lock_away, rows, budget=BUDGET_S)
    assert advice.decision is not None
    assert "processes" in advice.decision.impossible


def test_no_repeat_calls_no_item_twice(tmp_path: Path, briefly: None) -> None:
    file = tmp_path / "calls"
    with pytest.warns(RuntimeWarning, match="none of them twice"):
        advice = allcores.advise(advised.append, advised.items_of(file, 800), budget=AMPLE_S, repeat=False)
    calls = Counter(file.read_text().split())
    assert max(calls.values()) == 1
    assert 0 < calls.total() <= advice.calls  # more, where a trial was cut short
    assert "side effects" in names(advice)


def test_effects_are_told_before_there_are_many_and_calls_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, briefly: None
) -> None:
    file = tmp_path / "calls"
    called_before: list[int] = []

    def note(message: Warning | str, *_: object, **__: object) -> None:
        assert f"the function writes to {file}. It is called on many items from here on" in str(message)
        called_before.append(len(file.read_text().split()))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", note)
        advice = allcores.advise(advised.append, advised.items_of(file, 300), budget=AMPLE_S)
    assert called_before == [2], "it is told while there is time to end it"
    calls = Counter(map(int, file.read_text().split()))
    assert 0 < calls.total() <= advice.calls
    called = {index for first, last in advice.called_on for index in range(first, last + 1)}
    assert called <= set(calls)


def test_a_function_that_hangs_costs_the_budget() -> None:
    advice = allcores.advise(advised.hang, range(10), budget=2)
    assert advice.verdict == "unreliable"
    assert "item 0, called twice, was not done after" in advice.reasons[0]
    assert "2 times on item 0," in str(advice)
    check_against_schema(advice)


def test_items_of_very_different_cost_do_not_exceed_the_budget() -> None:
    """The first one is empty, and says nothing of the others: by its time, hundreds of them would be called."""
    advice = allcores.advise(advised.compute, [0.0] + [0.5] * 300, budget=2)
    assert advice.calls < 50
    check_against_schema(advice)


def test_no_measurement_is_begun_that_the_time_is_not_enough_for() -> None:
    """Of an item of which one takes more than what is left."""
    given = calls.Calls(abs, Sample(range(100)), perf_counter() - 8.0, 10.0)
    given.item_s = 1.0
    assert not given.fits(1)
    given.item_s = 0.1
    assert given.fits(2) and not given.fits(30)
    with allcores.Pool(2) as pool:
        given.item_s = 1.0
        assert trials.of_processes(given, pool, measured_like(1.0), None) is None
    assert not given.sample.calls


def test_a_function_that_takes_long_to_be_imported_says_so() -> None:
    """Not that its first item takes long: in a worker, and where the command has imported it."""
    advice = allcores.advise(advised.ImportedForEver(), range(10), budget=5)
    assert advice.verdict == "unreliable"
    assert "a worker was not done with importing the function after" in advice.reasons[0]
    told: list[str] = []
    late = advise_named(
        abs,
        range(10),
        Names("abs"),
        "abs",
        began=perf_counter() - 9,
        budget=10,
        repeat=True,
        total=10,
        tell=told.append,
    )
    assert late.verdict == "unreliable"
    assert "importing the function took 9.0" in late.reasons[0]


@pytest.mark.parametrize(("function", "words"), [(advised.fail, "ValueError: no"), (advised.end, "ends its process")])
def test_a_function_that_does_not_work_is_told(function: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        allcores.advise(function, range(10), budget=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("item", [1, threading.Lock()], ids=["in a worker", "here"])
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda item: advised.fetch(item), "returns a coroutine, .* with asyncio.run"),
        (lambda item: advised.rows(item), "returns a generator, .* returns a list of what it yields"),
    ],
)
def test_a_function_that_returns_what_computes_later_is_refused(function: Any, words: str, item: Any) -> None:
    """It does nothing by itself, and would be measured as that."""
    with pytest.raises(UsageError, match=words):
        allcores.advise(function, [item] * 5, budget=2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"items": []}, "there are no items"),
        ({"budget": 0.1}, "budget=0.1"),
        ({"fn": 3}, "cannot be called"),
        ({"budget": "5"}, "budget='5'"),
        ({"budget": None}, "budget=None"),
        ({"total": -1}, "total=-1"),
        ({"total": 2.5}, "total=2.5"),
        ({"total": "9"}, "total='9'"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {"fn": advised.square, "items": range(3), **given}
    with pytest.raises(UsageError, match=words):
        allcores.advise(**arguments)  # type: ignore[arg-type]


def test_an_input_without_a_length_is_read_in_part(briefly: None) -> None:
    advice = allcores.advise(advised.square, iter(range(10_000)), budget=AMPLE_S)
    assert advice.probes is not None
    assert advice.probes.items == 10_000


@several_cores
def test_its_page_loads_nothing(of_long_lists: allcores.Advice, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    advice = of_long_lists
    page = tmp_path / "advice.html"
    advice.save_html(page)
    text = page.read_text()
    assert "<script" not in text
    assert "http://" not in text and "https://" not in text
    assert "prefers-color-scheme: dark" in text
    for title in ("Predicted and measured", "One call in a worker", "The workers’ time", "What if", "The code"):
        assert f">{title}</h2>" in text
    assert "compact results" in text
    assert len(text) < 500_000
    with pytest.raises(UsageError, match="cannot be written"):
        advice.save_html(tmp_path / "nowhere" / "advice.html")


@several_cores
@pytest.mark.leaks_allowed  # Matplotlib keeps its fonts open
def test_its_picture(of_a_loop: allcores.Advice, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from allcores.advisor import picture

    # With a record of the workers, for which the advice may have had no time.
    recorded = recorded_run(advised.loop, list(range(60)), Setting("processes", 2, chunk=8), None)
    advice = replace(of_a_loop, core_seconds=recorded)
    figure = picture.as_figure(advice)
    speedups, *bars = figure.axes
    assert figure.get_suptitle().startswith("loop: ")
    assert [label.get_text() for label in speedups.get_yticklabels()] == [
        setting_text(each.setting) for each in advice.patterns
    ]
    titles = [
        "One call in a worker: ",
        "The workers' time, predicted, 2 processes",
        "The workers' time, recorded over ",
    ]
    for bar, beginning in zip(bars, titles, strict=True):
        assert bar.get_title(loc="left").startswith(beginning)
        assert sum(part.get_width() for part in bar.patches) == pytest.approx(100, abs=1)
        assert len(bar.get_legend().get_texts()) == len(bar.patches)
    drawn = tmp_path / "advice.png"
    advice.save_png(drawn)
    data = drawn.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == 1200
    with pytest.raises(UsageError, match="cannot be written"):
        advice.save_png(tmp_path / "nowhere" / "advice.png")


@pytest.mark.parametrize(("library", "check"), [("jinja2", "check_page"), ("matplotlib", "check_picture")])
def test_what_draws_is_not_there_while_the_function_is_measured(
    library: str, check: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its memory and its threads would be told as those of the program."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    monkeypatch.delitem(sys.modules, library, raising=False)
    getattr(measured, check)(str(tmp_path / "file"))
    assert library not in sys.modules


def test_without_matplotlib_the_command_says_so_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CommandError, match=r"pip install 'allcores\[picture\]'"):
        command.main(["json:dumps", "nothing.txt", "--png", str(tmp_path / "a.png")], standalone_mode=False)


def test_its_text_has_all_of_it() -> None:
    advice = allcores.advise(advised.square, range(1_000), budget=BUDGET_S)
    text = str(advice)
    assert text.startswith("square: Don't")
    assert f"{advice.calls:,} times" in text
    assert "results = [square(item) for item in items]" in text


def test_the_start_of_threads_is_measured() -> None:
    """Of a whole pool, which has ended then."""
    before = set(threading.enumerate())
    first_s, each_s = trials.start_of_threads([2, 8])
    assert first_s > 0 and each_s >= 0
    assert trials.start_of_threads([2])[1] == 0
    assert set(threading.enumerate()) == before
