"""Long runs without white space: in pieces, and as if there were none."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.installed import needed

from allcores.nlp.catalogue import chosen
from allcores.nlp.long_runs import MOST_AT_ONCE, PieceTokenizer, cuts
from allcores.nlp.records import new_record
from allcores.nlp.rows import RowFunction, load_stages

needed("spacy")
RUNS = ["(" * 3_333, "http://" * 500, "中" * 2_500, "a" * (MOST_AT_ONCE + 1), "(a)[b]!?" * 400]


def row_of(text: str, *stages: str) -> dict[str, Any]:
    taken = chosen(["unicode", *stages], {})
    return RowFunction(taken)(load_stages(taken), [new_record("f", 1, text=text)])[0]


@pytest.mark.parametrize("text", [*RUNS, f"one {RUNS[0]} two. {RUNS[1]}\n{RUNS[2]} gonna"])
@pytest.mark.parametrize("stage", ["tokens", "lemmas"])
def test_no_tokenizer_of_spacy_gets_a_long_run(stage: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes signs off one at a time, and looks at all the rest each time: time grows with the square."""
    most: list[int] = []
    call = PieceTokenizer.__call__

    def noted(self: PieceTokenizer, given: str) -> Any:
        inner = self._tokenizer

        def counted(part: str) -> Any:
            most.append(max(map(len, part.split()), default=0))
            return inner(part)

        counted.vocab = inner.vocab  # type: ignore[attr-defined]
        return call(PieceTokenizer(counted, self._document), given)

    monkeypatch.setattr(PieceTokenizer, "__call__", noted)
    row = row_of(text, stage)
    assert row["error"] is None and 0 < max(most) <= MOST_AT_ONCE
    for token, start in zip(row["tokens"], row["token_starts"], strict=True):
        assert row["text_norm"][start : start + len(token)] == token
    assert "".join(row["tokens"]) == "".join(row["text_norm"].split())


def test_sentences_do_not_end_where_a_run_is_cut() -> None:
    text = "This is it: " + "(" * 3_000 + " and this."
    assert row_of(text, "tokens")["sentences"] == [{"start": 0, "end": len(text)}]


@given(st.text("ab. \n中(", max_size=80).map(lambda text: text * 60))
def test_runs_are_cut_behind_signs_where_there_are_some(text: str) -> None:
    places = [0, *cuts(text), len(text)]
    assert places == sorted(places)
    for start, end in pairwise(places):
        assert max(map(len, text[start:end].split()), default=0) <= MOST_AT_ONCE
    for place in places[1:-1]:
        within = text[place - MOST_AT_ONCE // 2 : place]
        assert not text[place - 1].isalnum() or within.isalnum()
