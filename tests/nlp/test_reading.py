"""What is read: every form of chat, and everything that is wrong with a line, which is a record with its place."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allcores.errors import UsageError
from allcores.nlp import ChatSource
from allcores.nlp.reading.formats import BadMessage, records_of, seconds_of
from allcores.nlp.reading.items import record_of
from allcores.nlp.reading.names import file_names
from allcores.nlp.reading.source import ChatItems
from allcores.nlp.validation import check_document
from allcores.sources.text import BadInput

pytestmark = pytest.mark.quick


def read(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if value is not None} for row in ChatSource(path, **options)]


def of(document: Any) -> list[dict[str, Any]]:
    rows = records_of(document, "f", 3)
    return [{name: value for name, value in row.items() if value is not None and name != "file"} for row in rows]


def test_utterances(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": "x", "text": "Hi", "speaker": "ann", "conversation_id": 7, "timestamp": 1.5, "reply_to": "w"}\n'
        '{"text": "no id"}\n'
    )
    assert read(path) == [
        {
            "id": "x", "text": "Hi", "speaker": "ann", "conversation_id": "7", "timestamp": 1.5, "reply_to": "w",
            "file": "a.jsonl", "line": 1,
        },
        {"id": "a.jsonl:2", "text": "no id", "file": "a.jsonl", "line": 2},
    ]  # fmt: skip


def test_convokit() -> None:
    document = {
        "id": "1234", "root": "1230", "speaker": {"id": "bob"}, "reply-to": "1233", "timestamp": 1_300_000_000,
        "text": "Yes.", "meta": {"score": 3},
    }  # fmt: skip
    assert of(document) == [
        {
            "id": "1234", "conversation_id": "1230", "speaker": "bob", "reply_to": "1233", "timestamp": 1.3e9,
            "text": "Yes.", "line": 3,
        }
    ]  # fmt: skip


def test_openai_messages_with_tools_parts_and_empty_content() -> None:
    document = {
        "id": "talk",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {}}, "x"],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}, {"id": "b"}]},
            {"role": "tool", "content": "4", "tool_call_id": "a"},
            {"role": "user", "content": ""},
            {"role": "user", "content": "two in a row"},
        ],
    }
    rows = of(document)
    assert [(row["id"], row["speaker"], row["text"]) for row in rows] == [
        ("talk:0", "system", "Be kind."),
        ("talk:1", "user", "Look:\nx"),
        ("talk:2", "assistant", ""),
        ("talk:3", "tool", "4"),
        ("talk:4", "user", ""),
        ("talk:5", "user", "two in a row"),
    ]
    assert {row["conversation_id"] for row in rows} == {"talk"}


def test_messages_of_a_conversation_keep_their_ids_and_times() -> None:
    """By the names that messages by themselves have; a number counts within its conversation alone."""
    first = {"id": "msg_1", "role": "user", "content": "Hi", "created_at": 1_700_000_000}
    rows = of(
        {
            "id": "talk",
            "messages": [
                first,
                {"id": None, "role": "assistant", "content": "Ho", "timestamp": None, "ts": "1700000003.5"},
                {"id": 7, "role": "user", "content": "One", "parent_id": "msg_1"},
                {"id": [], "role": "user", "content": "Two", "parent_id": 7},
                {"message_id": "x", "role": "user", "content": "Three", "in_reply_to": "elsewhere"},
            ],
        }
    )
    assert [(row["id"], row.get("reply_to"), row.get("timestamp")) for row in rows] == [
        ("msg_1", None, 1_700_000_000.0),
        ("talk:1", None, 1_700_000_003.5),
        ("talk:2", "msg_1", None),
        ("talk:3", "talk:2", None),
        ("x", "elsewhere", None),
    ]
    (row,) = of({"conversations": [{"from": "human", "value": "Hi", "id": "a", "date": "2026-01-31"}]})
    assert (row["id"], row["timestamp"]) == ("a", 1_769_817_600.0)


def test_what_a_model_says_in_the_place_of_an_answer_is_its_text() -> None:
    parts = [{"type": "text", "text": "Well."}, {"type": "refusal", "refusal": "No."}]
    turns: list[dict[str, Any]] = [
        {"content": None, "refusal": "I cannot."},
        {"content": parts, "refusal": None},
        {"content": "Yes"},
    ]
    rows = of({"messages": [{"role": "assistant", **turn} for turn in turns]})
    assert [row["text"] for row in rows] == ["I cannot.", "Well.\nNo.", "Yes"]


def test_sharegpt_speaks_of_the_same_roles() -> None:
    turns = [("human", "Hi"), ("gpt", "Hello"), ("function_call", "{}"), ("observation", "ok"), ("Alice", "me, too")]
    rows = of({"conversations": [{"from": speaker, "value": value} for speaker, value in turns]})
    assert [row["speaker"] for row in rows] == ["user", "assistant", "assistant", "tool", "Alice"]
    assert [row["id"] for row in rows] == [f"f:3:{turn}" for turn in range(5)]


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"messages": None, "conversations": [{"from": "human", "value": "a"}], "id": None}, [("user", "a")]),
        ({"messages": [], "conversations": [{"from": "human", "value": "a"}]}, [("user", "a")]),
        ({"messages": [{"role": "user", "content": "a"}], "conversations": None, "text": None}, [("user", "a")]),
        ({"conversations": [{"from": None, "value": None, "role": "user", "content": "a"}]}, [("user", "a")]),
        ({"text": None, "content": "a", "speaker": None, "role": "user", "messages": None}, [("user", "a")]),
        ({"text": "a", "speaker": {"id": None, "name": "Ann"}}, [("Ann", "a")]),
    ],
)
def test_what_is_null_is_not_there(document: dict[str, Any], found: list[tuple[str, str]]) -> None:
    """Who writes rows of several forms with one library has all columns in each."""
    rows = of(document)
    assert [(row["speaker"], row["text"]) for row in rows] == found
    assert [row.get("error") for row in rows] == [None]


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ([], "reading: a JSON object is expected here, not a list"),
        (7, "reading: a JSON object is expected here, not a number"),
        ({}, "reading: text is missing (looked for text, content, message, body, utterance, value)"),
        ({"text": 7}, "reading: text must be text, not a number"),
        ({"text": None}, "reading: text is missing (looked for text, content, message, body, utterance, value)"),
        ({"text": "a", "id": [1]}, "reading: id must be text or a whole number, not a list"),
        ({"text": "a", "id": True}, "reading: id must be text or a whole number, not true or false"),
        (
            {"text": "a", "timestamp": "soon"},
            "reading: timestamp is neither seconds nor a date like 2026-01-31: 'soon'",
        ),
        ({"text": "a", "timestamp": 1e400}, "reading: timestamp is no finite number of seconds"),
        ({"messages": []}, "reading: 'messages' is empty"),
        ({"messages": "x"}, "reading: 'messages' must be a list of messages, not text"),
        ({"messages": [1]}, "reading: messages[0] must be an object, not a number"),
        ({"messages": [{"content": "x"}]}, "reading: messages[0] has no role"),
        ({"messages": [{"role": 1, "content": "x"}]}, "reading: messages[0] has a role that is a number, not text"),
        ({"messages": [{"role": "user"}]}, "reading: messages[0] has neither content nor tool_calls"),
        (
            {"messages": [{"role": "user", "content": {}}]},
            "reading: messages[0] has content that is an object, not text",
        ),
        (
            {"messages": [{"role": "user", "content": [3]}]},
            "reading: messages[0] has a part 0 that is neither text nor",
        ),
        ({"conversations": [{"value": "x"}]}, "reading: conversations[0] has no 'from'"),
        ({"conversations": [{"from": "human"}]}, "reading: conversations[0] has no 'value'"),
    ],
)
def test_what_is_wrong_is_one_sentence(document: Any, error: str) -> None:
    (row,) = of(document)
    assert row["error"].startswith(error)
    assert row["line"] == 3


def test_a_name_that_is_not_there_is_told_by_that_name() -> None:
    (row,) = records_of({"text": "Hi"}, "f", 1, {"text": "body"})
    assert row["error"] == "reading: text is missing (looked for body)"


def test_a_message_that_counts_messages_is_a_message() -> None:
    for document in ({"text": "Hi", "messages": 3}, {"content": "Hi", "messages": None, "conversations": "x"}):
        (row,) = of(document)
        assert (row["text"], row.get("error")) == ("Hi", None)
        assert list(check_document(document, "f", 1)) == []
    rows = of({"text": "Hi", "messages": 3, "conversations": [{"from": "human", "value": "Ho"}]})
    assert [row["text"] for row in rows] == ["Ho"]


def test_one_bad_turn_costs_that_turn() -> None:
    rows = of({"messages": [{"role": "user", "content": "a"}, {"role": "user"}, {"role": "user", "content": "c"}]})
    assert [row.get("text") for row in rows] == ["a", None, "c"]
    assert [("error" in row) for row in rows] == [False, True, False]


def test_bad_lines_are_records_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    deep = b"[" * 100_000
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "bom"}\r\n' + b"not json\n" + b"\n" + b'{"text": "caf\xe9"}\n' + deep + b"\n"
        b'{"text": "half \\ud83d pair"}\n'
        + b'{"text": "whole \\ud83d\\ude00"}\n'
        + b'{"text": "no newline at the end"}'
    )
    rows = read(path)
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [row.get("text") for row in rows] == [
        "bom", None, None, None, None, "half \ufffd pair", "whole 😀", "no newline at the end",
    ]  # fmt: skip
    assert [row.get("error") for row in rows] == [
        None,
        "reading: not JSON (Expecting value, column 1)",
        "reading: the line is empty",
        "reading: not UTF-8: byte 0xe9 at position 14 of the line",
        "reading: JSON nested too deeply",
        None,
        None,
        None,
    ]


def test_a_megabyte_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"text": "word " * 200_000}) + "\n")
    (row,) = read(path)
    assert len(row["text"]) == 1_000_000


def test_csv_with_quotes_lines_and_ragged_rows(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(
        b'\xef\xbb\xbfid,message,user\n1,"two\nlines, one field",ann\n2,too,many,fields\n\n4,"caf\xe9",bob\n'
        b'5,"say ""hi""",eve\n'
    )
    rows = read(path)
    assert [(row["line"], row.get("text"), row.get("error")) for row in rows] == [
        (2, "two\nlines, one field", None),
        (4, None, "reading: 4 fields where the header has 3"),
        (5, None, "reading: the line is empty"),
        (6, None, "reading: byte 0xe9 at position 7 is not utf-8; save the file as UTF-8"),
        (7, 'say "hi"', None),
    ]


@pytest.mark.parametrize("name", ["missing.csv", "missing"])
def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path, name: str) -> None:
    """Whatever its suffix would say."""
    with pytest.raises(UsageError, match="No such file"):
        ChatSource(tmp_path / name)


def test_csv_whose_fields_semicolons_separate(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text('text;id\n"a;b";1\nc,d;2\n')
    assert [row["text"] for row in read(tmp_path / "c.csv")] == ["a;b", "c,d"]
    (tmp_path / "c.csv").write_text("words;id\n1\t2;3;4\n")
    with pytest.raises(UsageError, match=r"no column has the text .*found 'words;id'"):
        read(tmp_path / "c.csv")


def test_whole_numbers_that_pandas_has_written_as_fractions(tmp_path: Path) -> None:
    """One of them is missing in that column: so is what the first message answers. Other ids may look so."""
    (tmp_path / "c.csv").write_text("id,text,reply_to\n1,a,\n2,b,1.0\n3,c,x.0\nv2.0,d,2.0\n2.0,e,1.0\n")
    rows = list(map(record_of, ChatItems(ChatSource(tmp_path / "c.csv"))))
    assert [row["reply_to"] for row in rows] == [None, "1", "x.0", "2.0", "1.0"]


def test_names_of_columns_as_spreadsheets_have_them(tmp_path: Path) -> None:
    """In capitals and with spaces; a name that is written the usual way, or was named by the caller, goes before it."""
    path = tmp_path / "c.csv"
    path.write_text("ID;Message;Sender;Conversation ID;Timestamp;Reply To;text;Text\n1;a;ann;c;12;9;b;c\n")
    wanted = {"id": "1", "speaker": "ann", "conversation_id": "c", "timestamp": 12.0, "reply_to": "9"}
    (row,) = read(path)
    assert row == {**wanted, "text": "b", "file": "c.csv", "line": 2}
    for name, text in (("Message", "a"), ("Text", "c")):
        (row,) = read(path, names={"text": name})
        assert row == {**wanted, "text": text, "file": "c.csv", "line": 2}
    path.write_text("Body Text,ID\nhi,1\n")
    assert [(row["text"], row["id"]) for row in read(path, names={"text": "body_text"})] == [("hi", "1")]
    path.write_text("DATE,Content\n2026-01-31,hi\n")
    assert [(row["text"], row["timestamp"]) for row in read(path)] == [("hi", 1_769_817_600.0)]


def test_long_messages_in_csv(tmp_path: Path) -> None:
    """The csv module's limit of a field is 131,072 characters."""
    path = tmp_path / "long.csv"
    path.write_text(f'id,text\n1,{"x" * 200_000}\n2,"{"two words" * 120_000}"\n3,short\n')
    rows = read(path)
    assert [(row["id"], len(row["text"]), row.get("error")) for row in rows] == [
        ("1", 200_000, None), ("2", 1_080_000, None), ("3", 5, None),
    ]  # fmt: skip


def test_a_quote_that_is_lost_costs_its_line(tmp_path: Path) -> None:
    """And no lines behind it, which would be one long message, or none, without a word."""
    path = tmp_path / "quotes.csv"
    path.write_text('id,text\n1,fine\n2,"lost\n3,fine\n4,"also, fine"\n5,fine\n')
    rows = read(path)
    assert [(row["line"], row.get("text")) for row in rows] == [
        (2, "fine"), (3, None), (4, "fine"), (5, "also, fine"), (6, "fine"),
    ]  # fmt: skip
    assert "is a quote missing" in rows[1]["error"]
    assert "quotes.csv" not in rows[1]["error"], "the row has the place"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"text,caf\xe9\n1,2\n", r"line 1: byte 0xe9 at position 9 is not utf-8; save the file as UTF-8$"),
        (b"text,text\n1,2\n", r"the name 'text' occurs twice .*: give one of them another name$"),
        (b"text, text\n1,2\n", r"the column 'text' is there twice: give one of them another name$"),
    ],
)
def test_a_header_that_is_none_names_a_way_out_that_there_is(tmp_path: Path, data: bytes, sentence: str) -> None:
    """The commands of chat have no --encoding, and no format of lines."""
    (tmp_path / "c.csv").write_bytes(data)
    with pytest.raises(UsageError, match=sentence):
        read(tmp_path / "c.csv")


def test_damage_of_a_compressed_table_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "c.csv.gz"
    path.write_bytes(gzip.compress(b"text\n" + b"one\n" * 3)[:-9])
    with pytest.raises(BadInput, match=r"cannot read .*c.csv.gz, line [1-5]: .*truncated"):
        read(path)


def test_columns_of_another_name(tmp_path: Path) -> None:
    path = tmp_path / "c.tsv"
    path.write_text("what\twho\nhello\tann\n")
    assert read(path, names={"text": "what", "speaker": "who"})[0]["speaker"] == "ann"
    with pytest.raises(UsageError, match=r"no column has the text.*found 'what', 'who'"):
        read(path)


def test_json_list_of_conversations_knows_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "share.json"
    talk = {"conversations": [{"from": "human", "value": "Hi"}]}
    path.write_text(f"[\n{json.dumps(talk)},\n\n{json.dumps(talk)}\n, 7, \nbroken")
    rows = read(path)
    assert [(row["line"], row.get("text")) for row in rows] == [(2, "Hi"), (4, "Hi"), (5, None), (6, None)]
    assert rows[3]["error"] == "reading: not JSON (Expecting value); the rest of the file is not read"


def test_a_name_that_is_there_twice_costs_its_document(tmp_path: Path) -> None:
    """One of its values would be lost; in a list, on a line and in a whole file alike."""
    twice = '{"id": "a", "text": "first", "text": "second"}'
    (tmp_path / "list.json").write_text(f'[{twice},\n{{"text": "fine"}},\n[{twice}]]')
    (tmp_path / "lines.jsonl").write_text(twice)
    (tmp_path / "whole.json").write_text(twice)
    wanted = "reading: no usable JSON (the name 'text' occurs twice in one object)"
    found = [(row["line"], row.get("text"), row.get("error")) for row in read(tmp_path / "list.json")]
    assert found == [(1, None, wanted), (2, "fine", None), (3, None, wanted)]
    for name in ("lines.jsonl", "whole.json"):
        assert [row.get("error") for row in read(tmp_path / name)] == [wanted]


def test_plain_text_has_a_message_on_each_line(tmp_path: Path) -> None:
    path = tmp_path / "chat.txt"
    path.write_bytes("Hello\n\nשלום\u2028still the same line\n".encode() + b"\xff\n")
    assert [row.get("text") for row in read(path)] == ["Hello", "", "שלום\u2028still the same line", None]


def test_compressed_files_read_as_the_files_in_them(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    text = b'{"text": "hi"}\n' * 3
    plain = tmp_path / "a.jsonl"
    plain.write_bytes(text)
    (tmp_path / "z").mkdir()
    for name, data in (("a.jsonl.gz", gzip.compress(text)), ("a.jsonl.zst", zstandard.ZstdCompressor().compress(text))):
        packed = tmp_path / "z" / name
        packed.write_bytes(data)
        assert read(packed) == read(plain)
    (tmp_path / "z" / "a.jsonl.gz").write_bytes(gzip.compress(text)[:-9])
    with pytest.raises(BadInput, match=r"cannot read .*a.jsonl.gz, line \d: .*truncated"):
        read(tmp_path / "z" / "a.jsonl.gz")


@pytest.mark.parametrize(("suffix", "packed"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.csv", "a.tsv", "a.txt"])
def test_every_format_in_every_compression(
    tmp_path: Path, name: str, suffix: str, packed: Callable[[bytes], bytes]
) -> None:
    lines = {"csv": "text\nhi\nho\n", "tsv": "text\tid\nhi\t1\nho\t2\n", "txt": "hi\nho\n"}
    text = lines.get(name.partition(".")[2], '{"text": "hi"}\n{"text": "ho"}\n').encode()
    if name == "a.json":
        text = b'[{"text": "hi"},\n{"text": "ho"}]'
    (tmp_path / name).write_bytes(text)
    (tmp_path / f"{name}.{suffix}").write_bytes(packed(text))
    rows = read(tmp_path / f"{name}.{suffix}")
    assert rows == read(tmp_path / name)
    assert [row["text"] for row in rows] == ["hi", "ho"]


def test_several_files_and_patterns_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / name).write_text('{"text": "hi"}\n')
    assert [row["file"] for row in read(tmp_path / "*.jsonl")] == ["a.jsonl", "b.jsonl"]
    with pytest.raises(UsageError, match="no file matches"):
        ChatSource(tmp_path / "*.csv")
    (tmp_path / "unknown.xyz").touch()
    with pytest.raises(UsageError, match="its suffix does not say what it is"):
        ChatSource(tmp_path / "unknown.xyz")
    with pytest.raises(BadInput, match="cannot read"):
        ChatSource(tmp_path / "missing.jsonl")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None), ("", None), (12, 12.0), ("12.5", 12.5), (1_700_000_000_000, 1.7e9),
        (1_700_000_000_000_000, 1.7e9),
        (1_700_000_000_000_000_000, 1.7e9),
        ("19700102", 86400.0), ("20010909014640", 1e9), (" 20010909 ", 999_993_600.0), (20010909, 20010909.0),
        ("20019909", 20019909.0), ("20010909T014640Z", 1e9),
        ("1970/01/02", 86400.0), ("1970/01/01 00:01:00", 60.0), ("1970-01-01 00:01:00 UTC", 60.0),
        ("1970-01-01 01:01:00 +0100", 60.0), ("1970-01-01 00:01:00.5 +00:00", 60.5),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60.0), ("Thu Jan 01 00:01:00 +0000 1970", 60.0),
        ("1 Jan 1970 01:01 +0100", 60.0), ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T01:00:00+01:00", 0.0), ("1970-01-02", 86400.0),
    ],
)  # fmt: skip
def test_times(given: Any, seconds: float | None) -> None:
    assert seconds_of(given) == seconds


@pytest.mark.parametrize(
    "given",
    [
        True, [], "yesterday", float("nan"), 10**400, 1e300, "31/01/2026", "31.01.2026 14:05", "1970/31/01", "10:30",
        "1 Jan 1970 00:01 EST", "Thu, 01 Jan 1970 00:01:00 CEST", "32 Jan 1970 00:01 +0100", "UTC", "1 UTC",
    ],
)  # fmt: skip
def test_no_times(given: Any) -> None:
    with pytest.raises(BadMessage):
        seconds_of(given)


def test_what_is_no_text_in_names_is_replaced(tmp_path: Path) -> None:
    """Half a surrogate pair anywhere would end the writing of the whole table."""
    path = tmp_path / "name\udcff.jsonl"
    talk = {"id": "\ud800", "messages": [{"role": "us\ud800er", "content": "\udfff"}]}
    path.write_text(json.dumps(talk) + "\n" + json.dumps({"text": "x", "speaker": {"id": "\ud900"}}) + "\n")
    for row in read(path):
        assert "\ufffd" in json.dumps(row, ensure_ascii=False)
        json.dumps(row, ensure_ascii=False).encode()


def test_messages_are_left_to_the_workers(tmp_path: Path) -> None:
    """What is no conversation is given on unread; either way it is the same record."""
    path = tmp_path / "a.jsonl"
    lines = [
        '{"text": "Hi"}', "broken", "", '{"messages": [{"role": "user", "content": "a"}, 7]}',
        r'{"mess\u0061ges": [{"role": "user", "content": "b"}, {"role": "user", "content": "c"}]}',
        r'{"text": "she said \"messages\", and \u00e9"}', '{"conversations": 3}',
        '{"meta": {"messages": 1}, "text": "d"}',
        '[["messages"]]', '{"text": "half \\ud83d pair", "id": 3}',
    ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    source = ChatSource(path)
    items = list(ChatItems(source))
    unread = [item[2] for item in items if isinstance(item, tuple)]
    assert unread == [1, 2, 6, 10], "lines of messages; those that look like a conversation are looked into"
    assert [record_of(item) for item in items] == list(source)
    assert [record["line"] for record in source] == [1, 2, 3, 4, 4, 5, 5, 6, 7, 8, 9, 10]
    for item in items:
        assert record_of(json.loads(json.dumps(item))) == record_of(item), "a journal keeps it"


@pytest.mark.parametrize(("suffix", "kind"), [("csv", "fields"), ("txt", "text")])
def test_rows_and_lines_are_left_to_the_workers(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"words,id\nHi,1\n\xff,2\n")
    source = ChatSource(path, names={"text": "words"} if suffix == "csv" else None)
    items = list(ChatItems(source))
    assert {item[0] for item in items if isinstance(item, tuple)} == {kind}
    assert isinstance(items[-1], dict) and "utf-8" in items[-1]["error"].lower()
    assert [record_of(item, source.names) for item in items] == list(source)


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """By the folders that it takes: ids, and conversations without a name, belong to one file each."""
    talk = json.dumps({"messages": [{"role": "user", "content": "Hi"}]})
    for folder in ("a/x", "b/x", "b/y"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "chat.jsonl").write_text(f'{talk}\n{{"text": "Ho"}}\n')
    (tmp_path / "other.jsonl").write_text('{"text": "Hu"}\n')
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"two\n"))
    paths = [tmp_path / name for name in ("a/x/chat.jsonl", "b/x/chat.jsonl", "b/y/chat.jsonl", "other.jsonl")]
    rows = list(ChatSource(paths))
    assert [row["id"] for row in rows] == [
        "a/x/chat.jsonl:1:0", "a/x/chat.jsonl:2", "b/x/chat.jsonl:1:0", "b/x/chat.jsonl:2",
        "y/chat.jsonl:1:0", "y/chat.jsonl:2", "other.jsonl:1",
    ]  # fmt: skip
    assert len({row["conversation_id"] for row in rows} - {None}) == 3
    rows = list(ChatSource([tmp_path / "a.txt", tmp_path / "a.txt.gz"]))
    assert len({row["id"] for row in rows}) == 2


def test_documents_on_one_line_are_told_apart(tmp_path: Path) -> None:
    """The first has the id that it would have alone."""
    path = tmp_path / "share.json"
    talk = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}
    path.write_text(json.dumps([talk, talk, {"text": "by itself"}, 7]) + "\n")
    rows = read(path)
    ids = [
        "share.json:1:0",
        "share.json:1:1",
        "share.json:1.2:0",
        "share.json:1.2:1",
        "share.json:1.3",
        "share.json:1.4",
    ]
    assert [row["id"] for row in rows] == ids
    assert [row.get("conversation_id") for row in rows] == ["share.json:1"] * 2 + ["share.json:1.2"] * 2 + [None] * 2


def test_no_two_inputs_have_one_name() -> None:
    """Also those that differ in their compression alone, that are given twice, or whose names are no text."""
    given = ["a/c.jsonl", "a/c.jsonl.gz", "./a/c.jsonl", "c.jsonl#2", "-", "/t/stdin", "n\udcff.jsonl", "n\udcfe.jsonl"]
    assert file_names(given) == [
        "c.jsonl", "c.jsonl#3", "c.jsonl#4", "c.jsonl#2", "stdin", "t/stdin", "n\ufffd.jsonl", "n\ufffd.jsonl#2",
    ]  # fmt: skip


def test_names_do_not_depend_on_where_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on in another folder has the same input, and so the same ids."""
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    here = file_names(["x/c.jsonl", "c.jsonl"])
    monkeypatch.chdir(tmp_path / "x")
    assert file_names(["c.jsonl", "../c.jsonl"]) == here == ["x/c.jsonl", f"{tmp_path.name}/c.jsonl"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(b"text\n" * 9, mtime=0), r"it begins as \.gz does: give it a name that ends with \.gz"),
        ("text\nhi\n".encode("utf-16"), "it begins as UTF-16 does: convert it first"),
    ],
)
def test_what_is_no_text_by_its_beginning_is_refused(content: bytes, said: str, name: str, tmp_path: Path) -> None:
    """All of its lines would be rows with an error, as many as there are newlines among its bytes."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"{name}, line 1: .*{said}"):
        read(tmp_path / name)


def test_what_is_wrong_with_all_of_a_file_is_told_with_the_way_out(tmp_path: Path) -> None:
    """As where lines of JSON are read for a run."""
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\r{"text": "b"}\r')
    assert "its lines end with carriage returns alone: convert them first" in read(tmp_path / "a.jsonl")[0]["error"]
    (tmp_path / "b.jsonl").write_bytes(b'[\n{"text": "a"}\n]\n')
    assert "each value has to be in a line of its own" in read(tmp_path / "b.jsonl")[0]["error"]
