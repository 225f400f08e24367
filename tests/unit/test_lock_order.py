"""tests/lock_order.py: a lock that is taken out of order is refused, whoever else wants it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lock_order import WrongOrder, held

from allcores.errors import PoolBusy
from allcores.pool.interrupt_lock import InterruptSafeLock
from allcores.system.deferral import Lock
from allcores.system.fork_lock import ForkLock


def test_the_order_that_is_written_down_is_allowed() -> None:
    arena, objects = Lock(), Lock()
    with InterruptSafeLock(), ForkLock(), ForkLock(), objects, arena, objects:
        assert len(held()) == 6
    assert held() == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ForkLock, InterruptSafeLock),
        (Lock, InterruptSafeLock),
        (Lock, ForkLock),
        (InterruptSafeLock, InterruptSafeLock),
    ],
)
def test_another_order_is_refused(first: type[Any], second: type[Any]) -> None:
    with first():
        with pytest.raises(WrongOrder, match=f"{second.__name__} is taken by a thread that holds a {first.__name__}"):
            second().__enter__()
        assert len(held()) == 1
    assert held() == []


def test_a_lock_that_is_not_reentrant_says_so_itself() -> None:
    lock = InterruptSafeLock()
    with lock, pytest.raises(PoolBusy):
        lock.__enter__()
    assert held() == []
    assert not lock.mine
