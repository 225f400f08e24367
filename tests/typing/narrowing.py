"""What mypy makes of `if outcome.ok:`, and pyright does not: type-checked by mypy alone, never run."""

from __future__ import annotations

from typing import assert_type

import allcores


def length(text: str) -> int:
    return len(text)


def by_ok() -> list[int]:
    for outcome in allcores.outcomes(length, ["a"], timeout=3):
        if outcome.ok:
            assert_type(outcome.value, int)
            assert_type(outcome.error, None)
        else:
            assert_type(outcome.error, BaseException)
    for outcome in allcores.Pool().outcomes(length, ["a"]):
        if not outcome.ok:
            print(outcome.error.args)
            continue
        assert_type(outcome.value, int)
    return [outcome.value for outcome in allcores.outcomes(length, ["a"]) if outcome.ok]
