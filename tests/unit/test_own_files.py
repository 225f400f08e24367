"""What allcores makes is nobody else's, and it removes nothing that is not proven to be its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from allcores import failpoints
from allcores.errors import UsageError
from allcores.sinks import publishing
from allcores.sinks.base import Block, Entries
from allcores.sinks.directory import MARK, FolderOfFiles
from allcores.sinks.json_lines import JsonLinesFile
from allcores.sinks.open import remove_unfinished
from allcores.sinks.publishing import published
from allcores.system import own_files


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With files that have no name until they are complete, and where a file system has none."""
    if request.param == "named":
        monkeypatch.setattr(publishing, "create_nameless", lambda *_: None)
    return str(request.param)


def files(*values: object) -> Entries:
    encode = FolderOfFiles("x").wrap(lambda value: value)
    return lambda: [Block(0, len(values), "".join(encode(value) + "\n" for value in values).encode())]


def test_folders_are_private_whatever_the_umask(tmp_path: Path, no_umask: None) -> None:
    """Those above, too; a file that has the name, or a part of it, is told of."""
    own_files.make_folders(str(tmp_path / "a" / "b" / "c"))
    assert [mode_of(tmp_path / each) for each in ("a", "a/b", "a/b/c")] == [0o700] * 3
    own_files.make_folders(str(tmp_path / "a" / "b" / "c"))
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for name in ("file", "file/below", "nowhere"):
        with pytest.raises(OSError, match=r"file|directory"):
            own_files.make_folders(str(tmp_path / name))


def test_nothing_is_removed_that_another_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, folders, files of others, names that are not ours."""
    (tmp_path / "precious").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "folder").mkdir()
    assert not own_files.remove_own_file(str(tmp_path / "link"))
    assert not own_files.remove_own_file(str(tmp_path / "folder"))
    for name in ("ours", "theirs"):
        (tmp_path / "folder" / name).touch()
    assert not own_files.remove_own_folder(str(tmp_path / "folder"), "ours".__eq__)
    assert os.listdir(tmp_path / "folder") == ["theirs"]
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    assert not own_files.remove_own_file(str(tmp_path / "precious"))
    assert not own_files.remove_own_folder(str(tmp_path / "folder"), "theirs".__eq__)
    assert sorted(os.listdir(tmp_path)) == ["folder", "link", "precious"]


def test_what_is_not_complete_is_nobody_elses_to_read(tmp_path: Path, way: str, no_umask: None) -> None:
    """A private output is not readable while it is made, has no name where that can be, and is private in the end."""
    path = tmp_path / "o.jsonl"
    path.write_text("before")
    path.chmod(0o600)
    with published(str(path), mark="m", sync=False) as file:
        file.write(b"secret")
        file.flush()
        beside = [each for each in tmp_path.iterdir() if each != path]
        assert len(beside) == (way == "named")
        assert all(mode_of(each) == 0o600 for each in beside)
    assert (path.read_text(), mode_of(path), os.listdir(tmp_path)) == ("secret", 0o600, ["o.jsonl"])
    path.chmod(0o664)
    with published(str(path), mark="m", sync=False) as file:
        file.write(b"open")
    assert mode_of(path) == 0o664
    with published(str(tmp_path / "new"), mark="m", sync=False) as file:
        file.write(b"new")
    assert mode_of(tmp_path / "new") == 0o666


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_has_the_unfinished_name_is_not_written_through(tmp_path: Path, way: str, kind: str) -> None:
    """A link that somebody put there leads nowhere; the output is complete, or there is an error."""
    (tmp_path / "victim").write_text("precious")
    beside = tmp_path / ".o.jsonl.m.partial"
    beside.mkdir() if kind == "folder" else beside.symlink_to(tmp_path / "victim")
    try:
        JsonLinesFile(tmp_path / "o.jsonl").publish(lambda: [Block(0, 1, b"1\n")], mark="m", sync=False)
    except FileExistsError:
        assert way == "named" and not (tmp_path / "o.jsonl").exists()
    else:
        assert (tmp_path / "o.jsonl").read_text() == "1\n"
    assert (tmp_path / "victim").read_text() == "precious" and os.path.lexists(beside)
    remove_unfinished(str(tmp_path / "o.jsonl"), mark="m")
    assert (tmp_path / "victim").read_text() == "precious" and beside.is_symlink() == (kind == "link")


def test_a_replaced_folder_loses_nothing_that_was_put_into_it(tmp_path: Path) -> None:
    """A file or folder of somebody else's is told of, and all stays; one that was taken out is no trouble."""
    sink = FolderOfFiles(tmp_path / "out")
    sink.publish(files("a", "b"), mark="m", sync=False)
    (tmp_path / "out" / "00000001.txt").unlink()
    sink.publish(files("a", "b"), mark="m", sync=False)
    for foreign in ("notes.txt", "sub"):
        place = tmp_path / "out" / foreign
        place.mkdir() if foreign == "sub" else place.write_text("mine")
        with pytest.raises(UsageError, match=f"did not write: {foreign}"):
            sink.publish(files("c"), mark="m", sync=False)
        assert place.exists() and (tmp_path / "out" / "00000001.txt").read_text() == "b"
        assert os.listdir(tmp_path) == ["out"]
        place.rmdir() if foreign == "sub" else place.unlink()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / MARK).write_text("something else\n")
    with pytest.raises(UsageError, match="not empty"):
        FolderOfFiles(tmp_path / "other").publish(files("c"), mark="m", sync=False)


def test_a_folder_keeps_its_mode_and_a_link_its_target(
    tmp_path: Path, no_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is not open to others before it is complete."""
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "out").symlink_to(tmp_path / "real")
    seen: list[int] = []

    def look(moment: str) -> None:
        seen.extend(mode_of(each) for each in tmp_path.glob(".real.*"))

    monkeypatch.setattr(failpoints, "_hook", look)
    for _ in range(2):
        FolderOfFiles(tmp_path / "out").publish(files("a"), mark="m", sync=False)
    assert (tmp_path / "out").is_symlink() and (tmp_path / "real" / "00000000.txt").read_text() == "a"
    assert set(seen) == {0o700} and mode_of(tmp_path / "real") == 0o700
