"""Stage `sentiment`: how friendly a message is, by VADER's lexicon and rules for English.

    takes   text_norm   string
    gives   sentiment   float32   -1 (hostile) to 1 (friendly), the compound score; None for other languages

Where the stage `lang` ran before, only its `languages` are judged; an unknown language counts as English.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from allcores.nlp.libraries import library
from allcores.nlp.records import Field, Record
from allcores.nlp.stage import Stage, check_some

#: characters that are judged; the rules look at each word's neighbours in lists, which a megabyte would make slow
LOOKED_AT = 20_000


class SentimentModel:
    """What the stage loads."""

    def __init__(self, languages: Sequence[str]) -> None:
        check_some("sentiment", "languages", languages)
        vader = library("vaderSentiment.vaderSentiment", extra="nlp", use="sentiment")
        self.analyzer: Any = vader.SentimentIntensityAnalyzer()
        self.languages = frozenset(languages)


def judge(model: SentimentModel, record: Record) -> dict[str, Any]:
    """See the module."""
    if record.get("lang", "unknown") not in model.languages:
        return {"sentiment": None}
    return {"sentiment": float(model.analyzer.polarity_scores(record["text_norm"][:LOOKED_AT])["compound"])}


SENTIMENT = Stage(
    "sentiment",
    each=judge,
    gives=(Field("sentiment", "float32", "-1 (hostile) to 1 (friendly)"),),
    load=SentimentModel,
    options={"languages": ("en", "unknown")},
)
