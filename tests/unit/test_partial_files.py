"""Files beside their destination: made by us alone, and open to nobody who may not read what they replace."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from allcores import failpoints
from allcores.sinks import publishing
from allcores.sinks.base import Block
from allcores.sinks.directory import FolderOfFiles
from allcores.sinks.publishing import published
from allcores.system.partial_files import create_partial, partial_path


@pytest.fixture(autouse=True)
def no_nameless_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on file systems that have none."""
    monkeypatch.setattr(publishing, "create_nameless", lambda *_: None)


def mode_of(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_never_open_to_more_than_the_destination(tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the moment it exists, at each moment of a publication."""
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    path.chmod(mode)
    seen: list[int] = []

    def look(moment: str) -> None:
        seen.extend(mode_of(found) for found in tmp_path.glob(".*.partial"))

    monkeypatch.setattr(failpoints, "_hook", look)
    with published(str(path), mark="m", sync=True) as file:
        look("open")
        file.write(b"after")
    assert seen and not any(found & ~mode for found in seen)
    assert mode_of(path) == mode and path.read_text() == "after"


def test_a_folder_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private folder that is replaced is private all the time."""
    sink = FolderOfFiles(tmp_path / "out")
    block = Block(0, 1, (sink.wrap(lambda: "text")() + "\n").encode())
    sink.publish(lambda: [block], mark="m", sync=False)
    (tmp_path / "out").chmod(0o700)
    seen: list[int] = []

    def look(moment: str) -> None:
        seen.extend(mode_of(found) for found in tmp_path.glob(".*.partial"))

    monkeypatch.setattr(failpoints, "_hook", look)
    sink.publish(lambda: [block], mark="m", sync=False)
    assert seen and set(seen) == {0o700} == {mode_of(tmp_path / "out")}


@pytest.mark.parametrize("there", ["link", "dangling", "second name", "folder"])
def test_what_is_not_ours_stays(tmp_path: Path, there: str) -> None:
    """A link or a file with another name, put where the unfinished file would go, is neither followed nor removed."""
    path, precious = tmp_path / "out.jsonl", tmp_path / "precious"
    planted = Path(partial_path(str(path), "m"))
    if there == "dangling":
        planted.symlink_to(precious)
    elif there == "folder":
        planted.mkdir()
    else:
        precious.write_text("precious")
        planted.symlink_to(precious) if there == "link" else os.link(precious, planted)
    with pytest.raises(FileExistsError), published(str(path), mark="m", sync=False) as file:
        file.write(b"new")
    assert os.path.lexists(planted) and not path.exists()
    assert precious.read_text() == "precious" if there in ("link", "second name") else not precious.exists()


def test_what_we_left_is_replaced(tmp_path: Path) -> None:
    """The unfinished file of a session that was killed is in nobody's way."""
    path = tmp_path / "out.jsonl"
    Path(partial_path(str(path), "m")).write_text("half")
    with published(str(path), mark="m", sync=False) as file:
        file.write(b"whole")
    assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"] and path.read_text() == "whole"


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "o.jsonl"])
def test_names_as_long_as_they_may_be(tmp_path: Path, name: str) -> None:
    """The hidden name is never too long where the name itself is not."""
    path = tmp_path / name
    with published(str(path), mark="20261126-120000-abcdef", sync=False) as file:
        file.write(b"whole")
    assert path.read_text() == "whole"


def test_not_inherited(tmp_path: Path) -> None:
    """Descriptors of unfinished files are ours alone."""
    descriptor = create_partial(str(tmp_path / "x"))
    try:
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)
