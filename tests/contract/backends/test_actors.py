"""Actors, on every backend: an object of its own, methods that are futures, in order."""

from __future__ import annotations

import functools
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.contract.backends.support import PROCESSES, START_METHOD_WARNINGS, each_start_method, needs_linux
from tests.process.indexes import Fussy, Index, Meeting, Model, Refused, Visit, load_weights, nothing
from tests.process.waiting import lines

import allcores
from allcores import NotPicklable, NotSupported, Pool, PoolClosed, SetupError, UsageError, events

pytestmark = START_METHOD_WARNINGS


class TestActors:
    """Where a start method is named, what the object or its worker is given and finds may depend on it."""

    @each_start_method
    def test_an_object_keeps_its_state_from_call_to_call(self, make_pool: Callable[..., Pool], place: str) -> None:
        with make_pool(2) as pool, pool.actor(Index, "a.txt") as index:
            futures = [index.add(number) for number in range(1, 101)]
            assert [future.result() for future in futures] == [n * (n + 1) // 2 for n in range(1, 101)]
            assert index.search("word", limit=2).result() == ["word", "word"]
            assert index.none().result() is None
            own = index.pid().result()
            assert (own != os.getpid()) == (place in PROCESSES)
            assert own not in pool.map(lambda _: os.getpid(), range(4)) or place not in PROCESSES

    def test_its_pool_counts_and_shows_it(self, make_pool: Callable[..., Pool], place: str) -> None:
        """Calls in the statistics, also when it is gone; its workers beside the others; its ends for observers."""
        told: list[Any] = []
        with make_pool(observers=[told.append]) as pool:
            assert pool.map(abs, range(4)) == [0, 1, 2, 3]
            before = pool.statistics()
            assert before.actors == 0
            with pool.actor(Index) as index:
                assert [index.add().result() for _ in range(3)] == [1, 2, 3]
                index.refuse("x").exception()
                during = pool.statistics()
                assert during.actors == 1 and during.workers - during.actors <= pool.workers
                (shown,) = [status for status in pool.worker_status() if status.actor is not None]
                assert (shown.actor, shown.done) == ("Index", 4)
                assert len({status.worker for status in pool.worker_status()}) == len(pool.worker_status())
            after = pool.statistics()
            assert (after.actors, after.ok - before.ok, after.failed - before.failed) == (0, 3, 1)
            assert sum(count for _, count in pool.item_times()) == 8
        (began,) = [event for event in told if isinstance(event, events.WorkerStarted) and event.actor == "Index"]
        work = [event for event in told if isinstance(event, events.WorkReported) and event.worker == began.worker]
        assert sum(event.attempts for event in work) == 4
        assert isinstance(told[-1], events.PoolEnded)

    @each_start_method
    def test_a_method_that_raises_leaves_the_object_as_it_is(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(1) as pool, pool.actor(Index) as index:
            assert index.add(3).result() == 3
            error = index.refuse("word").exception()
            assert type(error) is Refused and error.code == 7
            assert index.add(3).result() == 7

    def test_the_methods_by_other_ways(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(1) as pool, pool.actor(functools.partial(Index, path="a.txt")) as index:
            assert index.call(Index.search, "word").result() == ["word"]
            assert index.call("close").result() == "its own close"
            assert index.call(lambda obj, more: obj.path + more, "!").result() == "a.txt!"
            assert index.sync.search("word") == ["word"]
            assert index.sync.close() == "its own close"
            with pytest.raises(Refused):
                index.sync.refuse("word")

    def test_what_is_no_public_method_is_refused_with_the_way_out(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(1) as pool, pool.actor(Index) as index:
            for name in ("path", "kinds", "size", "missing"):
                with pytest.raises(AttributeError, match=rf"Index.*{name}.*actor\.call\(lambda"):
                    getattr(index, name)
            with pytest.raises(AttributeError, match=r"Index\._secret is not public"):
                index._secret  # noqa: B018
            with pytest.raises(AttributeError, match="not public"):
                index.call("_secret")
            assert not hasattr(index, "__len__")
            with pytest.raises(UsageError, match="neither a method"):
                index.call(cast("Any", 5))
            built = pool.actor(lambda: Index("b.txt")) if pool.workers > 1 else index
            assert built.add().result() == 1

    @each_start_method
    def test_a_constructor_that_raises_is_a_setup_error_that_names_it(
        self, make_pool: Callable[..., Pool], tmp_path: Path
    ) -> None:
        with make_pool(2) as pool:
            with pool.actor(Fussy, str(tmp_path / "book"), ("raise",)) as fussy:
                with pytest.raises(SetupError, match=r"Fussy\(.*\) raised ValueError: the file is damaged"):
                    fussy.number().result()
                with pytest.raises(SetupError, match="the file is damaged"):
                    fussy.number().result()
            with pool.actor(cast("Any", nothing)) as none, pytest.raises(SetupError, match=r"nothing\(\) .*None"):
                none.anything().result()
        assert lines(tmp_path / "book") == ["built"]

    @each_start_method
    def test_a_context_manager_is_entered_and_left(self, make_pool: Callable[..., Pool], tmp_path: Path) -> None:
        book = str(tmp_path / "book")
        with make_pool(1) as pool:
            with pool.actor(Visit, book) as visit:
                assert visit.call(lambda obj: cast("Any", obj).path).result() == "inside"
                assert lines(book) == ["entered"]
            assert lines(book) == ["entered", "left"]

    @each_start_method
    @needs_linux
    def test_preload_and_what_is_shared_work_inside(self, make_pool: Callable[..., Pool], tmp_path: Path) -> None:
        book = str(tmp_path / "book")
        build: Callable[..., Model] = Model
        with make_pool(1, preload=load_weights, preload_args=(book,)) as pool, pool.actor(build, 10) as model:
            assert model.apply().result() == 60
        with make_pool(1) as pool:
            shared = pool.share(b"x" * 100_000)
            with pool.actor(Index) as index:
                assert index.call(lambda obj, data: len(bytes(data)), shared).result() == 100_000
            with pool.actor(Index, cast("Any", shared)) as index:
                assert index.call(lambda obj: len(bytes(cast("Any", obj.path)))).result() == 100_000

    @each_start_method
    @needs_linux
    def test_memory_that_the_pool_shares_is_the_same_inside(self, make_pool: Callable[..., Pool], place: str) -> None:
        with make_pool(1) as pool:
            counter, flag = pool.counter(), pool.flag()
            shared = pool.share(b"x" * 1_000_000)
            before = pool.statistics().shared_bytes
            with pool.actor(Index, cast("Any", counter)) as index:
                assert index.call(lambda obj: cast("Any", obj.path).add(5)).result() == 5
                assert index.call(lambda obj, flag: flag.set(), flag).result()
                assert flag.is_set() and pool.submit(counter.add).result() == 6
                assert index.call(lambda obj: cast("Any", obj.path).value).result() == 6
                assert index.call(lambda obj, data: setattr(obj, "data", data), shared).result() is None
                del shared
                # The object refers to it, so its memory stays.
                assert index.call(lambda obj: cast("Any", obj).data.view[-1]).result() == ord("x")
                assert pool.statistics().shared_bytes == before

    @each_start_method
    def test_large_values_travel(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(1) as pool, pool.actor(Index) as index:
            data = os.urandom(3_000_000)
            assert index.echo(data).result() == data

    def test_many_threads_call_it(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(1) as pool, pool.actor(Index) as index:
            totals: list[int] = []

            def work() -> None:
                totals.extend([index.sync.add() for _ in range(50)])

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(totals) == list(range(1, 201))

    @each_start_method
    def test_closing_ends_it_and_so_does_the_pool(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(2) as pool:
            first = pool.actor(Index)
            with pool.actor(Index) as second:
                assert second.add().result() == 1
            with pytest.raises(PoolClosed, match="The actor Index is closed"):
                second.add()
            second.close()
            assert first.add().result() == 1
        assert first.closed
        with pytest.raises(PoolClosed, match="closed"):
            first.add()
        with pytest.raises(PoolClosed, match="closed"):
            pool.actor(Index)

    def test_calls_made_before_may_finish(self, make_pool: Callable[..., Pool]) -> None:
        with make_pool(1) as pool:
            index = pool.actor(Index)
            futures = [index.add() for _ in range(200)]
            index.close(finish=120)
            assert [future.result(timeout=0) for future in futures] == list(range(1, 201))

    @each_start_method
    def test_several_calls_at_a_time(self, make_pool: Callable[..., Pool], place: str, tmp_path: Path) -> None:
        if place == "serial":
            return  # there is one thread
        if place == "interpreters":
            with make_pool(1) as pool, pytest.raises(NotSupported, match="concurrent=3 needs"):
                pool.actor(Meeting, 3, "", concurrent=3)
            return
        book = str(tmp_path / "book")
        with make_pool(1) as pool, pool.actor(Meeting, 3, book, concurrent=3) as meeting:
            futures = [meeting.meet(number) for number in range(30)]
            assert [future.result() for future in futures] == list(range(30))
            with pytest.raises(AttributeError):
                meeting.call("missing")
            assert isinstance(meeting.call(lambda obj: 1 // 0).exception(), ZeroDivisionError)
            assert meeting.call(lambda obj, data: data * 2, b"x" * 1_000_000).result() == b"x" * 2_000_000
        assert lines(book) == ["built"]
        with make_pool(1) as pool, pool.actor(Fussy, str(tmp_path / "other"), ("raise",), concurrent=2) as fussy:
            with pytest.raises(SetupError, match="the file is damaged"):
                fussy.number().result()
        assert lines(tmp_path / "other") == ["built"]

    def test_several_share_calls(self, make_pool: Callable[..., Pool], place: str) -> None:
        with make_pool(2) as pool, pool.actors(Index, "a", count=2) as index:
            assert sum(future.result()[0] == "w" for future in [index.search("w") for _ in range(50)]) == 50
            assert "2 of it" in repr(index) or place == "serial"

    def test_there_are_no_more_than_the_pool_has_workers(self, make_pool: Callable[..., Pool], place: str) -> None:
        if place == "serial":
            return
        with make_pool(2) as pool:
            first, second = pool.actor(Index), pool.actor(Index)
            with pytest.raises(UsageError, match=r"pool of 2 workers may have as many, and 2 are there.*workers=3"):
                pool.actor(Index)
            second.close()
            with pool.actor(Index) as third:
                assert third.add().result() == first.add().result() == 1

    def test_a_handle_does_not_travel(self, make_pool: Callable[..., Pool], place: str) -> None:
        with make_pool(1) as pool, pool.actor(Index) as index:
            with pytest.raises(NotPicklable, match="The actor Index cannot travel to another process"):
                pickle.dumps(index)
            if place in PROCESSES:
                with pytest.raises(NotPicklable, match="The actor Index cannot travel to another process"):
                    pool.map(lambda handle: handle, [index])

    @each_start_method
    def test_arguments_and_results_that_do_not_travel(self, make_pool: Callable[..., Pool], place: str) -> None:
        if place not in PROCESSES:
            return
        with make_pool(1) as pool:
            with pool.actor(Index) as index:
                with pytest.raises(NotPicklable, match="lock"):
                    index.echo(threading.Lock()).result()
                with pytest.raises(NotPicklable, match="result"):
                    index.call(lambda obj: threading.Lock()).result()
                assert index.add().result() == 1
            with pytest.raises(NotPicklable, match=r"Index\(.*cannot travel"):
                pool.actor(Index, cast("Any", threading.Lock()))

    def test_bad_options_get_one_sentence(self, make_pool: Callable[..., Pool], place: str) -> None:
        with make_pool(1) as pool:
            for options in (
                {"restart": -1},
                {"restart": 1.5},
                {"within": -1.0},
                {"concurrent": 0},
                {"max_queued": 0},
                {"queue_timeout": "x"},
                {"timeout": 0},
                {"timout": 5},
            ):
                name = next(iter(options))
                with pytest.raises((UsageError, TypeError), match=name):
                    pool.actor(Index, "a", **cast("Any", options))
            with pytest.raises(UsageError, match="cannot be called"):
                pool.actor(cast("Any", 5))
            with pytest.raises(UsageError, match="count=0"):
                pool.actors(Index, count=0)
            if place not in PROCESSES:
                with pytest.raises(NotSupported, match="timeout=1 needs backend='processes'"):
                    pool.actor(Index, timeout=1)
                with pytest.raises(NotSupported, match="cancel_running"):
                    pool.actor(Index, cancel_running=True)


def test_the_shared_pool_has_actors() -> None:
    with allcores.actor(Index, "a.txt") as index:
        assert index.search("w").result() == ["w"]
    with allcores.actors(Index, count=1, max_queued=5) as index:
        assert index.search("w").result() == ["w"]
