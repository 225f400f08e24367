"""Inputs are read as results are, on every backend."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract import tasks
from tests.contract.backends.support import CLUSTERS, START_METHOD_WARNINGS, each_start_method, endless

from allcores import Limits, Pool

pytestmark = START_METHOD_WARNINGS


class TestLaziness:
    def test_nothing_is_pulled_before_the_first_result_is_asked_for(self, pool: Pool) -> None:
        pulled: list[int] = []
        stream = pool.imap(tasks.double, endless(pulled))
        assert pulled == []
        assert next(stream) == 0
        stream.close()

    def test_an_endless_input_is_never_pulled_further_than_the_limit(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(limits=Limits(items_in_flight=60)) as pool:
            for verb in ("imap", "imap_unordered", "outcomes"):
                pulled: list[int] = []
                stream = getattr(pool, verb)(tasks.double, endless(pulled))
                for consumed, _ in enumerate(itertools.islice(stream, 300)):
                    assert len(pulled) - consumed <= 60
                stream.close()

    @pytest.mark.parametrize("verb", ["imap", "imap_unordered", "outcomes"])
    def test_a_stream_that_is_held_goes_on_where_it_was_left(self, pool: Pool, verb: str) -> None:
        """By islice, by a loop, by next: as of any iterator, nothing is lost between two of them."""
        stream = getattr(pool, verb)(tasks.double, range(1_000))
        found = list(itertools.islice(stream, 100))
        for each in stream:
            found.append(each)
            if len(found) == 150:
                break
        found.append(next(stream))
        while batch := list(itertools.islice(stream, 200)):
            found += batch
        values = [each.value for each in found] if verb == "outcomes" else found
        assert sorted(values) == [2 * number for number in range(1_000)]

    def test_a_stream_that_is_not_held_ends_as_its_loop_is_left(self, pool: Pool) -> None:
        pulled: list[int] = []
        for _ in itertools.islice(pool.imap(tasks.double, endless(pulled)), 3):
            pass
        before = len(pulled)
        assert pool.map(tasks.double, range(50)) == [2 * number for number in range(50)]
        assert len(pulled) == before

    def test_a_consumer_that_stops_stops_the_input(self, pool: Pool) -> None:
        pulled: list[int] = []
        stream = pool.imap(tasks.double, endless(pulled))
        next(stream)
        before = len(pulled)
        # Other work passes meanwhile: the pool itself is not stopped.
        assert pool.map(tasks.double, range(500)) == [number * 2 for number in range(500)]
        assert len(pulled) == before
        assert [next(stream) for _ in range(10)] == [number * 2 for number in range(1, 11)]
        stream.close()

    def test_the_input_is_advanced_on_the_consumers_thread_only(self, pool: Pool) -> None:
        threads: set[int] = set()

        def items() -> Iterator[int]:
            for number in range(2000):
                threads.add(threading.get_ident())
                yield number

        assert sum(pool.imap_unordered(tasks.double, items())) == 2000 * 1999
        assert threads == {threading.get_ident()}

    def test_break_ends_an_endless_stream(self, pool: Pool) -> None:
        for value in pool.imap(tasks.double, itertools.count()):
            if value == 1000:
                break
        for value in pool.imap_unordered(tasks.double, itertools.count()):
            if value > 1000:
                break
        assert pool.map(tasks.double, [21]) == [42]
        assert pool.statistics().items_in_flight == 0

    def test_a_closed_stream_is_over(self, pool: Pool) -> None:
        stream = pool.imap(tasks.double, itertools.count())
        assert next(stream) == 0
        stream.close()
        stream.close()
        with pytest.raises(StopIteration):
            next(stream)

    def test_a_stream_is_left_like_a_block(self, pool: Pool) -> None:
        with pool.imap(tasks.double, itertools.count()) as stream:
            assert next(stream) == 0
        assert next(stream, None) is None

    def test_a_stopped_stream_ends_with_what_was_pulled(self, pool: Pool) -> None:
        pulled: list[int] = []
        stream = pool.imap(tasks.double, endless(pulled), on_error="skip")
        values = [next(stream)]
        stream.stop()
        before = len(pulled)
        values += stream
        assert len(pulled) == before
        assert values == [number * 2 for number in range(len(values))]

    @pytest.mark.parametrize("ordered", [True, False])
    def test_a_straggler_at_the_front_does_not_let_the_input_run_away(
        self, make_pool: Callable[..., Pool], place: str, tmp_path: Path, ordered: bool
    ) -> None:
        if place == "serial":
            pytest.skip("one item after the other")
        if place in CLUSTERS:
            pytest.skip("what is on a node behind an item stays behind it: see docs/howto/clusters.md")
        # The first item lasts until item 40 is done; so the others must pass it by, but not too far.
        meeting = str(tmp_path / "meeting")
        os.mkfifo(meeting)
        pulled: list[int] = []
        with make_pool(limits=Limits(items_in_flight=60)) as pool:
            items = (("", meeting, number) for number in endless(pulled))
            verb = pool.imap if ordered else pool.imap_unordered
            stream = verb(tasks.wait_for_later_item, items)
            values: list[int] = []
            for value in stream:
                assert len(pulled) - len(values) <= 60
                values.append(value)
                # Item 40 may have to be stolen from behind the first one: many others may pass meanwhile.
                if len(values) >= 300 and 0 in values:
                    break
            stream.close()
        if ordered:
            assert values == list(range(300))
        else:
            assert len(set(values)) == len(values)
            assert values.index(0) > 0

    @pytest.mark.parametrize("verb", ["imap", "imap_unordered", "outcomes"])
    @pytest.mark.parametrize("count", [0, 1, 1000])
    def test_an_exception_of_the_input_comes_after_the_results_before_it(
        self, pool: Pool, verb: str, count: int
    ) -> None:
        def items() -> Iterator[int]:
            yield from range(count)
            raise OSError("the disk is gone")

        values: list[Any] = []
        with pytest.raises(OSError, match="the disk is gone"):
            values.extend(getattr(pool, verb)(tasks.double, items()))
        if verb == "outcomes":
            values = [outcome.value for outcome in values]
        assert sorted(values) == [number * 2 for number in range(count)]

    def test_map_raises_what_the_input_raised(self, pool: Pool) -> None:
        def items() -> Iterator[int]:
            yield 1
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            pool.map(tasks.double, items())

    def test_an_input_may_use_the_pool_itself(self, pool: Pool) -> None:
        inner = pool.imap(tasks.double, range(200))
        assert list(pool.imap(tasks.double, inner)) == [number * 4 for number in range(200)]

    @each_start_method
    def test_two_items_run_at_the_same_time(self, pool: Pool, place: str, tmp_path: Path) -> None:
        if place == "serial":
            pytest.skip("one item after the other")
        path = str(tmp_path / "meeting")
        os.mkfifo(path)
        assert pool.map(tasks.swap_meeting, [(path, "rb"), (path, "wb")]) == [True, True]
