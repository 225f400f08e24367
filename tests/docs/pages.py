"""Reads the documentation's pages: their Python, their headings, their links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: all pages, README first; those of other makers (CHANGELOG and the like) are only looked at for links
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+)(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?")
_MARK = re.compile(r"^ *<!-- (?P<word>no-run|needs: \w+) -->$")
_CONSOLE = re.compile(r"^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (?P<text>.+?)(?: \{#(?P<id>[\w.-]+)\})?$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CROSS_REFERENCE = re.compile(r"\]\[(?P<target>allcores[\w.]*)\]")


def name(page: Path) -> str:
    """A page as people call it, relative to the repository."""
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A fenced block.

    line: of its first line of code, from 1. mark: the word in the comment right above it, or None. title: of a file of
    its own, or of one of two programs that are compared; None of what belongs to the page's program.
    """

    line: int
    language: str
    code: str
    mark: str | None
    title: str | None = None

    @property
    def expected(self) -> str:
        """What it prints, as its lines `#> ` say (`# > ` where ruff lays out the code)."""
        return "".join(f"{line}\n" for line in re.findall(r"^ *# ?> ?(.*)$", self.code, re.MULTILINE))

    @property
    def included(self) -> str | None:
        """The file that stands here instead of code, if one does."""
        found = re.fullmatch(r'--8<-- "(.+)"', self.code.strip())
        return found[1] if found else None


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        number += 1
        if not fence:
            continue
        first = number
        while lines[number].strip() != fence["ticks"]:
            number += 1
        code = [line.removeprefix(fence["indent"]) for line in lines[first:number]]
        mark = _MARK.match(lines[first - 2]) if first > 1 else None
        yield Block(
            first + 1,
            fence["language"],
            "\n".join(code) + "\n",
            mark["word"] if mark else None,
            fence["title"],
        )
        number += 1


def script(parts: list[Block]) -> str:
    """Blocks one after the other, each on the lines that it has in its page: tracebacks then fit."""
    text = ""
    for block in parts:
        text += "\n" * (block.line - 1 - text.count("\n")) + block.code
    return text


def headings(page: Path) -> set[str]:
    """The anchors of a page, as mkdocs and GitHub make them."""
    found = set()
    inside = False
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        heading = None if inside else _HEADING.match(line)
        if heading:
            text = heading["text"].replace("`", "").lower()
            found.add(heading["id"] or re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", text).strip()))
    return found


def _prose(page: Path) -> str:
    """A page without its fenced blocks and its inline code."""
    lines = []
    inside = False
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            lines.append(re.sub(r"`[^`]*`", "code", line))
    return "\n".join(lines)


def links(page: Path) -> list[str]:
    """The targets of a page's links that stay inside this repository."""
    targets = [found["target"] for found in _LINK.finditer(_prose(page))]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def cross_references(page: Path) -> list[str]:
    """The names that a page refers to, to be found in the reference."""
    return [found["target"] for found in _CROSS_REFERENCE.finditer(_prose(page))]


def commands(page: str) -> list[tuple[str, str]]:
    """Each command with what the page says it prints ("" if it says nothing)."""
    listed: list[tuple[str, str]] = []
    for found in _CONSOLE.finditer(page):
        for line in found["text"].splitlines():
            if line.startswith("$ "):
                listed.append((line.removeprefix("$ "), ""))
            else:
                command, printed = listed.pop()
                listed.append((command, f"{printed}{line}\n"))
    return listed
