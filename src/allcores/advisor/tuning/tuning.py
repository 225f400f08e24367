"""What `allcores.tune` returns."""

from __future__ import annotations

import os
from typing import Any

from allcores.advisor.tuning.json_object import as_object
from allcores.advisor.tuning.record import TuningRecord
from allcores.advisor.tuning.text import as_text
from allcores.system.tracebacks import hiding


class Tuning(TuningRecord):
    """The best setting of a function, as it was found: to be printed, or for others as a dict, a page or a picture."""

    __slots__ = ()

    def __str__(self) -> str:
        return as_text(self)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON; `allcores/advisor/tuning/tuning.schema.json` describes it."""
        return as_object(self)

    @hiding
    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write it as one HTML file, which loads nothing and has no script: chunk by chunk, and more workers.

        Args:
            path: The file to (over)write.

        Raises:
            ImportError: Without Jinja2: `pip install 'allcores[report]'`.
            UsageError: The file cannot be written.
        """
        from allcores.advisor.tuning import page

        page.save(self, path)

    @hiding
    def save_png(self, path: str | os.PathLike[str]) -> None:
        """Write a picture of the same.

        Args:
            path: The file to (over)write.

        Raises:
            ImportError: Without Matplotlib: `pip install 'allcores[picture]'`.
            UsageError: The file cannot be written.
        """
        from allcores.advisor.tuning import picture

        picture.save(self, path)
