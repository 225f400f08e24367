"""Libraries' own ways to use all cores: where they are found, and what is made of their figures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from allcores.advisor.measuring import switches
from allcores.advisor.model.code import Names, code_for
from allcores.advisor.model.decision import WORTH, Prediction, Setting
from allcores.advisor.model.intervals import Interval
from allcores.advisor.model.verdict import Conclusion, LibraryWay, Verdict, beside_library


class Language:
    """Looks as spaCy's does."""

    def __call__(self, text: str) -> int:
        return len(text)

    def pipe(self, texts: Iterable[str], n_process: int) -> Iterable[int]:
        assert n_process == 2
        return map(self, texts)


class Tokenizer:
    """Looks as that of tokenizers does."""

    def encode(self, text: str) -> list[int]:
        return [len(text)]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]


Language.__module__ = "spacy.language"
Tokenizer.__module__ = "tokenizers"
nlp, tokenizer = Language(), Tokenizer()


def lemmas(text: str) -> int:
    return nlp(text) + 1


def encode(one: Tokenizer, text: str) -> list[int]:
    return one.encode(text)


def closed() -> Callable[[str], int]:
    mine = Language()
    return lambda text: mine(text)


@pytest.mark.parametrize(
    ("fn", "name", "whole", "code"),
    [
        (nlp, "spaCy's nlp.pipe", True, "list({function}.pipe(items, n_process=2))"),
        (lemmas, "spaCy's nlp.pipe", False, "list(nlp.pipe(items, n_process=2))"),
        (closed(), "spaCy's nlp.pipe", False, "list(nlp.pipe(items, n_process=2))"),
        (tokenizer.encode, "tokenizers' encode_batch", True, "{function}.__self__.encode_batch(items)"),
        (
            functools.partial(encode, tokenizer),
            "tokenizers' encode_batch",
            False,
            "tokenizer.encode_batch(items)",
        ),
    ],
    ids=["object", "global", "closure", "method", "argument"],
)
def test_a_switch_is_found_where_the_function_has_it(fn: Any, name: str, whole: bool, code: str) -> None:
    found = switches.find(fn, ["a", "bc"], 2)
    assert found is not None
    assert (found.name, found.whole, found.code) == (name, whole, code)
    start_s, pairs = switches.pairs(fn, ["a", "bc"], 2, 1.0, 60.0)
    assert start_s >= 0
    assert len(pairs) == switches.PAIRS


def test_odd_functions_have_none() -> None:
    def circular(text: str) -> str:
        return text

    circular.__wrapped__ = circular  # type: ignore[attr-defined]
    odd = type("Odd", (), {"__module__": 5, "__call__": lambda self, text: text})()
    assert switches.find(circular, ["a"], 2) is None
    assert switches.find(odd, ["a"], 2) is None


def test_without_an_object_texts_or_cores_there_is_none() -> None:
    assert switches.find(len, ["a"], 2) is None
    assert switches.find(abs, ["a"], 2) is None
    assert switches.find(lemmas, [1, 2], 2) is None
    assert switches.find(lemmas, [], 2) is None
    assert switches.find(lemmas, ["a"], 1) is None


WAY = LibraryWay("the library's", "f.all(items)", Interval(1.8, 1.7, 1.9), whole=True, cores=2)
LOOP = Prediction(Setting("serial"), Interval(1.0, 1.0, 1.0), 10.0, "one core")
WORKERS = Prediction(Setting("processes", 2, 8), Interval(1.6, 1.5, 1.7), 6.0, "the cores")
SERIAL = Conclusion(Verdict.SERIAL, LOOP, Interval(1.0, 1.0, 1.0), ())
PARALLEL = Conclusion(Verdict.PARALLEL, WORKERS, Interval(1.6, 1.5, 1.7), ())
UNRELIABLE = Conclusion(Verdict.UNRELIABLE, WORKERS, None, ("busy",))


@pytest.mark.parametrize(
    ("before", "way", "recommended"),
    [
        (SERIAL, WAY, True),
        (PARALLEL, WAY, True),
        (PARALLEL, replace(WAY, measured=Interval(1.5, 1.4, 1.6)), False),
        (SERIAL, replace(WAY, measured=Interval(1.1, 1.05, 1.2)), False),
        (SERIAL, replace(WAY, measured=Interval(1.8, 0.9, 2.5)), False),
        (SERIAL, replace(WAY, whole=False), False),
        (UNRELIABLE, WAY, False),
    ],
)
def test_it_is_recommended_where_it_stands_in_and_is_proven_better(
    before: Conclusion, way: LibraryWay, recommended: bool
) -> None:
    found = beside_library(before, way, 10.0)
    assert found.reasons[-1].endswith("f.all(items)")
    assert found.reasons[:-1] == before.reasons
    if not recommended:
        assert replace(found, reasons=()) == replace(before, reasons=())
        return
    assert found.verdict is Verdict.PARALLEL
    assert found.prediction.setting == Setting("library", 2)
    assert found.measured == way.measured
    assert found.prediction.seconds == pytest.approx(10.0 / 1.8)
    assert way.measured.speedup >= WORTH
    code = code_for(found.prediction.setting, Names("f", ("from work import f",)), library=way.code)
    assert code.splitlines() == ["from work import f", "", "results = f.all(items)"]
