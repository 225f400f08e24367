"""What a program's source says against doing the iterations of a loop in any order."""

# ruff: noqa: E501  # a program a line

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest

from allcores.advisor.profiling.independence import Verdict, judge
from allcores.advisor.profiling.names import exposed
from allcores.advisor.profiling.sites import SourceFile


def verdict(source: str, folder: Path, line: int = 1) -> Verdict:
    """What is said of the site that begins on a line (the first one, as a rule)."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(source).lstrip("\n"))
    file = SourceFile(str(path))
    site = min(file.sites(), key=lambda each: (each.line < line, each.line, each.depth))
    return judge(site, file)


INDEPENDENT = {
    "append": "for x in xs:\n    out.append(f(x))",
    "a name of its own": "for x in xs:\n    y = x + 1\n    out.append(g(y))",
    "stored in both branches": "for x in xs:\n    if x:\n        y = 1\n    else:\n        y = 2\n    out.append(y)",
    "read in the branch that stores it": "for x in xs:\n    if x:\n        y = 1\n        z = y\n    out.append(x)",
    "an accumulator of its own": "for x in xs:\n    best = None\n    for y in x:\n        if best is None or y < best:\n"
    "            best = y\n    out[x] = best",
    "added up at the end": "for x in xs:\n    y = f(x)\n    total += y\n    count += 1",
    "skipped": "for x in xs:\n    if not x:\n        continue\n    out.append(f(x))",
    "printed at the end": "for x in xs:\n    print(f(x))",
    "another attribute": "for x in xs:\n    self.out.append(self.f(x))",
    "comprehension": "[f(x) for x in xs]",
    "dict": "{x: f(x) for x in xs}",
    "map": "list(map(f, xs))",
    "a pure function of the file": "def f(x):\n    y = [x]\n    y.append(1)\n    return y\n\nout = [f(x) for x in xs]",
    "a copy of the item": "def f(x):\n    x = dict(x)\n    x['a'] = 1\n    return x\n\nout = [f(x) for x in xs]",
    "a list of each key": "for x in xs:\n    k = x % 2\n    groups[k].append(f(x))",
    "what is stored at the item's place": "for i, x in enumerate(xs):\n    xs[i] = f(x)",
    "over a copy": "for x in list(xs):\n    y = f(x)\n    xs.remove(y)",
    "a generator of its own": "for x in xs:\n    rng = default_rng(x)\n    out.append(rng.normal())",
    "an object of its own": "class Sim:\n    def step(self):\n        self.n = 1\n\nfor x in xs:\n    sim = Sim()\n    sim.step()\n    out.append(sim)",
    "a parameter's own name": "def f(x):\n    return x\n\nfor x in xs:\n    out.append(f(x))\nprint([x for x in out])",
    "what writes files": "for image in images:\n    image.save(name)",
    "what an item is called for": "for model in models:\n    out.append(model(x))\n    out.append(model.score(x))",
    "what a case holds": "for x in xs:\n    match x:\n        case [a, *b]:\n            y = f(a, b)\n        case _:\n            y = 0\n    out.append(y)",
    "a pure function by another name": "def f(x):\n    return x\n\ng = f\nout = [g(x) for x in xs]",
    "a method of its own list by another name": "for x in xs:\n    ys = []\n    add = ys.append\n    add(x)\n    out.append(ys)",
    "kept by another name": "[f(x) for x in xs if (y := g(x)) and y > 3]",
}


@pytest.mark.parametrize("source", INDEPENDENT.values(), ids=INDEPENDENT)
def test_nothing_is_found_against_it(source: str, tmp_path: Path) -> None:
    assert verdict(source, tmp_path).reasons == ()


DEPENDENT = {
    "for x in xs:\n    y = y + x\n    out.append(y)": "`y` of one iteration is used in the next",
    "for x in xs:\n    if x:\n        y = x\n    out.append(y)": "`y` of one iteration is used in the next",
    "for x in xs:\n    y = f(x)\nprint(y)": "`y` is used after the loop",
    "for x in xs:\n    if x in seen:\n        continue\n    seen.add(x)": "`seen` is read and changed",
    "for i in xs:\n    a[i] = a[i - 1] + 1": "`a` is read and changed",
    "for x in xs:\n    if f(x):\n        break": "it ends early (break)",
    "def g():\n    for x in xs:\n        yield f(x)": "it is part of a generator (yield)",
    "def g():\n    for x in xs:\n        if x:\n            return f(x)": "it ends early (return)",
    "for x in xs:\n    out.append(1)\n    y = f(x)": "it changes `out` (append), which is outside",
    "for x in xs:\n    x.a = 1\n    y = f(x)\n    z = y": "it changes its item `x` in place",
    "for x in xs:\n    state[0] = x\n    y = f(state)": "it changes `state`, which is outside",
    "for x in xs:\n    print(x)\n    y = f(x)": "it prints",
    "[random.random() * x for x in xs]": "it draws from one stream of random numbers, whose order would change",
    "[(y := x) for x in xs]": "it sets `y`",
    "def f(x):\n    global n\n    n += x\n    return n\n\nout = [f(x) for x in xs]": "`f` sets `n`, which is outside",
    "def f(x):\n    x['a'] = 1\n    return x\n\nout = [f(x) for x in xs]": "`f` changes `x`",
    "def f(x):\n    memo[x] = 1\n    return x\n\nout = list(map(f, xs))": "`f` changes `memo`",
    "def g(x):\n    print(x)\n\ndef f(x):\n    g(x)\n\nout = [f(x) for x in xs]": "`g`: it prints",
    # functions and methods by other names
    "def f(x):\n    memo[x] = 1\n    return x\n\ng = f\nout = [g(x) for x in xs]": "`f` changes `memo`",
    "def f(x):\n    memo[x] = 1\n\ndef main():\n    g = f\n    h = g\n    for x in xs:\n        y = h(x)": "`f` changes `memo`",
    "def f(x):\n    memo[x] = 1\n    return x\n\ng = f\nout = list(map(g, xs))": "`f` changes `memo`",
    "class A:\n    def f(self, x):\n        self.n += x\n        return x\n\ng = a.f\nout = [g(x) for x in xs]": "`f` changes `self`",
    "def f(x):\n    memo[x] = 1\n    return x\n\na.step = f\nout = [a.step(x) for x in xs]": "`f` changes `memo`",
    "def f(a, x):\n    a[x] = 1\n    return x\n\ng = functools.partial(f, memo)\nout = [g(x) for x in xs]": "`f` changes `a`",
    "add = out.append\nfor x in xs:\n    y = f(x)\n    add(y)\n    z = y": "it changes `out` (append), which is outside",
    "def g(x):\n    return x in seen\n\nh = g\nfor x in xs:\n    y = h(x)\n    seen.add(y)": "`seen` is changed, and read by `h`",
    # what an iteration has of its own, or of something outside
    "for row in rows:\n    row['b'] = f(row['a'])": "it changes its item `row` in place",
    "for row in rows:\n    row += [f(row)]": "it changes its item `row` in place",
    "for row in rows:\n    out.append(f(row.pop()))": "it changes its item `row` (pop)",
    "for x in xs:\n    b = groups[x % 2]\n    b.append(f(x))": "it changes `b` (append), which is outside",
    "for x in xs:\n    c = table.get(x)\n    c.total = f(x)": "it changes `c`, which is outside",
    "for x in xs:\n    for cell in x.cells:\n        cell.value = f(x)\n    y = 1": "it changes `cell`, which is outside",
    "for each in particles:\n    each.move(0.1)": "it calls `move` of its item `each`, and what that changes is not known",
    "for step in steps:\n    step()": "it calls its item `step`, and what that changes is not known",
    # what is read by a part of it, or by a function
    "for x in xs:\n    c[x] = c.get(x, 0) + f(x)": "`c` is read and changed",
    "for x in xs:\n    y = model.predict(x)\n    model.update(y)": "`model` is read and changed",
    "def g(x):\n    return x in seen\n\nfor x in xs:\n    y = g(x)\n    seen.add(y)": "`seen` is changed, and read by `g`",
    "for x in todo:\n    todo.extend(f(x))": "`todo` is read and changed",
    "for i, x in enumerate(xs):\n    xs[i + 1] = f(x)": "`xs` is read and changed",
    # what others see
    "for i, x in enumerate(xs):\n    out.append(f(x))\nprint(i + 1)": "`i` is used after the loop",
    "def g():\n    return f(x)\n\nfor x in xs:\n    out.append(g())": "`x` is used by other functions",
    "def main():\n    global last\n    for x in xs:\n        last = x\n        y = f(x)\n        out.append(y)": "`last` is used by other functions",
    "[y for x in xs if (y := f(x))]": "it sets `y`",
    # random numbers
    "rng = default_rng(1)\nout = [rng.normal() + x for x in xs]": "it draws from one stream of random numbers, whose order would change",
    "from random import randint as roll\nout = [roll(1, 6) + x for x in xs]": "it draws from one stream of random numbers, whose order would change",
    "def f(rng, x):\n    return rng.integers(x)\n\nout = [f(rng, x) for x in xs]": "`f`: it draws from one stream of random numbers, whose order would change",
    # functions and methods
    "class Sim:\n    def step(self, x):\n        self.n += x\n\nout = [sim.step(x) for x in xs]": "`step` changes `self`",
    "class Sim:\n    def step(self):\n        self.n += 1\n\nout = [sim.step() for sim in sims]": "`step` changes `self`",
    "class A:\n    def step(self, x):\n        return x\n\nclass B:\n    def step(self, x):\n        self.n += x\n\n    def run(self):\n        return [self.step(x) for x in xs]": "`step` changes `self`",
    "class A:\n    def fill(self, out, x):\n        out.append(x)\n\n    def run(self):\n        for x in xs:\n            y = [x]\n            z = self.fill(found, y)\n            out.append(z)": "it changes `out` (append), which is outside",
    "def f(x, out=None):\n    out.append(x)\n\nys = [f(x, out=found) for x in xs]": "it changes `out` (append), which is outside",
    "def f(x):\n    row = TABLE[x]\n    row['seen'] = 1\n\nys = [f(x) for x in xs]": "`f` changes `row`",
    "def f(row):\n    row['a'] = 1\n    return row\n\nout = list(map(f, rows))": "`f` changes `row`",
}


@pytest.mark.parametrize(("source", "reason"), DEPENDENT.items())
def test_what_ties_iterations_together_is_named(source: str, reason: str, tmp_path: Path) -> None:
    reasons = verdict(source, tmp_path).reasons
    assert any(reason in each or each.endswith(reason) for each in reasons), reasons


def test_functions_that_call_each_other_are_read_once(tmp_path: Path) -> None:
    """Ways from one to another are without number in a parser, say: they are not gone one by one."""
    names = [f"parse_{number}" for number in range(30)]
    calls = ", ".join(f"{name}(text)" for name in names)
    source = "".join(f"def {name}(text):\n    return [{calls}]\n\n" for name in names)
    assert verdict(f"{source}out = [parse_0(text) for text in texts]\n", tmp_path, 100).independent


def test_the_end_of_an_iteration_stays_in_order(tmp_path: Path) -> None:
    """What only changes something outside, at the end of a body, is no reason: it is done in the loop, in order."""
    assert verdict("for x in xs:\n    y = f(x)\n    out.append(y)\n    total += y\n    print(y)", tmp_path).tail == 3


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a = 1\nb = a", set()),
        ("b = a\na = 1", {"a"}),
        ("a += 1", {"a"}),
        ("if c:\n    a = 1\nb = a", {"c", "a"}),
        ("if c:\n    a = 1\nelse:\n    raise ValueError\nb = a", {"c", "ValueError"}),
        ("for i in c:\n    a = 1\nb = a", {"c", "a"}),
        ("try:\n    a = 1\nexcept E:\n    a = 2\nb = a", set()),
        ("try:\n    a = 1\nexcept E:\n    pass\nb = a", {"a"}),
        ("with c as a:\n    b = a", {"c"}),
        ("a = [x for x in c]", {"c"}),
        ("a = lambda x: x + d", {"d"}),
    ],
)
def test_names_that_are_read_before_they_are_stored(source: str, names: set[str]) -> None:
    assert exposed(ast.parse(source).body, set()) == names
