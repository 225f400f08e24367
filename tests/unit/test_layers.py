"""The picture of the rooms in docs/design/architecture.md is true: who imports whom; what `import allcores` costs."""

from __future__ import annotations

import ast
import functools
import gc
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import allcores

ROOT = Path(allcores.__file__).parent
PACKAGE = "allcores"

WORDS = {"errors", "events", "outcome", "limits", "failpoints", "formatting", "system"}

#: a room or a file in it -> what it may import; the longest name that fits counts. A room may import itself.
MAY_IMPORT: dict[str, set[str]] = {
    "": WORDS
    | {"cache.options", "pool", "runs.options", "metrics", "monitoring", "slices", "timeline", "shared_memory.objects"}
    | {"advisor", "frames", "pipelines"},
    # words
    "errors": set(),
    "outcome": {"system.plain_record", "system.tracebacks"},
    "events": {"outcome", "system.plain_record"},
    "failpoints": set(),
    "formatting": set(),
    "limits": {"errors", "system.plain_record"},
    "system": {"errors", "formatting"},
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
    # around a function, in workers
    "cache": WORDS | {"transport"},
    # settings that were found for a function and are kept: read by a pool, written by the advisor
    "tuned": WORDS | {"cache.code", "cache.keys", "cache.kinds"},
    # memory: around anything that maps with outcomes, so it knows no pool
    "runs": WORDS | {"sinks", "sources", "transport.refilled_items"},
    "pool": WORDS
    | {"cache.options", "backends.base", "progress", "scheduler", "shared_memory", "transport", "runs.options"},
    # they start a process as early as can be
    "pool.default_pool": WORDS | {"backends.processes.templates", "runs.options", "transport.module_settings"},
    # opens a run, and a cache, late
    "pool.map_methods": WORDS
    | {"backends.base", "cache.function", "cache.options", "progress", "scheduler", "transport", "runs"},
    "pool.pool": WORDS | {"progress", "backends.base", "backends.open", "scheduler", "shared_memory", "transport"},
    "pool.pool_options": WORDS | {"pool", "backends.open"},
    "pool.tuned_options": WORDS | {"backends.open", "tuned"},
    # an actor's calls are tasks in a worker, on a backend of its own
    "pool.actor": WORDS | {"worker.actor_object", "scheduler"},
    "pool.actor_workers": WORDS
    | {
        "cache.function",
        "cache.options",
        "backends.base",
        "backends.open",
        "scheduler",
        "shared_memory",
        "transport",
        "worker.actor_object",
    },
    # observers see events, and what a pool tells of itself
    "monitoring": WORDS | {"pool", "progress", "transport"},
    "progress": WORDS,
    "metrics": WORDS | {"monitoring"},
    # maps over groups of rows
    "frames": WORDS | {"pool", "transport.remote_errors"},
    # steps over a stream: several maps, driven together
    "pipelines": WORDS
    | {"pool", "runs", "scheduler.segment", "sinks", "sources", "transport.exceptions", "transport.refilled_items"},
    # it is also read without a pool
    "timeline": WORDS,
    # jobs in a database, run on a pool
    "jobs": WORDS | {"pool", "runs", "sinks", "sources", "timeline", "transport", "monitoring", "progress"},
    # measures functions on pools; its model is numbers in, a recommendation out
    "advisor": WORDS | {"pool", "sources", "timeline", "transport", "tuned"},
    "advisor.model": {"formatting", "tuned.setting"},
    "advisor.profiling": WORDS,
    "advisor.profiling.page": WORDS | {"timeline.html_report"},
    # loaded by path into programs that may have no allcores
    "advisor.profiling.sampler": set(),
    "advisor.profiling.facts": set(),
    "advisor.profiling.startup": set(),
    # features of text, on a pool, from files of chat to a table
    "nlp": WORDS
    | {"pipelines", "pool", "runs", "sinks", "slices", "sources", "transport.process_role", "timeline.html_report"},
    # other libraries' interfaces, found by name; nothing below imports them
    "adapters": WORDS
    | {
        "",
        "pool",
        "backends.base",
        "backends.minded",
        # a node sends on what its workers log
        "backends.processes.worker_logs",
        "backends.pulled_items",
        "scheduler.function",
        "scheduler.item_words",
        "scheduler.map_state",
        "scheduler.messages",
        "scheduler.segment",
        "scheduler.series",
        "frames",
        "shared_memory",
        "transport",
    },
    # jobs, carried by other libraries
    "adapters.job_messages": WORDS | {"jobs"},
    "adapters.celery": WORDS | {"jobs"},
    "adapters.rq": WORDS | {"jobs"},
    "adapters.patching": WORDS | {"pool", "scheduler.state", "timeline"},
    "compat": {"adapters.multiprocessing"},
    "patch": {"adapters.patching"},
    # faces
    "web": WORDS | {"", "jobs", "monitoring", "progress", "timeline", "cli.output"},
    "cli": WORDS
    | {
        "advisor",
        "cache.options",
        "jobs",
        "nlp",
        "pipelines",
        "web",
        "monitoring",
        "pool",
        "runs",
        "sinks",
        "sources",
        "timeline",
        "tuned",
    },
    "demo": {"", "sinks"},
    "__main__": {"cli", "system"},
}

#: Files that import each other, directly or through others; imports in functions and for type checkers count. To be
#: emptied, never filled: a circle that is gone has to go from here, too.
CIRCLES: list[list[str]] = []
#: the same for rooms
CIRCLES_OF_ROOMS: list[list[str]] = []
#: imports that are not as drawn in `MAY_IMPORT`: who, and what; to be emptied, too
UPWARDS = {
    ("scheduler.chunk_parts", "shared_memory.buffers"),
    ("scheduler.map_state", "shared_memory.buffers"),
}

#: outside libraries and their homes
HOMES = {
    "cloudpickle": {"transport.pickling", "transport.origins"},
    "rich": {"monitoring", "progress"},
    "IPython": {"progress.notebook"},
    "jinja2": {"timeline.html_report", "web"},
    "matplotlib": {"advisor.picture"},
    "markupsafe": {"web"},
    "click": {"cli", "web", "__main__"},
    "prometheus_client": {"monitoring.prometheus"},
    "opentelemetry": {"monitoring.opentelemetry"},
    "numpy": {"slices.array_file", "shared_memory.arrays", "frames.pandas_groups", "adapters.joblib_arrays"},
    "pandas": {"adapters.pandas", "frames.pandas_groups"},
    "polars": {"adapters.polars", "frames.polars_groups"},
    "h5py": {"slices.hdf5_file"},
    "pyarrow": {"slices.parquet_file", "sinks.parquet", "sources.parquet"},
    "sqlalchemy": {"sources.sql", "jobs"},
    "psycopg": {"jobs"},
    "pydantic": {"jobs", "web"},
    "pydantic_core": {"jobs"},
    "cronsim": {"jobs"},
    "flask": {"web"},
    "werkzeug": {"web"},
    "waitress": {"web", "cli"},
    "zstandard": {"sources.compression"},
    # other libraries' ways, beside which ours is measured
    "joblib": {"adapters.joblib", "adapters.joblib_calls", "nlp.compare.ways"},
    "datasets": {"adapters.datasets", "nlp.compare.ways"},
    "distributed": {"adapters.dask_cluster"},
    "dask": {"adapters.dask_cluster"},
    "ray": {"adapters.ray_cluster"},
    "celery": {"adapters.celery"},
    "rq": {"adapters.rq"},
    "redis": {"adapters.rq"},
    # what a program has of its own behind ours
    "sitecustomize": {"advisor.profiling.startup.sitecustomize"},
}

#: what the scheduler may use of the standard library: nothing that waits, reads or starts anything
PURE = {
    "__future__", "collections", "dataclasses", "enum", "functools", "heapq", "itertools", "math", "operator",
    "random", "reprlib", "statistics", "types", "typing",
}  # fmt: skip


@functools.cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    """Each module, named from below the package ("" for the package itself), with its tree: parsed once."""
    # Trees are only added to, and the collector would go over all of them again and again: most of the time of it.
    gc.disable()
    try:
        return tuple(_parsed())
    finally:
        gc.enable()


def _parsed() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def nodes(tree: ast.Module) -> tuple[ast.AST, ...]:
    """All nodes of a tree, for each test that asks for some."""
    return tuple(ast.walk(tree))


def imports(tree: ast.Module) -> Iterator[str]:
    """Full names of the modules that are imported anywhere: also late ones, and those that only type checkers see."""
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if is_module(full) else node.module


@functools.cache
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
        if not within(target, MAY_IMPORT[rule]) and (name, target) not in UPWARDS:
            yield f"{name or PACKAGE} imports {each}, which is not below it"


def away(name: str, imported: set[str]) -> Iterator[str]:
    """Everything but the standard library is imported in one place, so that it can be replaced there."""
    for each in sorted(imported):
        top = each.split(".")[0]
        if top != PACKAGE and top not in sys.stdlib_module_names and not within(name, HOMES.get(top, set())):
            yield f"{name} imports {each}, which has another home"


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Names that reach each other: the strongly connected parts of a graph, each sorted (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        path.append(name)
        for each in sorted(graph.get(name, ())):
            if each not in order:
                visit(each)
                lowest[name] = min(lowest[name], lowest[each])
            elif each in path:
                lowest[name] = min(lowest[name], order[each])
        if lowest[name] == order[name]:
            members = path[path.index(name) :]
            del path[path.index(name) :]
            if len(members) > 1:
                found.append(sorted(members))

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return sorted(found)


def impure(name: str, imported: set[str]) -> Iterator[str]:
    """The scheduler reads no clock, file or process, so that a test can play any schedule; nor does the model."""
    if within(name, {"scheduler", "advisor.model"}):
        for each in sorted(imported):
            if ours(each) is None and each.split(".")[0] not in PURE:
                yield f"{name} imports {each}, which is not pure"


@functools.cache
def found() -> dict[str, set[str]]:
    """Each module and what it imports: some two hundred files are read once, and only where these tests run."""
    return {name: set(imports(tree)) for name, tree in modules()}


def graph_of_files() -> dict[str, set[str]]:
    return {name: {own for each in imported if (own := ours(each)) is not None} for name, imported in found().items()}


def graph_of_rooms() -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {}
    for name, imported in graph_of_files().items():
        room = name.split(".")[0]
        rooms.setdefault(room, set()).update({each.split(".")[0] for each in imported} - {room})
    return rooms


def test_imports_are_as_drawn() -> None:
    assert len(found()) > 150
    assert [text for rule in (above, away, impure) for each in found().items() for text in rule(*each)] == []


def test_no_two_files_import_each_other() -> None:
    """Nor several in a circle, but for those that are known; take one that is gone off the list."""
    assert circles(graph_of_files()) == CIRCLES


def test_no_two_rooms_import_each_other() -> None:
    assert circles(graph_of_rooms()) == CIRCLES_OF_ROOMS


def test_an_import_that_has_become_right_is_taken_off_the_list() -> None:
    graph = graph_of_files()
    assert {(name, target) for name, target in UPWARDS if target not in graph.get(name, ())} == set()


#: names of standard streams, as people may give them
STREAMS_IN_PROC = {("cli.request", path) for path in ("/proc/self/fd/0", "/proc/self/fd/1", "/proc/")}
#: handed to the reader
OTHER_KERNEL_FILES = {
    ("cli.doctor", "/sys/fs/cgroup/pids.max"),
    # loaded by path, it imports nothing of ours
    ("advisor.profiling.sampler", "/proc/self/schedstat"),
    ("advisor.profiling.sampler", "/proc/self/task/"),
}


def paths_of_the_kernel(tree: ast.Module) -> Iterator[str]:
    """Strings in a module that are, or begin, a path below /proc or /sys."""
    for node in nodes(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith(("/proc/", "/sys/"))
        ):
            yield node.value


def test_proc_and_sys_are_read_in_one_room() -> None:
    """What the kernel tells is read in `system` alone; the command line knows names of standard streams there."""
    found = {(name, path) for name, tree in modules() for path in paths_of_the_kernel(tree)}
    elsewhere = {(name, path) for name, path in found if not within(name, {"system"})}
    assert elsewhere == STREAMS_IN_PROC | OTHER_KERNEL_FILES
    assert found - elsewhere


#: private names of the standard library, cloudpickle and named tuples that have no public way; ctypes documents its own
PRIVATE_OF_OTHERS = {
    "_args_from_interpreter_flags", "_argtypes_", "_b_needsfree_", "_CFuncPtr", "_children", "_class_setstate",
    "_current_frames", "_defaults", "_exit", "_extra_reducers", "_fd", "_finalizer_registry", "_flags_", "_FuncPtr",
    "_function_setstate", "_getframe", "_identity", "_is_registered_pickle_by_value", "_length_",
    "_lookup_module_and_qualname", "_lru_cache_wrapper", "_name", "_objects", "_parent_pid", "_parent_process",
    "_ParentProcess", "_pid", "_Pointer", "_process_counter", "_replace", "_resource_tracker", "_restype_",
    "_run_after_forkers", "_run_finalizers", "_semlock", "_send", "_type_", "_value_",
}  # fmt: skip
#: private names of a file that others use: who, and what; to be emptied, never filled
PRIVATE_ACCESS: set[tuple[str, str]] = set()


def private_access(tree: ast.Module) -> Iterator[str]:
    """Names with an underscore that a module takes from an object, and that nothing in the module defines."""
    taken: set[str] = set()
    own: set[str] = set()
    for node in nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            of_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            (own if of_itself else taken).add(node.attr)
    yield from taken - own - PRIVATE_OF_OTHERS


def test_what_is_private_is_used_in_its_own_file() -> None:
    assert {(name, each) for name, tree in modules() for each in private_access(tree)} == PRIVATE_ACCESS


def test_private_access_is_found() -> None:
    assert set(private_access(ast.parse("def f(pool):\n    return pool._driver, pool.name, os._exit"))) == {"_driver"}
    assert set(private_access(ast.parse("class A:\n    def same(self, other):\n        other._a = self._a"))) == set()


def test_late_and_type_only_imports_count() -> None:
    text = "if TYPE_CHECKING:\n    import allcores.pool.driver\ndef f():\n    from allcores.runs import run"
    assert set(imports(ast.parse(text))) == {"allcores.pool.driver", "allcores.runs.run"}


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": {"e"}, "e": set()}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


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


def private_elsewhere(tree: ast.Module) -> Iterator[str]:
    """Private attributes of objects whose class is in another file."""
    own = {node.name for node in nodes(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {
        node.attr
        for node in nodes(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    for node in nodes(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        if node.attr == "_replace":  # of named tuples, public in spite of its name
            continue
        if (
            ast.unparse(node.value) not in ("self", "cls", "super()", "sys", "os", "subprocess")
            and node.attr not in own
        ):
            yield ast.unparse(node)


def test_what_is_private_is_used_in_its_own_file_only() -> None:
    found = {
        name: list(private_elsewhere(tree)) for name, tree in modules() if name.split(".")[0] in ("backends", "pool")
    }
    assert {name: accesses for name, accesses in found.items() if accesses} == {}
    assert list(private_elsewhere(ast.parse("def close(pool):\n    pool._driver.close()"))) == ["pool._driver"]
