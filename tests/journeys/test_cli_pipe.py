"""`allcores pipe` as a shell sees it: plans, outputs, exit codes, kills, and what `allcores runs` says of it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.process.warm import Interpreter

from allcores.cli.exits import Exit

ROOT = Path(__file__).resolve().parents[2]
WORK = """
import os, signal, time
from allcores import Pipeline

def parse(line):
    return {"n": int(line)}

def picky(row):
    if row["n"] in (3, 30) and not os.path.exists("mended"):
        raise ValueError(f"no {row['n']}")
    return row

def odd(row):
    return row["n"] % 2

def summed(rows):
    return [{**row, "total": sum(each["n"] for each in rows)} for row in rows]

def killing(row):
    # the program that runs the pipeline, and then the worker itself
    if row["n"] == 77 and not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(int(os.environ["ALLCORES_TEST_PARENT"]), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return row

skipping = Pipeline().map(parse).map(picky, on_error="skip").batch(8).map(summed).unbatch()
retrying = Pipeline().map(parse).map(picky, retries=2, on_error="skip").enumerate().map(list)
raising = Pipeline().map(parse).map(picky).enumerate().map(list)
sided = raising.tee(Pipeline().write("a.jsonl"), Pipeline().map(str).write("b.jsonl"))
recording = Pipeline().map(parse).map(picky, on_error="record")
recording_apart = recording.enumerate()

def twice(row):
    return [row, {"n": -row["n"]}]

sides_of_failures = Pipeline().map(parse).flat_map(twice).tee(Pipeline().map(str).write("b.jsonl")).map(
    picky, on_error="record")
def interrupt(row):
    if row["n"] == 40 and not os.path.exists("interrupted"):
        open("interrupted", "w").close()
        os.kill(int(os.environ["ALLCORES_TEST_PARENT"]), signal.SIGINT)
    time.sleep(0.01)
    return row

def named(row):
    return f"{row['n'] % 90}.txt", "text"

naming = Pipeline().map(parse).tee(Pipeline().map(named).write("out/"))
interrupting = Pipeline().map(parse).map(interrupt).batch(8).map(summed).unbatch().enumerate().map(list)
plain = Pipeline().map(parse).enumerate().map(list)
ending = Pipeline().map(parse).write("mine.csv")
def killed():
    return Pipeline().map(parse).batch(8).map(summed).unbatch().map(killing, fuse=False).enumerate().map(list)
"""
TOML = """
[[stage]]
map = "work.py:parse"
[[stage]]
tee = [[
    { filter = "work.py:odd" }, { batch = 4 }, { map = "work.py:summed" }, { unbatch = true }, { write = "odd.csv" },
]]
[[stage]]
window = 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "p.toml").write_text(TOML)
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(100)))
    return tmp_path


class Shell:
    """In the folder."""

    def __init__(self, warm: Interpreter, folder: Path) -> None:
        self._warm = warm
        self._folder = folder

    def call(self, *words: str) -> tuple[int, str, str]:
        done = self._warm.run(*words, folder=self._folder, environ={"ALLCORES_HOME": str(self._folder / "home")})
        assert "Traceback" not in done.err or "ValueError" in done.err, done.err
        return done.code, done.out, done.err

    def as_json(self, *words: str) -> Any:
        code, out, err = self.call(*words, "--json")
        assert code in (0, 1), err
        return json.loads(out)


@pytest.fixture
def shell(warm: Interpreter, folder: Path) -> Shell:
    return Shell(warm, folder)


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


WITHOUT = [n for n in range(100) if n not in (3, 30)]


@pytest.mark.quick
def test_rows_to_standard_output(shell: Shell) -> None:
    """As they come; what failed is told of, with its stage."""
    code, out, err = shell.call("pipe", "work.py:skipping", "in.txt")
    assert code == Exit.SOME_FAILED
    assert [json.loads(line)["n"] for line in out.splitlines()] == WITHOUT
    assert "stage 2 (picky), item 3" in err and "98 ok, 2 failed" in err
    assert "picky" in err and "summed → write" in err  # the table of the stages


def test_a_side_that_gives_a_name_twice(shell: Shell, folder: Path) -> None:
    """It ends there, as a stream in Python does, and leaves no folder."""
    code, out, err = shell.call("pipe", "work.py:naming", "in.txt")
    assert (code, len(out.splitlines())) == (Exit.STOPPED, 91), err
    assert "stopped at item 90: a row gave the name" in err and not (folder / "out").exists()


def test_the_plan(shell: Shell) -> None:
    """Nothing is run for it, and no input is needed."""
    code, out, _ = shell.call("pipe", "p.toml", "--explain", "--workers", "3")
    assert code == Exit.OK
    lines = out.splitlines()
    assert "3 processes, shared" in lines[1] and ".map(parse)" in lines[1]
    assert any("(side 1)" in line for line in lines) and "write(odd.csv)" in out


def test_a_pipeline_with_sides(shell: Shell, folder: Path) -> None:
    """Both outputs appear."""
    code, _, err = shell.call("pipe", "p.toml", "in.txt", "-o", "out.jsonl", "-q")
    assert (code, err) == (Exit.OK, "")
    assert rows(folder / "out.jsonl") == [[{"n": n}, {"n": n + 1}] for n in range(99)]
    with (folder / "odd.csv").open(newline="") as file:
        assert [int(row["n"]) for row in csv.DictReader(file)] == list(range(1, 100, 2))
    assert shell.call("runs", "export", "latest", "-o", "e.jsonl", "--side", "1")[0] == Exit.OK
    assert [row["n"] for row in rows(folder / "e.jsonl")] == list(range(1, 100, 2))


def test_a_pipeline_with_sides_to_standard_output(shell: Shell, folder: Path) -> None:
    """Its rows come as they are there, those of sides appear after the last; where it stops early, there are none."""
    code, out, err = shell.call("pipe", "p.toml", "in.txt", "-q")
    assert (code, err) == (Exit.OK, "")
    assert [json.loads(line) for line in out.splitlines()] == [[{"n": n}, {"n": n + 1}] for n in range(99)]
    with (folder / "odd.csv").open(newline="") as file:
        assert [int(row["n"]) for row in csv.DictReader(file)] == list(range(1, 100, 2))
    code, out, err = shell.call("pipe", "work.py:sided", "in.txt")
    assert code == Exit.STOPPED and len(out.splitlines()) == 3
    assert not [path for path in folder.iterdir() if path.name in ("a.jsonl", "b.jsonl")]
    (folder / "mended").touch()
    code, out, err = shell.call("pipe", "work.py:sided", "in.txt", "-q")
    assert (code, err) == (Exit.OK, "")
    expected = [[n, {"n": n}] for n in range(100)]
    assert [json.loads(line) for line in out.splitlines()] == rows(folder / "a.jsonl") == expected
    assert rows(folder / "b.jsonl") == [str(row) for row in expected]
    # An output that would cost what is read is refused before anything is.
    (folder / "in.txt").rename(folder / "a.jsonl")
    code, out, err = shell.call("pipe", "work.py:sided", "a.jsonl")
    assert code == Exit.USAGE and not out and "a.jsonl" in err and len((folder / "a.jsonl").read_text().split()) == 100


def test_killed_and_resumed(shell: Shell, folder: Path) -> None:
    """A worker kills the program and itself; --resume goes on, also by the name of the run."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "ALLCORES_HOME": str(folder / "home")}
    command = ["sh", "-c", 'export ALLCORES_TEST_PARENT=$$; exec "$@"', "sh", sys.executable, "-m", "allcores"]
    words = ("pipe", "work.py:killed", "in.txt", "-o", "out.jsonl")
    killed = subprocess.Popen(
        [*command, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL and not (folder / "out.jsonl").exists()
    (run,) = shell.as_json("runs")
    assert run["state"] == "interrupted"
    assert run["function"] == "map(parse) → batch(8) → map(summed) → unbatch() → map(killing) → enumerate() → map(list)"
    code, _, err = shell.call("runs", "resume", "latest", "--workers", "1")
    assert code == Exit.OK, err
    wanted = [{"n": n, "total": sum(range(n // 8 * 8, min(n // 8 * 8 + 8, 100)))} for n in range(100)]
    assert rows(folder / "out.jsonl") == [[number, row] for number, row in enumerate(wanted)]
    (run,) = shell.as_json("runs", "list")
    assert (run["state"], run["ok"], run["total"], run["sessions"]) == ("finished", 100, 100, 2)
    # It is done: the same command with --resume finds that, and the output is as it was.
    code, _, err = shell.call(*words, "--resume")
    assert code == Exit.OK and "100 items are done" in err


@pytest.mark.parametrize("words", [("--timeout", "5"), ("--retries", "3"), ("--retries", "0")])
def test_what_stages_have_cannot_be_said_of_the_run(shell: Shell, folder: Path, words: tuple[str, str]) -> None:
    """Deadlines and retries are those of the stages: another one is refused, and not passed over without a word."""
    assert shell.call("pipe", "work.py:plain", "in.txt", "-o", "out.jsonl")[0] == Exit.OK
    code, _, err = shell.call("runs", "resume", "latest", *words)
    assert code == Exit.USAGE
    assert f"is of a pipeline, each stage of which has {words[0].strip('-')} of its own: leave {words[0]} out" in err


def test_failures_are_kept_and_tried_again(shell: Shell, folder: Path) -> None:
    """Shown by cause, exported with their stage, and run again with what depends on them."""
    words = ("pipe", "work.py:skipping", "in.txt", "-o", "out.jsonl")
    assert shell.call(*words)[0] == Exit.SOME_FAILED
    assert [row["n"] for row in rows(folder / "out.jsonl")] == WITHOUT
    code, out, _ = shell.call("runs", "show", "latest")
    assert code == Exit.OK and "2 × failed: ValueError: no N" in out
    failures = [json.loads(line) for line in shell.call("runs", "failures", "latest")[1].splitlines()]
    assert [(each["index"], each["stage"], each["stage_name"], each["item"]) for each in failures] == [
        (3, 2, "picky", {"n": 3}),
        (30, 2, "picky", {"n": 30}),
    ]
    (folder / "mended").touch()
    code, _, err = shell.call(*words, "--resume", "--retry-failed")
    assert code == Exit.OK, err
    found = rows(folder / "out.jsonl")
    assert [row["n"] for row in found] == list(range(100)) and found[3]["total"] == sum(range(8))


def test_rows_beside_a_failure_are_shown_one_by_one(shell: Shell, folder: Path) -> None:
    """Of each output: a journal has them in one text."""
    assert shell.call("pipe", "work.py:sides_of_failures", "in.txt", "-o", "out.jsonl")[0] == Exit.SOME_FAILED
    wanted = [
        {"output": 1, "row": "\"{'n': 3}\""},
        {"output": 0, "row": '{"n": -3}'},
        {"output": 1, "row": "\"{'n': -3}\""},
    ]
    for more in ((), ("--json",)):
        out = shell.call("runs", "failures", "latest", *more)[1]
        first = json.loads(out)[0] if more else json.loads(out.splitlines()[0])
        assert first["item"] == {"n": 3}
        assert sorted(first["rows"], key=json.dumps) == sorted(wanted, key=json.dumps)


def test_the_first_failure_ends_it(shell: Shell, folder: Path) -> None:
    """At its place in order; the same command with --resume tries it again."""
    words = ("pipe", "work.py:raising", "in.txt", "-o", "out.jsonl")
    code, _, err = shell.call(*words)
    assert code == Exit.STOPPED and not (folder / "out.jsonl").exists()
    assert "stopped at stage 1 (parse → picky), item 3" in err and "on_error='skip' or 'record' of the stage" in err
    (folder / "mended").touch()
    assert shell.call(*words, "--resume")[0] == Exit.OK
    assert rows(folder / "out.jsonl") == [[n, {"n": n}] for n in range(100)]


@pytest.mark.parametrize("name", ["recording", "recording_apart"])
def test_failures_as_records(shell: Shell, folder: Path, name: str) -> None:
    """Between the others, at their place, with their stage; on standard output as well."""
    code, out, _ = shell.call("pipe", f"work.py:{name}", "in.txt")
    assert code == Exit.SOME_FAILED
    assert shell.call("pipe", f"work.py:{name}", "in.txt", "-o", "out.jsonl", "-q")[0] == Exit.SOME_FAILED
    for found in ([json.loads(line) for line in out.splitlines()], rows(folder / "out.jsonl")):
        assert [each["index"] for each in found] == list(range(100))
        assert [each["index"] for each in found if each["kind"] == "failed"] == [3, 30]
        assert found[3]["message"] == "no 3" and found[3]["stage_name"].endswith(
            "picky" if "apart" in name else "write"
        )
    code, _, err = shell.call("pipe", f"work.py:{name}", "in.txt", "-o", "out.csv")
    assert code == Exit.USAGE and "has no place" in err


def test_retries_are_counted(shell: Shell) -> None:
    """Those of all stages."""
    summary = shell.as_json("pipe", "work.py:retrying", "in.txt", "-o", "out.jsonl")
    assert (summary["retries"], summary["ok"], summary["workers_lost"]) == (4, 98, 0)


def test_a_report_of_it(shell: Shell, folder: Path) -> None:
    """Of what the journal has recorded, and of what was asked for; of several pools there is none."""
    assert shell.call("pipe", "work.py:skipping", "in.txt", "-o", "out.jsonl", "-q")[0] == Exit.SOME_FAILED
    code, _, err = shell.call("report", "latest", "-o", "r.html")
    assert code == Exit.OK and "core budget" in err and (folder / "r.html").stat().st_size > 1000
    words = ("pipe", "work.py:skipping", "in.txt", "-o", "out.jsonl", "-q", "--no-journal", "--timeline")
    assert shell.call(*words, "t.jsonl")[0] == Exit.SOME_FAILED and (folder / "t.jsonl").stat().st_size > 1000
    (folder / "p.toml").write_text(TOML.replace('"work.py:parse"', '"work.py:parse"\nworkers = 1'))
    code, _, err = shell.call("pipe", "p.toml", "in.txt", "-o", "out.jsonl", "--timeline", "t.jsonl")
    assert code == Exit.USAGE and "have 2 pools" in err


def test_interrupted_once(shell: Shell, folder: Path) -> None:
    """What runs finishes, and what is done is kept."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "ALLCORES_HOME": str(folder / "home")}
    words = ("pipe", "work.py:interrupting", "in.txt", "-o", "out.jsonl")
    command = ["sh", "-c", 'export ALLCORES_TEST_PARENT=$$; exec "$@"', "sh", sys.executable, "-m", "allcores", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == Exit.INTERRUPTED, done.stderr
    assert "finishing what is running" in done.stderr and "--resume goes on" in done.stderr
    assert not (folder / "out.jsonl").exists()
    code, _, err = shell.call(*words, "--resume")
    assert code == Exit.OK, err
    assert [row[0] for row in rows(folder / "out.jsonl")] == list(range(100))
    assert [row[1]["total"] for row in rows(folder / "out.jsonl")][96:] == [sum(range(96, 100))] * 4


def test_the_reader_of_standard_output_leaves(folder: Path) -> None:
    """`| head`: it ends quietly."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    (folder / "in.txt").write_text("".join(f"{n}\n" for n in range(200_000)))
    program = f"{sys.executable} -m allcores pipe work.py:plain in.txt -q; echo $? > code"
    done = subprocess.run(
        ["sh", "-c", f"({program}) | head -n 1"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == ('[0, {"n": 0}]\n', "")
    assert int((folder / "code").read_text()) == Exit.READER_LEFT


@pytest.mark.parametrize("pipeline", ["alone", "plain"])
def test_standard_output_that_is_full(folder: Path, pipeline: str) -> None:
    """One sentence, with one stage as with several: nothing is told by Python as it ends."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    (folder / "full.py").write_text(
        "from allcores import Pipeline\ndef long(line): return 300_000 * line\n"  # a row is written as it comes
        "alone = Pipeline().map(long)\nplain = Pipeline().map(long).enumerate().map(list)\n"
    )
    done = subprocess.run(
        ["sh", "-c", '"$0" -m allcores pipe "full.py:$1" in.txt -q > /dev/full', sys.executable, pipeline],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    sentence = "allcores: cannot write standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (Exit.OUTPUT, sentence)


def test_what_cannot_be(shell: Shell, folder: Path) -> None:
    """A sentence each, before anything is begun."""
    (folder / "self.toml").write_text("[[stage]]\ntee = [[{ write = 'self.toml' }]]\n")
    (folder / "nul.toml").write_text('[[stage]]\nwrite = "a\\u0000.jsonl"\n')
    for words, code, sentence in (
        (("p.toml", "in.txt", "-o", "in.txt"), Exit.USAGE, "in.txt is an input"),
        (("p.toml", "in.txt", "-o", "odd.csv"), Exit.USAGE, "odd.csv"),
        (("p.toml", "in.txt", "-o", "p.jsonl", "--key", "n"), Exit.USAGE, "depends on the items before it"),
        (("work.py:ending", "in.txt", "-o", "x.jsonl"), Exit.USAGE, "leave -o x.jsonl out"),
        (("work.py:skipping", "in.txt", "--resume"), Exit.USAGE, "--resume needs an output"),
        (("work.py:skipping", "in.txt", "--json"), Exit.USAGE, "need a file"),
        (("work.py:skipping", "-o", "x.jsonl"), Exit.USAGE, "no INPUT"),
        (("work.py:skipping", "no.txt", "-o", "x.jsonl"), Exit.USAGE, "cannot read no.txt"),
        (("work.py:parse", "in.txt"), Exit.USAGE, "is called without arguments"),
        (("no.toml", "in.txt"), Exit.USAGE, "cannot read no.toml"),
        (("p.toml", "in.txt", "-o", "p.jsonl", "--timeline", "work.py"), Exit.USAGE, "work.py is the file of the"),
        (("p.toml", "in.txt", "-o", "p.jsonl", "--trace", "p.toml"), Exit.USAGE, "p.toml is the file of the pipeline"),
        (("self.toml", "in.txt"), Exit.USAGE, "self.toml is the file of the pipeline"),
        (("nul.toml", "in.txt"), Exit.USAGE, r"cannot write 'a\x00.jsonl': "),
    ):
        found, _, err = shell.call("pipe", *words)
        assert (found, sentence in err) == (code, True), (words, err)
    assert shell.call("runs")[1] == "" and not (folder / "x.jsonl").exists()


def test_an_output_of_its_own_and_the_summary(shell: Shell, folder: Path) -> None:
    """As JSON, with what each stage did."""
    summary = shell.as_json("pipe", "work.py:ending", "in.txt", "--no-journal")
    assert summary["output"] == "mine.csv" and summary["items"] == 100 and summary["run"] is None
    (stage,) = summary["stages"]
    assert (stage["name"], stage["taken"], stage["given"]) == ("parse → write", 100, 100)
    assert (folder / "mine.csv").read_text().startswith("n\n0\n1\n")


def test_a_pipeline_that_has_changed(shell: Shell, folder: Path) -> None:
    """Refused by the name of what has, whichever step it is."""
    words = ("pipe", "p.toml", "in.txt", "-o", "out.jsonl")
    assert shell.call(*words)[0] == Exit.OK
    for old, new, sentence in (
        ("window = 2", "window = 3", "step 3 was window(2) and is window(3)"),
        ("batch = 4", "batch = 5", "step 2, side 1, step 2 was batch(4) and is batch(5)"),
        ('write = "odd.csv"', 'write = "even.csv"', "the output was"),
        ("[[stage]]\nwindow = 2\n", "", "step 3 was window(2) and is not there"),
    ):
        (folder / "p.toml").write_text(TOML.replace(old, new))
        code, _, err = shell.call(*words, "--resume")
        assert code == Exit.USAGE and sentence in err, err
    (folder / "p.toml").write_text(TOML)
    (folder / "work.py").write_text(WORK.replace('row["n"] % 2', 'row["n"] % 2 == 1'))
    code, _, err = shell.call(*words, "--resume")
    assert code == Exit.USAGE
    assert "step 2, side 1, step 1, filter(odd): the source of the function work.odd has changed" in err, err
