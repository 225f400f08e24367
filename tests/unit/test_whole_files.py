"""What replaces a file in one step: whole, or not at all, and only what may be written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from allcores.system import partial_files, whole_files
from allcores.system.partial_files import create_private
from allcores.system.whole_files import whole_text


@pytest.fixture(params=["nameless", "named"], autouse=True)
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds: those that know files without a name, and those that do not."""
    if request.param == "named":
        for module in (whole_files, partial_files):
            monkeypatch.setattr(module, "create_nameless", lambda *_: None)


@pytest.mark.parametrize("there", [True, False])
def test_it_is_there_when_the_block_ends(tmp_path: Path, there: bool) -> None:
    """Until then the former one is, or nothing."""
    path = tmp_path / "out.html"
    if there:
        path.write_text("before")
        path.chmod(0o640)
    with whole_text(path) as file:
        file.write("a")
        file.flush()
        assert (path.read_text() if there else path.exists()) == ("before" if there else False)
    assert path.read_text() == "a"
    assert not there or stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out.html"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), whole_text(path) as file:
        file.write("half")
        file.flush()
        1 / 0  # noqa: B018
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["out.html"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("before")
    (tmp_path / "link").symlink_to("real")
    with whole_text(tmp_path / "link") as file:
        file.write("after")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "after"


def test_what_cannot_be_replaced_is_written_to(tmp_path: Path) -> None:
    """Standard output by its path, say."""
    reading, writing = os.pipe()
    with whole_text(f"/dev/fd/{writing}") as file:
        file.write("text")
    os.close(writing)
    with open(reading) as pipe:
        assert pipe.read() == "text"


def test_a_protected_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although its folder would allow to replace it."""
    path = tmp_path / "out.html"
    path.write_text("before")
    # For root everything is allowed.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError), whole_text(path) as file:
        file.write("after")
    assert path.read_text() == "before"


@pytest.mark.parametrize("umask", [0, 0o022, 0o277])
def test_a_private_file_is_this_users_alone(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "key"
    before = os.umask(umask)
    try:
        assert create_private(str(path), b"first")
    finally:
        os.umask(before)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"first", 0o600)
    assert not create_private(str(path), b"second") and path.read_bytes() == b"first"
    assert create_private(str(path), b"third", replace=True) and path.read_bytes() == b"third"
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_replaces_a_link_and_not_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "key").symlink_to("theirs")
    assert not create_private(str(tmp_path / "key"), b"ours")
    assert create_private(str(tmp_path / "key"), b"ours", replace=True)
    assert (tmp_path / "theirs").read_text() == "theirs" and not (tmp_path / "key").is_symlink()


@pytest.mark.parametrize("replace", [False, True])
def test_of_a_private_file_a_full_disk_leaves_nothing(tmp_path: Path, replace: bool) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "key"
    if replace:
        path.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            create_private(str(path), b"after", replace=replace)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["before"] * replace
