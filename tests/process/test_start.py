"""What a pool is started from: a folder with modules of the standard library's names, and no standard descriptors."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.backends.support import needs_linux
from tests.process import scripts

import allcores
from allcores.backends.processes import templates
from allcores.system import own_imports

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


def run(
    method: str, tmp_path: Path, *, close: tuple[int, ...] = (), cwd: Path | None = None
) -> list[tuple[str, list[str]]]:
    """What the tasks of a program saw that is run without these descriptors."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "program.py").write_text(PROGRAM)
    (home / "beside.py").write_text("value = 'beside'\n")
    closing = " ".join(f"{number}>&-" for number in close)
    command = f'exec "$@" {closing}'
    arguments = [sys.executable, str(home / "program.py"), method, str(tmp_path / "found")]
    ended = subprocess.run(
        ["sh", "-c", command, "sh", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    found: list[tuple[str, list[str]]] = eval((tmp_path / "found").read_text())
    return found


@pytest.mark.parametrize("method", METHODS)
def test_modules_in_the_working_folder_are_not_taken_for_pythons_own(method: str, tmp_path: Path) -> None:
    """The program's own folder is on its path, and its functions import from there; the working folder is not."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} of the working folder was run')\n")
    assert [value for value, _ in run(method, tmp_path, cwd=folder)] == ["beside"] * 3


@pytest.mark.parametrize(
    ("method", "close"),
    [*((method, (0, 1, 2)) for method in METHODS), *(("template", (number,)) for number in range(3))],
    ids=str,
)
def test_missing_standard_descriptors_are_the_null_device(method: str, close: tuple[int, ...], tmp_path: Path) -> None:
    """Never our shared memory, pipes or databases: what anybody writes there would change them."""
    for _, places in run(method, tmp_path, close=close, cwd=tmp_path):
        assert all(places[number] == os.devnull for number in close), places


# --- files of a script's folder that have the names of modules of ours -----------------------------

WORK = """
import statistics
from beside import value

def look(item):
    import calendar
    if item == "1":
        raise ValueError("one")
    return {"found": [value, statistics.value, calendar.value]}
"""
#: what the interpreter itself has loaded before a program's folder is on its path, and the script's own
KEPT = {"os", "sys", "builtins", "statistics", "calendar"}


@pytest.fixture
def full_folder(tmp_path: Path) -> Path:
    """A folder with a script, three modules that it imports, and impostors of everything that we might import."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in {*NAMES, *sys.stdlib_module_names, *own_imports.PACKAGES} - KEPT:
        (folder / f"{name}.py").write_text(f"import sys; sys.stderr.write('impostor {name}'); raise SystemExit(9)")
    (folder / "work.py").write_text(WORK)
    for name in ("beside", "statistics", "calendar"):
        (folder / f"{name}.py").write_text("value = __name__\n")
    (folder / "in.txt").write_text("1\n2\n3\n")
    return folder


def command(folder: Path, *words: str) -> str:
    """What the command line prints that is run in `folder`."""
    environment = {**os.environ, "ALLCORES_HOME": str(folder.parent / "home")}
    arguments = [sys.executable, "-P", "-m", "allcores", *words]
    ended = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode in (0, 1), ended.stderr
    assert "impostor" not in ended.stderr + ended.stdout
    return ended.stdout


@pytest.mark.parametrize(
    ("method", "target"), [("template", "work.py:look"), ("fork", "work:look"), ("spawn", "work:look")]
)
def test_a_script_imports_its_neighbours_and_we_do_not(full_folder: Path, method: str, target: str) -> None:
    """Also those with names of the standard library; the imports of ours that come late find Python's."""
    options = ("--start-method", method, "--workers", "1", "--on-error", "skip", "--output", "-", "--no-journal")
    printed = command(full_folder, "run", target, "in.txt", *options)
    assert printed.replace(" ", "") == 2 * '{"found":["beside","statistics","calendar"]}\n'


def test_no_command_runs_files_of_the_working_folder(full_folder: Path) -> None:
    for name in ("out.db", "out.jsonl.gz"):
        command(full_folder, "run", "work.py:look", "in.txt", "--on-error", "skip", "-o", name, "--timeline", "t.jsonl")
    for words in ("runs list", "doctor", "report t.jsonl -o t.html", "trace t.jsonl -o t.json"):
        command(full_folder, *words.split())
    # For it to show: whether other pools run on this machine is not for this test to know.
    with allcores.Pool(1):
        command(full_folder, "top", "--once")


LATE = """
import sys, allcores
method, folder = sys.argv[1:]
with allcores.Pool(1, start_method=method) as pool:
    pool.map(abs, [1])
sys.path.insert(0, folder)
from work import look
with allcores.Pool(1, start_method=method) as pool:
    print(pool.map(look, [2]))
"""


@pytest.mark.parametrize(("method", "flags"), [("template", []), ("spawn", ["-P"]), ("forkserver", ["-I"])], ids=str)
def test_workers_of_a_program_with_such_a_folder_on_its_path(full_folder: Path, method: str, flags: list[str]) -> None:
    """What the program itself has loaded under such a name is what its workers load."""
    script = full_folder.parent / "late.py"
    script.write_text(LATE)
    arguments = [sys.executable, *flags, str(script), method, str(full_folder)]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert (ended.stdout, ended.stderr) == ("[{'found': ['beside', 'statistics', 'calendar']}]\n", "")


@pytest.mark.parametrize(
    ("given", "closing", "sentence"),
    [
        (("in.txt", "-o", "-"), ">&-", "standard output is closed"),
        (("in.txt", "-o", "/dev/stdout"), ">&-", "standard output is closed"),
        (("in.txt", "-o", "out.jsonl", "--json"), ">&-", "standard output is closed"),
        (("-", "-o", "-"), "<&-", "standard input is closed"),
        (("/dev/stdin", "-o", "-"), "<&-", "standard input is closed"),
        (("in.txt", "-o", "-"), "<&- 2>&-", ""),
        (("in.txt", "-o", "out.jsonl", "--timeline", "t.jsonl"), "<&- >&- 2>&-", ""),
    ],
    ids=str,
)
def test_the_command_line_without_standard_descriptors(
    given: tuple[str, ...], closing: str, sentence: str, tmp_path: Path
) -> None:
    """What would be lost is refused in a sentence; what needs none of them works."""
    (tmp_path / "work.py").write_text("import os\ndef add(line):\n    os.write(1, b'!')\n    return int(line) + 1\n")
    (tmp_path / "in.txt").write_text("1\n2\n")
    words = ["-m", "allcores", "run", "work.py:add", *given, "--quiet", "--runs-dir", str(tmp_path / "runs")]
    line = ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, *words]
    ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == (2 if sentence else 0), ended.stderr
    assert sentence in ended.stderr and len(ended.stderr.splitlines()) == bool(sentence)
    if not sentence:
        written = tmp_path / "out.jsonl"
        assert (written.read_text() if written.exists() else ended.stdout) == "2\n3\n"


@pytest.fixture
def default_timeout() -> Iterator[None]:
    """As programs have it that ask other machines. The next pool starts a template of its own."""
    templates.shutdown()
    socket.setdefaulttimeout(0.001)
    yield
    socket.setdefaulttimeout(None)


def never_waiting(*_: object) -> tuple[int, list[str]]:
    """This process, and its sockets of which the kernel knows that they do not wait."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            number = int(name)
            if stat.S_ISSOCK(os.fstat(number).st_mode) and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_NONBLOCK:
                found.append(os.readlink(f"/proc/self/fd/{name}"))
    return os.getpid(), found


def set_default_timeout() -> None:
    socket.setdefaulttimeout(0.001)


@needs_linux
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
def test_a_default_timeout_of_sockets_concerns_none_of_ours(method: str, default_timeout: None) -> None:
    """A worker waits for what comes next, and is the same one then."""
    _, of_others = never_waiting()  # a forked worker has them, too
    with allcores.Pool(1, start_method=method) as pool:
        first = pool.submit(never_waiting).result()
        assert pool.map(never_waiting, range(3), chunk=1) == [first] * 3 and set(first[1]) <= set(of_others)
        assert pool.statistics().workers_started == 1


@needs_linux
def test_a_default_timeout_that_a_preload_function_has_set_is_for_its_tasks(default_timeout: None) -> None:
    with allcores.Pool(1, preload=set_default_timeout) as pool:
        first = pool.submit(never_waiting).result()
        assert pool.submit(never_waiting).result() == first and first[1] == []
        assert pool.submit(socket.getdefaulttimeout).result() == 0.001


FROZEN = """
import os, sys, warnings
sys.executable, sys.frozen = sys.argv[1], True
import allcores
warnings.simplefilter("ignore")  # a process with threads is forked
def double(number):
    return 2 * number
print(allcores.map(double, range(3)))
with allcores.Pool(1) as pool, pool.actor(list, (1, 2)) as actor:
    print(pool.submit(double, 4).result(), actor.index(2).result())
    print(pool.submit(lambda: allcores.map(double, [5])).result())
for method in ("template", "forkserver", "spawn"):
    try:
        with allcores.Pool(1, start_method=method) as pool:
            pool.map(abs, [1])
    except allcores.NotSupported as error:
        print("frozen" in str(error))
"""


def test_a_frozen_program_is_not_begun_anew(tmp_path: Path) -> None:
    """Its executable is no Python, but all of it, whatever it is told: it would start itself without end."""
    application = tmp_path / "application"
    application.write_text(f"#!/bin/sh\necho begun >> {tmp_path / 'begun'}\nexit 1\n")
    application.chmod(0o755)
    ended = scripts.run(FROZEN, tmp_path, str(application))
    assert ended.lines == ["[0, 2, 4]", "8 1", "[10]", *["True"] * 3], ended.err
    assert not (tmp_path / "begun").exists()


# --- hashes of texts --------------------------------------------------------------------------------


def hashed(_: object) -> tuple[int, int, str | None, str]:
    """The pid, a text's hash, and what a program that is started is told of hashes."""
    told = [sys.executable, "-c", "import os; print(os.environ.get('PYTHONHASHSEED'))"]
    return os.getpid(), hash("text"), os.environ.get("PYTHONHASHSEED"), subprocess.check_output(told, text=True).strip()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:start_method='fork' copies a process:RuntimeWarning")
def test_a_text_has_one_hash_in_all_workers_of_a_pool(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else groups by the hash, as dask's, would be split among the workers. A new worker's is the same."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with allcores.Pool(1, start_method=method) as pool:
        first = pool.map(hashed, [0])[0]
        with pytest.raises(allcores.WorkerLost):
            pool.map(os._exit, [1])
        second = pool.map(hashed, [0])[0]
    assert first[0] != second[0]
    assert first[1:] == second[1:] == (first[1], None, "None")


@pytest.mark.parametrize("method", METHODS)
def test_the_hash_that_the_program_was_given_is_that_of_its_workers(method: str) -> None:
    program = (
        "import allcores, sys; from tests.process.test_start import hashed\n"
        "with allcores.Pool(1, start_method=sys.argv[1]) as pool:\n"
        "    print(hash('text'), *pool.map(hashed, [0])[0][1:])"
    )
    environ = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONWARNINGS": "ignore"}
    told = [sys.executable, "-c", program, method]
    here, *there = subprocess.check_output(told, env=environ, text=True, timeout=120).split()
    assert there == [here, "7", "7"]
