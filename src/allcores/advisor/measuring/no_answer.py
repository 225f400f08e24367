"""Why a function could not be measured."""

from __future__ import annotations


class NoAnswer(Exception):
    """What is asked cannot be measured, for the reason that is its text."""


class TooSlow(NoAnswer):
    """An item takes longer than the probe may."""
