"""A model, and the functions that use it in workers: some get it as an argument, some find it in a global."""

from __future__ import annotations

import importlib
import os
import time
from importlib.resources import files
from typing import Any

from benchmarks.tasks import die_and_tell

#: where libraries that hand nothing to the function keep it
MODEL: Any = None
WORDS = ("speling", "recieve", "adress", "goverment", "tommorow", "acheive", "wierd")


def load() -> Any:
    """symspellpy's English spell checker: some two seconds and 150 MB."""
    symspell = importlib.import_module("symspellpy")
    checker = symspell.SymSpell(max_dictionary_edit_distance=2, prefix_length=7)
    checker.load_dictionary(str(files("symspellpy") / "frequency_dictionary_en_82_765.txt"), 0, 1)
    return checker


def load_little() -> Any:
    """The same with a few words: what all but the model costs."""
    symspell = importlib.import_module("symspellpy")
    checker = symspell.SymSpell(max_dictionary_edit_distance=2, prefix_length=7)
    for word in ("spelling", "receive", "address", "government", "tomorrow", "achieve", "weird"):
        checker.create_dictionary_entry(word, 1)
    return checker


def keep(little: bool) -> None:
    """An initializer: load into the global."""
    global MODEL
    MODEL = load_little() if little else load()


def correct(model: Any, times: int) -> int:
    """Look words up, then hold the worker for a moment, so that each gets its share; returns its pid."""
    top = importlib.import_module("symspellpy").Verbosity.TOP
    for _ in range(times):
        for word in WORDS:
            assert model.lookup(word, top, 2), "wrong result"
    time.sleep(0.01)
    return os.getpid()


def correct_with_global(times: int) -> int:
    """The same with the global."""
    return correct(MODEL, times)


def die(model: Any, path: str) -> None:
    """Crash in a worker that is given the model."""
    die_and_tell(path)
