"""Whole pipelines: the same bytes for any number of workers, and a row for each message whatever happens to it."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.installed import needed
from tests.nlp.misbehaving import CRASH, LEAVING, POISON, WORDS, id_and_words, is_first

from allcores import Journal, nlp
from allcores.errors import NotSupported, RunChanged, SetupError, UsageError
from allcores.runs.spec import RunHooks

needed("spacy")
parquet = pytest.importorskip("pyarrow.parquet")

QUICK = ["unicode", "lang", "pii", "tokens", "duplicates", "conversation"]
TEXTS = [
    "Hello there! My email is bob.smith@example.com.", "Hi Bob, I love the new laptop from Apple in Paris!",
    "hello there!  my email is bob.smith@example.com.", "שלום עולם", "👩\u200d👩\u200d👧 ok", "",
    "half \ud800 pair", "nul\x00",
    "Hi Bob, I love the new laptop from Apple in Paris!!", "Two mice were running.",
    "Wie geht es dir heute, mein Freund?",
]  # fmt: skip


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    path = tmp_path / "chat.jsonl"
    lines = [
        json.dumps({"id": f"m{number}", "text": text, "conversation_id": f"c{number % 3}", "timestamp": 10 * number})
        for number, text in enumerate(TEXTS * 4)
    ]
    lines[5:5] = ["not json", "", '{"text": 7}', '{"messages": [{"role": "user", "content": "a"}, {"role": "user"}]}']
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_same_bytes_for_any_number_of_workers_and_any_batch(chat: Path, tmp_path: Path) -> None:
    pipeline = nlp.chat_pipeline()
    written = []
    with pipeline.pool(workers=3) as pool:  # one for both: all models take some seconds to load
        ways: list[dict[str, Any]] = [
            {"backend": "serial"},
            {"pool": pool, "chunk": 1, "batch": 1},
            {"pool": pool, "chunk": 7, "batch": 5},
        ]
        for number, options in enumerate(ways):
            output = tmp_path / f"out{number}.parquet"
            result = pipeline.run(chat, output, **options)
            assert (result.rows, result.errors) == (49, 4)
            written.append(output.read_bytes())
    assert written.count(written[0]) == len(written)
    rows = parquet.read_table(tmp_path / "out0.parquet").to_pylist()
    assert [row["line"] for row in rows] == [*range(1, 10), *range(9, 49)]
    assert [row["error"] for row in rows[5:10]] == [
        "reading: not JSON (Expecting value, column 1)",
        "reading: the line is empty",
        "reading: text must be text, not a number",
        None,
        "reading: messages[1] has neither content nor tool_calls",
    ]
    by_id = {row["id"]: row for row in rows}
    assert by_id["m2"]["dup_of"] == "m0" and by_id["m2"]["dup_kind"] == "exact"
    assert by_id["m8"]["dup_of"] == "m1" and by_id["m8"]["dup_kind"] == "near"
    assert by_id["m3"]["reply_to"] == "m0" and by_id["m3"]["response_s"] == 30.0
    assert [ent["type"] for ent in by_id["m1"]["ents"]] == ["PERSON", "ORG", "GPE"]


def test_a_stream_gives_the_rows_as_they_come(chat: Path, tmp_path: Path) -> None:
    pipeline = nlp.chat_pipeline(QUICK)
    with pipeline.pool(workers=2) as pool:
        pipeline.run(chat, tmp_path / "out.parquet", pool=pool)
        rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
        stream = pipeline.imap(chat, pool=pool)
        assert [next(stream)["id"], next(stream)["id"]] == ["m0", "m1"]
        stream.close()
        streamed = list(pipeline.imap(chat, pool=pool))
    for field in pipeline.columns:
        if field.type not in ("float32", "list<float32>"):  # these are rounded in the file
            assert [row[field.name] for row in streamed] == [row[field.name] for row in rows], field.name


def test_the_program_gives_messages_itself(tmp_path: Path) -> None:
    rows = list(
        nlp.chat_pipeline(["unicode"]).imap(
            [{"text": "Hi"}, {"text": "ﬁne", "id": 3}, {"text": 1}, 7], backend="serial"
        )
    )
    assert [(row["id"], row["text_norm"]) for row in rows] == [
        ("item:1", "Hi"),
        ("3", "fine"),
        ("item:3", None),
        ("item:4", None),
    ]
    assert rows[3]["error"] == "reading: a message is a dict with text, not int"


def test_the_columns_do_not_depend_on_the_messages(tmp_path: Path) -> None:
    """Types that follow values would differ from file to file, and from worker to worker."""
    schemas = []
    for number, text in enumerate(["Hello, my friend in Paris", "", 7]):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps({"text": text}) + "\n")
        nlp.chat_pipeline(QUICK[number:]).run(path, tmp_path / f"{number}.parquet", backend="serial")
        schemas.append(parquet.read_schema(tmp_path / f"{number}.parquet"))
    assert schemas[0] == schemas[1] == schemas[2]
    assert {
        "id",
        "text",
        "text_norm",
        "lang",
        "pii",
        "tokens",
        "lemmas",
        "ents",
        "sentiment",
        "intent",
        "dup_of",
        "error",
    } <= {*schemas[0].names}


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_poison_costs_one_row_each(tmp_path: Path, suffix: str) -> None:
    texts = [f"message {number}" for number in range(60)]
    texts[7], texts[20], texts[33] = "crash", "sleep", "raise"
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    output = tmp_path / f"out.{suffix}"
    result = nlp.chat_pipeline(["unicode", POISON, WORDS, "duplicates"]).run(path, output, workers=2, timeout=1)
    assert (result.rows, result.errors) == (60, 3)
    if suffix == "parquet":
        rows = parquet.read_table(output).to_pylist()
    else:
        rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["text"] for row in rows] == texts
    bad = {number: row["error"] for number, row in enumerate(rows) if row.get("error")}
    assert list(bad) == [7, 20, 33]
    assert bad[7] == "crash: the worker process was killed by SIGSEGV"
    assert bad[20] == "deadline: it took longer than 1 s"
    assert bad[33] == "poison: ValueError: as it was told" and rows[33]["words"] == ["raise"]
    assert all(row["length"] == len(row["text"]) for number, row in enumerate(rows) if number not in bad)


def test_steps_of_a_pipeline_give_the_same_rows_and_go_on(chat: Path, tmp_path: Path) -> None:
    stages: list[Any] = ["unicode", "lang", "pii", WORDS, "duplicates", "conversation", POISON]
    messages = list(nlp.ChatSource(chat))
    messages[30] = {**messages[30], "text": "crash"}
    pipeline = nlp.chat_pipeline(stages)
    rows = list(pipeline.imap(iter(messages), workers=2))
    steps = pipeline.steps()
    assert list(steps.imap(messages, workers=2)) == rows
    assert rows[30]["error"] == "crash: the worker process was killed by SIGSEGV"
    output = tmp_path / "first.jsonl"
    steps.filter(is_first).map(id_and_words).write(str(output)).run(nlp.ChatSource(chat), workers=2)
    written = [json.loads(line) for line in output.read_text().splitlines()]
    firsts = [row for row in pipeline.imap(chat, workers=2) if is_first(row)]
    assert written == [id_and_words(row) for row in firsts] and 0 < len(firsts) < len(messages)


def test_messages_without_ids_get_them_in_steps_too() -> None:
    pipeline = nlp.chat_pipeline(["unicode"])
    messages = [{"text": "Hi"}, {"text": "Ho", "id": "own"}, {"text": "Hi"}]
    assert [row["id"] for row in pipeline.steps().imap(messages, workers=1)] == ["item:1", "own", "item:3"]


def test_messages_of_the_program_are_read_in_steps_as_in_a_run() -> None:
    """Whatever else they have, and if they are none."""
    pipeline = nlp.chat_pipeline(["unicode"])
    messages: list[Any] = [
        {"content": "Hi", "file": "a.txt"},
        {"text": "Ho", "id": 7, "timestamp": "1970-01-01T00:00:10Z", "file": "b.txt", "line": 3},
        "no dict",
        # of a log, and of a data frame
        {"text": "Ha", "file": "a.py", "line": 3, "error": "a failure of that program"},
        {"text": "He", "id": math.nan, "reply_to": math.nan, "timestamp": datetime(1970, 1, 1, 0, 0, 20)},
    ]
    rows = list(pipeline.imap(messages, backend="serial"))
    assert [(row["id"], row["text"], row["timestamp"]) for row in rows] == [
        ("item:1", "Hi", None), ("7", "Ho", 10.0), ("item:3", None, None), ("item:4", "Ha", None),
        ("item:5", "He", 20.0),
    ]  # fmt: skip
    assert [row["error"] for row in rows if row["text"] is not None] == [None] * 4
    steps = list(pipeline.steps().imap(messages, backend="serial"))
    assert [{**row, "line": None} for row in steps] == [{**row, "line": None} for row in rows]


def test_personal_data_of_a_crashed_message_are_not_written(tmp_path: Path) -> None:
    pipeline = nlp.chat_pipeline(["unicode", "pii", CRASH], options={"pii": {"replace": True}})
    output = tmp_path / "out.jsonl"
    pipeline.run([{"text": "mail a@b.com"}], output, workers=1)
    assert "a@b.com" not in output.read_text()
    assert '"error":"crash: ' in output.read_text()


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
def test_personal_data_are_not_in_the_error_of_what_ends_its_task(tmp_path: Path, backend: Any) -> None:
    """Such a failure is told with the item as it was read."""
    (tmp_path / "chat.jsonl").write_text('{"text": "leave, a@b.com) raised"}\n')
    stages: list[Any] = ["unicode", "pii", LEAVING]
    pipeline = nlp.chat_pipeline(stages, options={"pii": {"replace": True}})
    pipeline.run(tmp_path / "chat.jsonl", tmp_path / "out.jsonl", backend=backend, workers=1)
    assert "a@b.com" not in (tmp_path / "out.jsonl").read_text()
    (row,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert row["error"] == "failed: GeneratorExit"


def test_what_cannot_work_is_said_before_it_begins(chat: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends with .parquet or .jsonl"):
        nlp.chat_pipeline(QUICK).run(chat, tmp_path / "out.txt")
    with pytest.raises(UsageError, match="is an input, and would be replaced"):
        nlp.chat_pipeline(QUICK).run(chat, chat)
    with pytest.raises(UsageError, match="no installed spaCy model"):
        nlp.chat_pipeline(["lemmas"], options={"lemmas": {"model": "nothing"}}).run(
            chat, tmp_path / "o.jsonl", workers=1
        )
    assert not (tmp_path / "o.jsonl").exists()


def not_there() -> None:
    raise NotSupported("this stage needs a library")


def broken() -> None:
    raise ValueError("the model is broken")


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
@pytest.mark.parametrize("way", ["run", "imap", "a pool"])
def test_what_is_wrong_with_a_stage_is_told_as_that(tmp_path: Path, way: str, backend: Any) -> None:
    """And not as an error of a preload function, of which the caller knows nothing."""

    def use(stages: list[Any], **options: Any) -> None:
        pipeline = nlp.chat_pipeline(stages, options=options)
        if way == "run":
            pipeline.run([{"text": "a"}], tmp_path / "o.jsonl", backend=backend, workers=1)
        elif way == "imap":
            list(pipeline.imap([{"text": "a"}], backend=backend, workers=1))
        else:
            with pipeline.pool(backend=backend, workers=1) as pool:
                list(pipeline.imap([{"text": "a"}], pool=pool))

    with pytest.raises(UsageError, match=r"\Astage 'unicode': form='NFD' must be one of NFKC, NFC, none") as found:
        use(["unicode"], unicode={"form": "NFD"})
    assert type(found.value) is UsageError
    own = {"each": dict, "gives": {"mine": "string"}}
    with pytest.raises(NotSupported, match=r"\Athis stage needs a library"):
        use([nlp.Stage("mine", load=not_there, **own)])  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="the model is broken"):
        use([nlp.Stage("mine", load=broken, **own)])  # type: ignore[arg-type]


@pytest.mark.parametrize("journal", [True, False])
def test_a_lost_message_that_a_worker_read_keeps_its_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: bool
) -> None:
    """Its names are those of the file: the program reads it where the worker cannot any more."""
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    path = tmp_path / "chat.csv"
    path.write_text('words,id,when\n"one, two",a,5\nfine,b,6\n')
    source = nlp.ChatSource(path, names={"text": "words", "timestamp": "when"})
    pipeline = nlp.chat_pipeline(["unicode", CRASH])
    output = tmp_path / "out.jsonl"
    assert pipeline.run(source, output, workers=1, journal=journal).errors == 2
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["id"], row["text"], row["timestamp"], row["line"]) for row in rows] == [
        ("a", "one, two", 5.0, 2),
        ("b", "fine", 6.0, 3),
    ]
    streamed = list(pipeline.imap(source, workers=1))
    assert [row["text"] for row in streamed] == ["one, two", "fine"] and all(row["error"] for row in streamed)


def test_any_file_that_has_changed_is_found_when_a_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the second of several, which is as long as it was."""
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    paths = [tmp_path / f"{name}.jsonl" for name in "ab"]
    for path in paths:
        path.write_text('{"text": "one"}\n{"text": "two"}\n')
    pipeline = nlp.chat_pipeline(["unicode"])
    output = tmp_path / "out.jsonl"
    pipeline.run([*map(str, paths)], output, workers=1, journal=True)
    paths[0].write_text('{"text": "one"}\n{"text": "' + str(output) + '"}\n')  # which names no input
    assert pipeline.run([*map(str, paths)], output, workers=1, journal=True).errors == 0
    assert pipeline.run([*map(str, paths)], output, workers=1, journal=Journal(resume=True)).resumed == 4
    paths[1].write_text('{"text": "one"}\n{"text": "six"}\n')
    with pytest.raises(RunChanged, match="the input has changed"):
        pipeline.run([*map(str, paths)], output, workers=1, journal=Journal(resume=True))


class EndsBehindFive(RunHooks):
    def guarded(self, items: Iterable[Any]) -> Iterator[Any]:
        yield from islice(items, 5)
        raise RuntimeError("ended")


@pytest.mark.parametrize("several", [False, True])
def test_a_pipe_is_read_once_when_a_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    """What it has given is gone: another reading would begin behind that, and lose as many messages without a word."""
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    lines = [f'{{"text": "message {number}"}}\n' for number in range(8)]
    first, pipe = tmp_path / "first.jsonl", tmp_path / "pipe.jsonl"
    count = 2 if several else 0
    first.write_text("".join(lines[:count]))
    os.mkfifo(pipe)
    paths = [str(first), str(pipe)] if several else [str(pipe)]
    output = tmp_path / "out.jsonl"

    def run(**options: Any) -> nlp.ChatResult:
        feeder = threading.Thread(target=pipe.write_text, args=("".join(lines[count:]),))
        feeder.start()
        try:
            return nlp.chat_pipeline(["unicode"]).run(paths, output, backend="serial", **options)
        finally:
            feeder.join()

    with pytest.raises(RuntimeError, match="ended"):
        run(journal=True, hooks=EndsBehindFive())
    assert run(journal=Journal(resume=True)).resumed == 5
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["text"] for row in rows] == [f"message {number}" for number in range(8)]
