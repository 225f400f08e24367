"""Whether the iterations of a site could be done in any order, in other processes: what its source says.

It reads names, in order, with what may be skipped; calls of functions of the same file are followed. What a library
does is not read: it counts as free of effects unless its name says otherwise. So "independent" means that nothing was
found against it.
"""

from __future__ import annotations

import ast
import contextvars
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from allcores.advisor.profiling.names import exposed, path_of, paths_in, read_after, root_of, stored_in
from allcores.advisor.profiling.sites import Site, SourceFile

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
        "randn", "normal", "permutation", "normalvariate", "betavariate", "expovariate",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What stands in the way of doing iterations in any order.

    `tail` is the number of statements at the end of a for loop's body that have effects and stay where they are, in
    order. `reasons` is empty if the rest is independent; `notes` say what the reader should know.
    """

    reasons: tuple[str, ...]
    tail: int = 0
    notes: tuple[str, ...] = ()

    @property
    def independent(self) -> bool:
        """Whether nothing was found against it."""
        return not self.reasons


def judge(site: Site, source: SourceFile) -> Verdict:
    """What the source says of a site."""
    try:
        return _judged(site, source)
    except RecursionError:
        return Verdict(("its source is nested too deeply to be read",))


def _judged(site: Site, source: SourceFile) -> Verdict:
    if isinstance(site.node, ast.For):
        return _judge_loop(site.node, site, source)
    if isinstance(site.node, ast.Call):
        called = site.node.args[0]
        return Verdict(tuple(_unique(_of_called(called, source))))
    return _judge_comprehension(site.node, source)


def _judge_comprehension(
    node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, source: SourceFile
) -> Verdict:
    parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    targets = {each.id for part in node.generators for each in ast.walk(part.target) if isinstance(each, ast.Name)}
    found = [reason for part in parts for reason in _of_expression(part, targets, source, targets=targets)]
    if len(node.generators) > 1:
        found.append("it has more than one for")
    if any(part.is_async for part in node.generators):
        found.append("it is asynchronous")
    return Verdict(tuple(_unique(found)))


def _judge_loop(node: ast.For, site: Site, source: SourceFile) -> Verdict:
    found = list(_early_ends(node.body))
    if node.orelse:
        found.append("it has an else")
    tail = tail_length(node.body)
    head = node.body[: len(node.body) - tail]
    targets = {each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)}
    stored = stored_in(head)
    tail_changes = set(changed_by(node.body[len(head) :]))
    carried = exposed(node.body, targets) & stored
    found += [f"`{name}` of one iteration is used in the next" for name in sorted(carried)]
    local = stored | targets
    found += [f"`{name}` is used after the loop" for name in sorted((stored - carried) & read_after(node, site.owner))]
    reads = {path for statement in head for path in paths_in(statement)} | tail_reads(node.body[len(head) :])
    found += [f"`{name}` is read and changed" for name in sorted(tail_changes & reads - local)]
    found += _read_by_methods(node, tail_changes, source)
    for statement in head:
        found += _of_statement(statement, local, targets, source)
    for statement in node.body[len(head) :]:
        for part in ast.iter_child_nodes(statement):
            if isinstance(part, ast.expr):
                found += [
                    each for each in _of_expression(part, local, source, effect=statement) if "prints" not in each
                ]
    notes = ["what it does at the end of an iteration stays in the loop, in order"] if tail else []
    return Verdict(tuple(_unique(found)), tail, tuple(notes))


def tail_length(body: list[ast.stmt]) -> int:
    """How many statements at the end of a body do nothing but change what is outside, one after the other."""
    count = 0
    for statement in reversed(body):
        if not _is_effect(statement):
            break
        count += 1
    return count


def _is_effect(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.AugAssign):
        return True
    if isinstance(statement, ast.Assign):
        return all(isinstance(each, ast.Subscript | ast.Attribute) for each in statement.targets)
    if isinstance(statement, ast.If):
        return not statement.orelse and all(_is_effect(each) for each in statement.body)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func
        if isinstance(function, ast.Name):
            return function.id == "print"
        return isinstance(function, ast.Attribute) and function.attr in MUTATORS
    return False


def changed_by(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """Names that the statements of a tail change, or whose objects they change."""
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.AugAssign | ast.Assign):
                targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
                for target in targets:
                    if (name := path_of(target)) is not None:
                        yield name
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in MUTATORS
                and (name := path_of(node.func.value)) is not None
            ):
                yield name


def tail_reads(statements: Iterable[ast.stmt]) -> set[str]:
    """Names that the statements of a tail read, besides those that they are there to change."""
    found: set[str] = set()
    for statement in statements:
        if isinstance(statement, ast.AugAssign):
            parts: list[ast.AST] = [statement.value]
            if isinstance(statement.target, ast.Subscript):
                parts.append(statement.target.slice)
        elif isinstance(statement, ast.Assign):
            parts = [statement.value, *(each.slice for each in statement.targets if isinstance(each, ast.Subscript))]
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            parts = [*statement.value.args, *(each.value for each in statement.value.keywords)]
        elif isinstance(statement, ast.If):
            parts = [statement.test]
            found |= tail_reads(statement.body)
        else:
            parts = [statement]
        for part in parts:
            found |= paths_in(part)
    return found


def _read_by_methods(node: ast.AST, changed: set[str], source: SourceFile) -> Iterator[str]:
    """Methods of the same object that read what the loop changes of it."""
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and root_of(each.func) == "self":
            method = source.functions.get(each.func.attr)
            read = paths_in(method) if method is not None else set()
            yield from (f"`{name}` is changed, and read by `{each.func.attr}`" for name in sorted(read & changed))


def _early_ends(body: list[ast.stmt]) -> Iterator[str]:
    def walk(node: ast.AST, looped: bool) -> Iterator[str]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            return
        if isinstance(node, ast.Break) and not looped:
            yield "it ends early (break)"
        elif isinstance(node, ast.Return):
            yield "it ends early (return)"
        elif isinstance(node, ast.Yield | ast.YieldFrom):
            yield "it is part of a generator (yield)"
        elif isinstance(node, ast.Await):
            yield "it is asynchronous"
        for child in ast.iter_child_nodes(node):
            yield from walk(child, looped or isinstance(node, ast.For | ast.While))

    for statement in body:
        yield from walk(statement, False)


def _of_statement(statement: ast.stmt, local: set[str], targets: set[str], source: SourceFile) -> Iterator[str]:
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
    yield from _of_expression(statement, local, source, targets=targets)


def _of_expression(
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
            name = root_of(each.func.value)
            if each.func.attr in MUTATORS and name is not None:
                if name in targets:
                    yield f"it changes its item `{name}` ({each.func.attr})"
                elif name not in local:
                    yield f"it changes `{name}` ({each.func.attr}), which is outside"
            if each.func.attr in _RANDOM and ast.unparse(each.func.value) in ("random", "np.random", "numpy.random"):
                yield "it draws from one stream of random numbers, whose order would change"
            if name == "self" and each.func.attr in source.functions:
                yield from _of_function(source.functions[each.func.attr], source, each, {"self"}, local - targets)
        elif isinstance(each.func, ast.Name):
            yield from _of_called(each.func, source, each, local - targets)


def _of_called(
    called: ast.expr, source: SourceFile, call: ast.Call | None = None, local: set[str] | None = None
) -> Iterator[str]:
    """What the function that an expression names changes."""
    if isinstance(called, ast.Lambda):
        yield from _of_expression(called.body, {each.arg for each in called.args.args}, source)
    if not isinstance(called, ast.Name):
        return
    if called.id in _EFFECTS:
        yield f"it {_EFFECTS[called.id]}"
    elif called.id == "open" and call is not None and len(call.args) > 1:
        mode = call.args[1]
        if isinstance(mode, ast.Constant) and "a" in str(mode.value):
            yield "it appends to a file"
    elif (function := source.functions.get(called.id)) is not None:
        yield from _of_function(function, source, call, set(), local or set())


#: functions that are being followed: one that calls itself is read once
_FOLLOWING: contextvars.ContextVar[frozenset[ast.AST]] = contextvars.ContextVar("following", default=frozenset())


def _of_function(
    function: ast.FunctionDef | ast.AsyncFunctionDef,
    source: SourceFile,
    call: ast.Call | None,
    shared: set[str],
    local: set[str],
) -> Iterator[str]:
    """What a call of a function of this file changes: names outside, printed lines, arguments that are outside."""
    if function in _FOLLOWING.get():
        return
    token = _FOLLOWING.set(_FOLLOWING.get() | {function})
    try:
        parameters = [each.arg for each in function.args.posonlyargs + function.args.args]
        arguments = call.args if call is not None else []
        outside = set(shared)
        for parameter, argument in zip(parameters, arguments, strict=False):
            if (name := root_of(argument)) is not None and name not in local:
                outside.add(parameter)
        stored = stored_in(function.body)
        own = stored | (set(parameters) - outside)
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
            for reason in _of_expression(statement, own, source):
                yield f"`{function.name}`: {reason}" if not reason.startswith("`") else reason
    finally:
        _FOLLOWING.reset(token)


def _unique(reasons: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(reasons))[:4]
