"""`Pool(contextvars=[...])`: tasks find the values that their caller has, per map and call, and nobody else's."""

from __future__ import annotations

import contextvars
import decimal
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from tests.contract import tasks

import allcores
from allcores import Pool

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")

METHODS = ("template", "fork", "spawn", "threads", "serial")

user: ContextVar[str] = ContextVar("user")
level: ContextVar[Any] = ContextVar("level", default=0)


def open_pool(method: str, workers: int = 1, **options: Any) -> Pool:
    if method in ("threads", "serial"):
        return Pool(workers, backend=method, **options)
    return Pool(workers, start_method=method, **options)


def look(_: object = None) -> tuple[str, Any]:
    return user.get("nobody"), level.get()


def take_over(name: str) -> str:
    before = user.get("nobody")
    user.set(name)
    return before


@pytest.mark.quick
@pytest.mark.parametrize("method", METHODS)
def test_a_map_and_a_call_find_the_values_of_their_caller(method: str) -> None:
    def calls() -> None:
        with open_pool(method, contextvars=[user, level]) as pool:
            assert pool.map(look, [0]) == [("nobody", 0)]
            token = user.set("ann")
            level.set({"deep": [1]})
            assert pool.map(look, range(3), chunk=1) == 3 * [("ann", {"deep": [1]})]
            assert pool.submit(look).result() == ("ann", {"deep": [1]})
            assert [each.value for each in pool.outcomes(look, [0])] == [("ann", {"deep": [1]})]
            level.get()["deep"].append(2)  # the same object, which is another value now
            user.reset(token)
            assert pool.map(look, [0]) == [("nobody", {"deep": [1, 2]})]

    contextvars.Context().run(calls)


@pytest.mark.parametrize("method", METHODS)
def test_streams_that_are_open_at_once_have_each_their_own(method: str) -> None:
    def calls() -> None:
        with open_pool(method, contextvars=[user]) as pool:
            streams = []
            for name in ("ann", "bob"):
                user.set(name)
                streams.append(pool.imap(look, range(20), chunk=1))
            user.set("eve")
            for one, other in zip(*streams, strict=True):
                assert (one[0], other[0]) == ("ann", "bob")
            assert user.get() == "eve"

    contextvars.Context().run(calls)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_task_sets_ends_with_its_chunk(method: str) -> None:
    def calls() -> None:
        user.set("ann")
        with open_pool(method, contextvars=[user]) as pool:
            assert pool.map(take_over, ["eve", "eve"], chunk=1) == ["ann", "ann"]
            assert pool.submit(take_over, "eve").result() == "ann"
            assert pool.map(look, [0])[0][0] == "ann"
        assert user.get() == "ann"

    contextvars.Context().run(calls)


@pytest.mark.parametrize("method", METHODS[:3])
def test_without_being_asked_nothing_travels(method: str) -> None:
    def calls() -> None:
        with open_pool(method) as pool:
            pool.map(look, [0])
            user.set("ann")
            assert pool.map(look, [0]) == [("nobody", 0)]

    contextvars.Context().run(calls)


@pytest.mark.parametrize("method", METHODS[:3])
def test_a_worker_that_replaces_another_has_them(method: str) -> None:
    def calls() -> None:
        user.set("ann")
        with open_pool(method, contextvars=[user]) as pool:
            assert pool.map(look, [0])[0][0] == "ann"
            (lost,) = pool.outcomes(tasks.end_process, [3])
            assert lost.kind is allcores.Kind.WORKER_LOST
            assert pool.map(look, [0])[0][0] == "ann"

    contextvars.Context().run(calls)


def test_threads_of_the_program_have_each_their_own() -> None:
    """On the pool of the module, as requests in threads of a web server do."""
    found: dict[str, set[str]] = {}

    def request(name: str) -> None:
        user.set(name)
        for _ in range(20):
            found.setdefault(name, set()).update(each[0] for each in allcores.map(look, range(4), chunk=1))

    allcores.configure(2, contextvars=[user])
    try:
        threads = [threading.Thread(target=request, args=(name,)) for name in ("ann", "bob", "eve")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        allcores.configure()
    assert found == {name: {name} for name in ("ann", "bob", "eve")}


@pytest.mark.parametrize("method", METHODS[:3])
def test_a_variable_that_no_module_has(method: str) -> None:
    """One of a script, or of a function: it is the same one in the pool's option and in the function."""

    def calls() -> None:
        mine: ContextVar[int] = ContextVar("mine", default=7)
        with open_pool(method, contextvars=[mine]) as pool:
            assert pool.map(lambda n: n + mine.get(), [1]) == [8]
            mine.set(10)
            assert pool.map(lambda n: n + mine.get(), [1]) == [11]
            assert pool.submit(lambda: mine).result() is mine

    contextvars.Context().run(calls)


class Reader:
    def look(self) -> tuple[str, Any]:
        return look()

    def divide(self, number: int) -> str:
        return str(decimal.Decimal(1) / number)


@pytest.mark.parametrize("concurrent", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_calls_of_actors(method: str, concurrent: int) -> None:
    """Also those that run beside each other, in threads, which have the caller's decimal context, too."""
    if concurrent > 1 and method in ("threads", "serial"):
        concurrent = 1

    def calls() -> None:
        with (
            open_pool(method, contextvars=[user]) as pool,
            pool.actor(Reader, concurrent=concurrent) as reader,
            decimal.localcontext() as context,
        ):
            assert reader.look().result()[0] == "nobody"
            user.set("ann")
            context.prec = 3
            assert reader.look().result()[0] == "ann"
            if method != "threads":
                assert reader.divide(3).result() == "0.333"

    contextvars.Context().run(calls)


class Unreadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


@pytest.mark.parametrize("method", METHODS[:3])
def test_values_that_cannot_travel_are_told_of(method: str) -> None:
    def calls() -> None:
        with open_pool(method, contextvars=[user, level]) as pool:
            level.set(threading.Lock())
            with pytest.raises(allcores.NotPicklable, match="value of the context variable 'level'"):
                pool.map(look, [0])
            with pytest.raises(allcores.NotPicklable, match="value of the context variable 'level'"):
                pool.submit(look).result()
            level.set(Unreadable())
            for outcome in pool.outcomes(look, range(3), chunk=2):
                assert isinstance(outcome.error, ValueError)
                assert "value of a context variable could not be unpickled" in str(outcome.error.__notes__)
            level.set(1)
            assert pool.map(look, [0]) == [("nobody", 1)]

    contextvars.Context().run(calls)


def test_no_worker_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the values are the same, the snapshot is the same object."""

    def calls() -> None:
        from allcores.transport.surroundings import Surroundings

        told: list[object] = []
        changes_since = Surroundings.changes_since

        def noted(self: Surroundings, former: Surroundings) -> bytes:
            told.append(self)
            return changes_since(self, former)

        monkeypatch.setattr(Surroundings, "changes_since", noted)
        user.set("ann")
        with Pool(1, contextvars=[user]) as pool:
            for _ in range(3):
                pool.map(look, range(10), chunk=1)
                pool.submit(look).result()
            assert len(told) == 1

    contextvars.Context().run(calls)


def test_wrong_words_say_what_is_right() -> None:
    with pytest.raises(allcores.UsageError, match="'user' is no context variable"):
        Pool(contextvars=["user"])  # type: ignore[list-item]
    with pytest.raises(allcores.UnknownOption, match=r"option of the pool: allcores\.Pool\(contextvars"):
        allcores.map(look, [0], contextvars=[user])  # type: ignore[call-overload]
