"""Who waits for a job waits on while the server of the store restarts, and not for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from allcores.cli import jobs
from allcores.jobs import Job, JobStore, Queue, Registry, patience
from allcores.jobs.errors import StoreAway
from allcores.jobs.model import Finished, State


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[tuple[Queue, str]]:
    """A queue, and a job that has come to its end."""
    with Queue(tmp_path / "jobs.sqlite", tasks=Registry(())) as queue, queue.store.become_supervisor():
        job = queue.store.submit("f", {}).job
        queue.store.finish(queue.store.claim(1, ["f"])[0], Finished(State.SUCCEEDED, result=7))
        yield queue, job.id


def away(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """The server is away for so many reads, once the job was found."""
    asked: list[int] = []
    real = JobStore.get

    def get(store: JobStore, id: str) -> Job | None:
        asked.append(1)
        if 1 < len(asked) < times + 2:
            raise StoreAway("the server cannot be reached")
        return real(store, id)

    monkeypatch.setattr(JobStore, "get", get)
    monkeypatch.setattr(patience, "AGAIN_S", 0.0)
    return asked


def test_it_is_waited_for(ended: tuple[Queue, str], monkeypatch: pytest.MonkeyPatch) -> None:
    queue, id = ended
    asked = away(monkeypatch, 3)
    assert queue.get(id) is not None and queue.result(id) == 7
    assert len(asked) == 5
    asked.clear()
    found = queue.get(id)
    assert jobs._await(queue.store, [id], None) == [found] and len(asked) == 5


def test_it_is_not_waited_for_for_ever(ended: tuple[Queue, str], monkeypatch: pytest.MonkeyPatch) -> None:
    queue, id = ended
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)
    asked = away(monkeypatch, 10**6)
    queue.get(id)
    with pytest.raises(StoreAway):
        queue.wait(id)
    with pytest.raises(StoreAway):
        queue.wait(id, timeout=1_000)
    asked.clear()
    queue.get(id)
    with pytest.raises(StoreAway):
        jobs._await(queue.store, [id], None)
