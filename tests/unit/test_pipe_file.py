"""Pipelines in TOML files: what they say becomes steps, and each mistake is one sentence with its place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from allcores.cli.exits import CommandError
from allcores.cli.pipe_file import read_pipeline
from allcores.cli.pipe_request import pipeline_of
from allcores.errors import UsageError
from allcores.pipelines.identity import identity_of
from allcores.pipelines.pipeline import Pipeline

MODULE = """
from allcores import Pipeline

def parse(line): return {"n": int(line)}
def load(path, more=None): return path
def instead(record, error): return record
def key(record): return record["n"]
def add(state, record): return state + record["n"]

pipeline = Pipeline().map(parse)
def made(): return pipeline
def broken(): return pipeline.map(None + 1)
def unfit(): return pipeline.batch(0)
def late():
    raise OSError("no such model")
def leaving(): raise SystemExit(3)
NUMBER = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a script, and another one in which the test stands."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "pipe_steps.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("pipe_steps", None)


def read(here: Path, text: str) -> Pipeline:
    (here / "conf" / "p.toml").write_text(text)
    return read_pipeline("conf/p.toml")


def test_each_step(here: Path) -> None:
    """As the same methods would make it; functions are looked for from the file's folder."""
    found = read(
        here,
        """
        [[stage]]
        map = "pipe_steps.py:parse"
        name = "read"
        on = "threads"
        workers = 2
        preload = "pipe_steps:load"
        preload_args = ["x", 3]
        retries = 2
        on_error = "pipe_steps.py:instead"
        chunk = 5
        fuse = false
        [[stage]]
        filter = "builtins:bool"
        [[stage]]
        flat_map = "builtins:sorted"
        timeout = 2.5
        on_error = "record"
        [[stage]]
        batch = 64
        by = "builtins:len"
        [[stage]]
        unbatch = true
        [[stage]]
        batch = 1000
        by = "bytes"
        [[stage]]
        unbatch = true
        [[stage]]
        group_by = "pipe_steps.py:key"
        limit = 10
        [[stage]]
        window = 3
        step = 2
        [[stage]]
        enumerate = 1
        [[stage]]
        enumerate = true
        [[stage]]
        islice = [1, 100, 2]
        [[stage]]
        islice = 10
        [[stage]]
        scan = "pipe_steps.py:add"
        initial = 0
        [[stage]]
        distinct = true
        [[stage]]
        distinct = "pipe_steps.py:key"
        [[stage]]
        tee = [[{ batch = 2 }, { unbatch = true }, { write = "side.jsonl" }], [{ write = "other.jsonl" }]]
        [[stage]]
        write = "out.jsonl"
        """,
    )
    module = sys.modules["pipe_steps"]
    wanted = (
        Pipeline()
        .map(
            module.parse, name="read", on="threads", workers=2, preload=module.load, preload_args=["x", 3], retries=2,
            on_error=module.instead, chunk=5, fuse=False,
        )
        .filter(bool)
        .flat_map(sorted, timeout=2.5, on_error="record")
        .batch(64, by=len)
        .unbatch()
        .batch(1000, by="bytes")
        .unbatch()
        .group_by(module.key, limit=10)
        .window(3, step=2)
        .enumerate(1)
        .enumerate()
        .islice(1, 100, 2)
        .islice(10)
        .scan(module.add, 0)
        .distinct()
        .distinct(module.key)
        .tee(Pipeline().batch(2).unbatch().write("side.jsonl"), Pipeline().write("other.jsonl"))
        .write("out.jsonl")
    )  # fmt: skip
    assert repr(found) == repr(wanted)
    assert identity_of(found.steps) == identity_of(wanted.steps)
    assert [getattr(step, "options", None) for step in found.steps] == [
        getattr(step, "options", None) for step in wanted.steps
    ]


MISTAKES = {
    "x = ": "conf/p.toml is no TOML: Invalid value",
    f"x = {'[' * 5000}{']' * 5000}": "conf/p.toml is no TOML that can be read: it is nested too deeply",
    "": "conf/p.toml: there are no stages; each step is a table [[stage]]",
    "stage = 3": "conf/p.toml: there are no stages",
    "stages = 3": "conf/p.toml: 'stages' is no key here",
    "stage = [3]": "conf/p.toml, stage 1 is 3; a stage is a table",
    "[[stage]]\nbatch = 3\n[[stage]]\nname = 'x'": "conf/p.toml, stage 2 has no step; it is one of map, filter",
    "[[stage]]\nmpa = 'x:y'": "conf/p.toml, stage 1: 'mpa' is no step: did you mean 'map'?",
    "[[stage]]\nmap = 'a:b'\nbatch = 3": "conf/p.toml, stage 1 has 'map' and 'batch': each step is a stage of its own",
    "[[stage]]\nmap = 'builtins:len'\ntimout = 3": "stage 1: 'timout' is no key of map: did you mean 'timeout'?",
    "[[stage]]\nunbatch = true\nworkers = 3": "'workers' is no key of unbatch; beside unbatch there may be nothing",
    "[[stage]]\nmap = 'builtins:len'\nworkers = 'two'": "stage 1, workers is 'two'; it must be a whole number",
    "[[stage]]\nmap = 'builtins:len'\nworkers = true": "stage 1, workers is True; it must be a whole number",
    "[[stage]]\nmap = 'builtins:len'\nworkers = 0": "stage 1: ",
    "[[stage]]\nmap = 'builtins:len'\nfuse = 1": "stage 1, fuse is 1; it must be true or false",
    "[[stage]]\nmap = 'builtins:len'\non = 'gpu'": "stage 1: map(len): on='gpu' must be 'processes'",
    "[[stage]]\nmap = 3": "stage 1, map is 3; it is the name of a function, like 'work.py:parse'",
    "[[stage]]\nmap = 'pipe_steps.py:prase'": "map: pipe_steps.py has no function 'prase': did you mean 'parse'?",
    "[[stage]]\nmap = 'pipe_steps.py'": "stage 1, map: 'pipe_steps.py' names no function: which one?",
    "[[stage]]\nmap = 'pipe_steps.py:NUMBER'": "stage 1, map: pipe_steps.py:NUMBER is an int, not a function",
    "[[stage]]\nmap = 'builtins:len'\non_error = 'sikp'": "stage 1, on_error: 'sikp' names no function",
    "[[stage]]\nbatch = 0": "stage 1: batch(0): the size must be a whole number, 1 or more",
    "[[stage]]\nbatch = 3\nby = 7": "stage 1, by is 7; it must be a text",
    "[[stage]]\nunbatch = 3": "stage 1, unbatch is 3; it must be true",
    "[[stage]]\ndistinct = false": "stage 1, distinct is False; it must be true",
    "[[stage]]\nscan = 'builtins:max'": "stage 1, scan: the key 'initial' is missing",
    "[[stage]]\nislice = 'x'": "stage 1: islice(stop='x') must be a whole number",
    "[[stage]]\ntee = 'x'": "stage 1, tee must be a list of sides, each a list of stages",
    "[[stage]]\ntee = [[{ batch = 2 }]]": "stage 1: tee: side 1",
    "[[stage]]\ntee = [[{ write = 'a.jsonl' }], [{ mpa = 2 }]]": "stage 1, tee, side 2, stage 1: 'mpa' is no step",
    "[[stage]]\nwrite = 3": "stage 1, write is 3; it is the path of an output",
    "[[stage]]\nbatch = 2\n[[stage]]\nwrite = 'a.csv'": "stage 2: write(a.csv): the records are those of batch(2)",
    "[[stage]]\nwrite = 'a.csv'\n[[stage]]\nbatch = 2": "stage 2: batch(2) stands behind write(a.csv)",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_each_mistake(here: Path, text: str) -> None:
    """One sentence that names the file, the stage and the key."""
    with pytest.raises(CommandError) as caught:
        read(here, text)
    sentence = str(caught.value)
    assert MISTAKES[text] in sentence and sentence.startswith("conf/p.toml")
    assert "\n" not in sentence.replace("(at line 1, column 5)", "")


def test_a_file_with_a_mark_at_its_start(here: Path) -> None:
    """As editors on Windows write it; their ends of lines too."""
    (here / "conf" / "p.toml").write_bytes(b"\xef\xbb\xbf[[stage]]\r\nmap = 'pipe_steps.py:parse'\r\n")
    assert read_pipeline("conf/p.toml").steps == read(here, "[[stage]]\nmap = 'pipe_steps.py:parse'").steps


def test_a_file_that_is_not_there(here: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot read conf/q\.toml: No such file"):
        read_pipeline("conf/q.toml")


def test_a_pipeline_of_a_module(here: Path) -> None:
    """It, or a function that gives it; all else is told of."""
    one = pipeline_of("conf/pipe_steps.py:pipeline")
    assert pipeline_of("conf/pipe_steps.py:made") is one
    for name, sentence in {
        "NUMBER": "is an int, and no Pipeline",
        "parse": "is called without arguments, for the pipeline that it gives",
        "nothing": "has no function 'nothing'",
        # what it has raised is its own: with the line, and no fault of the command
        "broken": r"broken failed at .*pipe_steps.py, line \d+: TypeError: unsupported operand",
        "late": r"late failed at .*pipe_steps.py, line \d+: OSError: no such model",
        "leaving": r"leaving called sys.exit\(3\), and gave no pipeline",
    }.items():
        with pytest.raises(CommandError, match=sentence):
            pipeline_of(f"conf/pipe_steps.py:{name}")
    with pytest.raises(UsageError, match=r"^batch\(0\)"):
        pipeline_of("conf/pipe_steps.py:unfit")
