"""Names in a program's source: which are read before they are stored for certain, and which parts of objects."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Set

_OWN_NAMES = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def root_of(node: ast.expr) -> str | None:
    """The name that an attribute or a subscript begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def path_of(node: ast.expr) -> str | None:
    """What a target is a part of: a name, or an attribute of one."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return f"{node.value.id}.{node.attr}"
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def paths_in(node: ast.AST) -> set[str]:
    """Names that are read, with the attribute that is read of them: "self.weights" is not "self.results"."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return {f"{node.value.id}.{node.attr}"}
    if isinstance(node, ast.Name):
        return {node.id}
    return {path for child in ast.iter_child_nodes(node) for path in paths_in(child)}


def stored_in(statements: Iterable[ast.AST]) -> set[str]:
    """Names that statements store, other than those of functions and comprehensions in them."""
    found: set[str] = set()
    for statement in statements:
        if isinstance(statement, ast.Name) and isinstance(statement.ctx, ast.Store | ast.Del):
            found.add(statement.id)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(statement.name)
        elif isinstance(statement, ast.ExceptHandler) and statement.name:
            found |= {statement.name} | stored_in(statement.body)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            found |= {(each.asname or each.name).partition(".")[0] for each in statement.names}
        elif isinstance(statement, ast.MatchAs | ast.MatchStar | ast.MatchMapping):
            name = statement.rest if isinstance(statement, ast.MatchMapping) else statement.name
            found |= ({name} if name else set()) | stored_in(ast.iter_child_nodes(statement))
        elif not isinstance(statement, _OWN_NAMES | ast.Lambda):
            found |= stored_in(ast.iter_child_nodes(statement))
    return found


def exposed(statements: Iterable[ast.stmt], defined: Set[str]) -> set[str]:
    """Names that are read on some way through the statements before they are stored.

    Args:
        statements: Of a body, say of a loop.
        defined: Names that are stored before it.
    """
    found: set[str] = set()
    _follow(list(statements), set(defined), found)
    return found


def _follow(statements: list[ast.stmt], defined: set[str], found: set[str]) -> set[str] | None:
    """Add to `found` what is read undefined; what is defined after the statements, None if none gets there."""
    for statement in statements:
        after = _step(statement, defined, found)
        if after is None:
            return None
        defined = after
    return defined


def _step(node: ast.stmt, defined: set[str], found: set[str]) -> set[str] | None:
    if isinstance(node, ast.Return | ast.Raise | ast.Continue | ast.Break):
        found |= set(_reads(node)) - defined
        return None
    if isinstance(node, ast.If):
        found |= set(_reads(node.test)) - defined
        always, more = _set_in(node.test)
        one = _follow(node.body, defined | always | more, found)
        return _meet(one, _follow(node.orelse, defined | always, found))
    if isinstance(node, ast.For | ast.AsyncFor | ast.While):
        found |= set(_reads(node.test if isinstance(node, ast.While) else node.iter)) - defined
        always, more = _set_in(node.test) if isinstance(node, ast.While) else (set(), stored_in([node.target]))
        _follow(node.body, defined | always | more, found)
        _follow(node.orelse, defined | always, found)
        return defined | always
    if isinstance(node, ast.Try):
        after = _follow(node.body, set(defined), found)
        if after is not None and node.orelse:
            after = _follow(node.orelse, after, found)
        for handler in node.handlers:
            names = {handler.name} if handler.name else set()
            after = _meet(after, _follow(handler.body, defined | names, found))
        last = _follow(node.finalbody, set(after or defined), found)
        return None if after is None else last
    if isinstance(node, ast.With | ast.AsyncWith):
        for each in node.items:
            found |= set(_reads(each.context_expr)) - defined
            if each.optional_vars is not None:
                defined = defined | stored_in([each.optional_vars])
        return _follow(node.body, set(defined), found)
    if isinstance(node, ast.Match):
        return _step_match(node, defined, found)
    found |= set(_reads(node)) - defined
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id not in defined:
        found.add(node.target.id)
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return defined
    return defined | stored_in([node])


def _set_in(test: ast.expr) -> tuple[set[str], set[str]]:
    """The names that a test sets (`:=`) for certain, and those that it has also set if it is true."""
    if isinstance(test, ast.BoolOp):
        first = set().union(*_set_in(test.values[0]))
        return first, stored_in(test.values) if isinstance(test.op, ast.And) else set()
    return (set(), set()) if isinstance(test, ast.IfExp) else (stored_in([test]), set())


def _step_match(node: ast.Match, defined: set[str], found: set[str]) -> set[str] | None:
    found |= set(_reads(node.subject)) - defined
    last = node.cases[-1]
    fits = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None and last.guard is None
    after = None if fits else set(defined)
    for case in node.cases:
        inside = defined | stored_in([case.pattern])
        found |= {name for part in (case.pattern, case.guard) if part is not None for name in _reads(part)} - inside
        after = _meet(after, _follow(case.body, inside, found))
    return after


def _meet(one: set[str] | None, other: set[str] | None) -> set[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _reads(node: ast.AST) -> Iterator[str]:
    """Names that an expression, or a simple statement, reads."""
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load):
            yield node.id
        return
    own: set[str] = set()
    if isinstance(node, _OWN_NAMES):
        own = stored_in([part.target for part in node.generators])
    elif isinstance(node, ast.Lambda):
        own = _parameters(node.args)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        own = _parameters(node.args) | stored_in(node.body)
    for child in ast.iter_child_nodes(node):
        yield from (name for name in _reads(child) if name not in own)


def _parameters(arguments: ast.arguments) -> set[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return {each.arg for each in every}


def uses(nodes: Iterable[ast.AST]) -> Iterator[ast.Name]:
    """Names that are used in nodes, but for those that functions and comprehensions in them have for themselves."""
    waiting: list[tuple[ast.AST, frozenset[str]]] = [(node, frozenset()) for node in nodes]
    while waiting:  # nodes may be nested deeply
        node, own = waiting.pop()
        if isinstance(node, ast.Name):
            if node.id not in own:
                yield node
            continue
        if isinstance(node, _OWN_NAMES):
            own |= stored_in([part.target for part in node.generators])
        elif isinstance(node, ast.Lambda):
            own |= _parameters(node.args)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own |= own_names(node)
        waiting += ((child, own) for child in ast.iter_child_nodes(node))


def own_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Names that a function has for itself."""
    return (_parameters(function.args) | stored_in(function.body)) - declared_in(function)


def declared_in(owner: ast.AST) -> set[str]:
    """Names that are said to be global or nonlocal in a function; of a module none."""
    if isinstance(owner, ast.Module):
        return set()
    return {name for each in ast.walk(owner) if isinstance(each, ast.Global | ast.Nonlocal) for name in each.names}


def read_after(loop: ast.For, owner: ast.AST) -> set[str]:
    """Names whose value from a loop may be read after it: in its function, or in the next turn of a loop around it."""
    found: set[str] = set()
    way = _way_to(loop, owner)
    defined: set[str] = set()
    for outer, inner in zip(reversed(way[:-1]), reversed(way[1:]), strict=True):
        if isinstance(outer, ast.For | ast.AsyncFor | ast.While):
            targets = stored_in([outer.target]) if isinstance(outer, ast.For | ast.AsyncFor) else set()
            if isinstance(outer, ast.While):
                found |= set(_reads(outer.test))
            _follow(outer.body, set(targets), found)
            defined = set()  # it may end there, without what comes after in the same turn
        for block in _blocks_after(outer, inner):
            after = _follow(block, set(defined), found)
            if isinstance(outer, ast.If | ast.With):
                defined = after or set()  # there is one such block, and what comes after it runs after it
    return found


def _way_to(node: ast.AST, owner: ast.AST) -> list[ast.AST]:
    """Statements from a function, or module, to one in it."""
    for child in ast.iter_child_nodes(owner):
        if child is node:
            return [owner, node]
        if isinstance(child, ast.expr):
            continue
        way = _way_to(node, child)
        if way:
            return [owner, *way]
    return []


def _rest(outer: ast.AST, inner: ast.AST) -> list[ast.stmt]:
    """The statements behind one in the block that it is in."""
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        block = getattr(outer, name, [])
        if isinstance(block, list) and inner in block:
            return block[block.index(inner) + 1 :] if name not in ("handlers", "cases") else []
    return []


def _blocks_after(outer: ast.AST, inner: ast.AST) -> Iterator[list[ast.stmt]]:
    """The blocks of a statement that may run after a part of it."""
    yield _rest(outer, inner)
    if isinstance(outer, ast.Try):
        if inner in outer.body:
            yield from (handler.body for handler in outer.handlers)
            yield outer.orelse
        yield outer.finalbody
    elif isinstance(outer, ast.For | ast.AsyncFor | ast.While) and inner in outer.body:
        yield outer.orelse


def read_by_functions(loop: ast.For, owner: ast.AST) -> set[str]:
    """Names of a loop's function, or module, that other functions in it read."""
    end = loop.end_lineno or loop.lineno
    return {
        name.id
        for each in ast.walk(owner)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and each is not owner
        if not loop.lineno <= each.lineno <= end
        for name in uses([each])
        if isinstance(name.ctx, ast.Load)
    }


def meets(path: str, others: Iterable[str]) -> bool:
    """Whether a path is one of others, or a part of one, or one of them of it: "model" and "model.predict" are."""
    return any(path == each or path.startswith(f"{each}.") or each.startswith(f"{path}.") for each in others)


#: methods and functions that give a part of what they are called on, or with
_PARTS = frozenset({"get", "setdefault", "pop", "popitem", "popleft", "values", "items", "__getitem__"})
_ONE_OF = frozenset({"getattr", "next", "max", "min"})


def gives_part(method: str) -> bool:
    """Whether a method of that name gives a part of what it is called on."""
    return method in _PARTS


def borrowed_in(
    statements: Iterable[ast.stmt], own: Set[str], gives: Callable[[ast.Call, Set[str]], bool] | None = None
) -> set[str]:
    """Names that may stand for a part of what is outside (`row = table[key]`): who changes these, changes that.

    Args:
        statements: Of a body.
        own: Names of what is no part of anything outside.
        gives: Whether a call gives a part of what is outside, where these names are not.
    """
    stores = list(_stores(statements))
    stored = {name for names, _, _ in stores for name in names}
    found: set[str] = set()
    while True:
        fresh = (own | stored) - found
        more = {
            name
            for names, value, element in stores
            if (_has_outside(value, fresh) if element else is_part(value, fresh, gives))
            for name in names
        } - found
        if not more:
            return found
        found |= more


def _stores(statements: Iterable[ast.stmt]) -> Iterator[tuple[set[str], ast.expr, bool]]:
    """Names that are stored, the value, and whether they are elements of that."""
    for node in (each for statement in statements for each in ast.walk(statement)):
        if isinstance(node, ast.Assign):
            names = stored_in(node.targets)
            if isinstance(node.value, ast.Tuple | ast.List) and any(isinstance(t, ast.Tuple) for t in node.targets):
                yield from ((names, part, False) for part in node.value.elts)
            else:
                yield names, node.value, False
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            yield stored_in([node.target]), node.value, False
        elif isinstance(node, ast.For):
            counts = isinstance(node.iter, ast.Call) and root_of(node.iter.func) == "range"
            if not counts:
                yield stored_in([node.target]), node.iter, True
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield stored_in([node.optional_vars]), node.context_expr, False


def is_part(node: ast.expr, fresh: Set[str], gives: Callable[[ast.Call, Set[str]], bool] | None = None) -> bool:
    """Whether the value of an expression may be a part of something whose name is not among those."""
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript | ast.Starred):
        root = root_of(node)
        return root is not None and root not in fresh
    if isinstance(node, ast.IfExp):
        return is_part(node.body, fresh, gives) or is_part(node.orelse, fresh, gives)
    if isinstance(node, ast.BoolOp):
        return any(is_part(each, fresh, gives) for each in node.values)
    if isinstance(node, ast.NamedExpr):
        return is_part(node.value, fresh, gives)
    if isinstance(node, ast.Call) and gives is not None and gives(node, fresh):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _PARTS and is_part(node.func.value, fresh, gives)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ONE_OF:
        return any(_has_outside(each, fresh) for each in node.args)
    return False


def _has_outside(node: ast.expr, fresh: Set[str]) -> bool:
    called = {each.func for each in ast.walk(node) if isinstance(each, ast.Call)}
    return any(name.id not in fresh and name not in called for name in uses([node]))
