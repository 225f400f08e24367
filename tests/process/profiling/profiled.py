"""Programs under `allcores profile`, and the same under plain python."""

from __future__ import annotations

import functools
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.process.scripts import Ended, finish, running

from allcores.advisor.profiling import report


@dataclass(frozen=True)
class Profiled:
    """How a profiled program ended, and the JSON of its report."""

    ended: Ended
    found: dict[str, Any]

    @property
    def first(self) -> dict[str, Any]:
        """The candidate that is ranked first."""
        first: dict[str, Any] = self.found["candidates"][0]
        return first

    def at(self, line: int) -> dict[str, Any]:
        """The candidate that begins on a line."""
        return next(each for each in self.found["candidates"] if each["line"] == line)


@functools.cache
def validator() -> Any:
    """Of the JSON, by its schema file."""
    jsonschema = pytest.importorskip("jsonschema")
    return jsonschema.Draft202012Validator(
        json.loads(Path(report.__file__).with_name("profile.schema.json").read_text())
    )


def plain(source: str, folder: Path, *arguments: str, text: str | None = None) -> Ended:
    """The script under python."""
    (folder / "script.py").write_text(source)
    stdin = subprocess.PIPE if text is not None else subprocess.DEVNULL
    with running(["script.py", *arguments], folder=folder, stdin=stdin) as process:
        return finish(process, text)


def profile(
    source: str, folder: Path, *arguments: str, text: str | None = None, options: tuple[str, ...] = ()
) -> Profiled:
    """The script under `allcores profile`, with its report in files beside it, for two cores."""
    (folder / "script.py").write_text(source)
    stdin = subprocess.PIPE if text is not None else subprocess.DEVNULL
    command = [
        "-m",
        "allcores",
        "profile",
        "--cores",
        "2",
        "--json",
        "profile.json",
        "--report",
        "report.txt",
        *options,
    ]
    with running([*command, "script.py", *arguments], folder=folder, stdin=stdin) as process:
        ended = finish(process, text)
    found = json.loads((folder / "profile.json").read_text())
    validator().validate(found)
    return Profiled(ended, found)
