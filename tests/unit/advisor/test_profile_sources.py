"""Sources that are rarely met: page breaks in them, what is nested very deeply, values whose types make up their names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from allcores.advisor.profiling.independence import judge
from allcores.advisor.profiling.report import lines_of
from allcores.advisor.profiling.rewrite import rewrite
from allcores.advisor.profiling.sites import SourceFile

#: `str.splitlines` ends lines at these, and Python does not
PAGED = (
    "NAMES = 'a\u2028b\x85c'\n\x0c\n# the next page\nxs = [1, 2, 3]\n\n\ndef f(x):\n    return x * x\n\n\x0c\n"
    "out = []\nfor x in xs:\n    y = f(x)\n    z = y + len(NAMES)  # \x1c\n    out.append(z)\nprint(out)\n"
)


def test_a_page_break_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PAGED, encoding="utf-8")
    source = SourceFile(str(path))
    site = next(iter(source.sites()))
    report: Any = SimpleNamespace(sources={site.file: source})
    candidate: Any = SimpleNamespace(site=site)
    assert lines_of(report, candidate, 10) == PAGED.split("\n")[11:15]
    change = rewrite(site, judge(site, source), source, pattern="processes", workers=2)
    assert change is not None
    assert "    z = y + len(NAMES)  # \x1c\n    return z\n" in change.text
    assert "No newline" not in change.diff
    if shutil.which("patch") is not None:
        subprocess.run(
            ["patch", str(path)], input=change.diff.encode(), check=True, stdout=subprocess.DEVNULL, timeout=60
        )
        assert path.read_text(encoding="utf-8") == change.text
