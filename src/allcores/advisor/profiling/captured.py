"""What an iteration needs of the names around it: a worker gets that with the function, so it has to be pickled."""

from __future__ import annotations

import ast

from allcores.advisor.profiling.attribution import Values
from allcores.advisor.profiling.facts import UNPICKLABLE
from allcores.advisor.profiling.independence import Verdict
from allcores.advisor.profiling.names import own_names, stored_in, uses
from allcores.advisor.profiling.parts import called_functions
from allcores.advisor.profiling.records import Fact
from allcores.advisor.profiling.sites import Site, SourceFile


def unpicklable(site: Site, verdict: Verdict, values: Values, source: SourceFile) -> tuple[str, str] | None:
    """A name that iterations use in a worker, and the type of what it stood for, which does not pickle; None."""
    parts = _parts(site, verdict)
    for name in sorted(_used(site, parts)):
        fact = values.fact(site, name)
        if fact is not None and _is_unpicklable(fact):
            return name, fact[0]
        for path, inner in sorted(values.attributes(site, name).items()):
            if _is_unpicklable(inner):
                return path, inner[0]
    for function in called_functions(parts, source):
        for name in sorted({each.id for each in uses(function.body)} - own_names(function)):
            fact = values.fact_in(source.path, function, name)
            if fact is not None and _is_unpicklable(fact):
                return name, fact[0]
    return None


def _is_unpicklable(fact: Fact) -> bool:
    # A module travels by its name.
    return fact[0] != "module" and bool({fact[0], f"builtins.{fact[0]}"} & UNPICKLABLE)


def _parts(site: Site, verdict: Verdict) -> list[ast.AST]:
    """What would be a worker's of an iteration, with what the statements that stay compute for their changes."""
    node = site.node
    if isinstance(node, ast.For):
        rest = node.body[len(node.body) - verdict.tail :]
        inside = [each for statement in rest for each in ast.walk(statement)]
        effects = {each.value for each in inside if isinstance(each, ast.Expr)}
        computed: list[ast.AST] = [each for each in inside if isinstance(each, ast.Call) and each not in effects]
        return [*node.body[: len(node.body) - verdict.tail], *computed]
    if isinstance(node, ast.Call):
        return [node.args[0]]
    return [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]


def _used(site: Site, parts: list[ast.AST]) -> set[str]:
    """Names of what is outside that these parts use."""
    node = site.node
    own: set[str] = set()
    if isinstance(node, ast.For):
        own = stored_in([node.target, *parts])
    elif not isinstance(node, ast.Call):
        own = stored_in([part.target for part in node.generators])
    return {each.id for each in uses(parts) if isinstance(each.ctx, ast.Load)} - own
