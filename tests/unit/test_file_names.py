"""Which files a pattern stands for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from allcores.sources.file_names import all_inside, escaped, matching_files
from allcores.sources.files import Files
from allcores.sources.open import from_inputs, source_of
from allcores.sources.text import BadInput


def names(folder: Path, pattern: str) -> list[str]:
    return [os.path.relpath(path, folder) for path in matching_files(os.path.join(escaped(str(folder)), pattern))]


def test_links_that_lead_nowhere_or_in_circles_are_files(tmp_path: Path) -> None:
    """The function is told of them, and says what is wrong; they end no run, wherever in a pattern they are met."""
    (tmp_path / "a.txt").write_text("a")
    for name, target in [("circle", "circle"), ("one", "other"), ("other", "one"), ("gone", "nothing")]:
        (tmp_path / name).symlink_to(target)
    assert names(tmp_path, "*") == ["a.txt", "circle", "gone", "one", "other"]
    assert names(tmp_path, "**/*") == ["a.txt", "circle", "gone", "one", "other"]
    assert names(tmp_path, "circle") == ["circle"]
    assert names(tmp_path, "*/x") == names(tmp_path, "circle/*") == []


@pytest.mark.parametrize("name", ["data [final].txt", "what?.txt", "all*.txt", "[].txt", "[!a].txt"])
def test_a_path_that_is_there_is_no_pattern(tmp_path: Path, name: str) -> None:
    """What could be a pattern is the file of that name, if there is one; so are folders."""
    path = tmp_path / name
    path.write_text("a\nb\n")
    assert list(source_of(path)) == list(source_of(str(path))) == ["a", "b"]
    assert list(matching_files(str(path))) == [str(path)]
    folder = tmp_path / "folder" / name
    folder.mkdir(parents=True)
    (folder / "x").write_text("")
    assert list(source_of(folder)) == list(Files(str(folder / "*"))) == [str(folder / "x")]
    assert list(matching_files(all_inside(str(folder)))) == list(matching_files(escaped(str(folder / "x"))))
    with pytest.raises(BadInput, match="is a folder") as caught:
        from_inputs([str(folder)])
    assert list(matching_files(str(caught.value).rpartition("--files ")[2].strip("'"))) == [str(folder / "x")]


def test_a_pattern_that_matches_a_file_of_its_own_name(tmp_path: Path) -> None:
    """Costs no other file."""
    for name in ("*", "a"):
        (tmp_path / name).write_text("")
    assert names(tmp_path, "*") == ["*", "a"]


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    """Is one sentence."""
    with pytest.raises(BadInput):
        list(Files(f"{tmp_path}/\0*/x"))
    assert Files(f"{tmp_path}/\0*/x").total() in (None, 0)
