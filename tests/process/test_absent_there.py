"""What a function meets in a worker alone is told with its error: no terminal or input, no globals for a text."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process import scripts

PROGRAM = """
import codecs, csv, sqlite3
import allcores

K = 3

class Point: pass

csv.register_dialect("ours", delimiter="|")
codecs.register_error("ours", lambda error: ("?", error.end))
codecs.register(lambda name: codecs.lookup("utf-8") if name == "ours" else None)
sqlite3.register_adapter(Point, repr)

def evaluates(x): return eval("K + x")
def asks(x): return input()
def stops(x): breakpoint(); return x
def queries(x):
    import pandas
    return len(pandas.DataFrame({"a": [1]}).query("a > @K"))
def mistaken(x): return NOWHERE
def no_column(x):
    import pandas
    return len(pandas.DataFrame({"a": [1]}).query("b > 1"))
def dialect(x): return list(csv.reader(["a|b"], dialect="ours"))
def handler(x): return b"\\xff".decode("ascii", "ours")
def encoding(x): return "a".encode("ours")
def adapter(x): return sqlite3.connect(":memory:").execute("SELECT ?", (Point(),)).fetchone()
def no_value(x): raise LookupError("unknown")
def ends_early(x): raise EOFError("the file is cut")

if __name__ == "__main__":
    import sys
    with allcores.Pool(1) as pool:
        for outcome in pool.outcomes(globals()[sys.argv[1]], [1]):
            print(type(outcome.error).__name__, *outcome.error.__notes__[1:], sep="|")
"""


@pytest.mark.parametrize(("function", "error", "hint"), [
    ("evaluates", "NameError", "only in a text that it evaluates"),
    ("asks", "EOFError", "nothing to read on standard input"),
    ("stops", "BdbQuit", 'with Pool(backend="serial")'),
    ("queries", "UndefinedVariableError", "only in a text that it evaluates"),
    ("mistaken", "NameError", ""),
    ("no_column", "UndefinedVariableError", ""),
    ("ends_early", "EOFError", ""),
    ("dialect", "Error", "registered in the program alone"),
    ("handler", "LookupError", "registered in the program alone"),
    ("encoding", "LookupError", "registered in the program alone"),
    ("adapter", "ProgrammingError", "registered in the program alone"),
    ("no_value", "LookupError", ""),
])  # fmt: skip
def test_it_is_told(function: str, error: str, hint: str, tmp_path: Path) -> None:
    if "UndefinedVariableError" in error:
        pytest.importorskip("pandas")
    ended = scripts.run(PROGRAM, tmp_path, function)
    assert ended.code == 0, ended.err
    name, *notes = ended.lines[-1].split("|")
    assert name == error
    assert [hint in note for note in notes] == [True] * bool(hint), notes
