"""What an expression is a part of, also through functions of the program that return a part of what they know."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence, Set

from allcores.advisor.profiling.libraries import called_name
from allcores.advisor.profiling.names import borrowed_in, gives_part, is_part, root_of, stored_in
from allcores.advisor.profiling.sites import SourceFile

_Function = ast.FunctionDef | ast.AsyncFunctionDef

#: functions of the program that an iteration calls, and that these call, at most
_MOST_FUNCTIONS = 50
#: built-in functions that give names and what they stand for
_NAMES = frozenset({"globals", "locals", "vars"})


def base_of(node: ast.expr, source: SourceFile) -> str | None:
    """The name of what an expression is a part of, also through calls that give a part; None for what is new."""
    while True:
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if not gives_part(node.func.attr) and not returns_part(source)(node, frozenset()):
                return None
            node = node.func.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name == "getattr" and node.args:
                node = node.args[0]
            elif (name in _NAMES and name not in source.functions) or returns_part(source)(node, frozenset()):
                return f"{name}()"
            else:
                return None
        else:
            return node.id if isinstance(node, ast.Name) else None


def returns_part(source: SourceFile) -> Callable[[ast.Call, Set[str]], bool]:
    """Whether a call of a function of a file gives a part of what is outside, said by names that are not."""

    def gives(call: ast.Call, fresh: Set[str]) -> bool:
        return any(_gives(function, call, fresh, bound) for function, bound in _named(call.func, source))

    return gives


def _named(called: ast.expr, source: SourceFile) -> Iterator[tuple[_Function, bool]]:
    """Functions that an expression may name, and whether they are methods."""
    if isinstance(called, ast.Name):
        yield from ((each, False) for each in source.functions.get(called.id, ()) if each not in source.methods)
    elif isinstance(called, ast.Attribute) and root_of(called) not in source.modules:
        yield from ((each, True) for each in source.functions.get(called.attr, ()) if each in source.methods)


def _gives(function: _Function, call: ast.Call, fresh: Set[str], is_method: bool) -> bool:
    parameters = [each.arg for each in function.args.posonlyargs + function.args.args]
    named = [each.arg for each in function.args.kwonlyargs]
    bound = parameters[:1] if is_method and not is_static(function) else []
    outside = given_from_outside(parameters[len(bound) :], named, call, set(fresh))
    if isinstance(call.func, ast.Attribute) and root_of(call.func.value) not in fresh:
        outside |= set(bound)
    inside = {*parameters, *named} - outside
    own = (stored_in(function.body) | inside) - borrowed_in(function.body, inside)
    return any(each.value is not None and is_part(each.value, own) for each in returns_of(function.body))


def returns_of(statements: list[ast.stmt]) -> Iterator[ast.Return]:
    """What a function returns, without those in it."""
    waiting: list[ast.AST] = list(statements)
    while waiting:
        each = waiting.pop()
        if isinstance(each, ast.Return):
            yield each
        elif not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(each)


def is_static(function: _Function) -> bool:
    """Whether a method is called without an object."""
    return any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in function.decorator_list)


def given_from_outside(parameters: list[str], named: list[str], call: ast.Call, local: set[str]) -> set[str]:
    """The parameters that a call gives what is outside of the iteration, or a part of it."""

    def is_outside(argument: ast.expr) -> bool:
        name = root_of(argument)
        return name is not None and name not in local

    found = {parameter for parameter, each in zip(parameters, call.args, strict=False) if is_outside(each)}
    if any(isinstance(each, ast.Starred) for each in call.args):
        found |= set(parameters)
    for word in call.keywords:
        if word.arg is None:
            found |= {*parameters, *named}
        elif is_outside(word.value):
            found.add(word.arg)
    return found


def called_functions(parts: Sequence[ast.AST], source: SourceFile) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of the file that these parts call, and those that these call."""
    found: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    waiting = list(parts)
    while waiting and len(found) < _MOST_FUNCTIONS:
        for each in ast.walk(waiting.pop()):
            if isinstance(each, ast.Call):
                names = {called_name(each), *(one.id for one in each.args if isinstance(one, ast.Name))}
            elif isinstance(each, ast.Name):
                names = {each.id} if each in parts else set()  # the function of a map
            else:
                continue
            fresh = [one for name in names for one in source.functions.get(name, ()) if one not in found]
            found += fresh
            waiting += fresh
    return found
