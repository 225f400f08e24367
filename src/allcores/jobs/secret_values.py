"""Values of arguments and results that are not shown: those under names such as "password"."""

from __future__ import annotations

import json
import re
from typing import Any

HIDDEN = "(hidden)"


def is_secret(name: str, pattern: re.Pattern[str]) -> bool:
    """Whether an argument of that name is never shown: "password", "db_password", "apiKey", "authToken"."""
    return pattern.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)) is not None


def hide_secrets(value: Any, pattern: re.Pattern[str], instead: str = HIDDEN) -> Any:
    """A JSON value without what stands under names of secrets, at any depth; `instead` stands there."""
    if isinstance(value, dict):
        return {
            key: instead
            if is_secret(str(key), pattern) and each not in (None, "")
            else hide_secrets(each, pattern, instead)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [hide_secrets(each, pattern, instead) for each in value]
    return value


def shown_json(text: str | None, pattern: re.Pattern[str]) -> str:
    """JSON, as the store has it, without what stands under names of secrets."""
    # Most has no such name: it need not be read. Behind a backslash may stand any character, or the end of another.
    if not text or ("\\" not in text and not is_secret(text, pattern)):
        return text or ""
    try:
        return json.dumps(hide_secrets(json.loads(text), pattern), separators=(",", ":"))
    except (ValueError, RecursionError):
        return ""  # a damaged row: nothing of it is known to be none
