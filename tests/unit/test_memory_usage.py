"""What `shared_memory/parent_side.py` says of memory that is just being closed: statistics may ask from any thread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from allcores.shared_memory import parent_side
from allcores.shared_memory.parent_side import MemoryUsage


def test_what_was_closed_a_moment_ago_takes_nothing(tmp_path: Path) -> None:
    """Also where another file has the number of its descriptor by now."""
    memory = parent_side.alone()
    if memory is None:
        pytest.skip("no shared memory here")
    number = memory.arena.descriptor
    memory.close_alone()
    assert memory.usage() == MemoryUsage(0, 0, 0)
    large = tmp_path / "large"
    large.write_bytes(bytes(1_000_000))
    other = os.open(large, os.O_RDONLY)
    if other != number:
        os.dup2(other, number)
        os.close(other)
    try:
        assert memory.usage() == MemoryUsage(0, 0, 0)
    finally:
        os.close(number)
