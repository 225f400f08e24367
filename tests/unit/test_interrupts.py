"""Ctrl-C, once or twice, at any place of a command: a sentence and 130, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from allcores import Pool
from allcores.cli import runner
from allcores.cli.main import main
from allcores.cli.recorder import Recorder
from allcores.errors import BrokenPool, InternalError
from allcores.runs.run import without_journal
from allcores.runs.session import RunSession
from allcores.runs.spec import RunHooks, RunSpec
from allcores.sinks.open import sink_of


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setitem(sys.modules, "interrupted_work", sys)
    monkeypatch.delitem(sys.modules, "interrupted_work")
    (tmp_path / "interrupted_work.py").write_text("def call(item):\n    return item\n")
    (tmp_path / "in.txt").write_text("line\n")
    handler = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield tmp_path
    signal.signal(signal.SIGINT, handler)


def twice() -> None:
    """The user is in a hurry."""
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def raising(error: Callable[[], BaseException]) -> Callable[..., Any]:
    """Code that makes an error of its own of what interrupts it."""

    def act(*_: Any, **__: Any) -> Any:
        try:
            twice()
        except BaseException as found:
            raise error() from found

    return act


PLACES: list[tuple[Any, str, Callable[..., Any]]] = [
    (runner, "resolve_both", lambda *_: twice()),
    (runner, "Recorder", lambda *_, **__: twice()),
    (Recorder, "keep", lambda *_: twice()),
    (RunSession, "_open", lambda *_: twice()),
    (RunSession, "_publish", lambda *_: twice()),
    (RunSession, "_publish", raising(lambda: InternalError("a mistake; please report it"))),
    (runner.Runner, "pool_of", raising(lambda: BrokenPool("no workers"))),
    (runner.Runner, "summary", lambda *_: twice()),
    (runner, "Recorder", raising(lambda: RuntimeError("made of it"))),
]


@pytest.mark.parametrize(("owner", "name", "act"), PLACES, ids=range(len(PLACES)))
def test_twice(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    owner: Any,
    name: str,
    act: Callable[..., Any],
) -> None:
    """Wherever the second one meets the command."""
    monkeypatch.setattr(owner, name, act)
    code = main(["run", "interrupted_work.py:call", "in.txt", "-o", "o.jsonl", "--backend", "serial", "--no-progress"])
    shown = capfd.readouterr().err
    assert code == 130, shown
    assert "Traceback" not in shown and "report" not in shown
    assert "allcores: interrupted" in shown or "allcores: stopped" in shown


@pytest.mark.parametrize("output", ["o.jsonl", "o.csv"])
def test_once_without_a_journal(capfd: pytest.CaptureFixture[str], output: str) -> None:
    """What cannot be gone on with is not written half: the output is as it was before."""
    Path("in.txt").write_text("1\n2\n3\n")
    Path(output).write_text("before")
    Path("interrupted_work.py").write_text(
        "import signal\n"
        "def call(item):\n"
        "    if item == '1':\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    return {'n': item}\n"
    )
    words = ("-o", output, "--backend", "serial", "--chunk", "1", "--no-progress", "--no-journal")
    code = main(["run", "interrupted_work.py:call", "in.txt", *words])
    shown = capfd.readouterr().err
    assert code == 130 and "Traceback" not in shown, shown
    assert Path(output).read_text() == "before" and f"{output} is not written" in shown


class Stopped(RunHooks):
    """It was asked to end, and has read so many items."""

    def __init__(self, items: int) -> None:
        self._items = items

    @property
    def stopped(self) -> bool:
        return True

    def guarded(self, items: Iterable[Any]) -> Iterator[Any]:
        return islice(items, self._items)


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.db", "o/"])
def test_all_that_was_done_by_then_is_written(name: str) -> None:
    """When it was asked to end there was nothing left to do."""
    with Pool(backend="serial") as pool:
        for items, output in ((2, None), (4, name.rstrip("/"))):
            work = RunSpec(str.upper if name == "o/" else _row, ["a", "b", "c"], sink_of(name))
            assert without_journal(pool, work, Stopped(items)).output == output
            assert os.path.exists(name) == (output is not None)


def _row(text: str) -> dict[str, str]:
    return {"text": text}


def test_before_anything_is_imported(tmp_path: Path) -> None:
    """While the command's own modules are imported, and once more while that is told of."""
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n")
    found = subprocess.run(
        [sys.executable, "-m", "allcores", "doctor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (130, "allcores: interrupted\n")
