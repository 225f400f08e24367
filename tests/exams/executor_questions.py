"""CPython's tests of `ProcessPoolExecutor`, asked of `allcores.Executor`, which stands where the original does.

Run as a script with the name of a test and what `mp_context` is given: "fork", "spawn", "forkserver", or "default" for
none. Tests that read private attributes on the way to what is documented get stand-ins, made from outside.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

PACKAGE = "test.test_concurrent_futures"
MODULES = ("process_pool", "shutdown", "wait", "as_completed", "deadlock", "init", "future")
#: These look how CPython's class is made, and not at what it does.
PRIVATE = {
    "test_max_workers_too_large": "Windows only, and names ProcessPoolExecutor itself",
    "test_saturation": "counts the private _processes",
    "test_processes_terminate": "counts the private _processes",
    "test_idle_process_reuse_one": "counts the private _processes",
    "test_idle_process_reuse_multiple": "counts the private _processes",
    "test_python_finalization_error": "replaces threading so that a private thread cannot start",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "replaces private classes",
    "test_max_tasks_per_child_defaults_to_spawn_context": "reads the private _mp_context",
    "test_force_shutdown_workers_invalid_op": "calls a private method",
    "test_force_shutdown_workers": "counts the private _processes",
}
#: These want one dead worker to break the pool, which is what is different here.
BREAKS = {"test_killed_child"}


class Process:
    """As much of a process as tests use of `executor._processes`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def join(self) -> None:
        while self.pid in family():
            time.sleep(0.02)


class Ended:
    """Stands for private threads and queues."""

    join = join_thread = staticmethod(lambda: None)


def family() -> dict[int, int]:
    """Live descendants of this process, with their parents."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:2]
                if state not in (b"Z", b"X"):
                    parents[int(folder.name)] = int(parent)
    found = {os.getpid(): 0}
    while more := {child: parent for child, parent in parents.items() if parent in found and child not in found}:
        found.update(more)
    del found[os.getpid()]
    return found


def settled_family(quiet: float = 0.4, most: float = 5.0) -> set[int]:
    """The descendants, once none has come for a while: an executor made before may still be starting its workers."""
    known, since, end = set(family()), time.monotonic(), time.monotonic() + most
    while time.monotonic() < min(since + quiet, end):
        time.sleep(0.05)
        now = set(family())
        if now - known:
            known, since = now, time.monotonic()
    return known


def workers(before: set[int], wait: float = 2.0) -> dict[int, Process]:
    """Processes without children that have started since."""
    until = time.monotonic() + wait
    while True:
        tree = family()
        found = {}
        for child in tree:
            with contextlib.suppress(OSError):
                helper = b"resource_tracker" in Path(f"/proc/{child}/cmdline").read_bytes()
                if child not in before and child not in tree.values() and not helper:
                    found[child] = Process(child)
        if found or time.monotonic() > until:
            return found
        time.sleep(0.02)


def adapted(pass_context: bool) -> Any:
    """The class, with stand-ins for what is private of the original."""
    from concurrent.futures import BrokenExecutor

    from allcores import Executor

    class ProcessPoolExecutor(Executor):
        def __init__(self, max_workers: int | None = None, mp_context: Any = None, **more: Any) -> None:
            self._exam_before = settled_family()
            super().__init__(max_workers, mp_context if pass_context else None, **more)

        def __getattr__(self, name: str) -> Any:
            if name == "_processes":
                return workers(self._exam_before)
            if name == "_broken":
                try:
                    self.submit(int)
                except BrokenExecutor:
                    return True
                time.sleep(0.1)
                return False
            if name in ("_executor_manager_thread", "_call_queue"):
                return Ended
            raise AttributeError(name)

    return ProcessPoolExecutor


def test_modules() -> tuple[Any, dict[str, Any]]:
    """CPython's modules of tests: a package since 3.12, one module before."""
    package: Any = importlib.import_module(PACKAGE)
    if not hasattr(package, "__path__"):
        return package, dict.fromkeys(MODULES, package)
    util = importlib.import_module(PACKAGE + ".util")
    return util, {name: importlib.import_module(f"{PACKAGE}.test_{name}") for name in MODULES}


def questions() -> list[tuple[str, str]]:
    """Each test that is about processes, and its start method; "future" for those of the futures' class."""
    import unittest

    found = []
    for module in dict.fromkeys(test_modules()[1].values()):
        for name, case in vars(module).items():
            if not (isinstance(case, type) and issubclass(case, unittest.TestCase)):
                continue
            for test in unittest.defaultTestLoader.getTestCaseNames(case):
                if name == "FutureTests":
                    method = "future"
                elif name == "FailingInitializerResourcesTest":
                    method = test.removeprefix("test_")
                elif name.startswith("ProcessPool"):
                    method = str(getattr(case, "ctx", ""))
                else:
                    continue
                found.append((f"{module.__name__}.{name}.{test}", method))
    return found


def _python_ok(ok: Any, pass_context: bool, flag: str, code: str, **more: Any) -> Any:
    theirs = "from concurrent.futures import ProcessPoolExecutor"
    assert theirs in code, code
    ours = (
        f"import sys; sys.path[:] = {sys.path!r}; import multiprocessing; from tests.exams import executor_questions; "
        f"ProcessPoolExecutor = executor_questions.adapted({pass_context!r})"
    )
    return ok(flag, code.replace(theirs, ours), **more)


def stand_in(pass_context: bool, limit_s: float) -> None:
    """Put ours in the place of `ProcessPoolExecutor`."""
    import multiprocessing.util
    from concurrent import futures

    from test import support

    original = futures.ProcessPoolExecutor
    made = adapted(pass_context)
    util, modules = test_modules()
    for mixin in vars(util).values():
        if isinstance(mixin, type) and getattr(mixin, "executor_type", None) is original:
            mixin.executor_type = made  # type: ignore[attr-defined]
    place: Any = futures
    place.ProcessPoolExecutor = type("ProcessPoolExecutor", (made,), {})
    for module in dict.fromkeys(modules.values()):
        if ok := getattr(module, "assert_python_ok", None):
            module.assert_python_ok = functools.partial(_python_ok, ok, pass_context)
    tests: Any = modules["process_pool"].ProcessPoolExecutorTest
    remote = importlib.import_module("concurrent.futures.process")._RemoteTraceback

    def assert_is(self: Any, first: object, second: object, message: object = None) -> None:
        # The class of the remote traceback is private: any will do that has its text.
        if second is not remote:
            super(tests, self).assertIs(first, second, message)

    tests.assertIs = assert_is
    support.LONG_TIMEOUT = limit_s * 0.7
    support.SHORT_TIMEOUT = min(support.SHORT_TIMEOUT, limit_s * 0.5)
    modules["deadlock"].ExecutorDeadlockTest.TIMEOUT = limit_s * 0.7
    # The process ends after the one test: there is nothing to end for the next one.
    multiprocessing_util: Any = multiprocessing.util
    multiprocessing_util._cleanup_tests = lambda: None


def main(name: str, group: str) -> None:
    from tests.exams.isolated import LIMIT_S, run_all

    if group == "future":
        with adapted(True)(max_workers=1) as executor:
            test_modules()[1]["future"].Future = type(executor.submit(int))
    else:
        stand_in(group != "default", LIMIT_S)
    run_all(name)


if __name__ == "__main__":
    # As it is imported by processes that tests start, lest there are two of each class.
    from tests.exams import executor_questions

    executor_questions.main(*sys.argv[1:])
