"""What the check of files of chat finds: each rule broken once, by name, with its place and a way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from allcores.nlp import ChatSource, convert, validation_files
from allcores.nlp.validation import FIXES, Above, check_document
from allcores.nlp.validation_files import findings_of

pytestmark = pytest.mark.quick


def call(name: Any = "c1", function: Any = "look_up", arguments: Any = "{}") -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": function, "arguments": arguments}}


def talk(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"id": "t", "messages": list(messages), **more}


USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}
ASKS = {"role": "assistant", "content": None, "tool_calls": [call()]}
TOOL = {"role": "tool", "tool_call_id": "c1", "content": "4"}

GOOD: list[dict[str, Any]] = [
    talk(USER, ANSWER),
    talk({"role": "system", "content": "Be kind."}, USER, ANSWER, USER, {**ANSWER, "weight": 0}),
    talk(USER, ASKS, TOOL, ANSWER),
    talk(
        USER, {**ASKS, "tool_calls": [call("a"), call("b")]}, {**TOOL, "tool_call_id": "b"},
        {**TOOL, "tool_call_id": "a"}, ANSWER,
    ),
    talk({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]}, ANSWER),
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    {"conversations": [
        {"from": "system", "value": "s"}, {"from": "human", "value": "2+2"}, {"from": "function_call", "value": "{}"},
        {"from": "observation", "value": "4"}, {"from": "gpt", "value": "4"}]},
    {"id": "m", "text": "an utterance", "timestamp": 3},
]  # fmt: skip

#: document -> (rule, turn) of each finding
BAD: list[tuple[Any, list[tuple[str, int | None]]]] = [
    ([], [("object", None)]),
    ("text", [("object", None)]),
    ({"text": 4}, [("message-fields", None)]),
    ({"text": " "}, [("content-empty", None)]),
    ({"text": "a", "timestamp": "later"}, [("message-fields", None)]),
    ({"messages": {}}, [("messages-list", None)]),
    ({"messages": []}, [("messages-list", None)]),
    (talk(USER, "Hello", ANSWER), [("message-object", 1)]),
    (talk({"content": "Hi"}, ANSWER), [("role-known", 0)]),
    (talk({"role": "human", "content": "Hi"}, ANSWER), [("role-known", 0)]),
    (talk(USER, {"role": "assistant"}), [("content-type", 1)]),
    (talk({"role": "user", "content": 3}, ANSWER), [("content-type", 0)]),
    (talk({"role": "user", "content": [{"text": "x"}]}, ANSWER), [("content-type", 0)]),
    (talk({"role": "user", "content": "  "}, ANSWER), [("content-empty", 0)]),
    (talk(USER, {**ASKS, "tool_calls": {"a": 1}}), [("tool-calls-list", 1)]),
    (talk(USER, {**ASKS, "tool_calls": [call(None)]}), [("tool-call-id", 1)]),
    (talk(USER, {**ASKS, "tool_calls": [call(), call()]}, TOOL, ANSWER), [("tool-call-id", 1)]),
    (talk(USER, {**ASKS, "tool_calls": [call(function=None)]}, TOOL, ANSWER), [("tool-call-name", 1)]),
    (talk(USER, {**ASKS, "tool_calls": [call(arguments="{")]}, TOOL, ANSWER), [("tool-call-arguments", 1)]),
    (talk(USER, {**ASKS, "tool_calls": [call(arguments={})]}, TOOL, ANSWER), [("tool-call-arguments", 1)]),
    (talk(USER, {**ASKS, "tool_calls": [call(arguments="[1]")]}, TOOL, ANSWER), [("tool-call-arguments", 1)]),
    (talk(USER, ASKS, ANSWER), [("roles-alternate", 2), ("tool-call-answered", 1)]),
    (talk(USER, ASKS), [("tool-call-answered", 1)]),
    (talk(USER, TOOL, ANSWER), [("tool-answer-known", 1)]),
    (talk(USER, ASKS, {"role": "tool", "content": "4"}, ANSWER), [("tool-answer-known", 2), ("tool-call-answered", 1)]),
    (talk(USER, ASKS, TOOL, TOOL, ANSWER), [("tool-answer-known", 3)]),
    (talk(USER, {"role": "system", "content": "late"}, ANSWER), [("system-first", 1)]),
    (talk(USER, USER, ANSWER), [("roles-alternate", 1)]),
    (talk(USER), [("ends-with-answer", None)]),
    (talk({**USER, "weight": 1}, ANSWER), [("weight", 0)]),
    (talk(USER, {**ANSWER, "weight": 0.5}), [("weight", 1)]),
    ({"conversations": "x"}, [("messages-list", None)]),
    ({"conversations": [{"value": "Hi"}, {"from": "gpt", "value": "x"}]}, [("speaker-known", 0)]),
    ({"conversations": [{"from": "martian", "value": "Hi"}, {"from": "gpt", "value": "x"}]}, [("speaker-known", 0)]),
    ({"conversations": [{"from": "human"}, {"from": "gpt", "value": "x"}]}, [("content-type", 0)]),
    (
        {"conversations": [
            {"from": "human", "value": "a"}, {"from": "observation", "value": "b"}, {"from": "gpt", "value": "c"}]},
        [("tool-answer-known", 1)],
    ),
]  # fmt: skip


def test_what_is_converted_has_the_findings_that_it_had() -> None:
    """Several calls at once have several answers, and a message that says something and calls is one."""
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in ("first", "second")
    ]
    answers = [{"role": "tool", "tool_call_id": call["id"], "content": "1"} for call in calls]
    talk = {
        "messages": [
            {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "I look", "tool_calls": calls},
            *answers, {"role": "assistant", "content": "Done"},
        ]
    }  # fmt: skip
    assert list(check_document(talk, "f", 1)) == []
    found = list(check_document(convert(talk, "sharegpt").document, "f", 1))
    assert [(finding.level, finding.rule, finding.turn) for finding in found] == [("warning", "roles-alternate", 4)]


@pytest.mark.parametrize("document", GOOD)
def test_what_is_right_has_no_findings(document: Any) -> None:
    assert list(check_document(document, "f", 1)) == []


@pytest.mark.parametrize(("document", "wanted"), BAD)
def test_what_is_wrong_is_named_with_its_turn(document: Any, wanted: list[tuple[str, int | None]]) -> None:
    found = list(check_document(document, "f.jsonl", 12))
    assert sorted((finding.rule, finding.turn) for finding in found) == sorted(wanted)
    for finding in found:
        text = finding.as_text()
        assert text.startswith("f.jsonl:12") and f"[{finding.rule}]" in text and text.endswith(FIXES[finding.rule])
        assert ("conversation t" in text) == (isinstance(document, dict) and document.get("id") == "t")
        assert finding.turn is None or f"turn {finding.turn}" in text


def test_every_rule_is_broken_somewhere() -> None:
    broken = {rule for _, wanted in BAD for rule, _ in wanted}
    assert set(FIXES) - broken == {
        "readable",
        "id-unique",
        "conversation-unique",
        "reply-known",
        "time-order",
    }  # of files, below


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    lines: list[Any] = [
        {"id": "a", "text": "x", "timestamp": 10},
        {"id": "b", "text": "y", "reply_to": "a", "timestamp": 9},
        {"id": "a", "text": "z"},
        {"id": "c", "text": "z", "reply_to": "nobody"},
        talk(USER, ANSWER),
        talk(USER, ANSWER),
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n\n")
    (tmp_path / "chat.csv").write_text("text\nfine\ntoo,many\n")
    found = [(finding.line, finding.rule, finding.level) for finding in findings_of(ChatSource(path))]
    assert found == [
        (2, "time-order", "warning"),
        (3, "id-unique", "error"),
        (4, "reply-known", "warning"),
        (6, "conversation-unique", "warning"),
        (7, "readable", "error"),
        (8, "readable", "error"),
    ]
    (finding,) = findings_of(ChatSource(tmp_path / "chat.csv"))
    assert finding.as_json() == {
        "file": str(tmp_path / "chat.csv"), "line": 3, "conversation": None, "turn": None, "rule": "readable",
        "level": "error", "message": "2 fields where the header has 1", "fix": FIXES["readable"],
    }  # fmt: skip


def test_a_large_file_is_checked_by_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines, ids and answers are those of the file, wherever a range ends."""
    lines: list[bytes] = [b'\xef\xbb\xbf{"id": "first", "text": "bom"}']
    for number in range(300):
        lines.append(json.dumps({"id": f"m{number % 290}", "text": "x" * (number % 50), "reply_to": "m1"}).encode())
        lines.append(json.dumps([talk(USER, ANSWER), talk(USER, USER), {"text": "no id"}, "text"][number % 4]).encode())
        if number % 40 == 0:
            lines += [b"not json", b"", b"caf\xe9", b'{"id": "first", "text": "again"}\r', b"x" * 3_000]
    (tmp_path / "chat.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    source = ChatSource(tmp_path / "chat.jsonl")
    wanted = list(findings_of(source))
    assert len({finding.rule for finding in wanted}) >= 6
    monkeypatch.setattr(validation_files, "LARGE_BYTES", 1)
    monkeypatch.setattr(validation_files, "SLICE_BYTES", 1_000)
    assert list(findings_of(source, workers=2)) == wanted


def test_messages_without_ids_on_one_line_are_no_duplicates() -> None:
    """A list without line breaks has them all on line 1."""
    above = Above()
    found = [each for _ in range(3) for each in check_document({"text": "Hi", "speaker": "ann"}, "a.json", 1, above)]
    assert [each.rule for each in found] == []
    found = [each for _ in range(2) for each in check_document({"text": "Hi", "id": "m1"}, "a.json", 1, above)]
    assert [each.rule for each in found] == ["id-unique"]
    found = [each for _ in range(2) for each in check_document({**talk(USER, ANSWER), "id": 7}, "a.json", 1, above)]
    assert [each.rule for each in found] == ["conversation-unique"]
