"""What statements and calls change besides names of their own. Functions and methods of the program are followed."""

from __future__ import annotations

import ast
import contextvars
from collections.abc import Iterator, Set
from contextlib import contextmanager

from allcores.advisor.profiling.names import borrowed_in, declared_in, root_of, stored_in
from allcores.advisor.profiling.program_files import ProgramFiles
from allcores.advisor.profiling.sites import SourceFile

#: methods that change what they are called on
MUTATORS = frozenset(
    {
        "append", "extend", "add", "update", "insert", "pop", "popleft", "appendleft", "remove", "discard", "clear",
        "setdefault", "sort", "reverse", "write", "writelines", "writerow", "writerows", "put", "send", "sendall",
        "execute", "executemany", "commit", "seek", "read", "readline", "flush", "shuffle", "popitem",
    }
)  # fmt: skip
#: functions with effects outside of the process' memory, or on hidden state
_EFFECTS = {
    "print": "prints", "input": "reads standard input", "exit": "ends the program", "quit": "ends the program",
    "next": "takes items from an iterator", "setattr": "changes an object", "exec": "runs text", "breakpoint": "stops",
}  # fmt: skip
_RANDOM = frozenset(
    {
        "random", "randint", "randrange", "choice", "choices", "shuffle", "gauss", "uniform", "sample", "rand",
        "randn", "normal", "permutation", "normalvariate", "betavariate", "expovariate", "integers", "poisson",
        "binomial", "exponential", "standard_normal", "random_sample", "getrandbits", "randbytes", "triangular",
    }
)  # fmt: skip
#: how names of methods begin that write files, and so change nothing in memory
_WRITING = ("save", "to_", "write", "export", "dump", "close", "unlink", "mkdir", "rename", "touch")
_DRAWS = "it draws from one stream of random numbers, whose order would change"
_RANDOM_MODULES = ("random", "numpy.random")
#: methods of Python's own types: an object that has one is more likely of these than of the program's classes
_OF_PYTHON = frozenset(name for kind in (str, bytes, list, dict, set) for name in dir(kind))


def of_statement(statement: ast.stmt, local: set[str], targets: set[str], source: SourceFile) -> Iterator[str]:
    """What a statement of the head changes outside of the iteration."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield f"it sets `{node.names[0]}`, which is outside"
        elif isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            name = root_of(node)
            if name in targets:
                yield f"it changes its item `{name}` in place"
            elif name is not None and name not in local:
                yield f"it changes `{name}`, which is outside"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _of_call_alone(node.value, targets)
    yield from of_expression(statement, local, source, targets=targets)


def _of_call_alone(call: ast.Call, targets: Set[str]) -> Iterator[str]:
    """What is called for nothing but its effects: these are on the item, likely, where that has it."""
    if isinstance(call.func, ast.Name) and call.func.id in targets:
        yield f"it calls its item `{call.func.id}`, and what that changes is not known"
    elif isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        name, called = call.func.value.id, call.func.attr
        if name in targets and called not in MUTATORS and not called.startswith(_WRITING):
            yield f"it calls `{called}` of its item `{name}`, and what that changes is not known"


def of_expression(
    node: ast.AST,
    local: set[str],
    source: SourceFile,
    *,
    targets: Set[str] = frozenset(),
    effect: ast.stmt | None = None,
) -> Iterator[str]:
    """What the calls in an expression change. The own call of `effect`, a statement of a tail, does not count."""
    own = effect.value if isinstance(effect, ast.Expr) else None
    for each in ast.walk(node):
        if isinstance(each, ast.NamedExpr):
            yield f"it sets `{ast.unparse(each.target)}`"
        if not isinstance(each, ast.Call) or each is own:
            continue
        if isinstance(each.func, ast.Attribute):
            name, called = root_of(each.func.value), each.func.attr
            if called in MUTATORS and name is not None:
                if name in targets:
                    yield f"it changes its item `{name}` ({called})"
                elif name not in local:
                    yield f"it changes `{name}` ({called}), which is outside"
            methods = [(source, method) for method in source.functions.get(called, ()) if method in source.methods]
            elsewhere = _FILES.get()
            if elsewhere is not None and name not in source.modules and called not in _OF_PYTHON:
                methods += elsewhere.methods(source, called)
            if called in _RANDOM and name is not None and name not in local and not methods:
                yield _DRAWS
            yield from _of_others(each.func, source, each, local - targets)
            if name not in source.modules:
                yield from _of_aliases(called, source, each, local - targets)
            if name == "self" or not (name in source.modules or called in _OF_PYTHON):
                for file, method in methods:
                    yield from _of_function(
                        method,
                        file,
                        each,
                        local - targets,
                        is_method=True,
                        shared=name not in (None, *(local - targets)),
                    )
        elif isinstance(each.func, ast.Name):
            yield from of_called(each.func, source, each, local - targets)


def of_called(
    called: ast.expr,
    source: SourceFile,
    call: ast.Call | None = None,
    local: set[str] | None = None,
    *,
    items: bool = False,
) -> Iterator[str]:
    """What the function that an expression names changes; `items`: it is given to `map`, which calls it with items."""
    if isinstance(called, ast.Lambda):
        own = {each.arg for each in called.args.args}
        yield from of_expression(called.body, own, source, targets=own if items else frozenset())
    elif isinstance(called, ast.Attribute) and items:
        for method in source.functions.get(called.attr, ()):
            if method in source.methods:
                yield from _of_function(method, source, None, set(), is_method=True, shared=True, items=True)
        yield from _of_others(called, source, None, set(), items=True)
        yield from _of_aliases(called.attr, source, None, set(), items=True)
    if not isinstance(called, ast.Name):
        return
    if called.id in _EFFECTS:
        yield f"it {_EFFECTS[called.id]}"
    elif called.id == "open" and call is not None and len(call.args) > 1:
        mode = call.args[1]
        if isinstance(mode, ast.Constant) and "a" in str(mode.value):
            yield "it appends to a file"
    imported = source.imported.get(called.id)
    if imported is not None and imported.module in _RANDOM_MODULES and imported.name in _RANDOM:
        yield _DRAWS
    yield from _of_others(called, source, call, local or set(), items=items)
    for function in source.functions.get(called.id, ()):
        if function not in source.methods:
            yield from _of_function(function, source, call, local or set(), items=items)
    yield from _of_aliases(called.id, source, call, local or set(), items=items)
    for bound in source.bound.get(called.id, ()):
        name = root_of(bound.value)
        if bound.attr in MUTATORS and name is not None and name not in (local or ()):
            yield f"it changes `{name}` ({bound.attr}), which is outside"


def _of_aliases(
    name: str, source: SourceFile, call: ast.Call | None, local: set[str], *, items: bool = False
) -> Iterator[str]:
    """What functions change that have been given a name; see `_of_function`."""
    for function, has_arguments in source.aliases.get(name, ()):
        yield from _of_function(
            function,
            source,
            None if has_arguments else call,
            local,
            is_method=function in source.methods,
            shared=True,
            items=items or has_arguments,
        )


#: functions that were read, each with its parameters that are outside: they may call each other in any number of ways
_READ: contextvars.ContextVar[set[tuple[ast.AST, frozenset[str]]]] = contextvars.ContextVar("read")


#: the program's other files
_FILES: contextvars.ContextVar[ProgramFiles | None] = contextvars.ContextVar("files", default=None)


@contextmanager
def reading(files: ProgramFiles | None = None) -> Iterator[None]:
    """A block in which each function is followed once, however often it is called; also into other files, if given."""
    tokens = _READ.set(set()), _FILES.set(files)
    try:
        yield
    finally:
        _READ.reset(tokens[0])
        _FILES.reset(tokens[1])


def _of_others(
    called: ast.expr, source: SourceFile, call: ast.Call | None, local: set[str], *, items: bool = False
) -> Iterator[str]:
    """What functions of the program's other files change that an expression may name."""
    files = _FILES.get()
    for file, function in () if files is None else files.functions(source, called):
        yield from _of_function(function, file, call, local, items=items)


def _of_function(
    function: ast.FunctionDef | ast.AsyncFunctionDef,
    source: SourceFile,
    call: ast.Call | None,
    local: set[str],
    *,
    is_method: bool = False,
    shared: bool = False,
    items: bool = False,
) -> Iterator[str]:
    """What a call of a function of the program changes: names outside, printed lines, arguments that are outside.

    Args:
        function: That is called.
        source: The file that it is in.
        call: As it stands in its caller; None if others call it.
        local: Names there that are not outside.
        is_method: Its first parameter is the object that it is called on.
        shared: And that is outside.
        items: All that it is called with is outside.
    """
    parameters = [each.arg for each in function.args.posonlyargs + function.args.args]
    named = [each.arg for each in function.args.kwonlyargs]
    bound = parameters[:1] if is_method and not _is_static(function) else []
    outside = set(bound if shared else ())
    if call is not None:
        outside |= _given_from_outside(parameters[len(bound) :], named, call, local)
    elif items:
        outside |= set(parameters[len(bound) :])
    key = function, frozenset(outside)
    if key in _READ.get():
        return
    _READ.get().add(key)
    inside = {*parameters, *named} - outside
    own = stored_in(function.body) | inside
    own -= borrowed_in(function.body, inside) | declared_in(function)
    for statement in function.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Global | ast.Nonlocal):
                yield f"`{function.name}` sets `{node.names[0]}`, which is outside"
            elif (
                isinstance(node, ast.Subscript | ast.Attribute)
                and isinstance(node.ctx, ast.Store | ast.Del)
                and (name := root_of(node)) is not None
                and name not in own
            ):
                yield f"`{function.name}` changes `{name}`"
        for reason in of_expression(statement, own, source):
            yield f"`{function.name}`: {reason}" if not reason.startswith("`") else reason


def _is_static(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in function.decorator_list)


def _given_from_outside(parameters: list[str], named: list[str], call: ast.Call, local: set[str]) -> set[str]:
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
