"""Imports of ours come from where Python and its packages are installed, whatever files lie in the program's folders.

The folder of a script is the first entry of `sys.path`. With a `queue.py` there, each `import queue` that comes late,
in allcores, in the standard library or in a package that we use, would run that file. `install` has those imports look
into Python's own folders first. What the program's code imports is looked for as Python always does.

For processes that are ours alone: the command line, the template, fresh interpreters. A program that uses allcores as a
library has the rules of Python.
"""

from __future__ import annotations

# Only what is loaded in any interpreter: this comes before everything else.
import _frozen_importlib_external as external
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec
    from typing import Any

#: What we import beside the standard library, and what that imports late.
PACKAGES = frozenset({
    "annotated_types", "blinker", "click", "cloudpickle", "cronsim", "flask", "greenlet", "h5py", "itsdangerous",
    "jinja2", "markdown_it", "markupsafe", "mdurl", "numpy", "opentelemetry", "pandas", "prometheus_client", "psycopg",
    "psycopg_binary", "pyarrow", "pydantic", "pydantic_core", "pygments", "rich", "sqlalchemy", "typing_extensions",
    "typing_inspection", "waitress", "werkzeug", "zstandard",
})  # fmt: skip
NAMES = frozenset(sys.stdlib_module_names) | PACKAGES


def install(theirs: Iterable[str] = ()) -> None:
    """From now on, look for imports that are not the program's on the `sys.path` of this moment, Python's own first.

    Args:
        theirs: names that the program has taken for modules of its own, see `foreign`.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        at = sys.meta_path.index(external.PathFinder) if external.PathFinder in sys.meta_path else len(sys.meta_path)
        sys.meta_path.insert(at, _Finder())
    for finder in sys.meta_path:
        if isinstance(finder, _Finder):
            finder.names -= frozenset(theirs)


def foreign() -> list[str]:
    """Names of the standard library, or of packages of ours, under which the program has loaded a module of its own."""
    own = _own_folders()
    loaded = ((name, getattr(sys.modules[name], "__file__", None)) for name in NAMES & sys.modules.keys())
    return [name for name, file in loaded if isinstance(file, str) and not file.startswith(own)]


class _Finder:
    def __init__(self) -> None:
        self.names = NAMES
        standard = _standard_folders()
        #: without what stands for the working folder, wherever that is
        self._path = [*standard, *(entry for entry in sys.path if entry and entry not in standard)]
        self._own = _own_folders()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`. Raises ModuleNotFoundError for what only the program's folders have."""
        if path is not None or name not in self.names or self._asks_the_program():
            return None
        found: ModuleSpec | None = external.PathFinder.find_spec(name, self._path)
        if found is None and name not in PACKAGES and external.PathFinder.find_spec(name) is not None:
            # The standard library asks in this way which system this is: `import msvcrt`.
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found

    def _asks_the_program(self) -> bool:
        """Whether the import stands in code of the program."""
        frame = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back  # type: ignore[assignment]
        return frame is not None and not frame.f_code.co_filename.startswith(self._own)


def _standard_folders() -> list[str]:
    """Where the standard library is: the folders, or the archive, of this interpreter."""
    home = os.path.dirname(getattr(os, "__file__", None) or "")
    return [entry for entry in sys.path if home and (entry == home or os.path.basename(entry) == "lib-dynload")]


def _own_folders() -> tuple[str, ...]:
    """How the paths of files begin that are not the program's."""
    packages = [entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]
    folders = [*_standard_folders(), *packages, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    return ("<frozen ", *(os.path.join(folder, "") for folder in folders))
