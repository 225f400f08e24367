"""Libraries of the extras `nlp` and `embeddings`, imported when a stage needs them; a missing one is one sentence."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from allcores.errors import NotSupported
from allcores.transport import process_role


def library(name: str, *, extra: str, use: str) -> Any:
    """A module of an extra.

    Args:
        use: What it is for, for the message.

    Raises:
        NotSupported: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise
        sentence = f"{use} needs {name.partition('.')[0]}: pip install 'allcores[{extra}]'"
        raise NotSupported(sentence) from None


def package_folder(name: str) -> str | None:
    """Where an installed package lies; None if it is not installed. It is not imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return os.fspath(spec.submodule_search_locations[0])


class _Refusing:
    """Finds no module of the named packages, as if they were not installed."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = frozenset(packages)

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if name.partition(".")[0] in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r} (allcores keeps it out here)", name=name)
        return None


@contextlib.contextmanager
def kept_out(*packages: str) -> Iterator[None]:
    """In the block, packages are as if they were not installed: for libraries that import them only to know them.

    thinc, under spaCy, imports torch wherever it is installed, which takes two seconds and 180 MB of each process;
    scikit-learn imports pandas, which imports pyarrow, whose allocator starts a thread, and a process with threads
    cannot be forked safely. A None in `sys.modules` would do for thinc, but not for scikit-learn, which looks torch up
    there. Packages that are there already stay. Nothing is done outside of workers: the program's own modules would
    believe for ever what they find here.
    """
    absent = [name for name in packages if name not in sys.modules]
    if not process_role.is_worker() or not absent:
        yield
        return
    finder = _Refusing(absent)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
