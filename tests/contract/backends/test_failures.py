"""Failures and retries, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import pytest
from tests.contract import tasks
from tests.contract.backends.support import START_METHOD_WARNINGS, each_start_method
from tests.process.waiting import Watcher, lines

from allcores import Kind, Pool, Retry, TaskExited, events
from allcores.errors import RemoteTraceback

pytestmark = START_METHOD_WARNINGS


class TestFailures:
    @pytest.mark.parametrize("chunk", [None, 50])
    def test_the_first_failure_in_input_order_is_raised_after_the_results_before_it(
        self, pool: Pool, chunk: int | None
    ) -> None:
        values: list[int] = []
        with pytest.raises(ValueError, match=r"no 7\n"):
            values.extend(pool.imap(tasks.refuse_sevens, range(50), chunk=chunk))
        assert values == list(range(7))

    @each_start_method
    def test_map_raises_the_original_type_with_its_facts(self, pool: Pool) -> None:
        with pytest.raises(tasks.Overdrawn) as caught:
            pool.map(tasks.overdraw, [5])
        assert (caught.value.breakdown, caught.value.cents) == ("savings", 5)

    def test_a_note_names_the_item(self, pool: Pool) -> None:
        (outcome,) = [each for each in pool.outcomes(tasks.refuse_sevens, range(10)) if not each.ok]
        assert outcome.error is not None
        (note,) = outcome.error.__notes__
        assert "items[7] (7)" in note
        assert f"worker {outcome.worker}" in note

    @each_start_method
    def test_the_line_that_failed_is_shown(self, pool: Pool) -> None:
        import traceback

        with pytest.raises(ValueError, match="no 7") as caught:
            pool.map(tasks.refuse_sevens, [7])
        shown = "".join(traceback.format_exception(caught.value))
        assert 'raise ValueError(f"no {number}")' in shown
        assert "in refuse_sevens" in shown

    @pytest.mark.parametrize("chunk", [None, 50])
    def test_skip_leaves_out_what_failed(self, pool: Pool, chunk: int | None) -> None:
        good = [number for number in range(50) if number % 10 != 7]
        assert pool.map(tasks.refuse_sevens, range(50), on_error="skip", chunk=chunk) == good
        assert list(pool.imap(tasks.refuse_sevens, range(50), on_error="skip", chunk=chunk)) == good
        unordered = pool.imap_unordered(tasks.refuse_sevens, range(50), on_error="skip", chunk=chunk)
        assert sorted(unordered) == good
        assert pool.starmap(tasks.refuse_sevens, zip(range(50)), on_error="skip", chunk=chunk) == good

    @each_start_method
    @pytest.mark.parametrize(
        ("fn", "original"),
        [
            (tasks.stop_iteration, StopIteration),
            (tasks.stop_async_iteration, StopAsyncIteration),
            (tasks.exit_politely, SystemExit),
            (tasks.interrupt, KeyboardInterrupt),
            (tasks.leave_generator, GeneratorExit),
        ],
        ids=lambda value: value.__name__ if isinstance(value, FunctionType) else "",
    )
    @pytest.mark.parametrize("chunk", [None, 6])
    def test_what_would_end_the_callers_loop_arrives_wrapped(
        self, pool: Pool, place: str, fn: Callable[[int], int], original: type[BaseException], chunk: int | None
    ) -> None:
        if place == "serial" and original is KeyboardInterrupt:
            pytest.skip("on the caller's own thread it is Ctrl-C")
        found = list(pool.outcomes(fn, range(6), chunk=chunk))
        assert [outcome.index for outcome in found if not outcome.ok] == [3]
        error = found[3].error
        assert isinstance(error, TaskExited)
        assert isinstance(error.__cause__, original)
        assert (error.index, error.attempts, error.worker) == (3, 1, found[3].worker)
        assert original.__name__ in str(error)
        assert "items[3]" in str(error)
        with pytest.raises(TaskExited):
            pool.map(fn, range(6), chunk=chunk)
        assert isinstance(pool.submit(fn, 3).exception(), TaskExited)
        assert pool.map(tasks.double, [21]) == [42]

    @each_start_method
    @pytest.mark.parametrize("original", [LookupError, StopIteration, SystemExit, KeyboardInterrupt])
    @pytest.mark.parametrize(("at", "step"), [("item", "Unpickling "), ("result", "Unpickling the result of ")])
    @pytest.mark.parametrize("chunk", [None, 6])
    def test_what_fails_on_its_way_is_told_like_what_the_function_raises(
        self, pool: Pool, place: str, original: type[BaseException], at: str, step: str, chunk: int | None
    ) -> None:
        if place in ("threads", "serial"):
            pytest.skip("nothing travels")
        breaking = tasks.Breaking(original)
        items = [None, None, None, breaking if at == "item" else original, None, None]
        found = list(pool.outcomes(tasks.breaking_for, items, chunk=chunk))
        assert [outcome.index for outcome in found if not outcome.ok] == [3]
        lost = original is SystemExit and at == "item"
        assert found[3].kind is (Kind.WORKER_LOST if lost else Kind.FAILED)
        error = found[3].error
        assert error is not None
        told = error
        if original is not LookupError:
            assert isinstance(error, TaskExited)
            assert str(error).startswith(f"{step}items[3] ")
            assert (error.index, error.attempts, error.worker) == (3, 1, found[3].worker)
            assert error.__cause__ is not None
            error = error.__cause__
        assert type(error) is original
        if at == "item":
            assert f"items[3] (<Breaking>) failed in worker {found[3].worker}, attempt 1" in told.__notes__[-1]
            assert isinstance(error.__cause__, RemoteTraceback)
            assert "in raise_now" in str(error.__cause__)

    def test_system_exit_tells_its_code(self, pool: Pool) -> None:
        (outcome,) = pool.outcomes(tasks.exit_politely, [3])
        assert outcome.kind is Kind.WORKER_LOST
        assert "4" in str(outcome.error)

    def test_no_failure_reaches_another_call(self, pool: Pool) -> None:
        assert pool.map(tasks.refuse_sevens, [7] * 30, on_error="skip") == []
        assert pool.map(tasks.double, range(30)) == [number * 2 for number in range(30)]


class TestRetries:
    @pytest.mark.parametrize("chunk", [None, 4])
    def test_an_item_gets_as_many_attempts_as_allowed(self, pool: Pool, tmp_path: Path, chunk: int | None) -> None:
        jobs = [(str(tmp_path / "tries"), number) for number in range(4)]
        retry = Retry(2, wait_s=0)
        found = list(pool.outcomes(tasks.fail_until_third_try, jobs, retries=retry, chunk=chunk))
        assert [outcome.value for outcome in found] == [0, 1, 2, 3]
        assert [outcome.attempts for outcome in found] == [3, 3, 3, 3]

    def test_the_last_failure_is_kept_when_attempts_run_out(self, pool: Pool, tmp_path: Path) -> None:
        (outcome,) = pool.outcomes(tasks.fail_until_third_try, [(str(tmp_path / "tries"), 0)], retries=1)
        assert isinstance(outcome.error, ValueError)
        assert outcome.attempts == 2
        assert len(lines(tmp_path / "tries-0")) == 2

    def test_only_chosen_exceptions_get_another_attempt(self, pool: Pool, tmp_path: Path) -> None:
        jobs = [(str(tmp_path / "tries"), kind) for kind in ("value", "key", "system")]
        retry = Retry(2, on=(LookupError, OSError), wait_s=0)
        found = list(pool.outcomes(tasks.fail_by_kind, jobs, retries=retry))
        assert [outcome.attempts for outcome in found] == [1, 3, 3]
        assert [len(lines(tmp_path / f"tries-{kind}")) for kind in ("value", "key", "system")] == [1, 3, 3]

    def test_the_wait_doubles_from_attempt_to_attempt(self, make_pool: Callable[..., Pool], tmp_path: Path) -> None:
        watcher = Watcher()
        retry = Retry(2, wait_s=0.01, jitter=0)
        with make_pool(observers=[watcher]) as pool:
            assert pool.map(tasks.fail_until_third_try, [(str(tmp_path / "tries"), 5)], retries=retry) == [5]
            assert pool.statistics().retries == 2
        assert [event.wait_s for event in watcher.of(events.TaskRetried)] == [0.01, 0.02]

    def test_a_call_has_retries_too(self, pool: Pool, tmp_path: Path) -> None:
        future = pool.call(tasks.fail_until_third_try, [(str(tmp_path / "tries"), 5)], retries=Retry(2, wait_s=0))
        assert future.result() == 5

    def test_retried_items_keep_their_place(self, pool: Pool, tmp_path: Path) -> None:
        jobs = [(str(tmp_path / "tries"), number) for number in range(30)]
        assert pool.map(tasks.fail_until_third_try, jobs, retries=Retry(2, wait_s=0)) == list(range(30))
