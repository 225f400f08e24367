"""Commands that pages show can be typed as they stand: each option is one that the command has."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.docs.pages import PAGES, ROOT, name

from allcores.cli.main import group

SHOWN = [*PAGES, ROOT / "benchmarks/README.md", ROOT / "CONTRIBUTING.md"]
#: a command in backticks, or to the end of a line of a block
_SPAN = re.compile(r"`(?P<text>[^`\n]+)`|^ {4,}(?:\$ )?(?P<line>\S.*)$|^\$ (?P<console>.*)$", re.MULTILINE)
_FENCED = re.compile(r"^ *```(?:console|bash|sh|text)?\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(r"--[a-z][a-z-]*")


def commands(text: str, first: str) -> Iterator[str]:
    """Those of a page that begin with a word, without what they are piped to or written to."""
    spans = [found.group("text") or found.group("line") or found.group("console") for found in _SPAN.finditer(text)]
    spans += [
        line.strip().removeprefix("$ ") for block in _FENCED.finditer(text) for line in block["text"].splitlines()
    ]
    for span in spans:
        at = re.search(rf"(?:^|[\s;|&(])({first}.*)", span or "")
        if at is not None:
            yield re.split(r"[|;&>)]|\s#|\s\\$", at[1])[0].strip()


def words_of(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quotation that goes on elsewhere
        return command.split()


def options_of(command: click.Command) -> dict[str, click.Parameter]:
    return {option: each for each in command.params for option in (*each.opts, *each.secondary_opts)}


def unknown_options(words: list[str]) -> list[str]:
    """Options that no command has, of what is typed behind `allcores`."""
    found: click.Command = group
    context = click.Context(found)
    rest = words
    given: list[str] = []
    known = set(options_of(found))
    while rest and isinstance(found, click.Group):
        if rest[0].startswith("-"):  # of the group itself, before the word for what it is to do
            given.append(rest[0])
            takes_a_value = rest[0] in known and not getattr(options_of(found)[rest[0]], "is_flag", False)
            rest = rest[2 if takes_a_value else 1 :]
            continue
        following = found.get_command(context, rest[0])
        if following is None:
            break
        found, rest = following, rest[1:]
        context = click.Context(found, parent=context)
        known |= set(options_of(found))
    if found is group:
        return []
    # What stands behind `--` is the arguments of a program, and so is what follows the program of `profile`.
    if "--" in rest:
        rest = rest[: rest.index("--")]
    if found.name == "profile":
        program = next((place for place, word in enumerate(rest) if word.endswith(".py")), len(rest))
        rest = rest[:program]
    asked = {option[0] for word in [*given, *rest] if (option := _OPTION.match(word))}
    return sorted(asked - known - {"--help", "--version"})


@pytest.mark.parametrize("page", SHOWN, ids=name)
def test_options_of_commands_exist(page: Path) -> None:
    wrong = {
        command: unknown
        for command in commands(page.read_text(), "allcores ")
        if (unknown := unknown_options(words_of(command)[1:]))
    }
    assert wrong == {}


@pytest.mark.parametrize("page", SHOWN, ids=name)
def test_options_of_benchmarks_exist(page: Path) -> None:
    """As their sources say; those of `make bench` are those of `benchmarks/run.py`."""
    wrong = {}
    for command in [
        *commands(page.read_text(), "python (?:-m )?benchmarks"),
        *commands(page.read_text(), "make bench "),
    ]:
        words = words_of(command)
        if words[0] == "make":
            words = ["python", "benchmarks/run.py", *" ".join(words[2:]).removeprefix("ARGS=").split()]
        words = [word for word in words[1:] if word != "-m"]
        path = ROOT / (words[0] if words[0].endswith(".py") else words[0].replace(".", "/"))
        sources = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        texts = [each.read_text() for each in sources if each.exists()]
        options = {found[0] for word in words[1:] if (found := _OPTION.match(word))}
        missing = sorted(option for option in options if not any(f'"{option}"' in text for text in texts))
        if missing or not texts:
            wrong[command] = missing or ["no such script"]
    assert wrong == {}


def extras_named(text: str) -> set[str]:
    """Those of `pip install 'allcores[x,y]'`, "the extra `x`", and of columns that are called extra."""
    found = {extra.strip() for named in re.findall(r"allcores\[([a-z0-9,\s-]+)\]", text) for extra in named.split(",")}
    found |= set(re.findall(r"\bextra `([a-z0-9-]+)`", text))
    column: int | None = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            column = None
        elif column is None:
            column = cells.index("extra") if "extra" in cells else len(cells)
        elif column < len(cells):
            found |= set(re.findall(r"`([^`]+)`", cells[column]))
    return found


@pytest.mark.parametrize("page", SHOWN, ids=name)
def test_extras_exist(page: Path) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras_named(page.read_text()) <= known.keys()


def test_an_extra_is_found_wherever_it_is_named() -> None:
    table = "| a | extra |\n|---|---|\n| `x` | `one` |\n"
    text = f"{table}\nthe extra `two`: `pip install 'allcores[three,four]'`\n| `y` | `z` |\n"
    assert extras_named(text) == {"one", "two", "three", "four"}


def test_a_command_with_an_option_that_is_not_there_is_found() -> None:
    text = "Say `allcores run f.py:g in.txt --colour red`.\n\n    $ allcores jobs submit add --webhok URL | cat\n"
    found = [unknown_options(words_of(each)[1:]) for each in commands(text, "allcores ")]
    assert found == [["--colour"], ["--webhok"]]
