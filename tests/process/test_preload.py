"""`preload=` runs once for all workers, and they share what it returned. When it fails, that is said once."""

from __future__ import annotations

import functools
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from tests.process import preloads, scripts
from tests.process.waiting import Bell, Watcher, lines, wait_full_strength, wait_gone

from allcores import Kind, Limits, NotPicklable, Pool, PoolClosed, SetupError, UsageError
from allcores.backends.processes.exits import MOST_TEMPLATES
from allcores.events import WorkerEnded

METHODS = ("template", "fork", "spawn")

pytestmark = [
    pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:start_method='spawn':RuntimeWarning"),
]


@pytest.fixture
def book(tmp_path: Path) -> str:
    return str(tmp_path / "book")


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with Bell(tmp_path / "bell") as bell:
        yield bell


class TestShared:
    @pytest.mark.parametrize("method", METHODS)
    def test_it_runs_once_for_all_workers(self, method: str, book: str) -> None:
        """But where there is no memory in common."""
        watcher = Watcher()
        with Pool(3, preload=preloads.load, preload_args=(book,), start_method=method, observers=[watcher]) as pool:
            wait_full_strength(pool, watcher)
            found = pool.map(preloads.who, range(50), chunk=1)
        loaders = {int(line) for line in lines(book)}
        assert {loader for loader, _ in found} <= loaders
        if method == "spawn":
            assert len(loaders) == 3 and all(loader == user for loader, user in found)
        else:
            assert len(lines(book)) == 1 and all(loader != user for loader, user in found)
            assert (os.getpid() in loaders) == (method == "fork")

    @pytest.mark.quick
    def test_a_worker_that_replaces_a_lost_one_has_it_already(self, book: str) -> None:
        with Pool(1, preload=preloads.load, preload_args=(book,)) as pool:
            found = list(pool.outcomes(preloads.commit, [None, "exit_at_once", None, "segfault", None]))
        assert [outcome.kind for outcome in found] == [
            Kind.OK, Kind.WORKER_LOST, Kind.OK, Kind.WORKER_LOST, Kind.OK,
        ]  # fmt: skip
        assert len({outcome.value[1] for outcome in found if outcome.value is not None}) > 1
        assert len(lines(book)) == 1

    @pytest.mark.parametrize("method", METHODS)
    def test_with_setup_too(self, method: str, book: str) -> None:
        """setup gets it first, in each worker, and what setup returns goes to the function; also to teardown."""
        options: dict[str, Any] = {"setup": preloads.extend, "setup_args": ("more",), "teardown": preloads.who}
        with Pool(2, preload=preloads.load, preload_args=(book,), start_method=method, **options) as pool:
            for loader, word, made_by, user in pool.map(preloads.extended, range(10)):
                assert (str(loader) in lines(book), word, made_by) == (True, "more", user)

    def test_the_module_of_setup_is_shared_too(self) -> None:
        """It is imported once, where the model is."""
        with Pool(2, preload=os.getpid, setup=preloads.get_ready) as pool:
            assert all(loader == importer for loader, importer in pool.map(preloads.who_imported, range(10)))

    def test_a_lambda_of_main_and_one_that_returns_nothing(self) -> None:
        with Pool(1, preload=preloads.leave_something) as pool:
            assert pool.map(preloads.count_left, [1]) == [1]
        with Pool(1, preload=lambda: [1, 2]) as pool:
            assert pool.map(lambda model, n: model[n], [0, 1]) == [1, 2]

    def test_large_arguments_arrive(self) -> None:
        """Larger than any pipe: the pool is made without waiting for the template to read them."""
        with Pool(1, preload=lambda data: len(data), preload_args=(bytes(50_000_000),)) as pool:
            assert pool.map(lambda size, item: size + item, [1]) == [50_000_001]

    def test_a_template_that_is_killed_is_started_anew(self, book: str) -> None:
        watcher = Watcher()
        with Pool(2, preload=preloads.load, preload_args=(book,), observers=[watcher]) as pool:
            wait_full_strength(pool, watcher)
            (first,) = {loader for loader, _ in pool.map(preloads.who, range(10))}
            os.kill(first, signal.SIGKILL)
            watcher.wait_until(lambda: len(watcher.of(WorkerEnded)) == 2)
            (second,) = {loader for loader, _ in pool.map(preloads.who, range(10))}
        assert lines(book) == [str(first), str(second)]

    @pytest.mark.parametrize("function", ["use_asyncio", "fork_and_return", "close_everything"])
    def test_one_that_meddles_with_its_process(self, function: str, book: str) -> None:
        """Signals, copies, descriptors: workers are still forked and reaped, and a SIGTERM ends none."""
        with Pool(2, preload=getattr(preloads, function), preload_args=(book,)) as pool:
            found = list(pool.outcomes(preloads.commit, [None, "exit_at_once", None]))
            assert [outcome.kind for outcome in found] == [Kind.OK, Kind.WORKER_LOST, Kind.OK]
            assert found[0].value is not None
            os.kill(found[0].value[0], signal.SIGTERM)
            found = list(pool.outcomes(preloads.commit, [None, "exit_at_once", None]))
            assert [outcome.kind for outcome in found] == [Kind.OK, Kind.WORKER_LOST, Kind.OK]
        assert len({outcome.value[0] for outcome in found if outcome.value is not None}) == 1

    def test_what_it_prints_appears_once(self, tmp_path: Path) -> None:
        """Into a file, where the stream keeps it back: no worker has a copy to write again."""
        script = tmp_path / "script.py"
        script.write_text(
            "import allcores\n"
            "from tests.process import preloads\n"
            "with allcores.Pool(3, preload=preloads.speak, preload_args=('hello',)) as pool:\n"
            "    pool.map(preloads.who, range(20), chunk=1)\n"
        )
        with open(tmp_path / "out", "wb") as out, scripts.running([str(script)], folder=tmp_path) as process:
            assert process.stdout is not None
            out.write(process.stdout.read())
            process.wait()
        assert (tmp_path / "out").read_text() == "hello\n"

    def test_a_folder_it_goes_to_is_the_workers_folder(self, tmp_path: Path) -> None:
        with Pool(1, preload=preloads.wander, preload_args=(str(tmp_path),)) as pool:
            assert pool.map(preloads.where, [1]) == [str(tmp_path)]

    @pytest.mark.parametrize("method", ["template", "fork"])
    def test_random_numbers_differ_between_workers(self, method: str) -> None:
        """Copies of one process would all draw the same."""
        pytest.importorskip("numpy")
        watcher = Watcher()
        with Pool(3, preload=preloads.load_numbers, start_method=method, observers=[watcher]) as pool:
            wait_full_strength(pool, watcher)
            found = pool.map(preloads.random_numbers, range(30), chunk=1)
        assert len({number for _, number, _ in found}) == 30
        assert len({number for _, _, number in found}) == 30

    def test_nor_do_copies_of_the_program_draw_the_same(self) -> None:
        """Which has drawn before, preloads nothing, and may be drawing at that moment."""
        numpy = pytest.importorskip("numpy")
        preloads.random_numbers(None)
        watcher = Watcher()
        with numpy.random.get_bit_generator().lock, Pool(3, start_method="fork", observers=[watcher]) as pool:
            wait_full_strength(pool, watcher)
            found = pool.map(preloads.random_numbers, range(30), chunk=1)
        assert len({number for _, number, _ in found}) == 30
        assert len({number for _, _, number in found}) == 30


class TestThreads:
    """A process with threads must not be forked: each worker loads for itself, and that is said once."""

    def test_each_worker_loads_for_itself(self, book: str) -> None:
        watcher = Watcher()
        with pytest.warns(RuntimeWarning, match="preload= left the Python thread 'keeper' running") as caught:
            with Pool(2, preload=preloads.start_a_thread, preload_args=(book,), observers=[watcher]) as pool:
                wait_full_strength(pool, watcher)
                found = list(pool.outcomes(preloads.commit, [None] * 20 + ["exit_at_once"] + [None] * 20, chunk=1))
                wait_full_strength(pool, watcher)
        assert len(caught) == 1
        assert "setup= instead of preload=" in str(caught[0].message)
        assert [outcome.kind for outcome in found].count(Kind.OK) == 40
        assert all(outcome.value[0] == outcome.value[1] for outcome in found if outcome.value is not None)
        # The template, two workers, and the one that replaced one of them.
        assert len(set(lines(book))) == 4

    @pytest.mark.filterwarnings("ignore:preload= left:RuntimeWarning")
    def test_a_worker_whose_own_preload_fails(self, tmp_path: Path, book: str) -> None:
        arguments = (book, str(tmp_path / "template"))
        with Pool(2, preload=preloads.start_a_thread_then_raise, preload_args=arguments) as pool:
            with pytest.raises(
                SetupError, match=r"The preload function raised FileNotFoundError: model\.bin"
            ) as caught:
                pool.map(preloads.who, [1])
        assert "in missing" in str(caught.value.__cause__.__cause__)  # type: ignore[union-attr]

    def test_where_warnings_are_errors_the_pool_works(self, book: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Pool(1, preload=preloads.start_a_thread, preload_args=(book,)) as pool:
                assert len(pool.map(preloads.who, [1, 2])) == 2

    def test_threads_that_end_at_a_fork_do_no_harm(self) -> None:
        """OpenBLAS ends its threads before each fork and starts them again: no reason to give up sharing."""
        pytest.importorskip("numpy")
        with Pool(2, preload=preloads.start_native_threads) as pool:
            assert pool.map(preloads.multiply, [1.0, 2.0]) == [300.0, 600.0]
            assert all(loader != user for loader, user in pool.map(preloads.who, range(10)))
            assert pool.map(preloads.multiply, [1.0, 2.0]) == [300.0, 600.0]

    def test_threads_of_an_allocator_that_is_ready_for_a_fork_do_no_harm(self) -> None:
        """Arrow brings jemalloc's, and so do pandas and scikit-learn."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Pool(2, preload=preloads.start_a_thread_named, preload_args=("jemalloc_bg_thd",)) as pool:
                assert all(loader != user for loader, user in pool.map(preloads.who, range(10)))
        with pytest.warns(RuntimeWarning, match="preload= left"):
            with Pool(1, preload=preloads.start_a_thread_named, preload_args=("jemalloc_other",)) as pool:
                assert all(loader == user for loader, user in pool.map(preloads.who, range(2)))

    def test_what_pandas_loads_is_there_once(self) -> None:
        pytest.importorskip("pandas")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Pool(2, preload_modules=["pandas"]) as pool:
                assert all(pool.map(preloads.has_loaded, ["pandas"] * 4))

    def test_spawn_warns_once_that_it_shares_nothing(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with Pool(2, preload=os.getpid, start_method="spawn") as pool:
                assert len(pool.map(max, [1, 2])) == 2
        (warning,) = caught
        assert "preload= runs in each worker" in str(warning.message)
        assert warning.filename == __file__


class TestFailures:
    @pytest.mark.parametrize("method", METHODS)
    def test_one_that_raises_is_reported_with_its_traceback(self, method: str, book: str) -> None:
        with Pool(1, preload=preloads.note_and_raise, preload_args=(book,), start_method=method) as pool:
            with pytest.raises(
                SetupError, match=r"The preload function raised FileNotFoundError: model\.bin"
            ) as caught:
                pool.map(abs, [1, 2])
            cause = caught.value.__cause__
            assert isinstance(cause, FileNotFoundError)
            if method != "fork":  # there it is the exception itself
                assert "in note_and_raise" in str(cause.__cause__) and "in missing" in str(cause.__cause__)
                assert "in load" not in str(cause.__cause__)
            # It is remembered: nothing is tried again.
            for _ in range(3):
                with pytest.raises(SetupError, match=r"model\.bin"):
                    pool.submit(abs, 1).result(timeout=120)
        assert lines(book) == ["preload"]

    @pytest.mark.parametrize(
        ("crime", "sign"),
        [
            ("exit_at_once", "code 3"),
            ("exit_at_once_with_success", "code 0"),
            ("segfault", "killed by SIGSEGV .* at string_at"),
        ],
    )
    def test_one_that_ends_its_process(self, crime: str, sign: str, book: str) -> None:
        with Pool(2, preload=preloads.note_and_commit, preload_args=(book, crime)) as pool:
            with pytest.raises(SetupError, match=sign) as caught:
                pool.map(abs, [1, 2])
            assert "while running preload" in str(caught.value)
            with pytest.raises(SetupError, match=sign):
                pool.map(abs, [1, 2])
        assert lines(book) == ["preload"]

    @pytest.mark.parametrize("ender", [SystemExit, KeyboardInterrupt])
    def test_one_that_raises_what_would_end_the_caller(self, ender: type[BaseException]) -> None:
        with Pool(1, preload=preloads.raise_it, preload_args=(ender,)) as pool:
            with pytest.raises(SetupError, match=ender.__name__):
                pool.map(abs, [1])

    @pytest.mark.parametrize("crime", ["kill_itself", "kill_its_group"])
    def test_one_that_kills_its_process(self, crime: str, book: str) -> None:
        """It may have been somebody else: it is tried some times more."""
        with Pool(2, preload=preloads.note_and_commit, preload_args=(book, crime)) as pool:
            with pytest.raises(SetupError, match="killed by SIGKILL while running preload"):
                pool.map(abs, [1, 2])
        assert lines(book) == ["preload"] * MOST_TEMPLATES

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda each: each.name)
    def test_one_that_is_struck_by_somebody_else(
        self, number: signal.Signals, bell: Bell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another template loads, and the work goes on. SIGTERM alone ends no template."""
        monkeypatch.setattr("allcores.scheduler.workers.STOPPED_NS", 50_000_000)
        preload = functools.partial(preloads.spin_once, bell.path, str(tmp_path / "flag"))
        with Pool(1, preload=preload) as pool:
            stream = pool.imap(preloads.second, [1])
            pid = bell.pids()[0]
            os.kill(pid, number)
            if number == signal.SIGTERM:
                os.kill(pid, signal.SIGKILL)
            assert list(stream) == [1]

    @pytest.mark.parametrize("hang", ["catch_everything", "hold_the_interpreter"])
    def test_one_that_hangs_is_ended(self, hang: str, bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("allcores.scheduler.workers.STOPPED_NS", 20_000_000)
        with Pool(2, preload=preloads.ring_and_commit, preload_args=(bell.path, hang)) as pool:
            pids = bell.pids()
            pool._driver.scheduler.state.limits = Limits(setup_s=0.01)
            with pytest.raises(SetupError, match=r"preload function was not done after 0\.01 s"):
                pool.map(abs, [1])
            wait_gone(pids)

    @pytest.mark.parametrize("hang", ["catch_everything", "hold_the_interpreter", "stop_itself"])
    def test_closing_does_not_wait_for_it(self, hang: str, bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("allcores.backends.processes.launchers.TEMPLATE_END_S", 1000.0)
        pool = Pool(2, preload=preloads.ring_and_commit, preload_args=(bell.path, hang))
        pids = bell.pids()
        stream = pool.imap(abs, [1])
        pool.close()
        wait_gone(pids, 0)
        with pytest.raises(PoolClosed):
            next(stream)

    def test_one_that_fails_when_the_template_is_replaced(self, book: str, tmp_path: Path) -> None:
        """Once it went well, the second time it does not: said once, no loop."""
        watcher = Watcher()
        flag = tmp_path / "flag"

        def load() -> int:
            flag.touch(exist_ok=False)
            return os.getpid()

        with Pool(2, preload=load, observers=[watcher]) as pool:
            wait_full_strength(pool, watcher)
            (template, _) = pool.map(lambda model, item: model, [1, 2])
            os.kill(template, signal.SIGKILL)
            watcher.wait_until(lambda: len(watcher.of(WorkerEnded)) == 2)
            with pytest.raises(SetupError, match="FileExistsError"):
                pool.map(lambda model, item: model, [1, 2])

    @pytest.mark.parametrize(
        "options",
        [{"preload": abs, "preload_args": (Lock(),)}, {"preload": functools.partial(print, Lock())}],
        ids=["argument", "function"],
    )
    def test_one_that_cannot_travel_is_refused_at_once(self, options: dict[str, Any]) -> None:
        with pytest.raises(NotPicklable, match="preload"):
            Pool(1, **options)
        # With fork it need not travel.
        with Pool(1, preload=lambda lock: lock, preload_args=(Lock(),), start_method="fork") as pool:
            assert pool.map(lambda lock, item: lock.locked(), [1]) == [False]

    def test_one_that_is_no_function(self) -> None:
        with pytest.raises(UsageError, match=r"preload='model\.bin' cannot be called"):
            Pool(1, preload="model.bin")  # type: ignore[arg-type]

    def test_ctrl_c_while_it_loads_here_leaves_nothing(self) -> None:
        """With fork it runs on the thread that makes the pool: there Ctrl-C arrives."""
        with pytest.raises(KeyboardInterrupt):
            Pool(1, preload=signal.raise_signal, preload_args=(signal.SIGINT,), start_method="fork")


class TestNothingIsLeft:
    """Its own programs end with it, whoever ends first."""

    def test_a_program_that_it_started_ends_with_the_pool(self, bell: Bell) -> None:
        with Pool(1, preload=preloads.start_a_program, preload_args=(bell.path,)) as pool:
            pids = bell.pids()
            assert len(pool.map(preloads.who, [1])) == 1
        wait_gone(pids)

    def test_a_program_that_it_started_ends_with_a_killed_template(self, bell: Bell) -> None:
        with Pool(1, preload=preloads.start_a_program, preload_args=(bell.path,)) as pool:
            pids = bell.pids()
            ((template, worker),) = pool.map(preloads.who, [1])
            os.kill(template, signal.SIGKILL)
            wait_gone([*pids, worker])
            assert pool.map(preloads.who, [1])[0][0] != template

    @pytest.mark.parametrize("setting", ["closed", "crashed"])
    def test_a_program_of_one_that_ends_early(self, setting: str, bell: Bell) -> None:
        pool = Pool(1, preload=preloads.start_a_program_and_hang, preload_args=(bell.path,))
        pids = bell.pids(2)
        if setting == "crashed":
            # Looked at first: once the template is gone, the program is ended, too.
            commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
            for pid, command in commands.items():
                if b"shared_template" in command:
                    os.kill(pid, signal.SIGKILL)
        else:
            pool.close()
        wait_gone(pids)
        pool.close()

    @pytest.mark.parametrize("function", ["start_a_program_and_hang", "start_a_program"])
    def test_kill_9_of_the_parent(self, function: str, bell: Bell, tmp_path: Path) -> None:
        """In the middle of it, and after it."""
        script = tmp_path / "script.py"
        script.write_text(
            "import sys, allcores\n"
            "from tests.process import preloads\n"
            f"pool = allcores.Pool(2, preload=preloads.{function}, preload_args=(sys.argv[1],))\n"
            "pool.map(preloads.hang_with_model, [sys.argv[1]] * 2, chunk=1)\n"
        )
        with scripts.running([str(script), bell.path], folder=tmp_path) as process:
            pids = bell.pids(2 if function == "start_a_program_and_hang" else 3)
            process.kill()
            wait_gone(pids)

    @pytest.mark.parametrize("task", ["fork_and_hang", "start_a_program_and_hang"])
    def test_kill_9_of_the_parent_takes_what_tasks_have_started(self, task: str, bell: Bell, tmp_path: Path) -> None:
        """After the preload it is the template again that ends the workers' groups: it must outlive the parent."""
        script = tmp_path / "script.py"
        script.write_text(
            "import sys, allcores\n"
            "from tests.process import crimes\n"
            "pool = allcores.Pool(2, preload=str)\n"
            "pool.map(lambda model, item: crimes.run(item), [tuple(sys.argv[1:])] * 2, chunk=1)\n"
        )
        with scripts.running([str(script), task, bell.path], folder=tmp_path) as process:
            pids = bell.pids(4)
            process.kill()
            wait_gone(pids)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs the kernel's account of shared pages")
def test_a_real_model_is_in_memory_once() -> None:
    """A spell checker of some 150 MB. Four workers, with all their own work, and the template take little more."""
    pytest.importorskip("symspellpy")
    words = ["speling", "recieve", "adress", "goverment", "tommorow", "acheive", "wierd"]
    right = ["spelling", "receive", "address", "government", "tomorrow", "achieve", "weird"]
    watcher = Watcher()
    with Pool(4, preload=preloads.spell_checker, observers=[watcher]) as pool:
        wait_full_strength(pool, watcher)
        found = pool.map(preloads.correct, [words * 2] * 12, chunk=1)
        assert all(corrected == right * 2 for _, corrected in found)
        workers = {pid for pid, _ in found}
        template = parent_of(next(iter(workers)))
        one_copy = resident_bytes(template)
        total = sum(map(proportional_bytes, {template, *workers}))
    assert one_copy > 100e6
    assert total <= 1.15 * one_copy, f"{total / 1e6:.0f} MB for {one_copy / 1e6:.0f} MB"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def resident_bytes(pid: int) -> int:
    return rollup(pid, "Rss:")


def proportional_bytes(pid: int) -> int:
    """Each page counted by its share: divided by how many processes have it."""
    return rollup(pid, "Pss:")


def rollup(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name} for {pid}")
