"""What `allcores.tune` returns."""

from __future__ import annotations

from typing import Any

from allcores.advisor.tuning.json_object import as_object
from allcores.advisor.tuning.record import TuningRecord
from allcores.advisor.tuning.text import as_text


class Tuning(TuningRecord):
    """The best setting of a function, as it was found: `print` shows it, `as_dict` gives it to others."""

    __slots__ = ()

    def __str__(self) -> str:
        return as_text(self)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON; `allcores/advisor/tuning/tuning.schema.json` describes it."""
        return as_object(self)
