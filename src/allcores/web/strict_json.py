"""JSON from outside, in bounded time and memory: what is ambiguous or cannot be kept exactly is refused."""

from __future__ import annotations

import json
import math
from typing import Any

from allcores.web.security import Refused

#: keys and items of one body, all levels together
MOST_VALUES = 200_000


def _refuse(message: str) -> Refused:
    return Refused(400, "bad_json", message)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _refuse(f"The number {text[:30]} is too large for a float.")
    return value


def _constant(text: str) -> Any:
    raise _refuse(f"{text} is no JSON: a number has to be finite.")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _refuse(f"The key {key[:60]!r} is there twice.")
            seen.add(key)
    return found


def read_json(data: bytes, depth: int) -> Any:
    """The value of a text. Integers are kept exactly, however large the language allows them to be.

    Args:
        data: UTF-8.
        depth: Levels of lists and objects that are allowed.

    Raises:
        Refused: 400, with what is wrong and where.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refuse(f"The body is no UTF-8 (byte {error.start}).") from None
    try:
        value = json.loads(text, object_pairs_hook=_pairs, parse_float=_float, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise _refuse(f"The body is no JSON: {error.msg} (line {error.lineno}, column {error.colno}).") from None
    except RecursionError:
        raise _refuse(f"The body has more than {depth} levels.") from None
    except ValueError:
        # more digits than int() takes from a text
        raise _refuse("A number in the body has too many digits.") from None
    check_value(value, depth)
    return value


def check_value(value: Any, depth: int) -> None:
    """See that a value is not too deep, not too many, and that its strings are Unicode.

    Raises:
        Refused: 400.
    """
    level, count = [value], 0
    for _ in range(depth + 1):
        below: list[Any] = []
        for each in level:
            count += 1
            if isinstance(each, dict):
                below.extend(each.values())
                for key in each:
                    _check_text(key)
            elif isinstance(each, list):
                below.extend(each)
            elif isinstance(each, str):
                _check_text(each)
        if count > MOST_VALUES:
            raise _refuse(f"The body has more than {MOST_VALUES:,} values.")
        if not below:
            return
        level = below
    raise _refuse(f"The body has more than {depth} levels.")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _refuse("A string in the body has half of a surrogate pair, which is no character.") from None
