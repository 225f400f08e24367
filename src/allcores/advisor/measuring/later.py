"""Results that compute nothing until they are asked: a call says nothing of what they take then."""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: what a call may return that has computed nothing yet
_LATER = {
    CoroutineType: ("a coroutine", "runs it, with asyncio.run for one"),
    GeneratorType: ("a generator", "returns a list of what it yields"),
    AsyncGeneratorType: ("an async generator", "returns a list of what it yields"),
}


def later(result: Any) -> str | None:
    """Why a result says nothing of what the function takes, as the end of a sentence; None if it may."""
    for kind, (what, instead) in _LATER.items():
        if isinstance(result, kind):
            if isinstance(result, CoroutineType):
                result.close()  # else Python warns that nobody has awaited it
            return f"returns {what}, so that a call does nothing by itself: give a function that {instead}"
    return None
