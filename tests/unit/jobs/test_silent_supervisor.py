"""Submissions beside a supervisor that was stopped: its socket takes them, and answers nothing."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from allcores.jobs.commit_socket import NAME, CommitClient, Unanswered
from allcores.jobs.model import Submission
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
