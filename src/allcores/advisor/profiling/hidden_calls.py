"""Functions of the program that run without being named in a call: of classes and operators, and those as values."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from allcores.advisor.profiling.libraries import is_builtin
from allcores.advisor.profiling.names import root_of
from allcores.advisor.profiling.program_files import Found, ProgramFiles
from allcores.advisor.profiling.sites import SourceFile

#: a function of the program that runs, its file, how it is called if that is known, and whether its object is outside
Run = tuple[SourceFile, ast.FunctionDef | ast.AsyncFunctionDef, ast.Call | None, bool]


def run_by(node: ast.AST, source: SourceFile, own: set[str], files: ProgramFiles | None) -> Iterator[Run]:
    """The functions that a node runs besides those that a call of it names: of classes, and those that are values."""
    known = source.definitions
    if isinstance(node, ast.Call):
        yield from ((file, function, node, False) for file, function in _constructors(node.func, source, files))
        if _is_unknown(node.func, source):
            most = len(node.args) + len(node.keywords)
            for function in known.given:
                if _takes(function, most, function in source.methods):
                    # An object that it may be bound to is outside.
                    yield source, function, node, True
            yield from ((source, function, node, True) for function in known.special.get("__call__", ()))
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        outside = root_of(node) not in (None, *own)
        yield from ((source, function, None, outside) for function in known.properties.get(node.attr, ()))
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        outside = root_of(node) not in (None, *own)
        for name in ("__getitem__", "__missing__"):
            yield from ((source, function, None, outside) for function in known.special.get(name, ()))
    elif isinstance(node, ast.Compare) and any(isinstance(each, ast.In | ast.NotIn) for each in node.ops):
        outside = root_of(node.comparators[-1]) not in (None, *own)
        yield from ((source, function, None, outside) for function in known.special.get("__contains__", ()))
    elif isinstance(node, ast.withitem):
        outside = root_of(node.context_expr) not in (None, *own)
        for name in ("__enter__", "__exit__"):
            yield from ((source, function, None, outside) for function in known.special.get(name, ()))


def _constructors(called: ast.expr, source: SourceFile, files: ProgramFiles | None) -> Iterator[Found]:
    """What a call of a class runs, and what its fields are made by."""
    found: list[tuple[SourceFile, ast.ClassDef]] = []
    if isinstance(called, ast.Name):
        found += ((source, each) for each in source.definitions.classes.get(called.id, ()))
    if files is not None and not found:
        found += files.classes(source, called)
    for file, owner in found:
        yield from ((file, function) for function in file.definitions.constructors(owner))


def _is_unknown(called: ast.expr, source: SourceFile) -> bool:
    """Whether nothing says which function is called: it is a value (`handlers[kind](x)`)."""
    if isinstance(called, ast.Name):
        return not (
            called.id in source.functions
            or called.id in source.definitions.classes
            or called.id in source.bound
            or source.is_import(called.id)
            or is_builtin(called.id)
        )
    if isinstance(called, ast.Attribute):
        return called.attr in source.definitions.attributes and called.attr not in source.functions
    return isinstance(called, ast.Subscript | ast.Call)


def _takes(function: ast.FunctionDef | ast.AsyncFunctionDef, count: int, is_method: bool) -> bool:
    """Whether a function may be called with so many arguments."""
    arguments = function.args
    most = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - is_method
    least = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults) - is_method
    return least <= count <= most or arguments.vararg is not None or arguments.kwarg is not None
