"""Personal data by Presidio: what it adds to the patterns, in which characters, and what it may not do."""

from __future__ import annotations

from typing import Any

import pytest
from tests.installed import needed

from allcores.errors import NotSupported, UsageError
from allcores.nlp.catalogue import STAGES, chosen
from allcores.nlp.records import new_record
from allcores.nlp.rows import RowFunction, load_stages
from allcores.nlp.stages import presidio
from allcores.nlp.stages.annotation import DEFAULT_MODEL
from allcores.nlp.stages.pii import restore, scrub
from allcores.nlp.stages.pii_patterns import KINDS
from allcores.nlp.stages.presidio import PresidioScrubber, load_presidio

needed("presidio_analyzer")

ALL = tuple(KINDS)
KEY = b"0123456789abcdef0123456789abcdef"
TEXT = "My name is Anna Smith, I live in Berlin, and my mail is anna.smith@example.com"


def loaded(*entities: str, key: bytes | None = None, replace: bool = False) -> PresidioScrubber:
    names = entities or ("PERSON", "LOCATION")
    return PresidioScrubber(names, ALL, DEFAULT_MODEL, "en", 0.5, key, replace, 1000)


@pytest.fixture(scope="module")
def scrubber() -> PresidioScrubber:
    return loaded()


def test_names_and_places_beside_what_the_patterns_find(scrubber: PresidioScrubber) -> None:
    found = scrub(scrubber, {"text_norm": TEXT, "lang": "en"})
    named = [(span["type"], TEXT[span["start"] : span["end"]]) for span in found["pii"]]
    assert named == [("PERSON", "Anna Smith"), ("LOCATION", "Berlin"), ("EMAIL", "anna.smith@example.com")]
    assert found["text_redacted"] == "My name is [PERSON], I live in [LOCATION], and my mail is [EMAIL]"


def test_a_text_in_another_language_has_patterns_only(scrubber: PresidioScrubber) -> None:
    found = scrub(scrubber, {"text_norm": TEXT, "lang": "de"})
    assert [span["type"] for span in found["pii"]] == ["EMAIL"]


def test_a_long_text_goes_in_parts_and_places_are_those_of_the_whole(scrubber: PresidioScrubber) -> None:
    text = "nothing to see here. " * 100 + TEXT
    found = scrub(scrubber, {"text_norm": text, "lang": "en"})["pii"]
    assert [text[span["start"] : span["end"]] for span in found][-3:] == [
        "Anna Smith", "Berlin", "anna.smith@example.com",
    ]  # fmt: skip


def test_with_a_key_a_name_can_be_turned_back() -> None:
    made = loaded("PERSON", "US_DRIVER_LICENSE", key=KEY)
    hidden = scrub(made, {"text_norm": TEXT})["text_redacted"]
    assert "Anna" not in hidden
    assert restore(hidden, key=KEY) == TEXT
    assert restore(made.placeholder("US_DRIVER_LICENSE", "H12234567"), key=KEY) == "H12234567"


def test_in_a_row_no_column_has_what_was_replaced() -> None:
    stages = chosen(["unicode", "presidio"], {"presidio": {"replace": True, "entities": ["PERSON"]}})
    row = RowFunction(stages)(load_stages(stages), [new_record("f", 1, text=TEXT)])[0]
    assert row["error"] is None
    assert "Anna" not in repr(row)
    assert row["text"] == "My name is [PERSON], I live in Berlin, and my mail is [EMAIL]"


@pytest.mark.quick
def test_what_it_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = dict(STAGES["presidio"].options)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"entities": ["EMAIL_ADDRESS"]}, "EMAIL_ADDRESS is found by the patterns: leave EMAIL in kinds"),
        ({"model": "en_core_web_none"}, "'en_core_web_none' is no installed spaCy model, and no folder with one"),
        ({"score": 2.0}, "score=2.0 must lie between 0 and 1"),
        ({"max_chars": 10}, "max_chars=10 must be a whole number, 1,000 or more"),
        ({"kinds": ["FACE"]}, "knows no 'FACE'"),
        ({"entities": [], "kinds": []}, "there are no entities and no kinds, so it would find nothing"),
    ]
    for options, message in wrong:
        with pytest.raises(UsageError, match=message):
            load_presidio(**(defaults | options))
    with pytest.raises(UsageError, match="'presidio' is there in the place of 'pii': leave one of them out"):
        chosen(["unicode", "pii", "presidio"], {})
    monkeypatch.setattr(presidio, "package_folder", lambda name: None)
    with pytest.raises(NotSupported, match=r"pip install 'allcores\[nlp\]'"):
        load_presidio(**STAGES["presidio"].options)


def test_a_type_that_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match=r"there is no type 'SHOE_SIZE' for 'en': it has AGE, .*PERSON"):
        loaded("SHOE_SIZE")
