"""Log records on a node: kept for the next reply, counted where there are too many."""

from __future__ import annotations

import pytest

from allcores.adapters.cluster import node_logs
from allcores.adapters.cluster.node_logs import DROPPED, NodeLogs


def test_records_go_once_and_those_that_find_no_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_logs, "MOST_WAITING", 2)
    logs = NodeLogs(b"levels")
    assert logs.greeting() == b"levels"
    assert not logs.is_due(0)
    for body in (b"one", b"two", b"three"):
        logs.take(1, 0, body)
    logs.take(1, DROPPED, b"5")
    assert logs.is_due(0) and not logs.is_due(3600)
    assert logs.taken() == [(0, b"one"), (0, b"two"), (DROPPED, b"6")]
    assert logs.taken() == []
    assert not logs.is_due(0)
