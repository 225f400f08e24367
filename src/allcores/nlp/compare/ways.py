"""The ways in which a work is run: a loop, allcores, and what other libraries offer for several cores.

Each is a generator of results in the order of the texts, which begins with nothing loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allcores.nlp.compare.works import BATCH, Work
from allcores.pool.pool import Pool

Results = Iterator[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Way:
    """One of them.

    Attributes:
        name: What it is called.
        run: Gives the results; called with the work, the texts and the number of workers.
        needs: A package, or none.
        environment: Variables that are set for it.
    """

    name: str
    run: Callable[[Work, Sequence[str], int], Results]
    needs: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def is_installed(self) -> bool:
        """What it needs is there."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def in_a_loop(work: Work, texts: Sequence[str], workers: int) -> Results:
    """One process, one thread."""
    del workers
    models = work.load()
    for first in range(0, len(texts), BATCH):
        yield from work.do(models, texts[first : first + BATCH])


class _Loaded:
    """Loads the models of a work: the `preload` of a pool."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self) -> Any:
        return self.work, self.work.load()


def _done(loaded: tuple[Work, Any], texts: Sequence[str]) -> list[dict[str, Any]]:
    work, models = loaded
    return work.do(models, texts)


def with_allcores(work: Work, texts: Sequence[str], workers: int) -> Results:
    """A pool whose workers share the models."""
    with Pool(workers, preload=_Loaded(work)) as pool:
        yield from pool.imap(_done, texts, batch=BATCH)


#: of the process that runs `_here`: a work's models
_here_models: dict[str, Any] = {}


def _here(work: Work, texts: Sequence[str]) -> list[dict[str, Any]]:
    """With models that are loaded when this process needs them first, as pools without a preload have to."""
    if work.name not in _here_models:
        _here_models[work.name] = work.load()
    return work.do(_here_models[work.name], texts)


def with_joblib(work: Work, texts: Sequence[str], workers: int) -> Results:
    """`Parallel` over batches; each process loads the models with its first one."""
    import joblib

    parallel = joblib.Parallel(n_jobs=workers, return_as="generator")
    batches = (texts[first : first + BATCH] for first in range(0, len(texts), BATCH))
    for found in parallel(joblib.delayed(_here)(work, batch) for batch in batches):
        yield from found


def with_datasets(work: Work, texts: Sequence[str], workers: int) -> Results:
    """`Dataset.map(num_proc=…)` with batches."""
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()
    table = datasets.Dataset.from_dict({"given": list(texts)})

    def found(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        rows = _here(work, batch["given"])
        return {name: [row[name] for row in rows] for name in rows[0]}

    mapped = table.map(
        found, batched=True, batch_size=500, num_proc=workers, remove_columns=["given"], load_from_cache_file=False
    )
    yield from mapped


def with_spacy(work: Work, texts: Sequence[str], workers: int) -> Results:
    """SpaCy's own processes, 256 texts at a time; the results are taken out of its documents in the program."""
    from allcores.nlp.stages.annotation import empty, take

    ((_, annotator),) = work.load()
    for text, doc in zip(texts, annotator.nlp.pipe(texts, n_process=workers, batch_size=256), strict=True):
        row = empty()
        take(doc, 0, row)
        yield {"text_norm": text, **row}


def with_spacy_rules(work: Work, texts: Sequence[str], workers: int) -> Results:
    """The same with rules for words and sentences, and no model."""
    from allcores.nlp.stages.tokens import taken

    ((_, splitter),) = work.load()
    rules = splitter.rules_of(None)
    for text, doc in zip(texts, rules.pipe(texts, n_process=workers, batch_size=256), strict=True):
        yield {"text_norm": text, **taken(doc)}


def with_tokenizers(work: Work, texts: Sequence[str], workers: int) -> Results:
    """`encode_batch`, whose threads the library starts itself: one for each core."""
    del workers
    ((_, tokenizer),) = work.load()
    for first in range(0, len(texts), 1_000):
        batch = list(texts[first : first + 1_000])
        for text, encoding in zip(batch, tokenizer.encode_batch(batch), strict=True):
            yield {"text_norm": text, "input_ids": encoding.ids}


def with_onnxruntime(work: Work, texts: Sequence[str], workers: int) -> Results:
    """The threads that onnxruntime computes one text with."""
    models = work.load(threads=workers)
    for text in texts:
        yield from work.do(models, [text])


def with_torch(work: Work, texts: Sequence[str], workers: int) -> Results:
    """`encode` with all texts, as its documentation shows it, and the threads that torch computes a batch with."""
    from allcores.nlp.stages.embeddings import rounded

    ((_, encoder),) = work.load(threads=workers)
    for text, vector in zip(texts, encoder.model.encode(list(texts), normalize_embeddings=True), strict=True):
        yield {"text_norm": text, "embedding": rounded(vector)}


def with_torch_pool(work: Work, texts: Sequence[str], workers: int) -> Results:
    """Sentence-transformers' own processes, one for each of so many devices, which are all the processor."""
    from allcores.nlp.stages.embeddings import rounded

    ((_, encoder),) = work.load()
    processes = encoder.model.start_multi_process_pool(["cpu"] * workers)
    try:
        vectors = encoder.model.encode(list(texts), pool=processes, normalize_embeddings=True)
    finally:
        encoder.model.stop_multi_process_pool(processes)
    for text, vector in zip(texts, vectors, strict=True):
        yield {"text_norm": text, "embedding": rounded(vector)}


#: by the name of the work, in the order of its `own`
_OWN: Mapping[str, tuple[Callable[[Work, Sequence[str], int], Results], ...]] = {
    "lemmas": (with_spacy,),
    "tokens": (with_spacy_rules,),
    "text": (),
    "ids": (with_tokenizers,),
    "embedding": (with_onnxruntime,),
    "sentence-transformers": (with_torch, with_torch_pool),
}
LOOP, OURS = "a loop", "allcores"
#: one thread for the libraries below: ways that use processes have a core for each
_QUIET = (
    ("TOKENIZERS_PARALLELISM", "false"),
    ("OMP_NUM_THREADS", "1"),
    ("OPENBLAS_NUM_THREADS", "1"),
    ("MKL_NUM_THREADS", "1"),
    ("RAYON_NUM_THREADS", "1"),
)


def ways_of(work: Work) -> list[Way]:
    """All ways of a work; the loop first, then allcores."""
    ways = [
        Way(LOOP, in_a_loop, environment=_QUIET),
        Way(OURS, with_allcores, environment=_QUIET),
        Way("joblib", with_joblib, "joblib", _QUIET),
        Way("datasets.map(num_proc=…)", with_datasets, "datasets", _QUIET),
    ]
    own = [
        Way(name, run, library, (("TOKENIZERS_PARALLELISM", "true"),) if library == "tokenizers" else _QUIET)
        for (library, name), run in zip(work.own, _OWN[work.name], strict=True)
    ]
    return [*ways[:2], *own, *ways[2:]]
