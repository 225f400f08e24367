"""What an iteration gives back: whether it comes back from a worker, and as what it was."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeGuard

from allcores.advisor.profiling.libraries import called_name
from allcores.advisor.profiling.names import borrowed_in, is_part, root_of, stored_in, uses
from allcores.advisor.profiling.parts import returns_of, returns_part
from allcores.advisor.profiling.sites import SourceFile, name_of

#: methods and functions whose results do not pickle
_VIEWS = frozenset({"keys", "values", "items"})
_MATCHES = frozenset({"match", "search", "fullmatch", "finditer", "scanner"})
_UNPICKLABLE = frozenset(
    {
        "open", "iter", "memoryview", "Thread", "Process", "Lock", "RLock", "Event", "Condition", "Semaphore",
        "Barrier", "Popen", "socket", "create_connection", "cursor", "submit", "apply_async", "reader", "writer",
        "DictReader",         "DictWriter", "NamedTemporaryFile", "TemporaryFile", "mmap", "create_task",
        "ensure_future", "scandir", "Timer",
        "iterdir", "rglob",
    }
)  # fmt: skip
_Function = ast.FunctionDef | ast.AsyncFunctionDef
#: types whose objects cannot be changed
_VALUES = frozenset({"int", "float", "bool", "complex", "str", "bytes", "NoneType", "range"})
#: so many functions are followed from one to the next
_MOST_STEPS = 4


@dataclass(frozen=True)
class Copies:
    """Says whether what iterations give back is as good as it would be without workers.

    Attributes:
        source: The file.
        shared: Workers are threads: nothing is copied.
        kind: Gives what was seen of a name: its type, and that of an item of it; None for what was not seen.
    """

    source: SourceFile
    shared: bool
    kind: Callable[[str], tuple[str, str | None] | None]

    def are_good(self, values: Sequence[ast.expr], body: Sequence[ast.stmt], targets: Set[str]) -> bool:
        """Whether values can be copied, and are as good where they are.

        Args:
            values: Expressions at the end of a body.
            body: What is done before.
            targets: Names of the items.
        """
        own = stored_in(body) | targets
        functions = {each.name: each for one in body for each in ast.walk(one) if isinstance(each, _Function)}
        expressions = list(_stood_for(values, body))
        if any(_is_bound_late(each, own, functions) for each in expressions):
            return False
        if self.shared:
            return True
        if any(_does_not_pickle(each, self.source, _MOST_STEPS) for each in expressions):
            return False
        if any(_is_told_by_identity(each, self.source, _MOST_STEPS) for each in expressions):
            return False
        return not self._is_of_outside(values, body, targets)

    def _is_of_outside(self, values: Iterable[ast.expr], body: Sequence[ast.stmt], targets: Set[str]) -> bool:
        """Whether one of these may be a part of something that is there before, and can be changed."""
        gives = returns_part(self.source)
        fresh = (stored_in(body) | targets) - borrowed_in(body, targets, gives)
        for each in (member for value in values for member in _members(value)):
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name):
                if gives(each, fresh) and _names_returned(each, self.source):
                    return True
            elif is_part(each, fresh) and not self._is_value(each, body):
                return True
        return False

    def _is_enum(self, name: str) -> bool:
        bases = [name_of(base) or "" for each in self.source.definitions.classes.get(name, ()) for base in each.bases]
        return any("Enum" in each or "Flag" in each for each in bases)

    def _is_value(self, part: ast.expr, body: Sequence[ast.stmt]) -> bool:
        """Whether a part of something is known to be a number, a text or the like."""
        root = root_of(part) or ""
        if root in self.source.modules or (isinstance(part, ast.Attribute) and self._is_enum(root)):
            return True
        seen = self.kind(root)
        if seen is not None:
            kind = seen[0] if isinstance(part, ast.Name) else seen[1]
            return kind in _VALUES
        if not isinstance(part, ast.Name):
            return False
        inner = [each.value for one in body for each in ast.walk(one) if _stores(each, root)]
        if inner:
            return all(each is not None and root_of(each) != root and self._is_value(each, body) for each in inner)
        given = [each.value for each in ast.walk(self.source.tree) if _stores(each, root)]
        return bool(given) and all(isinstance(each, ast.Constant) for each in given)


def _stores(node: ast.AST, name: str) -> TypeGuard[ast.Assign]:
    return isinstance(node, ast.Assign) and name in stored_in(node.targets)


def _names_returned(call: ast.Call, source: SourceFile) -> bool:
    """Whether what a function returns is called by a name: what it takes out of a table is a number, as a rule."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    return any(
        isinstance(each.value, ast.Name | ast.IfExp)
        for function in source.functions.get(name, ())
        for each in returns_of(function.body)
    )


def _stood_for(values: Iterable[ast.expr], body: Sequence[ast.stmt]) -> Iterator[ast.expr]:
    """Expressions, and what is stored by the names that they are."""
    stored: dict[str, list[ast.expr]] = {}
    for each in (each for statement in body for each in ast.walk(statement)):
        if isinstance(each, ast.Assign):
            for target in each.targets:
                if isinstance(target, ast.Name):
                    stored.setdefault(target.id, []).append(each.value)
        elif isinstance(each, ast.AnnAssign | ast.NamedExpr) and isinstance(each.target, ast.Name) and each.value:
            stored.setdefault(each.target.id, []).append(each.value)
        elif isinstance(each, ast.withitem) and isinstance(each.optional_vars, ast.Name):
            stored.setdefault(each.optional_vars.id, []).append(each.context_expr)
    waiting = [member for value in values for member in _members(value)]
    seen: set[str] = set()
    while waiting:
        each = waiting.pop()
        yield each
        if isinstance(each, ast.Name) and each.id not in seen:
            seen.add(each.id)
            waiting += [member for value in stored.get(each.id, ()) for member in _members(value)]


def _members(value: ast.expr) -> Iterator[ast.expr]:
    """What a value is made of, if it is a tuple, list, dictionary or choice; else itself."""
    parts: list[ast.expr | None] = []
    if isinstance(value, ast.Tuple | ast.List | ast.Set):
        parts += value.elts
    elif isinstance(value, ast.Dict):
        parts += [*value.keys, *value.values]
    elif isinstance(value, ast.IfExp):
        parts += [value.body, value.orelse]
    elif isinstance(value, ast.BoolOp):
        parts += value.values
    elif isinstance(value, ast.ListComp | ast.SetComp):
        parts.append(value.elt)
    elif isinstance(value, ast.DictComp):
        parts += [value.key, value.value]
    elif isinstance(value, ast.NamedExpr | ast.Starred):
        parts.append(value.value)
    else:
        yield value
        return
    for each in parts:
        if each is not None:
            yield from _members(each)


def _does_not_pickle(value: ast.expr, source: SourceFile, steps: int) -> bool:
    if isinstance(value, ast.GeneratorExp):
        return True
    if not isinstance(value, ast.Call) or not steps:
        return False
    name = called_name(value)
    functions = source.functions.get(name, ())
    for function in functions:
        if any(isinstance(each, ast.Yield | ast.YieldFrom) for each in _own_nodes(function)):
            return True
        found = [each.value for each in returns_of(function.body) if each.value is not None]
        if any(_does_not_pickle(each, source, steps - 1) for each in _stood_for(found, function.body)):
            return True
    if functions or name in source.definitions.classes:
        return False
    if isinstance(value.func, ast.Attribute) and name in _VIEWS and not value.args:
        return True
    if name in _MATCHES:
        known = {*source.modules.values(), *(each.module for each in source.imported.values())}
        return not {"re", "regex"}.isdisjoint(known)
    return name in _UNPICKLABLE


def _own_nodes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        each = waiting.pop()
        yield each
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(each)


def _is_told_by_identity(value: ast.expr, source: SourceFile, steps: int) -> bool:
    """Whether it may be `MISSING`, say, which is an `object()`: of a worker it is another one."""
    if isinstance(value, ast.Name):
        return value.id in source.definitions.sentinels
    if not isinstance(value, ast.Call) or not steps:
        return False
    for function in source.functions.get(called_name(value), ()):
        found = [each.value for each in returns_of(function.body) if each.value is not None]
        if any(_is_told_by_identity(each, source, steps - 1) for each in _stood_for(found, function.body)):
            return True
    return False


def _is_bound_late(value: ast.expr, own: Set[str], functions: Mapping[str, ast.AST]) -> bool:
    """Whether it is a function that reads names of the iteration once it is called: those of the last one then."""
    made = functions.get(value.id) if isinstance(value, ast.Name) else value if isinstance(value, ast.Lambda) else None
    return made is not None and any(name.id in own and isinstance(name.ctx, ast.Load) for name in uses([made]))
