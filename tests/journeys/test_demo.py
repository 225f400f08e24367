"""`make demo`, on a few modules: what it prints, what it writes, and how it ends on Ctrl-C."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from tests.process.waiting import wait_until

from source_measures import measure, module_name, standard_library
from standard_library import plan

SOURCES = Path(__file__).parents[2] / "src"
DEMO = Path(__file__).parents[2] / "examples" / "standard_library.py"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SOURCES), "COLUMNS": "120"}


def start_demo(*options: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(DEMO), *options],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_demo_measures_and_compares(tmp_path: Path) -> None:
    """A JSON line for each module, equal to what a plain call returns; the table, which is full; and the speed-up."""
    with start_demo("--limit", "14", "--workers", "2", folder=tmp_path) as demo:
        out, err = demo.communicate(timeout=120)
    assert demo.returncode == 0, err
    lines = [json.loads(line) for line in (tmp_path / "allcores-demo.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(14))
    measures = [line["value"] for line in lines if line["kind"] == "ok"]
    assert all(one == measure(one["path"]) for one in measures)
    for line in lines:
        if line["kind"] != "ok":
            assert (line["kind"], line["error"]) == ("failed", "SyntaxError")
            with pytest.raises(SyntaxError):
                measure(line["item"])
    assert "14 modules" in out
    for sentence in (
        r"All cores: \d+\.\d\d s",
        r"One core: +\d+\.\d\d s",
        r"Speed-up \d\.\d\d× on 2 workers",
    ):
        assert re.search(sentence, out), out
    efficiency = re.search(r"parallel efficiency (\d+)%", out)
    speed_up = re.search(r"Speed-up (\d\.\d\d)", out)
    assert efficiency and speed_up
    assert int(efficiency[1]) == pytest.approx(float(speed_up[1]) / 2 * 100, abs=1)
    # The table: ten rows, most complex first.
    table = re.findall(r"^([\w.]+) +([\d,]+) +([\d,]+) +([\d,]+) +(\d+)  ", out, re.MULTILINE)
    root = Path(sysconfig.get_path("stdlib"))
    expected = sorted(
        ((one["complexity"], module_name(Path(one["path"]), root)) for one in measures),
        key=lambda pair: -pair[0],
    )[:10]
    assert [(int(row[1].replace(",", "")), row[0]) for row in table] == expected


@pytest.mark.slow
def test_demo_says_how_long_and_keeps_to_it(tmp_path: Path) -> None:
    """With two seconds for all of it: a sample, and the speed-up that follows from a sample is named as such."""
    with start_demo("--seconds", "2", "--workers", "2", folder=tmp_path) as demo:
        out, err = demo.communicate(timeout=120)
    assert demo.returncode == 0, err
    assert re.search(r"^This is going to take about \d+ s here\.$", out, re.MULTILINE), out
    chosen = re.search(r"^That is for ([\d,]+) of the modules, spread evenly", out, re.MULTILINE)
    one_core = re.search(r"^One core: .* s, ([\d,]+) of these files in a plain loop$", out, re.MULTILINE)
    assert chosen and one_core, out
    lines = (tmp_path / "allcores-demo.jsonl").read_text().splitlines()
    assert len(lines) == int(chosen[1].replace(",", "")) < len(standard_library())
    assert 0 < int(one_core[1].replace(",", "")) < len(lines)
    assert re.search(r"Speed-up \d.*\(one core's time follows from the sample, \d+% of the work\)", out), out


@pytest.mark.parametrize(
    ("one_core_s", "workers", "modules", "sample"),
    [
        (20.0, 2, 1000, 1000),  # there is time for both passes
        (60.0, 2, 1000, 500),  # 30 s on both cores, and the rest for half of the modules
        (600.0, 2, 130, 35),  # 39 s and 21 s: neither can have all
        (600.0, 64, 1000, 84),  # many cores
        (1e9, 2, 1, 1),  # never less than one
    ],
)
def test_what_fits_into_a_minute(one_core_s: float, workers: int, modules: int, sample: int) -> None:
    chosen = plan(1000, one_core_s, workers, 60.0)
    assert (chosen.modules, chosen.sample) == (modules, sample)
    if modules > 1:
        assert chosen.seconds <= 60.0


@pytest.mark.slow
def test_demo_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C, sent to the whole group as a terminal does: one sentence, exit code 130, the output stays."""
    output = tmp_path / "out.jsonl"
    with start_demo("--no-serial", "--whole", "--output", str(output), folder=tmp_path) as demo:
        assert demo.stdout is not None
        assert "modules" in demo.stdout.readline()
        wait_until(lambda: (output.exists() and output.stat().st_size > 0) or demo.poll() is not None)
        assert demo.poll() is None
        os.killpg(demo.pid, signal.SIGINT)
        out, err = demo.communicate(timeout=120)
    assert demo.returncode == 130, (out, err)
    assert "Traceback" not in err, err
    assert "Interrupted." in out
    for line in output.read_text().splitlines():
        assert json.loads(line)["kind"] in ("ok", "failed")


@pytest.mark.slow
@pytest.mark.quick
def test_demo_says_when_it_cannot_write(tmp_path: Path) -> None:
    """An output that can't be written is one sentence and exit code 4."""
    with start_demo("--limit", "3", "--output", str(tmp_path / "no" / "out.jsonl"), folder=tmp_path) as demo:
        _, err = demo.communicate(timeout=120)
    assert demo.returncode == 4
    assert "Traceback" not in err
    assert "No such file or directory" in err


def test_standard_library_is_complete_and_clean() -> None:
    """Modules and packages at any depth, but nothing that pip installed."""
    root = Path(sysconfig.get_path("stdlib"))
    names = {module_name(path, root) for path in standard_library()}
    assert {"os", "json", "json.decoder", "concurrent.futures.thread", "asyncio"} <= names
    assert not any("site-packages" in name for name in names)
    assert len(names) > 500


def measured(source: str, folder: Path) -> dict[str, object]:
    path = folder / "example.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return dict(measure(str(path)))


def test_measure_counts_by_hand(tmp_path: Path) -> None:
    """Each measure of a small module, as counted by a person."""
    found = measured(
        '''\
        """A docstring
        of two lines."""

        import os  # a comment

        class C:
            """One more."""

            async def f(self, x):
                # a comment of its own
                if x and os.name or x == 3:      # if, and, or: 3
                    return [a for a in x if a]   # for, if: 2
                elif x:                          # 1
                    for y in x:                  # 1
                        print(y)
                assert x                         # 1
                def inner():
                    return """a
                    text""" if x else None       # 1

        while os:                                # 1
            try:
                pass
            except ValueError:                   # 1
                pass
        ''',
        tmp_path,
    )
    assert found == {
        "path": str(tmp_path / "example.py"),
        "lines": 25,
        "code_lines": 17,
        "comment_lines": 10,
        "docstring_lines": 3,
        "tokens": 72,
        "names": 29,
        "functions": 2,
        "classes": 1,
        "complexity": 9 + 2 + 3,
        "worst_complexity": 9,
        "worst_function": "C.f",
        "mean_complexity": 5.5,
        "nesting": 4,
    }


@pytest.mark.parametrize(
    ("statement", "decisions"),
    [
        ("pass", 0),
        ("x = 1 if a else 2", 1),
        ("a and b and c", 2),
        ("a and b or c", 2),
        ("if a: pass\nelif b: pass\nelse: pass", 2),
        ("if a: pass\nelse:\n    if b: pass", 2),
        ("try: pass\nexcept A: pass\nexcept B: pass\nfinally: pass", 2),
        ("try: pass\nexcept* A: pass", 1),
        ("{a: b for a in c for d in a if d if a}", 4),
        ("with a: pass", 0),
        ("match a:\n    case 1: pass\n    case [x] if x: pass\n    case _: pass", 2),
        ("match a:\n    case x if x: pass", 1),
        ("async def f():\n    async for a in b: pass", 2),  # and one for the function
        ("x = lambda: a or b", 1),
    ],
)
def test_decisions(statement: str, decisions: int, tmp_path: Path) -> None:
    """What counts as a decision, one statement at a time."""
    assert measured(statement, tmp_path)["complexity"] == 1 + decisions


@pytest.mark.parametrize(
    ("statement", "nesting"),
    [
        ("pass", 0),
        ("if a:\n pass\nelif b:\n pass\nelif c:\n pass", 1),
        ("if a:\n pass\nelse:\n if b:\n  pass", 2),
        ("def f():\n with a:\n  while b:\n   pass", 3),
        ("match a:\n case 1:\n  if b:\n   pass", 2),
    ],
)
def test_nesting(statement: str, nesting: int, tmp_path: Path) -> None:
    """`elif` is not deeper than its `if`; `else` with an `if` in it is."""
    assert measured(statement, tmp_path)["nesting"] == nesting


def test_measure_of_files_that_are_not_ordinary(tmp_path: Path) -> None:
    """An empty file, another encoding, a missing last line end; and SyntaxError for what is not Python."""
    assert measured("", tmp_path)["lines"] == 0
    assert measured("x = 1", tmp_path)["lines"] == 1
    path = tmp_path / "latin.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nname = 'Gödel'\n".encode("latin-1"))
    assert measure(str(path))["code_lines"] == 1
    for text in [
        "print 'two'",
        "def f(:",
        "x = 'never ends",
        "if a:\n\tb\n        c",
        "# coding: no-such\n",
        "\0",
    ]:
        path.write_text(text)
        with pytest.raises((SyntaxError, ValueError)):
            measure(str(path))


def test_functions_and_classes_agree_with_a_plain_walk() -> None:
    """On real modules, the walk that leaves out leaves finds as many definitions as ast.walk."""
    for path in standard_library()[::60]:
        try:
            found = measure(str(path))
        except (SyntaxError, ValueError):
            continue
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
        assert found["functions"] == sum(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in nodes)
        assert found["classes"] == sum(isinstance(node, ast.ClassDef) for node in nodes)
        decisions = sum(isinstance(n, (ast.If, ast.While, ast.For)) for n in nodes)
        assert found["complexity"] >= 1 + found["functions"] + decisions
