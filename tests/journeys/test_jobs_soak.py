"""The short form of benchmarks/jobs_soak.py: kills under load; nothing is lost, done twice or left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("flask")
pytest.importorskip("gunicorn")

from benchmarks.jobs_soak import WHO, soak

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is for Linux")]


@pytest.mark.parametrize("who", [(each,) for each in WHO], ids=WHO)
def test_nothing_is_lost_whoever_is_killed(who: tuple[str, ...], tmp_path: Path) -> None:
    assert soak(tmp_path, 3, seed=11, who=who) == []


def test_nothing_is_lost_if_all_are_killed_in_turn(tmp_path: Path) -> None:
    assert soak(tmp_path, 5, seed=12, preload=False) == []
