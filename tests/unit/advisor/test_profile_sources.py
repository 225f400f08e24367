"""Sources that are rarely met: with page breaks, nested very deeply; and values whose types make up their names."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from allcores.advisor.profiling import facts, records, report, sampler, sites
from allcores.advisor.profiling.independence import judge
from allcores.advisor.profiling.program import Finished
from allcores.advisor.profiling.report import lines_of
from allcores.advisor.profiling.rewrite import rewrite
from allcores.advisor.profiling.sites import SourceFile, read_sources

#: `str.splitlines` ends lines at these, and Python does not
PAGED = (
    "NAMES = 'a\u2028b\x85c'\n\x0c\n# the next page\nxs = [1, 2, 3]\n\n\ndef f(x):\n    return x * x\n\n\x0c\n"
    "out = []\nfor x in xs:\n    y = f(x)\n    z = y + len(NAMES)  # \x1c\n    out.append(z)\nprint(out)\n"
)


def test_a_page_break_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PAGED, encoding="utf-8")
    source = SourceFile(str(path))
    site = next(iter(source.sites()))
    report: Any = SimpleNamespace(sources={site.file: source})
    candidate: Any = SimpleNamespace(site=site)
    assert lines_of(report, candidate, 10) == PAGED.split("\n")[11:15]
    change = rewrite(site, judge(site, source), source, pattern="processes", workers=2)
    assert change is not None
    assert "    z = y + len(NAMES)  # \x1c\n    return z\n" in change.text
    assert "No newline" not in change.diff
    if shutil.which("patch") is not None:
        subprocess.run(
            ["patch", str(path)], input=change.diff.encode(), check=True, stdout=subprocess.DEVNULL, timeout=60
        )
        assert path.read_text(encoding="utf-8") == change.text


@pytest.mark.parametrize("last", ["\r\n", ""])
def test_a_change_of_a_file_from_windows_has_its_ends_of_lines(tmp_path: Path, last: str) -> None:
    path = tmp_path / "program.py"
    path.write_bytes(("def f(x):\r\n    return x * x\r\n\r\nout = [f(x) for x in range(9)]" + last).encode())
    source = SourceFile(str(path))
    site = next(iter(source.sites()))
    change = rewrite(site, judge(site, source), source, pattern="processes", workers=2)
    assert change is not None and "\r" not in change.text
    if shutil.which("patch") is not None:
        subprocess.run(
            ["patch", "--binary", str(path)],
            input=change.diff.encode(),
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
        assert path.read_bytes() == change.text.replace("\n", "\r\n").encode()


def test_what_is_nested_too_deeply_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(f"text = {' + '.join(['str(1)'] * 1_500)}\nfor x in text: print(x)\n")
    source = read_sources({str(path)})[str(path)]
    assert [site.line for site in source.sites()] == [2]
    site = next(source.sites())
    verdict = judge(site, source)
    assert verdict.independent
    rewrite(site, verdict, source, pattern="processes", workers=2)


@pytest.mark.parametrize("error", [RecursionError, MemoryError])
def test_what_python_does_not_read_takes_nothing_from_other_files(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep, plain = tmp_path / "deep.py", tmp_path / "plain.py"
    deep.write_text("deep = 1\n")
    plain.write_text("for x in []: print(x)\n")

    def refusing(path: str) -> SourceFile:
        if path == str(deep):
            raise error("too deep")
        return SourceFile(path)

    monkeypatch.setattr(sites, "SourceFile", refusing)
    assert list(read_sources({str(deep), str(plain)})) == [str(plain)]


def test_a_loop_that_is_nested_too_deeply_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "program.py"
    path.write_text(f"out = []\nfor x in [1]:\n    y = {' + '.join(['abs(x)'] * 150)}\n    out.append(y)\n")
    source = SourceFile(str(path))
    site = next(iter(source.sites()))
    verdict = judge(site, source)
    assert verdict.independent
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(depth() + 100)
        refused = judge(site, source)
    finally:
        sys.setrecursionlimit(limit)
    assert refused.reasons == ("its source is nested too deeply to be read",)


def depth() -> int:
    """Frames of this stack."""
    frame, found = sys._getframe(), 0
    while frame is not None:
        frame, found = frame.f_back, found + 1  # type: ignore[assignment]
    return found


class Proxy:
    """A stand-in for another object, as wrapt and lazy-object-proxy make them."""

    __module__ = property(lambda self: "elsewhere")


STAND_IN, COUNT = Proxy(), 3


def looks() -> Iterator[object]:
    yield STAND_IN, COUNT


def test_a_type_that_makes_up_its_name_does_not_end_the_samples() -> None:
    found: dict[str, tuple[object, ...]] = {}
    facts._add(found, "value", STAND_IN)
    facts._add(found, "values", [STAND_IN])
    facts._add(found, "count", COUNT)
    assert found["count"] == ("int", 3, None)
    generator: Any = looks()
    next(generator)
    assert facts.values_of(generator.gi_frame, 10)["COUNT"] == ("int", 3, None)


LOCK = threading.Lock()


def uses_the_lock() -> Iterator[object]:
    yield LOCK, threading, STAND_IN


def test_globals_that_do_not_pickle_are_looked_at() -> None:
    generator: Any = uses_the_lock()
    next(generator)
    assert facts.values_of(generator.gi_frame, 10) == {"LOCK": ("_thread.lock", -1, None)}


def descend(depth: int, see: Callable[[FrameType], int]) -> int:
    return descend(depth - 1, see) if depth else see(sys._getframe())


@pytest.mark.parametrize(("slots", "text"), [(40, None), (None, 4_000)])
def test_stacks_without_room_keep_their_outermost_frames(
    slots: int | None, text: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long run, or a deep recursion, what comes later is still known to be in the loop that it is in."""
    sampled = sampler.Sampler(str(tmp_path), 10_000_000, None)
    sampled._open()
    store = sampled._store
    assert store is not None
    if slots is not None:
        monkeypatch.setattr(sampler, "SLOTS", slots)
        monkeypatch.setattr(sampler, "SPARE_SLOTS", 10)
    if text is not None:
        store._end = sampler.SIZE - sampler.SPARE_TEXT - text

    def see(frame: FrameType) -> int:
        return sampled._slot_of(frame, True)

    found: list[int] = []
    # On a thread, below which are few frames: those of the tests alone might have no room.
    thread = threading.Thread(target=lambda: found.extend(descend(depth, see) for depth in range(100)))
    thread.start()
    thread.join()
    assert store.cells[6] == 0
    keys = {slot: key for key, slot in sampled._slots.items()}
    whole, part = keys[found[0]], keys[found[-1]]
    assert len(whole) > len(part) == 1 + 2 * sampler.KEPT_FRAMES
    assert part == (whole[0], *whole[-2 * sampler.KEPT_FRAMES :])
    assert found[-1] == found[-2]


def test_of_very_many_processes_the_first_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a megabyte of the disk, or of the memory, in which temporary files are."""
    monkeypatch.setattr(sampler, "MOST_PROCESSES", 2)
    for number in range(4):
        sampled = sampler.Sampler(str(tmp_path), 10_000_000, None)
        sampled._started = number
        with pytest.raises(OSError, match="enough") if number >= 2 else contextlib.nullcontext():
            sampled._open()
    assert len(list(tmp_path.glob("*.samples"))) == 2
    assert records.left_out(tmp_path) == 2
    assert records.left_out(tmp_path / "nowhere") == 0
    finished = Finished(["python", "script.py"], 0, 1.0, False, left_out=2)
    made = report.Report(finished, 2)
    assert "2 more were not" in report.as_text(made)
    assert report.as_json(made)["sampler"]["processes_left_out"] == 2


def test_forks_at_a_time_end_the_sampler_s_thread_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python 3.12 and later has it called: one thread's fork begins while another one's is under way."""
    calls: list[str] = []
    fake = SimpleNamespace(end_thread=lambda: calls.append("end"), run=lambda: calls.append("run"))
    monkeypatch.setattr(sampler, "_sampler", fake)
    for _ in range(2):
        sampler._before_fork()
        sampler._before_fork()
        sampler._after_fork()
        assert calls[-1] == "end"
        sampler._after_fork()
    assert calls == ["end", "run"] * 2
    fake.forked = lambda: fake
    sampler._before_fork()
    sampler._before_fork()
    sampler._in_child()  # of one of the two: the other thread is not there
    sampler._before_fork()
    sampler._after_fork()
    assert calls[4:] == ["end", "run", "end", "run"]


def counted(number: int) -> int:
    first, more = number, abs(number)
    return first + more


@pytest.mark.parametrize(("install", "again"), [("settrace", True), ("settrace", False), ("setprofile", False)])
def test_names_are_kept_while_a_trace_function_is_called(install: str, again: bool) -> None:
    """What it was shown of them is written back when it returns."""
    looks = []

    def tell(*told: Any) -> Any:
        if told[0].f_code is counted.__code__:
            looks.append(threading.Thread(target=facts.values_of, args=(told[0], 10)))
            looks[-1].start()
            looks[-1].join()
        return tell if again else None

    before = getattr(sys, install.replace("set", "get"))()
    getattr(sys, install)(tell)
    try:
        total = counted(-3)
    finally:
        getattr(sys, install)(before)
    assert total == 0
    assert looks
