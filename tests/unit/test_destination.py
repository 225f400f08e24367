"""Outputs are looked at before anything is done: they can be written, and no input or script is lost by them."""

from __future__ import annotations

import functools
import os
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import allcores
from allcores import slices
from allcores.cli.main import main
from allcores.errors import UsageError
from allcores.sinks.directory import FolderOfFiles
from allcores.sinks.tables import SqliteTable
from allcores.sources.chain import Chain
from allcores.sources.files import Files
from allcores.sources.text import STDIN
from allcores.sources.text_files import JsonLines, Lines
from allcores.timeline import perfetto

TEXT = '{"n": 1}\n{"n": 2}\n'
SCRIPT = "def call(item):\n    raise SystemError('an item ran')\n"


def never(item: Any) -> Any:
    raise AssertionError("an item ran")


def contents(folder: Path) -> dict[str, bytes | None]:
    """All there is in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with inputs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path.parent / f"{tmp_path.name}-home"))
    for name in ("d.jsonl", "d.txt", "in/1.txt", "in/2.txt", "in/deep/3.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXT)
    (tmp_path / "work.py").write_text(SCRIPT)
    monkeypatch.setattr(sys, "path", sys.path[:])  # the command puts the script's folder there
    monkeypatch.setitem(sys.modules, "work", sys)
    monkeypatch.delitem(sys.modules, "work")
    os.symlink("d.jsonl", tmp_path / "symbolic.jsonl")
    os.link(tmp_path / "d.jsonl", tmp_path / "hard.jsonl")
    os.symlink("in/2.txt", tmp_path / "symbolic.txt")
    os.link(tmp_path / "in/2.txt", tmp_path / "hard.txt")
    os.symlink("in", tmp_path / "linked")
    return tmp_path


def refused(pool: allcores.Pool, source: Any, sink: Any, fn: Callable[[Any], Any] = never, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        pool.run(fn, source, sink, **options)
    return str(caught.value)


@pytest.fixture(scope="module")
def pool() -> Any:
    with allcores.Pool(1, backend="serial") as made:
        yield made


#: source, output
ON_TOP: list[tuple[Any, Any]] = [
    ("d.jsonl", "d.jsonl"),
    ("d.jsonl", "./in/../d.jsonl"),
    ("d.jsonl", Path("d.jsonl")),
    ("d.jsonl", "symbolic.jsonl"),
    ("symbolic.jsonl", "d.jsonl"),
    ("d.jsonl", "hard.jsonl"),
    ("d.jsonl", SqliteTable("d.jsonl")),
    (Lines("d.txt"), "d.txt"),
    (Chain([JsonLines("d.jsonl"), Lines("d.txt")]), "d.txt"),
    ("in/*.txt", "in/2.txt"),
    ("in/*.txt", "symbolic.txt"),
    ("in/*.txt", "hard.txt"),
    ("in/*.txt", "in/new.txt"),
    ("linked/*.txt", "in/new.txt"),
    ("in/**/*.txt", "linked/deep/new.txt"),
    ("in", "in/out.jsonl"),
    ("in", "in/deep/out.csv"),
    (Files("in/**"), "in/deep/1/out/"),
    ("in", "in/"),
    ("in/1.txt", "in/"),
    ("in/deep/*.txt", "in/"),
    ("in/new/*.txt", FolderOfFiles("in/new")),
    (slices.lines, "d.txt"),
    (slices.lines, "in/"),
    (["d.txt", "in/1.txt"], "in/1.txt"),
    ((Path("d.txt"), Path("symbolic.txt")), "in/2.txt"),
    ({"d.txt"}, "d.txt"),
    ({"d.txt": 1}, "d.txt"),
    ({"d.txt": 1}.keys(), "d.txt"),
    (deque(["d.txt"]), "d.txt"),
    ([b"d.txt"], "d.txt"),
    ([("d.txt", 1)], "d.txt"),
    ([{"id": 1, "path": Path("symbolic.txt")}], "in/2.txt"),
]


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize(("source", "output"), ON_TOP)
def test_no_input_is_replaced(place: Path, pool: allcores.Pool, source: Any, output: Any, journal: bool) -> None:
    """Whichever way it is named: refused in a sentence, before anything is read, written or run."""
    (place / "in" / ".allcores").write_text("a folder that could be replaced")
    if source is slices.lines:
        source = slices.lines("d.txt" if output == "d.txt" else "in/1.txt")
    before = contents(place)
    sentence = refused(pool, source, output, journal=journal)
    assert "input" in sentence and "choose" in sentence and "\n" not in sentence
    assert contents(place) == before
    assert not os.path.exists(os.environ["ALLCORES_HOME"])


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("give", [lambda: (name for name in ["in/1.txt", "d.txt"]), lambda: Path().glob("d.*")])
def test_what_an_iterator_gives_is_no_output(
    place: Path, pool: allcores.Pool, give: Callable[[], Any], journal: bool
) -> None:
    """It cannot be looked at beforehand, so the run ends at the item; nothing was published then."""
    before = contents(place)
    sentence = refused(pool, give(), "d.txt", str, journal=journal)
    assert "d.txt is an input" in sentence and contents(place) == before
    assert pool.run(str, give(), "new.txt", journal=journal).ok == 2


@pytest.mark.parametrize("fd", [False, True])
def test_an_open_file_is_an_input(place: Path, pool: allcores.Pool, fd: bool) -> None:
    """By its name, or as an open file if it has none."""
    with open("d.txt") as file, open(file.fileno() if fd else "d.txt", closefd=not fd) as source:
        assert "input" in refused(pool, source, "d.txt")


def test_slices_in_a_list(place: Path, pool: allcores.Pool) -> None:
    """Slices are looked at one by one where they are in a list."""
    found = slices.lines("in/2.txt")
    assert "is an input" in refused(pool, [*found], "hard.txt")


@pytest.mark.parametrize("url", ["sqlite:///{}", "sqlite:///{}?timeout=5", "sqlite:///file:{}?mode=ro&uri=true"])
def test_a_database_is_an_input_too(place: Path, pool: allcores.Pool, url: str) -> None:
    """A database that a query reads is neither written to nor replaced."""
    pytest.importorskip("sqlalchemy")
    from allcores.sources.sql import SqlQuery

    path = place / "rows.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE outcomes (n)")
    db.commit()
    db.close()
    before = contents(place)
    query = SqlQuery(url.format(path), "SELECT n FROM outcomes ORDER BY n")
    assert "is an input" in refused(pool, query, "rows.db:outcomes")
    assert contents(place) == before


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_function_is_no_output(place: Path, pool: allcores.Pool, wrapped: bool) -> None:
    """The file of the function is not replaced, either."""
    space: dict[str, Any] = {}
    exec(compile(SCRIPT, str(place / "work.py"), "exec"), space)
    call = functools.partial(space["call"]) if wrapped else space["call"]
    assert "file of the function" in refused(pool, "d.jsonl", "work.py", call)
    assert (place / "work.py").read_text() == SCRIPT


def test_others_go_on(place: Path, pool: allcores.Pool) -> None:
    """Outputs beside inputs, and of an earlier run, are none of these."""
    for source, output in [
        ("d.jsonl", "out.jsonl"),
        ("in/*.txt", "in/out.jsonl"),
        ("in/*.txt", "in/.out.txt"),
        ("in", "out/"),
        (["d", "e"], "out.txt"),
    ]:
        for _ in range(2):
            assert pool.run(str, source, output, journal=False).failures == 0


#: arguments behind `run work.py:call`
CLI_ON_TOP = [
    ["d.jsonl", "-o", "d.jsonl"],
    ["d.jsonl", "-o", "d.jsonl", "--unordered"],
    ["d.jsonl", "-o", "hard.jsonl", "--no-journal", "--unordered"],
    ["--files", "in/*.txt", "-o", "in/2.txt", "--unordered"],
    ["--files", "in/*.txt", "-o", "in/2.txt", "--no-journal"],
    ["--files", "in/*.txt", "--files", "d.txt", "-o", "d.txt"],
    ["d.txt", "in/2.txt", "-o", "symbolic.txt"],
    ["d.txt", "-o", "out.jsonl", "--timeline", "d.txt"],
    ["d.txt", "-o", "out.jsonl", "--trace", "d.txt"],
    ["d.txt", "-o", "work.py"],
    ["d.txt", "-o", "out.jsonl", "--trace", "work.py"],
    ["d.txt", "-o", "out.jsonl", "--trace", "out.jsonl"],
    ["d.txt", "--timeline", "t.json", "--trace", "./t.json"],
]


@pytest.mark.parametrize("arguments", CLI_ON_TOP, ids=" ".join)
def test_the_command_asks_the_same(place: Path, capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Whatever writes: with a journal or without, whole or line by line, and the files of the recording."""
    before = contents(place)
    assert main(["run", "work.py:call", *arguments]) == 2
    sentence = capfd.readouterr().err
    assert sentence.count("\n") == 1 and ("choose" in sentence)
    after = {name: data for name, data in contents(place).items() if "__pycache__" not in name}
    assert after == before


def test_standard_input_and_output(place: Path, pool: allcores.Pool, capfd: pytest.CaptureFixture[str]) -> None:
    """They are files, too: `< FILE -o FILE`, and `FILE >> FILE`, which would never end."""
    stdin, stdout = os.dup(0), os.dup(1)
    try:
        file = os.open("d.jsonl", os.O_RDWR | os.O_APPEND)
        os.dup2(file, 0)
        assert "standard input is the same file" in refused(pool, Lines(STDIN), "d.jsonl")
        os.dup2(file, 1)
        os.close(file)
        code = main(["run", "work.py:call", "d.jsonl"])
    finally:
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.close(stdin)
        os.close(stdout)
    assert code == 2 and "standard output goes to it" in capfd.readouterr().err
    assert (place / "d.jsonl").read_text() == TEXT


#: output, and what the sentence says
BAD: list[tuple[str, str]] = [
    ("", "no name"),
    ("-", "only for the command line"),
    ("in", "it is a folder"),
    ("in.csv/", "no folder"),
    ("gone/out.jsonl", "there is no folder gone"),
    ("gone/out/", "there is no folder gone"),
    ("gone/out.db:rows", "there is no folder gone"),
    ("d.txt/out.csv", "Not a directory"),
    ("x" * 300 + ".jsonl", "too long"),
    ("x" * 300 + "/", "too long"),
    ("nul\0.jsonl", "null"),
    ("protected.jsonl", "write-protected"),
    ("protected.db", "write-protected"),
    ("d.db", "not a database"),
    ("views.db:seen", "has a view"),
    ("views.db:users", "that allcores did not make"),
    ("views.db:Users", "that allcores did not make"),
    ("loop.jsonl", "symbolic links"),
    ("dangling.jsonl", "there is no folder"),
    ("pipe.jsonl", "no regular file"),
    ("pipe.csv", "no regular file"),
    ("pipe.parquet", "no regular file"),
    ("/dev/null", "no regular file"),
    ("full/", "not empty"),
    (".//", "cannot be replaced"),
    ("/", "file of the function"),
    ("out.parquet.gz", "compressed inside"),
]


@pytest.mark.parametrize(("output", "says"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_refused_at_the_start(place: Path, pool: allcores.Pool, output: str, says: str) -> None:
    """An output that cannot be written is told of before the first item runs."""
    if "parquet" in output:
        pytest.importorskip("pyarrow")
    (place / "in.csv").write_text("")
    (place / "d.db").write_text("no database at all, but long enough that it could be one" * 20)
    (place / "full").mkdir()
    (place / "full" / "precious").write_text("")
    os.symlink("loop.jsonl", "loop.jsonl")
    os.symlink("gone/x.jsonl", "dangling.jsonl")
    for suffix in ("jsonl", "csv", "parquet"):
        os.mkfifo(f"pipe.{suffix}")
    db = sqlite3.connect("views.db")
    db.execute("CREATE VIEW seen AS SELECT 1")
    db.execute("CREATE TABLE users (name)")
    db.close()
    for name in ("protected.jsonl", "protected.db"):
        (place / name).write_text("")
        (place / name).chmod(0o444)
    names = sorted(os.listdir(place))
    sentence = refused(pool, ["a", "b"], output)
    assert says in sentence and "\n" not in sentence
    assert sorted(os.listdir(place)) == names
    assert not os.path.exists(os.environ["ALLCORES_HOME"])


@pytest.mark.parametrize("arguments", [["-o", "gone/x.jsonl"], ["--trace", "gone/x"], ["--timeline", "gone/x"]])
@pytest.mark.parametrize("more", [[], ["--no-journal"], ["--unordered"]])
def test_the_command_refuses_at_the_start(
    place: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], more: list[str]
) -> None:
    """The same at the command line, for each file that is written."""
    assert main(["run", "work.py:call", "d.txt", *arguments, *more]) == 2
    assert "there is no folder gone" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["o.csv", "o.tsv", "o.db:t", "o.jsonl.gz", "o.ndjson.bz2", "o/"])
def test_lines_go_where_lines_belong(place: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    """What is written as it comes is plain JSON lines, and under no name that promises anything else."""
    assert main(["run", "work.py:call", "d.txt", "-o", name, "--unordered", "--no-journal"]) == 2
    assert "plain JSON lines" in capfd.readouterr().err


def test_a_working_folder_that_is_gone(place: Path, pool: allcores.Pool) -> None:
    """One sentence, in both faces; an absolute output needs no working folder."""
    (place / "gone").mkdir()
    os.chdir(place / "gone")
    (place / "gone").rmdir()
    try:
        assert "working folder is gone" in refused(pool, ["a"], "out.jsonl")
    finally:
        os.chdir(place)


def test_a_picture_is_replaced_whole(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails in the middle of a trace leaves the one of yesterday."""
    timeline = allcores.Timeline()
    with allcores.Pool(1, backend="serial", observers=[timeline]) as made:
        made.map(str, [1])
    (place / "trace.json").write_text("yesterday's")
    names = sorted(os.listdir(place))

    def breaks_off(recording: Any) -> Iterator[dict[str, Any]]:
        yield {}
        raise MemoryError

    monkeypatch.setattr(perfetto, "trace_events", breaks_off)
    with pytest.raises(MemoryError):
        timeline.save_trace("trace.json")
    assert (place / "trace.json").read_text() == "yesterday's"
    assert sorted(os.listdir(place)) == names


@pytest.mark.parametrize("name", ["t.jsonl", "symbolic-t"])
def test_a_timeline_is_not_replaced_by_its_picture(place: Path, name: str) -> None:
    """Trace and report have a timeline as input; they go elsewhere."""
    pytest.importorskip("jinja2")
    with allcores.Timeline("t.jsonl") as timeline, allcores.Pool(1, backend="serial", observers=[timeline]) as made:
        made.map(str, [1])
    os.symlink("t.jsonl", "symbolic-t")
    before = (place / "t.jsonl").read_bytes()
    for save in (timeline.save_trace, timeline.save_report):
        with pytest.raises(UsageError, match="would be overwritten"):
            save(name)
    assert (place / "t.jsonl").read_bytes() == before


@pytest.mark.parametrize("option", ["--timeline", "--trace"])
@pytest.mark.parametrize("output", ["rows.db:found", "rows.db"])
def test_a_database_is_not_replaced_by_a_recording(
    place: Path, capfd: pytest.CaptureFixture[str], option: str, output: str
) -> None:
    """The output is a table in a file, and there are others in it."""
    db = sqlite3.connect("rows.db")
    db.execute("CREATE TABLE users (name)")
    db.close()
    before = (place / "rows.db").read_bytes()
    assert main(["run", "work.py:call", "d.txt", "-o", output, option, "rows.db"]) == 2
    assert f"{option} rows.db is written to already: choose another file" in capfd.readouterr().err
    assert (place / "rows.db").read_bytes() == before


@pytest.mark.parametrize("command", ["advise", "tune"])
@pytest.mark.parametrize("option", ["--html", "--png"])
@pytest.mark.parametrize(
    ("words", "name"),
    [(["d.txt"], "d.txt"), (["d.txt"], "work.py"), (["d.jsonl"], "hard.jsonl"), (["--files", "in/*.txt"], "hard.txt")],
)
def test_no_page_replaces_what_is_measured(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
    option: str,
    words: list[str],
    name: str,
) -> None:
    """`--html` and an input in the wrong order, say."""
    pytest.importorskip({"--html": "jinja2", "--png": "matplotlib"}[option])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = contents(place)
    assert main([command, "work.py:call", *words, option, name]) == 2
    assert "would be overwritten: choose another output" in capfd.readouterr().err
    assert contents(place) == before


@pytest.mark.parametrize("command", ["advise", "tune"])
def test_page_and_picture_are_two_files(place: Path, capfd: pytest.CaptureFixture[str], command: str) -> None:
    """The second would replace the first."""
    assert main([command, "work.py:call", "d.txt", "--html", "found", "--png", "./found"]) == 2
    assert "--png and --html are the same file, ./found: name two" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--json", "work.py", "d.txt"], "--json takes the file to write, and work.py is a Python file"),
        (["--report", "work.py", "work.py"], "--report takes the file to write, and work.py is a Python file"),
        (["--html", "script", "script"], "script is given to the program, and would be overwritten"),
        (["--json", "hard.txt", "script", "in/1.txt", "in/2.txt"], "hard.txt is given to the program"),
        (["--json", "found", "--report", "found", "script"], "--report and --json are the same file, found: name two"),
        (["--report", "no.py", "-m", "this"], "no.py is a Python file"),
    ],
)
def test_no_report_replaces_the_program(
    place: Path, capfd: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    """Elsewhere `--json` takes no file, so `profile --json script.py` is soon typed."""
    (place / "script").write_text("raise SystemError('the program ran')\n")
    before = contents(place)
    assert main(["profile", *words]) == 2
    assert sentence in capfd.readouterr().err
    assert contents(place) == before
