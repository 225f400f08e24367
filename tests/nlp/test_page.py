"""The page of what is in a table of chat."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from allcores.cli.chat_run import _save_page
from allcores.cli.exits import CommandError, Exit
from allcores.nlp.page import as_html
from allcores.nlp.reading.formats import message_of
from allcores.nlp.summary import ChatSummary, summary_of

pytest.importorskip("jinja2")


def _row(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"m{number}", "file": "chat.jsonl", "line": number, "text": "a secret <b>text</b>", **fields}


def test_each_kind_has_its_bars_and_each_reason_its_first_rows() -> None:
    rows = [_row(number, lang="de" if number % 3 else "en", sentiment=0.5) for number in range(30)]
    rows += [_row(number, error="pii: ValueError: <script>bad</script>") for number in range(30, 60)]
    rows += [_row(number, text="x" * number, error="crash: killed") for number in (60, 61)]
    page = as_html(summary_of(rows), "features.parquet & more")
    assert "features.parquet &amp; more" in page and "<script" not in page
    assert re.search(
        r'de</th><td class="number">20</td><td class="track"><span class="bar" style="width: 100.00%">', page
    )
    assert re.search(
        r'en</th><td class="number">10</td><td class="track"><span class="bar" style="width: 50.00%">', page
    )
    assert re.search(r'50 to 99</th><td class="number">2</td>', page)
    assert "pii: ValueError: 30" in page and page.count("&lt;script&gt;bad") == 20
    assert "chat.jsonl:49" in page and "chat.jsonl:50" not in page
    assert "secret" not in page, "what people wrote is not shown"
    assert "Where the workers" not in page and "Intents" not in page


def test_stages_have_their_share_of_the_time() -> None:
    summary = ChatSummary()
    summary.add(_row(1))
    summary.add_seconds({"pii": 1.0, "lemmas": 3.0})
    page = as_html(summary, "a.jsonl")
    assert page.index("lemmas</th>") < page.index("pii</th>") and "width: 33.33%" in page


@pytest.mark.parametrize(("length", "name"), [(0, "0"), (1, "1 to 9"), (19, "10 to 19"), (10_000, "10,000 and more")])
def test_lengths_are_counted_in_groups(length: int, name: str) -> None:
    assert summary_of([_row(1, text="x" * length)]).lengths == {name: 1}
    assert summary_of([]).lengths == {}


def test_a_text_that_is_white_space_alone_is_empty() -> None:
    """As the stages see it: the text as it was read is not counted in its place."""
    summary = summary_of([{**_row(1, text=" \n "), "text_norm": ""}, {**_row(2, text=" a "), "text_norm": "a"}])
    assert (summary.empty, summary.characters, summary.longest, summary.lengths) == (1, 1, 1, {"0": 1, "1 to 9": 1})


def test_many_reasons_keep_few_rows() -> None:
    summary = summary_of(_row(number, error=f"reading: reason {number}") for number in range(1000))
    assert len(summary.samples) == 50 and summary.errors == 1000


def test_times_that_are_none_are_one_reason() -> None:
    """Whatever they say."""
    rows = [message_of({"text": "Hi", "timestamp": when}, 1) for when in ("soon", "later", "12:30 or so")]
    reasons = summary_of(rows).as_json()["errors_by_reason"]
    assert reasons == {"reading: timestamp is neither seconds nor a date like 2026-01-31": 3}


def test_what_is_not_listed_is_counted() -> None:
    """The sums come out, whatever the number of reasons, speakers or languages."""
    rows = [_row(n, lang=f"l{n % 15}", speaker=f"s{n % 12}", error=f"reading: reason {n % 13}") for n in range(390)]
    summary = summary_of([*rows, _row(390, lang="l0", speaker="s0")])
    facts = summary.as_json()
    for key, total in {"errors_by_reason": facts["errors"], "languages": 391, "speakers": 391}.items():
        assert len(facts[key]) == 10
        assert sum(facts[key].values()) + facts["not_listed"][key] == total
    assert set(facts["not_listed"]) == {"errors_by_reason", "languages", "speakers"}
    lines = summary.as_text().splitlines()
    assert "error in 90: other reasons (all of them are on the page: --page)" in lines
    assert any(line.startswith("languages: ") and line.endswith(", others 130") for line in lines)
    assert summary_of(rows[:5]).as_json()["not_listed"] == {}


def test_a_page_that_cannot_be_written_is_an_output_that_cannot(tmp_path: Path) -> None:
    """The disk is full at the end, say."""
    with pytest.raises(CommandError, match="cannot be written") as caught:
        _save_page(ChatSummary(), "out.parquet", str(tmp_path / "gone" / "page.html"))
    assert caught.value.exit == Exit.OUTPUT


def test_one_of_a_kind_is_not_several() -> None:
    text = summary_of([_row(1, text="a", conversation_id="x")]).as_text()
    assert text.startswith("1 row, 0 with an error; 1 character, 0 tokens\n1 conversation")
