"""What statements and calls change besides names of their own. Functions and methods of the program are followed."""

from __future__ import annotations

import ast
import contextvars
from collections.abc import Iterator, Set
from contextlib import contextmanager

from allcores.advisor.profiling.hidden_calls import run_by
from allcores.advisor.profiling.libraries import (
    DRAWS,
    EFFECTS,
    ENDING,
    MUTATORS,
    RANDOM,
    TELLING,
    WRITING,
    called_name,
    effect_of_module,
    may_append,
    of_first,
)
from allcores.advisor.profiling.names import borrowed_in, declared_in, root_of, stored_in
from allcores.advisor.profiling.parts import base_of, given_from_outside, is_static, returns_part
from allcores.advisor.profiling.program_files import ProgramFiles
from allcores.advisor.profiling.sites import SourceFile, name_of

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
            yield from _of_call_alone(node.value, local, targets, source)
    yield from of_expression(statement, local, source, targets=targets)


def _of_call_alone(call: ast.Call, local: set[str], targets: Set[str], source: SourceFile) -> Iterator[str]:
    """What is called for nothing but its effects: these are on what it is called on, likely."""
    if isinstance(call.func, ast.Name) and call.func.id in targets:
        yield f"it calls its item `{call.func.id}`, and what that changes is not known"
    elif isinstance(call.func, ast.Attribute):
        name, called = root_of(call.func.value), call.func.attr
        if name is None or called in MUTATORS or called.startswith(WRITING):
            return
        if isinstance(call.func.value, ast.Name) and name in targets:
            yield f"it calls `{called}` of its item `{name}`, and what that changes is not known"
        elif name not in local | targets | {"self", "cls", "super"} and not (
            called in TELLING or called in source.functions or source.is_import(name)
        ):
            yield f"it calls `{called}` of `{name}`, and what that changes is not known"


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
        if isinstance(each, ast.NamedExpr) and root_of(each.target) not in local - targets:
            yield f"it sets `{ast.unparse(each.target)}`"
        elif isinstance(each, ast.Raise) and each.exc is not None:
            raised = each.exc.func if isinstance(each.exc, ast.Call) else each.exc
            if isinstance(raised, ast.Name) and raised.id in ENDING:
                yield f"it raises {raised.id}, which ends more than an iteration"
        if each is own:
            continue
        for file, function, call, shared in run_by(each, source, local - targets, _FILES.get()):
            yield from _of_function(function, file, call, local - targets, is_method=True, shared=shared)
        if isinstance(each, ast.Call):
            yield from _of_call(each, local, source, targets)


def _of_call(each: ast.Call, local: set[str], source: SourceFile, targets: Set[str]) -> Iterator[str]:
    full = source.full_name(each.func)
    if full and (reason := effect_of_module(full)) is not None:
        yield reason
    yield from _of_arguments(each, local, source, targets)
    if isinstance(each.func, ast.Attribute):
        name, called = base_of(each.func.value, source), each.func.attr
        is_function = isinstance(each.func.value, ast.Name) and name in source.modules
        if called in MUTATORS and name is not None and not is_function:
            if name in targets:
                yield f"it changes its item `{name}` ({called})"
            elif name not in local:
                yield f"it changes `{name}` ({called}), which is outside"
        methods = [(source, method) for method in source.functions.get(called, ()) if method in source.methods]
        elsewhere = _FILES.get()
        if elsewhere is not None and name not in source.modules and called not in _OF_PYTHON:
            methods += elsewhere.methods(source, called)
        if called in ("print", "echo", "print_json") and name not in local and not methods:
            yield "it prints"
        if called == "open" and may_append(each):
            yield "it appends to a file"
        if called in RANDOM and name is not None and name not in local and not methods:
            yield DRAWS
        yield from _of_others(each.func, source, each, local - targets)
        if name not in source.modules:
            yield from _of_aliases(called, source, each, local - targets)
        if name == "self" or not (name in source.modules or called in _OF_PYTHON):
            for file, method in methods:
                shared = name not in (None, *(local - targets))
                yield from _of_function(method, file, each, local - targets, is_method=True, shared=shared)
    elif isinstance(each.func, ast.Name):
        yield from of_called(each.func, source, each, local - targets)


def _of_arguments(call: ast.Call, local: set[str], source: SourceFile, targets: Set[str]) -> Iterator[str]:
    """What a function changes that it is given, and what the functions change that it is given."""
    called = called_name(call)
    first = of_first(call)
    changed = [first] if first is not None and called not in source.functions else []
    changed += [word.value for word in call.keywords if word.arg == "out"]
    if isinstance(call.func, ast.Attribute) and any(
        word.arg == "inplace" and isinstance(word.value, ast.Constant) and word.value.value for word in call.keywords
    ):
        changed.append(call.func.value)
    for each in changed:
        name = base_of(each, source)
        if name in targets:
            yield f"it changes its item `{name}` ({called})"
        elif name is not None and name not in local:
            yield f"it changes `{name}` ({called}), which is outside"
    values = [*call.args, *(word.value for word in call.keywords)]
    for each in values:
        if isinstance(each, ast.Name) and each.id not in local and each.id in source.functions:
            others = [
                one
                for one in values
                if one is not each and (name := root_of(one)) is not None and name not in local - targets
            ]
            for function in source.functions[each.id]:
                if function not in source.methods:
                    yield from _of_function(function, source, None, set(), items=bool(others))


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
    elif isinstance(called, ast.Attribute) and (items or call is None):
        for method in source.functions.get(called.attr, ()):
            if method in source.methods:
                yield from _of_function(method, source, None, set(), is_method=True, shared=True, items=True)
        yield from _of_others(called, source, None, set(), items=True)
        yield from _of_aliases(called.attr, source, None, set(), items=True)
    if not isinstance(called, ast.Name):
        return
    if called.id in EFFECTS and called.id not in source.functions and called.id not in (local or ()):
        yield f"it {EFFECTS[called.id]}"
    elif called.id == "open" and call is not None and may_append(call):
        yield "it appends to a file"
    for owner in source.definitions.classes.get(called.id, ()):
        for made in source.definitions.fields(owner):
            if isinstance(made, ast.Attribute) and made.attr == "__next__":
                yield f"`{called.id}` takes items from an iterator"
            yield from of_called(made, source)
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


#: functions that are read for one loop, at most: more would take seconds
MOST_FUNCTIONS = 1_000


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
    bound = parameters[:1] if is_method and not is_static(function) else []
    outside = set(bound if shared else ())
    if call is not None:
        outside |= given_from_outside(parameters[len(bound) :], named, call, local)
    elif items:
        outside |= set(parameters[len(bound) :])
    outside |= _kept(function, parameters, None if call is None else len(bound), call)
    key = function, frozenset(outside)
    if key in _READ.get():
        return
    if len(_READ.get()) >= MOST_FUNCTIONS:
        yield "it calls more functions than were read"
        return
    _READ.get().add(key)
    yield from _of_decorators(function, source)
    inside = {*parameters, *named} - outside
    own = stored_in(function.body) | inside
    own -= borrowed_in(function.body, inside, returns_part(source)) | declared_in(function)
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


def _of_decorators(function: ast.FunctionDef | ast.AsyncFunctionDef, source: SourceFile) -> Iterator[str]:
    """What a function does besides, as it is decorated by others of the program; and a cache that is looked at."""
    for each in function.decorator_list:
        name = name_of(each.func if isinstance(each, ast.Call) else each) or ""
        for decorator in source.functions.get(name, ()):
            yield from _of_function(decorator, source, None, set())
        if name in ("lru_cache", "cache") and "cache_info" in source.definitions.asked:
            yield f"how often `{function.name}` was found in its cache is asked for"


def _kept(
    function: ast.FunctionDef | ast.AsyncFunctionDef, parameters: list[str], bound: int | None, call: ast.Call | None
) -> set[str]:
    """Parameters whose values stay from call to call: what a default stands for, where that can be changed."""
    arguments = function.args
    defaults = [*zip(parameters[len(parameters) - len(arguments.defaults) :], arguments.defaults, strict=True)]
    defaults += [
        (each.arg, one)
        for each, one in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if one is not None
    ]
    given: set[str] = set()
    if call is not None and bound is not None:
        given = {*parameters[: bound + len(call.args)], *(word.arg for word in call.keywords if word.arg)}
    changeable = ast.List | ast.Dict | ast.Set | ast.Call | ast.ListComp | ast.DictComp | ast.SetComp
    return {name for name, value in defaults if isinstance(value, changeable) and name not in given}
