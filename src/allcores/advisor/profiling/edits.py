"""Edits of a text by the places of its syntax tree: lines from 1, columns in bytes of UTF-8, as `ast` counts them."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """A piece of a text that is replaced."""

    line: int
    column: int
    end_line: int
    end_column: int
    text: str

    @classmethod
    def of(cls, node: ast.expr | ast.stmt, text: str) -> Edit:
        """One that replaces a node."""
        return cls(node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0, text)


def applied(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits, which do not overlap."""
    data = text.encode()
    starts = _line_starts(data)
    spans = sorted(
        ((_offset(starts, data, e.line, e.column), _offset(starts, data, e.end_line, e.end_column), e.text)
         for e in edits),
        key=lambda span: span[:2],  # what is put before something comes before what replaces that
    )  # fmt: skip
    parts: list[bytes] = []
    done = 0
    for start, end, replacement in spans:
        parts += [data[done:start], replacement.encode()]
        done = end
    return b"".join([*parts, data[done:]]).decode()


def lines_in(text: str) -> list[str]:
    """The lines of a text with their ends, as `ast` counts them: `str.splitlines` also ends one at a form feed, say."""
    return io.StringIO(text).readlines()


def segment(text: str, node: ast.expr | ast.stmt) -> str:
    """The source of a node."""
    found = ast.get_source_segment(text, node)
    return found if found is not None else ast.unparse(node)


def called_alone(part: ast.expr, target: str) -> str | None:
    """The function's name, if an expression is a call of one with the loop's variable and nothing else."""
    if (
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Name)
        and not part.keywords
        and len(part.args) == 1
        and isinstance(part.args[0], ast.Name)
        and part.args[0].id == target
        and part.func.id != target
    ):
        return part.func.id
    return None


def unused_name(tree: ast.Module, wanted: str) -> str:
    """`wanted`, or with a number behind it: a name that is nowhere in the file."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    used |= {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    used |= {(name.asname or name.name) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
             for name in node.names}  # fmt: skip
    number = 1
    name = wanted
    while name in used:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _line_starts(data: bytes) -> list[int]:
    starts = [0, 0]
    for place, byte in enumerate(data):
        if byte == 10:
            starts.append(place + 1)
    return starts


def _offset(starts: list[int], data: bytes, line: int, column: int) -> int:
    if line < 1:
        return 0
    return starts[line] + column if line < len(starts) else len(data)
