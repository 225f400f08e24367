"""`flask --app app allcores work`: options and exit codes of `allcores work`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from tests.process.console import console

from allcores.errors import UsageError
from allcores.jobs import AlreadySupervised
from allcores.jobs.errors import SchemaTooNew, StoreAway


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    with console(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Of signals: as they were before."""
    known = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in known.items():
        signal.signal(number, handler)


class Fake:
    """Stands for the supervisor: says how it was made and stopped, and ends by a signal or an error."""

    made: list[dict[str, Any]]
    ending: signal.Signals | Exception = signal.SIGTERM

    def __init__(self, store: Any, tasks: Any, **options: Any) -> None:
        self.store, self.registry = store, tasks
        self.stops: list[bool] = []
        self.made.append({**options, "stops": self.stops})

    def stop(self, *, now: bool) -> None:
        self.stops.append(now)

    def run(self) -> None:
        if isinstance(self.ending, Exception):
            raise self.ending
        for _ in range(2):
            signal.raise_signal(self.ending)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setattr(Fake, "made", [], raising=False)
    monkeypatch.setattr("allcores.jobs.supervisor.Supervisor", Fake)
    return Fake


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_a_second_one_at_once(
    app: flask.Flask, fake: type[Fake], monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    monkeypatch.setattr(fake, "ending", number)
    done = app.test_cli_runner().invoke(args=["allcores", "work", "--workers", "3", "--grace", "1.5"])
    assert done.exit_code == code and "runs the jobs of" in done.output
    assert fake.made == [{"workers": 3, "grace": 1.5, "stops": [False, True]}]


def test_its_defaults_are_those_of_allcores_work(app: flask.Flask, fake: type[Fake]) -> None:
    app.test_cli_runner().invoke(args=["allcores", "work"])
    assert fake.made == [{"workers": None, "grace": 10.0, "stops": [False, True]}]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AlreadySupervised("process 7 is the supervisor of the store"), 6),
        (StoreAway("the server cannot be reached"), 4),
        (SchemaTooNew("a newer allcores made the store", found=9, known=1), 2),
        (UsageError("no tasks"), 2),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    app: flask.Flask, fake: type[Fake], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    monkeypatch.setattr(fake, "ending", error)
    done = app.test_cli_runner().invoke(args=["allcores", "work"])
    assert done.exit_code == code and f"Error: {error}\n" in done.output and "Traceback" not in done.output


@pytest.mark.parametrize("words", [["--grace", "nan"], ["--grace", "inf"], ["--grace", "-1"], ["--workers", "0"]])
def test_options_that_make_no_sense_are_refused(app: flask.Flask, fake: type[Fake], words: list[str]) -> None:
    done = app.test_cli_runner().invoke(args=["allcores", "work", *words])
    assert done.exit_code == 2 and words[0] in done.output and not fake.made
