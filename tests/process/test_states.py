"""Outcomes that depend on what came before: killed anywhere and resumed, the output is that of an undisturbed run."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.process import in_order
from tests.process.in_order import InOrder, run, wanted
from tests.process.journals import journal
from tests.process.waiting import PATIENCE_S
from tests.process.warm import Interpreter

import allcores
from allcores import failpoints
from allcores.failpoints import RUN
from allcores.runs import directory, remaining
from allcores.runs.index import RunIndex
from allcores.runs.rows import set_columns
from allcores.runs.states import read_state, states

ITEMS = 300


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(ITEMS)))
    return tmp_path


def output() -> str:
    return Path("out.jsonl").read_text()


def catalogue() -> RunIndex:
    (known,) = directory.known_runs(str(Path("runs").resolve()))
    return RunIndex(known.folder, writable=True)


class Ended(Exception):
    """What ends a session of these tests."""


def ending_at(item: int) -> Callable[[int], None]:
    def pause(number: int) -> None:
        if number >= item:
            raise Ended

    return pause


@pytest.mark.parametrize("point", [each for each in RUN if each not in ("folder.made", "catalogue.made")])
def test_killed_at_a_moment_and_resumed(warm: Interpreter, here: Path, point: str) -> None:
    """Whatever was on its way to the disk; and no item is run again that a state covers."""
    shutil.copy(Path(in_order.__file__), here)
    often = point.startswith(("log.", "commit."))
    told = {"kill": [point, 8 if often else 0]}
    done = warm.script(here / "in_order.py", json.dumps(told), folder=here)
    assert done.code == -signal.SIGKILL, f"{point} was never passed: {done.err}"
    pool = InOrder()
    result = run(pool, journal())
    assert output() == wanted(ITEMS)
    assert pool.given == list(range(result.resumed, ITEMS))
    assert result.resumed > 0 or point.startswith("checkpoint")
    assert (result.ok, result.failed) == (ITEMS - 1, 1)


@pytest.mark.parametrize("kind", ["file", "list", "once"])
@settings(max_examples=25)
@given(ends=st.lists(st.integers(0, 60), max_size=5), every=st.integers(1, 9), base=st.sampled_from([3, 200_000]))
def test_sessions_that_end_anywhere(
    tmp_path_factory: pytest.TempPathFactory, kind: str, ends: list[int], every: int, base: int
) -> None:
    """Any number of them, each of which settles a little more; with an input of any kind."""
    here = tmp_path_factory.mktemp("here")
    before = os.getcwd()
    os.chdir(here)
    names = [str(n) for n in range(60)]
    Path("in.txt").write_text("\n".join(names))
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(remaining, "BASE_ITEMS", base)
            for end in [*ends, 100]:
                source: Any = {"file": "in.txt", "list": names, "once": iter(names)}[kind]
                pool = InOrder(every, pause=ending_at(end))
                try:
                    result = run(pool, journal(), source)
                except Ended:
                    assert not Path("out.jsonl").exists()
                else:
                    assert output() == wanted(60)
                    assert pool.given == list(range(result.resumed, 60))
            # It is complete, so nothing runs again, but the input is looked at.
            pool = InOrder(every)
            assert run(pool, journal(), {"file": "in.txt", "list": names, "once": iter(names)}[kind]).resumed == 60
            assert not pool.given and output() == wanted(60)
            with pytest.raises(allcores.RunChanged):
                other = {"list": ["x", *names[1:]], "once": iter([*names, "60"]), "file": "in.txt"}[kind]
                Path("in.txt").write_text("\n".join([*names, "60"]))
                run(InOrder(every), journal(), other)
    finally:
        os.chdir(before)


def test_a_commit_that_is_lost_takes_its_state_along(here: Path) -> None:
    """They are one: what is settled and not covered by a state runs again, and never the other way round."""
    for lost in (4, 6, 9):
        passed = itertools.count()
        committed, full = threading.Event(), threading.Event()

        def hook(
            name: str,
            lost: int = lost,
            passed: Iterator[int] = passed,
            committed: threading.Event = committed,
            full: threading.Event = full,
        ) -> None:
            if name == "commit.before" and next(passed) == lost:
                full.set()
                committed.set()
                raise OSError(28, "No space left on device")
            if name == "commit.after":
                committed.set()

        def pause(number: int, committed: threading.Event = committed, full: threading.Event = full) -> None:
            if number % 20 == 0 and not full.is_set():
                committed.clear()
            elif number % 20 == 19:
                assert committed.wait(PATIENCE_S)

        failpoints.install(hook)
        try:
            with pytest.raises(allcores.JournalError, match="No space left"):
                run(InOrder(pause=pause), journal(commit_items=5, commit_s=60))
        finally:
            failpoints.install(None)
        run_index = catalogue()
        place = states(run_index)[-1] if states(run_index) else 0
        assert place <= run_index.run_row().settled
        run_index.close()
    run(InOrder(), journal())
    assert output() == wanted(ITEMS)


def test_what_failed_is_tried_again_from_the_state_before_it(here: Path) -> None:
    """That one is kept, and all that comes behind it runs again: it may depend on it."""
    run(InOrder(), journal(commit_items=5))
    assert output() == wanted(ITEMS)
    run_index = catalogue()
    assert states(run_index) == [42, 294]
    assert [row.slot for row in run_index.failures()] == [45]
    run_index.close()
    Path("mended").touch()
    pool = InOrder()
    result = run(pool, journal(retry_failed=True))
    assert result.resumed == 42 and pool.given == list(range(42, ITEMS))
    assert (result.ok, result.failed) == (ITEMS, 0)
    assert output() == wanted(ITEMS, mended=True)
    pool = InOrder()
    assert run(pool, journal(retry_failed=True)).resumed == ITEMS and not pool.given


def test_few_states_are_kept(here: Path) -> None:
    """Of what grows, what was added each time; of the rest one row."""
    Path("mended").touch()
    run(InOrder(3), journal(commit_items=5))
    run_index = catalogue()
    assert len(states(run_index)) == 1
    assert run_index.rows("SELECT count(*) FROM states WHERE part = 0") == [(1,)]
    # Twenty different ones were seen within the first twenty items, three at a time.
    assert run_index.rows("SELECT count(*) FROM states WHERE part = 1") == [(7,)]
    found = read_state(run_index, 297)
    assert found is not None and len(found[1]) == 7
    run_index.close()


@pytest.mark.parametrize("which", ["part = 0", "part = 1 AND items = 9", "part = -1", "1"])
@pytest.mark.parametrize("how", ["UPDATE states SET content = 'x' WHERE", "DELETE FROM states WHERE"])
def test_a_damaged_state_is_not_used(here: Path, which: str, how: str) -> None:
    """Then it goes on behind an earlier one, or from the start."""
    with pytest.raises(Ended):
        run(InOrder(3, pause=ending_at(200)), journal(commit_items=5))
    run_index = catalogue()
    with run_index.transaction() as db:
        db.execute(f"{how} {which}")
    run_index.close()
    pool = InOrder(3)
    assert run(pool, journal()).resumed in (0, 45)
    assert output() == wanted(ITEMS)


def test_a_damaged_record_is_found_at_the_end_and_made_anew(here: Path) -> None:
    """All that comes behind it as well, for it depends on it."""
    with pytest.raises(Ended):
        run(InOrder(3, pause=ending_at(200)), journal(commit_items=5))
    (log,) = Path("runs").glob("*/outcomes.log")
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    pool = InOrder(3)
    result = run(pool, journal())
    assert output() == wanted(ITEMS)
    assert (result.ok, result.failed) == (ITEMS - 1, 1)


def test_enough_is_enough(here: Path) -> None:
    """Input that was not needed is not read when the run is looked at again, and may grow."""
    result = run(InOrder(enough=50), journal())
    assert output() == wanted(50) and result.items == 50
    with open("in.txt", "a") as file:
        file.write("300\n")
    pool = InOrder(enough=50)
    assert run(pool, journal()).resumed == 50 and not pool.given
    assert output() == wanted(50)


def test_an_input_that_has_grown(here: Path) -> None:
    """Refused; if that is accepted, it goes on behind the last state, and what came at the end before is made anew."""
    run(InOrder(), journal())
    with open("in.txt", "a") as file:
        file.write("300\n301\n")
    with pytest.raises(allcores.RunChanged, match="has grown"):
        run(InOrder(), journal())
    pool = InOrder()
    result = run(pool, journal(accept_changes=True))
    assert result.resumed == 294 and pool.given == list(range(294, ITEMS + 2))
    assert output() == wanted(ITEMS + 2)


def test_a_key_is_refused(here: Path) -> None:
    """An item that is found again elsewhere would have other items before it."""
    with pytest.raises(allcores.UsageError, match="depends on the items before it"):
        run(InOrder(), journal(key="n"))


@pytest.mark.parametrize(("number", "readable"), [(1, False), (2, True), (4, False)])
def test_a_journal_of_another_layout(here: Path, number: int, readable: bool) -> None:
    """The one before had no states, and is gone on with; any other is refused as such, and not as damaged."""

    def double(item: str) -> int:
        return 2 * int(item)

    with allcores.Pool(backend="serial") as pool:
        first = pool.run(double, "in.txt", "out.jsonl", journal=journal(resume=False))
        wanted_text = output()
        Path("out.jsonl").unlink()
        run_index = catalogue()
        with run_index.transaction() as db:
            db.execute("DROP TABLE states")
            set_columns(db, format=number)
        run_index.close()
        if not readable:
            with pytest.raises(allcores.JournalError, match="another version"):
                pool.run(double, "in.txt", "out.jsonl", journal=journal(resume=first.id))
            return
        assert [known.name for known in directory.known_runs(str(Path("runs").resolve()))] == [first.id]
        assert pool.run(double, "in.txt", "out.jsonl", journal=journal()).resumed == ITEMS
    assert output() == wanted_text
    run_index = catalogue()
    assert run_index.rows("SELECT format FROM run") == [(3,)]
    run_index.close()
