"""joblib's own tests of `Parallel`, with allcores in the place of its default backend.

    python -m tests.exams.joblib_questions PART PARTS

They are those of the installed joblib: all of `test_parallel.py`, and those of `test_memmapping.py` that take a
backend. Run in one process, each PARTS-th of them from PART on; the exit status is pytest's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

#: the backend whose part is played: joblib's default
ROLE = "loky"
#: files, and whether they are about `Parallel` as a whole; else only their tests that take a backend are asked
FILES = {"test_parallel.py": True, "test_memmapping.py": False}
#: not asked
EXCLUDED = {
    "test_loky_reuse_workers": "asks loky's own executor whether it was reused",
    "test_child_raises_parent_exits_cleanly": "reads a private attribute of loky's backend",
    "test_mutate_input_with_threads": "about the threading backend",
    "test_batching_auto_threading": "about the threading backend",
    "test_nested_parallel_warnings": "expects the warnings of pairs of joblib's own backends",
    "test_dask_backend_when_dask_not_installed": "about dask",
    "test_zero_worker_backend": "about a backend of its own",
}
#: To drop a generator ends the calls of others with loky, which this test wants to see: it says itself that other
#: backends go on. It is asked of allcores as of these.
LOKY_FAILS_OTHERS = "test_multiple_generator_call_separated_gc"

#: what each interpreter that a test starts does first
FIRST = (
    f"import sys; sys.path.extend(each for each in {sys.path!r} if each not in sys.path); "
    "from tests.exams import joblib_questions; joblib_questions.install()\n"
)


def install() -> Any:
    """The backend takes the place of the default."""
    import joblib._parallel_backends
    from joblib.parallel import register_parallel_backend

    from allcores.adapters.joblib import AllcoresBackend

    register_parallel_backend(ROLE, AllcoresBackend, make_default=True)
    joblib._parallel_backends.LokyBackend = AllcoresBackend
    # Some tests compare it.
    AllcoresBackend.__name__ = "LokyBackend"
    return AllcoresBackend


class Interpreters:
    """Stands for the module `subprocess` in tests: what they start has the backend, too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, command: list[str], *args: Any, **options: Any) -> Any:
        return subprocess.Popen(_with_backend(command), *args, **options)

    def check_subprocess_call(self, command: list[str], *args: Any, **options: Any) -> Any:
        from joblib import testing

        if options.get("stderr_regex") == "LokyProcess":
            # The log of processes names loky's class.
            del options["stderr_regex"]
        return testing.check_subprocess_call(_with_backend(command), *args, **options)


def _with_backend(command: list[str]) -> list[str]:
    if command[1] == "-c":
        return [*command[:2], FIRST + command[2], *command[3:]]
    file = Path(command[1])
    file.write_text(FIRST + file.read_text())
    return command


class Chooser:
    """The plugin of pytest that chooses the tests."""

    def __init__(self, part: int, of: int) -> None:
        self._part, self._of = part, of
        self._backend = install()

    def _is_asked(self, item: Any) -> bool:
        from joblib._parallel_backends import ParallelBackendBase
        from joblib.parallel import BACKENDS

        if item.originalname in EXCLUDED:
            return False
        values = list(item.callspec.params.values()) if hasattr(item, "callspec") else []
        if any(value is self._backend or value == ROLE for value in values if isinstance(value, type | str)):
            return True
        of_others = any(
            isinstance(value, ParallelBackendBase)
            or (isinstance(value, str) and value in (*BACKENDS, "spawn"))
            or hasattr(value, "get_start_method")
            for value in values
        )
        return FILES[item.path.name] and not of_others

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        interpreters = Interpreters()
        for module in {item.module for item in items}:
            if hasattr(module, "check_subprocess_call"):
                module.check_subprocess_call = interpreters.check_subprocess_call
            if hasattr(module, "subprocess"):
                module.subprocess = interpreters
        asked = [item for item in items if self._is_asked(item)]
        assert len(asked) > 250, f"{len(asked)} tests of joblib were found"
        items[:] = asked[self._part :: self._of]
        for item in items:
            if item.originalname == LOKY_FAILS_OTHERS:
                item.callspec.params["error"] = False


def main(part: int, of: int) -> int:
    """Run them; returns the exit status."""
    import joblib.test
    import pytest

    folder = os.path.dirname(joblib.test.__file__)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-W", "ignore", "-c", os.devnull, "-ra"]
    files = [os.path.join(folder, name) for name in FILES]
    return int(pytest.main([*options, "--rootdir", folder, *files], plugins=[Chooser(part, of)]))


if __name__ == "__main__":
    # Started as a module, it is another one than what tests import.
    from tests.exams import joblib_questions

    sys.exit(joblib_questions.main(int(sys.argv[1]), int(sys.argv[2])))
