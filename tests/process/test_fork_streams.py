"""The standard streams of workers with start_method="fork", which are made anew from those of the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process import scripts

import allcores

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork' copies a process:RuntimeWarning")


class Odd:
    """A stream of a program's own, as those that copy what is written, with a text for each property, or an error."""

    def __init__(self, encoding: object, errors: object) -> None:
        self._told = {"encoding": encoding, "errors": errors}

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def __getattr__(self, name: str) -> object:
        told = self.__dict__["_told"][name]
        if isinstance(told, Exception):
            raise told
        return told


def found(_: object) -> list[tuple[str, str | None]]:
    return [(stream.encoding, stream.errors) for stream in (sys.stdin, sys.stdout, sys.stderr)]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (("cp1252", "replace"), ("cp1252", "replace")),
        ((None, None), ("utf-8", "strict")),
        (("", ""), ("utf-8", "strict")),
        (("hex", "nonsense"), ("utf-8", "strict")),
        (("no-such", 5), ("utf-8", "strict")),
        ((ValueError("closed"), ValueError("closed")), ("utf-8", "strict")),
    ],
    ids=str,
)
def test_streams_of_any_class(told: tuple[object, object], expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, Odd(*told))
    with allcores.Pool(1, start_method="fork") as pool:
        assert pool.map(found, [0]) == [[expected] * 3]


@pytest.mark.parametrize("method", ["template", "spawn", "fork"])
def test_encodings_that_are_not_named_may_be_errors(method: str, tmp_path: Path) -> None:
    """python -X warn_default_encoding -W error::EncodingWarning: that none of ours is left to the locale."""
    script = tmp_path / "script.py"
    script.write_text(
        "import allcores, sys\n"
        "with allcores.Pool(1, start_method=sys.argv[1]) as pool:\n"
        "    print(pool.map(str, range(3)))\n"
    )
    told = [sys.executable, "-X", "warn_default_encoding", "-W", "error::EncodingWarning", str(script), method]
    ended = subprocess.run(told, capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.stderr) == ("['0', '1', '2']\n", "")


def test_what_keeps_an_interpreter_from_starting_is_on_standard_error(tmp_path: Path) -> None:
    """The task has replaced no process: Python is gone, as with an environment that is made anew beside a program."""
    python, script = tmp_path / "python", tmp_path / "script.py"
    python.symlink_to(sys.executable)
    script.write_text(
        "import os, sys, allcores\n"
        "with allcores.Pool(1, start_method='spawn') as pool:\n"
        "    print(pool.map(str, [1]), flush=True)\n"
        "    os.unlink(sys.executable)\n"
        "    for ended in allcores.WorkerLost, allcores.BrokenPool:\n"
        "        try:\n"
        "            pool.map(os._exit, [3])\n"
        "        except ended as error:\n"
        "            print(error, flush=True)\n"
    )
    environ = scripts.environment(PYTHONPATH=os.pathsep.join([*scripts.PATHS, *sys.path[1:]]))
    ended = subprocess.run([str(python), str(script)], env=environ, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "os.exec" not in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("Workers ended before they were ready")
    assert f"FileNotFoundError: [Errno 2] No such file or directory: '{python}'\n" in ended.stderr
