"""Submissions beside a supervisor whose socket takes them and answers nothing, or meets what is none."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest

from allcores.jobs import commit_socket
from allcores.jobs.commit_socket import NAME, CommitClient, Unanswered
from allcores.jobs.model import Submission
from allcores.jobs.store import JobStore
from allcores.jobs.submissions import prepared


def test_a_supervisor_that_says_nothing_is_waited_for_once(tmp_path: Path) -> None:
    """Those who submit after that commit by themselves at once: each would wait for seconds."""
    client = CommitClient(str(tmp_path), timeout=0.1)
    with contextlib.chdir(tmp_path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(NAME)
        server.listen(10)
        for number in range(5):
            with pytest.raises(Unanswered):
                client.submit([prepared(Submission("f", {"n": number}))])
        server.setblocking(False)
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()
    client.close()


@pytest.mark.parametrize("request_", [b"[" * 100_000 + b"]" * 100_000, b"{}", b"[1, null]", b"\xff", b'[{"id": []}]'])
def test_what_is_no_request_ends_nothing_for_others(request_: bytes, tmp_path: Path, parts: list[int]) -> None:
    where = tmp_path / "jobs.sqlite"
    with JobStore.open(where) as supervisor, supervisor.become_supervisor(), JobStore.open(where) as client:
        with (
            contextlib.chdir(supervisor.folder),
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other,
        ):
            other.connect(NAME)
            other.sendall(len(request_).to_bytes(4, "big") + request_)
            other.settimeout(60)
            other.recv(1)  # an answer, or the end
        assert client.submit("f", {}).job.task == "f"
        assert client._client._silent_until == 0.0
    assert parts == [1]


def test_submissions_that_cannot_be_committed_for_others_end_nothing(
    tmp_path: Path, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = tmp_path / "jobs.sqlite"
    commit, fails = commit_socket.CommitServer._commit, [MemoryError()]

    def failing(*args: Any) -> None:
        if fails:
            raise fails.pop()
        commit(*args)

    monkeypatch.setattr(commit_socket.CommitServer, "_commit", failing)
    with JobStore.open(where) as supervisor, supervisor.become_supervisor(), JobStore.open(where) as client:
        made = [client.submit("f", {"n": number}).job.id for number in range(3)]
        assert client._client._silent_until == 0.0
        assert sorted(made) == sorted(each.id for each in client.page().jobs)
    assert parts == [1, 1, 1] and not fails
