"""What a pool is started from: a folder with modules of the standard library's names, and no standard descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ("template", "fork", "spawn")
NAMES = (
    "ctypes", "faulthandler", "functools", "io", "json", "logging", "pickle", "random", "select", "selectors", "signal",
    "socket", "struct", "subprocess", "tempfile", "threading", "traceback", "typing", "weakref", "cloudpickle",
)  # fmt: skip

PROGRAM = """
import sys, warnings, allcores
warnings.simplefilter("ignore")

def look(item):
    import os, beside
    if item == 0:
        os.write(1, b"written to 1")
        os.write(2, b"written to 2")
    return beside.value, [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]

if __name__ == "__main__":
    with allcores.Pool(1, start_method=sys.argv[1]) as pool:
        found = pool.map(look, range(3))
    open(sys.argv[2], "w").write(repr(found))
"""


def run(method: str, tmp_path: Path, *, close: tuple[int, ...] = (), cwd: Path | None = None) -> list[object]:
    """What the tasks of a program saw that is run without these descriptors."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "program.py").write_text(PROGRAM)
    (home / "beside.py").write_text("value = 'beside'\n")
    closing = " ".join(f"{number}>&-" for number in close)
    command = f'exec "$@" {closing}'
    arguments = [sys.executable, str(home / "program.py"), method, str(tmp_path / "found")]
    ended = subprocess.run(["sh", "-c", command, "sh", *arguments], cwd=cwd, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 0, ended.stderr
    found: list[object] = eval((tmp_path / "found").read_text())
    return found


@pytest.mark.parametrize("method", METHODS)
def test_modules_in_the_working_folder_are_not_taken_for_pythons_own(method: str, tmp_path: Path) -> None:
    """The program's own folder is on its path, and its functions import from there; the working folder is not."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} of the working folder was run')\n")
    assert [value for value, _ in run(method, tmp_path, cwd=folder)] == ["beside"] * 3  # type: ignore[misc]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("close", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_missing_standard_descriptors_are_the_null_device(method: str, close: tuple[int, ...], tmp_path: Path) -> None:
    """Never our shared memory, pipes or databases: what anybody writes there would change them."""
    for _, places in run(method, tmp_path, close=close, cwd=tmp_path):  # type: ignore[misc]
        assert all(places[number] == os.devnull for number in close), places
