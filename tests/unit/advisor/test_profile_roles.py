"""advisor/profiling/occupation.py: what a process is, told by what its sampler has written."""

from __future__ import annotations

import pytest

from allcores.advisor.profiling.occupation import of_process
from allcores.advisor.profiling.records import Code, Place, ProcessRecord, Stack

LIBRARIES = "/usr/lib/python3.13/"


def record(arguments: list[str], files: list[str], seen: list[Code] | None = None) -> ProcessRecord:
    """Of a process that computed for a second, whose stack has these files, the innermost first.

    Args:
        arguments: Its command line.
        files: Of the frames that are kept.
        seen: Codes of frames that are not.
    """
    places = tuple(Place(Code(file, 1, "f", "site-packages" not in file and "/lib/" not in file), 1) for file in files)
    stack = Stack(places, True, 100, 1.0, 1.0, 0.0, 1.0, 100, 0, 0, 0.0, own_wall=1.0)
    found = ProcessRecord(2, 1, (3, 13), arguments, 0.0, 1.0, 1.0, 100, 0.0, 0.01, 0, 0.0)
    found.stacks.append(stack)
    found.codes = (*(place.code for place in places), *(seen or ()))
    return found


@pytest.mark.parametrize(
    ("arguments", "files", "role"),
    [
        # Of the frames of libraries between a task and the end of the stack, none is kept that is of the worker's loop.
        (
            ["-m", "joblib.externals.loky.backend.popen_loky_posix", "--process-name", "LokyProcess-1"],
            ["/home/a/program.py", "site-packages/joblib/parallel.py", "<frozen runpy>"],
            "worker of joblib",
        ),
        ([], ["/home/a/program.py", LIBRARIES + "multiprocessing/pool.py", "<string>"], "worker of Pool"),
        ([], ["/home/a/program.py", LIBRARIES + "concurrent/futures/process.py"], "worker of ProcessPoolExecutor"),
        ([], ["/home/a/program.py", "site-packages/allcores/worker/chunk_runner.py"], "worker of allcores"),
        (["child.py"], ["/home/a/child.py"], "child"),
    ],
)
def test_a_worker_is_known_also_by_samples_of_its_task_alone(arguments: list[str], files: list[str], role: str) -> None:
    found = of_process(record(arguments, files), root=False)
    assert found.role == role
    assert found.kinds["computing"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("file", "role"),
    [
        ("multiprocessing/pool.py", "worker of Pool"),
        ("concurrent/futures/process.py", "worker of ProcessPoolExecutor"),
        ("site-packages/joblib/externals/loky/process_executor.py", "worker of joblib"),
    ],
)
def test_a_worker_is_known_though_no_stack_has_kept_its_loop(file: str, role: str) -> None:
    """One that pickles all the time: of a library's frames the outermost and the innermost are kept."""
    kept = [LIBRARIES + "multiprocessing/connection.py", LIBRARIES + "multiprocessing/context.py"]
    loop = Code(LIBRARIES + file, 1, "worker", False)
    assert of_process(record([], kept, [loop]), root=False).role == role


def test_who_imports_a_module_is_no_worker_of_it() -> None:
    imported = Code(LIBRARIES + "concurrent/futures/process.py", 1, "<module>", False)
    loop = Code(LIBRARIES + "multiprocessing/pool.py", 1, "worker", False)
    assert of_process(record([], ["/home/a/program.py"], [imported, loop]), root=False).role == "worker of Pool"
