"""The backend "allcores" of joblib, with real workers. joblib's own tests of a backend are run by tests/exams."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.process import joblib_calls as calls
from tests.process import scripts
from tests.process.waiting import PATIENCE_S, wait_until

from allcores import NotPicklable, UsageError, WorkerLost

joblib: Any = pytest.importorskip("joblib")
numpy: Any = pytest.importorskip("numpy")

from allcores.adapters import joblib as adapter  # noqa: E402
from allcores.adapters import joblib_arrays, joblib_calls, joblib_pools  # noqa: E402
from allcores.adapters.joblib_pools import Lease, Wanted  # noqa: E402

Parallel, delayed = joblib.Parallel, joblib.delayed


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The workers stay through one test."""
    before = dict(joblib.parallel.BACKENDS)
    adapter.register()
    with joblib.parallel_config("allcores", n_jobs=2):
        yield
    adapter.close()
    joblib.parallel.BACKENDS.clear()
    joblib.parallel.BACKENDS.update(before)


def test_results_in_order_and_workers_stay() -> None:
    first = set(Parallel()(delayed(calls.pid)() for _ in range(20)))
    assert Parallel()(delayed(calls.double)(i) for i in range(1000)) == [2 * i for i in range(1000)]
    assert Parallel(n_jobs=2)(delayed(calls.fail_at)(i, bad=-1) for i in range(50)) == list(range(50))
    assert set(Parallel()(delayed(calls.pid)() for _ in range(20))) | first == first or len(first) < 2


def test_only_the_registry_of_joblib_changes() -> None:
    modules = joblib, joblib.parallel, joblib._parallel_backends, joblib.pool, joblib.executor, joblib.externals.loky
    joblib.parallel.BACKENDS.pop("allcores")
    before = [dict(vars(module)) for module in modules]
    names = set(joblib.parallel.BACKENDS)
    adapter.register()
    assert Parallel(backend="allcores", n_jobs=2)(delayed(calls.double)(i) for i in range(3)) == [0, 2, 4]
    assert [dict(vars(module)) for module in modules] == before
    assert set(joblib.parallel.BACKENDS) == names | {"allcores"}
    assert joblib.parallel.DEFAULT_BACKEND == "loky"


def test_the_end_of_a_call_is_not_looked_for_every_10_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that takes a millisecond would take ten."""
    clock = SimpleNamespace(time=time.time, sleep=lambda seconds: pytest.fail("joblib looks"))
    monkeypatch.setattr(joblib.parallel, "time", clock)
    # The last ones may be slow to come on a busy machine.
    monkeypatch.setattr(joblib_calls, "LAST_S", PATIENCE_S)
    for count in (0, 1, 5, 3000):
        assert Parallel()(delayed(calls.double)(i) for i in range(count)) == [2 * i for i in range(count)]
    with Parallel() as parallel:
        assert [parallel(delayed(calls.double)(i) for i in [each]) for each in range(3)] == [[0], [2], [4]]
        with pytest.raises(ValueError, match="no 1"):
            parallel(delayed(calls.fail_at)(i, bad=1) for i in range(30))
    with pytest.raises(ZeroDivisionError):
        Parallel()(delayed(calls.double)(1 / (20 - i)) for i in range(30))


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_generators(return_as: str) -> None:
    results = Parallel(return_as=return_as)(delayed(calls.double)(i) for i in range(300))
    assert sorted(results) == [2 * i for i in range(300)]


def test_a_dropped_generator_ends_its_own_tasks_only(tmp_path: Path) -> None:
    marks = [tmp_path / "a", tmp_path / "b"]
    dropped = Parallel(return_as="generator")(delayed(calls.note_and_hang)(str(mark)) for mark in marks)
    until = time.monotonic() + PATIENCE_S
    while not all(mark.exists() for mark in marks):
        assert time.monotonic() < until
        time.sleep(0.005)
    other = Parallel(return_as="generator")(delayed(calls.double)(i) for i in range(20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del dropped
        gc.collect()
    assert list(other) == [2 * i for i in range(20)]


def test_a_worker_that_dies_costs_one_clear_error() -> None:
    with pytest.raises(
        WorkerLost, match=r"task 2 of this call of Parallel, die_at\(2, bad=2\), ended its worker"
    ) as lost:
        Parallel(batch_size=1)(delayed(calls.die_at)(i, bad=2) for i in range(6))
    assert lost.value.signal == "SIGKILL"
    assert "a batch of joblib's tasks" in str(lost.value), "and not the function of ours that runs them"
    assert isinstance(lost.value, joblib.externals.loky.process_executor.TerminatedWorkerError)
    with pytest.raises(
        WorkerLost, match=r"one of the tasks 0 to 7 of this call of Parallel, die_at\(0, bad=5\) to die_at"
    ):
        Parallel(batch_size=8, pre_dispatch="all")(delayed(calls.die_at)(i, bad=5) for i in range(16))
    assert Parallel()(delayed(calls.double)(i) for i in range(4)) == [0, 2, 4, 6]


def test_what_a_task_raises_is_raised_and_numbered() -> None:
    with pytest.raises(ValueError, match="no 5") as raised:
        Parallel(batch_size=4, pre_dispatch="all")(delayed(calls.fail_at)(i, 5) for i in range(8))
    assert "allcores: it was task 5 of the call of Parallel" in raised.value.__notes__
    with pytest.raises(calls.DoesNotUnpickle):
        Parallel()(delayed(calls.raise_odd)() for _ in range(3))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_would_end_the_program_tells_where_a_task_has_raised_it(kind: type[BaseException]) -> None:
    """It is raised as joblib raises it, from the worker's own lines."""
    with pytest.raises(kind, match="3") as raised:
        Parallel()(delayed(calls.leave)(kind) for _ in range(2))
    assert "# here it is left" in "".join(traceback.format_exception(raised.value))


def test_a_time_limit_ends_the_call_and_what_runs() -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.2)(delayed(calls.hang)() for _ in range(4))
    assert Parallel()(delayed(calls.double)(i) for i in range(4)) == [0, 2, 4, 6]


def test_large_arrays_are_shared_and_read_only() -> None:
    array = numpy.arange(500_000.0)
    total = float(array.sum())
    assert Parallel()(delayed(calls.look)(array) for _ in range(3)) == [("memmap", False, total)] * 3
    with pytest.raises(ValueError, match="read-only"):
        Parallel()(delayed(calls.add_one)(array, 0) for _ in range(2))
    assert Parallel(max_nbytes=None)(delayed(calls.look)(array) for _ in range(2)) == [("ndarray", True, total)] * 2
    [result, _] = Parallel()(delayed(calls.part)(array) for _ in range(2))
    assert type(result) is numpy.ndarray and list(result) == [2, 3, 4]
    fortran = numpy.asfortranarray(array.reshape(1000, 500))
    for each in (fortran, fortran[::2], fortran.T, fortran[:0]):
        assert Parallel(max_nbytes=1)(delayed(calls.look)(each) for _ in range(2))[0][2] == float(each.sum())


def test_the_copy_of_an_array_is_laid_out_like_it(tmp_path: Path) -> None:
    array = numpy.arange(60.0).reshape(3, 4, 5)
    place = joblib_arrays.InFolder(str(tmp_path))
    for each in (array, numpy.asfortranarray(array), array[:, ::2], array.astype("M8[s]"), array.astype("i4,f8")):
        shared = joblib_arrays.SharedFile(each, place)
        found = joblib_arrays.open_file(shared.path, each.dtype, "r", 0, each.shape, shared.order, None)
        assert numpy.array_equal(found, each)
        assert found.flags.f_contiguous == (each.flags.f_contiguous and not each.flags.c_contiguous)
        del found, shared
    place.close()


def test_shared_arrays_can_be_written_to_where_that_is_asked_for() -> None:
    array = numpy.zeros(1000)
    assert sorted(Parallel(max_nbytes=1, mmap_mode="r+")(delayed(calls.add_one)(array, 0) for _ in range(4))) == [
        1,
        2,
        3,
        4,
    ]
    assert Parallel(max_nbytes=1, mmap_mode="c")(delayed(calls.add_one)(array, 0) for _ in range(4)) == [1, 1, 1, 1]
    assert array[0] == 0


def test_files_that_are_mapped_stay_files(tmp_path: Path) -> None:
    mapped = numpy.memmap(tmp_path / "numbers", float, "w+", 0, (100, 4))
    Parallel()(delayed(calls.add_one_to_row)(mapped[::2, 1:3], row) for row in range(50))
    assert mapped.sum() == 100


@pytest.mark.parametrize("options", [{"timeout": 3}, {"no_such": 1}])
def test_what_is_no_option_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        joblib.parallel_config("allcores", **options)


def test_options_of_workers() -> None:
    with joblib.parallel_config(
        "allcores", n_jobs=2, inner_max_num_threads=3, initializer=calls.prepare, initargs=(7,)
    ):
        assert Parallel()(delayed(calls.environment)("OMP_NUM_THREADS") for _ in range(2)) == [["3"], ["3"]]
        assert Parallel()(delayed(calls.prepared)() for _ in range(2)) == [[7], [7]]


def test_limits_of_threads_stay_when_the_environment_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers follow the program's environment, but for what was asked for."""
    with joblib.parallel_config("allcores", n_jobs=2, inner_max_num_threads=3):
        for value in ("1", "2"):
            monkeypatch.setenv("OMP_NUM_THREADS", value)
            monkeypatch.setenv("ALLCORES_TEST_OF_JOBLIB", value)
            assert Parallel()(delayed(calls.environment)("OMP_NUM_THREADS") for _ in range(2)) == [["3"], ["3"]]
            found = Parallel()(delayed(calls.environment)("ALLCORES_TEST_OF_JOBLIB") for _ in range(2))
            assert found == [[value], [value]]


def test_idle_workers_end() -> None:
    with joblib.parallel_config("allcores", n_jobs=2, idle_worker_timeout=0.05):
        first = Parallel()(delayed(calls.pid)() for _ in range(2))
        until = time.monotonic() + PATIENCE_S
        while any(Path(f"/proc/{each}").exists() for each in first):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert not set(Parallel()(delayed(calls.pid)() for _ in range(2))) & set(first)


def test_a_call_after_one_that_failed_has_its_own_results_only() -> None:
    """joblib keeps what the first one has read and not handed over; with its default backend that comes first."""
    with Parallel(pre_dispatch=1, batch_size=1) as parallel:
        # Behind the first task two are read at a time: the second one fails, and the third one is there.
        with pytest.raises(ValueError, match="no 1"):
            parallel(delayed(calls.fail_at)(i, bad=1) for i in range(30))
        assert parallel(delayed(calls.double)(i) for i in range(2)) == [0, 2]


def test_an_array_that_is_changed_in_a_block_is_as_it_was_first_given() -> None:
    """As with joblib's own backends, and as the page on joblib says; a new one is the way out."""
    array = numpy.zeros(300_000)
    with Parallel() as parallel:
        assert [float(each[0]) for each in parallel(delayed(calls.double)(array) for _ in range(2))] == [0.0, 0.0]
        array[:] = 1
        assert [float(each[0]) for each in parallel(delayed(calls.double)(array) for _ in range(2))] == [0.0, 0.0]
        assert [float(each[0]) for each in parallel(delayed(calls.double)(array.copy()) for _ in range(2))] == [
            2.0,
            2.0,
        ]


def test_idle_workers_end_after_a_call_of_their_block_has_failed() -> None:
    """The calls that follow in the block have them, and then nobody."""
    with joblib.parallel_config("allcores", n_jobs=2, idle_worker_timeout=0.05):
        with Parallel() as parallel:
            for _ in range(2):
                with pytest.raises(ValueError, match="no 1"):
                    parallel(delayed(calls.fail_at)(i, bad=1) for i in range(30))
            last = parallel(delayed(calls.pid)() for _ in range(2))
        wait_until(lambda: not any(Path(f"/proc/{each}").exists() for each in last))


def test_a_pool_that_another_call_ends_as_it_falls_idle_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread with other options comes between what is noted of its timer and the timer's start."""
    first = Lease(Wanted(1, {}, None, {}), 300.0)
    guard, others = joblib_pools._lock, []

    class Handing:
        """The lock; once it is free again, another thread has its turn."""

        def __enter__(self) -> None:
            guard.__enter__()

        def __exit__(self, *given: Any) -> None:
            guard.__exit__(*given)
            monkeypatch.setattr(joblib_pools, "_lock", guard)
            thread = threading.Thread(target=lambda: others.append(Lease(Wanted(2, {}, None, {}), 300.0)))
            thread.start()
            thread.join(PATIENCE_S)

    monkeypatch.setattr(joblib_pools, "_lock", Handing())
    first.close()
    assert first.pool.closed
    others[0].close()
    joblib_pools.close()


def test_filters_of_warnings_reach_workers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(UserWarning, match="a word"):
            Parallel()(delayed(calls.warn)() for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert Parallel()(delayed(calls.warn)() for _ in range(2)) == ["warned"] * 2


@pytest.mark.parametrize("backend", [None, "allcores", "threading"])
def test_calls_in_calls(backend: str | None) -> None:
    assert Parallel()(delayed(calls.inner)(3, backend) for _ in range(3)) == [[0, 2, 4]] * 3


def test_an_input_that_makes_calls_of_its_own() -> None:
    """joblib reads the input where results are told of: the pool must go on meanwhile."""

    def tasks() -> Iterator[Any]:
        for i in range(12):
            [value] = Parallel(n_jobs=2)(delayed(calls.double)(i) for _ in range(1))
            yield delayed(calls.double)(value)

    assert Parallel()(tasks()) == [4 * i for i in range(12)]


def test_calls_in_threads_share_the_workers() -> None:
    found: dict[int, set[int]] = {}

    def work(number: int) -> None:
        with joblib.parallel_config("allcores", n_jobs=2):
            found[number] = set(Parallel()(delayed(calls.pid)(i) for i in range(60)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(found) == 4
    assert len(set().union(*found.values())) <= 2


def test_one_parallel_object_many_times() -> None:
    with Parallel() as parallel:
        for n in range(5):
            assert parallel(delayed(calls.double)(i) for i in range(n)) == [2 * i for i in range(n)]


def test_large_results() -> None:
    sizes = [numpy.ones(3_000_000) for _ in range(1)]
    results = Parallel()(delayed(calls.double)(sizes[0]) for _ in range(3))
    assert [float(each.sum()) for each in results] == [6_000_000.0] * 3


def test_programs_of_scikit_learn_have_the_same_results_and_its_configuration() -> None:
    """In one test, with the same workers: each imports scikit-learn, for more than a second."""
    sklearn: Any = pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier, VotingClassifier
    from sklearn.inspection import permutation_importance
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score

    matrix, classes = make_classification(120, 6, random_state=0)
    linear = LogisticRegression()

    def results(n_jobs: int | None) -> list[Any]:
        # A forest that has workers of its own, within a search that has.
        forest = RandomForestClassifier(3, random_state=0, n_jobs=n_jobs)
        search = GridSearchCV(forest, {"max_depth": [1, 3]}, cv=2, n_jobs=n_jobs).fit(matrix, classes)
        voting = VotingClassifier([("linear", linear), ("forest", forest)], n_jobs=n_jobs).fit(matrix, classes)
        fitted = LogisticRegression().fit(matrix, classes)
        importance = permutation_importance(fitted, matrix, classes, n_repeats=2, random_state=0, n_jobs=n_jobs)
        return [
            list(search.cv_results_["mean_test_score"]),
            list(cross_val_score(linear, matrix, classes, cv=3, n_jobs=n_jobs)),
            list(cross_val_predict(linear, matrix, classes, cv=3, n_jobs=n_jobs)),
            list(voting.predict(matrix)),
            list(importance.importances_mean),
        ]

    assert results(2) == results(1)

    # What is configured where a call begins reaches its workers, also those of a generator that is read later.
    with sklearn.config_context(assume_finite=True):
        assert Parallel()(delayed(calls.settings)() for _ in range(4)) == [True] * 4
        held = Parallel(return_as="generator")(delayed(calls.settings)() for _ in range(40))
    assert list(held) == [True] * 40
    assert Parallel()(delayed(calls.settings)() for _ in range(4)) == [False] * 4


def test_ctrl_c_ends_the_call_and_the_next_one_works() -> None:
    def interrupt() -> Iterator[Any]:
        for _ in range(2):
            yield delayed(calls.hang)()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Parallel(pre_dispatch="all", batch_size=1)(interrupt())
    assert Parallel()(delayed(calls.double)(i) for i in range(4)) == [0, 2, 4, 6]


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(NotPicklable, match=r"Task 1 of this call of Parallel, double\(<lock>\), cannot be pickled"):
        Parallel(batch_size=2, pre_dispatch="all")(delayed(calls.double)(each) for each in (1, threading.Lock()))


def test_arrays_in_a_folder_are_gone_after_the_call(tmp_path: Path) -> None:
    array = numpy.ones(1000)
    with Parallel(max_nbytes=1, temp_folder=str(tmp_path)) as parallel:
        assert parallel(delayed(calls.look)(array) for _ in range(2)) == [("memmap", False, 1000.0)] * 2
        [part, _] = parallel(delayed(calls.part)(array) for _ in range(2))
        assert type(part) is numpy.ndarray
        assert len(list(tmp_path.rglob("*"))) == 2
    assert list(tmp_path.iterdir()) == []


AMID_A_GENERATOR = """
import time
import warnings
import joblib
from allcores.adapters import joblib as adapter

adapter.register()
results = joblib.Parallel(n_jobs=2, backend="allcores", return_as="generator")(
    joblib.delayed(time.sleep)(0 if i < 1 else 1000) for i in range(9)
)
next(results)
warnings.simplefilter("ignore")  # joblib says what was cancelled
print("leaving")
"""


def test_a_program_may_end_amid_a_generator(tmp_path: Path) -> None:
    ended = scripts.run(AMID_A_GENERATOR, tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out == "leaving\n"
    assert "Traceback" not in ended.err


def test_a_call_that_cannot_begin_ends_what_it_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread, and its hold on the workers: the block of calls goes on, with the same backend."""
    begun: list[threading.Thread] = []
    make = joblib_calls.Calls.__init__

    def noting(self: Any, active: Any) -> None:
        make(self, active)
        begun.append(self._thread)

    monkeypatch.setattr(joblib_calls.Calls, "__init__", noting)
    (tmp_path / "file").touch()
    for _ in range(2):
        with pytest.raises(OSError, match="file"):
            Parallel(temp_folder=str(tmp_path / "file" / "folder"))(delayed(calls.double)(i) for i in range(3))
    assert len(begun) == 2
    for thread in begun:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert Parallel()(delayed(calls.double)(i) for i in range(3)) == [0, 2, 4]


@pytest.mark.parametrize("kind", ["list", "generator", "generator_unordered"])
def test_a_call_whose_progress_cannot_be_told_says_so(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """What joblib does not hand over for that, nobody would: the call would wait for it."""
    monkeypatch.setattr(joblib.parallel.Parallel, "print_progress", _cannot_print)
    with pytest.raises(OSError, match="no more lines"):
        list(Parallel(return_as=kind, verbose=1)(delayed(calls.double)(i) for i in range(1000)))
    monkeypatch.undo()
    assert Parallel()(delayed(calls.double)(i) for i in range(3)) == [0, 2, 4]


def _cannot_print(_: object) -> None:
    raise OSError("no more lines")


def test_an_input_that_wants_to_end_the_program_ends_the_call() -> None:
    """SystemExit and the like joblib does not expect of it: the call returned what had come until then, or waited."""

    def items() -> Iterator[Any]:
        for i in range(100):
            yield delayed(calls.double)(i)
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        Parallel(pre_dispatch=2)(items())


def _refuse(_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_an_idle_pool_ends_though_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing would end it later."""
    lease = Lease(Wanted(2, {}, None, {}), 300.0)
    monkeypatch.setattr(threading.Timer, "start", _refuse)
    lease.close()
    assert lease.pool.closed


def test_an_idle_pool_that_was_used_again_needs_no_other_thread_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is up later than the thread that looks after it was told."""
    first = Lease(Wanted(2, {}, None, {}), 0.1)
    first.close()
    monkeypatch.setattr(threading.Timer, "start", _refuse)
    again = Lease(Wanted(2, {}, None, {}), 1.0)
    again.close()
    wait_until(lambda: first.pool.closed and again.pool.closed)


def test_a_call_that_gets_no_thread_gives_its_pool_back(monkeypatch: pytest.MonkeyPatch) -> None:
    Parallel()(delayed(calls.double)(i) for i in range(3))
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="start new thread"):
        patched.setattr(threading.Thread, "start", _refuse)
        Parallel()(delayed(calls.double)(i) for i in range(3))
    assert [warm.users for warm in joblib_pools._pools] == [0]
    assert Parallel()(delayed(calls.double)(i) for i in range(3)) == [0, 2, 4]
