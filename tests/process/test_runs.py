"""Runs that are killed, starved and lied to: resumed, the output is that of an undisturbed run, byte for byte."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.process.waiting import wait_until
from tests.process.warm import Interpreter

import allcores
from allcores.failpoints import RUN
from allcores.runs import directory
from allcores.runs.index import RunIndex
from allcores.runs.lock import RunLock
from allcores.sources.chain import Chain
from allcores.sources.files import Files
from allcores.sources.text_files import JsonLines

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(Path(__file__).parent / "journalled.py", tmp_path)
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(ITEMS)))
    return tmp_path


Session = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def session(warm: Interpreter) -> Session:
    """One that is waited for: its exit code, negative for a signal, and what it printed."""

    def session(folder: Path, **settings: Any) -> tuple[int, dict[str, Any]]:
        done = warm.script(folder / "journalled.py", json.dumps(settings), folder=folder)
        assert "Traceback" not in done.err, done.err
        return done.code, json.loads(done.out) if done.out else {}

    return session


def finish(folder: Path, **settings: Any) -> allcores.RunResult:
    """The session that is left in peace, in this process: the same work, for its module has the same name."""
    sys.path.insert(0, str(folder))
    here = os.getcwd()
    os.chdir(folder)
    try:
        module = importlib.import_module("journalled")
        batch: int | None = settings.get("batch")
        function = module.in_batches if batch else module.as_text if settings.get("text") else module.work
        kept: Any = journal() if settings.get("journal") is None else settings["journal"]
        with allcores.Pool(backend="serial") as pool:
            sink = settings.get("sink", "out.jsonl")
            return pool.run(function, "in.txt", sink, journal=kept, on_error="skip", batch=batch)
    finally:
        os.chdir(here)
        sys.path.remove(str(folder))
        sys.modules.pop("journalled", None)
        importlib.invalidate_caches()


def wanted(items: range = range(ITEMS), *, mended: bool = False) -> str:
    """The output of a run that nobody disturbs."""
    return "".join(
        json.dumps({"n": n, "square": n * n}, separators=(", ", ": ")) + "\n" for n in items if mended or n % 97 != 5
    )


def log_bytes(folder: Path) -> int:
    """What the journal's log holds."""
    return sum(log.stat().st_size for log in folder.glob("runs/*/outcomes.log"))


def left_over(folder: Path) -> set[str]:
    """What is there besides what belongs there."""
    return set(os.listdir(folder)) - {"in.txt", "journalled.py", "out.jsonl", "runs", "__pycache__"}


# --- killed at each moment there is ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("point", RUN)
def test_killed_at_a_moment_and_resumed(session: Session, folder: Path, point: str) -> None:
    """Whatever was on its way to the disk, the output is exact."""
    often = point.startswith(("log.", "commit."))
    code, _ = session(folder, kill=[point, 3 if often else 0], pause=0.001 if often else 0.0002)
    assert code == -signal.SIGKILL, f"{point} was never passed"
    # The output is there whole, or not at all.
    assert (folder / "out.jsonl").exists() == (point in ("publish.rename.after", "finish.before", "finish.after"))
    assert not (folder / "out.jsonl").exists() or (folder / "out.jsonl").read_text() == wanted()
    result = finish(folder)
    assert (folder / "out.jsonl").read_text() == wanted()
    assert result.resumed > 0 or not often
    assert (result.ok, result.failed) == (wanted().count("\n"), 7)
    assert not left_over(folder)


def test_batches_that_are_killed_and_resumed(session: Session, folder: Path) -> None:
    """The journal is about items: nothing is lost or done twice, although each batch has items that were settled."""
    code, _ = session(folder, kill=["commit.before", 3], pause=0.001, batch=32)
    assert code == -signal.SIGKILL
    assert not (folder / "out.jsonl").exists()
    result = finish(folder, batch=32)
    assert (folder / "out.jsonl").read_text() == wanted()
    assert 0 < result.resumed < ITEMS
    assert (result.ok, result.failed) == (wanted().count("\n"), 7)
    assert not left_over(folder)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["log.write.torn", "log.sync.before", "commit.before", "publish.write"])
def test_a_disk_that_is_full_for_a_while(session: Session, folder: Path, point: str) -> None:
    """One sentence, what is committed stays, and with room it goes on."""
    code, result = session(folder, full=[point, 3 if point != "publish.write" else 0], pause=0.001)
    assert (code, result["error"]) == (1, "JournalError")
    assert "No space left" in result["message"] and "resume" in result["message"]
    assert not (folder / "out.jsonl").exists()
    assert finish(folder).resumed > 0
    assert (folder / "out.jsonl").read_text() == wanted()
    assert not left_over(folder)


@pytest.mark.slow
def test_a_file_system_that_takes_no_more(session: Session, folder: Path) -> None:
    """The kernel refuses to let a file grow: log or catalogue, whichever comes first."""
    for size in (9_000, 16_000, 40_000, 90_000):
        code, result = session(folder, file_bytes=size, pause=0.0002)
        assert code in (0, 1), result
        if code:
            assert result["error"] == "JournalError"
            assert "resume" in result["message"] or "catalogue" in result["message"]
    code, result = session(folder)
    assert code == 0, result
    assert (folder / "out.jsonl").read_text() == wanted()


# --- killed from outside --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["template", "fork"])
def test_parent_and_workers_killed_at_random(
    warm: Interpreter, session: Session, folder: Path, start_method: str
) -> None:
    """Real processes; kill -9 of the parent at any size of its log."""
    chance = random.Random(start_method)
    for _ in range(3):
        wanted_bytes = log_bytes(folder) + chance.randint(1, 4_000)
        told = json.dumps({"backend": "processes", "pause": 0.001})
        process = warm.begin(folder / "journalled.py", told, folder=folder)
        wait_until(lambda: process.poll() is not None or log_bytes(folder) >= wanted_bytes)  # noqa: B023
        process.kill()
        process.wait()
    code, result = session(folder, backend="processes")
    assert code == 0 and result["resumed"] > 0
    assert (folder / "out.jsonl").read_text() == wanted()


# --- what a journal can meet on its disk ----------------------------------------------------------


@pytest.mark.quick
def test_a_torn_tail_and_damage_in_the_middle(session: Session, folder: Path) -> None:
    """Rubbish behind the committed part is cut off; a record that changed costs its items, which run again."""
    code, first = session(folder, kill=["publish.begin", 0], pause=0.0002)
    assert code == -signal.SIGKILL
    (log,) = folder.glob("runs/*/outcomes.log")
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    log.write_bytes(raw + b"torn")
    code, result = session(folder)
    assert code == 0, result
    assert (folder / "out.jsonl").read_text() == wanted()
    assert not first and result["resumed"] == ITEMS


def test_damage_under_an_input_that_is_read_once(pool: allcores.Pool, here: Path) -> None:
    """It cannot be run again from there: nothing is published, and the next session makes it good."""
    with pytest.raises(KeyboardInterrupt):
        pool.run(double, interrupted([*range(500)], 400), "out.jsonl", journal=journal())
    (log,) = here.glob("runs/*/outcomes.log")
    raw = bytearray(log.read_bytes())
    raw[40] ^= 0xFF
    log.write_bytes(raw)
    with pytest.raises(allcores.JournalError, match="cannot be read again"):
        pool.run(double, iter(range(500)), "out.jsonl", journal=journal())
    assert not Path("out.jsonl").exists()
    assert pool.run(double, iter(range(500)), "out.jsonl", journal=journal()).ok == 500
    assert lines() == [2 * n for n in range(500)]


def test_a_log_that_lost_its_end(session: Session, folder: Path) -> None:
    """After a power loss without fsync, say: what is missing runs again."""
    session(folder, kill=["publish.begin", 0], pause=0.0002, journal={"fsync": "never"})
    (log,) = folder.glob("runs/*/outcomes.log")
    os.truncate(log, log.stat().st_size // 3)
    code, result = session(folder)
    assert code == 0, result
    assert (folder / "out.jsonl").read_text() == wanted()


FLIPPED = [
    "UPDATE records SET start = start + 1 WHERE start = (SELECT max(start) FROM records)",
    "UPDATE records SET count = count - 1 WHERE start = (SELECT min(start) FROM records)",
    "UPDATE records SET offset = offset + 8 WHERE start = (SELECT max(start) FROM records)",
    "DELETE FROM records WHERE start = (SELECT max(start) FROM records)",
    "UPDATE failures SET record = replace(record, 'index', 'imdex')",
    "UPDATE failures SET slot = slot + 1",
    "DELETE FROM failures",
    "UPDATE anchors SET place = replace(place, '[', '[1')",
    "UPDATE anchors SET items = items - 1",
    "UPDATE keys SET slot = slot + 1 WHERE slot = (SELECT max(slot) FROM keys)",
    "UPDATE keys SET digest = x'00'",
    "DELETE FROM keys",
    "UPDATE run SET total = 3",
    "UPDATE run SET sessions = 'x'",
    "UPDATE run SET identity = replace(identity, 'module', 'modul')",
]


@pytest.mark.parametrize("kind", ["file", "keyed"])
def test_a_catalogue_that_is_not_as_it_was_written(pool: allcores.Pool, here: Path, kind: str) -> None:
    """A flipped bit costs items that run again, or the run is refused in a sentence; no output is wrong."""
    Path("in.jsonl").write_text("".join(f'{{"k": "{n}", "n": {n}}}\n' for n in range(10)))

    def number(row: dict[str, Any]) -> int:
        if row["n"] in (3, 7):
            raise ValueError(f"no {row['n']}")
        return int(row["n"])

    def again(**options: Any) -> allcores.RunResult:
        kept = journal(fsync="never", commit_s=0.001, **({"key": "k"} if kind == "keyed" else {}), **options)
        return pool.run(number, "in.jsonl", "out.jsonl", journal=kept, on_error="record")

    def published() -> list[tuple[Any, ...]]:
        return [(line["index"], line.get("value"), line.get("message")) for line in lines()]

    run = Path(again().journal or "")
    right, before = published(), {path.name: path.read_bytes() for path in run.iterdir()}
    refused = 0

    def check() -> None:
        nonlocal refused
        Path("out.jsonl").unlink(missing_ok=True)
        try:
            result = again()
        except allcores.JournalError as error:
            assert run.name in str(error) and not Path("out.jsonl").exists()
            refused += 1
        else:
            assert (published(), result.ok, result.failed, result.journal) == (right, 8, 2, f"{run.resolve()}")
        for path in run.iterdir():
            path.unlink()
        for name, content in before.items():
            (run / name).write_bytes(content)

    for change in FLIPPED:
        with contextlib.closing(sqlite3.connect(run / "catalogue.sqlite")) as db:
            db.execute(change)
            db.commit()
        check()
    assert refused == 3  # those to the row of the run itself
    chance = random.Random(kind)
    raw = before["catalogue.sqlite"]
    for place in chance.sample([place for place, byte in enumerate(raw) if byte], 15):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << chance.randrange(8)
        (run / "catalogue.sqlite").write_bytes(damaged)
        check()


# --- the same work? -------------------------------------------------------------------------------


def double(x: Any) -> int:
    return 2 * int(x)


def triple(x: Any) -> int:
    return 3 * int(x)


def picky(x: Any) -> int:
    if int(x) in (3, 4) and not os.path.exists("mended"):
        raise ValueError("not now")
    return int(x)


def read_whole(path: str) -> str:
    return Path(path).read_text()


@pytest.fixture
def pool() -> Iterator[allcores.Pool]:
    with allcores.Pool(backend="serial") as pool:
        yield pool


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(10)))
    return tmp_path


def journal(**options: Any) -> allcores.Journal:
    settings: dict[str, Any] = {"folder": "runs", "resume": True}
    return allcores.Journal(**settings | options)


def lines() -> list[Any]:
    return [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]


def interrupted(items: list[Any], after: int) -> Iterator[Any]:
    """An input that breaks off."""
    yield from items[:after]
    raise KeyboardInterrupt


def test_another_function_is_refused(pool: allcores.Pool, here: Path) -> None:
    """In a sentence that tells what differs; accepted, what is there is kept; anew, it begins anew."""
    first = pool.run(double, "in.txt", "out.jsonl", journal=journal())
    with pytest.raises(allcores.RunChanged, match=r"the function was .*double and is .*triple") as caught:
        pool.run(triple, "in.txt", "out.jsonl", journal=journal())
    assert len(caught.value.differences) == 1
    again = pool.run(triple, "in.txt", "out.jsonl", journal=journal(accept_changes=True))
    assert (again.id, again.resumed, lines()) == (first.id, 10, [2 * n for n in range(10)])
    anew = pool.run(triple, "in.txt", "out.jsonl", journal=journal(resume=False))
    assert anew.id != first.id and lines() == [3 * n for n in range(10)]


def test_changed_source_bindings_and_setup_are_noticed(pool: allcores.Pool, here: Path) -> None:
    """A partial's arguments, a closure's variables."""

    def scale(factor: int) -> Any:
        return lambda x: factor * int(x)

    pool.run(scale(2), "in.txt", "out.jsonl", journal=journal())
    pool.run(scale(2), "in.txt", "out.jsonl", journal=journal())
    with pytest.raises(allcores.RunChanged, match="what is bound to the function"):
        pool.run(scale(3), "in.txt", "out.jsonl", journal=journal())


SAME_WORK = """
import functools, pathlib, re
from dataclasses import dataclass, field
import allcores

WORDS = frozenset({"alpha", "beta", "gamma", "delta", "epsilon", "zeta"})

class Tags(set):
    pass

@dataclass
class Rules:
    tags: set = field(default_factory=lambda: set(WORDS))
    place: pathlib.Path = pathlib.Path("x")

class Counting:
    def __init__(self):
        self.rules, self.pattern = Rules(), [re.compile("a+"), {"deep": Tags(WORDS)}]
    def __call__(self, item):
        return len(item[1])

def bound(words, path, item, *, rules):
    item[1].clear()  # without processes it is the very item
    item.append("changed")
    return 1

def closure():
    words, pattern = WORDS, re.compile("b")
    return lambda item: len(words & item[1]) + bool(pattern)

exec("def no_source(item): return any(each in {'alpha', 'beta', 'gamma', 'delta'} for each in item[1])")

def setup(words, thing):
    pass

class Thing:  # its repr has an address
    def __init__(self):
        self.words = [set(WORDS), pathlib.Path("y")]

def items():
    return [[n, set(WORDS), pathlib.Path("z"), {"a": n}] for n in range(30)]

FUNCTIONS = {
    "partial": functools.partial(bound, WORDS, [WORDS, pathlib.Path("p")], rules={"r": Rules()}),
    "object": Counting(), "closure": closure(), "source": no_source,
}
for backend in ("serial", "threads"):
    with allcores.Pool(2, backend=backend, setup=setup, setup_args=(WORDS, Thing())) as pool:
        for name, function in FUNCTIONS.items():
            journal = allcores.Journal(folder="runs", resume=True, fsync="never")
            for number, given in enumerate((items(), iter(items()))):
                pool.run(function, given, f"{backend}-{name}-{number}.jsonl", journal=journal)
"""


def test_the_same_work_is_the_same_in_another_process(here: Path) -> None:
    """Whatever its hash seed: sets beside paths and patterns, in arguments, closures, objects, code, setup and items.

    And though the function changes its item, which without processes is the very one of the input.
    """
    Path("same.py").write_text(SAME_WORK)
    for seed in "123":
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "same.py"], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert len(list(directory.known_runs("runs"))) == 16
    assert {run.run_row.sessions for run in directory.known_runs("runs")} == {3}


@pytest.mark.parametrize("change", ["edited", "cut", "grown", "touched"])
def test_a_changed_input_is_noticed(pool: allcores.Pool, here: Path, change: str) -> None:
    """Edited, cut short, grown; not if only its time changed."""
    pool.run(double, "in.txt", "out.jsonl", journal=journal())
    text = Path("in.txt").read_text()
    if change == "touched":
        os.utime("in.txt", ns=(1, 1))
        assert pool.run(double, "in.txt", "out.jsonl", journal=journal()).resumed == 10
        return
    changed = {"edited": text.replace("4", "7"), "cut": text[:10], "grown": text + "10\n"}[change]
    Path("in.txt").write_text(changed)
    with pytest.raises(allcores.RunChanged, match=r"input (has changed|ends|has grown)"):
        pool.run(double, "in.txt", "out.jsonl", journal=journal())
    pool.run(double, "in.txt", "out.jsonl", journal=journal(accept_changes=True))
    count = {"edited": 10, "cut": 5, "grown": 11}[change]
    assert lines() == [2 * n for n in range(count)]
    assert pool.run(double, "in.txt", "out.jsonl", journal=journal()).resumed == count


@pytest.mark.parametrize("name", ["in.txt", "in.txt.gz"])
def test_a_line_that_had_no_end_and_goes_on_is_noticed(pool: allcores.Pool, here: Path, name: str) -> None:
    """What was written behind it is no line of its own (a log that was being written when it was read)."""

    def write(text: str) -> None:
        Path(name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())

    def value(text: str) -> str:
        # The last one: it has been read for certain, however slowly the file is.
        if text == "thi" and not Path("mended").exists():
            raise OSError("the network is away")
        return text

    write("first\nsecond\nthi")
    with pytest.raises(OSError, match="network"):
        pool.run(value, name, "out.jsonl", journal=journal(), chunk=3)
    Path("mended").touch()
    write("first\nsecond\nthird\nfourth\n")
    with pytest.raises(allcores.RunChanged, match="input has changed"):
        pool.run(value, name, "out.jsonl", journal=journal())
    pool.run(value, name, "out.jsonl", journal=journal(accept_changes=True))
    assert lines() == ["first", "second", "third", "fourth"]


def test_tables_of_one_database_are_outputs_of_their_own(pool: allcores.Pool, here: Path) -> None:
    """A run is gone on with that wrote to the same table, and not the latest one that wrote to the file."""

    def row(x: str) -> dict[str, int]:
        return {"n": int(x)}

    def other(x: str) -> dict[str, int]:
        return {"other": int(x)}

    Path("more.txt").write_text("7\n")
    first = pool.run(row, "in.txt", "out.db:one", journal=journal())
    second = pool.run(other, "more.txt", "out.db:two", journal=journal())
    assert pool.run(row, "in.txt", "out.db:One", journal=journal(accept_changes=True)).id == first.id
    assert pool.run(other, "more.txt", "out.db:two", journal=journal()).id == second.id
    assert pool.run(other, "more.txt", "out.db", journal=journal()).id not in (first.id, second.id)


def test_a_finished_run_does_nothing_again(pool: allcores.Pool, here: Path) -> None:
    """But publish: the output comes back when it was removed."""
    pool.run(double, "in.txt", "out.jsonl", journal=journal())
    Path("out.jsonl").unlink()

    result = pool.run(double, "in.txt", "out.jsonl", journal=journal())
    assert (result.resumed, result.ok) == (10, 10) and lines() == [2 * n for n in range(10)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl.gz", "parquet", "db", "d/"])
def test_every_sink_is_the_same_after_a_kill(session: Session, folder: Path, suffix: str) -> None:
    """Not only JSON Lines: killed while it publishes, and compared with a run that has no journal."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    words: dict[str, Any] = {"sink": f"o.{suffix}"}
    if suffix == "d/":
        words["text"] = True
    code, _ = session(folder, kill=["publish.rename.before", 0], **words)
    assert code == -signal.SIGKILL
    result = finish(folder, **words)
    assert result.resumed == ITEMS and result.ok > 500
    calm_folder = folder / "calm"
    calm_folder.mkdir()
    for name in ("in.txt", "journalled.py"):
        shutil.copy(folder / name, calm_folder)
    finish(calm_folder, journal=False, **words)
    disturbed, calm = folder / words["sink"], calm_folder / words["sink"]
    if suffix == "db":
        found = [sqlite3.connect(path) for path in (disturbed, calm)]
        rows = [db.execute("SELECT * FROM outcomes").fetchall() for db in found]
        for db in found:
            db.close()
        assert rows[0] == rows[1] and len(rows[0]) == result.ok
    elif suffix == "d/":
        files = [{path.name: path.read_bytes() for path in where.iterdir()} for where in (disturbed, calm)]
        assert files[0] == files[1] and len(files[0]) == result.ok + 1
    else:
        assert disturbed.read_bytes() == calm.read_bytes()


@pytest.mark.parametrize("once", [False, True])
def test_an_iterable_is_compared_as_well(pool: allcores.Pool, here: Path, once: bool) -> None:
    """Read again, or read once: the items that are there already must be the same."""

    def give(items: list[Any]) -> Any:
        return iter(items) if once else items

    items: list[Any] = [*range(500)]
    with pytest.raises(KeyboardInterrupt):
        pool.run(double, interrupted(items, 300), "out.jsonl", journal=journal())
    with pytest.raises(allcores.RunChanged, match="input has changed"):
        pool.run(double, give([-1, *items[1:]]), "out.jsonl", journal=journal())
    result = pool.run(double, give(items), "out.jsonl", journal=journal())
    assert 0 < result.resumed <= 300
    assert lines() == [2 * n for n in items]


class Feeding:
    """Writes lines into a FIFO for each reader that opens it; as `seq … |` does."""

    def __init__(self, path: str, lines: list[str]) -> None:
        self._path, self._lines = path, lines
        self._thread = threading.Thread(target=self._feed)

    def __enter__(self) -> None:
        self._thread.start()

    def _feed(self) -> None:
        with contextlib.suppress(BrokenPipeError), open(self._path, "w") as file:
            file.writelines(f"{line}\n" for line in self._lines)

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def refused_unless_mended(line: str) -> str:
    if line == "150" and not os.path.exists("mended"):
        raise ValueError(line)
    return line


@pytest.mark.parametrize("ending", ["stopped", "retried", "changed"])
def test_a_pipe_under_a_path_is_read_once(pool: allcores.Pool, here: Path, ending: str) -> None:
    """Each session gets the lines once; a second opening would wait for ever, a second reading would lose some."""
    os.mkfifo("fifo")
    items = [str(n) for n in range(3_000)]
    on_error: Literal["skip", "raise"] = "skip" if ending == "retried" else "raise"
    with Feeding("fifo", items), contextlib.suppress(ValueError):
        pool.run(refused_unless_mended, "fifo", "out.jsonl", journal=journal(), on_error=on_error)
    Path("mended").touch()
    kept = journal(retry_failed=ending == "retried")
    if ending == "changed":
        items = ["another", *items[1:], "more"]
        with Feeding("fifo", items), pytest.raises(allcores.RunChanged, match="input has changed"):
            pool.run(refused_unless_mended, "fifo", "out.jsonl", journal=kept)
        kept = journal(accept_changes=True)
    with Feeding("fifo", items):
        result = pool.run(refused_unless_mended, "fifo", "out.jsonl", journal=kept)
    assert result.resumed > 0
    assert lines()[1:] == items[1:] and lines()[0] in ("0", "another")
    if ending == "changed":  # what was accepted is known from then on
        shutil.copy("out.jsonl", "before.jsonl")
        with Feeding("fifo", ["third", *items[1:]]), pytest.raises(allcores.RunChanged):
            pool.run(refused_unless_mended, "fifo", "out.jsonl", journal=journal())
        with Feeding("fifo", items):
            assert pool.run(refused_unless_mended, "fifo", "out.jsonl", journal=journal()).resumed == len(items)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_blank_lines_of_any_kind_and_a_resumed_run(pool: allcores.Pool, here: Path, suffix: str) -> None:
    """They have no index, in no session: not when read, not when passed over, not when failed items run again."""
    blanks = ["", " ", "\u3000", "\xa0", "\x1c", "\x85 \u2028"]
    texts = [f'"{n}"\n{blanks[n % len(blanks)]}' for n in range(400)]
    content = ("\ufeff\n" + "\n".join(texts) + "\n").encode()
    path = here / f"in.jsonl{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(ValueError, match="150"):
        pool.run(refused_unless_mended, path, "out.jsonl", journal=journal())
    result = pool.run(refused_unless_mended, path, "out.jsonl", journal=journal(), on_error="skip")
    assert result.resumed > 0 and lines() == [str(n) for n in range(400) if n != 150]
    (here / "mended").touch()
    pool.run(refused_unless_mended, path, "out.jsonl", journal=journal(retry_failed=True), on_error="skip")
    assert lines() == [str(n) for n in range(400)]


@pytest.mark.parametrize("name", ["in.txt", "in.jsonl", "in.csv"])
def test_a_bad_record_ends_the_resumed_run_as_well(pool: allcores.Pool, here: Path, name: str) -> None:
    """Until it is mended: a run that ended at it has not read it, and must not go on behind it."""
    head, bad = (b"n\n", b"1,2") if name == "in.csv" else (b"", b"\xff")
    before, after = (b"".join(b"%d\n" % n for n in part) for part in (range(20), range(21, 40)))

    def number(item: Any) -> int:
        return int(item["n"] if isinstance(item, dict) else item)

    Path(name).write_bytes(head + before + bad + b"\n" + after)
    for kept in (journal(), journal(), journal(retry_failed=True)):
        with pytest.raises(allcores.UsageError, match=rf"{name}, line 2[12]: "):
            pool.run(number, name, "out.jsonl", journal=kept, on_error="skip")
    Path(name).write_bytes(head + before + b"20\n" + after)
    assert pool.run(number, name, "out.jsonl", journal=journal()).resumed == 20 and lines() == list(range(40))


@pytest.mark.parametrize("ending", ["\n\n", "{\n"])
def test_a_pipe_that_ends_with_no_item_is_the_same_when_resumed(pool: allcores.Pool, here: Path, ending: str) -> None:
    """What stands behind the last item was read before the run ended, or was not: that makes no other input."""
    os.mkfifo("fifo")
    source = JsonLines("fifo", bad_records="skip")

    for expected in ([0, 1, 2], [0, 1, 2, 3, 4]):
        with Feeding("fifo", ["0", "1", "2", "3", "4", ending]):
            pool.run(picky, source, "out.jsonl", journal=journal(retry_failed=True), on_error="skip")
        assert lines() == expected
        Path("mended").touch()


def test_items_known_by_a_key_are_found_where_they_are(pool: allcores.Pool, here: Path) -> None:
    """Moved, changed, gone and new items: only what is new or changed runs, the output follows the input."""

    def rows(numbers: dict[str, int]) -> list[dict[str, Any]]:
        return [{"name": name, "n": n} for name, n in numbers.items()]

    def value(row: dict[str, Any]) -> str:
        with open("ran", "a") as file:
            file.write(row["name"])
        return f"{row['name']}{row['n']}"

    keyed = journal(key="name", accept_changes=True)
    pool.run(value, rows({"a": 1, "b": 2, "c": 3, "d": 4}), "out.jsonl", journal=keyed)
    result = pool.run(value, rows({"new": 9, "d": 4, "b": 7, "a": 1}), "out.jsonl", journal=keyed)
    assert lines() == ["new9", "d4", "b7", "a1"]
    assert Path("ran").read_text() == "abcdnewb"
    assert (result.ok, result.failures) == (4, 0) or result.ok == 4
    assert pool.run(value, rows({"new": 9, "d": 4, "b": 7, "a": 1}), "out.jsonl", journal=keyed).ok == 4
    with pytest.raises(allcores.UsageError, match="key"):
        pool.run(value, [*rows({"a": 1}), *rows({"a": 2})], "out.jsonl", journal=keyed)
    with pytest.raises(allcores.UsageError, match="no field 'name'"):
        pool.run(value, [{"n": 1}], "out.jsonl", journal=keyed)


def test_files_are_known_by_their_path(pool: allcores.Pool, here: Path) -> None:
    """A file that comes between others moves them; one that changed runs again."""
    (here / "d").mkdir()
    for name in "bdf":
        (here / "d" / name).write_text(name)
    Path("ran").write_text("")

    def read(path: str) -> str:
        with open("ran", "a") as file:
            file.write(os.path.basename(path))
        return Path(path).read_text()

    pool.run(read, "d/*", "out.jsonl", journal=journal())
    (here / "d" / "c").write_text("c")
    (here / "d" / "f").write_text("changed")
    pool.run(read, "d/*", "out.jsonl", journal=journal())
    assert lines() == ["b", "c", "d", "changed"]
    assert Path("ran").read_text() == "bdfcf"


def test_a_file_that_two_patterns_match(pool: allcores.Pool, here: Path) -> None:
    """Nobody gave a key: the sentence is about patterns, and names the file and the ways out."""
    Path("b.txt").write_text("b")
    both = Chain([Files("*.txt"), Files("i*.txt")])
    with pytest.raises(allcores.UsageError, match=r"^in\.txt matches two of the patterns.*--no-journal"):
        pool.run(read_whole, both, "out.jsonl", journal=journal())
    assert pool.run(read_whole, both, "out.jsonl", journal=False).ok == 3


@pytest.mark.parametrize("keys", [2, 50_000])
def test_damage_under_items_that_are_known_by_a_key(
    pool: allcores.Pool, here: Path, monkeypatch: pytest.MonkeyPatch, keys: int
) -> None:
    """What is damaged runs again in the session that finds it, though the keys were met there already."""
    monkeypatch.setattr("allcores.runs.remaining_by_key.MANY_ROWS", keys)
    (here / "d").mkdir()
    for name in "bdf":
        (here / "d" / name).write_text(name)
    pool.run(read_whole, "d/*", "out.jsonl", journal=journal())
    (log,) = here.glob("runs/*/outcomes.log")
    raw = bytearray(log.read_bytes())
    raw[40] ^= 0xFF
    log.write_bytes(raw)
    (here / "d" / "c").write_text("c")
    assert pool.run(read_whole, "d/*", "out.jsonl", journal=journal()).ok == 4
    assert lines() == [*"bcdf"]
    assert pool.run(read_whole, "d/*", "out.jsonl", journal=journal()).resumed == 4


@pytest.mark.parametrize("given", ["file", "list", "once"])
def test_only_what_failed_runs_again(pool: allcores.Pool, here: Path, given: str) -> None:
    """And what is mended takes its place in the output."""

    def source() -> Any:
        items = [str(n) for n in range(10)]
        return {"file": "in.txt", "list": items, "once": iter(items)}[given]

    first = pool.run(picky, source(), "out.jsonl", journal=journal(), on_error="skip")
    assert (first.ok, first.failed, lines()) == (8, 2, [0, 1, 2, 5, 6, 7, 8, 9])
    same = pool.run(picky, source(), "out.jsonl", journal=journal(), on_error="skip")
    assert (same.ok, same.failed) == (8, 2)
    still = pool.run(picky, source(), "out.jsonl", journal=journal(retry_failed=True), on_error="skip")
    assert (still.ok, still.failed) == (8, 2)
    Path("mended").write_text("")
    mended = pool.run(picky, source(), "out.jsonl", journal=journal(retry_failed=True), on_error="skip")
    assert (mended.ok, mended.failed, lines()) == (10, 0, list(range(10)))


def test_a_failure_that_ends_the_run_is_tried_again(pool: allcores.Pool, here: Path) -> None:
    """With on_error="raise" the failure is raised as it is; resumed, its item comes first."""
    with pytest.raises(ValueError, match="not now"):
        pool.run(picky, "in.txt", "out.jsonl", journal=journal())
    assert not Path("out.jsonl").exists()
    Path("mended").write_text("")
    assert pool.run(picky, "in.txt", "out.jsonl", journal=journal()).ok == 10
    assert lines() == list(range(10))


def test_records_are_those_of_one_run(pool: allcores.Pool, here: Path) -> None:
    """Failures recorded in their place, after any number of sessions."""
    result = pool.run(picky, "in.txt", "out.jsonl", journal=journal(), on_error="record")
    assert [line["index"] for line in lines()] == list(range(10)) and result.failures == 2
    assert [line["kind"] for line in lines()] == ["ok"] * 3 + ["failed"] * 2 + ["ok"] * 5
    assert lines()[3]["message"] == "not now" and "Traceback" in lines()[3]["traceback"]


# --- one at a time, and no longer than needed -----------------------------------------------------


def test_the_second_of_two_is_refused(pool: allcores.Pool, here: Path) -> None:
    """In one process, and from another; the lock ends with its holder."""

    def meanwhile(x: str) -> int:
        if x == "1":
            with pytest.raises(allcores.RunInUse, match="this very process"):
                pool_two.run(meanwhile, "in.txt", "out.jsonl", journal=journal(accept_changes=True))
            (run,) = directory.known_runs("runs")
            assert run.state == "running"
            environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
            code = f"from allcores.runs.lock import RunLock\nRunLock({run.folder!r}, 'x')"
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
            )
            assert f"process {os.getpid()}" in done.stderr
        return int(x)

    with allcores.Pool(backend="serial") as pool_two:
        result = pool.run(meanwhile, "in.txt", "out.jsonl", journal=journal())
    assert directory.look_up("runs", result.id).state == "finished"


def test_a_forked_child_leaves_the_journal_alone(here: Path) -> None:
    """No connection crosses a fork: the child can neither use nor close it."""
    (here / "run").mkdir()
    run_index = RunIndex(str(here / "run"), writable=True, create=True)
    run_index.begin("x", {}, {}, "commit")
    pid = os.fork()
    if pid == 0:
        try:
            run_index.close()
            run_index.run_row()
        except allcores.JournalError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert run_index.run_row().id == "x"
    run_index.close()


def test_old_runs_go_and_unfinished_ones_stay_longer(pool: allcores.Pool, here: Path) -> None:
    """As the policy says; never one that is at work."""
    done = pool.run(double, "in.txt", "out.jsonl", journal=journal(resume=False))
    with pytest.raises(ValueError, match="not now"):
        pool.run(picky, "in.txt", "other.jsonl", journal=journal(resume=False))
    later = directory.look_up("runs", done.id).run_row.updated + directory.KEPT_S + 60
    assert directory.prune("runs", now=later) == [done.id]
    assert [run.state for run in directory.known_runs("runs")] == ["stopped"]
    assert len(directory.prune("runs", now=later + directory.KEPT_UNFINISHED_S)) == 1
    assert set(os.listdir("runs")) <= {".pruned"}
    with pytest.raises(allcores.RunNotFound, match="nor any other"):
        pool.run(double, "in.txt", "out.jsonl", journal=journal(resume=done.id))


def test_an_old_run_that_is_used_again_as_it_is_about_to_go_stays(
    pool: allcores.Pool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process went on with it between the look at its age and the lock."""
    done = pool.run(double, "in.txt", "out.jsonl", journal=journal(resume=False))
    old = directory.look_up("runs", done.id).run_row.updated + directory.KEPT_S + 60

    def another_first(folder: str, name: str) -> RunLock:
        monkeypatch.setattr(directory, "RunLock", RunLock)
        others = RunIndex(folder, writable=True)
        others.update(state="finished")
        others.close()
        return RunLock(folder, name)

    monkeypatch.setattr(directory, "RunLock", another_first)
    assert directory.prune("runs", now=old) == []
    assert directory.look_up("runs", done.id).state == "finished"
    assert directory.prune("runs", now=old + 60) == [done.id]


def test_without_a_journal_the_output_is_the_same(pool: allcores.Pool, here: Path) -> None:
    """And nothing is kept."""
    result = pool.run(lambda x: {"n": int(x)}, "in.txt", "out.csv", journal=False)
    assert Path("out.csv").read_text() == "n\n" + "".join(f"{n}\n" for n in range(10))
    assert (result.id, result.journal, result.ok) == ("", None, 10)
    pool.run(picky, "in.txt", "out.jsonl", journal=False, on_error="skip")
    assert lines() == [0, 1, 2, 5, 6, 7, 8, 9]
    assert sorted(os.listdir()) == ["in.txt", "out.csv", "out.jsonl"]


@pytest.mark.parametrize("sink", ["out.csv", "out.db"])
def test_without_a_journal_nothing_is_kept_among_temporary_files(
    pool: allcores.Pool, here: Path, monkeypatch: pytest.MonkeyPatch, sink: str
) -> None:
    """They may be on a small disk, or in memory; what an output is made of waits on the output's own disk."""
    monkeypatch.setattr("tempfile.tempdir", str(here / "full"))
    assert pool.run(lambda x: {"n": int(x)}, "in.txt", sink, journal=False).ok == 10
    assert sorted(os.listdir()) == sorted(["in.txt", sink])


def test_what_cannot_be_published_whole_is_refused(pool: allcores.Pool, here: Path) -> None:
    """A device would be replaced by a file."""
    with pytest.raises(allcores.UsageError, match="no regular file"):
        pool.run(double, "in.txt", "/dev/null", journal=journal())
    with pytest.raises(allcores.UsageError, match="records"):
        pool.run(double, "in.txt", "folder/", journal=journal(), on_error="record")
