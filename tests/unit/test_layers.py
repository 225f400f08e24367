"""The picture of the rooms in docs/design/architecture.md is true: who imports whom; what `import allcores` costs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import allcores

ROOT = Path(allcores.__file__).parent
PACKAGE = "allcores"

WORDS = {"errors", "events", "outcome", "limits", "failpoints", "system"}

#: a room or a file in it -> what it may import; the longest name that fits counts. A room may import itself.
MAY_IMPORT: dict[str, set[str]] = {
    "": WORDS | {"pool", "runs.options", "metrics", "monitoring", "slices", "timeline", "shared_memory.objects"},
    # words
    "errors": set(),
    "outcome": {"system.plain_record"},
    "events": {"outcome", "system.plain_record"},
    "failpoints": set(),
    "limits": {"errors", "system.plain_record"},
    "system": {"errors"},
    # columns
    "transport": WORDS,
    "shared_memory": WORDS | {"transport"},
    "worker": WORDS | {"shared_memory", "transport"},
    "slices": WORDS | {"transport.references"},
    "sources": WORDS | {"slices"},
    "sinks": WORDS | {"slices", "sources"},
    "scheduler": WORDS | {"transport.positions"},
    # where they meet
    "backends": WORDS | {"scheduler", "shared_memory", "transport", "worker"},
    "pool": WORDS | {"backends", "scheduler", "shared_memory", "transport"},
    "pool.pool": WORDS | {"backends", "scheduler", "shared_memory", "transport", "runs.run", "runs.options"},
    # memory: around the verbs, which the pool's one verb for it opens late
    "runs": WORDS | {"pool", "sinks", "sources"},
    # observers see events, and what a pool tells of itself
    "monitoring": WORDS | {"pool", "transport"},
    "metrics": WORDS | {"monitoring"},
    # it is also read without a pool
    "timeline": WORDS,
    # faces
    "cli": WORDS | {"monitoring", "pool", "runs", "sinks", "sources", "timeline"},
    "demo": {"", "sinks"},
    "__main__": {"cli", "system"},
}

#: outside libraries and their homes
HOMES = {
    "cloudpickle": {"transport.pickling", "transport.origins"},
    "rich": {"monitoring"},
    "jinja2": {"timeline.html_report"},
    "click": {"cli", "__main__"},
    "prometheus_client": {"monitoring.prometheus"},
    "opentelemetry": {"monitoring.opentelemetry"},
    "numpy": {"slices.array_file", "shared_memory.arrays"},
    "h5py": {"slices.hdf5_file"},
    "pyarrow": {"slices.parquet_file", "sinks.parquet", "sources.parquet"},
    "sqlalchemy": {"sources.sql"},
    "zstandard": {"sources.compression"},
}

#: what the scheduler may use of the standard library: nothing that waits, reads or starts anything
PURE = {
    "__future__", "collections", "dataclasses", "enum", "functools", "heapq", "itertools", "math", "operator",
    "random", "reprlib", "typing",
}  # fmt: skip


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Each module, named from below the package ("" for the package itself), with its tree."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """Full names of the modules that are imported anywhere, but for those that only type checkers see."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting.extend(node.orelse)
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if is_module(full) else node.module


def is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return name.startswith(PACKAGE) and (path.is_dir() or path.with_suffix(".py").exists())


def ours(name: str) -> str | None:
    """A name from below the package, None if it is not ours."""
    if name == PACKAGE:
        return ""
    return name.removeprefix(PACKAGE + ".") if name.startswith(PACKAGE + ".") else None


def within(name: str, places: set[str]) -> bool:
    return name in places or any(place and name.startswith(place + ".") for place in places)


def above(name: str, imported: set[str]) -> Iterator[str]:
    """Each room imports only rooms below it, as drawn."""
    rule = max((place for place in MAY_IMPORT if within(name, {place}) or place == name), key=len, default=None)
    if rule is None:
        yield f"{name} has no place in the picture"
        return
    room = name.split(".")[0]
    for each in sorted(imported):
        target = ours(each)
        if target is None or (target.split(".")[0] == room and within(target, {room})):
            continue
        if not within(target, MAY_IMPORT[rule]):
            yield f"{name or PACKAGE} imports {each}, which is not below it"


def away(name: str, imported: set[str]) -> Iterator[str]:
    """Everything but the standard library is imported in one place, so that it can be replaced there."""
    for each in sorted(imported):
        top = each.split(".")[0]
        if top != PACKAGE and top not in sys.stdlib_module_names and not within(name, HOMES.get(top, set())):
            yield f"{name} imports {each}, which has another home"


def impure(name: str, imported: set[str]) -> Iterator[str]:
    """The scheduler reads no clock, file or process, so that a test can play any schedule."""
    if within(name, {"scheduler"}):
        for each in sorted(imported):
            if ours(each) is None and each.split(".")[0] not in PURE:
                yield f"{name} imports {each}, which is not pure"


def test_imports_are_as_drawn() -> None:
    """All modules in one test: some two hundred files are read once, not by every process that collects tests."""
    found = {name: set(imports(tree)) for name, tree in modules()}
    assert len(found) > 150
    assert [text for rule in (above, away, impure) for each in found.items() for text in rule(*each)] == []


def test_what_is_not_as_drawn_is_told() -> None:
    assert list(above("errors", {"allcores.pool"})) == ["errors imports allcores.pool, which is not below it"]
    assert list(above("nowhere", set())) == ["nowhere has no place in the picture"]
    assert list(away("pool", {"numpy.linalg"})) == ["pool imports numpy.linalg, which has another home"]
    assert list(impure("scheduler.map_state", {"time"})) == ["scheduler.map_state imports time, which is not pure"]


def loaded_by(statement: str) -> set[str]:
    """Modules that `statement` loads in a fresh interpreter, besides those that are loaded anyway."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    return set(run.stdout.split())


def test_importing_is_light() -> None:
    """`import allcores` loads none of the heavy libraries, nor what only pools need."""
    loaded = loaded_by("import allcores")
    heavy = {
        "numpy", "h5py", "pyarrow", "rich", "click", "cloudpickle", "psutil", "asyncio", "concurrent.futures",
        "multiprocessing", "socket", "selectors", "subprocess", "logging", "dataclasses", "inspect", "typing",
    }  # fmt: skip
    assert not loaded & (heavy - {"typing"})
    assert {name for name in loaded if name.startswith(PACKAGE)} == {PACKAGE}


def test_a_pool_needs_no_heavy_library() -> None:
    """The pool itself comes without progress bars, numbers, and cloudpickle, which is loaded when first needed."""
    loaded = loaded_by("import allcores; allcores.Pool")
    assert not loaded & {"numpy", "rich", "click", "cloudpickle", "multiprocessing", "asyncio", "logging"}


def test_workers_start_light() -> None:
    """What runs in a worker knows nothing of the scheduler: each start pays for every import."""
    loaded = loaded_by("import allcores.worker.main")
    rooms = {name.split(".")[1] for name in loaded if name.startswith(PACKAGE + ".")}
    assert rooms == {"failpoints", "shared_memory", "system", "transport", "worker"}
    assert not loaded & {"typing", "dataclasses", "inspect", "random", "logging", "subprocess", "cloudpickle"}
