"""The file that says which stages run, and with which options (TOML)."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from allcores.errors import UsageError
from allcores.system.toml_files import read_toml


def read_config(path: str | os.PathLike[str]) -> tuple[list[str] | None, dict[str, dict[str, Any]]]:
    """The stages that a file names (None if it names none), and the options of stages.

        stages = ["unicode", "lang", "work.py:shout"]
        [pii]
        replace = true

    Raises:
        UsageError: If it cannot be read, or is not of this form.
    """
    found = read_toml(path)
    stages = found.pop("stages", None)
    if stages is not None and not (isinstance(stages, list) and all(isinstance(each, str) for each in stages)):
        raise UsageError(f"{os.fspath(path)}: stages must be a list of names")
    for name, value in found.items():
        if not isinstance(value, dict):
            raise UsageError(
                f"{os.fspath(path)}: {name!r} is no table of a stage's options: write [{name}] and lines below"
            )
    return stages, found


def with_settings(options: Mapping[str, Mapping[str, Any]], settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The options of stages with some set, each as "stage.option=value"; the value as in TOML, or text.

    Raises:
        UsageError: If one is not of this form.
    """
    found = {name: dict(given) for name, given in options.items()}
    for setting in settings:
        place, equals, text = setting.partition("=")
        stage, dot, name = place.rpartition(".")
        if not equals or not dot or not stage or not name:
            raise UsageError(f"{setting!r} sets no option: write STAGE.OPTION=VALUE, pii.replace=true for one")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        found.setdefault(stage, {})[name] = value
    return found
