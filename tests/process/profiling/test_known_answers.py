"""The loop that is worth a map comes first, and the diff that is shown leaves the program's output as it was."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks.advice.programs import line_of, patched
from tests.process.profiling.known import KNOWN
from tests.process.profiling.profiled import plain, profile

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="threads have CPU clocks there"),
    pytest.mark.slow,
]


@pytest.mark.parametrize(("source", "pattern"), KNOWN.values(), ids=KNOWN)
def test_the_known_loop_is_first_and_can_be_changed(source: str, pattern: str, tmp_path: Path) -> None:
    """Ranked first of all, with the pattern that fits, and a diff that is valid and prints the same."""
    if "pandas" in source:
        pytest.importorskip("pandas")
    data = tmp_path / "data"
    data.mkdir()
    # For many cores, so that the gain is far from what pays also where a core is quick, or busy with others.
    done = profile(source, tmp_path, str(data), options=("--cores", "8"))
    wanted = plain(source, tmp_path, str(data))
    assert done.ended == wanted
    first = done.first
    assert (first["line"], first["pattern"], first["independent"]) == (line_of(source), pattern, True)
    assert first["pays"]
    assert 1.15 < first["predicted"]["speedup"] < first["predicted"]["most"] + 0.01
    changed = patched(source, first["diff"])
    assert "allcores" in changed
    assert plain(changed, tmp_path, str(data)) == wanted
