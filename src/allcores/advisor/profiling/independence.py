"""Whether the iterations of a site could be done in any order, in other processes: what its source says.

It reads names, in order, with what may be skipped; effects.py looks into calls. What a library does is not read: it
counts as free of effects unless its name says otherwise. So "independent" means that nothing was found against it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from allcores.advisor.profiling.aliases import changed_in_place, others
from allcores.advisor.profiling.effects import of_called, of_expression, of_statement, reading
from allcores.advisor.profiling.libraries import TELLING, changed_by_call, of_first, starts_writer, tells
from allcores.advisor.profiling.lookahead import of_iterators, of_source
from allcores.advisor.profiling.names import (
    borrowed_in,
    declared_in,
    exposed,
    meets,
    own_names,
    path_of,
    paths_in,
    read_after,
    read_by_functions,
    stored_in,
    uses,
)
from allcores.advisor.profiling.parts import called_functions, returns_part
from allcores.advisor.profiling.program_files import ProgramFiles
from allcores.advisor.profiling.sites import Site, SourceFile

#: functions whose result is another list, say, than what they are given: that may change meanwhile
_COPIES = frozenset({"list", "sorted", "tuple", "set", "frozenset", "dict", "range", "len"})
#: so many reasons are said
_MOST_REASONS = 4


@dataclass(frozen=True)
class Verdict:
    """What stands in the way of doing iterations in any order.

    `tail` is the number of statements at the end of a for loop's body that have effects and stay where they are, in
    order. `reasons` is empty if the rest is independent; `notes` say what the reader should know. It
    `writes` if it starts processes that may write into the program's output.
    """

    reasons: tuple[str, ...]
    tail: int = 0
    notes: tuple[str, ...] = ()
    writes: bool = False

    @property
    def independent(self) -> bool:
        """Whether nothing was found against it."""
        return not self.reasons


def judge(site: Site, source: SourceFile, files: ProgramFiles | None = None) -> Verdict:
    """What the source says of a site.

    Args:
        site: The loop.
        source: Its file.
        files: The program's other ones, into which calls are followed; None: they are not.
    """
    try:
        with reading(files):
            return _judged(site, source)
    except RecursionError:
        return Verdict(("its source is nested too deeply to be read",))


def _judged(site: Site, source: SourceFile) -> Verdict:
    if isinstance(site.node, ast.For):
        return _judge_loop(site.node, site, source)
    if isinstance(site.node, ast.Call):
        called = site.node.args[0]
        return _verdict(_first(of_called(called, source, items=site.kind == "map")), [called], source)
    return _judge_comprehension(site.node, site, source)


def _judge_comprehension(
    node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, site: Site, source: SourceFile
) -> Verdict:
    parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    targets = {each.id for part in node.generators for each in ast.walk(part.target) if isinstance(each, ast.Name)}
    found = _first(reason for part in parts for reason in of_expression(part, targets, source, targets=targets))
    tests = [test for part in node.generators for test in part.ifs]
    kept = {each.target.id for test in tests for each in ast.walk(test) if isinstance(each, ast.NamedExpr)}
    found += [f"it sets `{name}`" for name in sorted(kept & {each.id for each in uses(parts)})]
    if len(node.generators) > 1:
        found.append("it has more than one for")
    if any(part.is_async for part in node.generators) or any(isinstance(each, ast.Await) for each in ast.walk(node)):
        found.append("it is asynchronous")
    changed = {path_of(one) for test in tests for each in ast.walk(test) if isinstance(each, ast.Call)
               if (one := changed_by_call(each)) is not None}  # fmt: skip
    reads = {path for part in parts for path in paths_in(part)}
    found += [f"`{name}` is read and changed" for name in sorted(filter(None, changed)) if meets(name, reads)]
    found += of_source(node.generators[0].iter, parts, site.owner, source)
    found += of_iterators(parts, targets, site.owner, source)
    return _verdict(found, parts, source)


def _judge_loop(node: ast.For, site: Site, source: SourceFile) -> Verdict:
    found = list(_early_ends(node.body))
    if node.orelse:
        found.append("it has an else")
    targets = {each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)}
    tail = tail_length(node.body, targets)
    head, rest = node.body[: len(node.body) - tail], node.body[len(node.body) - tail :]
    stored = stored_in(head)
    own = stored | targets
    tail_changes = set(changed_by(rest))
    tail_changes |= others(changed_in_place(rest), site.owner, source)
    carried = exposed(node.body, targets) & stored
    found += [f"`{name}` of one iteration is used in the next" for name in sorted(carried)]
    after = (own - carried) & read_after(node, site.owner)
    found += [f"`{name}` is used after the loop" for name in sorted(after)]
    elsewhere = (read_by_functions(node, site.owner) - after) | declared_in(site.owner)
    found += [f"`{name}` is used by other functions" for name in sorted(own & elsewhere)]
    reads = {path for statement in head for path in paths_in(statement)} | tail_reads(rest)
    reads |= set(_of_growing(node, rest, targets))
    found += [f"`{name}` is read and changed" for name in sorted(tail_changes) if meets(name, reads)]
    found += _read_by_functions(node, tail_changes, source)
    # What a part of something outside is called by is no name of the iteration's own, as far as changes go.
    local = own - (borrowed_in(head, frozenset(), returns_part(source)) - targets)
    found += _of_items(head, targets)
    for statement in head:
        found += _first(of_statement(statement, local, targets, source), found)
    for statement in rest:
        for part in ast.iter_child_nodes(statement):
            if isinstance(part, ast.expr):
                found += [
                    each
                    for each in of_expression(part, local, source, targets=targets, effect=statement)
                    if "prints" not in each
                ]
    found += of_source(node.iter, node.body, site.owner, source)
    found += of_iterators(head, own, site.owner, source)
    notes = ["what it does at the end of an iteration stays in the loop, in order"] if tail else []
    parts = [*head, *(each for statement in rest for each in _computed(statement))]
    return _verdict(found, parts, source, tail, notes)


def _verdict(
    found: list[str], parts: Sequence[ast.AST], source: SourceFile, tail: int = 0, notes: Sequence[str] = ()
) -> Verdict:
    """With notes of what workers would write in the order in which they come to it."""
    nodes = [each for part in [*parts, *called_functions(parts, source)] for each in ast.walk(part)]
    calls = [each for each in nodes if isinstance(each, ast.Call)]
    writes = any(starts_writer(each, source.full_name(each.func)) for each in calls)
    more = ["what the processes that it starts write may come in another order"] if writes else []
    if any(isinstance(each.func, ast.Attribute) and each.func.attr in TELLING for each in calls):
        more.append("what it logs may come in another order")
    return Verdict(tuple(_unique(found)), tail, (*notes, *more), writes)


def _computed(statement: ast.stmt) -> list[ast.expr]:
    """What a statement of a tail computes, besides the change that it is there for."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return [*statement.value.args, *(each.value for each in statement.value.keywords)]
    return [each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.expr)]


def tail_length(body: list[ast.stmt], targets: Set[str]) -> int:
    """How many statements at the end of a body do nothing but change what is outside, one after the other.

    One that changes what the iteration has for itself (`y += 1`) is none of these, nor is what stands before it.

    Args:
        body: Of a loop.
        targets: Names that it stores its items in.
    """
    first = len(body)
    while first and _is_effect(body[first - 1]):
        first -= 1
    own = stored_in(body[:first]) | targets
    for number in range(len(body) - 1, first - 1, -1):
        if any(name.partition(".")[0] in own for name in changed_by([body[number]])):
            return len(body) - number - 1
    return len(body) - first


def _is_effect(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.AugAssign):
        return True
    if isinstance(statement, ast.Assign):
        return all(isinstance(each, ast.Subscript | ast.Attribute) for each in statement.targets)
    if isinstance(statement, ast.If):
        return not statement.orelse and all(_is_effect(each) for each in statement.body)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        return tells(call) or changed_by_call(call) is not None
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
                and (changed := changed_by_call(node)) is not None
                and (name := path_of(changed)) is not None
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
            arguments = [each for each in statement.value.args if each is not of_first(statement.value)]
            parts = [*arguments, *(each.value for each in statement.value.keywords)]
        elif isinstance(statement, ast.If):
            parts = [statement.test]
            found |= tail_reads(statement.body)
        else:
            parts = [statement]
        for part in parts:
            found |= paths_in(part)
    return found


def _of_growing(node: ast.For, rest: list[ast.stmt], targets: Set[str]) -> Iterator[str]:
    """What the loop goes over and changes meanwhile, so that it may have other items than at its beginning."""
    over = _gone_over(node.iter)
    for each in (each for statement in rest for each in ast.walk(statement)):
        changed: list[ast.expr] = []
        if isinstance(each, ast.AugAssign):
            changed = [each.target]
        elif isinstance(each, ast.Assign):
            changed = [target for target in each.targets if not _is_at_item(target, targets)]
        elif isinstance(each, ast.Call) and (one := changed_by_call(each)) is not None:
            changed = [one]
        yield from (path for one in changed if (path := path_of(one)) is not None and meets(path, over))


def _is_at_item(target: ast.expr, targets: Set[str]) -> bool:
    """Whether it is the place of the item itself, as in `values[i] = ...`."""
    return isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Name) and target.slice.id in targets


def _gone_over(node: ast.expr) -> set[str]:
    """Names of what a loop over an expression looks into as it goes on."""
    if isinstance(node, ast.Name | ast.Attribute):
        return paths_in(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in _COPIES:
        return {path for part in node.args for path in _gone_over(part)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _gone_over(node.func.value) if node.func.attr in ("items", "keys", "values") else set()
    return set()


def _read_by_functions(node: ast.AST, changed: set[str], source: SourceFile) -> Iterator[str]:
    """Functions of the file that may be called, and read what the loop changes."""
    seen: set[ast.AST] = set()
    waiting = [node]
    while waiting and changed:
        for each in ast.walk(waiting.pop()):
            name = each.id if isinstance(each, ast.Name) else each.attr if isinstance(each, ast.Attribute) else ""
            functions = [function for function, _ in source.aliases.get(name, ())]
            for function in source.functions.get(name, ()):
                if (function in source.methods) != isinstance(each, ast.Attribute):
                    continue
                functions.append(function)
            for function in functions:
                if function in seen:
                    continue
                seen.add(function)
                waiting.append(function)
                own = own_names(function) - {"self"}
                read = {path for path in paths_in(function) if path.partition(".")[0] not in own}
                # A method reads by `self` what others call by another name.
                attributes = {path.partition(".")[2] for path in read if path.startswith("self.")}
                yield from (
                    f"`{path}` is changed, and read by `{name}`"
                    for path in sorted(changed)
                    if meets(path, read) or (function in source.methods and path.partition(".")[2] in attributes)
                )


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


def _of_items(head: list[ast.stmt], targets: Set[str]) -> Iterator[str]:
    """Items that are changed by `item += ...`: a list is so in place."""
    nodes = [each for statement in head for each in ast.walk(statement)]
    again = stored_in(target for each in nodes if isinstance(each, ast.Assign) for target in each.targets)
    for each in nodes:
        if isinstance(each, ast.AugAssign) and isinstance(each.target, ast.Name):
            name = each.target.id
            if name in targets and name not in again:
                yield f"it changes its item `{name}` in place"


def _unique(reasons: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(reasons))[:_MOST_REASONS]


def _first(reasons: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """The first reasons besides those that are known. More are not looked for: there may be very many calls."""
    seen = set(known)
    found: list[str] = []
    for each in reasons if len(seen) < _MOST_REASONS else ():
        found.append(each)
        seen.add(each)
        if len(seen) >= _MOST_REASONS:
            break
    return found
