"""What a file defines besides functions by their names: classes, operators, properties, functions as values."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef

#: what the operations of a syntax tree run of a class
OPERATORS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Call: ("__call__",),
    ast.Subscript: ("__getitem__", "__missing__"),
    ast.In: ("__contains__",),
    ast.NotIn: ("__contains__",),
    ast.For: ("__iter__", "__next__"),
    ast.comprehension: ("__iter__", "__next__"),
    ast.With: ("__enter__", "__exit__"),
    ast.LShift: ("__lshift__",),
    ast.RShift: ("__rshift__",),
    ast.BitOr: ("__or__",),
}
_PROPERTIES = frozenset({"property", "cached_property"})


class Definitions:
    """Of one file.

    Args:
        tree: The file.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.classes: dict[str, list[ast.ClassDef]] = {}
        #: methods that an operator runs, and those that stand for an attribute, by name
        self.special: dict[str, list[Function]] = {}
        self.properties: dict[str, list[Function]] = {}
        #: attributes that are given a value
        self.attributes: set[str] = set()
        #: names that stand for a value which is known by what it is, and not by what it holds (`MISSING = object()`)
        self.sentinels: set[str] = set()
        #: attributes that are read anywhere
        self.asked: set[str] = set()
        functions: dict[str, list[Function]] = {}
        for each in ast.walk(tree):
            if isinstance(each, ast.ClassDef):
                self.classes.setdefault(each.name, []).append(each)
                self._add_methods(each)
            elif isinstance(each, Function):
                functions.setdefault(each.name, []).append(each)
            elif isinstance(each, ast.Attribute):
                (self.asked if isinstance(each.ctx, ast.Load) else self.attributes).add(each.attr)
            elif (
                isinstance(each, ast.Assign)
                and isinstance(each.value, ast.Call)
                and isinstance(each.value.func, ast.Name)
                and each.value.func.id == "object"
            ):
                self.sentinels |= {target.id for target in each.targets if isinstance(target, ast.Name)}
        #: functions that stand as values somewhere: what is not called by its name may be one of them
        self.given: list[Function] = []
        self._find_given(tree, functions)

    def _find_given(self, tree: ast.Module, functions: dict[str, list[Function]]) -> None:
        called: set[ast.AST] = set()
        for each in ast.walk(tree):
            if isinstance(each, Function):
                called |= set(each.decorator_list)
                if any(_last_name(one) in functions for one in each.decorator_list):
                    self.given.append(each)
            elif isinstance(each, ast.Call):
                called.add(each.func)
                if not _may_keep(each.func, functions, self.classes):
                    called |= {*each.args, *(word.value for word in each.keywords)}
        for each in ast.walk(tree):
            if not isinstance(each, ast.Name | ast.Attribute) or not isinstance(each.ctx, ast.Load) or each in called:
                continue
            name = each.id if isinstance(each, ast.Name) else each.attr
            self.given += (one for one in functions.get(name, ()) if one not in self.given)
        for begin in {begin for each in ast.walk(tree) if (begin := _begin_of_name(each)) is not None}:
            more = [one for name, found in functions.items() if _may_be(name, begin) for one in found]
            self.given += (one for one in more if one not in self.given)

    def _add_methods(self, owner: ast.ClassDef) -> None:
        operators = {name for names in OPERATORS.values() for name in names}
        for each in owner.body:
            if not isinstance(each, Function):
                continue
            if each.name in operators:
                self.special.setdefault(each.name, []).append(each)
            if any(_last_name(one) in _PROPERTIES for one in each.decorator_list):
                self.properties.setdefault(each.name, []).append(each)

    def constructors(self, owner: ast.ClassDef) -> Iterator[Function]:
        """What a call of a class runs: of it, and of those of the file that it is derived from."""
        waiting, seen = [owner], {owner}
        while waiting:
            one = waiting.pop()
            for each in one.body:
                if isinstance(each, Function) and each.name in ("__init__", "__new__", "__post_init__"):
                    yield each
            for base in one.bases:
                for more in self.classes.get(_last_name(base) or "", ()):
                    if more not in seen:
                        seen.add(more)
                        waiting.append(more)

    def fields(self, owner: ast.ClassDef) -> Iterator[ast.expr]:
        """What is called for the fields of a dataclass that are not given."""
        for each in owner.body:
            if isinstance(each, ast.AnnAssign | ast.Assign) and isinstance(each.value, ast.Call):
                yield from (word.value for word in each.value.keywords if word.arg in ("default_factory", "factory"))


def _begin_of_name(node: ast.AST) -> str | None:
    """How a name begins that is known when it is looked for (`getattr(self, "visit_" + kind)`); None for no such."""
    if not isinstance(node, ast.Call) or _last_name(node) != "getattr" or len(node.args) < 2:
        return None
    name = node.args[1]
    while isinstance(name, ast.BinOp):
        name = name.left
    if isinstance(name, ast.JoinedStr):
        name = name.values[0] if name.values else name
    if isinstance(name, ast.Constant):
        return str(name.value) if name is not node.args[1] else None
    return ""


def _may_be(name: str, begin: str) -> bool:
    return name.startswith(begin) and (bool(begin) or not name.startswith("__"))


def _last_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Call):
        node = node.func
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _may_keep(function: ast.expr, functions: dict[str, list[Function]], classes: dict[str, list[ast.ClassDef]]) -> bool:
    """Whether what is called may hand a function that it gets on to the program: libraries call it themselves."""
    if isinstance(function, ast.Name):
        return not hasattr(builtins, function.id) or function.id in functions or function.id in classes
    return not isinstance(function, ast.Attribute) or function.attr in functions or function.attr in _KEEPING


#: methods that store what they get
_KEEPING = frozenset({"append", "add", "insert", "setdefault", "update", "extend", "put", "register"})
