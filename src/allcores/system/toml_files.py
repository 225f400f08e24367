"""Files of settings in TOML: read whole, or one sentence that says what is wrong."""

from __future__ import annotations

import os
import tomllib
from typing import Any

from allcores.errors import UsageError


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What is in a file.

    Raises:
        UsageError: It cannot be read, or is no TOML.
    """
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")  # some editors begin a file with a mark of their own
        return tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {os.fspath(path)}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{os.fspath(path)} is no TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{os.fspath(path)} is no TOML that can be read: it is nested too deeply") from None
