"""Libraries of the extras `nlp` and `embeddings`, imported when a stage needs them; a missing one is one sentence."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
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


class _Without:
    """A finder of modules that does not know some packages. All else of it is the finder's own."""

    def __init__(self, finder: Any, packages: Sequence[str]) -> None:
        self.finder = finder
        self.packages = frozenset(packages)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)

    def __eq__(self, other: object) -> bool:
        # Who has put a finder into `sys.meta_path` removes it from there.
        return other is self or bool(self.finder == other)

    def __hash__(self) -> int:
        return hash(self.finder)

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if name.partition(".")[0] in self.packages:
            return None
        found: ModuleSpec | None = self.finder.find_spec(name, path, target)
        return found

    def find_distributions(self, *context: Any) -> Iterable[Any]:
        """See importlib.metadata.DistributionFinder: some look there for what is installed."""
        if context and context[0].name in self.packages:
            return ()
        found: Iterable[Any] = getattr(self.finder, "find_distributions", lambda *_: ())(*context)
        return found


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
    # A finder before them that raised would do for an import, but not for who asks with `find_spec` what there is.
    sys.meta_path[:] = [_Without(finder, absent) for finder in sys.meta_path]
    try:
        yield
    finally:
        sys.meta_path[:] = [finder.finder if isinstance(finder, _Without) else finder for finder in sys.meta_path]
