"""Calls are followed into the program's other files."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from allcores.advisor.profiling import program_files
from allcores.advisor.profiling.independence import judge
from allcores.advisor.profiling.program_files import ProgramFiles
from allcores.advisor.profiling.sites import SourceFile

HELPERS = """
    SEEN = {}

    def weigh(n):
        return n * n

    def counted(n):
        SEEN[n] = 1
        return n

    def filled(n):
        n.append(1)
        return n

    def indirect(n):
        return counted(n)

    class Model:
        def fit(self, n):
            self.last = n
            return n

        def predict(self, n):
            return n
    """


def reasons(main: str, folder: Path, *, helpers: str = HELPERS, known: bool = False) -> tuple[str, ...]:
    """What is said against the first loop of pkg/main.py, beside a module, and with a package that hands on names."""
    (folder / "pkg").mkdir()
    (folder / "pkg/__init__.py").write_text("from .helpers import counted, Model\nfrom . import helpers as renamed\n")
    (folder / "pkg/helpers.py").write_text(textwrap.dedent(helpers))
    (folder / "alone.py").write_text(textwrap.dedent(helpers))
    path = folder / "pkg/main.py"
    path.write_text(main)
    file = SourceFile(str(path))
    sources = {str(path): file}
    if known:
        sources[str(folder / "alone.py")] = SourceFile(str(folder / "alone.py"))
    site = min(file.sites(), key=lambda each: each.line)
    return judge(site, file, ProgramFiles(sources)).reasons


CALLS = {
    "of a module": ("import alone", "alone.{}(x)"),
    "of a module by another name": ("import alone as a", "a.{}(x)"),
    "imported": ("from alone import {}", "{}(x)"),
    "imported by another name": ("from alone import {} as g", "g(x)"),
    "of a package": ("import pkg.helpers", "pkg.helpers.{}(x)"),
    "of a submodule": ("from pkg import helpers", "helpers.{}(x)"),
    "relative": ("from .helpers import {}", "{}(x)"),
    "of a relative submodule": ("from . import helpers", "helpers.{}(x)"),
}


@pytest.mark.parametrize("way", CALLS.values(), ids=CALLS)
def test_what_a_function_of_another_file_changes_is_found(way: tuple[str, str], tmp_path: Path) -> None:
    imported, call = (each.format("counted") for each in way)
    assert reasons(f"{imported}\nout = [{call} for x in range(9)]\n", tmp_path) == ("`counted` changes `SEEN`",)


@pytest.mark.parametrize("way", CALLS.values(), ids=CALLS)
def test_nothing_is_found_against_one_that_changes_nothing(way: tuple[str, str], tmp_path: Path) -> None:
    imported, call = (each.format("weigh") for each in way)
    assert reasons(f"{imported}\nout = [{call} for x in range(9)]\n", tmp_path) == ()


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("call", ["map(counted, xs)", "[indirect(x) for x in xs]", "map(alone.indirect, xs)"])
def test_it_is_found_through_map_and_other_functions(call: str, known: bool, tmp_path: Path) -> None:
    main = f"import alone\nfrom alone import counted, indirect\nout = list({call})\n"
    assert reasons(main, tmp_path, known=known) == ("`counted` changes `SEEN`",)


def test_a_package_hands_names_on(tmp_path: Path) -> None:
    assert reasons("from pkg import counted\nout = [counted(x) for x in xs]\n", tmp_path) == (
        "`counted` changes `SEEN`",
    )


def test_an_item_that_another_file_changes_is_found(tmp_path: Path) -> None:
    main = "from alone import filled\nfor x in xs:\n    out.append(filled(x))\n"
    assert any("changes `n`" in each for each in reasons(main, tmp_path))


@pytest.mark.parametrize("module", ["alone", "pkg"])
def test_methods_of_classes_that_are_imported_are_followed(module: str, tmp_path: Path) -> None:
    main = f"from {module} import Model\nmodel = Model()\nout = [model.{{}}(x) for x in xs]\n"
    assert any("`fit` changes `self`" in each for each in reasons(main.format("fit"), tmp_path))


def test_other_methods_of_these_are_free(tmp_path: Path) -> None:
    assert reasons("from alone import Model\nmodel = Model()\nout = [model.predict(x) for x in xs]\n", tmp_path) == ()


def test_a_file_in_another_folder_is_found_by_those_that_are_known_there(tmp_path: Path) -> None:
    """Known by its path alone: it is read once it is asked for."""
    for name, text in (
        ("main/main.py", "import other\nout = [other.counted(x) for x in xs]\n"),
        ("lib/other.py", HELPERS),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(textwrap.dedent(text))
    file = SourceFile(str(tmp_path / "main/main.py"))
    site = min(file.sites(), key=lambda each: each.line)
    assert judge(site, file, ProgramFiles({file.path: file})).reasons == ()
    files = ProgramFiles({file.path: file}, [str(tmp_path / "lib/gone.py")])
    assert judge(site, file, files).reasons == ("`counted` changes `SEEN`",)


@pytest.mark.parametrize("what", ["no file", "no Python", "a circle", "too many"])
def test_what_cannot_be_read_is_a_library(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = "from alone import counted\nimport numpy\nout = [numpy.sqrt(counted(x)) for x in xs]\n"
    helpers = HELPERS
    if what == "no file":
        main = main.replace("alone", "elsewhere")
    elif what == "no Python":
        helpers = "def counted(:"
    elif what == "a circle":
        helpers = "    from alone import counted\n"
    else:
        monkeypatch.setattr(program_files, "MOST_FILES", 0)
    assert reasons(main, tmp_path, helpers=helpers) == ()
