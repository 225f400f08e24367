"""`allcores run` and `allcores doctor` as a shell sees them, and their page."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.process.scripts import Ended, environment
from tests.process.warm import Interpreter

from allcores.cli.exits import Exit

Run = Callable[..., Ended]

ROOT = Path(__file__).resolve().parents[2]
WORK = """
import time

def double(x):
    return 2 * int(x)

def picky(x):
    if int(x) == 3:
        raise ValueError("three")
    return int(x)

def slow(x):
    time.sleep(60 if x == "2" else 0)
    return x

def length(path):
    return len(open(path).read())

def load(factor):
    return int(factor)

def twice(factor):
    return 2 * factor

def scale(factor, x):
    return factor * int(x)

def unwritable(x):
    return {1, 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "numbers.txt").write_text("".join(f"{n}\n" for n in range(6)))
    return tmp_path


@pytest.fixture
def run(folder: Path, warm: Interpreter) -> Run:
    """`python -m allcores` with words, in the folder."""
    return functools.partial(warm.run, folder=folder, environ={"ALLCORES_HOME": str(folder / "home")})


def test_the_items_of_a_folder_are_its_files(run: Run, folder: Path) -> None:
    """As in Python: the paths of all files in it and below, but no name with a dot."""
    (folder / "texts" / "deep").mkdir(parents=True)
    for name, text in (("b.txt", "bb"), ("a.txt", "a"), ("deep/c.txt", "ccc"), (".hidden", "")):
        (folder / "texts" / name).write_text(text)
    done = run("run", "work.py:length", "texts/")
    assert (done.code, done.lines) == (Exit.OK, ["1", "2", "3"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["texts", "numbers.txt"],
            "texts is a folder, whose items are the paths of its files, and numbers.txt is read",
        ),
        (["texts", "--format", "lines"], "--format says how files are read, and the items of texts, a folder, are"),
    ],
)
def test_a_folder_and_what_does_not_go_with_it(run: Run, folder: Path, words: list[str], said: str) -> None:
    (folder / "texts").mkdir()
    done = run("run", "work.py:length", *words)
    assert done.code == Exit.USAGE
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["run", "pipe", "advise", "tune"])
@pytest.mark.parametrize("words", [["--format", "jsonl"], ["--rows", "3"], ["--columns", "a"], ["--separator", ";"]])
def test_paths_are_not_read(run: Run, command: str, words: list[str]) -> None:
    """What says how files are read is refused where items are paths, and not passed over without a word."""
    if command in ("advise", "tune") and words[0] in ("--rows", "--columns"):
        pytest.skip("it has no such option")
    done = run(command, "work.py:length", "--files", "*.txt", *words)
    assert done.code == Exit.USAGE
    assert (
        f"{words[0]} says how files are read, and with --files items are the paths of files: leave it out" in done.err
    )


@pytest.mark.parametrize(("text", "words"), [("id;n\n7;3\n", []), ("id n\n7 3\n", ["--separator", " "])])
def test_a_csv_whose_fields_are_separated_by_something_else(
    run: Run, folder: Path, text: str, words: list[str]
) -> None:
    """Also where items are known by a field, and in a run that is resumed."""
    (folder / "work.py").write_text("def number(row):\n    return int(row['n'])\n")
    (folder / "rows.csv").write_text(text)
    asked = ["run", "work.py:number", "rows.csv", "-o", "out.jsonl", "--key", "id", *words]
    assert run(*asked).code == Exit.OK
    (folder / "rows.csv").write_text(f"{text}{text.splitlines()[1].replace('7', '8')}\n")
    assert run(*asked, "--resume").code == Exit.OK
    assert (folder / "out.jsonl").read_text() == "3\n3\n"


@pytest.mark.parametrize("command", ["run", "advise"])
def test_a_csv_that_does_not_tell_what_separates_its_fields(run: Run, folder: Path, command: str) -> None:
    (folder / "rows.csv").write_text("a\tb\tc\n1\t2\n")
    done = run(command, "work.py:double", "rows.csv")
    assert done.code == Exit.USAGE
    assert len(done.err.splitlines()) == 1
    assert r"rows.csv, line 1: a tab may separate" in done.err and r"--separator '\t'" in done.err
    done = run("run", "work.py:twice", "rows.csv", "--separator", r"\t")
    assert "2 fields where the header has 3" in done.err


def test_what_a_worker_was_lost_to_is_told_in_a_sentence(run: Run, folder: Path) -> None:
    (folder / "work.py").write_text("import os\n\ndef gone(x):\n    os._exit(3)\n")
    done = run("run", "work.py:gone", "numbers.txt", "--workers", "1")
    assert done.code == Exit.STOPPED
    (line,) = [line for line in done.err.splitlines() if line.startswith("allcores: ")]
    assert line.startswith("allcores: stopped: Worker 1 exited with code 3 while running items[0] ('0')")
    assert line.endswith("ends its process; --on-error skip or record would go on")


def test_function_and_input_the_wrong_way_round(run: Run) -> None:
    done = run("run", "numbers.txt", "work.py:double")
    assert done.code == Exit.USAGE
    assert "'numbers.txt' names no function: it is a file, and the function comes first" in done.err


def test_a_wrong_function_and_a_wrong_input_are_both_told(run: Run) -> None:
    done = run("run", "work.py:duoble", "number.txt")
    assert done.code == Exit.USAGE
    assert len(done.err.splitlines()) == 1
    assert "did you mean 'double'" in done.err
    assert "number.txt" in done.err


@pytest.mark.parametrize("words", [["run"], ["run", "--setup", "work.py:later"], ["advise"], ["tune"]])
def test_an_async_function_is_refused_at_once(run: Run, folder: Path, words: list[str]) -> None:
    """A call of it gives nothing that could be written, and says so with warnings from the inside of Python."""
    (folder / "work.py").write_text("async def later(x=None):\n    return x\n\ndef double(*x):\n    return x\n")
    function = "work.py:double" if "--setup" in words else "work.py:later"
    done = run(words[0], function, "numbers.txt", *words[1:])
    assert done.code == Exit.USAGE
    assert len(done.err.splitlines()) == 1
    assert "'work.py:later' is async" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "work.py:nope", "--files", "zz/*"],
        ["run", "work.py:nope", "zz/"],
        ["advise", "work.py:nope", "--files", "zz/*"],
        ["tune", "work.py:nope", "zz/"],
        ["pipe", "work.py:nope", "zz.txt"],
        ["pipe", "work.py:nope", "--files", "zz/*", "-o", "out.jsonl"],
        ["chat", "preprocess", "zz.jsonl", "--stages", "nope", "-o", "out.jsonl"],
        ["chat", "preprocess", "zz.jsonl", "--stages", "nope", "--explain", "-o", "out.jsonl"],
    ],
)
def test_so_they_are_by_each_command_and_kind_of_input(run: Run, folder: Path, words: list[str]) -> None:
    """A folder without files, a pattern that matches none, a file that is not there."""
    (folder / "zz").mkdir()
    done = run(*words)
    assert done.code == Exit.USAGE
    assert len(done.err.splitlines()) == 1
    assert "nope" in done.err
    assert "zz" in done.err


@pytest.mark.quick
def test_lines_of_a_file_through_a_function_of_a_script(run: Run, folder: Path) -> None:
    """Values come out in input order, one a line, and a summary tells how it went."""
    done = run("run", "work.py:double", "numbers.txt", "-o", "out.jsonl")
    assert done.code == Exit.OK, done.err
    assert (folder / "out.jsonl").read_text() == "0\n2\n4\n6\n8\n10\n"
    assert "6" in done.err


def test_standard_input_streams_to_standard_output(run: Run, folder: Path) -> None:
    """`-` reads items from standard input, as JSON if asked to."""
    done = run("run", "work.py:double", "-", "--format", "jsonl", "--quiet", stdin='1\n"2"\n')
    assert (done.code, done.out, done.err) == (Exit.OK, "2\n4\n", "")


def test_paths_are_items(run: Run, folder: Path) -> None:
    """--files makes the matching paths the items."""
    done = run("run", "work.py:length", "--files", "*.txt", "--quiet")
    assert (done.code, done.out) == (Exit.OK, "12\n")


def test_setup_gives_each_worker_its_value(run: Run, folder: Path) -> None:
    """The setup function's value is the first argument of every call."""
    words = ("--setup", "work.py:load", "--setup-arg", "10", "--quiet")
    assert run("run", "work.py:scale", "numbers.txt", *words).out.split() == [
        "0",
        "10",
        "20",
        "30",
        "40",
        "50",
    ]


def test_preload_gives_all_workers_one_value(run: Run, folder: Path) -> None:
    """The preload function's value is the first argument of every call, and of the setup function."""
    expected = ["0", "10", "20", "30", "40", "50"]
    words: tuple[str, ...] = ("--preload", "work.py:load", "--preload-arg", "10", "--quiet")
    assert run("run", "work.py:scale", "numbers.txt", *words).out.split() == expected
    words = ("--preload", "work.py:load", "--preload-arg", "5", "--setup", "work.py:twice", "--quiet")
    assert run("run", "work.py:scale", "numbers.txt", *words).out.split() == expected
    done = run("run", "work.py:scale", "numbers.txt", "--preload-arg", "10")
    assert (done.code, "--preload-arg needs --preload" in done.err) == (Exit.USAGE, True)


@pytest.mark.parametrize(
    ("choice", "code", "lines"),
    [("skip", Exit.SOME_FAILED, 5), ("record", Exit.SOME_FAILED, 6), ("raise", Exit.STOPPED, 3)],
)
def test_failures_stop_are_skipped_or_recorded(run: Run, folder: Path, choice: str, code: Exit, lines: int) -> None:
    """--on-error decides; what was written to standard output before stays."""
    done = run("run", "work.py:picky", "numbers.txt", "--on-error", choice)
    assert done.code == code, done.err
    written = [json.loads(line) for line in done.out.splitlines()]
    assert len(written) == lines
    if choice == "record":
        assert written[3]["index"] == 3 and "three" in json.dumps(written[3])


def test_an_item_that_hangs_costs_itself(run: Run, folder: Path) -> None:
    """--timeout ends one item; --json tells of it for machines."""
    words = ("--timeout", "2", "--on-error", "skip", "--json", "-o", "out.jsonl")
    done = run("run", "work.py:slow", "numbers.txt", *words)
    assert done.code == Exit.SOME_FAILED, done.err
    assert "timed_out" in json.dumps(json.loads(done.out))
    assert len((folder / "out.jsonl").read_text().splitlines()) == 5


def test_bad_input_is_one_sentence(run: Run, folder: Path) -> None:
    """What is wrong, where, and no traceback; outcomes already written to standard output stay."""
    (folder / "bad.jsonl").write_text("1\n2\n{oops\n")
    done = run("run", "work.py:double", "bad.jsonl", "--quiet")
    assert done.code == Exit.USAGE
    assert "bad.jsonl" in done.err and "3" in done.err and "Traceback" not in done.err
    assert done.out == "2\n4\n"
    for words in (
        ("work.py:duoble", "numbers.txt"),
        ("work.py:double", "nowhere.txt"),
        ("nowhere:double", "numbers.txt"),
    ):
        done = run("run", *words)
        assert done.code == Exit.USAGE
        assert done.err.strip() and "Traceback" not in done.err


def test_a_value_that_json_cannot_hold_is_a_failure(run: Run, folder: Path) -> None:
    """A clear sentence, not a traceback of the encoder."""
    done = run("run", "work.py:unwritable", "numbers.txt")
    assert done.code == Exit.STOPPED
    assert "Traceback" not in done.err and "set" in done.err


def test_doctor_tells_what_the_machine_gives(run: Run, folder: Path) -> None:
    """In words, and as JSON."""
    assert "Core budget" in run("doctor").out
    assert json.loads(run("doctor", "--json").out)


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_every_option_and_exit_code_is_on_the_page(run: Run, folder: Path, command: str) -> None:
    """docs/cli.md is complete."""
    page = (ROOT / "docs" / "cli.md").read_text()
    words = run(command, "--help").out.replace(",", " ").replace("/", " ").split()
    missing = {word for word in words if word.startswith("--") and word.strip("()") not in page and len(word) > 3}
    assert not missing
    for code in Exit:
        assert f"| {int(code)} |" in page


COMMANDS = (
    "--version",
    "run --help",
    "doctor",
    "doctor --json",
    "cache list",
    "runs failures latest",
    "runs show latest",
)


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_takes_nothing(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, words: str, unbuffered: str
) -> None:
    """A full disk is one sentence and a code; nothing is a mistake of ours, and Python has nothing to add."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    if words.startswith("runs"):
        assert run("run", "work.py:picky", "numbers.txt", "-o", "o.jsonl", "--on-error", "skip").code == 1
    set_unbuffered = f"PYTHONUNBUFFERED={unbuffered}; export PYTHONUNBUFFERED;"
    sentence = "allcores: cannot write standard output: No space left on device\n"
    done = subprocess.run(
        ["sh", "-c", f'{set_unbuffered} "$0" -m allcores {words} > /dev/full', sys.executable],
        cwd=folder,
        env=environment(ALLCORES_HOME=str(folder / "home")),
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (Exit.OUTPUT, sentence)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_reader_that_has_left(run: Run, folder: Path, words: str) -> None:
    """`| head`, of each command: the code that the page tells, and not a word."""
    if words.startswith("runs"):
        assert run("run", "work.py:picky", "numbers.txt", "-o", "o.jsonl", "--on-error", "skip").code == 1
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "allcores", *words.split()],
            cwd=folder,
            env=environment(ALLCORES_HOME=str(folder / "home")),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (Exit.READER_LEFT, "")


def test_standard_error_that_takes_nothing(folder: Path) -> None:
    """What a run says is lost; its work, and its code, are not."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    done = subprocess.run(
        ["sh", "-c", '"$0" -m allcores run work.py:double numbers.txt -o o.jsonl 2> /dev/full', sys.executable],
        cwd=folder,
        env=environment(ALLCORES_HOME=str(folder / "home")),
        timeout=120,
    )
    assert done.returncode == Exit.OK
    assert (folder / "o.jsonl").read_text().split() == ["0", "2", "4", "6", "8", "10"]


@pytest.mark.parametrize(
    "words",
    [
        ["run", "work:double", "numbers.txt"],
        ["tune", "work:double", "numbers.txt"],
        ["advise", "work:double", str(ROOT / "README.md")],
        ["runs", "--runs-dir", "kept"],
        ["cache", "list", "--folder", "kept"],
        ["jobs", "--store", "jobs.sqlite", "list"],
        ["work", "tasks.py"],
        ["chat", "validate", "x.jsonl"],
        ["chat", "convert", "x.jsonl", "-o", "y.jsonl", "--to", "openai"],
    ],
    ids=lambda words: words[0],
)
def test_a_working_folder_that_is_gone(folder: Path, words: list[str]) -> None:
    """One sentence of each command that needs it, and the way out."""
    done = subprocess.run(
        ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$0" -m allcores "$@"', sys.executable, *words],
        cwd=folder,
        env=environment(ALLCORES_HOME=str(folder / "home")),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    sentence = "allcores: the working folder is gone (No such file or directory): change to one that is there\n"
    assert (done.returncode, done.stdout, done.stderr) == (Exit.USAGE, "", sentence)
