"""Who a worker is to `multiprocessing`: programs ask whether they are the main process, and who has started them."""

from __future__ import annotations

import logging
import multiprocessing
import os
from concurrent.futures import Executor as BaseExecutor
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S

import allcores
from allcores import Pool
from allcores.adapters.multiprocessing import Pool as DropIn

METHODS = ["template", "fork", "spawn", "forkserver"]

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork' copies a process:RuntimeWarning")


def who(_: object = None) -> tuple[Any, ...]:
    """Name, number, and the parent's name and pid."""
    own, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    main = type(own).__name__ == "_MainProcess"
    return main, own.name, own._identity, parent and (parent.name, parent.pid)


def inner(_: object) -> tuple[Any, Any]:
    """Of a worker of a pool in a worker, and of this one."""
    with Pool(1, name="inner") as pool:
        return os.getpid(), pool.map(who, [0])[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_is_a_child_of_the_program(method: Any) -> None:
    """`parent_process()` is None in the main process only, and its name is "MainProcess" there only."""
    with Pool(1, start_method=method, name="mine") as pool:
        assert pool.map(who, [0]) == [(False, "mine-worker-1", (1,), ("MainProcess", os.getpid()))]


def test_a_worker_of_a_pool_in_a_worker_is_a_child_of_that_worker() -> None:
    """Its program is the process that has its pool."""
    with Pool(1, name="outer") as pool:
        [(worker, found)] = pool.map(inner, [0])
    assert found == (False, "inner-worker-1", (1,), ("outer-worker-1", worker))


def told(loaded: Any, _: int) -> tuple[Any, ...]:
    """What a preload function was, and what this worker is."""
    return loaded, who()


def test_a_preload_function_is_in_a_child_of_the_program() -> None:
    """It is in the template, whose copies have names of their own."""
    program = ("MainProcess", os.getpid())
    with Pool(1, preload=who, name="mine", start_method="template") as pool:
        assert pool.map(told, [0]) == [
            ((False, "mine-preload", (), program), (False, "mine-worker-1", (1,), program)),
        ]


def watched(_: int) -> tuple[Any, ...]:
    """What can be waited for is there, and has not happened."""
    parent: Any = multiprocessing.parent_process()
    return parent.is_alive(), parent.join(0.0), parent.exitcode, multiprocessing.active_children()


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_may_wait_for_its_program(method: Any) -> None:
    """The parent that multiprocessing names can be asked whether it lives; the program's children are the program's."""
    child = multiprocessing.get_context("spawn").Process(target=os.getpid)
    child.start()
    try:
        with Pool(1, start_method=method) as pool:
            assert pool.map(watched, [0]) == [(True, None, None, [])]
    finally:
        child.join(PATIENCE_S)


def name_of_a_record() -> str:
    """The process that logging would say."""
    return logging.getLogger("here").makeRecord("here", logging.INFO, "", 0, "", (), None).processName or ""


def submitted(executor: BaseExecutor) -> str:
    return executor.submit(name_of_a_record).result(PATIENCE_S)


def test_records_of_an_executor_name_their_worker() -> None:
    """As with ProcessPoolExecutor, whose workers are not "MainProcess" to logging."""
    with allcores.Executor(1, initializer=os.getpid) as executor:
        assert submitted(executor) == "executor-worker-1"


def test_workers_of_the_drop_in_have_the_program_as_their_parent() -> None:
    """Beside the names that multiprocessing gives them."""
    with DropIn(1, context=multiprocessing.get_context("spawn")) as pool:
        assert pool.apply(who) == (False, "SpawnPoolWorker-1", (1,), ("MainProcess", os.getpid()))
