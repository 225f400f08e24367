"""What `allcores.advise` returns."""

from __future__ import annotations

import os
from typing import Any

from allcores.advisor.json_object import as_object
from allcores.advisor.record import AdviceRecord
from allcores.advisor.text import as_text
from allcores.system.tracebacks import hiding


class Advice(AdviceRecord):
    """What pays for a function and its items: to be printed, or for others as a dict, a page or a picture."""

    __slots__ = ()

    def __str__(self) -> str:
        return as_text(self)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON; `allcores/advisor/advice.schema.json` describes it."""
        return as_object(self)

    @hiding
    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write it as one HTML file, which loads nothing and has no script.

        Args:
            path: The file to (over)write.

        Raises:
            ImportError: Without Jinja2: `pip install 'allcores[report]'`.
            UsageError: The file cannot be written.
        """
        from allcores.advisor import page

        page.save(self, path)

    @hiding
    def save_png(self, path: str | os.PathLike[str]) -> None:
        """Write a picture of it: speed-ups predicted and measured, where a call's time goes, and the workers'.

        Args:
            path: The file to (over)write.

        Raises:
            ImportError: Without Matplotlib: `pip install 'allcores[picture]'`.
            UsageError: The file cannot be written.
        """
        from allcores.advisor import picture

        picture.save(self, path)
