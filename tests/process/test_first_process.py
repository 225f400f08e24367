"""The command line as the first process of a container: what ends is reaped, signals and codes are passed on."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.process.scripts import environment
from tests.process.waiting import PATIENCE_S, Bell

#: what runs a program with a number space of its own, in which it is the first process
ALONE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@functools.cache
def why_not() -> str:
    try:
        done = subprocess.run([*ALONE, "true"], capture_output=True, text=True, timeout=PATIENCE_S)
    except OSError as error:
        return f"there is no unshare: {error}"
    return done.stderr if done.returncode else ""


pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="numbers of processes have spaces there")]


@pytest.fixture(autouse=True)
def _alone() -> None:
    if why_not():
        pytest.skip(why_not())


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Python with these arguments, as the first process."""
    process = subprocess.Popen(
        [*ALONE, sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    with running(folder, *arguments) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def test_a_command_ends_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "numbers.txt").write_text("1\n2\nx\n")
    code, out, err = run(tmp_path, "-m", "allcores", "run", "builtins:int", "numbers.txt", "--on-error", "skip")
    assert (code, sorted(out.split())) == (1, ["1", "2"]), err
    code, out, err = run(tmp_path, "-m", "allcores", "no-such-command")
    assert code == 2 and "no-such-command" in err


ORPHANS = """
import os, signal, subprocess, sys, time
from pathlib import Path
from allcores.system.first_process import step_aside
step_aside()
assert (os.getpid() != 1, os.getppid()) == (True, 1)
# The shell ends at once; what it has started ends a moment later, with nobody but the first process to know of it.
found = subprocess.run(["sh", "-c", "sleep 1000 > /dev/null & echo $!"], stdout=subprocess.PIPE, text=True).stdout
os.kill(int(found), signal.SIGKILL)
while os.path.exists(f"/proc/{int(found)}"):
    time.sleep(0.005)
print("it is gone", flush=True)
os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1:] else sys.exit(7)
"""


@pytest.mark.parametrize(("arguments", "code"), [([], 7), (["killed"], 128 + signal.SIGKILL)])
def test_what_nobody_waits_for_is_reaped(arguments: list[str], code: int, tmp_path: Path) -> None:
    assert run(tmp_path, "-c", ORPHANS, *arguments) == (code, "it is gone\n", "")


TOLD = """
import signal, sys
from tests.process.waiting import ring
from allcores.system.first_process import step_aside
step_aside()
def told(number, frame):
    print(signal.Signals(number).name, flush=True)
    ring(sys.argv[1], "told")
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, told)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
ring(sys.argv[1], "ready")
while True:
    signal.pause()
"""


def test_signals_are_passed_on_once(tmp_path: Path) -> None:
    with Bell(tmp_path / "bell") as bell, running(tmp_path, "-c", TOLD, bell.path) as process:
        bell.hear()
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        wanted = ["SIGTERM", "SIGINT", "SIGUSR1", "SIGTERM", "SIGHUP"]
        for name in wanted:
            os.kill(int(first), signal.Signals[name])
            bell.hear()
        os.kill(int(first), signal.SIGQUIT)
        out, _ = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out.split()) == (128 + signal.SIGQUIT, wanted)


def test_a_process_that_is_not_the_first_stays_what_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os\np = os.getpid()\n"
         "from allcores.system.first_process import step_aside\nstep_aside()\nassert os.getpid() == p"],
        env=environment(), timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0
