"""What rows call the files that they are from: no two inputs of a run have one name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from allcores.nlp.records import well_formed
from allcores.sources.compression import without_compression
from allcores.sources.text import STDIN


def file_names(paths: Sequence[str]) -> list[str]:
    """What rows call each of some files: its name, and as many of its folders as it takes to tell it from another.

    Ids of messages that have none of their own begin with it, so that two inputs must not have it in common. Those
    that differ in their compression alone, or are given twice, get numbers: `chat.jsonl#2`. The names do not depend
    on the folder in which the program runs, for a run may go on in another.
    """
    parts = [_parts(path) for path in paths]
    names = [each[-1] for each in parts]
    found: dict[int, str] = {}
    open_ones = set(range(len(parts)))
    for depth in range(1, max(map(len, parts), default=0) + 1):
        counts = Counter(each[-depth:] for each in parts)
        for number in [each for each in open_ones if counts[parts[each][-depth:]] == 1]:
            found[number] = "/".join(parts[number][-depth:])
            open_ones.discard(number)
        if not open_ones:
            break
    return _numbered([found.get(number, name) for number, name in enumerate(names)])


def _parts(path: str) -> tuple[str, ...]:
    """Folders and name. What a file is called may be no text; what is written has to be."""
    if path == STDIN:
        return ("stdin",)
    return tuple(well_formed(os.path.abspath(without_compression(path))).replace(os.sep, "/").split("/"))


def _numbered(names: Sequence[str]) -> list[str]:
    """The names, of which those that were there already get a number."""
    given, seen, found = set(names), set[str](), []
    for name in names:
        number, unique = 1, name
        while unique in seen or (number > 1 and unique in given):
            number += 1
            unique = f"{name}#{number}"
        seen.add(unique)
        found.append(unique)
    return found
