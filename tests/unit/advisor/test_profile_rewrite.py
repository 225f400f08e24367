"""A loop as a map does the same: the changed text is run beside the old one, on a stand-in for allcores."""

# ruff: noqa: E501  # a program a line

from __future__ import annotations

import contextlib
import io
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from allcores.advisor.profiling.independence import judge
from allcores.advisor.profiling.rewrite import Rewrite, rewrite
from allcores.advisor.profiling.sites import SourceFile


def changed(source: str, folder: Path, *, pattern: str = "processes", values: bool = True) -> Rewrite | None:
    """The program with its first loop, or call, as a map."""
    path = folder / "program.py"
    path.write_text(source)
    file = SourceFile(str(path))
    site = min(
        (each for each in file.sites() if each.line >= line_of(source)), key=lambda each: (each.line, each.depth)
    )
    return rewrite(site, judge(site, file), file, pattern=pattern, workers=4, values=values)


def line_of(source: str) -> int:
    """The line that is marked `# here`."""
    return next(number for number, line in enumerate(source.splitlines(), 1) if line.endswith("# here"))


def output(source: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a program prints, with maps in this thread; items that a worker changes do not come back."""
    calls: list[str] = []

    def run(function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        calls.append("map")
        return [function(item) for item in items]

    def star(function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return run(lambda item: function(*item), items)

    stand_in = types.ModuleType("allcores")
    for name, value in {"map": run, "imap": run, "starmap": star, "configure": lambda **options: None}.items():
        setattr(stand_in, name, value)

    def apply(frame: Any, *arguments: Any, **options: Any) -> Any:
        calls.append("apply")
        return frame.apply(*arguments, **options)

    stand_in.adapters = types.SimpleNamespace(pandas=types.SimpleNamespace(apply=apply))  # type: ignore[attr-defined]
    for module in ("allcores", "allcores.adapters", "allcores.adapters.pandas"):
        monkeypatch.setitem(sys.modules, module, stand_in)
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        exec(compile(source, "program.py", "exec"), {"__name__": "__main__"})
    assert bool(calls) == ("import allcores" in source)
    return written.getvalue()


CHANGED = {
    "comprehension": "print([f(x) for x in xs])  # here",
    "expression": "print([f(x) + k for x in xs])  # here",
    "filtered": "print([f(x) for x in xs if x % 2])  # here",
    "pairs": "print([f(x) + y for x, y in zip(xs, xs)])  # here",
    "pairs, filtered": "print([f(x) + y for x, y in zip(xs, xs) if x % 2 and y])  # here",
    "pairs in parentheses, filtered": "print([f(x) + y for (x, y) in zip(xs, xs) if x])  # here",
    "set": "print(sorted({f(x) for x in xs}))  # here",
    "dict": "print({x: f(x) for x in xs})  # here",
    "generator": "print(sum(f(x) for x in xs))  # here",
    "generator with a start": "print(sum((f(x) for x in xs), 5))  # here",
    "map": "print(list(map(f, xs)))  # here",
    "append": "out = []\nfor x in xs:  # here\n    out.append(f(x))\nprint(out)",
    "appended elsewhere": "class Out:\n    def __init__(self): self.n = 0\n    def append(self, y): self.n += y\nout = Out()\nfor x in xs:  # here\n    out.append(f(x))\nprint(out.n)",
    "added": "s = 0\nfor x in xs:  # here\n    s += f(x)\nprint(s)",
    "one line": "out = []\nfor x in xs: out.append(f(x))  # here\nprint(out)",
    "body": "out = []\nfor x in xs:  # here\n    # what it is\n    y = f(x)\n    z = y + k\n    out.append(z)\nprint(out)",
    "two results": "d = {}\ns = 0\nfor x in xs:  # here\n    y = f(x)\n    d[x] = y\n    s += y\nprint(d, s)",
    "target and result": "d = {}\nfor x in xs:  # here\n    d[x] = f(x), k\nprint(d)",
    "unpacked": "d = {}\nfor i, x in enumerate(xs):  # here\n    d[i] = f(x)\nprint(d)",
    "guarded": "out = []\nfor x in xs:  # here\n    if f(x) > 3:\n        out.append(x)\nprint(out)",
    "guarded value": "out = []\nfor x in xs:  # here\n    if x:\n        out.append(10 // f(x))\nprint(out)",
    "continue": "out = []\nfor x in xs:  # here\n    if x == 2:\n        continue\n    y = f(x)\n    out.append(y)\nprint(out)",
    "continue alone": "s = 0\nfor x in xs:  # here\n    if x == 2:\n        continue\n    y = f(x)\n    s += 1\nprint(s)",
    "printed": "for x in xs:  # here\n    print('x', f(x), sep=':')",
    "float sum": "s = 0.1\nfor x in xs:  # here\n    s += f(x) / 3\nprint(s)",
    "in a function": "def g(values, k):\n    out = []\n    for x in values:  # here\n        y = f(x) * k\n        out.append(y)\n"
    "    return out\nprint(g(xs, 3))",
    "inner loops": "out = []\nfor x in xs:  # here\n    s = 0\n    for y in range(x):\n        if y == 1:\n            continue\n"
    "        s += f(y)\n    out.append(s)\nprint(out)",
    "texts of several lines": "out = []\nfor x in xs:  # here\n    t = '''a\n  b'''\n    y = t * f(x)\n    out.append(y)\nprint(out)",
    "a key of its own": "d = {0: [], 1: []}\nfor x in xs:  # here\n    key = x % 2\n    d[key].append(f(x))\nprint(d)",
    "the item as a key": "d = {x: [] for x in range(9)}\nfor x in xs:  # here\n    d[x].append(f(x))\nprint(d)",
    "changed before it is used": "out = []\nfor x in xs:  # here\n    y = f(x)\n    y += 1\n    out.append(hex(f(y)))\nprint(out)",
    "a tuple": "out = []\nfor x in 3, 4:  # here\n    out.append(f(x))\nprint(out)",
    "a tuple in parentheses": "out = []\nfor x in (3, 4): out.append(k + f(x))  # here\nprint(out)",
    "pairs of a tuple": "out = []\nfor x in (3, 4), (5, 6):  # here\n    out.append(f(x[0]))\nprint(out)",
    "guarded choice": "out = []\nfor x in xs:  # here\n    if f(x) > 3:\n        out.append(f(10 // x) if x < 3 else f(x))\nprint(out)",
    "guarded pair": "d = {}\nfor x in xs:  # here\n    if x:\n        d[x] = f(10 // x), k\nprint(d)",
    "letters": "out = []\nfor ä in xs: out.append('ö' + str(f(ä)))  # here\nprint(out)",
}
HEAD = '"""A program."""\nfrom __future__ import annotations\n\nxs = [0, 1, 2, 3, 4]\nk = 7\n\ndef f(x):\n    return x * x\n\n'


@pytest.mark.parametrize("source", CHANGED.values(), ids=CHANGED)
@pytest.mark.parametrize("pattern", ["processes", "threads"])
def test_it_prints_the_same(source: str, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = HEAD + source + "\n"
    change = changed(program, tmp_path, pattern=pattern)
    assert change is not None
    assert output(change.text, monkeypatch) == output(program, monkeypatch)
    assert change.diff.startswith("--- a/")
    assert ("allcores.configure(" in change.text) == (pattern == "threads")


UNCHANGED = {
    "ends early": "print(any(f(x) for x in xs))  # here",
    "two fors": "print([f(x) for x in xs for y in xs])  # here",
    "nothing to move": "s = 0\nfor x in xs:  # here\n    s += x\nprint(s)",
    "carried": "s = 0\nfor x in xs:  # here\n    s = f(x) + s\nprint(s)",
    "in a class": "class Out:\n    size, out = 2, []\n    for x in xs:  # here\n        y = x * size\n        out.append(f(y))\nprint(Out.out)",
    "any number of inputs": "both = xs, xs\nprint(list(map(f, *both)))  # here",
    "kept": "it = map(f, xs)  # here\nprint(next(it))",
}


@pytest.mark.parametrize("source", UNCHANGED.values(), ids=UNCHANGED)
def test_what_cannot_be_written_is_left_alone(source: str, tmp_path: Path) -> None:
    assert changed(HEAD + source + "\n", tmp_path) is None


FRAME = HEAD + "import pandas as pd\ndf = pd.DataFrame({'a': xs, 'b': xs})\ndef g(row, n=0): return row['a'] + n\n"


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("print(df.apply(g, axis=1, n=2).tolist())  # here", True),
        ("print(df['a'].apply(f).tolist())  # here", True),
        ("print(len(df[df.a > 9].apply(g, axis=1)))  # here", False),
        ("few = df[df.a > 9]\nprint(len(few.apply(g, axis=1)))  # here", True),
        ("columns = ['a', 'b']\nprint(df[columns].apply(lambda c: c - c.mean()))  # here", False),
        ("options = {'n': 2}\nprint(df.apply(g, axis=1, **options).tolist())  # here", False),
        ("groups = df.groupby('b')\nprint(groups['a'].apply(len).tolist())  # here", False),
        ("print(df.index.map(f).tolist())  # here", False),
        ("print(df['a'].map(f).tolist())  # here", False),
        ("print(df.apply(g, 1).tolist())  # here", False),
        ("print(df['a'].apply(lambda x: None if x < 3 else x))  # here", True),
        ("frames = {'a': df}\nprint(frames['a'].apply(len).tolist())  # here", False),
    ],
)
def test_a_frame_is_cut_where_each_row_is_by_itself(
    source: str, calls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column or rows, of an empty frame as well; not where a function gets whole columns or groups.

    What it makes of them is for the adapter to join as pandas does: types of parts (`None`, `None`, 3) may differ.
    """
    pytest.importorskip("pandas")
    program = f"{FRAME}{source}\n"
    change = changed(program, tmp_path)
    assert (change is not None) == calls
    if change is not None:
        assert output(change.text, monkeypatch) == output(program, monkeypatch)
        assert "allcores.adapters.pandas.apply(" in change.text and "import allcores.adapters.pandas\n" in change.text


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("d = {}\nfor x in xs:  # here\n    d[x] = f(x)", True),
        ("out = []\nfor x in xs:  # here\n    out.append((x, f(x)))", True),
        ("out = []\nfor x in xs:  # here\n    y = f(x)\n    if y:\n        out.append(x)", True),
        ("{x: f(x) for x in xs}  # here", True),
        ("[(x, f(x)) for x in xs]  # here", True),
        ("d = {}\nfor x in xs:  # here\n    d[x.name] = f(x)", False),
        ("out = []\nfor x in xs:  # here\n    y = f(x)\n    out.append(y)", False),
        ("{x.name: f(x) for x in xs}  # here", False),
        ("d = {}\nfor i, x in enumerate(xs):  # here\n    d[i] = f(x)", False),
        ("d = {}\nfor i, x in enumerate(xs):  # here\n    d[x] = f(x)", True),
        ("[f(x) for x in xs]  # here", False),
    ],
)
def test_an_object_of_the_program_stays_that_object(source: str, kept: bool, tmp_path: Path) -> None:
    """What a worker gives back of it is a copy, which is equal to no other unless its class says so; threads share it."""
    assert (changed(HEAD + source, tmp_path, values=False) is None) == kept
    assert changed(HEAD + source, tmp_path) is not None
    assert changed(HEAD + source, tmp_path, values=False, pattern="threads") is not None


def test_a_loop_that_only_gathers_is_one_line(tmp_path: Path) -> None:
    """The function itself is mapped where an iteration is a call of it; a list is extended where it is all that is done."""
    head = "xs = [1, 2]\ndef f(x): return x\n"
    for loop, line in {
        "out = []\nfor x in xs:  # here\n    out.append(f(x))": "out.extend(allcores.imap(f, xs))",
        "s = 0\nfor x in xs:  # here\n    s += f(x)": "for value in allcores.imap(f, xs):\n    s += value",
        "for x in xs:  # here\n    print(f(x))": "for value in allcores.imap(f, xs):\n    print(value)",
    }.items():
        change = changed(head + loop, tmp_path)
        assert change is not None and change.text.endswith(line), change
        assert "def f(x): return x\n" in change.text and change.text.count("def ") == 1
    # Of what is appended to nothing is known but the name: it may have no `extend`.
    change = changed(head + "def g(out):\n    for x in xs:  # here\n        out.append(f(x))", tmp_path)
    assert change is not None and "extend" not in change.text and "allcores.imap(f, xs)" in change.text


@pytest.mark.parametrize(
    "source", ["for n in range(5): print(hex(n))  # here\n", "print([hex(n) for n in range(5)])  # here\n"]
)
def test_the_import_is_added_before_a_loop_that_comes_first(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = changed(source, tmp_path)
    assert change is not None
    assert change.text.startswith("import allcores\n\n")
    assert output(change.text, monkeypatch) == output(source, monkeypatch)


def test_the_import_is_added_once_and_where_it_may_stand(tmp_path: Path) -> None:
    """Behind the docstring and `from __future__`, and not at all where it is there."""
    change = changed(HEAD + CHANGED["comprehension"], tmp_path)
    assert change is not None
    assert "annotations\n\nimport allcores\n\nxs = " in change.text
    again = changed(HEAD.replace("xs =", "import allcores\nxs =") + CHANGED["comprehension"], tmp_path)
    assert again is not None
    assert again.text.count("import allcores") == 1
