"""Inputs whose items are the paths of files: patterns, and folders, which stand for all files in them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from allcores.cli.exits import CommandError
from allcores.sources.base import Source
from allcores.sources.chain import Chain
from allcores.sources.file_names import all_inside
from allcores.sources.files import Files


def patterns_of(inputs: Sequence[str], asked: Mapping[str, Any]) -> tuple[str, ...]:
    """The patterns of all files in the folders among the inputs; none if there is no folder.

    Args:
        inputs: As they were given.
        asked: Options that say how files are read, by name, with what was given for them, or None.

    Raises:
        CommandError: Something else is to be read, too, or read in a way of its own.
    """
    folders = [name for name in inputs if os.path.isdir(name)]
    others = [name for name in inputs if name not in folders]
    if folders and others:
        raise CommandError(
            f"{folders[0]} is a folder, whose items are the paths of its files, and {others[0]} is read for its items:"
            " one kind at a time"
        )
    if folders:
        _check_not_read(
            asked,
            f"the items of {folders[0]}, a folder, are the paths of its files",
            os.path.join(folders[0], "*"),
        )
    return tuple(map(all_inside, folders))


def check_patterns(patterns: Sequence[str], asked: Mapping[str, Any]) -> None:
    """Raise CommandError if the files that match patterns (`--files`) are to be read in a way of their own, too."""
    _check_not_read(asked, "with --files items are the paths of files", patterns[0])


def _check_not_read(asked: Mapping[str, Any], what: str, names: str) -> None:
    for name, given in asked.items():
        if given is not None:
            raise CommandError(
                f"{name} says how files are read, and {what}: leave it out, or name the files ({names}, for the shell"
                " to expand)"
            )


def matching(patterns: Sequence[str]) -> Source[Any]:
    """The files that match, pattern by pattern. Raises BadInput if one matches none: found before anything runs."""
    parts = [Files(pattern) for pattern in patterns]
    for part in parts:
        with closing(iter(part)) as paths:
            next(paths)
    return parts[0] if len(parts) == 1 else Chain(parts)
