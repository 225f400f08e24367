"""The socket by which other processes hand in submissions."""

from __future__ import annotations

import errno
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from allcores.jobs import commit_socket
from allcores.jobs.store import JobStore
from allcores.jobs.submissions import Prepared

PATIENCE_S = 120.0


def test_a_supervisor_without_a_descriptor_to_spare_waits_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits to be let in does not wake it again and again, and is let in once there is one."""
    refused: list[int] = []
    full, was_full = threading.Event(), threading.Event()

    class Listening(socket.socket):
        def accept(self) -> Any:
            if full.is_set():
                refused.append(errno.EMFILE)
                was_full.set()
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(commit_socket, "socket", SimpleNamespace(**{**vars(socket), "socket": Listening}))
    monkeypatch.setattr(commit_socket, "PAUSE_S", PATIENCE_S)
    with JobStore.open(tmp_path / "jobs.sqlite") as store, store.become_supervisor():
        inside = commit_socket.CommitClient(str(store.folder), PATIENCE_S)
        empty: list[Prepared] = []
        assert inside.submit(empty) == []
        full.set()
        with socket.socket(socket.AF_UNIX) as outside:
            outside.connect(str(store.folder / commit_socket.NAME))
            assert was_full.wait(PATIENCE_S)
            for _ in range(3):
                assert inside.submit(empty) == []
            assert len(refused) == 1
        inside.close()
    monkeypatch.setattr(commit_socket, "PAUSE_S", 0.001)
    full.clear()
    was_full.clear()
    with JobStore.open(tmp_path / "jobs.sqlite") as store, store.become_supervisor():
        full.set()
        outside_client = commit_socket.CommitClient(str(store.folder), PATIENCE_S)
        answered: list[Any] = []
        thread = threading.Thread(target=lambda: answered.append(outside_client.submit(empty)))
        thread.start()
        assert was_full.wait(PATIENCE_S)
        full.clear()
        thread.join(PATIENCE_S)
        assert answered == [[]]
        outside_client.close()
