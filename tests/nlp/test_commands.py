"""`allcores chat` at the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.installed import needed
from tests.process.warm import Interpreter

needed("spacy")
parquet = pytest.importorskip("pyarrow.parquet")

WORK = """
from allcores import nlp

def count(record):
    return {"letters": sum(map(str.isalpha, record["text_norm"]))}

letters = nlp.Stage("letters", each=count, gives={"letters": "int32"})
lang = nlp.Stage("lang", each=lambda record: {"lang": "xx"}, gives={"lang": "string"})
nothing = 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"id": f"m{number}", "text": f"Hello number {number}, write to a{number}@b.com"} for number in range(20)]
    rows[11]["text"] = rows[3]["text"]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "broken\n")
    (tmp_path / "work.py").write_text(WORK)
    return tmp_path


def test_a_row_for_each_line_and_a_summary(warm: Interpreter, folder: Path) -> None:
    done = warm.run("chat", "preprocess", "chat.jsonl", "-o", "out.parquet", "--workers", "2", "--json", folder=folder)
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert (summary["rows"], summary["errors"], summary["workers"]) == (21, 1, 2)
    assert summary["summary"]["pii"] == {"EMAIL": 20}
    took = summary["stage_seconds"]
    assert set(took) == set(summary["stages"]) - {"conversation"}, "which looks at messages in the program"
    assert took["lemmas"] > took["pii"] > 0
    assert summary["summary"]["errors_by_reason"] == {"reading: not JSON (Expecting value, column 1)": 1}
    rows = parquet.read_table(folder / "out.parquet").to_pylist()
    assert [row["line"] for row in rows] == list(range(1, 22))
    assert rows[11]["dup_of"] == "m3" and rows[0]["lemmas"][0] == "hello" and rows[0]["intent"]
    counted = warm.run("chat", "stats", "out.parquet", "--json", "--page", "page.html", folder=folder)
    assert json.loads(counted.out) == {"file": "out.parquet", **summary["summary"]}
    page = (folder / "page.html").read_text()
    assert "chat.jsonl:21" in page and "not JSON" in page and "EMAIL" in page
    assert "21 rows, 1 with an error" in warm.run("chat", "stats", "out.parquet", folder=folder).out


def test_a_page_replaces_neither_input_nor_output(warm: Interpreter, folder: Path) -> None:
    (folder / "out.jsonl").write_text("mine\n")
    (folder / "link.html").symlink_to("chat.jsonl")
    before = (folder / "chat.jsonl").read_bytes()
    for page, other in (("link.html", "chat.jsonl"), ("./out.jsonl", "out.jsonl")):
        done = warm.run("chat", "preprocess", "chat.js*", "-o", "out.jsonl", "--page", page, folder=folder)
        assert done.code == 2 and f"--page {page} would replace {other}" in done.err.replace(f"{folder}/", "")
        done = warm.run("chat", "stats", other, "--page", page, folder=folder)
        assert done.code == 2 and f"--page {page} would replace {other}" in done.err
    done = warm.run("chat", "compare", "chat.jsonl", "--what", "text", "--picture", "link.html", folder=folder)
    assert done.code == 2 and "--picture link.html would replace chat.jsonl" in done.err.replace(f"{folder}/", "")
    assert (folder / "chat.jsonl").read_bytes() == before and (folder / "out.jsonl").read_text() == "mine\n"
    done = warm.run("chat", "stats", "chat.jsonl", "--page", "gone/page.html", folder=folder)
    assert done.code == 2 and "gone" in done.err


@pytest.mark.parametrize("words", [["--config", "mine.html"], ["--stages", "unicode,work.py:letters"]])
def test_a_page_replaces_nothing_that_says_what_is_done(warm: Interpreter, folder: Path, words: list[str]) -> None:
    (folder / "mine.html").write_text('stages = ["unicode"]\n')
    page = "work.py" if "--stages" in words else "mine.html"
    before = (folder / page).read_bytes()
    done = warm.run("chat", "preprocess", "chat.jsonl", "-o", "o.jsonl", "--page", page, *words, folder=folder)
    assert done.code == 2 and f"{page} is the file of " in done.err and "would be overwritten" in done.err
    assert (folder / page).read_bytes() == before and not (folder / "o.jsonl").exists()


def test_stages_are_chosen_replaced_added_and_set(warm: Interpreter, folder: Path) -> None:
    (folder / "chat.toml").write_text(
        'stages = ["unicode", "work.py:lang", "pii", "work.py:letters"]\n[pii]\nreplace = true\n'
    )
    done = warm.run("chat", "preprocess", "chat.jsonl", "-o", "a.jsonl", "--config", "chat.toml", folder=folder)
    assert done.code == 0, done.err
    assert "21 rows" in done.err and "time in workers: " in done.err
    row = json.loads((folder / "a.jsonl").read_text().splitlines()[0])
    assert row["text"] == "Hello number 0, write to [EMAIL]" and row["lang"] == "xx" and row["letters"] == 23
    done = warm.run(
        "chat", "preprocess", "chat.jsonl", "-o", "b.jsonl", "--stages", "unicode,pii", "--config", "chat.toml",
        "--set", "pii.replace=false", "--set", 'pii.kinds=["URL"]', "-q", folder=folder,
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert "a0@b.com" in (folder / "b.jsonl").read_text()
    assert warm.run("chat", "stats", "b.jsonl", folder=folder).out.startswith("21 rows, 1 with an error")


def test_options_of_stages_that_do_not_run_are_told_unless_stages_were_left_out(
    warm: Interpreter, folder: Path
) -> None:
    """Those of a file are for all of its stages, and --stages chooses among them."""
    (folder / "chat.toml").write_text('stages = ["unicode", "pii"]\n[pii]\nreplace = true\n[lang]\nthreshold = 0.5\n')
    said = "note: the options of the stage '{}' do nothing, for it is not among the stages: {}\n"
    for words, told in (
        (["--stages", "unicode", "--set", "pii.replace=true"], said.format("pii", "unicode")),
        (["--config", "chat.toml"], said.format("lang", "unicode, pii")),
        (["--config", "chat.toml", "--stages", "unicode"], ""),
        (["--config", "chat.toml", "--stages", "unicode", "--set", "pii.kinds=URL"], said.format("pii", "unicode")),
    ):
        done = warm.run("chat", "preprocess", "chat.jsonl", "-o", "c.jsonl", "-q", *words, folder=folder)
        assert (done.code, done.err) == (0, told)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat.jsonl", "-o", "out.txt"], "the output of a chat pipeline ends with .parquet or .jsonl"),
        (["chat.jsonl", "-o", "chat.jsonl"], "is an input"),
        (["gone.jsonl", "-o", "o.jsonl"], "cannot read gone.jsonl"),
        (["chat.jsonl", "-o", "o.jsonl", "--stages", "lemma"], "there is no stage 'lemma'"),
        (["chat.jsonl", "-o", "o.jsonl", "--stages", "work.py:nothing"], "work.py:nothing is no stage"),
        (["chat.jsonl", "-o", "o.jsonl", "--stages", "work.py:absent"], "work.py has no function 'absent'"),
        (["chat.jsonl", "-o", "o.jsonl", "--set", "pii=1"], "'pii=1' sets no option"),
        (
            ["chat.jsonl", "-o", "o.jsonl", "--set", "pii.replace=False"],
            "stage 'pii': the option replace is 'False', and must be true or false",
        ),
        (["chat.jsonl", "-o", "o.jsonl", "--set", "lang.threshold=x"], "threshold is 'x', and must be a number"),
        (["chat.jsonl", "-o", "o.jsonl", "--set", "pii.kinds=5"], "the option kinds is 5, and must be a list"),
        (["chat.jsonl", "-o", "o.jsonl", "--column", "words=x"], "'words' is no field that is read"),
        (["chat.jsonl", "-o", "o.jsonl", "--config", "chat.jsonl"], "chat.jsonl is no TOML"),
        (["chat.jsonl", "-o", "o.jsonl", "--resume", "--no-journal"], "--resume goes on with a journal"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    warm: Interpreter, folder: Path, arguments: list[str], message: str
) -> None:
    done = warm.run("chat", "preprocess", *arguments, folder=folder)
    assert done.code == 2
    assert message in done.err and "Traceback" not in done.err
    assert not (folder / "o.jsonl").exists()


def test_validate_names_the_fault_and_ends_with_one(warm: Interpreter, folder: Path) -> None:
    done = warm.run("chat", "validate", "chat.jsonl", folder=folder)
    assert done.code == 1
    assert "chat.jsonl:21: error [readable] not JSON" in done.out and done.out.endswith("1 error, 0 warnings\n")
    found = json.loads(warm.run("chat", "validate", "chat.jsonl", "--json", folder=folder).out)
    assert found["errors"] == 1 and found["findings"][0]["line"] == 21
    (folder / "good.jsonl").write_text('{"text": "Hi"}\n')
    assert warm.run("chat", "validate", "good.jsonl", folder=folder).code == 0


def test_stages_are_listed_with_their_options(warm: Interpreter, folder: Path) -> None:
    out = warm.run("chat", "stages", folder=folder).out
    assert "lemmas (in workers): text_norm -> tokens: list<string>" in out
    assert "    replace = False" in out
