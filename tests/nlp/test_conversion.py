"""Conversations from one form into another, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.process.warm import Interpreter

from allcores.errors import UsageError
from allcores.nlp import convert
from allcores.nlp.conversion import as_openai

TALK: dict[str, Any] = {
    "id": "talk",
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}],
    "messages": [
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "u"}}],
        },
        {
            "role": "assistant", "content": "I will add.", "weight": 0,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}},
                {"id": "b", "type": "function", "function": {"name": "add", "arguments": '{"x":2}'}},
            ],
        },
        {"role": "tool", "content": "1", "tool_call_id": "a"},
        {"role": "tool", "content": "2", "tool_call_id": "b"},
        {"role": "assistant", "content": "3", "name": "calculator"},
        {"role": "user", "content": ""},
        {"role": "user", "content": "two in a row"},
    ],
}  # fmt: skip


@pytest.mark.quick
def test_sharegpt_is_as_others_read_it() -> None:
    made = convert(TALK, "sharegpt", plain=True)
    assert [(turn["from"], turn["value"]) for turn in made.document["conversations"]] == [
        ("system", "Be kind."),
        ("human", "Look:\n<image>"),
        ("gpt", "I will add."),
        ("function_call", '[{"name": "add", "arguments": {"x": 1}}, {"name": "add", "arguments": {"x": 2}}]'),
        ("observation", "1"),
        ("observation", "2"),
        ("gpt", "3"),
        ("human", ""),
        ("human", "two in a row"),
    ]
    assert all(set(turn) == {"from", "value"} for turn in made.document["conversations"])
    assert json.loads(made.document["tools"]) == TALK["tools"] and made.document["id"] == "talk"
    assert sorted(made.losses) == [
        "turn 1: content", "turn 2: tool_calls", "turn 2: weight", "turn 3: tool_call_id", "turn 4: tool_call_id",
        "turn 5: name",
    ]  # fmt: skip


@pytest.mark.quick
def test_foreign_sharegpt_becomes_a_conversation_that_services_take() -> None:
    """Calls get ids, and their answers the same ones; the system message stands first."""
    document = {
        "system": "Be kind.", "tools": "",
        "conversations": [
            {"from": "human", "value": "1+1 and 2+2?"},
            {"from": "function_call", "value": '[{"name": "add", "arguments": {"x": 1}}, {"name": "add"}]'},
            {"from": "observation", "value": "2"}, {"from": "observation", "value": "4"},
            {"from": "GPT", "value": "2 and 4"},
        ],
    }  # fmt: skip
    found = convert(document, "openai").document
    assert found["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "1+1 and 2+2?"},
        {
            "role": "assistant", "content": None,
            "tool_calls": [
                {"id": "call_1_0", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}},
                {"id": "call_1_1", "type": "function", "function": {"name": "add", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "content": "2", "tool_call_id": "call_1_0"},
        {"role": "tool", "content": "4", "tool_call_id": "call_1_1"},
        {"role": "assistant", "content": "2 and 4"},
    ]  # fmt: skip
    assert "tools" not in found


@pytest.mark.quick
def test_chatml_is_text_and_says_what_it_leaves_out() -> None:
    made = convert(TALK, "chatml")
    assert made.document["text"].startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nLook:\n<image>")
    assert (
        'I will add.\n<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>\n<tool_call>\n{"name"'
        in made.document["text"]
    )
    assert (
        "turn 2: how the arguments of call 1 are written" in made.losses
        and "turn 1: content that is a list" in made.losses
    )
    back = as_openai(made.document)
    assert [message["content"] for message in back["messages"]][2:] == [
        "I will add.",
        "1",
        "2",
        "3",
        "",
        "two in a row",
    ]
    assert [message.get("tool_call_id") for message in back["messages"]][3:5] == ["call_2_0_0", "call_2_1_0"]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("document", "to", "message"),
    [
        ({"messages": [{"role": "user"}]}, "llama", "to='llama' must be one of openai, sharegpt, chatml"),
        ([], "openai", "a conversation is an object, not a list"),
        ({"text": "Hi"}, "openai", "it is no conversation: it has neither"),
        ({"messages": []}, "openai", "'messages' is empty"),
        ({"messages": [7]}, "sharegpt", "turn 0 is a number, and no object"),
        ({"messages": [{"content": "x"}]}, "sharegpt", "turn 0 has no role"),
        ({"messages": [{"role": "user", "content": 3}]}, "chatml", "turn 0 has content that is a number"),
        ({"messages": [{"role": "user", "content": "a <|im_end|> b"}]}, "chatml", r"turn 0 says <|im_end|>, which"),
        ({"messages": [{"role": "a\nb", "content": "x"}]}, "chatml", r"turn 0: the role 'a\\nb' cannot be written"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "sharegpt", "turn 0 has tool_calls that are"),
        ({"conversations": [{"from": "human"}]}, "openai", "turn 0 has no 'from' and 'value'"),
        ({"conversations": [{"from": "function_call", "value": "{"}]}, "openai", "turn 0 has a call that is no JSON"),
        (
            {"conversations": [{"from": "function_call", "value": '{"name": "f", "name": "g"}'}]},
            "openai",
            "turn 0 has a call that is no JSON: the name 'name' occurs twice in one object",
        ),
        ({"conversations": [{"from": "function_call", "value": "{}"}]}, "openai", "turn 0 has a call that names no"),
        ({"text": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nno"}, "openai", "turn 1 is no <|im_st"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_one_sentence(document: Any, to: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        convert(document, to)
    assert str(raised.value).startswith(message.replace("\\\\", "\\"))


NAMES = st.text("abc_", min_size=1, max_size=6)
TEXTS = st.text(st.sampled_from("ab \n{}[]\"'<>|é\u05d0😀\ud83d"), max_size=12)
CALLS = st.lists(
    st.builds(
        lambda id, name, arguments: {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}},
        NAMES, NAMES,
        st.dictionaries(NAMES, st.integers() | TEXTS, max_size=2).map(json.dumps)
        | st.sampled_from(["", "no", "[1]", '{"a":1}']),
    ),
    min_size=1, max_size=3,
)  # fmt: skip
PARTS = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS)
    | st.just({"type": "image_url", "image_url": {"url": "data:,x"}}),
    max_size=3,
)
BESIDE = st.fixed_dictionaries(
    {}, optional={"name": NAMES, "weight": st.sampled_from([0, 1]), "refusal": st.none() | TEXTS}
)
MESSAGES = st.one_of(
    st.builds(
        lambda role, content, more: {"role": role, "content": content, **more},
        st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "critic", "gpt"]),
        TEXTS | PARTS | st.none(), BESIDE,
    ),
    st.builds(
        lambda content, calls, more: {"role": "assistant", "content": content, "tool_calls": calls, **more},
        TEXTS | PARTS | st.none(), CALLS, BESIDE,
    ),
    st.builds(lambda content, id: {"role": "tool", "content": content, "tool_call_id": id}, TEXTS, NAMES),
)  # fmt: skip
TALKS = st.builds(
    lambda messages, more: {**more, "messages": messages},
    st.lists(MESSAGES, min_size=1, max_size=6),
    st.fixed_dictionaries({}, optional={"id": NAMES, "tools": st.just(TALK["tools"]), "source": TEXTS}),
)


@settings(max_examples=100)
@given(TALKS)
def test_there_and_back_changes_nothing(talk: dict[str, Any]) -> None:
    there = convert(talk, "sharegpt")
    assert there.losses == ()
    assert convert(json.loads(json.dumps(there.document)), "openai").document == talk


@settings(max_examples=100)
@given(TALKS)
def test_chatml_keeps_all_but_what_it_tells(talk: dict[str, Any]) -> None:
    try:
        there = convert(talk, "chatml")
    except UsageError as refused:
        assert "ChatML" in str(refused)
        return
    back = convert(there.document, "openai").document
    assert {name: back.get(name) for name in talk if name != "messages"} == {
        name: value for name, value in talk.items() if name != "messages"
    }
    assert len(back["messages"]) == len(talk["messages"])
    for number, (one, other) in enumerate(zip(talk["messages"], back["messages"], strict=True)):
        told = {loss.partition(": ")[2] for loss in there.losses if loss.startswith(f"turn {number}: ")}
        for name, value in one.items():
            if name == "tool_calls":
                for place, (call, found) in enumerate(zip(value, other[name], strict=True)):
                    assert f"id of call {place}" in told
                    assert call["function"]["name"] == found["function"]["name"]
                    if f"how the arguments of call {place} are written" not in told:
                        assert call["function"] == found["function"]
            elif name not in told and not any(loss.startswith(f"{name} that is ") for loss in told):
                assert other[name] == value


def test_the_command(warm: Interpreter, tmp_path: Path) -> None:
    lines = [json.dumps(TALK), "broken", '{"text": "Hi"}', r'{"messages": [{"role": "user", "content": "\ud83d"}]}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    done = warm.run("chat", "convert", "in.jsonl", "-o", "s.jsonl", "--to", "sharegpt", "--json", folder=tmp_path)
    assert done.code == 1, done.err
    found = json.loads(done.out)
    assert (found["conversations"], found["failed"], found["losses"]) == (2, 2, {})
    assert [finding.split(": ")[0] for finding in found["findings"]] == ["in.jsonl:2", "in.jsonl:3"]
    done = warm.run("chat", "convert", "s.jsonl", "-o", "o.jsonl", "--to", "openai", folder=tmp_path)
    assert (done.code, done.err) == (0, "2 conversations → o.jsonl\n")
    assert [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()] == [
        json.loads(lines[0]), json.loads(lines[3])
    ]  # fmt: skip
    done = warm.run("chat", "convert", "s.jsonl", "-o", "c.jsonl", "--to", "chatml", folder=tmp_path)
    assert done.code == 0 and "left out in 1 conversation: tool_call_id\n" in done.err
    for arguments, message in (
        (["o.jsonl", "-o", "o.jsonl", "--to", "chatml"], "o.jsonl is an input, and would be replaced"),
        (["o.jsonl", "-o", "o.txt", "--to", "chatml"], "the output is JSON Lines"),
        (["o.csv", "-o", "x.jsonl", "--to", "chatml"], "o.csv"),
        (["o.jsonl", "-o", "x.jsonl", "--to", "chatml", "--plain"], "--plain is for --to sharegpt"),
    ):
        done = warm.run("chat", "convert", *arguments, folder=tmp_path)
        assert done.code == 2 and message in done.err and not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        (
            {"messages": None, "conversations": [{"from": None, "value": None, "role": "user", "content": "a"}]},
            {"messages": [{"role": "user", "content": "a"}]},
        ),
        (
            {"text": "<|im_start|>user\na<|im_end|>\n", "messages": None, "conversations": None},
            {"messages": [{"role": "user", "content": "a"}]},
        ),
        (
            {"messages": [], "conversations": [{"from": "human", "value": "a"}]},
            {"messages": [{"role": "user", "content": "a"}]},
        ),
    ],
)
def test_columns_of_other_forms_may_be_null(document: dict[str, Any], wanted: dict[str, Any]) -> None:
    """As a library writes rows of several forms: all columns in each."""
    found = convert(document, "openai").document
    assert found["messages"] == wanted["messages"]
