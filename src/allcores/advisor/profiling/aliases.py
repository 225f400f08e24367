"""What else stands for an object, or holds it: who changes that by one name, changes what is read by another."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from allcores.advisor.profiling.libraries import changed_by_call
from allcores.advisor.profiling.names import meets, path_of
from allcores.advisor.profiling.sites import SourceFile


def changed_in_place(statements: Iterable[ast.stmt]) -> set[str]:
    """Names, and attributes of these, whose objects the statements change, and do not only name others."""
    found: set[str | None] = set()
    for each in (each for statement in statements for each in ast.walk(statement)):
        if isinstance(each, ast.Assign | ast.AugAssign):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            found |= {path_of(target) for target in targets if isinstance(target, ast.Subscript | ast.Attribute)}
        elif isinstance(each, ast.Call) and (changed := changed_by_call(each)) is not None:
            found.add(path_of(changed))
    return {each for each in found if each is not None}


def others(changed: set[str], owner: ast.AST, source: SourceFile) -> set[str]:
    """What changes with objects that are changed: by another name, as a part, or as what has them as a part.

    Args:
        changed: Names, and attributes of these.
        owner: The function in which they are changed.
        source: Its file.
    """
    same, holds = set(), set()
    for scope in {owner, source.tree}:
        for each in _assignments(scope):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            paths = [path for target in targets if not isinstance(target, ast.Subscript) and (path := path_of(target))]
            value = each.value
            if isinstance(value, ast.Name | ast.Attribute) and (path := path_of(value)):
                same |= {(one, path) for one in paths}
            elif not isinstance(value, ast.Constant):
                same |= {(paths[0], one) for one in paths[1:]}
            if value is not None:
                holds |= {(one, path) for one in paths for path in _held(value, source)}
    found = set(changed)
    while True:
        more = {one for pair in same for one, other in (pair, pair[::-1]) if meets(other, found)}
        more |= {holder for holder, held in holds if meets(held, found)}
        if more <= found:
            return found - changed
        found |= more


def _assignments(scope: ast.AST) -> Iterator[ast.Assign | ast.AnnAssign]:
    """Those of a function, or of a module, without those of functions in it."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        each = waiting.pop()
        if isinstance(each, ast.Assign | ast.AnnAssign):
            yield each
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(each)


def _held(value: ast.expr, source: SourceFile) -> set[str]:
    """What a value has as parts: the elements of a tuple, list or dictionary, and what an object is made with."""
    parts: list[ast.expr] = []
    if isinstance(value, ast.Tuple | ast.List):
        parts += value.elts
    elif isinstance(value, ast.Dict):
        parts += value.values
    elif isinstance(value, ast.Call):
        name = value.func.id if isinstance(value.func, ast.Name) else ""
        if name in source.definitions.classes or name in ("partial", "SimpleNamespace"):
            parts += [*value.args, *(word.value for word in value.keywords)]
    return {path for each in parts if isinstance(each, ast.Name | ast.Attribute) and (path := path_of(each))}
