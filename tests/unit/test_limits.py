"""limits.py: options are checked when they are given, and say what is allowed."""

from __future__ import annotations

import dataclasses
import random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import allcores
from allcores import Pool
from allcores.errors import UsageError
from allcores.limits import (
    MOST_WORKERS,
    Limits,
    Retry,
    check_batch,
    check_chunk,
    check_on_error,
    check_timeout,
    check_workers,
    whole,
)
from allcores.scheduler.scheduler import Scheduler

NAN, INFINITY = float("nan"), float("inf")
ITEMS = ("items_in_flight", "items_per_worker", "depth")
BYTES = ("bytes_in_flight", "memory_per_worker", "memory_reserve", "growth_per_worker")
SECONDS = ("setup_s", "grace_s", "terminate_s")


def test_the_defaults_are_fine() -> None:
    """Limits() and Retry() need no argument, are frozen, and can be compared and used as keys."""
    assert Limits() == Limits() and hash(Limits()) == hash(Limits())
    assert Retry() == Retry(times=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().grace_s = 1.0  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Retry().times = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", ITEMS + BYTES + SECONDS)
@pytest.mark.parametrize("value", [-1, -0.5, NAN, "3", True, [], -INFINITY])
def test_limits_refuse_what_makes_no_sense(name: str, value: Any) -> None:
    """A limit below zero, or no number at all, is refused with its name and value."""
    with pytest.raises(UsageError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("name", ITEMS + BYTES + ("setup_s",))
def test_limits_of_zero_are_refused(name: str) -> None:
    """Nothing could run with no items, no bytes or no time to start."""
    with pytest.raises(UsageError, match=f"{name}=0 must be above 0"):
        Limits(**{name: 0})


@pytest.mark.parametrize("name", ["grace_s", "terminate_s"])
def test_patience_may_be_zero(name: str) -> None:
    """No grace at all is a choice."""
    assert getattr(Limits(**{name: 0}), name) == 0


@pytest.mark.parametrize("name", ITEMS)
@pytest.mark.parametrize("value", [0.5, 1.5, INFINITY])
def test_items_are_whole(name: str, value: float) -> None:
    """There is no half item: a limit of items is a whole number."""
    with pytest.raises(UsageError, match=name):
        Limits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SECONDS)
def test_patience_without_end_works_or_is_refused(name: str) -> None:
    """Infinity, a natural way to say "no limit", does not fail later in the middle of something."""
    try:
        limits = Limits(**{name: INFINITY})  # type: ignore[arg-type]
    except UsageError:
        return
    scheduler = Scheduler(1, limits, lambda worker: None)
    scheduler.fill(0)
    assert scheduler.state.commands


def test_limits_that_may_be_absent() -> None:
    """None means: no limit."""
    limits = Limits(memory_per_worker=None, items_per_worker=None, growth_per_worker=None)
    assert limits == Limits()
    assert Limits(memory_reserve=None).memory_reserve is None


def test_memory_is_watched_unless_told_otherwise() -> None:
    """A word that is not "auto" is refused with what is allowed."""
    assert Limits().memory_reserve == "auto"
    with pytest.raises(UsageError, match="memory_reserve='all' must be a number of bytes, 'auto' or None"):
        Limits(memory_reserve="all")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["memory_per_worker", "bytes_in_flight", "growth_per_worker", "block_bytes"])
def test_what_is_counted_in_bytes_says_so(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}='2G' is not a number of bytes, as 2 << 30 is"):
        Limits(**cast("dict[str, Any]", {name: "2G"}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"times": -1}, "times=-1"),
        ({"times": 1.5}, "whole number"),
        ({"times": True}, "whole number"),
        ({"times": "2"}, "whole number"),
        ({"on": 3}, "exception type"),
        ({"on": (ValueError, "x")}, "exception type"),
        ({"on": [ValueError]}, "exception type"),
        ({"on": int}, "exception type"),
        ({"wait_s": -1}, "wait_s"),
        ({"wait_s": NAN}, "wait_s"),
        ({"factor": 0}, "factor"),
        ({"wait_max_s": -1}, "wait_max_s"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": 1.1}, "jitter"),
        ({"jitter": NAN}, "jitter"),
        ({"jitter": "x"}, "jitter='x' is not a number"),
        ({"jitter": None}, r"Retry\(jitter=None\) must be a number"),
        ({"wait_s": None}, r"Retry\(wait_s=None\) must be a number"),
        ({"factor": None}, r"Retry\(factor=None\) must be a number"),
        ({"wait_max_s": None}, r"Retry\(wait_max_s=None\) must be a number of seconds, math.inf for no bound"),
    ],
)
def test_retries_refuse_what_makes_no_sense(options: dict[str, Any], words: str) -> None:
    """A retry that could not be carried out is refused in words."""
    with pytest.raises(UsageError, match=words):
        Retry(**options)


def test_a_number_of_retries_will_do() -> None:
    """`retries=2` is short for Retry(times=2)."""
    assert Retry.of(2) == Retry(times=2)
    retry = Retry(times=3, on=OSError)
    assert Retry.of(retry) is retry
    with pytest.raises(UsageError):
        Retry.of(-1)


def test_waits_double_up_to_the_longest() -> None:
    """Without jitter: wait_s, then times `factor` each, never above wait_max_s."""
    retry = Retry(times=9, wait_s=0.1, factor=2, wait_max_s=1, jitter=0)
    waits = [retry.delay_s(attempt, random.Random(0)) for attempt in range(1, 8)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1, 1, 1])


@given(
    st.floats(0, 100),
    st.floats(0.001, 1e6),
    st.floats(0, 1000),
    st.floats(0, 1),
    st.integers(1, 10_000),
    st.integers(0, 1000),
)
def test_waits_are_always_bounded(
    wait_s: float, factor: float, wait_max_s: float, jitter: float, attempt: int, seed: int
) -> None:
    """Whatever the options and however many attempts: between 0 and wait_max_s, and jitter only shortens it."""
    retry = Retry(times=10, wait_s=wait_s, factor=factor, wait_max_s=wait_max_s, jitter=jitter)
    wait = retry.delay_s(attempt, random.Random(seed))
    assert 0 <= wait <= wait_max_s
    steady = dataclasses.replace(retry, jitter=0.0).delay_s(attempt, random.Random(seed))
    assert steady * (1 - jitter) - 1e-9 <= wait <= steady + 1e-9


def test_jitter_spreads_attempts_that_failed_together() -> None:
    """With jitter, two items that fail at the same time are not tried again at the same time."""
    rng = random.Random(1)
    waits = {Retry(times=1, wait_s=1, jitter=0.5).delay_s(1, rng) for _ in range(100)}
    assert len(waits) == 100
    assert min(waits) >= 0.5


@pytest.mark.parametrize("value", [0, -1, NAN, True, "1", [1]])
def test_timeouts_refuse_what_makes_no_sense(value: Any) -> None:
    """A timeout is a number of seconds above 0."""
    with pytest.raises(UsageError, match="timeout"):
        check_timeout(value)


@pytest.mark.parametrize(("value", "seconds"), [(None, None), (2, 2), (0.1, 0.1), (INFINITY, None)])
def test_timeouts_that_are_fine(value: Any, seconds: Any) -> None:
    """None and infinity both mean: no deadline."""
    assert check_timeout(value) == seconds


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", NAN])
def test_chunks_refuse_what_makes_no_sense(value: Any) -> None:
    """A chunk is a whole number of items, at least one."""
    with pytest.raises(UsageError, match="chunk="):
        check_chunk(value)


def test_chunks_that_are_fine() -> None:
    """A number, or None for chunks that size themselves."""
    assert (check_chunk(None), check_chunk(1), check_chunk(10**9)) == (None, 1, 10**9)


def test_on_error_is_one_of_two_words() -> None:
    """Anything else is refused with the words that are allowed."""
    assert [check_on_error(word) for word in ("raise", "skip")] == ["raise", "skip"]
    with pytest.raises(UsageError, match=r"'ignore' is not one of 'raise', 'skip'.*outcomes\(\)"):
        check_on_error("ignore")


def test_more_workers_than_any_system_starts_are_refused_at_once() -> None:
    """Also as actors, as calls of one at a time, and as a share of a stage."""
    assert check_workers(MOST_WORKERS) == MOST_WORKERS
    many: Any = 10**8
    with pytest.raises(UsageError, match=r"workers=100000000 is more than 65,536"):
        Pool(many)
    with pytest.raises(UsageError, match="workers=100000000"):
        allcores.map(abs, [1], workers=many)
    with pytest.raises(UsageError, match="workers=100000000"):
        allcores.Pipeline().map(abs, workers=many)
    with Pool(1, backend="threads") as pool:
        with pytest.raises(UsageError, match="100,000,000 more processes for actors would be too many"):
            pool.actors(list, count=many)
        with pytest.raises(UsageError, match="concurrent=100000000"):
            pool.actor(list, concurrent=many)


def test_whole_numbers_of_other_types_are_whole() -> None:
    """As `range` takes them; what is none stays as it is, for whoever checks it."""
    numpy = pytest.importorskip("numpy")
    for number in (numpy.int64(3), numpy.uint8(3), 3):
        assert type(whole(number)) is int and whole(number) == 3
    several, real = numpy.arange(3), numpy.float64(3.0)
    assert whole(several) is several and whole(real) is real and whole(None) is None and whole(True) is True


@pytest.mark.parametrize("kind", ["int64", "uint8", "float32", "float64"])
def test_options_take_numbers_of_other_types_as_python_s_own(kind: str) -> None:
    """NumPy's, where a number is computed: what is kept, shown, and written as JSON are plain numbers."""
    number: Any = getattr(pytest.importorskip("numpy"), kind)(2)
    limits, retry = Limits(setup_s=number, grace_s=number), Retry(wait_s=number, wait_max_s=number)
    found: list[Any] = [limits.setup_s, limits.grace_s, retry.wait_s, retry.wait_max_s, check_timeout(number)]
    if "int" in kind:
        found += [check_workers(number), check_chunk(number), check_batch(number), Retry.of(number).times]
        found += [getattr(Limits(**{name: number}), name) for name in (*ITEMS, *BYTES, "block_bytes")]
    assert {type(each) for each in found} <= {int, float}
    assert set(found) == {2}


def test_what_is_true_and_what_is_a_text_is_no_number_whoever_made_it() -> None:
    numpy = pytest.importorskip("numpy")
    for value in (numpy.True_, numpy.str_("4"), numpy.complex64(2), numpy.arange(3), numpy.timedelta64(5, "s")):
        for check in (check_timeout, check_workers, check_chunk, check_batch, Retry.of):
            with pytest.raises(UsageError):
                check(value)
