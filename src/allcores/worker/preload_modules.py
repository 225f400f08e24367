"""`Pool(preload_modules=[...])`: modules that are imported where `preload` runs: in the template, for all workers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from allcores.errors import SetupError


class ModulePreload:
    """A preload function that imports first. Travels like any other: it is called in the template."""

    def __init__(self, names: Sequence[str], function: Callable[..., Any] | None) -> None:
        self._names = list(names)
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        """Import, then call the program's own preload function, if there is one. Raises SetupError."""
        for name in self._names:
            try:
                importlib.import_module(name)
            except Exception as error:
                raise SetupError(
                    f"preload_modules: the import of {name!r} raised {type(error).__name__}: {error}. Correct "
                    "the name, or leave it out: workers import what their functions need by themselves."
                ) from error
        return self._function(*arguments) if self._function is not None else None
