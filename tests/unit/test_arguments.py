"""pool/arguments.py: what else there is to say of words that are no options; the two files of types."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import allcores
from allcores.pool import arguments, method_types
from allcores.pool.input_reader import length_of
from allcores.system import option_words

FOLDER = Path(method_types.__file__).parent


@pytest.mark.parametrize("word", sorted(option_words.OTHER_WORDS))
def test_no_word_of_others_is_an_option_here(word: str) -> None:
    """It would say that there is none."""
    assert word not in arguments.options_of(allcores.Pool.map)
    assert word not in arguments.options_of(allcores.Pool)


def test_inputs_of_which_one_has_no_length() -> None:
    assert length_of(arguments.Zip(([1, 2, 3], "ab"))) == 2
    assert length_of(arguments.Zip(([1, 2, 3], iter("ab")))) is None


def test_types_of_the_module_are_those_of_the_methods() -> None:
    """But for the options, and for what only methods have."""
    own = (FOLDER / "method_types.py").read_text()
    for gone in (r"class SubmitMethod.*?\n\n\n", r"def submit_method.*?\n\n\n"):
        own = re.sub(gone, "", own, count=1, flags=re.DOTALL)
    own = re.sub(r"\b((?:Async)?MapOptions|OutcomeOptions|RunOptions)\b", r"Shared\1", own)
    own = re.sub(r"\b(\w+)Method\b", r"Shared\1", own)
    own = re.sub(r"\b([a-z]+)_method\b", r"shared_\1", own)
    shared = (FOLDER / "module_types.py").read_text()
    shared, count = re.subn(r"workers: int \| None = \.\.\.", "", shared)
    assert count == own.count("*more: P.args")
    assert words(own) == words(shared)


def words(text: str) -> list[str]:
    """From the first class on; commas at the end of lines are the formatter's affair."""
    return re.findall(r"\w+|[^\w\s,]", text[text.index("class ") :])
