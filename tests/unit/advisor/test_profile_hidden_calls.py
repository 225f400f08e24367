"""What iterations change by classes, operators, defaults, decorators and functions that are values."""

# ruff: noqa: E501  # a program a line

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from allcores.advisor.profiling import effects
from allcores.advisor.profiling.independence import judge
from allcores.advisor.profiling.program_files import ProgramFiles
from allcores.advisor.profiling.sites import SourceFile


def reasons(source: str, folder: Path) -> tuple[str, ...]:
    """What is said against the last loop, or call, of a program."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(source))
    file = SourceFile(str(path))
    site = max(file.sites(), key=lambda each: (each.line, -each.depth))
    return judge(site, file, ProgramFiles({str(path): file})).reasons


DEPENDENT = {
    "a count of a class": (
        "class Item:\n    count = 0\n    def __init__(self, x):\n        Item.count += 1\nout = [Item(x) for x in xs]",
        "`__init__` changes `Item`",
    ),
    "a class that registers its objects": (
        "class Item:\n    def __init__(self, x):\n        known.append(self)\nfor x in xs:\n    out.append(Item(f(x)))",
        "it changes `known` (append), which is outside",
    ),
    "a class that it is derived from": (
        "class Base:\n    def __init__(self, x):\n        known[x] = self\nclass Item(Base):\n    pass\n"
        "out = [Item(x) for x in xs]",
        "`__init__` changes `known`",
    ),
    "a dataclass": (
        "@dataclass\nclass Item:\n    x: int\n    def __post_init__(self):\n        known.add(self.x)\n"
        "out = [Item(x) for x in xs]",
        "it changes `known` (add), which is outside",
    ),
    "a field that is counted": (
        "@dataclass\nclass Item:\n    x: int\n    n: int = field(default_factory=lambda: next(numbers))\n"
        "out = [Item(x) for x in xs]",
        "it takes items from an iterator",
    ),
    "a default that is kept": (
        "def g(x, seen=[]):\n    seen.append(x)\n    return len(seen)\nout = [g(x) for x in xs]",
        "it changes `seen` (append), which is outside",
    ),
    "a default by keyword": (
        "def g(x, *, seen={}):\n    seen[x] = 1\n    return x\nout = [g(x) for x in xs]",
        "`g` changes `seen`",
    ),
    "an object that is called": (
        "class Sum:\n    def __call__(self, x):\n        self.n += x\n        return self.n\ng = Sum()\n"
        "out = [g(x) for x in xs]",
        "`__call__` changes `self`",
    ),
    "an object that is looked into": (
        "class Table:\n    def __getitem__(self, x):\n        self.hits += 1\n        return x\ntable = Table()\n"
        "out = [table[x] for x in xs]",
        "`__getitem__` changes `self`",
    ),
    "a property": (
        "class Ids:\n    @property\n    def fresh(self):\n        self.n += 1\n        return self.n\n"
        "out = [f(x, ids.fresh) for x in xs]",
        "`fresh` changes `self`",
    ),
    "a decorator": (
        "def traced(g):\n    def inner(x):\n        calls.append(x)\n        return g(x)\n    return inner\n"
        "@traced\ndef h(x):\n    return x\nout = [h(x) for x in xs]",
        "it changes `calls` (append), which is outside",
    ),
    "functions in a table": (
        "def even(x):\n    log.append(x)\n    return x\ntable = {0: even}\nout = [table[x % 2](x) for x in xs]",
        "it changes `log` (append), which is outside",
    ),
    "methods by their names": (
        "class Visitor:\n    def visit_a(self, x):\n        self.n += 1\n    def visit(self, x):\n"
        "        return getattr(self, 'visit_' + x)(x)\n    table = [visit_a]\nout = [visitor.visit(x) for x in xs]",
        "`visit_a` changes `self`",
    ),
    "functions as items": (
        "def g(x):\n    global n\n    n += 1\nout = [each(5) for each in (g, len)]",
        "`g` sets `n`, which is outside",
    ),
    "functions that are handed on": (
        "def g(x):\n    log.append(x)\ndef apply(function, x):\n    return function(x)\nout = [apply(g, x) for x in xs]",
        "it changes `log` (append), which is outside",
    ),
    "a key": (
        "def key(x):\n    global n\n    n += 1\nfor x in xs:\n    y = sorted(x, key=key)\n    out.append(y)",
        "`key` sets `n`, which is outside",
    ),
    "a cache that is looked at": (
        "@lru_cache\ndef g(x):\n    return x\nout = [g(x) for x in xs]\nprint(g.cache_info())",
        "how often `g` was found in its cache is asked for",
    ),
    "a method that a column is given": (
        "class Sum:\n    def add(self, x):\n        self.n += x\n        return self.n\nout = df['a'].apply(total.add)",
        "`add` changes `self`",
    ),
    "a heap": ("for x in xs:\n    heappush(heap, f(x))\n    y = 1", "it changes `heap` (heappush), which is outside"),
    "an array that gets the result": (
        "for x in xs:\n    y = np.dot(x, w, out=buffer)",
        "it changes `buffer` (dot), which is outside",
    ),
    "an item in place": (
        "for frame in frames:\n    y = frame.sort_values('a', inplace=True)",
        "it changes its item `frame` (sort_values)",
    ),
    "globals by their text": (
        "def g(x):\n    globals()['n'] = x\nout = [g(x) for x in xs]",
        "`g`: it looks for names by their text",
    ),
    "a part that a function gives": (
        "def account(x):\n    return accounts[x % 3]\nfor x in xs:\n    a = account(x)\n    a.total += f(x)\n    y = 1",
        "it changes `a`, which is outside",
    ),
    "a part that a method gives": (
        "class Bank:\n    def find(self, x):\n        return self.all[x]\n"
        "for x in xs:\n    a = bank.find(x)\n    a.total += f(x)\n    y = 1",
        "it changes `a`, which is outside",
    ),
    "a part without a name": (
        "def found():\n    return known\nfor x in xs:\n    found().append(x)\n    y = f(x)",
        "it changes `found()` (append), which is outside",
    ),
    "what is called for its effect": (
        "for x in xs:\n    model.observe(x)\n    out.append(f(x))",
        "it calls `observe` of `model`, and what that changes is not known",
    ),
    "an end of the program": (
        "import sys\nfor x in xs:\n    if x:\n        sys.exit(3)\n    print(f(x))",
        "it ends the program",
    ),
    "an end that is raised": (
        "def g(x):\n    raise SystemExit(4)\nfor x in xs:\n    print(g(x))",
        "`g`: it raises SystemExit, which ends more than an iteration",
    ),
    "another folder": (
        "import os\nfor x in xs:\n    os.chdir(x)\n    y = f(x)",
        "it calls os.chdir, which concerns the whole process",
    ),
    "printed by a library": ("from pprint import pprint\nfor x in xs:\n    pprint(x)\n    y = f(x)", "it prints"),
    "a file at whose end it writes": (
        "for x in xs:\n    with path.open(mode='a') as file:\n        y = f(x, file)",
        "it appends to a file",
    ),
    "a text that is run": ("for x in xs:\n    y = eval('f(x)')\n    out.append(y)", "it runs text"),
    "all of random": (
        "import random\nout = [random.vonmisesvariate(x, 1) for x in xs]",
        "it draws from one stream of random numbers",
    ),
}


@pytest.mark.parametrize(("source", "reason"), DEPENDENT.values(), ids=DEPENDENT)
def test_it_is_named(source: str, reason: str, tmp_path: Path) -> None:
    found = reasons(source, tmp_path)
    assert any(reason in each for each in found), found


INDEPENDENT = {
    "objects of their own": "class Item:\n    def __init__(self, x):\n        self.x = x\n        self.all = []\n"
    "        self.all.append(x)\nout = [Item(x) for x in xs]",
    "a default that is given": "def g(x, seen=[]):\n    seen.append(x)\n    return seen\nout = [g(x, [x]) for x in xs]",
    "a default that is not changed": "def g(x, words=['a']):\n    return x in words\nout = [g(x) for x in xs]",
    "a property that only reads": "class A:\n    @property\n    def b(self):\n        return self.c\nout = [x.b for x in xs]",
    "a function that no value can be": "def main():\n    print(1)\ndef g(x):\n    return x\nmain()\ntable = {0: g}\n"
    "out = [table[x](x) for x in xs]",
    "a function of a library that is named as a method": "import numpy as np\nout = [np.append(x, 1) for x in xs]",
    "a heap of its own": "from heapq import heappush\nfor x in xs:\n    heap = []\n    heappush(heap, x)\n    out.append(heap)",
    "a name that is set in an expression": "for x in xs:\n    if (y := f(x)):\n        z = y\n    else:\n        z = 0\n    out.append(z)",
    "a new value of a function": "def g(x):\n    row = dict(x)\n    return row\n"
    "for x in xs:\n    row = g(x)\n    row['a'] = 1\n    out.append(row)",
    "what tells how far it is": "for x in xs:\n    y = f(x)\n    out.append(y)\n    log.info('%s', x)",
    "generators of random numbers": "import random\nfor x in xs:\n    rng = random.Random(x)\n    out.append(rng.random())",
    "numbers from elsewhere": "import secrets\nout = [secrets.token_hex(x) for x in xs]",
}


@pytest.mark.parametrize("source", INDEPENDENT.values(), ids=INDEPENDENT)
def test_nothing_is_found_against_it(source: str, tmp_path: Path) -> None:
    assert reasons(source, tmp_path) == ()


def test_a_class_of_another_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "items.py").write_text("class Item:\n    n = 0\n    def __init__(self, x):\n        Item.n += 1\n")
    assert "`__init__` changes `Item`" in reasons("from items import Item\nout = [Item(x) for x in xs]", tmp_path)
    assert "`__init__` changes `Item`" in reasons("import items\nout = [items.Item(x) for x in xs]", tmp_path)


def test_of_very_many_functions_the_first_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that calls more of them is no candidate: the rest may do anything, and reading all may take minutes."""
    monkeypatch.setattr(effects, "MOST_FUNCTIONS", 5)
    source = "".join(f"def g{n}(x):\n    return g{n + 1}(x)\n" for n in range(9)) + "out = [g0(x) for x in xs]"
    (reason,) = reasons(source, tmp_path)
    assert reason.endswith("it calls more functions than were read")
    assert reasons(source.replace("g0(x) for", "g6(x) for"), tmp_path) == ()


def test_reasons_are_looked_for_until_there_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "MOST_FUNCTIONS", 5)
    changes = "".join(f"def g{n}(x):\n    known{n}[x] = g{n + 1}(x)\n" for n in range(9))
    found = reasons(changes + "out = [g0(x) for x in xs]", tmp_path)
    assert found == tuple(f"`g{n}` changes `known{n}`" for n in range(4))
