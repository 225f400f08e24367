"""What `allcores.advise` returns."""

from __future__ import annotations

from typing import Any

from allcores.advisor.json_object import as_object
from allcores.advisor.record import AdviceRecord
from allcores.advisor.text import as_text


class Advice(AdviceRecord):
    """What pays for a function and its items. `print` shows it; `as_dict` is for machines."""

    __slots__ = ()

    def __str__(self) -> str:
        return as_text(self)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON; `allcores/advisor/advice.schema.json` describes it."""
        return as_object(self)
