"""The peak of a job's memory is its own, not that of what started it, with which the kernel has it begin."""

from __future__ import annotations

import os
import resource
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from allcores.jobs.job_processes import JobProcess

MB = 1_000_000


@pytest.mark.parametrize(
    ("inherited", "peak", "seen", "told"),
    [
        (1_300 * MB, 1_300 * MB, 40 * MB, 40 * MB),
        (1_300 * MB, 1_301 * MB, 40 * MB, 40 * MB),  # summed roughly
        (1_300 * MB, 1_200 * MB, 40 * MB, 40 * MB),
        (1_300 * MB, 2_600 * MB, 40 * MB, 2_600 * MB),
        (50 * MB, 400 * MB, 390 * MB, 400 * MB),
        (0, 100 * MB, 90 * MB, 100 * MB),
    ],
)
def test_what_was_inherited_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch, inherited: int, peak: int, seen: int, told: int
) -> None:
    usage = resource.struct_rusage([0.0, 0.0, peak // 1024, *[0] * 13])
    monkeypatch.setattr(os, "wait4", lambda pid, options: (pid, signal.SIGKILL.value, usage))
    nothing: Any = SimpleNamespace()
    process = JobProcess(nothing, 4711, nothing, 0.0, None, inherited=inherited)
    process.note_memory(seen)
    found = process.collect()
    assert found is not None
    assert found[1] == pytest.approx(told, abs=1024)
