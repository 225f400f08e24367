"""Measures Python source files: the work of `standard_library.py`, and a plain function like any user's.

    allcores run examples/source_measures.py:measure --files 'src/**/*.py' -o measures.jsonl

A file is tokenised (for lines and tokens) and parsed (for structure). Cyclomatic complexity is
McCabe's (1976): one more than the number of decisions. A decision is each `if`, `elif`, loop, `except`,
`assert`, conditional expression, comprehension `for` and `if`, further operand of `and`/`or`, and each
`case` but a bare `_`.
"""

from __future__ import annotations

import ast
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

__all__ = ["Measures", "measure", "module_name", "standard_library"]


class Measures(TypedDict):
    """What `measure` says of one file; JSON-ready.

    path: the file, as it was given.
    lines: physical lines.
    code_lines: lines that hold code: neither blank, nor only a comment, nor a docstring.
    comment_lines: lines that hold a comment.
    docstring_lines: lines of module, class and function docstrings.
    tokens: tokens that carry code or text: no comments, line ends or indentation.
    names: different identifiers and keywords.
    functions, classes: definitions, nested ones too.
    complexity: decisions of the whole file plus one per function and one for the module's own code.
    worst_complexity: complexity of the most complex function; 0 if there is none.
    worst_function: its qualified name; None if there is none.
    mean_complexity: mean over the functions; 0.0 if there are none.
    nesting: the deepest stack of compound statements (def, class, if, for, while, with, try, match).
    """

    path: str
    lines: int
    code_lines: int
    comment_lines: int
    docstring_lines: int
    tokens: int
    names: int
    functions: int
    classes: int
    complexity: int
    worst_complexity: int
    worst_function: str | None
    mean_complexity: float
    nesting: int


def measure(path: str) -> Measures:
    """The measures of one source file.

    Raises: SyntaxError (also tokenize.TokenError, UnicodeError, ValueError) if the file is not Python,
    RecursionError if it is nested too deeply to parse, OSError if it can't be read. The standard
    library holds some files on purpose that are not Python, for its own tests.
    """
    with open(path, "rb") as file:
        source = file.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old modules are not our subject
        tree = ast.parse(source, filename=path)
    shape = _Shape()
    shape.walk(tree)
    text = _read_tokens(source, shape.docstring_lines)
    complexities = [one.complexity for one in shape.functions]
    worst = max(shape.functions, key=lambda one: one.complexity, default=None)
    return Measures(
        path=path,
        lines=source.count(b"\n") + (not source.endswith(b"\n") and source != b""),
        code_lines=text.code_lines,
        comment_lines=text.comment_lines,
        docstring_lines=len(shape.docstring_lines),
        tokens=text.tokens,
        names=text.names,
        functions=len(shape.functions),
        classes=shape.classes,
        complexity=sum(complexities) + shape.module.complexity,
        worst_complexity=worst.complexity if worst else 0,
        worst_function=worst.name if worst else None,
        mean_complexity=round(sum(complexities) / len(complexities), 2) if complexities else 0.0,
        nesting=shape.nesting,
    )


def standard_library(root: Path | None = None) -> list[Path]:
    """Every `.py` file of the running Python's standard library (or below `root`), sorted.

    Installed packages are left out.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    installed = {"site-packages", "dist-packages", "__pycache__"}
    return sorted(path for path in root.rglob("*.py") if installed.isdisjoint(path.relative_to(root).parts))


def module_name(path: Path, root: Path) -> str:
    """The dotted name of the module at `path` below `root`: `asyncio/__init__.py` is `asyncio`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@dataclass(slots=True)
class _Function:
    """One function, or the module's own code: its qualified name, and one more than its decisions."""

    name: str
    complexity: int = 1


@dataclass(slots=True)
class _Shape:
    """What the syntax tree tells, filled by `walk`."""

    module: _Function = field(default_factory=lambda: _Function("<module>"))
    functions: list[_Function] = field(default_factory=list)
    classes: int = 0
    nesting: int = 0
    docstring_lines: set[int] = field(default_factory=set)

    def walk(self, tree: ast.Module) -> None:
        """Visits every node, with a stack of its own: some files nest deeper than recursion may go."""
        # (node, the function it belongs to, qualified name of that scope, compound statements around it)
        stack: list[tuple[ast.AST, _Function, str, int]] = [(tree, self.module, "", 0)]
        while stack:
            node, function, scope, depth = stack.pop()
            if node.__class__ in _COMPOUND:
                depth += 1
                self.nesting = max(self.nesting, depth)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                scope = f"{scope}{node.name}"
                function = _Function(scope)
                scope += "."
                self.functions.append(function)
                self._note_docstring(node)
            elif isinstance(node, ast.ClassDef):
                scope = f"{scope}{node.name}."
                self.classes += 1
                self._note_docstring(node)
            elif isinstance(node, ast.Module):
                self._note_docstring(node)
            else:
                function.complexity += _decisions(node)
            for child in _inner_nodes(node):
                stack.append((child, function, scope, depth - _is_elif(node, child)))

    def _note_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
            and first.end_lineno is not None
        ):
            self.docstring_lines.update(range(first.lineno, first.end_lineno + 1))


# Classes are looked up in sets: isinstance() with a dozen of them would be half of the walk's time.
_COMPOUND: frozenset[type[ast.AST]] = frozenset(
    {
        *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
        *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match),
    }
)
_ONE_DECISION: frozenset[type[ast.AST]] = frozenset(
    {ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.IfExp}
)
#: two thirds of a tree; there is nothing to count in them or below
_LEAVES: frozenset[type[ast.AST]] = frozenset(
    {
        *(ast.Name, ast.Constant, ast.alias),
        *(
            kind
            for base in (ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop)
            for kind in base.__subclasses__()
        ),
    }
)


def _inner_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The children of `node` but the leaves. (`ast.iter_child_nodes`, then a filter, takes twice as long.)"""
    for name in node._fields:
        value = getattr(node, name, None)
        if value.__class__ is list:
            for child in value:
                if child.__class__ not in _LEAVES and isinstance(child, ast.AST):
                    yield child
        elif value.__class__ not in _LEAVES and isinstance(value, ast.AST):
            yield value


def _decisions(node: ast.AST) -> int:
    if node.__class__ in _ONE_DECISION:
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if isinstance(node, ast.match_case):
        anything = isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None and node.guard is None
        return 0 if anything else 1
    return 0


def _is_elif(node: ast.AST, child: ast.AST) -> bool:
    # `elif` is parsed as an `if` alone in the `else` branch; only `else:` indents it further.
    return (
        isinstance(node, ast.If)
        and isinstance(child, ast.If)
        and node.orelse == [child]
        and child.col_offset == node.col_offset
    )


@dataclass(slots=True)
class _Text:
    """What the tokens tell."""

    code_lines: int
    comment_lines: int
    tokens: int
    names: int


_LAYOUT = frozenset(
    {tokenize.ENCODING, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)


def _read_tokens(source: bytes, docstring_lines: set[int]) -> _Text:
    code_lines: set[int] = set()
    comment_lines = tokens = 0
    names: set[str] = set()
    for token in _tokens(source):
        kind = token.type
        if kind in _LAYOUT:
            continue
        if kind == tokenize.COMMENT:
            comment_lines += 1
            continue
        tokens += 1
        if kind == tokenize.NAME:
            names.add(token.string)
        first, last = token.start[0], token.end[0]
        if first == last:
            code_lines.add(first)
        else:
            code_lines.update(range(first, last + 1))
    return _Text(len(code_lines - docstring_lines), comment_lines, tokens, len(names))


def _tokens(source: bytes) -> Iterator[tokenize.TokenInfo]:
    lines = iter(source.splitlines(keepends=True))
    return tokenize.tokenize(lambda: next(lines, b""))
