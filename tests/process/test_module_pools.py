"""Pools that stand in a module: processes that only import it start no workers for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest
from tests.process import scripts

import allcores
from allcores import Limits, Pool, PoolClosed, UsageError
from allcores.transport import module_settings, process_role

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts children in /proc")

#: imported by the program and, for its functions, by the processes that do its work
MODULE = """
import os
import allcores

pool = allcores.Pool(1)
executor = allcores.Executor(1)

def double(number):
    return 2 * number

def started(*_):
    "How many workers the two have started in this process, and its children of whatever kind."
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        children = file.read().split()
    assert pool.closed or repr(pool) == "<allcores.Pool 'pool' processes, 1 workers>", pool
    return [each.statistics().workers_started for each in (pool, executor._pool)], len(children)

def at_preload():
    # A template has a child that watches over it.
    return started()[0]

def before_and_after(preloaded):
    return preloaded, started(), use()

def use():
    "In whichever process, they work when they are used."
    return pool.map(double, [1, 2]), executor.submit(double, 3).result()

def close():
    "What was not used can be closed all the same, and then it starts no more."
    executor.shutdown()
    pool.close()
    try:
        pool.map(double, [1])
    except allcores.PoolClosed:
        return started()
"""

#: where the module is imported in workers and templates of ours
WORKERS = """
import sys
import warnings
import allcores
import work

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # spawned workers load for themselves
    with allcores.Pool(1, preload=work.at_preload, start_method=sys.argv[1]) as pool:
        print(pool.submit(work.before_and_after).result())
    with allcores.Pool(1, start_method=sys.argv[1]) as pool:
        print(pool.submit(work.close).result())
    print(work.started()[0])
"""

#: where it is, or is imported by, the main module, which multiprocessing imports for each of its processes
PROCESSES = """
import multiprocessing
import sys
import work

def show(queue):
    queue.put((work.started(), work.use()))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    process = context.Process(target=show, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    print(process.exitcode, work.started()[0])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(MODULE)
    return tmp_path


@linux
@pytest.mark.parametrize("method", ["template", "spawn"])
def test_in_workers_and_templates(folder: Path, method: str) -> None:
    """Imported for the functions in it, it starts none; used in a worker, it works there."""
    script = folder / "script.py"
    script.write_text(WORKERS)
    with scripts.running([str(script), method], folder=folder) as process:
        ending = scripts.finish(process)
    assert ending.lines == ["([0, 0], ([0, 0], 0), ([2, 4], 6))", "([0, 0], 0)", "[1, 1]"], ending
    assert ending.code == 0


@linux
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_in_processes_of_multiprocessing(folder: Path, method: str) -> None:
    """Whose import of the main module is not a program's own."""
    script = folder / "script.py"
    script.write_text(PROCESSES)
    with scripts.running([str(script), method], folder=folder) as process:
        ending = scripts.finish(process)
    assert ending.lines == ["(([0, 0], 0), ([2, 4], 6))", "0 [1, 1]"], ending
    assert ending.code == 0


@pytest.mark.quick
def test_what_it_says_before_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that may be asked of a pool, without a worker; closed, it takes no work."""
    monkeypatch.setattr(process_role, "_is_worker", True)
    with Pool(3, name="idle") as pool:
        statistics = pool.statistics()
        assert (statistics.workers, statistics.workers_started, statistics.items_done) == (0, 0, 0)
        assert (pool.worker_status(), pool.item_times(), pool.closed, pool.workers) == ([], [], False, 3)
    assert pool.closed
    with pytest.raises(PoolClosed, match="is closed"):
        pool.submit(abs, 1)
    assert pool.statistics().workers_started == 0


def _doubled(number: int) -> int:
    return number * 2


def _of_a_task(number: int) -> list[Any]:
    return [
        allcores.map(_doubled, range(3)),
        list(allcores.imap(_doubled, range(2), workers=2)),
        allcores.submit(_doubled, number).result(),
    ]


@pytest.mark.parametrize("settings", [{"backend": "serial"}, {"backend": "threads", "workers": 2}])
def test_tasks_in_threads_of_the_program_may_call_these_functions(settings: dict[str, Any]) -> None:
    """Their pool may be in the middle of such tasks with all that it has, and what these wait for would never begin."""
    allcores.configure(**settings)
    try:
        expected = [[[0, 2, 4], [0, 2], number * 2] for number in range(9)]
        assert allcores.map(_of_a_task, range(9)) == expected
        assert allcores.map(lambda number: allcores.map(_of_a_task, [number])[0], range(9)) == expected
        assert allcores.map(_doubled, [4]) == [8]
    finally:
        allcores.configure()


def _beside(held: list[int], number: int) -> list[int]:
    return [*held, number]


def _all_beside(held: list[int], number: int) -> list[Any]:
    module: Any = allcores
    return [
        allcores.map(_beside, range(number)),
        list(allcores.imap(_beside, [number], workers=2)),
        module.submit(_beside, number).result(),
        allcores.map(_deeper, [number]),
    ]


def _deeper(held: list[int], number: int) -> list[Any]:
    held[0] += 1
    return allcores.map(_beside, [number])


@pytest.mark.parametrize("word", ["setup", "preload"])
@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_what_they_call_is_given_what_the_worker_began_with(backend: str, word: str) -> None:
    """The very object, as the task itself: nothing is set up once more for what a task calls."""
    made: list[list[int]] = []

    def make() -> list[int]:
        made.append([7])
        return made[-1]

    settings: Any = {"backend": backend, "workers": 1, word: make}
    allcores.configure(**settings)
    try:
        expected = [[[7, 0], [7, 1]], [[7, 2]], [7, 2], [[[8, 2]]]]
        assert allcores.map(_all_beside, [2]) == [expected]
        assert made == [[8]]
    finally:
        allcores.configure()


def _seven(*_: object) -> list[int]:
    return [7]


def _all_plain(_: list[int], number: int) -> list[Any]:
    module: Any = allcores
    return [
        allcores.map(_beside, range(number)),
        list(allcores.imap(_beside, [number], workers=1)),
        module.submit(_beside, number).result(),
        allcores.map(_one_deeper, [number]),
    ]


def _one_deeper(_: list[int], number: int) -> list[Any]:
    return allcores.map(_beside, [number])


@linux
@pytest.mark.filterwarnings("ignore:start_method=:RuntimeWarning")  # says how preload is with "spawn", "fork"
@pytest.mark.parametrize("settings", [{"setup": _seven}, {"preload": _seven}, {"setup": _seven, "preload": _seven}])
@pytest.mark.parametrize("method", ["template", "spawn", "fork"])
def test_what_tasks_call_in_worker_processes_is_given_the_same(method: str, settings: dict[str, Any]) -> None:
    """As in threads of the program, and as with a fork, whose processes have the settings by themselves."""
    allcores.configure(1, start_method=method, **settings)
    try:
        assert allcores.map(_all_plain, [2]) == [[[[7, 0], [7, 1]], [[7, 2]], [7, 2], [[[7, 2]]]]]
        assert module_settings.known == {}, "the program itself has them from configure()"
    finally:
        allcores.configure()


#: imported by the program, and by workers for its function; the observer writes down who it is told by
OBSERVED = """
import os
import sys
import allcores

def told(event):
    with open("told", "a") as file:
        print(os.getpid(), file=file)

allcores.configure(1, observers=[told], start_method=sys.argv[1] if len(sys.argv) > 1 else None)

def inner(number):
    return number

def outer(number):
    return allcores.map(inner, range(number))
"""


@linux
@pytest.mark.parametrize("method", ["template", "spawn", "fork"])
def test_observers_see_the_outer_call_alone(tmp_path: Path, method: str) -> None:
    """Also where a worker has the settings by itself: a bar would be drawn by each of them, for each item."""
    (tmp_path / "observed.py").write_text(OBSERVED)
    script = tmp_path / "script.py"
    script.write_text(
        "import os, allcores, observed\n"
        "if __name__ == '__main__':\n"
        "    print(allcores.map(observed.outer, [2]))\n"
        "    print({int(line) for line in open('told')} == {os.getpid()})\n"
    )
    with scripts.running([str(script), method], folder=tmp_path) as process:
        ending = scripts.finish(process)
    assert ending.lines == ["[[0, 1]]", "True"], ending


class _Holder:
    def __init__(self, *preloaded: list[int]) -> None:
        self.preloaded = preloaded

    def beside(self, number: int) -> list[Any]:
        return allcores.map(_beside, [number])


@linux
@pytest.mark.parametrize("settings", [{"setup": _seven}, {"preload": _seven}])
@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
def test_what_methods_of_actors_call_is_given_the_same(backend: str, settings: dict[str, Any]) -> None:
    allcores.configure(1, backend=backend, **settings)
    try:
        with allcores.actor(_Holder) as holder:
            assert holder.beside(4).result(60) == [[7, 4]]
    finally:
        allcores.configure()


_user: ContextVar[str] = ContextVar("_user", default="nobody")


def _who(_: int) -> str:
    return _user.get()


def _who_below(_: int) -> list[str]:
    return allcores.map(_who, range(1))


@linux
@pytest.mark.parametrize("settings", [{"backend": "serial"}, {"backend": "threads"}, {}])
def test_what_tasks_call_follows_the_same_context_variables(settings: dict[str, Any]) -> None:
    def calls() -> None:
        _user.set("ann")
        assert allcores.map(_who_below, range(2)) == [["ann"], ["ann"]]

    allcores.configure(1, contextvars=[_user], **settings)
    try:
        copy_context().run(calls)
    finally:
        allcores.configure()


def _seven_by_way_of_a_map() -> list[int]:
    return [allcores.map(_doubled, [3])[0] + 1]


@linux
@pytest.mark.parametrize("word", ["setup", "preload"])
def test_what_a_worker_begins_with_may_use_them_itself(word: str) -> None:
    """There is no first argument yet, and it is not called once more in what it calls."""
    settings: Any = {word: _seven_by_way_of_a_map}
    allcores.configure(1, **settings)
    try:
        assert allcores.map(_one_deeper, [2]) == [[[7, 2]]]
    finally:
        allcores.configure()


def _in_a_pool_of_its_own(number: int) -> list[int]:
    return allcores.map(_doubled, [number])


@linux
def test_a_pool_that_a_program_makes_is_none_of_these() -> None:
    """What it is told is for its own maps alone; and a task that tells something itself is heeded."""
    module: Any = allcores
    with Pool(1, setup=_seven) as pool:
        assert pool.map(lambda held, number: _in_a_pool_of_its_own(number), [4]) == [[8]]
    allcores.configure(1, setup=_seven)
    try:
        assert module.map(_told_otherwise, [4]) == [[8]]
    finally:
        allcores.configure()


def _told_otherwise(_: list[int], number: int) -> list[int]:
    allcores.configure(1)
    return allcores.map(_doubled, [number])


def test_what_they_call_has_the_limits_of_configure() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    def some(_: int) -> tuple[int, int]:
        with allcores.imap(_doubled, source()) as stream:
            return next(stream), len(taken)

    allcores.configure(backend="serial", limits=Limits(items_in_flight=3))
    try:
        ((first, count),) = allcores.map(some, [0])
        assert first == 0 and count <= 3
    finally:
        allcores.configure()


def test_a_task_that_waits_for_its_own_pool_is_told() -> None:
    """On one thread nothing else could happen any more."""
    with Pool(backend="serial") as pool:
        with pytest.raises(UsageError, match="its own pool"):
            pool.map(lambda number: pool.map(_doubled, range(3)), range(9))
        assert pool.map(_doubled, range(3)) == [0, 2, 4]


RELOADING = """
import importlib, os, sys
sys.dont_write_bytecode = True
import warnings
import allcores, edited
told = []
warnings.showwarning = lambda message, *_: told.append(str(message)[:21])
warnings.simplefilter("always")

def edit(text):
    with open(edited.__file__, "w") as file:
        file.write(text)
    importlib.reload(edited)

def who(_):
    return os.getpid()

print(allcores.map(edited.work, [1]), allcores.map(who, [0], workers=1) == allcores.map(who, [0], workers=1))
edit("from other import times\\ndef work(number): return times * number\\n")
print(allcores.map(edited.work, [1]), allcores.submit(edited.work, 2).result())
with allcores.actor(list, (1, 2)) as actor:
    actor.append(3).result()
    edit("def work(number): return -number\\n")
    allcores.map(edited.work, [1])
    print(actor.index(3).result())
print(allcores.map(edited.work, [1]))
stream = allcores.imap(abs, range(-3, 0))
print(next(stream))
edit("def work(number): return 0\\n")
allcores.map(edited.work, [1])
print(list(stream), allcores.map(edited.work, [1]))
print(told)
"""


def test_a_module_that_is_loaded_anew(tmp_path: Path) -> None:
    """Workers have imported it as it was: others take their place, once nothing is lost by it."""
    (tmp_path / "edited.py").write_text("def work(number): return number\n")
    (tmp_path / "other.py").write_text("times = 10\n")
    ended = scripts.run(RELOADING, tmp_path)
    assert ended.lines == ["[1] True", "[10] 20", "2", "[-1]", "3", "[2, 1] [0]", str(["The module edited was"] * 2)], (
        ended
    )
