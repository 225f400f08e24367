"""What a map does sooner than a loop: it takes items ahead, so that what gives them runs before others are done."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence, Set

from allcores.advisor.profiling.effects import of_called, of_expression
from allcores.advisor.profiling.libraries import DRAWS, OWN_GENERATORS, called_name
from allcores.advisor.profiling.names import declared_in, stored_in, uses
from allcores.advisor.profiling.sites import SourceFile

#: what gives items one by one, and has none a second time: functions of Python, of modules, and methods
_BUILT_IN = frozenset({"iter", "map", "filter", "zip", "enumerate", "reversed", "open"})
_MODULES = ("itertools.", "more_itertools.", "csv.", "fileinput.")
_METHODS = frozenset({"finditer", "iterdir", "rglob", "open", "imap", "imap_unordered", "as_completed", "scandir"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef
#: functions that call another one for each item, as it is taken
_LAZY = frozenset({"map", "filter"})


def of_source(iterable: ast.expr, nodes: Sequence[ast.AST], owner: ast.AST, source: SourceFile) -> Iterator[str]:
    """What is done while items are taken: by generators of the program, and by functions that `map` calls for them.

    Args:
        iterable: What gives the items.
        nodes: An iteration.
        owner: The function that it is in.
        source: The file.
    """
    for each in ast.walk(iterable):
        if isinstance(each, ast.GeneratorExp):
            yield from _said(of_expression(each.elt, set(), source))
        elif isinstance(each, ast.Call):
            if isinstance(each.func, ast.Name) and each.func.id in _LAZY and each.args:
                yield from _said(of_called(each.args[0], source, items=True))
            for function in source.functions.get(called_name(each), ()):
                if any(isinstance(one, ast.Yield | ast.YieldFrom) for one in ast.walk(function)):
                    yield from _said(of_called(each.func, source, each, items=True))
    if isinstance(iterable, ast.Name) and iterable.id in _named(owner, source, _has_own_iteration):
        used = iterable.id in {each.id for each in uses(nodes)}
        for name in ("__iter__", "__next__"):
            method = ast.Attribute(ast.Name(iterable.id, ast.Load()), name, ast.Load())
            for reason in _said(of_called(method, source, items=True)):
                if "StopIteration" not in reason and (used or not reason.endswith("changes `self`")):
                    yield reason


def _has_own_iteration(value: ast.expr, source: SourceFile) -> bool:
    """Whether it is an object of a class of the file that says itself what its items are."""
    return isinstance(value, ast.Call) and any(
        isinstance(each, _Function) and each.name in ("__iter__", "__next__")
        for owner in source.definitions.classes.get(called_name(value), ())
        for each in owner.body
    )


def _said(reasons: Iterator[str]) -> Iterator[str]:
    yield from (f"taking its items does more: {reason}" for reason in reasons)


def of_iterators(nodes: Sequence[ast.AST], own: Set[str], owner: ast.AST, source: SourceFile) -> Iterator[str]:
    """Iterators outside of an iteration that it may take items from: each worker would have its own."""
    used = {each.id for each in uses(nodes) if isinstance(each.ctx, ast.Load)} - own
    for name in sorted(used & _named(owner, source, _is_iterator)):
        yield f"it takes items from `{name}`, which has each once"
    if used & _named(owner, source, _is_generator_of_numbers):
        yield DRAWS
    for name in sorted(used & _named(owner, source, _numbers_its_keys)):
        yield f"`{name}` gets a value for each new key (defaultdict)"


def _named(owner: ast.AST, source: SourceFile, fits: Callable[[ast.expr, SourceFile], bool]) -> set[str]:
    """Names that are given such a value in a function, or in the module where the function has no such name."""
    found = _given(owner, source, fits)
    if owner is not source.tree:
        local = stored_in(owner.body) - declared_in(owner) if isinstance(owner, _Function) else set()
        found |= _given(source.tree, source, fits) - local
    return found


def _given(owner: ast.AST, source: SourceFile, fits: Callable[[ast.expr, SourceFile], bool]) -> set[str]:
    found: set[str] = set()
    others: set[str] = set()
    waiting = list(ast.iter_child_nodes(owner))
    while waiting:
        each = waiting.pop()
        if isinstance(each, _Function | ast.Lambda | ast.ClassDef):
            continue
        waiting += ast.iter_child_nodes(each)
        if isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            (found if fits(each.value, source) else others).update(names)
        elif isinstance(each, ast.withitem) and isinstance(each.optional_vars, ast.Name):
            (found if fits(each.context_expr, source) else others).add(each.optional_vars.id)
    return found - others


def _is_iterator(value: ast.expr, source: SourceFile) -> bool:
    if isinstance(value, ast.GeneratorExp):
        return True
    if not isinstance(value, ast.Call):
        return False
    name = called_name(value)
    functions = source.functions.get(name, ())
    if functions:
        return any(isinstance(each, ast.Yield | ast.YieldFrom) for one in functions for each in ast.walk(one))
    full = source.full_name(value.func)
    if full:
        return full.startswith(_MODULES) or full.rpartition(".")[2] in _METHODS
    return name in (_BUILT_IN if isinstance(value.func, ast.Name) else _METHODS)


def _is_generator_of_numbers(value: ast.expr, source: SourceFile) -> bool:
    """Whether it has a stream of random numbers of its own (`default_rng(1)`)."""
    return isinstance(value, ast.Call) and called_name(value) in OWN_GENERATORS - {"SystemRandom", "SeedSequence"}


def _numbers_its_keys(value: ast.expr, source: SourceFile) -> bool:
    """Whether it gives each new key a value that depends on those before (`defaultdict(count().__next__)`)."""
    if not isinstance(value, ast.Call) or called_name(value) != "defaultdict" or not value.args:
        return False
    made = value.args[0].body if isinstance(value.args[0], ast.Lambda) else value.args[0]
    return isinstance(made, ast.Attribute) or any(
        isinstance(each, ast.Call) and called_name(each) in ("len", "next") for each in ast.walk(made)
    )
