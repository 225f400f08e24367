"""Places in a program's source where a map could stand: for loops, comprehensions, `map`, `apply` of a frame."""

from __future__ import annotations

import ast
import contextlib
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from allcores.advisor.profiling.definitions import Definitions
from allcores.advisor.profiling.libraries import dotted
from allcores.advisor.profiling.records import Place

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

#: a function has so many further names in turn, at most: `one = work; other = one`
_MOST_ALIASES = 5
_NAMES = {
    ast.ListComp: "<listcomp>",
    ast.SetComp: "<setcomp>",
    ast.DictComp: "<dictcomp>",
    ast.GeneratorExp: "<genexpr>",
}
#: methods of frames and series that call a function for each row, column, value or group
_APPLY = frozenset({"apply", "map", "applymap"})
#: folders of the libraries whose `apply` it is
_FRAMES = ("/pandas/", "/polars/")
#: since this version a list, set or dict comprehension has no frame of its own
_INLINED = (3, 12)


@dataclass(frozen=True, eq=False)
class Site:
    """A loop or call that could be a map.

    `kind` is "for loop", "comprehension", "map" or "apply". `function` is the qualified name of the function it is in,
    "<module>" for none. `depth` counts the sites around it in that function.
    """

    file: str
    kind: str
    node: ast.For | Comprehension | ast.Call
    function: str
    owner: Function | ast.Module
    depth: int

    @property
    def line(self) -> int:
        """The line it begins on."""
        return self.node.lineno

    @property
    def end_line(self) -> int:
        """The line it ends on."""
        return self.node.end_lineno or self.node.lineno

    @property
    def iterable(self) -> ast.expr | None:
        """What it takes its items from."""
        if isinstance(self.node, ast.For):
            return self.node.iter
        if isinstance(self.node, ast.Call):
            if self.kind == "map":
                return self.node.args[1]
            return self.node.func.value if isinstance(self.node.func, ast.Attribute) else None
        return self.node.generators[0].iter

    def holds(self, line: int, inner: Place | None) -> bool:
        """Whether a frame of its function at `line` (which called `inner`) is within one of its iterations."""
        if isinstance(self.node, ast.For):
            last = self.node.body[-1]
            first = self.node.body[0].lineno
            return first <= line <= (last.end_lineno or last.lineno)
        if not self.line <= line <= self.end_line:
            return False
        if self.kind == "apply":  # or something else has a method of that name
            return inner is not None and any(each in inner.code.file for each in _FRAMES)
        return self.kind == "comprehension" or inner is not None


@dataclass(frozen=True, slots=True)
class Imported:
    """What a name was imported as: a name of a module, which stands so many folders up (0: it is absolute)."""

    module: str
    name: str
    level: int = 0


@dataclass
class _Scope:
    """A function (or the module, or a comprehension with a frame of its own) and its sites, outer ones first."""

    sites: list[Site] = field(default_factory=list)
    #: comprehensions that have no frame of their own in newer versions
    inlined: list[Site] = field(default_factory=list)


class SourceFile:
    """The sites of one file of a program.

    Args:
        path: Of the file.

    Raises:
        OSError, SyntaxError, UnicodeDecodeError, ValueError: If it cannot be read, or is no Python.
        RecursionError, MemoryError: If it is nested more deeply than Python itself reads.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with tokenize.open(path) as file:
            self.text = file.read()
            #: what its lines end with; where that differs from line to line, what those of `text` do
            self.newline = "\r\n" if file.newlines == "\r\n" else "\n"
        self.tree = ast.parse(self.text, path)
        #: by name: several classes may have a method of one name
        self.functions: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}
        self.methods: set[ast.AST] = set()
        #: names of modules, and the modules
        self.modules: dict[str, str] = {}
        #: names that were imported from a module
        self.imported: dict[str, Imported] = {}
        #: functions and methods by other names that they are given (`work = self.step`), and whether with arguments
        self.aliases: dict[str, list[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]] = {}
        #: names that are given an attribute (`add = rows.append`)
        self.bound: dict[str, list[ast.Attribute]] = {}
        #: first and last line of what `while` turns again and again
        self._turns: list[tuple[int, int]] = []
        for each in ast.walk(self.tree):
            if isinstance(each, ast.While):
                self._turns.append((each.lineno, each.body[-1].end_lineno or each.lineno))
            elif isinstance(each, ast.ClassDef):
                self.methods |= {one for one in each.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
            elif isinstance(each, ast.Import):
                for name in each.names:
                    first = name.name.partition(".")[0]
                    self.modules[name.asname or first] = name.name if name.asname else first
            elif isinstance(each, ast.ImportFrom):
                for name in each.names:
                    self.imported[name.asname or name.name] = Imported(each.module or "", name.name, each.level)
        self._scopes: dict[tuple[int, str], _Scope] = {}
        module = self._scopes.setdefault((1, "<module>"), _Scope())
        for statement in self.tree.body:
            with contextlib.suppress(RecursionError):  # nested very deeply, as a sum of a thousand texts is: left out
                self._visit(statement, module, "<module>", self.tree, 0)
        self._find_aliases()

    def _find_aliases(self) -> None:
        given: list[tuple[str, str, bool, bool]] = []
        for each in ast.walk(self.tree):
            if not isinstance(each, ast.Assign | ast.AnnAssign | ast.NamedExpr) or each.value is None:
                continue
            value, has_arguments = each.value, False
            if isinstance(value, ast.Call) and name_of(value.func) == "partial" and value.args:
                value, has_arguments = value.args[0], True
            if (called := name_of(value)) is None:
                continue
            for target in each.targets if isinstance(each, ast.Assign) else (each.target,):
                name = name_of(target)
                if isinstance(target, ast.Name) and isinstance(value, ast.Attribute):
                    self.bound.setdefault(target.id, []).append(value)
                if name is not None and name != called:
                    given.append((name, called, isinstance(value, ast.Attribute), has_arguments))
        for _ in range(_MOST_ALIASES):  # one may be given to another
            found = False
            for name, called, is_attribute, has_arguments in given:
                known = self.aliases.setdefault(name, [])
                more = [
                    (function, has_arguments)
                    for function in self.functions.get(called, ())
                    if (function in self.methods) == is_attribute
                ]
                more += [(function, has or has_arguments) for function, has in self.aliases.get(called, ())]
                fresh = [each for each in more if each not in known]
                known += fresh
                found = found or bool(fresh)
            if not found:
                break

    @cached_property
    def definitions(self) -> Definitions:
        """What it defines besides functions by their names."""
        return Definitions(self.tree)

    def is_import(self, name: str) -> bool:
        """Whether a name stands for a module, or for something in one."""
        return name in self.modules or name in self.imported

    def full_name(self, node: ast.expr) -> str:
        """What an expression names, with the module that it is from (`os.path.join`); empty if it is from none."""
        first, _, rest = dotted(node).partition(".")
        if first in self.modules:
            return f"{self.modules[first]}.{rest}" if rest else self.modules[first]
        imported = self.imported.get(first)
        if imported is None or imported.level:
            return ""
        return ".".join(filter(None, [imported.module, imported.name, rest]))

    def sites(self) -> Iterator[Site]:
        """Each site of the file."""
        for scope in self._scopes.values():
            yield from scope.sites

    def in_while(self, line: int) -> bool:
        """Whether a line is in a `while`: how often that turns cannot be read."""
        return any(first <= line <= last for first, last in self._turns)

    def around(self, place: Place, inner: Place | None, python: tuple[int, int]) -> list[Site]:
        """The sites that a frame is in, outer ones first.

        Args:
            place: The frame.
            inner: The frame that it called, if any.
            python: Version that ran it.
        """
        name = place.code.name.rpartition(".")[2]
        scope = self._scopes.get((place.code.first_line if name != "<module>" else 1, name))
        if scope is None:
            return []
        if name in ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"):
            return scope.sites  # it has this frame for its iterations alone
        sites = scope.sites + (scope.inlined if python >= _INLINED else [])
        return sorted((site for site in sites if site.holds(place.line, inner)), key=lambda site: site.depth)

    def _fill(self, node: ast.AST, scope: _Scope, function: str, owner: Function | ast.Module, depth: int) -> None:
        for child in ast.iter_child_nodes(node):
            self._visit(child, scope, function, owner, depth)

    def _visit(self, node: ast.AST, scope: _Scope, function: str, owner: Function | ast.Module, depth: int) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
            first = node.lineno
            if not isinstance(node, ast.Lambda):
                first = min([first, *(each.lineno for each in node.decorator_list)])
                self.functions.setdefault(name, []).append(node)
            whole = name if function == "<module>" else f"{function}.{name}"
            self._fill(node, self._scopes.setdefault((first, name), _Scope()), whole, node, 0)
        elif isinstance(node, ast.ClassDef):
            inner = self._scopes.setdefault((node.lineno, node.name), _Scope())
            self._fill(node, inner, node.name if function == "<module>" else f"{function}.{node.name}", self.tree, 0)
        elif isinstance(node, ast.For):
            scope.sites.append(Site(self.path, "for loop", node, function, owner, depth))
            self._visit(node.iter, scope, function, owner, depth)
            for statement in node.body:
                self._visit(statement, scope, function, owner, depth + 1)
            for statement in node.orelse:
                self._visit(statement, scope, function, owner, depth)
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            site = Site(self.path, "comprehension", node, function, owner, depth)
            own = self._scopes.setdefault((node.lineno, _NAMES[type(node)]), _Scope())
            own.sites.append(site)
            if not isinstance(node, ast.GeneratorExp):
                scope.inlined.append(site)
            self._fill(node, own, function, owner, depth + 1)
        else:
            if isinstance(node, ast.Call) and (kind := _kind_of_call(node)):
                scope.sites.append(Site(self.path, kind, node, function, owner, depth))
            self._fill(node, scope, function, owner, depth)


def name_of(node: ast.expr) -> str | None:
    """The last name of an expression that is one, or an attribute."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _kind_of_call(call: ast.Call) -> str | None:
    if isinstance(call.func, ast.Name) and call.func.id == "map" and len(call.args) == 2:
        return "map"
    if isinstance(call.func, ast.Attribute) and call.func.attr in _APPLY and call.args:
        return "apply" if isinstance(call.args[0], ast.Name | ast.Lambda | ast.Attribute) else None
    return None


def read_sources(files: set[str]) -> dict[str, SourceFile]:
    """The files that can be read and parsed."""
    found = {}
    for file in sorted(files):
        try:
            if Path(file).is_file():
                found[file] = SourceFile(file)
        except (OSError, SyntaxError, UnicodeDecodeError, ValueError, RecursionError, MemoryError):
            continue
    return found
