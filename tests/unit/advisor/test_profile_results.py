"""What an iteration gives back: a diff is shown only where a worker can give it back as what it was."""

# ruff: noqa: E501  # a program a line

from __future__ import annotations

from pathlib import Path

import pytest

from allcores.advisor.profiling import report
from allcores.advisor.profiling.facts import UNPICKLABLE
from allcores.advisor.profiling.independence import judge
from allcores.advisor.profiling.rewrite import Rewrite, rewrite
from allcores.advisor.profiling.sites import SourceFile

HEAD = "import re, itertools\nxs = [0, 1, 2, 3]\n\ndef f(x):\n    return x * x\n\n"


def changed(
    source: str, folder: Path, *, pattern: str = "processes", kinds: dict[str, tuple[str, str | None]] | None = None
) -> Rewrite | None:
    """The program with the loop, or call, that is marked `# here` as a map."""
    path = folder / "program.py"
    path.write_text(HEAD + source + "\n")
    file = SourceFile(str(path))
    marked = next(number for number, line in enumerate(file.text.split("\n"), 1) if line.endswith("# here"))
    site = min((each for each in file.sites() if each.line == marked), key=lambda each: each.depth)
    return rewrite(site, judge(site, file), file, pattern=pattern, workers=2, kind=(kinds or {}).get)


UNCHANGED = {
    "a match": "out = [re.match('a', f(x)) for x in xs]  # here",
    "a match by a name": "for x in xs:  # here\n    m = pattern.search(f(x))\n    out.append(m)",
    "a match that a function gives": "def g(x):\n    return re.match('a', x)\nout = [g(x) for x in xs]  # here",
    "a view": "out = [f(x).items() for x in xs]  # here",
    "a file": "out = [open(f(x)) for x in xs]  # here",
    "a generator": "out = [(f(y) for y in range(x)) for x in xs]  # here",
    "a generator of the program": "def g(x):\n    yield f(x)\nout = [g(x) for x in xs]  # here",
    "a function that reads the item later": "out = [lambda: f(x) for x in xs]  # here",
    "a function that is defined in the loop": "for x in xs:  # here\n    def g():\n        return f(x)\n    out.append(g)",
    "what is told by identity": "NONE = object()\ndef g(x):\n    return NONE if x else f(x)\nout = [g(x) for x in xs]  # here",
    "a part of what is outside": "for x in xs:  # here\n    node = nodes[f(x)]\n    out.append(node)",
    "one of what is outside": "def g(x):\n    best = max(nodes, key=f)\n    return best\nout = [g(x) for x in xs]  # here",
    "super()": "class A(B):\n    def run(self):\n        for x in xs:  # here\n            y = super().work(x)\n            out.append(y)",
    "__class__": "class A:\n    def run(self):\n        for x in xs:  # here\n            y = f(x, __class__)\n            out.append(y)",
    "printed before it is computed": "for x in xs:  # here\n    print('now', x)\n    print(f(x))",
    "kept before it is computed, and the failure handled": "try:\n    for x in xs:  # here\n        done.append(x)\n"
    "        s += f(x)\nexcept ValueError:\n    pass",
    "without an end": "print(take(f(x) for x in itertools.count() if x))  # here",
}


@pytest.mark.parametrize("source", UNCHANGED.values(), ids=UNCHANGED)
def test_no_diff_is_shown(source: str, tmp_path: Path) -> None:
    assert changed(source, tmp_path) is None


CHANGED = {
    "whether it matched": (
        "for x in xs:  # here\n    m = re.match('a', x)\n    if m:\n        out.append(m.group(1))",
        "    keep = bool(m)\n    value = (m.group(1)) if keep else None\n    return keep, value\n",
    ),
    "counted before it is computed": (
        "for x in xs:  # here\n    n += 1\n    s += f(x)",
        "for value in allcores.imap(f, xs):\n    n += 1\n    s += value",
    ),
    "values that may have no end": (
        "print(take(f(x) for x in itertools.count()))  # here",
        "take(allcores.imap(f, itertools.count()))",
    ),
    "a function that is called at once": (
        "for x in xs:  # here\n    y = sorted(x, key=lambda each: each[x[0]])\n    out.append(y)",
        "    return y\n",
    ),
    "a function of the iteration alone": (
        "for x in xs:  # here\n    def g(y):\n        return x + y\n    z = g(3)\n    out.append(z)",
        "    return z\n",
    ),
    "a constant": ("LABEL = 'a'\nout = [(LABEL, f(x)) for x in xs]  # here", "lambda x: (LABEL, f(x)), xs)"),
    "statements on a line": (
        "for x in xs:  # here\n    y = f(x) + 1; print(y)\n",
        "    y = f(x) + 1\n    return y\n\nfor y in allcores.imap(one_item, xs):\n    print(y)\n",
    ),
    "more statements on a line": (
        "for x in xs:  # here\n    y = f(x); z = y + 1; print(y); print(z)\n",
        "    y = f(x)\n    z = y + 1\n    return y, z\n\nfor y, z in allcores.imap(one_item, xs):\n    print(y)\n    print(z)\n",
    ),
}


@pytest.mark.parametrize(("source", "part"), CHANGED.values(), ids=CHANGED)
def test_the_diff_gives_back_what_can_be(source: str, part: str, tmp_path: Path) -> None:
    change = changed(source, tmp_path)
    assert change is not None
    assert part in change.text


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ("subprocess.run(['ls', x])", False),
        ("os.system(x)", False),
        ("subprocess.run(['ls', x], capture_output=True)", True),
        ("subprocess.check_call(['ls', x], stdout=target)", True),
    ],
)
def test_processes_that_write_into_the_output_keep_their_order(call: str, shown: bool, tmp_path: Path) -> None:
    source = f"import os, subprocess\nfor x in xs:  # here\n    y = {call}\n    n += 1"
    assert (changed(source, tmp_path, pattern="threads") is not None) == shown


def test_what_is_logged_in_workers_is_said(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text("def g(x):\n    log.info(x)\n    return x\nfor x in xs:\n    y = g(x)\n    out.append(y)\n")
    file = SourceFile(str(path))
    (site,) = file.sites()
    verdict = judge(site, file)
    assert verdict.independent and verdict.notes[-1] == "what it logs may come in another order"


def test_a_number_out_of_a_table_is_as_good_as_its_copy(tmp_path: Path) -> None:
    source = "for x in xs:  # here\n    node = nodes[f(x)]\n    out.append(node)"
    assert changed(source, tmp_path, kinds={"nodes": ("list", "int")}) is not None
    assert changed(source, tmp_path, kinds={"nodes": ("list", "program.Node")}) is None
    assert changed(source, tmp_path, pattern="threads") is not None


@pytest.mark.parametrize(
    ("kind", "good"),
    [("int", True), ("tuple", True), ("datetime.date", True), ("dict", False), ("list", False), ("numpy.ndarray", False),
     ("numpy.int64", True), ("collections.deque", False), ("__main__.Player", False)],
)  # fmt: skip
def test_items_that_can_be_changed_are_not_as_good_as_their_copies(kind: str, good: bool) -> None:
    assert report._is_value(kind) == good
    assert "re.Match" in UNPICKLABLE
