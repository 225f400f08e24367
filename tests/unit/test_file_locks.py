"""system/file_locks.py: who has a file, asked without taking it; and the locks that are made of it."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allcores.errors import JournalError
from allcores.jobs import supervisor_lock
from allcores.runs import lock as run_lock
from allcores.system import file_locks
from allcores.system.file_locks import FileLock, Held, holder
from allcores.system.posix import LINUX


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


def by_another(path: str, then: Callable[[], None]) -> None:
    """Call `then` while another process has the file."""
    held, held_writes = os.pipe()
    done, done_writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(done_writes)
            lock = FileLock(path)  # noqa: F841
            os.write(held_writes, b"h")
            os.read(done, 1)
        finally:
            os._exit(0)
    os.close(held_writes)
    try:
        assert os.read(held, 1) == b"h"
        then()
    finally:
        for each in (held, done, done_writes):
            os.close(each)
        os.waitpid(child, 0)


def test_one_at_a_time(path: str) -> None:
    assert holder(path) is None
    first = FileLock(path)
    assert (first.held, holder(path)) == (True, os.getpid())
    with pytest.raises(Held) as raised:
        FileLock(path)
    assert (raised.value.here, raised.value.pid) == (True, os.getpid())
    first.release()
    first.release()
    assert (first.held, holder(path)) == (False, None)
    FileLock(path).release()


def test_another_process_has_it_until_it_ends(path: str) -> None:
    def refused() -> None:
        with pytest.raises(Held) as raised:
            lock = FileLock(path)  # noqa: F841
        assert not raised.value.here
        assert holder(path) == raised.value.pid != os.getpid()

    by_another(path, refused)
    assert holder(path) is None
    FileLock(path).release()


def test_a_number_that_cannot_be_read(path: str) -> None:
    def unreadable() -> None:
        Path(path).write_bytes(b"?")
        assert holder(path) == 0
        with pytest.raises(Held) as raised:
            lock = FileLock(path)  # noqa: F841
        assert raised.value.pid is None

    by_another(path, unreadable)


def test_what_is_removed_takes_its_lock_along(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take = file_locks._take

    def remove(fd: int) -> None:
        take(fd)
        os.unlink(path)

    monkeypatch.setattr(file_locks, "_take", remove)
    with pytest.raises(FileNotFoundError):
        FileLock(path)
    monkeypatch.undo()
    FileLock(path).release()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock(str(tmp_path / "gone" / "lock"))
    assert holder(str(tmp_path / "gone" / "lock")) is None


def test_one_that_is_away_is_not_replaced_whenever_it_comes_back(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder comes back right after each look at it: no two looks make it another file."""
    lock = FileLock(path)
    assert not lock.is_replaced()
    os.rename(path, tmp_path / "away")
    stat = os.stat

    def stat_and_restore(*arguments: Any, **options: Any) -> os.stat_result:
        try:
            return stat(*arguments, **options)
        finally:
            if os.path.lexists(tmp_path / "away"):
                os.rename(tmp_path / "away", path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", stat_and_restore)
        assert not lock.is_replaced()
    assert lock.in_place()
    os.rename(path, tmp_path / "away")
    Path(path).touch()
    assert lock.is_replaced() and not lock.in_place()
    lock.release()


def test_never_through_a_link(path: str, tmp_path: Path) -> None:
    os.symlink(tmp_path / "other", path)
    with pytest.raises(OSError):
        FileLock(path)
    assert not (tmp_path / "other").exists()


def test_a_forked_child_has_nothing(path: str) -> None:
    lock = FileLock(path)
    child = os.fork()
    if not child:
        try:
            held = lock.held
            lock.release()
            try:
                FileLock(path)
            except Held as refused:
                os._exit(0 if not held and not refused.here else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert holder(path) == os.getpid()
    lock.release()


@pytest.mark.skipif(not LINUX, reason="elsewhere it has to be taken for a moment")
@pytest.mark.parametrize(
    ("file", "ask"), [(run_lock.LOCK, run_lock.is_locked), (supervisor_lock.FILE, supervisor_lock.supervisor_of)]
)
def test_who_asks_does_not_take_it(
    file: str, ask: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that is shown while a run or a supervisor starts must not have it refused."""
    taken: list[int] = []
    monkeypatch.setattr(file_locks, "_take", taken.append)
    (tmp_path / file).touch()
    assert not ask(str(tmp_path))
    assert taken == []


def test_a_disk_without_locks_is_not_taken_for_another_process(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems are mounted without them: whoever reads that somebody has it would wait for ever."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(OSError, match="No locks available"):
        FileLock(path)
    assert holder(path) is None
    with pytest.raises(JournalError, match=r"cannot lock run some: .*: No locks available"):
        run_lock.RunLock(os.path.dirname(path), "some")


def test_a_lock_that_nobody_has_any_more_is_let_go_of(tmp_path: Path) -> None:
    """Ctrl-C came between taking it and noting that: the run was "at work in this very process" for ever."""
    path = str(tmp_path / "lock")

    def interrupted() -> None:
        FileLock(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    gc.collect()
    assert holder(path) is None
    lock = FileLock(path)
    assert holder(path) == os.getpid()
    lock.release()
