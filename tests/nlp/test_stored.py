"""What `chat stats` counts: tables that were written before, and what only has their names."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from allcores.errors import UsageError
from allcores.nlp.stored import rows_of
from allcores.nlp.summary import summary_of

ROW = {"id": "a", "file": "chat.jsonl", "line": 1, "text": "hello"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.jsonl.gz", b"", r"cannot read .*cut\.jsonl\.gz, line 1: it is empty"),
        ("no.jsonl.gz", b"no gzip", r"cannot read .*no\.jsonl\.gz, line 1: "),
        ("no.jsonl.bz2", b"no bzip2", r"cannot read .*no\.jsonl\.bz2, line 1: "),
        ("no.jsonl.zst", b"no zstd", r"cannot read .*no\.jsonl\.zst, line 1: "),
        ("folder", None, r"folder is a folder: for the files in it, write '.*folder/\*\*/\*'"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    """Also what a library for a compressed format raises at the first look at the file."""
    if name.endswith(".zst"):
        pytest.importorskip("zstandard")
    path = tmp_path / name
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        list(rows_of(str(path), "jsonl"))


@pytest.mark.parametrize("row", [5, None, [], {"text": 5}, {"tokens": 5}, {"lang": ["en"]}, {"pii": [1]}, {"error": 5}])
def test_rows_of_others_are_one_sentence(tmp_path: Path, row: Any) -> None:
    path = tmp_path / "table.jsonl"
    rows = [ROW, {**ROW, **row} if isinstance(row, dict) else row]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    with pytest.raises(UsageError, match=r"(line|row) 2\b.* that a chat pipeline has written"):
        summary_of(rows_of(str(path)))


def test_a_named_pipe_loses_nothing(tmp_path: Path) -> None:
    """What was looked at cannot be read again: so nobody looks, and its lines are messages."""
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text('{"text": "one"}\n{"text": "two"}\n'))
    writer.start()
    found = [row["text"] for row in rows_of(str(path))]
    writer.join()
    assert found == ["one", "two"]
