"""A supervisor's hold on its store while the server of that is away."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S

from allcores.jobs.errors import StoreAway
from allcores.jobs.holding import Holding
from allcores.jobs.leases import LeaseLost
from allcores.jobs.retaking import Retaken
from allcores.jobs.shared_store import Lease
from allcores.jobs.trouble import Trouble


class Store:
    """Stands for a store that several supervisors share."""

    name, sessions_lost = "jobs", 0

    def recover(self, **_: object) -> list[Any]:
        return []

    def retake(self, *_: object, **__: object) -> Retaken:
        return Retaken()


class Server:
    """Answers once it may, and by then is there or not."""

    def __init__(self) -> None:
        self.may, self.woken = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.asked: list[bool] = []

    def ask(self) -> None:
        self.asked.append(threading.current_thread() is threading.main_thread())
        self.may.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error


def holding_of(lease: Lease, trouble: Trouble, server: Server) -> Holding:
    store: Any = Store()
    return Holding(store, lease, trouble, 3, lambda: ([], []), lambda _: None, server.woken.set)


def test_one_of_several_supervisors_does_not_wait_for_a_server_that_is_away() -> None:
    """Another thread asks it, so that deadlines and jobs that ask for cores are in time; then claims are looked at."""
    server, trouble = Server(), Trouble("jobs")
    holding = holding_of(Lease(lambda: None, server.ask), trouble, server)
    assert holding.look(0.0) and server.asked == []
    trouble.has(StoreAway("away"), 1.0)
    assert not holding.look(1.1), "not before half a second"
    assert server.asked == []
    server.error = StoreAway("still away")
    assert not holding.look(2.0) and not holding.look(2.1)
    server.may.set()
    assert server.woken.wait(PATIENCE_S)
    assert not holding.look(2.2)
    server.error = None
    server.woken.clear()
    later = trouble.until
    assert not holding.look(later)
    assert server.woken.wait(PATIENCE_S)
    assert holding.look(later + 0.1)
    assert server.asked == [False, False]
    # After hours as well: what others think of its lease is in the store.
    trouble.has(StoreAway("away"), later + 1.0)
    server.woken.clear()
    assert not holding.look(later + 1e6)
    assert server.woken.wait(PATIENCE_S)
    assert holding.look(later + 1e6)


def test_a_lease_that_was_lost_is_lost_for_good() -> None:
    server, trouble = Server(), Trouble("jobs")
    lease = Lease(lambda: None, server.ask)
    holding = holding_of(lease, trouble, server)
    assert holding.look(0.0)
    lease.held = False
    with pytest.raises(LeaseLost):
        holding.look(1.0)
    assert server.asked == []
