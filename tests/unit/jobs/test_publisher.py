"""The thread that sends messages goes on whatever it meets: while it lasts, no other process sends them."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from allcores.adapters.job_messages import Publisher
from allcores.jobs.shared_store import SharedStore


class Kept:
    """Messages that were sent. The first is refused, if there is an error."""

    def __init__(self, error: Exception | None) -> None:
        self.sent: SimpleQueue[str] = SimpleQueue()
        self._error = error

    def waiting(self) -> int:
        return 0

    def send(self, id: str) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
        self.sent.put(id)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("where", ["sending", "waiting"])
@pytest.mark.parametrize("error", [OSError("it is away"), RuntimeError("can't start new thread"), MemoryError()])
def test_an_error_delays_messages_and_ends_none(
    where: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[Exception] = [error] if where == "waiting" else []
    wait = SharedStore.wait_for_change

    def failing(store: SharedStore, *args: Any, **options: Any) -> int:
        if waits:
            raise waits.pop()
        return wait(store, *args, **options)

    monkeypatch.setattr(SharedStore, "wait_for_change", failing)
    messages = Kept(error if where == "sending" else None)
    with SharedStore.open(tmp_path / "jobs.sqlite") as store:
        publisher = Publisher(store, ["f"], messages, window=10, again_s=60.0)
        publisher.start()
        try:
            for number in range(2):
                id = store.submit("f", {"n": number}).job.id
                assert messages.sent.get(timeout=60) == id
        finally:
            publisher.stop(60)
    assert not waits
