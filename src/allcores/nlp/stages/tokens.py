"""Stage `tokens`: sentences and words, by spaCy's rules, without a model.

    takes   text_norm      string
    gives   tokens         list<string>
            token_starts   list<int32>    where each begins
            sentences      ranges         {start, end}

The rules are those of the language that the stage `lang` found, where spaCy has them without further libraries; else
rules that fit most scripts. Those of a language that is not among `languages` are made in each worker that meets it: a
fraction of a second, but for French, where it takes three. A run of more than 1,000 characters without white space is
taken in pieces, see `long_runs`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from allcores.errors import UsageError
from allcores.nlp.libraries import kept_out, library
from allcores.nlp.long_runs import use_pieces
from allcores.nlp.records import Field, Record
from allcores.nlp.stage import Stage, listed
from allcores.nlp.stages.language import name_in_spacy

#: languages whose rules need no other library; for others those of "xx" are taken
LANGUAGES = frozenset(
    (
        "af", "ar", "az", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr", "ga",
        "gu", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "kn", "lb", "lt", "lv", "mk", "ml", "mr", "nb", "ne",
        "nl", "pl", "pt", "ro", "sa", "si", "sk", "sl", "sq", "sr", "sv", "ta", "te", "tl", "tr", "tt", "uk", "ur",
        "zh",
    )
)  # fmt: skip
ANY = "xx"
#: how sure the stage `lang` has to be; rules of a language take a second to make, and guesses would make many
SURE = 0.6
#: words that rules keep, a few hundred bytes each
MOST_WORDS = 100_000


class Splitter:
    """What the stage loads: rules of languages, each when it is first met."""

    def __init__(self, default: str, languages: str | Sequence[str] = ()) -> None:
        with kept_out("torch"):
            self.spacy: Any = library("spacy", extra="nlp", use="splitting text into words")
        self.default = name_in_spacy(default)
        self.rules: dict[str, Any] = {}
        #: rules are used by one thread at a time
        self.lock = threading.Lock()
        try:
            self.rules_of(None)
        except Exception as error:  # of the library: what it is, or needs besides, is said by errors of any type
            raise UsageError(
                f"stage 'tokens': there are no rules for default={default!r}: give a code like en, or xx for any"
                f" language ({error})"
            ) from None
        for name in checked(languages):
            self.rules_of(name)

    def rules_of(self, lang: str | None) -> Any:
        """The rules for a language."""
        lang = None if lang is None else name_in_spacy(lang)
        name = lang if lang in LANGUAGES else (self.default if lang in (None, "unknown") else ANY)
        if name not in self.rules:
            with kept_out("torch"):  # as for a model, see annotation
                rules = self.spacy.blank(name)
            use_pieces(rules, self.spacy)
            rules.add_pipe("sentencizer")
            rules.max_length = 1 << 30  # there is no model, so length costs nothing but time
            self.rules[name] = rules
        return self.rules[name]

    def forget_words(self) -> None:
        """Let go of rules that know too many words: they keep each that they have met.

        A memory zone would do the same, and make all words anew for each batch, which takes three times as long.
        """
        for name in [name for name, rules in self.rules.items() if len(rules.vocab) > MOST_WORDS]:
            del self.rules[name]


def checked(languages: str | Sequence[str]) -> Sequence[str]:
    """Languages whose rules are to be made at once. Raises UsageError for one that there is not."""
    names: Sequence[str] = listed(languages)
    for name in names:
        if name_in_spacy(name) not in LANGUAGES:
            raise UsageError(f"tokens.languages: {name!r} is none whose rules spaCy has; give codes: en, fr.")
    return names


def split(splitter: Splitter, records: Sequence[Record]) -> list[dict[str, Any]]:
    """See the module."""
    with splitter.lock:
        found = [_split(splitter.rules_of(_language_of(record)), record["text_norm"]) for record in records]
        splitter.forget_words()
    return found


def _language_of(record: Record) -> str | None:
    score = record.get("lang_score")
    return None if score is not None and score < SURE else record.get("lang")


def _split(rules: Any, text: str) -> dict[str, Any]:
    return taken(rules(text))


def taken(doc: Any) -> dict[str, Any]:
    """What a document of spaCy has, as plain values."""
    words = [token for token in doc if not token.is_space]
    return {
        "tokens": [token.text for token in words],
        "token_starts": [token.idx for token in words],
        "sentences": [{"start": part.start_char, "end": part.end_char} for part in doc.sents if part.text.strip()],
    }


TOKENS = Stage(
    "tokens",
    batch=split,
    gives=(
        Field("tokens", "list<string>", "words and punctuation, without white space"),
        Field("token_starts", "list<int32>", "where each token begins"),
        Field("sentences", "ranges", "start and end of each sentence"),
    ),
    load=Splitter,
    options={"default": "en", "languages": ()},
)
