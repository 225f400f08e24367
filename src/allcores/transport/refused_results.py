"""The error of a result that plain pickle has refused, where nothing else was to be tried."""

from __future__ import annotations

from allcores.errors import AllcoresError


class ResultRefused(AllcoresError):
    """A result cannot be pickled.

    Attributes:
        reason: What pickle raised, in words.
        value: What it was, in words.
    """

    def __init__(self, reason: str, value: str) -> None:
        super().__init__(f"The result {value[:200]} could not be pickled: {reason}")
        self.reason = reason
        self.value = value
