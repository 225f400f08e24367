"""What is compared: works over texts, made of the stages of `allcores.nlp`.

A work knows no way of running it: `load()` gives its models, `do(models, texts)` what it finds for each text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allcores.errors import UsageError
from allcores.nlp.catalogue import chosen
from allcores.nlp.stage import Stage

#: texts that models get at once
BATCH = 64


@dataclass(frozen=True, slots=True)
class Work:
    """One of them.

    Attributes:
        name: What `--what` calls it.
        about: In a line.
        stages: Names of its stages; what they give is its result.
        own: The library's own ways of using several cores: which library, and what the way is called.
    """

    name: str
    about: str
    stages: tuple[str, ...]
    own: tuple[tuple[str, str], ...]

    def load(self, **options: Any) -> list[tuple[Stage, Any]]:
        """Its stages with their models.

        Args:
            **options: Of the last stage.
        """
        given: Mapping[str, Mapping[str, Any]] = {self.stages[-1]: options} if options else {}
        return [(stage, stage.loaded()) for stage in chosen(self.stages, given, None)]

    def do(self, models: Sequence[tuple[Stage, Any]], texts: Sequence[str]) -> list[dict[str, Any]]:
        """What it finds for each text: the fields of its stages, as plain values."""
        records: list[dict[str, Any]] = [{"text": text, "text_norm": text} for text in texts]
        for stage, model in models:
            given = () if model is None else (model,)
            if stage.batch is not None:
                found: Iterable[Mapping[str, Any]] = stage.batch(*given, records)
            else:
                each: Callable[..., Mapping[str, Any]] = stage.each  # type: ignore[assignment]
                found = [each(*given, record) for record in records]
            for record, values in zip(records, found, strict=True):
                record.update(values)
        for record in records:
            del record["text"]
        return records


_PIPE = (("spacy", "nlp.pipe(n_process=…)"),)
WORKS = {
    work.name: work
    for work in (
        Work("lemmas", "lemmas, parts of speech and entities (spaCy)", ("lemmas",), _PIPE),
        Work("tokens", "words and sentences by rules (spaCy)", ("tokens",), _PIPE),
        Work("text", "Unicode, personal data, sentiment (Python)", ("unicode", "pii", "sentiment"), ()),
        Work("ids", "token ids (Hugging Face tokenizers)", ("ids",), (("tokenizers", "tokenizers' own threads"),)),
        Work("embedding", "embeddings (onnxruntime)", ("embedding",), (("onnxruntime", "onnxruntime's own threads"),)),
        Work(
            "sentence-transformers",
            "embeddings (sentence-transformers)",
            ("sentence-transformers",),
            (
                ("sentence_transformers", "torch's own threads"),
                ("sentence_transformers", "start_multi_process_pool"),
            ),
        ),
    )
}


def work_named(name: str) -> Work:
    """A work.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in WORKS:
        raise UsageError(f"{name!r} is nothing that can be compared: {', '.join(WORKS)}")
    return WORKS[name]
