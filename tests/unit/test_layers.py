"""The picture of the rooms in docs/design.md, kept true: who imports whom, and what `import allcores` costs."""

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

WORDS = {
    "errors",
    "outcome",
    "limits",
    "caller",
    "clock",
    "deferral",
    "own_files",
    "own_imports",
    "partial_files",
    "terminal_text",
    "transport.marks",
}
#: files of the engine that are not pure: they know threads and locks
HUB = {"engine.driver", "engine.guard"}
#: and those that are
ENGINE = {f"engine.{path.stem}" for path in (ROOT / "engine").glob("*.py")} - HUB - {"engine.__init__"}
VERBS = {
    "feeder",
    "lanes",
    "logs",
    "sharing",
    "statistics",
    "stream",
    "async_stream",
    "futures",
    "pool",
    "executor",
    "shortcuts",
}

#: a room or a file in it -> what it may import; the longest name that fits counts. A room may import itself.
MAY_IMPORT: dict[str, set[str]] = {
    "": VERBS | WORDS | {"budget", "journal.options", "metrics", "progress", "slices", "timeline"},
    # words
    "errors": set(),
    "outcome": set(),
    "caller": set(),
    "clock": set(),
    "deferral": set(),
    "limits": {"errors"},
    "kernel_files": set(),
    "own_files": set(),
    "own_imports": set(),
    "partial_files": {"own_files"},
    "terminal_text": set(),
    "budget": {"errors", "kernel_files"},
    # columns
    "transport": WORDS | {"supervision.system"},
    "worker": WORDS | {"transport", "supervision.system", "supervision.watchman"},
    "supervision": WORDS | {"budget", "transport", "worker"},
    "slices": WORDS | {"transport.references"},
    "streams": WORDS | {"slices"},
    "engine": WORDS,
    # hub: where the columns meet
    "backends": WORDS | ENGINE | {"budget", "supervision", "transport"},
    "engine.driver": WORDS | {"engine", "backends", "transport.pickling", "transport.parcels"},
    # verbs
    **dict.fromkeys(VERBS, VERBS | WORDS | {"backends", "engine", "budget", "transport"}),
    "pool": VERBS | WORDS | {"backends", "engine", "budget", "transport", "journal.verb", "journal.options"},
    # memory: around the verbs, which the pool's one verb for it opens late
    "journal": VERBS | WORDS | {"streams"},
    "procfs": set(),
    # observers see news, and what a pool tells of itself
    "progress": {"engine.events", "budget", "outcome", "procfs", "terminal_text"},
    "metrics": {"engine.events", "outcome"},
    # it is also read without a pool
    "timeline": WORDS | {"engine.events", "budget", "supervision.system"},
    # faces
    "cli": VERBS
    | WORDS
    | {
        "budget",
        "engine.events",
        "journal",
        "procfs",
        "progress",
        "streams",
        "supervision.boards",
        "supervision.system",
        "timeline",
    },
    "__main__": {"cli", "own_imports"},
}

#: outside libraries and their homes
HOMES = {
    "cloudpickle": {"transport.pickling", "transport.origins"},
    "rich": {"progress"},
    "jinja2": {"timeline.report"},
    "click": {"cli", "__main__"},
    "prometheus_client": {"metrics.prometheus"},
    "opentelemetry": {"metrics.opentelemetry"},
    "numpy": {"slices.array_file", "transport.arrays"},
    "h5py": {"slices.hdf5_file"},
    "pyarrow": {"slices.parquet_file", "streams.parquet"},
    "sqlalchemy": {"streams.sql"},
    "zstandard": {"streams.compression"},
}

#: what the pure half of the engine may use of the standard library: nothing that waits, reads or starts anything
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
        if target is None or (target.split(".")[0] == room and within(target, {room}) and target not in HUB):
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
    """The deciding half of the engine reads no clock, file or process, so that a test can play any schedule."""
    if within(name, {"engine"}) and name not in HUB:
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
    assert list(impure("engine.flow", {"time"})) == ["engine.flow imports time, which is not pure"]


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
    """What runs in a worker knows nothing of the engine: each start pays for every import."""
    loaded = loaded_by("import allcores.worker.main")
    rooms = {name.split(".")[1] for name in loaded if name.startswith(PACKAGE + ".")}
    assert rooms == {"deferral", "supervision", "transport", "worker"}
    assert not loaded & {"typing", "dataclasses", "inspect", "random", "logging", "subprocess", "cloudpickle"}
