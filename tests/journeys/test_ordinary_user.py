"""Measuring needs no rights: the advisor's commands as a user who may trace nothing and owns nothing but a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

#: "nobody", who is on every system
USER = 65534
WORK = """
import os

def loop(line):
    total = 0
    for each in range(20_000):
        total += each * int(line)
    return total

if __name__ == "__main__":
    totals = []
    for number in range(400):
        totals.append(loop(number))
    print(os.geteuid(), len(totals))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of that user's, where others may enter: pytest's own are closed to them."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("it takes root, and setpriv of util-linux, to become another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "work.py").write_text(WORK)
        (folder / "numbers.txt").write_text("".join(f"{number}\n" for number in range(2_000)))
        for each in (folder, *folder.iterdir()):
            os.chown(each, USER, USER)
        yield folder


@pytest.fixture
def as_nobody(home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python as that user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALLCORES")}
    environment = {**kept, "HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("XDG_RUNTIME_DIR", None)
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--bounding-set=-all,+dac_read_search"]
    # Reading and entering folders alone: this Python, and allcores, may lie where root alone may look.
    user += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*user, sys.executable, *arguments], cwd=home, env=environment, capture_output=True, text=True, timeout=120
        )

    return run


def test_advice(as_nobody: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = as_nobody("-m", "allcores", "advise", "work.py:loop", "numbers.txt", "--json", "--budget", "3")
    found = json.loads(done.stdout)
    assert done.returncode == {"parallel": 0, "serial": 3, "unreliable": 4}[found["verdict"]], done.stderr
    assert found["kind"] == "python"
    assert found["calls"] > 0
    assert "Traceback" not in done.stderr


def test_a_profile(as_nobody: Callable[..., subprocess.CompletedProcess[str]], home: Path) -> None:
    done = as_nobody("-m", "allcores", "profile", "--json", "profile.json", "work.py")
    assert (done.returncode, done.stdout) == (0, f"{USER} 400\n"), done.stderr
    found = json.loads((home / "profile.json").read_text())
    assert found["candidates"][0]["line"] in (12, 13, 14), found["candidates"]
    assert "Traceback" not in done.stderr
