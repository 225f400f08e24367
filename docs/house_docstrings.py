"""Teaches the reference how docstrings are written here.

A docstring describes parameters and fields in lines of the form `name: what it is`, with what follows
indented. This turns such lines into the sections that mkdocstrings knows. Used by mkdocs.yml alone.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

#: "workers: how many", "setup, setup_args: run once"
_TERM = re.compile(r"^(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): (?P<text>.+)$")
_SECTIONS = ("Returns", "Raises", "Source")


def as_sections(text: str) -> str:
    """The docstring with lists in place of lines "name: text", "Raises: text" and drawings as they are."""
    out: list[str] = []
    inside = False
    for line in text.splitlines():
        term = _TERM.match(line)
        word = line.partition(":")[0]
        if term or (word in _SECTIONS and line != f"{word}:"):
            names = term["names"] if term else word
            rest = line.partition(": ")[2]
            label = ", ".join(f"`{name}`" for name in names.split(", ")) if term else f"**{word}**"
            if not inside:
                out.append("")
            out.append(f"- {label}: {rest}")
            inside = True
        elif inside and line.startswith("    "):
            out.append("  " + line.strip())
        else:
            if inside and line:
                out.append("")
            inside = False
            out.append(line)
    return "\n".join(out)


class HouseDocstrings(Extension):
    """Applied to every object that griffe loads."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = as_sections(obj.docstring.value)
