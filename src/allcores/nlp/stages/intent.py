"""Stage `intent`: what a message is about, by a linear model over its words and their parts.

    takes   text_norm      string
    gives   intent         string
            intent_score   float32   0 to 1

By default the model is trained on the English topics of chatterbot-corpus (21 of them: greetings, tech_support, money
...); with `examples`, on labelled messages of your own: a .csv or .jsonl file with `text` and `intent`. Training takes
a few seconds and happens once: the weights are kept in the user's cache, under a name made of all that they come from.
They are plain arrays (.npz), never pickles. The same examples give the same model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allcores.errors import NotSupported, UsageError
from allcores.nlp.libraries import kept_out, library, package_folder
from allcores.nlp.model_files import kept
from allcores.nlp.records import Field, Record
from allcores.nlp.stage import Stage, check_some
from allcores.sources.compression import without_compression
from allcores.sources.open import CSV_SUFFIXES, from_inputs

#: changes with the way of training, so that a model that was kept is not one of another way
RECIPE = 1
#: numbers of a text's features; a power of two
FEATURES = 1 << 16

Example = tuple[str, str]


def corpus_examples() -> list[Example]:
    """(text, topic) of the English part of chatterbot-corpus, sorted, each once."""
    folder = package_folder("chatterbot_corpus")
    if folder is None:
        raise NotSupported("the stage 'intent' needs chatterbot-corpus: pip install 'allcores[nlp]'")
    yaml = library("yaml", extra="nlp", use="reading chatterbot-corpus")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: set[Example] = set()
    for path in sorted(Path(folder, "data", "english").glob("*.yml")):
        with open(path, encoding="utf-8") as file:
            talks = yaml.load(file, Loader=loader)["conversations"]
        found |= {(str(text), path.stem) for talk in talks for text in talk}
    return sorted(found)


def file_examples(path: str) -> list[Example]:
    """(text, intent) of a .csv or .jsonl file.

    Raises:
        UsageError: If it cannot be read, or a record lacks one of them; it names the line.
    """
    found: set[Example] = set()
    is_table = without_compression(path).lower().endswith(CSV_SUFFIXES)
    rows = from_inputs([path], format="csv" if is_table else "jsonl")
    for number, row in enumerate(rows, 2 if is_table else 1):
        pair = (row.get("text"), row.get("intent")) if isinstance(row, dict) else (None, None)
        if not all(isinstance(part, str) and part for part in pair):
            raise UsageError(f"{path}, record {number}: an example needs `text` and `intent`")
        found.add((str(pair[0]), str(pair[1])))
    if len({intent for _, intent in found}) < 2:
        raise UsageError(f"stage 'intent': {path} has examples of fewer than two intents")
    return sorted(found)


class IntentModel:
    """What the stage loads: the weights of each intent, and what makes features of text."""

    def __init__(self, examples: str | None, languages: Sequence[str]) -> None:
        check_some("intent", "languages", languages)
        self.numpy: Any = library("numpy", extra="nlp", use="telling intents apart")
        with kept_out("torch", "pandas", "pyarrow"):
            text = library("sklearn.feature_extraction.text", extra="nlp", use="telling intents apart")
            self.linear: Any = library("sklearn.linear_model", extra="nlp", use="telling intents apart")
            version = library("sklearn", extra="nlp", use="telling intents apart").__version__
        self.vectorizer: Any = text.HashingVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), n_features=FEATURES, lowercase=True, norm="l2"
        )
        self.languages = frozenset(languages)
        found = corpus_examples() if examples is None else file_examples(examples)
        content = json.dumps([RECIPE, version, self.numpy.__version__, FEATURES, found]).encode()
        name = f"intent-{hashlib.blake2b(content, digest_size=16).hexdigest()}.npz"
        with kept_out("torch", "pandas", "pyarrow"):
            arrays = kept(name, lambda: self.trained(found))
        self.labels: list[str] = [str(label) for label in arrays["labels"]]
        self.weights = arrays["weights"]
        self.offsets = arrays["offsets"]

    def trained(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The arrays of a model of these examples."""
        model = self.linear.SGDClassifier(
            loss="log_loss", alpha=1e-5, max_iter=20, tol=None, random_state=0, class_weight="balanced", n_jobs=1
        )
        texts, labels = zip(*examples, strict=True)
        model.fit(self.vectorizer.transform(texts), labels)
        weights, offsets = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # of two classes it keeps the second one's weights
            numpy = self.numpy
            weights, offsets = numpy.vstack([-weights, weights]), numpy.concatenate([-offsets, offsets])
        return {
            "labels": self.numpy.array(model.classes_, dtype="U"),
            "weights": self.numpy.ascontiguousarray(weights.T, dtype="float32"),
            "offsets": offsets.astype("float32"),
        }

    def __call__(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """The likeliest intent of each text, and how likely it is beside the others."""
        numpy = self.numpy
        scores = self.vectorizer.transform(texts) @ self.weights + self.offsets
        # One class against the rest each: their probabilities, brought to a sum of one.
        shares = 1.0 / (1.0 + numpy.exp(-scores.astype("float64")))
        shares /= shares.sum(axis=1, keepdims=True)
        best = shares.argmax(axis=1)
        return [(self.labels[column], round(float(row[column]), 4)) for column, row in zip(best, shares, strict=True)]


#: characters that are looked at
LOOKED_AT = 5_000


def tell_intents(model: IntentModel, records: Sequence[Record]) -> list[dict[str, Any]]:
    """See the module."""
    found: list[dict[str, Any]] = [{"intent": None, "intent_score": None} for _ in records]
    chosen = [
        number
        for number, record in enumerate(records)
        if record.get("lang", "unknown") in model.languages
        and not record["text_norm"].isspace()
        and record["text_norm"]
    ]
    if chosen:
        answers = model([records[number]["text_norm"][:LOOKED_AT] for number in chosen])
        for number, (intent, score) in zip(chosen, answers, strict=True):
            found[number] = {"intent": intent, "intent_score": score}
    return found


INTENT = Stage(
    "intent",
    batch=tell_intents,
    gives=(Field("intent", "string", "what the message is about"), Field("intent_score", "float32", "0 to 1")),
    load=IntentModel,
    options={"examples": None, "languages": ("en", "unknown")},
)
