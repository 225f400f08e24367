"""The program's other files: where the functions are that one of its files imports and calls."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping

from allcores.advisor.profiling.sites import SourceFile, read_sources

#: files that are read besides those that were sampled, at most: more would take seconds
MOST_FILES = 200
#: names that stand for an import of another file, which stands for one, and so on
MOST_STEPS = 8

Found = tuple[SourceFile, ast.FunctionDef | ast.AsyncFunctionDef]


class ProgramFiles:
    """Finds functions by how a file of the program calls them. What is beside no file of it is a library, and not read.

    Args:
        sources: The files of the program that were read.
        paths: Others that are known to be the program's; they are read when they are asked for.
    """

    def __init__(self, sources: Mapping[str, SourceFile], paths: Iterable[str] = ()) -> None:
        self._sources: dict[str, SourceFile | None] = dict(sources)
        #: folder (none: those of the program) and module -> its file
        self._found: dict[tuple[str, str], SourceFile | None] = {}
        self._most = len(sources) + MOST_FILES
        self._folders = sorted({folder for path in (*sources, *paths) for folder in _folders_of(path)})

    def functions(self, source: SourceFile, called: ast.expr) -> list[Found]:
        """The functions of other files that an expression of this one may name.

        Args:
            source: The file that it stands in.
            called: `count` after `from words import count`, or `words.count` after `import words`.
        """
        if isinstance(called, ast.Name):
            return list(self._imported(source, called.id, MOST_STEPS))
        if isinstance(called, ast.Attribute) and (other := self._module(source, called.value)) is not None:
            return list(self._defined(other, called.attr, MOST_STEPS))
        return []

    def methods(self, source: SourceFile, name: str) -> list[Found]:
        """The methods of that name of classes that a file imports."""
        found: list[Found] = []
        for each in source.imported:
            for other, owner in self._classes(source, each, MOST_STEPS):
                found += [
                    (other, one)
                    for one in owner.body
                    if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name == name
                ]
        return found

    def classes(self, source: SourceFile, called: ast.expr) -> list[tuple[SourceFile, ast.ClassDef]]:
        """The classes of other files that an expression of this one may name; see `functions`."""
        if isinstance(called, ast.Name):
            return list(self._classes(source, called.id, MOST_STEPS))
        if isinstance(called, ast.Attribute) and (other := self._module(source, called.value)) is not None:
            return [(other, each) for each in other.definitions.classes.get(called.attr, ())]
        return []

    def _imported(self, source: SourceFile, name: str, steps: int) -> Iterator[Found]:
        imported = source.imported.get(name)
        other = None if imported is None else self._read(source, imported.module, imported.level)
        if imported is not None and other is not None and steps:
            yield from self._defined(other, imported.name, steps - 1)

    def _defined(self, source: SourceFile, name: str, steps: int) -> Iterator[Found]:
        own = [each for each in source.functions.get(name, ()) if each not in source.methods]
        if own:
            yield from ((source, each) for each in own)
        else:
            yield from self._imported(source, name, steps)

    def _classes(self, source: SourceFile, name: str, steps: int) -> Iterator[tuple[SourceFile, ast.ClassDef]]:
        imported = source.imported.get(name)
        other = None if imported is None else self._read(source, imported.module, imported.level)
        if imported is None or other is None or not steps:
            return
        own = [each for each in other.tree.body if isinstance(each, ast.ClassDef) and each.name == imported.name]
        if own:
            yield from ((other, each) for each in own)
        else:
            yield from self._classes(other, imported.name, steps - 1)

    def _module(self, source: SourceFile, node: ast.expr) -> SourceFile | None:
        """The file of a module that an expression names."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        if node.id in source.modules:
            return self._read(source, ".".join([source.modules[node.id], *parts]), 0)
        imported = source.imported.get(node.id)
        if imported is None:
            return None
        return self._read(source, ".".join([*filter(None, [imported.module]), imported.name, *parts]), imported.level)

    def _read(self, source: SourceFile, module: str, level: int) -> SourceFile | None:
        """The file of a module; None if it is none of the program's, or cannot be read."""
        folders = self._folders
        if level:
            folder = os.path.dirname(source.path)
            for _ in range(level - 1):
                folder = os.path.dirname(folder)
            folders = [folder]
        key = (folders[0] if level else "", module)
        if key not in self._found:
            self._found[key] = self._looked_for(folders, module.replace(".", os.sep))
        return self._found[key]

    def _looked_for(self, folders: list[str], place: str) -> SourceFile | None:
        for folder in folders:
            for path in (os.path.join(folder, f"{place}.py"), os.path.join(folder, place, "__init__.py")):
                path = os.path.normpath(path)
                if path in self._sources:
                    return self._sources[path]
                if len(self._sources) < self._most and os.path.isfile(path):
                    self._sources[path] = read_sources({path}).get(path)
                    return self._sources[path]
        return None


def _folders_of(path: str) -> Iterator[str]:
    """The folder of a file, and that which its outermost package is in."""
    folder = os.path.dirname(path)
    yield folder
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder = os.path.dirname(folder)
    yield folder
