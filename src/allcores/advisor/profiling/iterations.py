"""How often a site iterates, and what its items are: from lengths that were seen, and from how they grew."""

from __future__ import annotations

import ast
import itertools
import statistics
from dataclasses import dataclass

from allcores.advisor.profiling.attribution import SiteTime, Values
from allcores.advisor.profiling.records import Observation
from allcores.advisor.profiling.sites import Site

#: wrappers that give as many items as they get
_SAME_LENGTH = frozenset({"enumerate", "reversed", "sorted", "list", "tuple", "iter", "tqdm", "map"})


@dataclass(frozen=True)
class Iterations:
    """How often a site iterates.

    Attributes:
        each: Iterations of one execution; None if it cannot be told.
        executions: How often it is executed, at least.
        how: What `each` was taken from.
        item: (type, bytes when pickled, about, and "yes", "no" or "unknown": whether it pickles) of an item.
        often: It may be executed any number of times: nothing tells how often, so each may be short.
    """

    each: float | None
    executions: float
    how: str
    item: tuple[str, int, str] | None = None
    often: bool = False

    @property
    def total(self) -> float | None:
        """Iterations of all executions."""
        return None if self.each is None else self.each * self.executions


def count(times: list[SiteTime], values: Values) -> dict[Site, Iterations]:
    """The iterations of each site. A site within another is executed as often as that iterates."""
    by_site = {time.site: time for time in times}
    found: dict[Site, Iterations] = {}

    def of(time: SiteTime, above: frozenset[Site]) -> Iterations:
        if time.site in found:
            return found[time.site]
        executions = 1.0
        again = time.again > 0.5 * time.seconds
        if time.around:
            outer = time.around.most_common(1)[0][0]
            if outer not in above and outer in by_site:
                total = of(by_site[outer], above | {time.site}).total
                executions, again = total or 1.0, again or total is None
        each, how = _each(time, values, executions)
        pace, other, seen = _pace(time, values, again)
        again = again and executions == 1.0
        if each is not None and executions == 1.0 and (other or again or _in_while(time.site)):
            # by its pace if that is known; if it never stayed in one execution from look to look, each is shorter
            total = time.elapsed * (pace if pace is not None and not other else each / _PERIOD_S)
            executions = max(1.0, total / each)
        often = again and (other or seen < _SURE) and isinstance(time.site.node, ast.For)
        result = Iterations(each, executions, how, _item(time.site, values), often)
        found[time.site] = result
        return result

    for time in times:
        of(time, frozenset())
    return found


#: an execution that is gone at the next look is shorter than this, seconds
_PERIOD_S = 0.02
#: looks at a frame that are no further apart may be of one execution
_CLOSE_S = 0.2


#: so often two looks have to be of one execution, where it may be executed any number of times: some are by chance
_SURE = 3


def _pace(time: SiteTime, values: Values, again: bool) -> tuple[float | None, bool, int]:
    """Iterations a second, from looks that followed each other.

    Args:
        time: Of a site.
        values: What was seen in its function.
        again: It may be executed any number of times: what it adds to is looked at, too.

    Returns:
        That; whether one look was of another execution than the one before; and how many were not.
    """
    paces: list[float] = []
    other = False
    target = time.site.node.target if isinstance(time.site.node, ast.For) else None
    name = target.id if isinstance(target, ast.Name) else None
    ways: list[tuple[list[Observation], str | None, int, tuple[str, ...]]] = [
        (values.own(time.site), ".0", -1, ("list_iterator", "range_iterator", "tuple_iterator")),
        (values.near(time.site), name, 1, ("int",)),
    ]
    if again:
        near = values.near(time.site)
        ways += [(near, grown, 1, ("list", "set", "dict")) for grown in _grown(time.site)]
    for looks, key, sign, kinds in ways:
        seen = sorted(
            (look.at, look.facts[key][1])
            for look in looks
            if key is not None and key in look.facts and look.facts[key][0] in kinds
            and time.site.line <= look.line <= time.site.end_line
        )  # fmt: skip
        for (before, first), (after, second) in itertools.pairwise(seen):
            if 0.0 < after - before < _CLOSE_S:
                if (second - first) * sign > 0:
                    paces.append((second - first) * sign / (after - before))
                elif second != first:
                    other = True
    return (statistics.median(paces) if paces else None), other, len(paces)


def _each(time: SiteTime, values: Values, executions: float) -> tuple[float | None, str]:
    iterable = time.site.iterable
    if iterable is not None:
        length = length_of(iterable, time.site, values)
        if length is not None and length > 0:
            return float(length), "the length of what it iterates over"
    looks = [look for look in values.own(time.site) if ".0" in look.facts]
    if looks and looks[0].facts[".0"][1] >= 0:
        return float(max(look.facts[".0"][1] for look in looks) + 1), "what its iterator had left"
    if executions == 1.0 and (growth := _growth(time, values)) is not None:
        return growth, "how fast its result grew"
    return None, "not known"


def _growth(time: SiteTime, values: Values) -> float | None:
    """Iterations by the list that the loop appends to: the rate at which it grew, times the loop's time."""
    for name in _grown(time.site):
        seen = [(look.at, look.facts[name][1]) for look in values.near(time.site) if name in look.facts]
        seen.sort()
        if len(seen) >= 2 and seen[-1][1] > seen[0][1] >= 0:
            rate = (seen[-1][1] - seen[0][1]) / max(1e-9, seen[-1][0] - seen[0][0])
            return max(float(seen[-1][1]), rate * time.elapsed)
    return None


def _grown(site: Site) -> list[str]:
    """Names of what a loop adds to."""
    node = site.node
    if not isinstance(node, ast.For):
        return []
    names = [
        ast.unparse(each.func.value)
        for each in ast.walk(node)
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr in ("append", "add")
    ]
    names += [  # a dictionary that it fills
        ast.unparse(each.value)
        for each in ast.walk(node)
        if isinstance(each, ast.Subscript) and isinstance(each.ctx, ast.Store) and isinstance(each.value, ast.Name)
    ]
    return names


def length_of(node: ast.expr, site: Site, values: Values) -> int | None:
    """How many items an expression gives, from the lengths of the names in it."""
    if isinstance(node, ast.Name):
        fact = values.fact(site, node.id)
        return fact[1] if fact is not None and fact[0] not in ("int", "bool") and fact[1] >= 0 else None
    if isinstance(node, ast.Attribute):
        fact = values.fact(site, ast.unparse(node))
        return fact[1] if fact is not None and fact[1] >= 0 else None
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return len(node.elts)
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        return len(node.value)
    if isinstance(node, ast.Call):
        return _length_of_call(node, site, values)
    return None


def _length_of_call(node: ast.Call, site: Site, values: Values) -> int | None:
    if isinstance(node.func, ast.Attribute):
        if node.func.attr in ("items", "keys", "values", "copy", "tolist"):
            return length_of(node.func.value, site, values)
        return length_of(node.args[0], site, values) if node.func.attr == "tqdm" and node.args else None
    if not isinstance(node.func, ast.Name) or not node.args:
        return None
    if node.func.id == "range":
        numbers = [number_of(each, site, values) for each in node.args]
        known = [each for each in numbers if each is not None]
        if len(known) != len(numbers) or (len(known) == 3 and known[2] == 0):
            return None
        return len(range(*known))
    if node.func.id == "zip":
        lengths = [length_of(each, site, values) for each in node.args]
        return min((each for each in lengths if each is not None), default=None)
    if node.func.id in _SAME_LENGTH:
        return length_of(node.args[-1 if node.func.id == "map" else 0], site, values)
    return None


def number_of(node: ast.expr, site: Site, values: Values) -> int | None:
    """The whole number that an expression stands for, as far as its names were seen."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) else None
    if isinstance(node, ast.Name):
        fact = values.fact(site, node.id)
        return fact[1] if fact is not None and fact[0] == "int" else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len" and node.args:
        return length_of(node.args[0], site, values)
    if isinstance(node, ast.BinOp):
        left, right = number_of(node.left, site, values), number_of(node.right, site, values)
        if left is None or right is None:
            return None
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.FloorDiv) and right:
            return left // right
    return None


def _in_while(site: Site) -> bool:
    """Whether a `while` of its function is around a site: how often that turns cannot be read."""
    return any(
        isinstance(node, ast.While) and node.lineno <= site.line and (node.end_lineno or 0) >= site.end_line
        for node in ast.walk(site.owner)
    )


def _item(site: Site, values: Values) -> tuple[str, int, str] | None:
    """An item of what a site iterates over."""
    node = site.iterable
    while isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id == "range":
            return ("int", 9, "yes")
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("items", "keys", "values", "copy"):
            node = node.func.value
        elif node.args:
            node = node.args[-1 if isinstance(node.func, ast.Name) and node.func.id == "map" else 0]
        else:
            return None
    if isinstance(node, ast.Name | ast.Attribute):
        fact = values.fact(site, ast.unparse(node))
        if fact is not None:
            return fact[2]
    return None
