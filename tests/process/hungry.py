"""Tasks that take memory, for real but not much of it."""

from __future__ import annotations

from tests.process.waiting import ring, wait_at

MB = 1_000_000


def hold(bell: str, gate: str, number: int, megabytes: int) -> int:
    """Take memory, say so, and keep it until the gate is open."""
    data = bytearray(megabytes * MB)
    data[::4096] = b"x" * len(data[::4096])
    ring(bell, number)
    wait_at(gate)
    return number + len(data) // MB
