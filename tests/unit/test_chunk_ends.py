"""What is put off until the end of a chunk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from allcores.transport import chunk_ends


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    assert not chunk_ends.waiting
    yield
    chunk_ends.waiting.clear()


def test_each_is_called_once_in_order() -> None:
    """What is put off once more waits for the next end."""
    called: list[int] = []
    chunk_ends.waiting += [lambda: called.append(1), lambda: chunk_ends.waiting.append(lambda: called.append(3))]
    chunk_ends.waiting.append(lambda: called.append(2))
    chunk_ends.run()
    assert called == [1, 2]
    chunk_ends.run()
    assert called == [1, 2, 3]


def test_another_end_may_come_in_the_middle_of_it() -> None:
    """The handler of a signal may run chunks itself, whose end calls what waits."""
    called: list[int] = []
    chunk_ends.waiting += [chunk_ends.run, lambda: called.append(1), lambda: called.append(2)]
    chunk_ends.run()
    assert called == [1, 2]
    assert not chunk_ends.waiting
