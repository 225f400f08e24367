"""The folder of runs: what is removed from it, what is never removed, and whose runs are believed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import allcores
from allcores import failpoints
from allcores.cli.exits import Exit
from allcores.cli.main import main
from allcores.runs import directory, export, index
from allcores.runs.lock import RunLock
from allcores.sinks.base import Block, Entries
from allcores.sinks.directory import FolderOfFiles
from allcores.sinks.json_lines import JsonLinesFile
from allcores.system import own_files

ROOT = Path(__file__).resolve().parents[2]
NEVER_BEGUN = "20260101-000000-000abcd"
LONG_AGO = 1_000_000_000


@pytest.fixture
def pool() -> Iterator[allcores.Pool]:
    with allcores.Pool(backend="serial") as pool:
        yield pool


def ran(pool: allcores.Pool, output: str = "out.jsonl", **options: Any) -> allcores.RunResult:
    return pool.run(str, [1, 2], output, journal=allcores.Journal(**{"folder": "runs"} | options))


def begin_another(pool: allcores.Pool) -> None:
    """What sets off the removal of old runs."""
    with contextlib.suppress(FileNotFoundError):
        os.utime("runs/.pruned", (LONG_AGO, LONG_AGO))
    ran(pool, "another.jsonl")


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in folder.rglob("*")
    }


# --- what is not a run's stays --------------------------------------------------------------------


def test_folders_that_are_no_runs_stay(pool: allcores.Pool, here: Path) -> None:
    """Whatever their names and age; a file called .pruned is not emptied, a link to one not followed."""
    runs = here / "runs"
    for name in (
        "Documents",
        "20260101-000000",
        "x" + NEVER_BEGUN,
        NEVER_BEGUN + "x",
        NEVER_BEGUN.upper(),
        ".removed-x",
    ):
        (runs / name).mkdir(parents=True)
        (runs / name / "precious").write_text("x")
    (runs / "Documents" / "catalogue.sqlite").write_text("mine")
    (runs / "empty").mkdir()
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "lock").touch()
    (runs / NEVER_BEGUN).symlink_to(here / "elsewhere")
    (runs / NEVER_BEGUN.replace("0abcd", "1abcd")).mkdir()  # a run's name, but a stranger's file
    (runs / NEVER_BEGUN.replace("0abcd", "1abcd") / "precious").write_text("x")
    (runs / ".pruned").write_text("mine")
    for path in [*runs.iterdir(), *runs.rglob("*")]:
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    before = everything(here)
    begin_another(pool)
    after = everything(here)
    assert {name: after.get(name, b"gone") for name in before} == before


def half_made(catalogue: Path, filler: str = "filler") -> None:
    """The catalogue of a program that was killed in SQLite's first transaction, with what undoes it beside it."""
    with contextlib.closing(sqlite3.connect(catalogue.parent / "made", isolation_level=None)) as db:
        db.execute("PRAGMA page_size = 512")
        db.execute(f"CREATE TABLE {filler} (text)")
        db.execute(f"INSERT INTO {filler} VALUES ('x')")
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN")
        # More than is kept in memory: it is written before its end.
        db.execute(f"UPDATE {filler} SET text = 'y'")
        db.executemany(f"INSERT INTO {filler} VALUES (?)", [("z" * 400,)] * 50)
        for end in ("", "-journal"):
            os.close(own_files.create(f"{catalogue}{end}"))
            Path(f"{catalogue}{end}").write_bytes((catalogue.parent / f"made{end}").read_bytes())
        db.execute("ROLLBACK")
    (catalogue.parent / "made").unlink()


def test_a_run_that_was_killed_before_it_began_is_begun_anew(pool: allcores.Pool, here: Path) -> None:
    """Nothing of it can be read, and there is nothing: it is no run that may be the one that is meant."""
    folder = here / "runs" / NEVER_BEGUN
    own_files.make_folders(str(folder))
    half_made(folder / index.FILE)
    with pytest.raises(index.NotBegun):
        directory.look_up(str(here / "runs"), NEVER_BEGUN)
    assert ran(pool, resume=True).resumed == 0


def test_but_not_one_that_has_tables(here: Path) -> None:
    """Somewhere SQLite has no write-ahead log: there a run that has begun may have been killed in any transaction."""
    folder = here / "runs" / NEVER_BEGUN
    own_files.make_folders(str(folder))
    half_made(folder / index.FILE, filler="run")
    with pytest.raises(allcores.JournalError) as caught:
        directory.look_up(str(here / "runs"), NEVER_BEGUN)
    assert not isinstance(caught.value, index.NotBegun)


@pytest.mark.parametrize("made", ["nothing", "lock", "empty", "half", "tables"])
def test_a_run_that_never_began_goes(pool: allcores.Pool, here: Path, made: str) -> None:
    """Its program was killed before it had written anything: after an hour, and if nobody holds its lock."""
    folder = here / "runs" / NEVER_BEGUN
    own_files.make_folders(str(folder))
    if made == "lock":
        (folder / "lock").touch()
    elif made == "empty":
        (folder / index.FILE).touch()
    elif made == "half":
        half_made(folder / index.FILE)
    elif made == "tables":
        index.RunIndex(str(folder), writable=True, create=True).close()
    begin_another(pool)
    assert folder.exists()
    os.utime(folder, (LONG_AGO, LONG_AGO))
    if made == "lock":
        held = "import fcntl, sys; file = open(sys.argv[1], 'r+'); fcntl.lockf(file, 2 | 4); print(); input()"
        with subprocess.Popen(
            [sys.executable, "-c", held, folder / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            begin_another(pool)
            assert folder.exists()
            holder.communicate(b"\n")
    begin_another(pool)
    assert not folder.exists()


@pytest.mark.parametrize("trouble", ["garbage", "directory", "locked", "descriptors", "other version", "gone"])
def test_a_run_that_cannot_be_read_stays(
    pool: allcores.Pool, here: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that is damaged, locked or out of reach is no reason to remove it, however old."""
    kept = ran(pool)
    assert kept.journal is not None
    folder = Path(kept.journal)
    path = folder / index.FILE
    db = None
    if trouble == "garbage":
        path.write_bytes(b"x" * 9000)
    elif trouble == "directory":
        path.rename(here / "aside")
        path.mkdir()
    elif trouble == "other version":
        with contextlib.closing(sqlite3.connect(path)) as changed:
            changed.execute("UPDATE run SET format = 99")
            changed.commit()
    elif trouble == "locked":
        db = sqlite3.connect(path)
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(index, "BUSY_S", 0.01)
    elif trouble == "descriptors":

        def refuse(*_: Any, **__: Any) -> None:
            raise sqlite3.OperationalError("unable to open database file")

        monkeypatch.setattr(sqlite3, "connect", refuse)
    elif trouble == "gone":
        path.unlink()
    os.utime(folder, (LONG_AGO, LONG_AGO))
    directory.prune("runs")
    if db is not None:
        db.close()
    assert (folder / directory.LOG).stat().st_size > 0


def test_removing_a_run_removes_what_is_its_own(pool: allcores.Pool, here: Path) -> None:
    """A stranger's file in its folder is told of, and all stays; beside the output only what it left goes."""
    result = ran(pool)
    assert result.journal is not None
    folder = Path(result.journal)
    (folder / "notes").mkdir()
    (folder / "notes" / "precious").touch()
    with pytest.raises(allcores.JournalError, match="did not make: notes"):
        directory.remove("runs", result.id)
    assert directory.prune("runs", now=4e9) == []
    assert {"notes", directory.LOG, index.FILE} <= set(os.listdir(folder))
    shutil.rmtree(folder / "notes")
    beside = here / f".out.jsonl.{result.id}.partial"
    beside.mkdir()
    (beside / "precious").touch()
    directory.remove("runs", result.id)
    assert set(os.listdir("runs")) <= {".pruned"} and (beside / "precious").exists()


def test_a_removal_that_was_killed_is_finished(pool: allcores.Pool, here: Path) -> None:
    """It is no run any more from its first step on."""
    result = ran(pool)
    assert result.journal is not None
    going = here / "runs" / f".removed-{result.id}"
    os.rename(result.journal, going)
    assert list(directory.known_runs("runs")) == []
    begin_another(pool)
    assert not going.exists()


def test_a_run_that_is_removed_under_anothers_hands_is_missed(pool: allcores.Pool, here: Path) -> None:
    """Who found it, and locks it only when it is gone, is told so."""
    result = ran(pool)
    assert result.journal is not None
    directory.remove("runs", result.id)
    with pytest.raises(allcores.RunNotFound, match="removed"):
        RunLock(result.journal, result.id)


# --- where runs are kept --------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "file/below", "dangling"])
def test_a_file_in_the_place_of_the_folder_is_told_of(pool: allcores.Pool, here: Path, place: str) -> None:
    """In a sentence, by the API and at the shell; nothing runs for ever."""
    (here / "file").touch()
    (here / "dangling").symlink_to("nowhere")
    with pytest.raises(allcores.JournalError, match="cannot make a folder for the journal"):
        ran(pool, folder=place)
    (here / "in.txt").write_text("1\n")
    assert main(["run", "json:loads", "in.txt", "-o", "o.jsonl", "--backend", "serial", "--runs-dir", place, "-q"]) == 4


@pytest.mark.parametrize("folder", ["", "a\0b", 3])
def test_a_folder_that_can_be_none_is_refused(folder: Any) -> None:
    """At once."""
    with pytest.raises((allcores.UsageError, TypeError)):
        allcores.Journal(folder=folder)


def test_everything_of_a_run_is_private(pool: allcores.Pool, here: Path) -> None:
    """Folders made on the way to it, too, whatever the umask."""
    before = os.umask(0)
    try:
        result = ran(pool, folder="a/b")
    finally:
        os.umask(before)
    assert result.journal is not None
    for path in (here / "a", here / "a" / "b", Path(result.journal), *Path(result.journal).iterdir()):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file another user's: really if we may, else in our own eyes."""
    if os.geteuid() == 0:
        os.lchown(path, 54_321, 54_321)
    else:
        there = os.lstat(path)
        true = own_files.is_own
        monkeypatch.setattr(own_files, "is_own", lambda each: each.st_ino != there.st_ino and true(each))


@pytest.mark.parametrize("what", ["runs", "folder", index.FILE, directory.LOG, "lock"])
@pytest.mark.parametrize("fault", ["owner", "mode", "link"])
def test_what_others_can_write_is_not_believed(
    pool: allcores.Pool, here: Path, what: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose folder or files are another's, or open to others, or elsewhere: nothing of it is run or removed."""
    result = ran(pool)
    assert result.journal is not None
    folder = Path(result.journal)
    path = {"runs": here / "runs", "folder": folder}.get(what, folder / what)
    if fault == "owner":
        give_away(path, monkeypatch)
    elif fault == "mode":
        path.chmod(0o777)
    else:
        path.rename(here / "aside")
        path.symlink_to(here / "aside")
    if (what, fault) == ("runs", "link"):
        assert ran(pool, resume=result.id).resumed == 2  # the user's own way of having it elsewhere
        return
    for resume in (result.id, True):
        with pytest.raises(allcores.JournalError, match=r"trusted|not safe"):
            ran(pool, resume=resume)
    assert main(["runs", "--runs-dir", "runs", "resume", result.id]) == Exit.OUTPUT
    with pytest.raises(allcores.JournalError):
        directory.remove("runs", result.id)
    assert directory.prune("runs", now=4e9) == [] and folder.exists()


def test_a_home_that_others_can_write_is_not_believed(
    pool: allcores.Pool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$ALLCORES_HOME itself is looked at as well; /tmp would do, for there names are safe."""
    home = here / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("ALLCORES_HOME", str(home))
    result = ran(pool, folder=None)
    home.chmod(0o777)
    with pytest.raises(allcores.JournalError, match="not safe"):
        ran(pool, folder=None)
    with pytest.raises(allcores.JournalError, match="not safe"):
        ran(pool, folder=None, resume=result.id)
    home.chmod(0o1777)
    assert ran(pool, folder=None, resume=result.id).resumed == 2
    give_away(home, monkeypatch)
    with pytest.raises(allcores.JournalError, match="belongs to user"):
        ran(pool, folder=None, resume=result.id)


def test_a_run_that_cannot_be_read_is_not_begun_anew(
    pool: allcores.Pool, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With resume=True its work would be done again without a word; removed, another begins."""
    result = ran(pool)
    assert result.journal is not None
    (Path(result.journal) / index.FILE).write_bytes(b"x" * 9000)
    with pytest.raises(allcores.JournalError, match=f"runs rm {result.id}"):
        ran(pool, resume=True)
    assert main(["runs", "--runs-dir", "runs"]) == 0
    assert f"run {result.id} is left out" in capsys.readouterr().err
    assert main(["runs", "--runs-dir", "runs", "rm", result.id]) == 0
    assert ran(pool, resume=True).resumed == 0


# --- nothing is left of what was killed -----------------------------------------------------------

KILLED = """
import os, signal, sys
import allcores

def work(n):
    if n == 4_000:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"n": n, "text": "x" * 50}

with allcores.Pool(backend="serial") as pool:
    pool.run(work, range(5_000), sys.argv[1], journal=False)
"""


@pytest.mark.parametrize("output", ["o.jsonl", "o.jsonl.gz", "o.csv"])
@pytest.mark.parametrize("before", [False, True])
def test_a_kill_without_a_journal_leaves_nothing(here: Path, output: str, before: bool) -> None:
    """Neither beside the output nor where temporary files are."""
    (here / "tmp").mkdir()
    if before:
        (here / output).write_text("before")
    (here / "killed.py").write_text(KILLED)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(here / "tmp")}
    done = subprocess.run([sys.executable, "killed.py", output], env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert sorted(os.listdir()) == sorted(["killed.py", "tmp", *[output] * before]) and os.listdir("tmp") == []


def files(*values: object) -> Entries:
    encode = FolderOfFiles("x").wrap(lambda value: value)
    return lambda: [Block(0, len(values), "".join(encode(value) + "\n" for value in values).encode())]


@pytest.mark.parametrize("moment", ["publish.write", "publish.rename.before", "publish.rename.after"])
def test_what_a_killed_session_left_of_a_folder_is_cleared_up(tmp_path: Path, moment: str) -> None:
    """By the next one, whatever its name; not what a living one is making, nor what others put there."""
    sink = FolderOfFiles(tmp_path / "out")
    sink.publish(files("a"), mark="m", sync=False)
    pid = os.fork()
    if pid == 0:
        failpoints.install(lambda name: os._exit(9) if name == moment else None)
        sink.publish(files("b", "c"), mark="killed", sync=False)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    (tmp_path / ".out.mine.partial").mkdir()
    (tmp_path / ".out.mine.partial" / "precious").touch()

    def other(name: str) -> None:
        if name == "publish.write":  # another program publishes to the same place meanwhile
            failpoints.install(None)
            FolderOfFiles(tmp_path / "out").publish(files("o"), mark="other", sync=False)

    failpoints.install(other)
    sink.publish(files("d"), mark="new", sync=False)
    assert sorted(os.listdir(tmp_path)) == [".out.mine.partial", "out"]
    assert (tmp_path / "out" / "00000000.txt").read_text() == "d"
    assert os.listdir(tmp_path / ".out.mine.partial") == ["precious"]


def test_what_began_a_run_resumes_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A program, or a command with options that no run has: the sentence names both ways."""
    with allcores.Pool(backend="serial") as pool:
        pool.run(abs, [1, 2], tmp_path / "out.jsonl", journal=allcores.Journal(folder=tmp_path / "runs"))
    assert main(["runs", "resume", "latest", "--runs-dir", str(tmp_path / "runs")]) == 2
    said = capfd.readouterr().err
    assert "a program with resume=True, allcores chat preprocess with --resume" in said


# --- runs that another process removes meanwhile --------------------------------------------------


def removed_before(monkeypatch: pytest.MonkeyPatch, where: ModuleType, what: str, place: str) -> None:
    """Another process removes the run in `place` just before something of `where` is called."""
    real = getattr(where, what)

    def late(*given: Any, **options: Any) -> Any:
        shutil.rmtree(place, ignore_errors=True)
        return real(*given, **options)

    monkeypatch.setattr(where, what, late)


def test_a_run_that_goes_while_it_is_looked_for_is_none(
    here: Path, pool: allcores.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To resume what writes to the output was refused, for there was a run that could not be read."""
    first = ran(pool)
    with monkeypatch.context() as patched:
        removed_before(patched, directory, "RunIndex", f"runs/{first.id}")
        second = ran(pool, resume=True)
    assert second.id != first.id
    assert second.resumed == 0
    removed_before(monkeypatch, directory, "RunIndex", f"runs/{second.id}")
    with pytest.raises(allcores.RunNotFound, match=f"run {second.id} was removed a moment ago"):
        directory.look_up("runs", second.id)


@pytest.mark.parametrize("what", ["Log", "RunIndex"])
def test_a_run_that_goes_while_it_is_exported_is_none(
    here: Path, pool: allcores.Pool, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What is left of its log was exported, as that of a run whose catalogue is damaged."""
    first = ran(pool)
    removed_before(monkeypatch, export, what, f"runs/{first.id}")
    with pytest.raises(allcores.RunNotFound, match="was removed a moment ago"):
        export.export("runs", first.id, JsonLinesFile("exported.jsonl"))
    assert not os.path.exists("exported.jsonl")
