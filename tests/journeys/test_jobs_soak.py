"""The short form of benchmarks/jobs_soak.py: kills under load; nothing is lost, done twice or left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("flask")
pytest.importorskip("gunicorn")

from benchmarks.jobs_soak import WHO, soak

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is for Linux")]


def test_nothing_is_lost_whoever_is_killed(tmp_path: Path) -> None:
    """Each of them twice: the supervisor, a process below it, a web process, and gunicorn's own."""
    assert soak(tmp_path, 2 * len(WHO), seed=11) == []


def test_nothing_is_lost_if_each_web_process_imports_the_app(tmp_path: Path) -> None:
    """The same without --preload, each of them once."""
    assert soak(tmp_path, len(WHO), seed=12, preload=False) == []
