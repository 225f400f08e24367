"""A small chatbot: what a message is about, who is named in it, its mood, and the nearest answer it knows.

Everything here is plain: `Bot()` loads the models, `bot.reply(text)` takes some tens of milliseconds of one core. The
dialogues are the English ones of chatterbot-corpus. Where it runs is not its business: see `chat.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allcores import Pool
from allcores.nlp.libraries import package_folder
from allcores.nlp.stage import Stage
from allcores.nlp.stages.annotation import LEMMAS
from allcores.nlp.stages.embeddings import EMBEDDING
from allcores.nlp.stages.intent import INTENT
from allcores.nlp.stages.language import LANG
from allcores.nlp.stages.sentiment import SENTIMENT
from allcores.nlp.stages.unicode_text import UNICODE

#: what is found out about a message, in this order
STAGES: tuple[Stage, ...] = (UNICODE, LANG, LEMMAS, SENTIMENT, INTENT, EMBEDDING)
#: files of the corpus that the bot talks about
TOPICS = ("greetings", "conversations", "botprofile", "computers", "ai", "food", "emotion", "health", "science")
#: cosine below which no known question is near
NEAR = 0.45
#: characters of a message
LONGEST = 2_000


@dataclass(frozen=True, slots=True)
class Reply:
    """What the bot makes of a message.

    Attributes:
        text: The answer.
        nearest: The known question that it was given to.
        likeness: How near that is, 0 to 1.
        lang: ISO 639 code of the message's language, or "unknown".
        intent: What the message is about.
        sentiment: -1 (hostile) to 1 (friendly); None for other languages.
        entities: (text, kind) of what is named in it.
    """

    text: str
    nearest: str
    likeness: float
    lang: str
    intent: str | None
    sentiment: float | None
    entities: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


class Known:
    """Questions, each with its answer and its vector."""

    def __init__(self, pairs: list[tuple[str, str]], vectors: Any) -> None:
        self.pairs = pairs
        self.vectors = vectors

    def nearest(self, vector: Any) -> tuple[str, str, float]:
        """The question that is nearest to a vector, its answer, and their cosine."""
        cosines = self.vectors @ vector
        best = int(cosines.argmax())
        question, answer = self.pairs[best]
        return question, answer, float(cosines[best])


class Bot:
    """The models, loaded, and what is known.

    Args:
        known: Questions with their answers.
    """

    def __init__(self, known: Known) -> None:
        self.known = known
        self.models = [(stage, stage.loaded()) for stage in STAGES]

    def reply(self, message: str) -> Reply:
        """What the bot makes of a message."""
        record: dict[str, Any] = {"text": message[:LONGEST]}
        for stage, model in self.models:
            given = () if model is None else (model,)
            if stage.each is not None:
                record |= stage.each(*given, record)
            elif stage.batch is not None:
                record |= stage.batch(*given, [record])[0]
        text = record["text_norm"]
        nearest, answer, likeness = self.known.nearest(np.asarray(record["embedding"], dtype=np.float32))
        if likeness < NEAR:
            answer = "I know nothing about that. Ask me about computers, food, science, or how I am."
        return Reply(
            text=answer,
            nearest=nearest,
            likeness=round(likeness, 3),
            lang=record["lang"],
            intent=record["intent"],
            sentiment=record["sentiment"],
            entities=tuple((text[each["start"] : each["end"]], each["type"]) for each in record["ents"] or ()),
        )


def dialogues() -> list[tuple[str, str]]:
    """(question, answer), sorted; each question once."""
    import yaml

    folder = package_folder("chatterbot_corpus")
    if folder is None:
        raise SystemExit("this needs chatterbot-corpus: pip install 'allcores[nlp,embeddings,web]'")
    found: dict[str, str] = {}
    for topic in TOPICS:
        with open(Path(folder, "data", "english", f"{topic}.yml"), encoding="utf-8") as file:
            talks = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["conversations"]
        for talk in talks:
            question, *answers = (str(line).strip() for line in talk)
            if question and answers:
                found.setdefault(question, answers[0])
    return sorted(found.items())


def load_embedder() -> Any:
    """The model of vectors, for the workers that learn."""
    return EMBEDDING.loaded()


def vector_of(embedder: Any, question: str) -> Any:
    """The vector of a question, as float32."""
    return embedder(question).astype(np.float32)


def learn(*, limit: int | None = None, cache: str | None = None) -> Known:
    """Give each known question its vector, on all cores; kept, so that the next start takes no time.

    Args:
        limit: So many questions only.
        cache: The folder where vectors are kept; None: the user's own.
    """
    pairs = dialogues()[:limit]
    with Pool(preload=load_embedder) as pool:
        vectors = pool.map(vector_of, [question for question, _ in pairs], cache=cache or True)
    return Known(pairs, np.stack(vectors))
