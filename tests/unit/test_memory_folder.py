"""tests/memory_folder.py: of folders in memory, only those of runs that were killed are removed."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from tests import memory_folder
from tests.memory_folder import PREFIX, MemoryFolder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a file system in memory is used on Linux alone")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory_folder, "PLACE", tmp_path)
    return tmp_path


def test_what_is_in_use_stays_and_what_was_left_goes() -> None:
    """Left is what has the file that runs lock, and nobody who does."""
    first, left = MemoryFolder(), MemoryFolder()
    for each in (first, left):
        (each.path / "kept").write_text("")
    left._lock.close()
    second = MemoryFolder()
    assert stat.S_IMODE(second.path.stat().st_mode) == 0o1777
    assert (first.path / "kept").exists() and not left.path.exists()
    for each in (first, second):
        each.remove()
        assert not each.path.exists()


def test_what_no_run_has_locked_stays(place: Path) -> None:
    """One that is just being made, another program's of that name, and a link to a folder."""
    (place / f"{PREFIX}new").mkdir()
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / memory_folder._LOCK).write_text("")
    (place / f"{PREFIX}link").symlink_to(place / "elsewhere")
    (place / "another").mkdir()
    MemoryFolder().remove()
    assert {path.name for path in place.iterdir()} == {"another", "elsewhere", f"{PREFIX}link", f"{PREFIX}new"}
    assert (place / "elsewhere" / memory_folder._LOCK).exists()


def test_without_room_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where there is no such file system."""
    monkeypatch.setattr(memory_folder, "ROOM", 1 << 60)
    assert not memory_folder.has_room()
    monkeypatch.setattr(memory_folder, "ROOM", 0)
    assert memory_folder.has_room()
    monkeypatch.setattr(memory_folder, "PLACE", Path("/nowhere"))
    assert not memory_folder.has_room()
