"""What docstrings, comments and pages name as `Class.member` is there: a rename leaves none of them behind."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT

SOURCE = ROOT / "src/allcores"
_NAMED = re.compile(r"`(?P<owner>[A-Z]\w*)\.(?P<member>\w+)(?:\(\))?`")
#: it has the old names
GLOSSARY = ROOT / "docs/glossary.md"
#: classes of Python that have the name of one of ours
OF_PYTHON = {("docs/howto/reduce.md", "Counter.update")}
#: bases that add no names of their own
PLAIN = {"object", "Protocol", "NamedTuple", "Generic", "TypedDict", "Enum"}


@functools.cache
def classes() -> dict[str, list[tuple[set[str], set[str]]]]:
    """By name, of each class that is called so: the names of its members, and of its bases."""
    found: dict[str, list[tuple[set[str], set[str]]]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
                found.setdefault(node.name, []).append((set(members(node)), bases - PLAIN))
    return found


def members(owner: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(owner):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def has(owner: str, member: str) -> bool:
    """Whether a class has such a member, or one of its bases is none of ours, which may have it."""
    for own, bases in classes()[owner]:
        if member in own or any(base not in classes() or has(base, member) for base in bases):
            return True
    return False


def texts() -> Iterator[tuple[str, str]]:
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path != GLOSSARY]
    for path in (*SOURCE.rglob("*.py"), *pages, ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        yield Path(path).relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_members_that_are_named_exist() -> None:
    """A reader who looks for one finds it."""
    named = [(file, found["owner"], found["member"]) for file, text in texts() for found in _NAMED.finditer(text)]
    ours = [each for each in named if each[1] in classes()]
    assert len(ours) > 100
    missing = {(file, f"{owner}.{member}") for file, owner, member in ours if not has(owner, member)}
    assert missing == OF_PYTHON
