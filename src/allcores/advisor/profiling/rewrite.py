"""The program with a site as a map: an edit of its source, as a unified diff.

What is heavy in an iteration becomes the body of a function; what the iteration changes outside stays in the loop, in
order. So the program does the same, in the same order, and prints the same. Where that cannot be written there is no
diff.
"""

from __future__ import annotations

import ast
import difflib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from allcores.advisor.profiling import loops
from allcores.advisor.profiling.edits import Edit, applied, called_alone, lines_in, segment
from allcores.advisor.profiling.independence import Verdict
from allcores.advisor.profiling.libraries import MUTATORS, called_name
from allcores.advisor.profiling.names import root_of, stored_in
from allcores.advisor.profiling.results import Copies
from allcores.advisor.profiling.sites import Comprehension, Site, SourceFile

#: calls that may end before they have taken all items: as a map they would all be computed
_SHORT = frozenset({"any", "all", "next", "islice", "takewhile", "zip", "iter"})
#: functions that take all that they are given
_WHOLE = frozenset({"sum", "list", "tuple", "set", "frozenset", "dict", "sorted", "max", "min", "join", "fsum",
                    "Counter", "array", "extend", "update", "fromkeys", "mean", "median", "prod"})  # fmt: skip
#: methods whose result calls a function for each group or window
_GROUPED = frozenset({"groupby", "rolling", "resample", "expanding", "ewm"})
#: what does for frames what their method `apply` does, and options of either that the other has not
_APPLY = "allcores.adapters.pandas.apply"
_OPTIONS = frozenset(
    {
        "by_row",
        "convert_dtype",
        "engine",
        "engine_kwargs",
        "pool",
        "workers",
        "timeout",
        "retries",
        "on_error",
        "progress",
    }
)


@dataclass(frozen=True)
class Rewrite:
    """A suggested change.

    Attributes:
        text: The whole file after it.
        diff: The change, as `patch -p1` takes it.
    """

    text: str
    diff: str


def rewrite(
    site: Site,
    verdict: Verdict,
    source: SourceFile,
    *,
    pattern: str,
    workers: int,
    values: bool = True,
    kind: Callable[[str], tuple[str, str | None] | None] = lambda name: None,
) -> Rewrite | None:
    """The file with this site as a map; None if that cannot be written so that it does the same.

    Args:
        site: What to change.
        verdict: What was found about it.
        source: The file.
        pattern: "processes" or "threads".
        workers: Of threads: how many.
        values: Items are as good as their copies. Objects of the program's classes may not be: what a worker gives
            back of them is another object.
        kind: What was seen of a name: its type, and that of an item of it; None for what was not seen.
    """
    if not verdict.independent or verdict.writes or pattern not in ("processes", "threads"):
        return None
    if not values and pattern == "processes" and _keeps_items(site, verdict):
        return None
    if any(_looks_at_function(each) for each in ast.walk(site.node)):
        return None
    try:
        edits = _edits(site, verdict, Copies(source, pattern == "threads", kind))
        if edits is None:
            return None
        text = applied(source.text, [*edits, *_imports(source, pattern, workers, site.kind)])
        compile(text, source.path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    name = os.path.relpath(source.path)
    lines = difflib.unified_diff(lines_in(source.text), lines_in(text), f"a/{name}", f"b/{name}")
    return Rewrite(text, "".join(_as_in_file(line, source.newline) for line in lines))


def _looks_at_function(node: ast.AST) -> bool:
    """Whether it means something else in another function, as `super()` does."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        return node.func.id in ("super", "locals", "vars", "dir")
    return isinstance(node, ast.Name) and node.id == "__class__"


def _as_in_file(line: str, newline: str) -> str:
    """A line of a diff. Those of the file end as they do there, or `patch` would not find them."""
    if not line.endswith("\n"):
        return f"{line}\n\\ No newline at end of file\n"
    is_head = line.startswith(("--- a/", "+++ b/", "@@ "))
    return line if is_head else line.removesuffix("\n") + newline


def _keeps_items(site: Site, verdict: Verdict) -> bool:
    """Whether what stays in the program, or is given back to it, has an item in it, and not only what comes of it."""
    if isinstance(site.node, ast.Call):
        return False
    if isinstance(site.node, ast.For):
        body = site.node.body
        targets = _names_of_items(site.node.target, site.node.iter)
        return any(_has(part, targets) for part in body[len(body) - verdict.tail :])
    targets = {name for part in site.node.generators for name in _names_of_items(part.target, part.iter)}
    parts = [site.node.key, site.node.value] if isinstance(site.node, ast.DictComp) else [site.node.elt]
    return any(_has(part, targets) for part in parts)


def _names_of_items(target: ast.expr, iterable: ast.expr) -> set[str]:
    """The names that a loop stores items in: of `enumerate` the second, the first is a number."""
    is_counted = isinstance(iterable, ast.Call) and called_name(iterable) == "enumerate"
    if is_counted and isinstance(target, ast.Tuple) and len(target.elts) == 2:
        return stored_in(target.elts[1:])
    return stored_in([target])


def _has(node: ast.AST, names: set[str]) -> bool:
    """Whether one of the names stands in it by itself: not as what a function gets, nor as what a part is taken of."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Attribute):
        return False
    if isinstance(node, ast.Call):
        # What `out.append(...)` is called with stays, and so does the key of `out[key].append(...)`.
        if not isinstance(node.func, ast.Attribute) or node.func.attr not in MUTATORS:
            return False
        return any(_has(each, names) for each in [*node.args, node.func.value])
    return any(_has(child, names) for child in ast.iter_child_nodes(node))


def _edits(site: Site, verdict: Verdict, copies: Copies) -> list[Edit] | None:
    if isinstance(site.node, ast.For):
        return loops.edits(site, site.node, verdict.tail, copies.source, copies)
    if isinstance(site.node, ast.Call):
        return _of_map(site.node, copies) if site.kind == "map" else _of_apply(site.node, copies)
    return _of_comprehension(site.node, copies)


def _imports(source: SourceFile, pattern: str, workers: int, kind: str) -> Iterator[Edit]:
    """`import allcores`, or what is needed of it, before the first import, or statement.

    That is no docstring and no import from __future__.
    """
    body = source.tree.body
    module = _APPLY.rpartition(".")[0] if kind == "apply" else "allcores"
    known = any(
        isinstance(each, ast.Import) and any(name.name == module and not name.asname for name in each.names)
        for each in body
    )
    place, blank = 0, ""
    for each in body:
        docstring = each is body[0] and isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
        if not docstring and not (isinstance(each, ast.ImportFrom) and each.module == "__future__"):
            place = min([each.lineno, *(one.lineno for one in getattr(each, "decorator_list", []))])
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                blank = "\n\n"
            elif not isinstance(each, ast.Import | ast.ImportFrom):
                blank = "\n"
            break
    if not known:
        yield Edit(place, 0, place, 0, f"import {module}\n{blank}")
    if pattern == "threads":
        last = max((each.end_lineno or 0 for each in body if isinstance(each, ast.Import | ast.ImportFrom)), default=0)
        yield Edit(
            max(last + 1, place), 0, max(last + 1, place), 0,
            f'\nallcores.configure(workers={workers}, backend="threads")\n',
        )  # fmt: skip


def _of_comprehension(node: Comprehension, copies: Copies) -> list[Edit] | None:
    part, source = node.generators[0], copies.source
    parents = _parents(source.tree)
    above = parents.get(node)
    items = segment(source.text, part.iter)
    if part.ifs:
        tests = " if ".join(segment(source.text, each) for each in part.ifs)
        target = segment(source.text, part.target)
        if isinstance(part.target, ast.Tuple) and not target.startswith("("):
            target = f"({target})"  # as an element it needs them
        items = f"[{target} for {target} in {items} if {tests}]"
    targets = stored_in([part.target])
    values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    if not copies.are_good(values, [], targets):
        return None
    element: ast.expr | ast.Tuple = node.elt if not isinstance(node, ast.DictComp) else node.value
    if isinstance(node, ast.DictComp):
        body = f"({segment(source.text, node.key)}, {segment(source.text, node.value)})"
    else:
        body = segment(source.text, node.elt)
    method, function = "", ""
    if isinstance(part.target, ast.Name):
        method, function = "map", _function(element, body, part.target.id, isinstance(node, ast.DictComp))
    elif isinstance(part.target, ast.Tuple) and all(isinstance(each, ast.Name) for each in part.target.elts):
        method = "starmap"
        function = f"lambda {', '.join(ast.unparse(each) for each in part.target.elts)}: {body}"
    else:
        return None
    call = f"allcores.{method}({function}, {items})"
    if isinstance(node, ast.GeneratorExp):
        if not isinstance(above, ast.Call) or called_name(above) in _SHORT:
            return None
        if called_name(above) not in _WHOLE:
            # It takes values one by one, and may end early: there may be no end of them.
            if part.ifs or method != "map":
                return None
            call = f"allcores.imap({function}, {items})"
        call = f"({call})"  # the parentheses of a generator are its own, also where they are those of a call
    elif isinstance(node, ast.SetComp):
        call = f"set({call})"
    elif isinstance(node, ast.DictComp):
        call = f"dict({call})"
    return [Edit.of(node, call)]


def _function(element: ast.expr, body: str, target: str, pair: bool) -> str:
    """What to call for an item: the function that is called with it alone, or a lambda."""
    alone = None if pair else called_alone(element, target)
    return alone or f"lambda {target}: {body}"


def _of_map(node: ast.Call, copies: Copies) -> list[Edit] | None:
    source = copies.source
    above = _parents(source.tree).get(node)
    if not isinstance(above, ast.Call | ast.For | ast.comprehension) or isinstance(node.args[1], ast.Starred):
        return None  # it may be consumed in part
    if isinstance(above, ast.Call) and called_name(above) in _SHORT:
        return None
    called = node.args[0]
    value = called.body if isinstance(called, ast.Lambda) else ast.Call(called, [ast.Name("_", ast.Load())], [])
    targets = {each.arg for each in called.args.args} if isinstance(called, ast.Lambda) else {"_"}
    if not copies.are_good([value], [], targets):
        return None
    function, items = segment(source.text, node.args[0]), segment(source.text, node.args[1])
    return [Edit.of(node, f"allcores.imap({function}, {items})")]


def _of_apply(node: ast.Call, copies: Copies) -> list[Edit] | None:
    """The call of our `apply`, which returns what that of pandas does: parts that are joined have other types."""
    assert isinstance(node.func, ast.Attribute)
    source, frame = copies.source, node.func.value
    seen = copies.kind(root_of(frame) or "")
    if isinstance(frame, ast.Subscript) and seen is not None and seen[0] == "dict":
        return None  # `frames["a"]` is a frame
    plain = all(isinstance(each, ast.Name | ast.Attribute | ast.Subscript | ast.Constant | ast.Load)
                for each in ast.walk(frame))  # fmt: skip
    by_row = _is_column(frame, source) or any(
        word.arg == "axis" and isinstance(word.value, ast.Constant) and word.value.value in (1, "columns")
        for word in node.keywords
    )
    index = isinstance(frame, ast.Attribute) and frame.attr in ("index", "columns")
    if "pandas" not in source.modules.values() or not plain or index or not by_row or node.func.attr != "apply":
        return None  # by columns, by groups, or of what is computed here
    if len(node.args) != 1 or any(each.arg is None or each.arg in _OPTIONS for each in node.keywords):
        return None  # it may have any option
    parts = [frame, *node.args]
    text = [segment(source.text, each) for each in parts]
    text += [f"{each.arg}={segment(source.text, each.value)}" for each in node.keywords]
    return [Edit.of(node, f"{_APPLY}({', '.join(text)})")]


def _is_column(frame: ast.expr, source: SourceFile) -> bool:
    """Whether it is one column of a frame by its name: several are a frame, whose function gets whole columns."""
    if not isinstance(frame, ast.Subscript) or not isinstance(frame.slice, ast.Constant):
        return False
    grouped = {
        target
        for each in ast.walk(source.tree)
        if isinstance(each, ast.Assign)
        if isinstance(each.value, ast.Dict | ast.DictComp)  # of frames
        or any(isinstance(part, ast.Attribute) and part.attr in _GROUPED for part in ast.walk(each.value))
        for target in stored_in(each.targets)
    }
    return root_of(frame) not in grouped


def _parents(tree: ast.Module) -> dict[ast.AST, ast.AST]:
    pairs = itertools.chain.from_iterable(
        ((child, node) for child in ast.iter_child_nodes(node)) for node in ast.walk(tree)
    )
    return dict(pairs)
