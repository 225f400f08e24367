"""A JSON file that is read as a whole: what is not a part of its document or its list is told, and not passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from allcores.nlp import ChatSource
from allcores.nlp.validation_files import findings_of

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


@pytest.mark.parametrize(
    ("text", "texts", "what"),
    [
        ('[{"text": "a"}\n {"text": "b"}]', ["a", None, "b"], "a comma is missing"),
        ('[{"text": "a"},\n]', ["a", None], "a comma too many"),
        ('[,\n{"text": "a"}]', [None, "a"], "a comma too many"),
        ('[{"text": "a"}, \n,{"text": "b"}]', ["a", None, "b"], "a comma too many"),
        ("[\n,]", [None], "a comma too many"),
        ('[{"text": "a"}\n,{"text": "b"} ]', ["a", "b"], None),
        ("[ ]", [], None),
    ],
)
def test_what_stands_between_documents_is_told(
    tmp_path: Path, text: str, texts: list[str | None], what: str | None
) -> None:
    """Programs for training read no such list, while its documents are there."""
    path = tmp_path / "chat.json"
    path.write_text(text)
    rows = list(ChatSource(path))
    assert [row["text"] for row in rows] == texts
    assert [row["error"] for row in rows if row["text"] is None] == (
        [] if what is None else [f"reading: not JSON ({what})"]
    )
    findings = list(findings_of(ChatSource(path)))
    assert [finding.message for finding in findings] == ([] if what is None else [f"not JSON ({what})"])
