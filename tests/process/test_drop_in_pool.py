"""The `multiprocessing` drop-in: what of it CPython's own tests do not ask."""

from __future__ import annotations

import functools
import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

import pytest
from tests.process.pool_tasks import (
    a_lambda,
    add,
    end_if_odd,
    fail_if_odd,
    fail_on,
    for_ever,
    name_and_number,
    pool_in_pool,
    process_id,
    square,
)
from tests.process.scripts import run
from tests.process.waiting import PATIENCE_S

import allcores
from allcores.adapters.multiprocessing import Pool

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, context=multiprocessing.get_context(request.param)) as made:
        yield made
    made.join()


def test_methods_give_what_the_originals_do(pool: Pool) -> None:
    numbers = range(50)
    squares = [square(number) for number in numbers]
    pairs = [(number, 1) for number in numbers]
    assert pool.map(square, numbers) == squares
    assert pool.map_async(square, iter(numbers)).get(60) == squares
    assert pool.starmap(add, pairs) == pool.starmap_async(add, pairs).get(60) == [number + 1 for number in numbers]
    assert pool.apply(add, (1,), {"right": 2}) == pool.apply_async(add, (1, 2)).get(60) == 3
    for chunksize in (1, 7):
        assert list(pool.imap(square, numbers, chunksize)) == squares
        assert sorted(pool.imap_unordered(square, iter(numbers), chunksize)) == squares


def test_a_worker_that_dies_costs_its_own_item(pool: Pool) -> None:
    got: list[object] = []
    results = pool.imap(end_if_odd, range(6))
    while True:
        try:
            got.append(results.next(60))
        except StopIteration:
            break
        except allcores.WorkerLost as error:
            got.append(type(error))
    lost = allcores.WorkerLost
    assert got == [0, lost, 2, lost, 4, lost]
    with pytest.raises(allcores.WorkerLost):
        pool.apply(end_if_odd, (1,))
    with pytest.raises(allcores.WorkerLost):
        pool.map(end_if_odd, range(3))
    assert pool.map(square, range(3)) == [0, 1, 4]


def test_after_an_item_that_failed_the_iterator_goes_on(pool: Pool) -> None:
    results = pool.imap(fail_if_odd, range(4))
    assert next(results) == 0
    with pytest.raises(ValueError):
        next(results)
    assert next(results) == 2


def test_a_result_that_plain_pickle_refuses_is_refused(pool: Pool) -> None:
    with pytest.raises(MaybeEncodingError) as caught:
        pool.apply(a_lambda)
    assert "lambda" in caught.value.value
    with pytest.raises(MaybeEncodingError):
        list(pool.imap(a_lambda, range(2)))


def test_callbacks_come_before_the_result_is_ready(pool: Pool) -> None:
    told: list[object] = []
    done = pool.apply_async(square, (3,), callback=told.append)
    assert done.get(60) == 9 and told == [9]
    failing = pool.map_async(functools.partial(divmod, 1), [1, 0], error_callback=told.append)
    failing.wait(PATIENCE_S)
    assert isinstance(told[1], ZeroDivisionError) and not failing.successful()


def test_time_is_up(pool: Pool) -> None:
    call = pool.apply_async(for_ever)
    with pytest.raises(multiprocessing.TimeoutError):
        call.get(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        pool.imap(for_ever, [1]).next(0.01)
    with pytest.raises(ValueError, match="not ready"):
        call.successful()


def test_what_a_terminated_pool_did_not_finish_raises(pool: Pool) -> None:
    call, results, whole = pool.apply_async(for_ever), pool.imap(for_ever, [1]), pool.map_async(for_ever, [1, 2])
    pool.terminate()
    for waiting in (call.get, results.next, whole.get):
        with pytest.raises(allcores.PoolClosed):
            waiting(60)
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))


def test_results_may_be_read_after_the_pool_has_ended(pool: Pool) -> None:
    results = pool.imap(square, (number for number in range(100_000)))
    pool.close()
    pool.join()
    assert sum(results) == sum(square(number) for number in range(100_000))


def test_an_input_may_wait_for_results_of_its_own_items(pool: Pool) -> None:
    """What a generator has given is on its way while it waits: the usual way to bound `imap` of the original."""
    room = threading.Semaphore(10)

    def throttled() -> Iterator[int]:
        for number in range(300):
            assert room.acquire(timeout=PATIENCE_S)
            yield number

    seen = 0
    for _ in pool.imap_unordered(square, throttled()):
        seen += 1
        if seen % 10 == 0:
            room.release(10)
    assert seen == 300


INHERITED = """
import multiprocessing, sqlite3
from allcores.compat import Pool

context = multiprocessing.get_context("fork")
lock, total = context.Lock(), context.Value("i", 0)
database = sqlite3.connect(":memory:", check_same_thread=False)
state = None

class Shop:
    def __init__(self, price):
        self.price = price

    def pay(self, count):
        with lock:
            total.value += count
        return isinstance(self, Shop) and count * self.price

    def pay_all(self, counts):
        with Pool(2, context=context) as pool:
            return pool.map(self.pay, counts)

def begin(value):
    global state
    state = value

def look(number):
    with lock:
        return state, database.execute("select 1").fetchone(), number

def late_function(pool):
    global late
    def late(number):
        return number + 1
    late.__qualname__ = "late"
    return pool.apply(late, (1,))

with Pool(2, begin, ("begun",), context=context) as pool:
    print(pool.map(look, [5]), type(pool.apply(Shop, (3,))) is Shop, late_function(pool))
print(Shop(3).pay_all([1, 2]), total.value)
"""


def test_forked_workers_have_what_the_script_has(tmp_path: Path) -> None:
    """As with the original: globals that cannot be pickled, methods of the script's classes, and what workers make."""
    ended = run(INHERITED, tmp_path)
    assert ended.out == "[('begun', (1,), 5)] True 2\n[3, 6] 3\n", ended.err
    assert ended.err == ""


OF_THE_SCRIPT = """
import collections, enum, functools, multiprocessing, sys
from allcores.compat import Pool

class Obj:
    def __init__(self, value):
        self.value = value
    def method(self):
        return self.value
    class Inner:
        pass

class Failed(Exception):
    pass

class Color(enum.Enum):
    RED = 1

Pair = collections.namedtuple("Pair", "one two")

@functools.lru_cache
def cached(number):
    return number

def function(number):
    return number

a_lambda = lambda number: number

def value(kind):
    def closure():
        return kind
    class Local:
        pass
    if kind == "raised":
        raise Failed(Obj(Color.RED))
    return {
        "object": Obj(1), "class": Obj, "inner": Obj.Inner(), "member": Color.RED, "pair": Pair(1, [Pair(2, 3)]),
        "exception": Failed(1), "method": Obj(2).method, "function": function, "cached": cached,
        "partial": functools.partial(function, Obj(3)), "large": [Obj(4), "x" * 200_000], "many": [Obj(5)] * 2000,
        "name": ("__main__", Obj(6)), "lambda": a_lambda, "closure": closure, "local": Local(), "bad": Obj(a_lambda),
    }[kind]

ITS_OWN = {
    "object": lambda it: type(it) is Obj, "class": lambda it: it is Obj, "inner": lambda it: type(it) is Obj.Inner,
    "member": lambda it: it is Color.RED, "pair": lambda it: it == Pair(1, [Pair(2, 3)]) and type(it.two[0]) is Pair,
    "exception": lambda it: type(it) is Failed, "method": lambda it: it.__func__ is Obj.method,
    "function": lambda it: it is function, "cached": lambda it: it is cached,
    "partial": lambda it: it.func is function and type(it.args[0]) is Obj, "large": lambda it: type(it[0]) is Obj,
    "many": lambda it: {type(each) for each in it} == {Obj}, "name": lambda it: type(it[1]) is Obj,
}
REFUSED = ["lambda", "closure", "local", "bad"]

with Pool(2, context=multiprocessing.get_context(sys.argv[1])) as pool:
    values = pool.map(value, list(ITS_OWN))
    print([kind for kind, it in zip(ITS_OWN, values) if not ITS_OWN[kind](it)])
    for kind in ["raised", *REFUSED]:
        try:
            print(kind, pool.apply(value, (kind,)))
        except Failed as error:
            print(kind, type(error.args[0]) is Obj and error.args[0].value is Color.RED)
        except multiprocessing.pool.MaybeEncodingError:
            print(kind, "refused")
"""


@pytest.mark.parametrize("method", METHODS)
def test_classes_and_functions_of_the_script_are_results_and_errors(tmp_path: Path, method: str) -> None:
    """They have names in the program, whatever a worker knows them by; what has none is refused."""
    ended = run(OF_THE_SCRIPT, tmp_path, method)
    assert ended.lines == [
        "[]", "raised True", "lambda refused", "closure refused", "local refused", "bad refused",
    ], ended.err  # fmt: skip


@pytest.mark.parametrize("begun", ["nothing", "a thread"])
def test_join_waits_for_what_another_thread_is_just_beginning_to_close(begun: str) -> None:
    made = Pool(1, context=multiprocessing.get_context("fork"))
    result = made.apply_async(square, (3,))
    # As far as close() in another thread may be at this moment.
    made._state = "CLOSE"
    if begun == "a thread":
        made._work._closer = threading.Thread(target=print)
    made.join()
    assert result.ready() and result.get() == 9
    assert made._work.pool.closed


def test_a_global_that_a_task_changes_is_not_spoken_of(tmp_path: Path) -> None:
    script = """
from allcores.compat import Pool
count = 0
def step(number):
    global count
    count += 1
with Pool(1) as pool:
    pool.map(step, range(3)), pool.apply(step, (1,)), list(pool.imap(step, range(3)))
"""
    ended = run(script, tmp_path)
    assert (ended.code, ended.err) == (0, "")


def test_ctrl_c_ends_a_map_at_once(tmp_path: Path) -> None:
    script = """
import _thread, os, threading, time
from allcores.compat import Pool
from tests.process.waiting import wait_until
def wait(number):
    open("running", "w").close()
    time.sleep(600)
def interrupt():
    wait_until(lambda: os.path.exists("running"))
    _thread.interrupt_main()
with Pool(2) as pool:
    threading.Thread(target=interrupt).start()
    try:
        pool.map(wait, range(4))
    except KeyboardInterrupt:
        print("interrupted")
    print(pool.map(abs, [-1]))
"""
    ended = run(script, tmp_path)
    assert ended.out == "interrupted\n[1]\n", ended.err


def test_a_callback_that_raises_is_printed_and_the_pool_goes_on(tmp_path: Path) -> None:
    script = """
from allcores.compat import Pool
told = []
with Pool(1) as pool:
    pool.apply_async(abs, (-1,), callback=lambda value: 1 / 0).wait(60)
    pool.apply_async(abs, (-2,), callback=told.append).wait(60)
    pool.close()
    pool.join()
print(told)
"""
    ended = run(script, tmp_path)
    assert ended.out == "[2]\n"
    assert "ZeroDivisionError" in ended.err


def test_a_program_may_end_with_an_open_pool(tmp_path: Path) -> None:
    script = """
import time
from allcores.compat import Pool
pool = Pool(2)
pool.imap(time.sleep, [600] * 4), pool.apply_async(time.sleep, (600,)), pool.map_async(time.sleep, [600])
print(pool.apply_async(abs, (-1,)).ready())
"""
    ended = run(script, tmp_path)
    assert (ended.code, ended.out) == (0, "False\n"), ended.err


def test_an_initializer_that_raises_is_an_error() -> None:
    with Pool(1, fail_on, (1, 1)) as pool:
        with pytest.raises(allcores.SetupError):
            pool.apply(square, (1,))
        with pytest.raises(allcores.SetupError):
            pool.map(square, [1])
        with pytest.raises(allcores.SetupError):
            next(pool.imap(square, [1]))


def test_a_worker_is_replaced_after_so_many_tasks() -> None:
    with Pool(1, maxtasksperchild=1) as pool:
        assert len({pool.apply(process_id) for _ in range(3)}) == 3
        # A chunk is a task.
        assert len(set(pool.map(process_id, range(6), chunksize=3))) == 2
        assert len(set(pool.imap(process_id, range(6), chunksize=3))) == 2


def test_a_pool_in_a_worker() -> None:
    with Pool(1) as pool:
        assert pool.apply(pool_in_pool, (3,)) == [0, 1, 4]


def test_what_makes_no_sense_is_refused_in_the_words_of_the_original() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Pool(0)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        Pool(1, initializer=3)  # type: ignore[arg-type]
    with Pool(1) as pool:
        with pytest.raises(ValueError, match=r"Chunksize must be 1\+, not 0"):
            pool.imap(square, [1], 0)
        with pytest.raises(ValueError, match="still running"):
            pool.join()
        with pytest.raises(NotImplementedError, match="cannot be passed"):
            pickle.dumps(pool)
        with pytest.raises(TypeError):
            next(pool.imap(square, 3))  # type: ignore[arg-type]
        number: Any = 3
        for call in (pool.apply_async(number).get, pool.map_async(number, [1]).get, pool.imap(number, [1]).next):
            with pytest.raises(TypeError, match="'int' object is not callable"):
                call(60)
        lock: Any = threading.Lock()
        for wait in (
            pool.apply_async(square, (lock,)).get,
            pool.map_async(square, [lock]).get,
            pool.imap(square, [lock]).next,
        ):
            with pytest.raises(TypeError, match="cannot pickle '_thread"):
                wait(60)
    assert "state=TERMINATE pool_size=1" in repr(pool)


def test_workers_have_names_and_numbers(pool: Pool) -> None:
    """What programs seed generators with, and place progress bars by."""
    found = set(pool.map(name_and_number, range(20), chunksize=1))
    method = {"ForkPool": "fork", "SpawnPool": "spawn", "ForkServerPool": "forkserver"}
    assert {number for _, number in found} <= {1, 2}
    for name, number in found:
        kind, _, rest = name.partition("Worker-")
        assert (kind in method, rest) == (True, str(number))
