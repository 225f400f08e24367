"""How runs of pipelines end other than by a kill: failures, full disks, changes, interrupts; and that they go on."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process import piped
from tests.process.test_pipeline_runs import finish, left_over, outputs
from tests.process.warm import Interpreter

import allcores
from allcores import Journal, Pipeline
from allcores.runs import directory
from allcores.runs.index import RunIndex

ITEMS = 200


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(Path(piped.__file__), tmp_path)
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(ITEMS)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def journal(**settings: Any) -> Journal:
    chosen: dict[str, Any] = {"folder": "runs", "resume": True, "fsync": "never"} | settings
    return Journal(**chosen)


def rows(name: str = "out.jsonl") -> list[Any]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def failures() -> list[dict[str, Any]]:
    """What the journal of the only run says of what failed."""
    (known,) = directory.known_runs(str(Path("runs").resolve()))
    run_index = RunIndex(known.folder)
    try:
        return [json.loads(row.record) for row in run_index.failures()]
    finally:
        run_index.close()


def parse(line: str) -> dict[str, int]:
    return {"n": int(line)}


def crashing(row: dict[str, int]) -> dict[str, int]:
    """One costs its worker, one takes for ever."""
    if row["n"] == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    if row["n"] == 60:
        signal.pause()
    return row


def refusing(row: dict[str, int]) -> dict[str, int]:
    if row["n"] % 50 == 7 and not os.path.exists("mended"):
        raise ValueError(f"{row['n']} is refused")
    return row


def instead(row: dict[str, int], error: BaseException) -> dict[str, Any]:
    return {"n": row["n"], "error": type(error).__name__}


def total(rows: list[dict[str, int]]) -> list[dict[str, int]]:
    return [{**row, "total": sum(each["n"] for each in rows)} for row in rows]


def noting(row: dict[str, int]) -> dict[str, int]:
    with open("noted", "a") as file:
        file.write(f"{row['n']}\n")
    return row


# --- records that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [False, True], ids=["one stage", "several"])
def test_a_crash_and_a_deadline_cost_a_record_each(folder: Path, apart: bool) -> None:
    """Wherever the stage is; the journal names it, and the record."""
    one = Pipeline().map(parse).map(crashing, timeout=1.0, on_error="skip", chunk=1, fuse=apart)
    pipeline = one.enumerate().map(list) if apart else one
    result = pipeline.write("out.jsonl").run("in.txt", journal=journal(), workers=2)
    assert (result.ok, result.workers_lost, result.timed_out) == (ITEMS - 2, 1, 1)
    found = [row[1]["n"] if apart else row["n"] for row in rows()]
    assert found == [n for n in range(ITEMS) if n not in (50, 60)]
    lost, late = failures()
    assert (lost["index"], lost["kind"], late["index"], late["kind"]) == (50, "worker_lost", 60, "timed_out")
    assert lost["stage_name"].endswith("crashing" if apart else "write") and "crashing" in lost["stage_name"]
    assert not left_over(folder)


def test_what_goes_on_in_the_place_of_a_crash(folder: Path) -> None:
    """A function of the record and the error, also for what has no traceback."""
    pipeline = Pipeline().map(parse).map(crashing, timeout=1.0, on_error=instead, chunk=1).write("out.jsonl")
    assert pipeline.run("in.txt", journal=journal(), workers=2).ok == ITEMS
    found = rows()
    assert (found[50], found[60]) == ({"n": 50, "error": "WorkerLost"}, {"n": 60, "error": "TaskTimeout"})
    assert [row["n"] for row in found] == list(range(ITEMS))


def test_a_failure_that_is_raised(folder: Path) -> None:
    """With a note that says where; what is done is kept, and that record is tried again."""
    pipeline = Pipeline().map(parse).batch(10).map(total).unbatch().map(refusing, fuse=False).enumerate().map(list)
    with pytest.raises(ValueError, match="7 is refused") as caught:
        pipeline.write("out.jsonl").run("in.txt", journal=journal(), backend="serial")
    assert any("stage 4 of the pipeline (refusing)" in note for note in caught.value.__notes__)
    assert not Path("out.jsonl").exists() and not failures()
    Path("mended").touch()
    assert pipeline.write("out.jsonl").run("in.txt", journal=journal(), backend="serial").ok == ITEMS
    assert [row[1]["n"] for row in rows()] == list(range(ITEMS))


def test_only_what_failed_is_tried_again_where_nothing_is_held(folder: Path) -> None:
    """The outcome of an item is then its own."""
    pipeline = Pipeline().map(parse).map(noting).map(refusing, on_error="skip", fuse=False).write("out.jsonl")
    assert pipeline.run("in.txt", journal=journal(), backend="serial").failed == 4
    os.unlink("noted")
    Path("mended").touch()
    result = pipeline.run("in.txt", journal=journal(retry_failed=True), backend="serial")
    assert (result.ok, result.failed) == (ITEMS, 0)
    assert sorted(map(int, Path("noted").read_text().split())) == [7, 57, 107, 157]
    assert [row["n"] for row in rows()] == list(range(ITEMS))


def test_several_failures_of_one_item(folder: Path) -> None:
    """All of them are kept, and its other rows are written."""

    def parts(row: dict[str, int]) -> list[dict[str, int]]:
        return [{"n": row["n"] * 10 + part} for part in range(3)]

    def odd_only(row: dict[str, int]) -> dict[str, int]:
        if row["n"] % 2 == 0 and row["n"] < 30:
            raise ValueError(f"{row['n']} is even")
        return row

    pipeline = Pipeline().map(parse).flat_map(parts).map(odd_only, on_error="record", fuse=False).write("out.jsonl")
    result = pipeline.run("in.txt", journal=journal(), backend="serial")
    assert (result.ok, result.failed) == (ITEMS - 3, 3)
    first = failures()[0]
    assert first["message"] == "0 is even" and [each["message"] for each in first["more_failures"]] == ["2 is even"]
    found = rows()
    assert [(each["index"], each["kind"], each.get("message") or each["value"]["n"]) for each in found[:6]] == [
        (0, "ok", 1),
        (0, "failed", "0 is even"),
        (0, "failed", "2 is even"),
        (1, "ok", 11),
        (1, "failed", "10 is even"),
        (1, "failed", "12 is even"),
    ]
    assert "rows" not in found[1] and "more_failures" not in found[1]


# --- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", piped.CHAINS)
@pytest.mark.parametrize("items", [0, 1, 2])
def test_short_sources(folder: Path, chain: str, items: int) -> None:
    """With a journal as without one; twice as well."""
    (folder / "in.txt").write_text("".join(f"{n}\n" for n in range(items)))
    finish(folder, chain, journal=False)
    wanted = outputs(folder)
    for name in wanted:
        (folder / name).unlink()
    for _ in range(2):
        finish(folder, chain)
        assert outputs(folder) == wanted


@pytest.mark.parametrize("items", [0, 1, 50])
def test_a_pipeline_that_wants_nothing(folder: Path, items: int) -> None:
    """Its output is empty, though workers have read the source to its end meanwhile; twice as well."""
    (folder / "in.txt").write_text("".join(f"{n}\n" for n in range(items)))
    wanting = (Pipeline().islice(0).map(parse), Pipeline().map(parse).islice(0), Pipeline().map(parse).islice(5, 5))
    for number, pipeline in enumerate(wanting):
        for _ in range(2):
            pipeline.write(f"{number}.jsonl").run("in.txt", journal=journal(), backend="serial")
            assert rows(f"{number}.jsonl") == []


@pytest.mark.parametrize("ends", [0, 1, 7, 8, 100, 199])
def test_a_source_that_can_be_read_once_and_breaks(folder: Path, ends: int) -> None:
    """What it raised is raised; the next one is read from its start, compared, and gone on with."""
    pipeline = Pipeline().map(parse).distinct(_digit).batch(8).map(total).unbatch().enumerate().map(list)

    def lines(end: int) -> Iterator[str]:
        for n in range(ITEMS):
            if n == end:
                raise ConnectionError("gone")
            yield f"{n}\n"

    with pytest.raises(ConnectionError, match="gone"):
        pipeline.write("out.jsonl").run(lines(ends), journal=journal(commit_s=0.001), backend="serial")
    assert not Path("out.jsonl").exists()
    pipeline.write("out.jsonl").run(lines(-1), journal=journal(), backend="serial")
    found = Path("out.jsonl").read_bytes()
    pipeline.write("wanted.jsonl").run(lines(-1), journal=False, backend="serial")
    assert found == Path("wanted.jsonl").read_bytes()


def _digit(row: dict[str, int]) -> int:
    return row["n"] * 3 % 70


def test_an_interrupt_in_the_source(folder: Path) -> None:
    """The run says that it was interrupted, and goes on."""
    pipeline = Pipeline().map(parse).batch(8).map(total).unbatch().write("out.jsonl")

    def lines(end: int) -> Iterator[str]:
        for n in range(ITEMS):
            if n == end:
                raise KeyboardInterrupt
            yield f"{n}\n"

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(lines(120), journal=journal(), backend="serial")
    (known,) = directory.known_runs(str(Path("runs").resolve()))
    assert known.state == "interrupted"
    pipeline.run(lines(-1), journal=journal(), backend="serial")
    assert [row["n"] for row in rows()] == list(range(ITEMS))
    assert rows()[120]["total"] == sum(range(120, 128))


def test_items_that_are_known_by_a_key(folder: Path) -> None:
    """Where nothing is held: they keep their outcomes wherever they are, and what is new runs."""
    pipeline = Pipeline().map(noting).map(refusing, on_error="skip", fuse=False).write("out.jsonl")

    def run(numbers: list[int]) -> allcores.PipelineResult:
        Path("in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in numbers))
        if os.path.exists("noted"):
            os.unlink("noted")
        return pipeline.run("in.jsonl", journal=journal(key="n"), backend="serial")

    assert run([1, 2, 7, 3]).failed == 1
    result = run([9, 3, 2, 8, 7])
    assert Path("noted").read_text().split() == ["9", "8"]
    assert [row["n"] for row in rows()] == [9, 3, 2, 8] and (result.ok, result.failed) == (4, 1)


def test_files_as_items(folder: Path) -> None:
    """One that has changed runs again; where steps hold something, that is another input."""
    os.mkdir("d")
    for n in range(6):
        Path(f"d/{n}.txt").write_text(str(n))
    alone = Pipeline().map(_content).map(noting, fuse=False).write("out.jsonl")
    alone.run("d/*.txt", journal=journal(), backend="serial")
    Path("d/3.txt").write_text("33")
    os.unlink("noted")
    alone.run("d/*.txt", journal=journal(), backend="serial")
    assert Path("noted").read_text().split() == ["33"]
    assert [row["n"] for row in rows()] == [0, 1, 2, 33, 4, 5]
    holding = Pipeline().map(_content).batch(4).map(total).unbatch().write("held.jsonl")
    holding.run("d/*.txt", journal=journal(), backend="serial")
    Path("d/4.txt").write_text("444")
    with pytest.raises(allcores.RunChanged, match="the input has changed"):
        holding.run("d/*.txt", journal=journal(), backend="serial")


def _content(path: str) -> dict[str, int]:
    return {"n": int(Path(path).read_text())}


# --- changes --------------------------------------------------------------------------------------


def test_how_it_is_run_may_change(warm: Interpreter, folder: Path) -> None:
    """Workers, and what is one task: so numbers of stages change, and states find their steps all the same."""
    told = {"chain": "all", "kill": ["commit.before", 4], "pause": 0.002, "journal": {"fsync": "commit"}}
    done = warm.script(folder / "piped.py", json.dumps(told), folder=folder)
    assert done.code == -signal.SIGKILL, done.err
    program = (folder / "piped.py").read_text()
    changed = program.replace('on_error="skip", fuse=False)', 'on_error="skip", workers=1, on="serial")')
    assert changed != program
    (folder / "piped.py").write_text(changed)
    result = finish(folder, "all", backend="threads", workers=3)
    found = outputs(folder)
    assert result.resumed > 0
    (folder / "piped.py").write_text(program)
    for name in found:
        (folder / name).unlink()
    finish(folder, "all", journal=False)
    assert outputs(folder) == found


CHANGES: dict[str, tuple[Callable[[Pipeline], Pipeline], str]] = {
    "size": (lambda p: p.batch(9).map(total).unbatch(), "step 2 was batch(8) and is batch(9)"),
    "function": (lambda p: p.batch(8).map(list).unbatch(), "step 3 was map(total) and is map(list)"),
    "fewer": (lambda p: p.batch(8).map(total), "step 4 was unbatch() and is not there"),
    "more": (lambda p: p.batch(8).map(total).unbatch().filter(bool), "step 5 was not there, and is filter(bool)"),
    "by": (lambda p: p.batch(8, by=len).map(total).unbatch(), "step 2 was batch(8) and is batch(8, by=len)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_pipeline_is_refused(folder: Path, change: str) -> None:
    """By the step that is another one."""
    start = Pipeline().map(parse)
    start.batch(8).map(total).unbatch().write("out.jsonl").run("in.txt", journal=journal(), backend="serial")
    make, sentence = CHANGES[change]
    with pytest.raises(allcores.RunChanged) as caught:
        make(start).write("out.jsonl").run("in.txt", journal=journal(), backend="serial")
    assert caught.value.differences == (sentence,)


def test_a_state_of_other_steps_is_not_used(folder: Path) -> None:
    """Not even if the change is accepted: there is no way to make half a batch of 8 one of 9."""
    pipeline = Pipeline().map(parse).batch(8).map(total).unbatch()

    def lines(end: int) -> Iterator[str]:
        for n in range(ITEMS):
            if n == end:
                raise ConnectionError("gone")
            yield f"{n}\n"

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("allcores.pipelines.source_outcomes.STATE_S", 0.0)
        with pytest.raises(ConnectionError):
            pipeline.write("out.jsonl").run(lines(150), journal=journal(), backend="serial")
    other = Pipeline().map(parse).batch(9).map(total).unbatch()
    with pytest.raises(allcores.RunChanged, match="the state that was kept is of other steps"):
        other.write("out.jsonl").run(lines(-1), journal=journal(accept_changes=True), backend="serial")
    # Another function between them is the program's own affair.
    mended = Pipeline().map(parse).batch(8).map(list).unbatch()
    result = mended.write("out.jsonl").run(lines(-1), journal=journal(accept_changes=True), backend="serial")
    assert result.resumed > 0 and "total" in rows()[0] and "total" not in rows()[-1]


def test_what_cannot_be_kept(folder: Path) -> None:
    """A sentence with the way out; without a journal nothing has to be kept."""
    pipeline = Pipeline().map(parse).map(_with_a_file, fuse=False).batch(8).map(len).write("out.jsonl")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("allcores.pipelines.source_outcomes.STATE_S", 0.0)
        with pytest.raises(allcores.UsageError, match=r"what stage 3 of the pipeline \(batch\) holds .* journal=False"):
            pipeline.run("in.txt", journal=journal(), backend="serial")
        assert pipeline.run("in.txt", journal=False, backend="serial").ok == ITEMS


def _with_a_file(row: dict[str, int]) -> Any:
    return lambda: row


# --- outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["log.write.torn", "commit.before", "publish.write"])
def test_a_disk_that_is_full_for_a_while(warm: Interpreter, folder: Path, point: str) -> None:
    """One sentence, what is committed stays, and with room it goes on."""
    told = {"chain": "batch", "full": [point, 4 if point != "publish.write" else 0], "pause": 0.002}
    done = warm.script(folder / "piped.py", json.dumps(told), folder=folder)
    assert done.code == 1, done.err
    error = json.loads(done.out)
    assert error["error"] == "JournalError" and "No space left" in error["message"] and "resume" in error["message"]
    assert not outputs(folder)
    finish(folder, "batch")
    found = outputs(folder)
    (folder / "out.jsonl").unlink()
    finish(folder, "batch", journal=False)
    assert outputs(folder) == found


@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out.db:rows", "out/", "out.jsonl.gz"])
@pytest.mark.parametrize("several", [False, True])
def test_each_kind_of_output(folder: Path, output: str, several: bool) -> None:
    """Rows are rows, in any; twice the same, also from another number of workers."""
    if "parquet" in output:
        pytest.importorskip("pyarrow")
    text = output.endswith("/")
    one = Pipeline().map(parse).flat_map(_twice)
    pipeline = (one.distinct(_number) if several else one).map(json.dumps if text else dict).write(output)
    pipeline.run("in.txt", journal=journal(), backend="serial")
    place = Path(output.partition(":")[0])

    def content() -> Any:
        if place.is_dir():
            return {each.name: each.read_bytes() for each in place.iterdir()}
        return place.read_bytes() if ".db" not in output else None

    first = content()
    pipeline.run("in.txt", journal=False, workers=2)
    assert content() == first
    if text:
        assert len(first) == (ITEMS if several else 2 * ITEMS) + 1


def _twice(row: dict[str, int]) -> list[dict[str, int]]:
    return [row, row]


def _number(row: dict[str, int]) -> int:
    return row["n"]


def test_a_name_that_two_rows_give(folder: Path) -> None:
    """It ends the run, unless the last stage says otherwise: then the later one's item fails, and the rest is there."""

    def named(row: dict[str, int]) -> tuple[str, str]:
        return f"{row['n'] % 190}.txt", "text"

    pipeline = Pipeline().map(parse).enumerate().map(_second).map(named).write("out/")
    with pytest.raises(TypeError, match=r"gave the name '.*/0\.txt', which an earlier item has"):
        pipeline.run("in.txt", journal=journal(), backend="serial")
    pipeline = Pipeline().map(parse).enumerate().map(_second).map(named, on_error="skip", fuse=False).write("out/")
    result = pipeline.run("in.txt", journal=journal(), backend="serial")
    assert (result.ok, result.failed) == (190, 10)
    assert len(os.listdir("out")) == 191


def _second(pair: tuple[int, Any]) -> Any:
    return pair[1]


def test_bad_wiring() -> None:
    """One sentence each, before anything is begun."""
    with pytest.raises(allcores.UsageError, match="leads nowhere"):
        Pipeline().map(parse).run(["1"])
    with pytest.raises(allcores.UsageError, match="two parts of the pipeline"):
        Pipeline().tee(Pipeline().write("a.csv")).write("a.csv").run([{"n": 1}])
    with pytest.raises(allcores.UsageError, match=r"has no place: write to a \.jsonl file"):
        Pipeline().map(parse, on_error="record").write("a.csv").run(["1"])
    with pytest.raises(allcores.UsageError, match="progress='yes'"):
        Pipeline().write("a.jsonl").run(["1"], progress="yes")  # type: ignore[arg-type]
    with pytest.raises(allcores.UsageError, match="no source"):
        Pipeline().write("a.jsonl").run(3)
