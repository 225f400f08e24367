"""A for loop as a map: its body becomes a function, and what it does at its end stays in the loop."""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass, field

from allcores.advisor.profiling.edits import Edit, applied, called_alone, lines_in, segment, unused_name
from allcores.advisor.profiling.libraries import called_name, tells
from allcores.advisor.profiling.names import stored_in, uses
from allcores.advisor.profiling.results import Copies
from allcores.advisor.profiling.sites import Site, SourceFile

#: calls that cost nothing: not worth a way to a worker
_CHEAP = frozenset({"len", "str", "int", "float", "range", "abs", "min", "max", "round", "isinstance", "tuple", "list"})
#: methods whose effect is outside of the program's memory
_SENT = frozenset({"write", "writelines", "writerow", "writerows", "put", "send", "sendall", "execute", "commit"})


@dataclass
class _Lifted:
    """What the function computes for the statements that stay: names, and statements that store them."""

    names: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    #: the expressions that were moved, as they stand
    parts: list[ast.expr] = field(default_factory=list)


def edits(site: Site, node: ast.For, tail: int, source: SourceFile, copies: Copies) -> list[Edit] | None:
    """The edits that make a loop a map; None if they cannot be written."""
    if isinstance(site.owner, ast.Module) and site.function != "<module>":
        return None  # a function in the body of a class does not see its names
    head, rest = node.body[: len(node.body) - tail], node.body[len(node.body) - tail :]
    lifted = _lift(rest, source, is_seen=_is_in_try(node, site.owner))
    if lifted is None or not (head or lifted.names):
        return None
    stored = stored_in(head)
    targets = [each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)]
    wanted = {each.id for each in uses(_after(rest, lifted, source))} if rest else set()
    results = sorted(wanted & (stored | set(targets))) + lifted.names
    names: list[ast.expr] = [ast.Name(each, ast.Load()) for each in wanted & stored]
    values = [*names, *lifted.parts]
    if not copies.are_good(values, head, set(targets)):
        return None
    if not head and results == lifted.names and (called := _called(node, lifted)) is not None:
        return [_replaced(node, _short(site, node, rest, lifted, called, source))]
    function = unused_name(source.tree, f"{_stem(site)}_item")
    simple = isinstance(node.target, ast.Name)
    item = node.target.id if isinstance(node.target, ast.Name) else unused_name(source.tree, "item")
    indent = _blanks_of(node, source)
    inner = _indent_of(node, source) or indent + ("\t" if "\t" in indent else "    ")
    deeper = inner + inner.removeprefix(indent)
    lines = [f"{indent}def {function}({item}):"]
    if not simple:
        lines.append(f"{inner}{segment(source.text, node.target)} = {item}")
    skips = [each for statement in head for each in _continues(statement)]
    if head:
        lines += _verbatim(head, source, inner, [Edit.of(each, "return None") for each in skips])
    lines += [inner + line for line in lifted.lines]
    packed = ", ".join(results)
    value = unused_name(source.tree, "result")
    if skips:
        lines.append(f"{inner}return ({packed}{',' if len(results) == 1 else ''})")
    elif results:
        lines.append(f"{inner}return {packed}")
    unpacked = value if skips or not results else packed
    call = f"allcores.imap({function}, {_items(node.iter, source)})"
    lines += ["", f"{indent}for {unpacked} in {call}:"]
    if skips:
        lines += [f"{inner}if {value} is None:", f"{deeper}continue"]
        if results:
            lines.append(f"{inner}{packed}{',' if len(results) == 1 else ''} = {value}")
    lines += _verbatim(rest, source, inner, lifted.edits) if rest else [f"{inner}pass"]
    return [_replaced(node, lines)]


def _items(node: ast.expr, source: SourceFile) -> str:
    """What a loop goes over, as an argument: a tuple may stand there without parentheses."""
    text = segment(source.text, node)
    if isinstance(node, ast.Tuple):
        call = ast.parse(f"f({text})", mode="eval").body
        alone = isinstance(call, ast.Call) and len(call.args) == 1 and isinstance(call.args[0], ast.Tuple)
        return text if alone else f"({text})"
    return text


def _replaced(node: ast.For, lines: list[str]) -> Edit:
    end = node.end_lineno or node.lineno
    return Edit(node.lineno, 0, end, node.end_col_offset or 0, "\n".join(lines))


def _called(node: ast.For, lifted: _Lifted) -> str | None:
    """The function that is called with the item alone, if that is all that an iteration computes."""
    if len(lifted.parts) != 1 or len(lifted.names) != 1 or not isinstance(node.target, ast.Name):
        return None
    return called_alone(lifted.parts[0], node.target.id)


def _short(
    site: Site, node: ast.For, rest: list[ast.stmt], lifted: _Lifted, called: str, source: SourceFile
) -> list[str]:
    """The loop over the values of that function; one that only gathers them in a list is no loop any more."""
    indent = _blanks_of(node, source)
    call = f"allcores.imap({called}, {_items(node.iter, source)})"
    gathered = _gathered(site, rest, lifted.parts[0])
    if gathered is not None:
        return [f"{indent}{gathered}.extend({call})"]
    inner = _indent_of(node, source) or indent + ("\t" if "\t" in indent else "    ")
    return [f"{indent}for {lifted.names[0]} in {call}:", *_verbatim(rest, source, inner, lifted.edits)]


def _gathered(site: Site, rest: list[ast.stmt], part: ast.expr) -> str | None:
    """The name of the list, if all that the statements do is to append the value to one that begins empty."""
    if len(rest) != 1 or not isinstance(rest[0], ast.Expr) or not isinstance(rest[0].value, ast.Call):
        return None
    call = rest[0].value
    if not (isinstance(call.func, ast.Attribute) and call.func.attr == "append" and call.args == [part]):
        return None
    if call.keywords or not isinstance(call.func.value, ast.Name):
        return None
    name = call.func.value.id
    values = [
        each.value
        for each in ast.walk(site.owner)
        if isinstance(each, ast.Assign | ast.AnnAssign | ast.NamedExpr)
        for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
        if isinstance(target, ast.Name) and target.id == name
    ]
    return name if values and all(isinstance(value, ast.List) for value in values) else None


def _stem(site: Site) -> str:
    name = site.function.rpartition(".")[2]
    return "one" if name in ("<module>", "<lambda>") else name


def _is_in_try(loop: ast.For, owner: ast.AST) -> bool:
    """Whether a failure of the loop is handled around it, so that what was done until then is seen."""
    return any(
        each is not loop and isinstance(each, ast.Try | ast.With) and each.lineno <= loop.lineno
        and (each.end_lineno or 0) >= (loop.end_lineno or 0)
        for each in ast.walk(owner)
    )  # fmt: skip


def _is_seen(statement: ast.stmt) -> bool:
    """Whether what a statement has done is seen outside of the program, also if what comes after it fails."""
    return any(
        isinstance(each, ast.Call) and (tells(each) or called_name(each) in _SENT) for each in ast.walk(statement)
    )


def _lift(statements: list[ast.stmt], source: SourceFile, *, is_seen: bool) -> _Lifted | None:
    """Move what the statements that stay compute into the function.

    Args:
        statements: Those that stay.
        source: The file.
        is_seen: What they have done is seen, also if the loop fails.

    Returns:
        None if a part of it may not be computed at all, or not before what stands before it has been done.
    """
    lifted = _Lifted()
    for number, statement in enumerate(statements):
        if number and (is_seen or any(_is_seen(each) for each in statements[:number])):
            inside = statement.body if isinstance(statement, ast.If) else []
            tests = [statement.test] if isinstance(statement, ast.If) else []
            if any(_is_heavy(part) for each in [statement, *inside] for part in [*_computed(each), *tests]):
                return None
        if isinstance(statement, ast.If):
            if any(_is_heavy(part) for each in statement.body for part in _computed(each)):
                if len(statements) > 1 or not _lift_guarded(statement, lifted, source):
                    return None
            elif _is_heavy(statement.test):
                _move_test(statement.test, lifted, source)
        else:
            for part in _computed(statement):
                if _is_heavy(part):
                    _move(part, lifted, source, "value")
    return lifted


def _lift_guarded(statement: ast.If, lifted: _Lifted, source: SourceFile) -> bool:
    """Lift the test, and what is computed only if it holds."""
    _move_test(statement.test, lifted, source)
    guard = lifted.names[-1]
    for each in statement.body:
        if isinstance(each, ast.If):
            return False
        for part in _computed(each):
            if _is_heavy(part):
                name = _name(lifted, source, "value")
                lifted.names.append(name)
                lifted.lines.append(f"{name} = ({_flat(part, source)}) if {guard} else None")
                lifted.edits.append(Edit.of(part, name))
                lifted.parts.append(part)
    return True


def _move_test(part: ast.expr, lifted: _Lifted, source: SourceFile) -> None:
    """Move a condition: whether it is true, and not what it looks at, which may not pickle (a match of `re`)."""
    name = _name(lifted, source, "keep")
    lifted.names.append(name)
    lifted.lines.append(f"{name} = bool({_flat(part, source)})")
    lifted.edits.append(Edit.of(part, name))


def _move(part: ast.expr, lifted: _Lifted, source: SourceFile, wanted: str) -> None:
    name = _name(lifted, source, wanted)
    lifted.names.append(name)
    lifted.lines.append(f"{name} = {_flat(part, source)}")
    lifted.edits.append(Edit.of(part, name))
    lifted.parts.append(part)


def _name(lifted: _Lifted, source: SourceFile, wanted: str) -> str:
    name = unused_name(source.tree, wanted)
    number = 1
    while name in lifted.names:
        number += 1
        name = unused_name(source.tree, f"{wanted}_{number}")
    return name


def _flat(part: ast.expr, source: SourceFile) -> str:
    """The source of an expression, in one line."""
    text = segment(source.text, part)
    return text if "\n" not in text else ast.unparse(part)


def _computed(statement: ast.stmt) -> list[ast.expr]:
    """What a statement that stays computes for the change that it makes."""
    if isinstance(statement, ast.AugAssign | ast.Assign):
        targets = [statement.target] if isinstance(statement, ast.AugAssign) else statement.targets
        return [statement.value, *(each.slice for each in targets if isinstance(each, ast.Subscript))]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        plain = [each for each in call.args if not isinstance(each, ast.Starred)]
        return [*plain, *(each.value for each in call.keywords if each.arg)]
    return []


def _is_heavy(part: ast.expr) -> bool:
    for node in ast.walk(part):
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            return True
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _CHEAP):
            return True
    return False


def _after(statements: list[ast.stmt], lifted: _Lifted, source: SourceFile) -> list[ast.stmt]:
    """The statements that stay, with names instead of what was moved."""
    first, last = statements[0], statements[-1]
    shifted = [
        Edit(e.line - first.lineno + 1, e.column, e.end_line - first.lineno + 1, e.end_column, e.text)
        for e in lifted.edits
    ]
    text = applied(_text_of(first, last, source), shifted)
    return ast.parse(textwrap.dedent(text)).body


def _text_of(first: ast.stmt, last: ast.stmt, source: SourceFile) -> str:
    """The lines of statements, with blanks in the place of others before them, and nothing of those after them."""
    *lines, end = lines_in(source.text)[first.lineno - 1 : last.end_lineno]
    if _is_followed(last, source):
        end = end.encode()[: last.end_col_offset].decode() + "\n"
    data = "".join([*lines, end]).encode()
    before = data[: first.col_offset] if not data[: first.col_offset].strip() else b" " * first.col_offset
    return (before + data[first.col_offset :]).decode()


def _is_followed(last: ast.stmt, source: SourceFile) -> bool:
    """Whether there is another statement behind one on its line."""
    line = lines_in(source.text)[(last.end_lineno or last.lineno) - 1].encode()
    return line[last.end_col_offset :].lstrip().startswith(b";")


def _verbatim(statements: list[ast.stmt], source: SourceFile, inner: str, changes: list[Edit]) -> list[str]:
    """The lines of statements, indented by `inner`, with changes."""
    first, last = statements[0], statements[-1]
    shifted = [
        Edit(e.line - first.lineno + 1, e.column, e.end_line - first.lineno + 1, e.end_column, e.text) for e in changes
    ]
    own_line = not lines_in(source.text)[first.lineno - 1].encode()[: first.col_offset].strip()
    text = applied(_text_of(first, last, source), shifted)
    if own_line and not _is_followed(last, source):
        return text.rstrip("\n").split("\n")
    body = ast.parse(textwrap.dedent(text)).body
    return [inner + line for each in body for line in ast.unparse(each).split("\n")]


def _indent_of(node: ast.For, source: SourceFile) -> str:
    """The indentation of a body that stands on lines of its own."""
    first = node.body[0]
    blanks = _blanks_of(first, source)
    return blanks if first.lineno > node.lineno and len(blanks) == first.col_offset else ""


def _blanks_of(statement: ast.stmt, source: SourceFile) -> str:
    """What a statement is indented by: blanks, tabs or both."""
    line = lines_in(source.text)[statement.lineno - 1]
    return line[: len(line) - len(line.lstrip(" \t\f"))]


def _continues(statement: ast.stmt) -> list[ast.Continue]:
    """Those of the loop itself, not of one in it."""
    found: list[ast.Continue] = []

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.Continue):
            found.append(node)
        if isinstance(node, ast.For | ast.While | ast.AsyncFor | ast.FunctionDef | ast.Lambda):
            for child in getattr(node, "orelse", []):
                walk(child)
            return
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(statement)
    return found
