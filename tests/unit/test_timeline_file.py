"""A timeline is whole though its disk was full for a while, and found though the program went to another folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from allcores.timeline import Timeline, file


@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz"])
@pytest.mark.parametrize("moved", ["", "private", "named"])
def test_what_could_not_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, moved: str
) -> None:
    path, write, room = tmp_path / name, os.write, [7, 0]

    def write_some(descriptor: int, data: bytes) -> int:
        if not room:
            return write(descriptor, data)
        size = room.pop(0)
        if not size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:size])

    header = {"format": file.FORMAT, "version": file.VERSION}
    rows = [header, *(["row", number] for number in range(50))]
    lines = file.Lines(None if moved else path)
    for row in rows[:20]:
        lines.add(row)
    if moved:
        lines.flush()
    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(OSError, match="space"):
        if moved:
            lines.move(path, private=moved == "private")
        lines.flush()
    for row in rows[20:]:
        lines.add(row)
    lines.flush()
    lines.close()
    assert list(file.rows_of([path.read_bytes()], name)) == rows
    assert (path.read_bytes()[:2] == b"\x1f\x8b") is name.endswith(".gz"), "as its name says"


def test_it_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    timeline = Timeline("run.jsonl")
    timeline.close()
    assert timeline.recording().name == "run.jsonl"
    monkeypatch.chdir("/")
    assert timeline.recording().complete
