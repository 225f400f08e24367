"""A JSON file that is read as a whole: what is not a part of its document or its list is told, and not passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from allcores.nlp import ChatSource

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("behind", ['[{"text": "b"}]\n', '{"text": "b"}', "]"])
def test_what_stands_behind_a_list_is_told(tmp_path: Path, behind: str) -> None:
    """Two lists in one file, for one."""
    path = tmp_path / "chat.json"
    path.write_text('[{"text": "a"}] \n\n')
    assert [row["text"] for row in ChatSource(path)] == ["a"]
    path.write_text(path.read_text() + behind)
    rows = list(ChatSource(path))
    assert [(row["text"], row["line"]) for row in rows] == [("a", 1), (None, 3)]
    assert rows[1]["error"] == "reading: not JSON (Extra data); the rest of the file is not read"
