"""What an iteration needs of the names around it: a worker gets that with the function, so it has to be pickled."""

from __future__ import annotations

import ast

from allcores.advisor.profiling.attribution import Values
from allcores.advisor.profiling.facts import UNPICKLABLE
from allcores.advisor.profiling.independence import Verdict
from allcores.advisor.profiling.names import stored_in, uses
from allcores.advisor.profiling.sites import Site


def unpicklable(site: Site, verdict: Verdict, values: Values) -> tuple[str, str] | None:
    """A name that iterations use in a worker, and the type of what it stood for, which does not pickle; None."""
    for name in sorted(_used(site, verdict)):
        fact = values.fact(site, name)
        # A module travels by its name.
        if fact is not None and fact[0] != "module" and {fact[0], f"builtins.{fact[0]}"} & UNPICKLABLE:
            return name, fact[0]
    return None


def _used(site: Site, verdict: Verdict) -> set[str]:
    """Names of what is outside that the part of an iteration uses which would be a worker's."""
    node = site.node
    parts: list[ast.AST] = []
    own: set[str] = set()
    if isinstance(node, ast.For):
        parts = list(node.body[: len(node.body) - verdict.tail])
        own = stored_in([node.target, *parts])
    elif isinstance(node, ast.Call):
        parts = [node.args[0]] if isinstance(node.args[0], ast.Lambda) else []
    else:
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        own = stored_in([part.target for part in node.generators])
    return {each.id for each in uses(parts) if isinstance(each.ctx, ast.Load)} - own
