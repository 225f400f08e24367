"""Tables that several threads change without a lock are copied in one step before a thread goes through them.

A loop over the table itself ends with "dictionary changed size during iteration" if another thread takes something out
in the middle of it, which happens once in a thousand times.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import allcores

#: by module: attributes that hold such tables
SHARED = {
    "backends/threads.py": {"_workers", "_gone"},
    "adapters/cluster/node_work.py": {"_runs", "_threads"},
    "pool/executor_calls.py": {"pending", "maps", "entering"},
    "backends/processes/templates.py": {"_open"},
    "pool/driver.py": {"_drivers"},
    "pool/submitted_calls.py": {"waiting"},
    "adapters/pool_work.py": {"maps", "calls"},
    "jobs/commit_socket.py": {"_servers"},
}


def iterated(tree: ast.AST) -> Iterator[ast.expr]:
    """What loops and comprehensions go through in Python's own steps."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For):
            yield node.iter
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            yield from (each.iter for each in node.generators)


def table_of(iterable: ast.expr) -> str:
    """The name of the table that it is, or is a view of; empty for anything else."""
    if isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Attribute):
        if iterable.func.attr not in ("values", "items", "keys"):
            return ""
        iterable = iterable.func.value
    if isinstance(iterable, ast.Attribute):
        return iterable.attr
    return iterable.id if isinstance(iterable, ast.Name) else ""


@pytest.mark.quick
@pytest.mark.parametrize("module", SHARED)
def test_they_are_copied_first(module: str) -> None:
    source = (Path(allcores.__file__).parent / module).read_text()
    assert all(name in source for name in SHARED[module]), "a table that is no more"
    found = [ast.unparse(each) for each in iterated(ast.parse(source)) if table_of(each) in SHARED[module]]
    assert not found, f"{module} goes through {found}: list(...) of it first"
