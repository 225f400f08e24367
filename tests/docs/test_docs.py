"""The documentation keeps its word: what it shows runs, what there is is documented, what it names exists."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, Block, blocks, cross_references, headings, links, name, script
from tests.process.warm import Interpreter

import allcores
from allcores import Kind, errors, events
from allcores.cli.exits import Exit
from allcores.cli.meter import Usage
from allcores.cli.summary import Summary, Tally

DOCS = ROOT / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
REFERENCE = (DOCS / "reference.md").read_text()


def runnable(page: Path) -> list[Block]:
    """The Python of a page that runs in order, as one program; files of a project (with a title): test_projects.py."""
    found = [block for block in blocks(page) if block.language == "python"]
    return [block for block in found if block.mark is None and block.included is None and block.title is None]


Run = Callable[[Path, Path], str]


@pytest.fixture
def run(warm: Interpreter) -> Run:
    """What a program prints, in a folder. Warnings are errors, and nothing may be said on standard error."""

    def run(program: Path, folder: Path) -> str:
        done = warm.script(program, folder=folder, environ={"TMPDIR": str(folder)})
        assert (done.code, done.err) == (0, "")
        return done.out

    return run


def check_printed(wanted: str, got: str) -> None:
    """`...` in what is wanted stands for anything, as in a doctest."""
    checker = doctest.OutputChecker()
    assert checker.check_output(wanted, got, doctest.ELLIPSIS), f"wanted:\n{wanted}\ngot:\n{got}"


# --- what it shows runs ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=name)
def test_python_of_a_page_runs(run: Run, page: Path, tmp_path: Path) -> None:
    """The Python blocks of a page, pasted one after the other, print what the page says they print."""
    parts = runnable(page)
    program = tmp_path / f"{page.stem.replace('-', '_')}.py"
    program.write_text(script(parts))
    check_printed("".join(part.expected for part in parts), run(program, tmp_path))


NEEDING = [
    pytest.param(block, id=f"{name(page)}:{block.line}")
    for page in PAGES
    for block in blocks(page)
    if block.mark is not None and block.mark.startswith("needs: ")
]


@pytest.mark.slow
@pytest.mark.parametrize("block", NEEDING)
def test_python_that_needs_a_library_runs(run: Run, block: Block, tmp_path: Path) -> None:
    """A block marked `needs: LIBRARY` runs by itself, where that library is installed."""
    assert block.mark is not None
    pytest.importorskip(block.mark.removeprefix("needs: "))
    program = tmp_path / "program.py"
    program.write_text(block.code)
    check_printed(block.expected, run(program, tmp_path))


#: what the docs' own examples print
PRINTED = {
    "observer.py": "items that failed: [3, 5]\nworkers lost: 1\nmaps: 1 started, 1 ended\n",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", [example for example in EXAMPLES if not example.name.startswith("plain_")], ids=lambda path: path.name
)
def test_example_runs(run: Run, example: Path, tmp_path: Path) -> None:
    """An example of the docs prints what it should. One called plain_X is tried beside examples/X."""
    assert run(example, tmp_path) == PRINTED[example.name]


def test_every_example_is_shown() -> None:
    """Each program in examples/ and docs/examples/ stands on some page, and each included file exists.

    The demo is too long for a page: one names it.
    """
    shown = {block.included for page in PAGES for block in blocks(page) if block.included}
    there = {name(path) for folder in ("examples", "docs/examples") for path in (ROOT / folder).rglob("*.py")}
    demo = {"examples/standard_library.py", "examples/source_measures.py"}
    assert shown == there - demo
    assert "examples/standard_library.py" in (ROOT / "README.md").read_text()


def test_python_blocks_can_be_compiled() -> None:
    """Also those that are not run."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "python" and not block.included:
                compile(block.code, f"{name(page)}:{block.line}", "exec")


# --- what there is is documented ------------------------------------------------------------------


def test_every_public_name_is_in_the_reference() -> None:
    """`allcores.__all__` and the reference hold the same names, each once."""
    found = Counter(re.findall(r"^::: allcores\.(\w+)$", REFERENCE, re.MULTILINE))
    assert found == Counter(allcores.__all__)


def test_every_event_is_in_the_reference() -> None:
    """All news that an observer may get."""
    found = re.findall(r"^::: allcores\.events\.(\w+)$", REFERENCE, re.MULTILINE)
    assert set(found) == {each.__name__ for each in events.PoolEvent.__args__} | {"WorkRecord"}


def test_every_public_name_has_a_docstring() -> None:
    """The reference is made from them. Methods count; what is inherited does not."""
    for public in allcores.__all__:
        thing = getattr(allcores, public)
        assert inspect.getdoc(thing), public
        if not inspect.isclass(thing):
            continue
        for method, value in vars(thing).items():
            if not method.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert inspect.getdoc(value), f"{public}.{method}"


@pytest.mark.parametrize("kind", [allcores.Limits, allcores.Retry, allcores.Outcome, allcores.Budget])
def test_every_field_is_explained(kind: type) -> None:
    """In the docstring, by a line of its own; options also on a page that shows how to use them."""
    described = names_described(inspect.getdoc(kind) or "")
    fields = {field.name for field in dataclasses.fields(kind)}
    assert fields <= described
    if kind in (allcores.Limits, allcores.Retry):
        pages = "\n".join(page.read_text() for page in PAGES)
        for field in fields:
            assert re.search(rf"\b{field}\b[`=]", pages), f"{kind.__name__}({field}=...) is on no page"


@pytest.mark.parametrize("verb", ["__init__", "map"])
def test_every_option_is_explained(verb: str) -> None:
    """The other verbs say "arguments as for `map`"."""
    text = inspect.getdoc(allcores.Pool if verb == "__init__" else getattr(allcores.Pool, verb)) or ""
    options = set(inspect.signature(getattr(allcores.Pool, verb)).parameters) - {"self", "fn", "items"}
    assert options <= names_described(text)


def names_described(docstring: str) -> set[str]:
    """Names that a docstring explains: `name: what it is`, several names with commas, several to a line."""
    return {each for found in re.findall(r"\b([a-z_]\w*(?:, [a-z_]\w*)*): ", docstring) for each in found.split(", ")}


def error_classes() -> list[type[BaseException]]:
    """All classes in errors.py."""
    found = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, BaseException)]
    return [each for each in found if each.__module__ == errors.__name__]


def sections(page: Path) -> dict[str, str]:
    """Headings of the second level and the text below them."""
    parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_section(kind: type[BaseException]) -> None:
    """That says when you get it, what you get instead, and the way out."""
    section = sections(DOCS / "errors.md")[kind.__name__]
    if kind not in (errors.AllcoresError, errors.TaskError, errors.RemoteTraceback):
        assert "**You get it**" in section
        assert "instead**" in section
        assert "**Way out:**" in section
    builtin = next(base.__name__ for base in kind.__mro__ if base.__module__ == "builtins")
    if builtin not in ("Exception", "object"):
        assert f"`{builtin}`" in section or kind.__bases__[0] is errors.UsageError


def test_errors_page_has_no_section_for_what_is_not_there() -> None:
    """A class that is renamed takes its section along."""
    titles = {title for heading in sections(DOCS / "errors.md") for title in heading.split(", ")} - {"Warnings"}
    executor = importlib.import_module("allcores.pool.executor_errors")
    known = {kind.__name__ for kind in error_classes()}
    assert titles == known | {each for each in vars(executor) if each.endswith("InExecutor")}


def test_error_tree_is_the_one_of_the_source() -> None:
    """errors.md repeats the drawing of errors.py; the drawing has every class, below its base."""
    drawing = re.search(r"```text\n(AllcoresError.*?)```", (DOCS / "errors.md").read_text(), re.DOTALL)
    assert drawing is not None
    source = "\n".join(line.removeprefix("    ") for line in (errors.__doc__ or "").splitlines())
    assert drawing[1] in source + "\n"
    above: list[str] = []
    seen = set()
    for line in drawing[1].splitlines():
        found = re.match(r"([│├└─ ]*)(\w+)(?: \((\w+)\))?", line)
        if not found or not found[2]:
            continue
        depth, kind = len(found[1]) // 4, getattr(errors, found[2])
        above[depth:] = [found[2]]
        seen.add(found[2])
        if depth:
            assert kind.__bases__[0].__name__ == above[depth - 1]
        if found[3]:
            assert issubclass(kind, getattr(importlib.import_module("builtins"), found[3]))
    assert seen == {kind.__name__ for kind in error_classes()} - {"RemoteTraceback"}


@pytest.mark.parametrize("module", ["map_state", "worker_state"])
def test_states_are_drawn_as_in_the_source(module: str) -> None:
    """The page on states repeats the drawings."""
    drawing = [line.strip() for line in _doc(f"allcores.scheduler.{module}").splitlines() if re.search("[─│┘└]", line)]
    page = (DOCS / "design/states.md").read_text()
    assert drawing
    for line in drawing:
        assert line in page


def _doc(module: str) -> str:
    return importlib.import_module(module).__doc__ or ""


UNITS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "KB": 1024.0}


def constants() -> list[tuple[str, str]]:
    """Rows of the table of constants."""
    return re.findall(r"^\| `([\w.]+\.[A-Z_]+)` \| (.+?) \|$", (DOCS / "design/constants.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("constant", "text"), constants(), ids=[row[0] for row in constants()])
def test_constant_is_what_design_says(constant: str, text: str) -> None:
    """The table's value, in its unit, is the one in the code."""
    module, _, variable = constant.rpartition(".")
    value = getattr(importlib.import_module(f"allcores.{module}"), variable)
    number, unit = text.split(" ")[:2]
    wanted = float(number) * UNITS.get(unit, 1.0) * (1e9 if variable.endswith("_NS") else 1.0)
    assert value == pytest.approx(wanted)


# --- what it names exists -------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Files and headings of this repository that a page links to exist."""
    for target in links(page):
        path, _, checkpoint = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if checkpoint and there.suffix == ".md":
            assert checkpoint in headings(there), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_cross_references_lead_somewhere(page: Path) -> None:
    """[`map`][allcores.Pool.map] names something that the reference has."""
    for target in cross_references(page):
        public = target.removeprefix("allcores.")
        thing: object = allcores
        for part in public.removeprefix("events.").split("."):
            thing = getattr(events if public.startswith("events.") and thing is allcores else thing, part)
        head = public.split(".")[0] if not public.startswith("events.") else public
        assert re.search(rf"^::: allcores\.{re.escape(head)}$", REFERENCE, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_fences_are_rendered(page: Path) -> None:
    """A fence with more than a language behind it is shown as text, and what it holds is not run."""
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            assert re.fullmatch(r" *```[a-z]*( title=\".*\")?", line), line


def test_every_page_is_in_the_navigation() -> None:
    """And the navigation has no page that is missing."""
    listed = re.findall(r"^ *- [^#\n]*?: ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert Counter(listed) == Counter(str(page.relative_to(DOCS)) for page in PAGES if page.is_relative_to(DOCS))


def test_every_field_of_a_summary_is_explained() -> None:
    """In the order of the object, with the fields of an example of a failure."""
    failed: allcores.Outcome[int] = allcores.Outcome(
        0, Kind.FAILED, error=ValueError("no"), item=1, attempts=1, seconds=0.1, worker=1
    )
    tally = Tally()
    tally.add(failed)
    usage = Usage(cpu_s=1.0, peak_bytes=1, peak_worker_bytes=1)
    found = Summary("f", "-", Exit.OK, None, tally, 1.0, 1.0, 2, 2, 0, 0, usage).as_json()
    section = (DOCS / "cli.md").read_text().partition("### The summary as JSON")[2].partition("### ")[0]
    cells = re.findall(r"^\| (`.+?`) \| (.+) \|$", section, re.MULTILINE)
    assert [field for names, _ in cells for field in re.findall(r"`(\w+)`", names)] == list(found)
    meaning = {names.strip("`"): text for names, text in cells}
    assert re.findall(r"`(\w+)`", meaning["failures"]) == list(found["failures"])
    assert set(found["examples"][0]) <= set(re.findall(r"`(\w+)`", meaning["examples"]))
