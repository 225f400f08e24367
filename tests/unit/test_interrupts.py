"""Ctrl-C, once or twice, at any place of a command: a sentence and 130, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from allcores.cli import runner
from allcores.cli.main import main
from allcores.cli.recorder import Recorder
from allcores.errors import BrokenPool, InternalError
from allcores.runs.session import RunSession


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


def test_before_anything_is_imported(tmp_path: Path) -> None:
    """While the command's own modules are imported, and once more while that is told of."""
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n")
    found = subprocess.run(
        [sys.executable, "-m", "allcores", "doctor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (130, "allcores: interrupted\n")
