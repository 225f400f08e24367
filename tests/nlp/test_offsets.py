"""Places in text_norm lead back to the text that was read."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores import nlp
from allcores.errors import UsageError
from allcores.nlp.catalogue import chosen
from allcores.nlp.offsets import Origins, changes_between
from allcores.nlp.records import new_record, well_formed
from allcores.nlp.rows import RowFunction, load_stages
from allcores.nlp.stages.unicode_text import Normaliser

pytest.importorskip("ftfy")
pytestmark = pytest.mark.quick

NORMALISER = Normaliser("NFKC", True)
PLAIN = Normaliser("NFKC", False)


def row_of(text: str, *names: str, **options: dict[str, Any]) -> dict[str, Any]:
    stages = chosen(["unicode", *names], options)
    return RowFunction(stages)(load_stages(stages), [new_record("f", 1, text=text)])[0]


def normalised(text: str, normaliser: Normaliser = NORMALISER) -> dict[str, Any]:
    result, text_map = normaliser.with_map(text)
    assert result == normaliser(text)
    return {"text": text, "text_norm": result, "text_map": text_map}


@pytest.mark.parametrize(
    ("text", "part", "raw"),
    [
        ("plain words", "words", "words"),
        (" \t two   spaces \r\n\r\n  and lines", "spaces", "spaces"),
        (" \t two   spaces \r\n\r\n  and lines", "two spaces", "two   spaces"),
        ("one\r\ntwo\r\nthree", "two", "two"),  # line ends of two characters
        ("one \r\n two", "\n", " \r\n "),
        ("say cafe\u0301 now", "café", "cafe\u0301"),  # a combining mark
        ("say cafe\u0301 now", "now", "now"),
        ("e\u0301\u0323x", "x", "x"),  # two marks that change places
        ("\u1112\u1161\u11ab글", "한", "\u1112\u1161\u11ab"),  # Hangul in parts
        ("ｶﾞﾝ now", "ガ", "ｶﾞ"),  # half width, with a voiced mark of its own
        ("ｶﾞﾝ now", "now", "now"),
        ("ﬁne oﬃce", "office", "oﬃce"),
        ("ﬁne oﬃce", "i", "ﬁ"),  # a half of a ligature is all of it
        ("½ cup", "cup", "cup"),
        ("½ cup", "⁄", "½"),
        ("a zero\u200bwidth\ufeff b", "zerowidth", "zero\u200bwidth"),
        ("a zero\u200bwidth\ufeff b", "b", "b"),
        ("👩\u200d👩\u200d👧 ok", "ok", "ok"),
        ("👩\u200d👩\u200d👧 ok", "👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("\u202bשלום\u202c עולם", "עולם", "עולם"),
        ("“curly” ‘quotes’ here", '"curly"', "“curly”"),
        ("schÃ¶n und gut", "schön", "schÃ¶n"),  # mojibake
        ("schÃ¶n und gut", "gut", "gut"),
        ("thatâ€™s it", "it", "it"),
        ("a &lt; b &quot;c&quot;", '"c"', "&quot;c&quot;"),
        ("Tom &amp; me", "me", "me"),
        ("bell\x07 and nul\x00 gone", "gone", "gone"),
        ("\x1b[36;44mblue\x1b[0m now", "now", "now"),
        ("half \ud83d pair", "pair", "pair"),
        ("क्षि now", "now", "now"),
    ],
)
def test_parts_lead_back(text: str, part: str, raw: str) -> None:
    row = normalised(text)
    start = row["text_norm"].index(part)
    begin, end = nlp.raw_range(row, start, start + len(part))
    assert row["text"][begin:end] == raw


def test_what_is_not_changed_has_no_map() -> None:
    for text in ("", "plain", "café 👩\u200d👧 שלום", "two\nlines"):
        assert normalised(text)["text_map"] is None
    assert normalised("“curly”")["text_map"] is None, "as long as before, character by character"
    assert normalised("a\u200bb")["text_map"] == [1, 1, 1, 2]
    assert normalised("  ")["text_map"] == [0, 0, 0, 2]
    assert nlp.raw_range(normalised("  "), 0, 0) == (2, 2)


def test_personal_data_and_entities_lead_back_to_what_people_wrote() -> None:
    pytest.importorskip("spacy")
    text = "\ufeffMail:\r\n\r\n  bob\u200b@example.com,  or call ０３０ １２３４５６７, says Zoë\u0308 “Bob” in Berlin"
    row = row_of(text, "pii", "tokens")
    raw = nlp.raw_spans(row, "pii")
    assert [(span["type"], text[span["start"] : span["end"]]) for span in raw] == [
        ("EMAIL", "bob\u200b@example.com"), ("PHONE", "０３０ １２３４５６７"),
    ]  # fmt: skip
    assert [row["text_norm"][span["start"] : span["end"]] for span in row["pii"]] == ["bob@example.com", "030 1234567"]
    sentences = [text[each["start"] : each["end"]] for each in nlp.raw_spans(row, "sentences")]
    assert sentences[-1].endswith("in Berlin")
    starts = {text[slice(*nlp.raw_range(row, start, start + len(token)))] for start, token in zip(
        row["token_starts"], row["tokens"], strict=True
    )}  # fmt: skip
    assert "Berlin" in starts


def test_data_that_were_replaced_lead_nowhere() -> None:
    row = row_of("Mail:\r\n\r\n a@b.com  now", "pii", pii={"replace": True})
    assert row["text"] == row["text_norm"] == "Mail:\n[EMAIL] now" and row["text_map"] is None
    (span,) = nlp.raw_spans(row, "pii")
    assert row["text"][span["start"] : span["end"]] == "[EMAIL]"


def test_a_range_outside_is_refused() -> None:
    row = normalised("  abc")
    for start, end in ((0, 4), (-1, 2), (2, 1)):
        with pytest.raises(UsageError, match=rf"\[{start}:{end}\] is no part of text_norm, which has 3 characters"):
            nlp.raw_range(row, start, end)


ODD = st.text(
    st.sampled_from(
        "ab \t\r\n'\u201c\u0301\u0323\u00e9\u200b\ufeff\u1112\u1161\u11ab\uff76\uff9e\ufb01\u00bd\u00a8\u0e33\u0345"
        "\u09c7\u09be\U0001f469\u200d&;<Ã¶â€™\x07"
    ),
    max_size=24,
)


@given(ODD | st.text(max_size=24), st.sampled_from([NORMALISER, PLAIN]))
def test_any_text_leads_back(text: str, normaliser: Normaliser) -> None:
    """Ranges follow one another, lie in the text, and are themselves where nothing was changed."""
    text = well_formed(text)
    row = normalised(text, normaliser)
    result = row["text_norm"]
    ranges = [nlp.raw_range(row, place, place + 1) for place in range(len(result))]
    for (start, end), sign in zip(ranges, result, strict=True):
        assert 0 <= start <= end <= len(text)
        if end - start == 1 and text[start] in "ab":
            assert text[start] == sign
    assert ranges == sorted(ranges)
    for one, two in itertools.pairwise(ranges):
        assert one == two or one[1] <= two[0], "they overlap only where they are one block"
    if result:
        assert nlp.raw_range(row, 0, len(result)) == (ranges[0][0], ranges[-1][1])


@given(ODD, ODD)
def test_changes_make_one_text_of_another(before: str, after: str) -> None:
    origins = Origins(before)
    changes = list(changes_between(before, after))
    assert all(start <= end for start, end, _ in changes)
    origins.follow(after)
    assert origins.text == after


def test_a_long_text_takes_a_time_that_grows_with_it() -> None:
    """A search through all pairs of places would take hours."""
    signs = random.Random(7)
    text = "".join(signs.choice(["word ", "  ", "e\u0301", "“q” ", "&amp; ", "\r\n"]) for _ in range(20_000))
    row = normalised(text)
    assert row["text_map"]
    at = row["text_norm"].rindex("word")
    begin, end = nlp.raw_range(row, at, at + 4)
    assert text[begin:end] == "word"


def test_a_long_run_of_spaces_takes_a_time_that_grows_with_it() -> None:
    """100,000 took half a minute: a line end was looked for from each of them."""
    begun = time.process_time()
    assert normalised("a" + " " * 100_000 + "b")["text_norm"] == "a b"
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a \t b", "a b"),
        ("a\tb", "a b"),
        ("a \n \n b", "a\nb"),
        ("a\u2028b", "a\nb"),
        ("a\x1fb", "a b"),
        (" \n a \n", "a"),
    ],
)
def test_white_space_becomes_one_sign(text: str, result: str) -> None:
    assert normalised(text, PLAIN)["text_norm"] == result


#: each letter of ASCII, more often those with a meaning for HTML or a terminal
_ASCII = st.text(st.one_of(st.characters(max_codepoint=127), st.sampled_from("&;#<>[m\x1b\r\n\t \f")), max_size=60)


@given(st.one_of(_ASCII, st.text(max_size=20)))
def test_a_text_that_is_not_given_to_ftfy_stays_as_ftfy_leaves_it(text: str) -> None:
    """As it takes its time for each line, and most messages have nothing to repair."""
    assert NORMALISER._steps(text)[1] == NORMALISER.ftfy.fix_text(well_formed(text), NORMALISER.config)


def test_ftfy_is_asked_where_there_is_something_to_repair_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def noted(text: str, config: object) -> str:
        asked.append(text)
        return text

    monkeypatch.setattr(NORMALISER.ftfy, "fix_text", noted)
    plain = "".join(map(chr, range(32, 127))).replace("&", "") + "\t\n\f" * 1_000
    for text in (plain, "a&amp;b", "caf\u00e9", "a\rb", "\x1b[1mbold", "\x7f", plain + "\u2019"):
        NORMALISER._steps(text)
    assert asked == ["a&amp;b", "caf\u00e9", "a\rb", "\x1b[1mbold", "\x7f", plain + "\u2019"]
