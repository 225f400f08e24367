"""What a map does sooner, as it takes items ahead; and what is changed by another name than it is read by."""

# ruff: noqa: E501  # a program a line

from __future__ import annotations

from pathlib import Path

import pytest

from allcores.advisor.profiling.independence import judge
from allcores.advisor.profiling.sites import SourceFile


def reasons(source: str, folder: Path) -> tuple[str, ...]:
    """What is said against the last loop, or call, of a program."""
    path = folder / "program.py"
    path.write_text(source)
    file = SourceFile(str(path))
    return judge(max(file.sites(), key=lambda each: (each.line, -each.depth)), file).reasons


DEPENDENT = {
    "a generator that prints": (
        "def read():\n    for x in xs:\n        print(x)\n        yield x\nfor x in read():\n    print(f(x))",
        ": it prints",
    ),
    "a generator that says where it is": (
        "def read():\n    global at\n    for x in xs:\n        at = x\n        yield x\nfor x in read():\n    y = f(x)\n    out.append((at, y))",
        "taking its items does more: `read` sets `at`, which is outside",
    ),
    "an iterator that says where it is": (
        "class Lines:\n    def __iter__(self):\n        for x in xs:\n            self.at += 1\n            yield x\nlines = Lines()\n"
        "for x in lines:\n    y = f(x, lines.at)\n    out.append(y)",
        "taking its items does more: `__iter__` changes `self`",
    ),
    "a function that is mapped as they are taken": (
        "def load(x):\n    print(x)\n    return x\nfor x in map(load, xs):\n    print(f(x))",
        ": it prints",
    ),
    "a condition that keeps what was seen": (
        "[f(x) + len(seen) for x in xs if x not in seen and not seen.add(x)]",
        "`seen` is read and changed",
    ),
    "an iterator": (
        "import itertools\nit = iter(ys)\nfor x in xs:\n    part = list(itertools.islice(it, 3))\n    out.append(f(part))",
        "it takes items from `it`, which has each once",
    ),
    "a generator": (
        "def numbers():\n    yield 1\nn = numbers()\nfor x in xs:\n    y = sum(n)\n    out.append(f(y))",
        "it takes items from `n`, which has each once",
    ),
    "a file": (
        "with open('a') as file:\n    for x in xs:\n        y = f(x, file)\n        out.append(y)",
        "it takes items from `file`",
    ),
    "a generator of random numbers": (
        "rng = np.random.default_rng(1)\nfor x in xs:\n    y = rng.standard_t(x)\n    out.append(y)",
        "it draws from one stream of random numbers",
    ),
    "a table that numbers its keys": (
        "known = defaultdict(lambda: len(known))\nout = [f(known[x]) for x in xs]",
        "`known` gets a value for each new key (defaultdict)",
    ),
    "a table that counts its keys": (
        "known = defaultdict(count().__next__)\nfor x in xs:\n    y = known[x]\n    out.append(f(y))",
        "`known` gets a value for each new key (defaultdict)",
    ),
    "another name": ("a = [1] * 9\nb = a\nfor i in xs:\n    y = f(b[i])\n    a[i + 1] = y", "`b` is read and changed"),
    "two names at once": (
        "seen = cache = {}\nfor x in xs:\n    y = f(x, len(cache))\n    seen[x] = y",
        "`cache` is read and changed",
    ),
    "the name of an attribute": (
        "class Table:\n    def total(self, x):\n        return sum(self.rows) + x\nt = Table()\nrows = t.rows\n"
        "for x in xs:\n    y = t.total(x)\n    rows.append(y)",
        "`t.rows` is changed, and read by `total`",
    ),
    "an attribute that a method reads": (
        "class Table:\n    def total(self, x):\n        return sum(self.rows) + x\nfor x in xs:\n    y = t.total(x)\n    t.rows.append(y)",
        "`t.rows` is changed, and read by `total`",
    ),
    "what an object was made with": (
        "class Model:\n    def predict(self, x):\n        return sum(self.weights) + x\nmodel = Model(weights)\n"
        "for x in xs:\n    y = model.predict(x)\n    weights.append(y)",
        "`model` is read and changed",
    ),
    "a value that a branch may keep": (
        "for x in xs:\n    y = f(x)\n    out.append(x)\nif c:\n    y = 1\nprint(y)",
        "`y` is used after the loop",
    ),
    "a value that is added to": ("for x in xs:\n    y = f(x)\n    out.append(x)\ny += 1", "`y` is used after the loop"),
    "a value that is told at the end": (
        "def g():\n    try:\n        for x in xs:\n            y = f(x)\n            out.append(x)\n    finally:\n        print(y)",
        "`y` is used after the loop",
    ),
    "what is awaited": ("async def g():\n    return [await f(x) for x in xs]", "it is asynchronous"),
}


@pytest.mark.parametrize(("source", "reason"), DEPENDENT.values(), ids=DEPENDENT)
def test_it_is_named(source: str, reason: str, tmp_path: Path) -> None:
    found = reasons(source, tmp_path)
    assert any(reason in each for each in found), found


INDEPENDENT = {
    "a generator that only gives": "def read():\n    for x in xs:\n        yield x + 1\nfor x in read():\n    print(f(x))",
    "an iterator that counts for itself": "class Count:\n    def __iter__(self):\n        return self\n    def __next__(self):\n"
    "        if self.n > 3:\n            raise StopIteration\n        self.n += 1\n        return self.n\ncount = Count()\n"
    "for x in count:\n    print(f(x))",
    "a list beside an iterator of that name": "def other():\n    rows = iter(xs)\n    return next(rows)\nrows = [1, 2]\n"
    "for x in xs:\n    y = f(x, rows)\n    out.append(y)",
    "a table of lists": "known = defaultdict(list)\nout = [f(known[x]) for x in xs]",
    "seen once": "[f(x) for x in xs if x not in seen and not seen.add(x)]",
    "a number that had another name": "start = total = 0\nfor x in xs:\n    y = f(x, start)\n    total += y",
    "a copy": "b = list(a)\nfor i in xs:\n    y = f(b[i])\n    a[i] = y",
    "another name of another function": "def g():\n    b = a\n    return b\nfor i in xs:\n    y = f(b[i])\n    a[i] = y",
    "a value that is set anew": "for x in xs:\n    y = f(x)\n    out.append(x)\nif c:\n    y = 1\nelse:\n    y = 2\nprint(y)",
}


@pytest.mark.parametrize("source", INDEPENDENT.values(), ids=INDEPENDENT)
def test_nothing_is_found_against_it(source: str, tmp_path: Path) -> None:
    assert reasons(source, tmp_path) == ()
