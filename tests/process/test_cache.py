"""A cache among real faults: kills, damage, full and locked files, other users, several programs."""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import queue
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract import cache_tasks
from tests.process import scripts
from tests.process.scripts import environment
from tests.process.waiting import PATIENCE_S, lines, wait_until

from allcores import Cache, Pool, UsageError
from allcores.cache import database, store
from allcores.cache.database import FILE
from allcores.cache.store import Store

COUNT = 30
#: far from what an item takes
DEADLINE_S = 10.0


def program(tmp_path: Path, **settings: Any) -> subprocess.Popen[str]:
    settings = {
        "backend": "serial",
        "folder": str(tmp_path / "cache"),
        "computed": str(tmp_path / "computed"),
        "count": COUNT,
    } | settings
    return subprocess.Popen(
        [sys.executable, "-m", "tests.process.cached", json.dumps(settings)],
        env=environment(ALLCORES_HOME=str(tmp_path / "home")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    with process:
        out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


@pytest.fixture
def serial() -> Iterator[Pool]:
    with Pool(backend="serial") as pool:
        yield pool


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "computed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def unsaid() -> Iterator[None]:
    """What was said in one test is said again in the next."""
    store.forget_said()
    yield
    store.forget_said()


class TestKilled:
    @pytest.mark.parametrize("at", range(1, 10))
    def test_a_kill_at_any_step_costs_only_what_was_not_committed(self, tmp_path: Path, at: int) -> None:
        """A chunk of ten items is a commit of three steps, or more than one where it takes long."""
        code, _, err = ended(program(tmp_path, kill_at=at, chunk=10))
        assert code == -signal.SIGKILL, err
        kept, commits = len(Cache(tmp_path / "cache")), at // 3
        assert commits <= kept <= commits * 10
        (tmp_path / "computed").unlink()
        code, out, err = ended(program(tmp_path))
        assert (code, err, out) == (0, "", "right\n")
        assert len(lines(str(tmp_path / "computed"))) == COUNT - kept

    def test_a_killed_worker_costs_nothing_that_was_committed(self, tmp_path: Path, path: str) -> None:
        cache = Cache(tmp_path / "cache")
        with Pool(2) as made:
            pool: Any = made
            found = list(pool.outcomes(KillAt(path, 17), range(COUNT), cache=cache, chunk=5))
        assert [outcome.index for outcome in found if not outcome.ok] == [17]
        with Pool(2) as made:
            pool = made
            computed = len(lines(path))
            found = list(pool.outcomes(KillAt(path, 17), range(COUNT), cache=cache))
            assert [outcome.index for outcome in found if not outcome.ok] == [17]
        # The chunk of the item at fault had up to two others before it, which were not committed when it ended.
        assert len(lines(path)) - computed <= 5

    def test_a_pool_that_is_killed_as_a_whole(self, tmp_path: Path) -> None:
        """Program and workers, in the midst of it; slow items are committed as they are finished."""
        process = program(tmp_path, backend="processes", seconds=0.15, count=200)
        computed = tmp_path / "computed"
        wait_until(lambda: computed.exists() and len(lines(str(computed))) >= 10)
        process.kill()
        ended(process)
        assert len(Cache(tmp_path / "cache")) >= 5
        code, out, err = ended(program(tmp_path, backend="processes", count=200))
        assert (code, err, out) == (0, "", "right\n")


class KillAt(cache_tasks.Noted):
    """Ends its process at one item."""

    def __init__(self, path: str, number: int) -> None:
        super().__init__(path)
        self.number = number

    def __call__(self, number: int) -> int:
        cache_tasks.note(self.path, number)
        if number == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        return number


#: (module, what is in the place of CHANGED): what a function reaches, by an object, a metaclass, an attribute, an alias
REACHED = {
    "descriptor": (
        """
        class Scale:
            def __init__(self, factor): self.factor = factor
            def __get__(self, instance, owner): return self.factor
        class Model:
            scale = Scale(CHANGED)
        def f(x): return x * Model.scale
        """
    ),
    "metaclass": (
        """
        class Meta(type):
            def scaled(cls, x): return x * CHANGED
        class Model(metaclass=Meta): pass
        def f(x): return Model.scaled(x)
        """
    ),
    "attribute": (
        """
        def f(x): return x * f.factor
        f.factor = CHANGED
        """
    ),
    "attribute of a helper": (
        """
        def helper(x): return x * helper.table["factor"]
        helper.table = {"factor": CHANGED}
        def f(x): return helper(x)
        """
    ),
    "alias": (
        """
        from typing import Generic, TypeVar
        T = TypeVar("T")
        class Model(Generic[T]):
            def scaled(self, x): return x * CHANGED
        Alias = Model[int]
        def f(x): return Alias().scaled(x)
        """
    ),
    "manager as decorator": (
        """
        import contextlib
        class Scaled(contextlib.ContextDecorator):
            now = None
            def __init__(self, factor): self.factor = factor
            def __enter__(self): Scaled.now = self.factor
            def __exit__(self, *_): Scaled.now = None
        @Scaled(CHANGED)
        def f(x): return x * Scaled.now
        """
    ),
    "function of a manager as decorator": (
        """
        import contextlib
        NOW = []
        @contextlib.contextmanager
        def scaled(factor, *, more):
            NOW.append(factor + more)
            yield
            NOW.clear()
        @scaled(CHANGED, more=0)
        def f(x): return x * NOW[0]
        """
    ),
    "what a manager does": (
        """
        import contextlib
        NOW = []
        @contextlib.contextmanager
        def scaled():
            NOW.append(CHANGED)
            yield
            NOW.clear()
        @scaled()
        def f(x): return x * NOW[0]
        """
    ),
    "table of functions": (
        """
        def scaled(x): return x * CHANGED
        TABLE = {"scaled": scaled}
        def f(x): return TABLE["scaled"](x)
        """
    ),
}


class TestChanged:
    @pytest.mark.parametrize("text", REACHED.values(), ids=REACHED)
    def test_what_a_function_reaches_gives_no_old_result(
        self, serial: Any, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        name = "changed_between_runs"
        for factor, computed in ((2, 2), (2, 2), (3, 4), (2, 4)):
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text).replace("CHANGED", str(factor)))
            importlib.invalidate_caches()
            monkeypatch.delitem(sys.modules, name, raising=False)
            module = importlib.import_module(name)
            assert serial.map(module.f, [1, 10], cache=folder) == [factor, factor * 10]
            assert len(Cache(folder)) == computed
        monkeypatch.delitem(sys.modules, name)

    def test_a_function_that_counts_its_calls_is_found_again(self, serial: Any, folder: Path) -> None:
        for _ in range(3):
            assert serial.map(counting, [1, 2], cache=folder) == [2, 3]
        assert counting.__dict__["calls"] == 2

    @pytest.mark.parametrize(
        "look",
        [lambda: (Taxed().total, 10), lambda: (functools.partial(total_of, Taxed()), 10), lambda: (of_ten, Taxed())],
    )
    def test_what_an_object_does_counts_as_it_is_now(
        self, serial: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[], tuple[Any, Any]]
    ) -> None:
        """Of a method, in a partial, and as an item: what its class is, and names, is looked at for each map."""
        for rate in (1, 2, 1):
            monkeypatch.setattr(sys.modules[__name__], "TAX", rate)
            function, item = look()
            assert serial.map(function, [item], cache=folder) == [10 * rate]
        monkeypatch.setattr(Taxed, "rate", lambda self: 7)
        function, item = look()
        assert serial.map(function, [item], cache=folder) == [70]


class Ringing:
    """Sends a signal to this process at a step of its way."""

    def __init__(self, at: str) -> None:
        self.at = at

    def __getstate__(self) -> Any:
        if self.at == "pickled":
            signal.raise_signal(signal.SIGALRM)
        return self.__dict__

    def __setstate__(self, state: Any) -> None:
        signal.raise_signal(signal.SIGALRM)


def out_of_time(number: int, frame: object) -> None:
    raise TimeoutError


def second(_: object, item: Any) -> Any:
    return item


second_of_one = functools.partial(second, None)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs signals")
class TestSignals:
    """What a handler raises (a time limit) ends the map wherever it comes: a cache takes it for no fault of a value."""

    @pytest.fixture(autouse=True)
    def handler(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, out_of_time)
        yield
        signal.signal(signal.SIGALRM, before)

    @pytest.mark.parametrize("function", [second_of_one, functools.partial(second, Ringing("pickled"))])
    def test_while_a_key_is_made(self, serial: Any, folder: Path, function: Any) -> None:
        with pytest.raises(TimeoutError):
            serial.map(function, [Ringing("pickled")], cache=folder)

    @pytest.mark.parametrize("at", ["pickled", "unpickled"])
    def test_while_a_result_is_kept_or_found(self, serial: Any, folder: Path, at: str) -> None:
        with pytest.raises(TimeoutError):
            for _ in range(2):
                serial.map(Ringing, [at], cache=folder)


TAX = 1


class Taxed:
    def rate(self) -> int:
        return TAX

    def total(self, number: int) -> int:
        return number * self.rate()


def total_of(taxed: Taxed, number: int) -> int:
    return taxed.total(number)


def of_ten(taxed: Taxed) -> int:
    return taxed.total(10)


def counting(number: int) -> int:
    counting.calls += 1  # type: ignore[attr-defined]
    return number + 1


counting.calls = 0  # type: ignore[attr-defined]


class TestScripts:
    def test_items_of_its_classes_are_found_again_whatever_runs_them(self, tmp_path: Path) -> None:
        """A worker has no script, and knows it by the program's name for it."""
        found = []
        for backend in ("processes", "serial", "threads", "processes"):
            program = f"""
                import dataclasses, enum, allcores
                class Kind(enum.Enum):
                    ONE = 1
                class Plain:
                    def __init__(self, value): self.value = value
                @dataclasses.dataclass
                class Point:
                    x: int
                def words(item):
                    return type(item).__name__
                items = [Kind.ONE, Plain({{"a", "b"}}), Point(1), {{Kind.ONE: Point}}, (Plain, words)]
                with allcores.Pool(backend={backend!r}) as pool:
                    cache = allcores.Cache({str(tmp_path / "cache")!r})
                    print(*pool.map(words, items, cache=cache), len(cache))
            """
            ending = scripts.run(textwrap.dedent(program), tmp_path)
            assert (ending.err, ending.code) == ("", 0)
            found += ending.lines
        assert found == ["Kind Plain Point dict tuple 5"] * 4


class TestTogether:
    def test_several_programs_use_one_cache(self, tmp_path: Path) -> None:
        programs = [program(tmp_path, backend="processes", count=300, first=first) for first in (0, 0, 150)]
        for process in programs:
            code, out, err = ended(process)
            assert (code, err, out) == (0, "", "right\n")
        assert len(Cache(tmp_path / "cache")) == 450
        (tmp_path / "computed").unlink()
        code, out, err = ended(program(tmp_path, backend="processes", count=450))
        assert (code, err, out) == (0, "", "right\n")
        assert not (tmp_path / "computed").exists()

    def test_one_may_clear_what_another_uses(self, tmp_path: Path) -> None:
        process = program(tmp_path, backend="processes", count=200, chunk=5, seconds=0.001)
        cache = Cache(tmp_path / "cache")
        while process.poll() is None:
            cache.clear()
        code, out, err = ended(process)
        assert (code, err, out) == (0, "", "right\n")

    def test_workers_are_forked_from_a_program_that_has_it_open(self, tmp_path: Path, path: str) -> None:
        cache = Cache(tmp_path / "cache")
        with pytest.warns(RuntimeWarning, match="fork"), Pool(2, start_method="fork") as made:
            pool: Any = made
            used = Store(cache.folder, b"key", "name", None)
            used.put(b"other", b"value")
            used.commit()
            assert pool.map(cache_tasks.Double(path), range(50), cache=cache) == [n * 2 for n in range(50)]
            assert used.get(b"other") == b"value"
            used.close()
        assert len(cache) == 51

    def test_what_waits_for_the_end_of_a_chunk_stays_with_its_process(self, tmp_path: Path) -> None:
        """In a fork a thread that is not there may hold the lock that it would take."""
        ending = scripts.run(
            "import os\nfrom allcores.transport import chunk_ends\n"
            "chunk_ends.waiting.append(lambda: print('called', flush=True))\n"
            "if os.fork() == 0:\n    chunk_ends.run()\n    os._exit(0)\n"
            "os.wait()\nchunk_ends.run()\n",
            tmp_path,
        )
        assert (ending.lines, ending.err, ending.code) == (["called"], "", 0)

    def test_a_task_may_fork(self, tmp_path: Path, path: str) -> None:
        """The child neither uses nor closes what is open in the worker."""
        cache = Cache(tmp_path / "cache")
        with Pool(1) as made:
            pool: Any = made
            for _ in range(2):
                assert pool.map(Forking(path), range(20), cache=cache, chunk=4) == list(range(20))
        assert len(lines(path)) == 20
        assert len(cache) == 20

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_lock_that_another_thread_holds_is_free_in_a_child(self, tmp_path: Path) -> None:
        """As it forks, and not at the first use: two threads of the child may be the first at the same time."""
        used = Store(Cache(tmp_path / "cache").folder, b"key", "name", None)
        with used._lock:
            child = os.fork()
            if child == 0:
                told = queue.SimpleQueue[bool]()
                threading.Thread(target=lambda: told.put(used._lock.acquire(blocking=False)), daemon=True).start()
                os._exit(0 if told.get() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        used.close()


class Forking(cache_tasks.Noted):
    def __call__(self, number: int) -> int:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        cache_tasks.note(self.path, number)
        return number


class Slow(cache_tasks.Noted):
    """Takes longer than entries wait for a commit. Its worker waits for a lock longer than for any item, if it may."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        database.BUSY_S = 2 * DEADLINE_S

    def __call__(self, number: int) -> int:
        time.sleep(1.5 * store.COMMIT_NS / 1e9)
        return number


class Text(cache_tasks.Noted):
    def __call__(self, number: int) -> str:
        cache_tasks.note(self.path, number)
        return f"{number} " * 50


class TestDamaged:
    def test_a_flipped_byte_anywhere_never_gives_a_wrong_result(
        self, serial: Any, tmp_path: Path, folder: Path, path: str
    ) -> None:
        items, wanted = range(40), [f"{number} " * 50 for number in range(40)]
        assert serial.map(Text(path), items, cache=folder) == wanted
        file = folder / FILE
        whole = file.read_bytes()
        computed, refused = 0, 0
        for place in [*range(0, 100, 3), *range(100, len(whole), 631)]:
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
            store.forget_said()
            before = len(lines(path))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert serial.map(Text(path), items, cache=folder) == wanted
                assert serial.map(Text(path), items, cache=folder) == wanted
            computed += len(lines(path)) - before
            try:
                Cache(folder).clear()
            except UsageError as error:
                assert "not a cache of allcores" in str(error)
                refused += 1
            for end in ("", "-wal", "-shm"):
                (folder / (FILE + end)).unlink(missing_ok=True)
        assert computed
        assert refused <= 8

    def test_a_damaged_result_is_computed_and_replaced(self, serial: Any, folder: Path, path: str) -> None:
        serial.map(Text(path), range(5), cache=folder)
        with sqlite3.connect(folder / FILE) as db:
            db.execute("UPDATE entries SET value = x'80' || substr(value, 2) WHERE rowid = 2")
            db.execute("UPDATE entries SET value = 5 WHERE rowid = 3")
            db.execute("UPDATE entries SET crc = crc + 1 WHERE rowid = 4")
        db.close()
        for computed in (8, 8):
            assert serial.map(Text(path), range(5), cache=folder) == [f"{number} " * 50 for number in range(5)]
            assert len(lines(path)) == computed
        assert len(Cache(folder)) == 5

    @pytest.mark.parametrize("backend", ["serial", "processes"])
    def test_what_is_no_database_is_said_once_and_left_alone(self, folder: Path, path: str, backend: str) -> None:
        folder.mkdir(mode=0o700)
        (folder / FILE).write_bytes(b"no database at all, " * 100)
        (folder / FILE).chmod(0o600)
        with Pool(2, backend=backend) as made:
            pool: Any = made
            with pytest.warns(RuntimeWarning, match=r"is damaged .*clear\(\) begins it anew.* not kept") as said:
                assert pool.map(Text(path), [1], cache=folder) == ["1 " * 50]
        assert len(said) == 1
        assert (folder / FILE).read_bytes() == b"no database at all, " * 100
        with pytest.raises(UsageError, match="is damaged"):
            Cache(folder).statistics()
        assert Cache(folder).clear() == 0
        assert not (folder / FILE).exists()

    def test_what_is_anothers_database_stays(self, serial: Any, folder: Path, path: str) -> None:
        folder.mkdir(mode=0o700)
        with sqlite3.connect(folder / FILE) as db:
            db.execute("CREATE TABLE mine (x)")
        db.close()
        (folder / FILE).chmod(0o600)
        before = (folder / FILE).read_bytes()
        with pytest.warns(RuntimeWarning, match="is not a cache of allcores"):
            assert serial.map(Text(path), [1], cache=folder) == ["1 " * 50]
        with pytest.raises(UsageError, match="is not a cache of allcores"):
            Cache(folder).clear()
        assert (folder / FILE).read_bytes() == before

    def test_one_that_is_removed_meanwhile_is_begun_anew(self, tmp_path: Path, folder: Path, path: str) -> None:
        with Pool(2) as made:
            pool: Any = made
            for _ in range(3):
                assert pool.map(Text(path), range(20), cache=folder) == [f"{number} " * 50 for number in range(20)]
                folder.rename(tmp_path / f"gone {len(lines(path))}")
        assert len(lines(path)) == 60


class TestInTheWay:
    def test_a_lock_that_is_held_holds_nothing_up(
        self, serial: Any, folder: Path, path: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        serial.map(Text(path), range(5), cache=folder)
        other = sqlite3.connect(folder / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with caplog.at_level(logging.WARNING, "allcores"):
            for _ in range(2):
                assert serial.map(Text(path), range(10), cache=folder) == [f"{number} " * 50 for number in range(10)]
        other.execute("ROLLBACK")
        other.close()
        assert [record.getMessage() for record in caplog.records if "locked" in record.getMessage()] == [
            f"the cache in {folder} is locked by another process for more than 0.5 s"
        ]
        # Those that were there were found.
        assert sorted(map(int, lines(path))) == sorted([*range(10), *range(5, 10)])

    def test_a_lock_uses_up_no_deadline(self, folder: Path, path: str) -> None:
        """Of an item; each has less time than a lock is waited for elsewhere."""
        assert Cache(folder).is_ready()
        other = sqlite3.connect(folder / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with Pool(2) as made:
            pool: Any = made
            pool.map(abs, range(2))
            found = list(pool.outcomes(Slow(path), range(12), cache=folder, timeout=DEADLINE_S))
        assert [outcome.value for outcome in found] == list(range(12))
        other.execute("ROLLBACK")
        other.close()

    def test_a_full_disk_costs_only_what_is_not_kept(self, tmp_path: Path) -> None:
        code, out, err = ended(program(tmp_path, count=400, chunk=20, file_bytes=60_000))
        assert (code, out) == (0, "right\n"), err
        assert "cannot be used" in err
        assert 0 < len(Cache(tmp_path / "cache")) < 400
        code, out, err = ended(program(tmp_path, count=400))
        assert (code, err, out) == (0, "", "right\n")
        assert len(Cache(tmp_path / "cache")) == 400

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_cannot_be_made(self, serial: Any, tmp_path: Path, path: str) -> None:
        tmp_path.chmod(0o500)
        with pytest.warns(RuntimeWarning, match="cannot be made: Permission denied"):
            assert serial.map(Text(path), [1], cache=tmp_path / "cache") == ["1 " * 50]
        tmp_path.chmod(0o700)

    def test_a_file_in_the_place_of_the_folder(self, serial: Any, tmp_path: Path, path: str) -> None:
        (tmp_path / "cache").write_text("mine")
        with pytest.raises(UsageError, match="is not used: there is a file of that name"):
            serial.map(Text(path), [1], cache=tmp_path / "cache")
        assert (tmp_path / "cache").read_text() == "mine"

    def test_one_that_can_only_be_read_is_read(
        self, serial: Any, folder: Path, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serial.map(Text(path), range(5), cache=folder)
        # Also for root, who may write to what says that nobody may.
        monkeypatch.setattr(database, "may_be_written", lambda folder: False)
        with pytest.warns(RuntimeWarning, match="can only be read: results that are not in it are not kept") as said:
            assert serial.map(Text(path), range(10), cache=folder) == [f"{number} " * 50 for number in range(10)]
        assert len(said) == 1
        assert len(lines(path)) == 10
        assert len(Cache(folder)) == 5


def others_folder(folder: Path) -> None:
    os.chown(folder, 54_321, 54_321)


def others_file(folder: Path) -> None:
    os.chown(folder / FILE, 54_321, 54_321)


def open_folder(folder: Path) -> None:
    folder.chmod(0o777)


def open_file(folder: Path) -> None:
    (folder / FILE).chmod(0o660)


def link(folder: Path) -> None:
    (folder / FILE).rename(folder / "elsewhere")
    (folder / FILE).symlink_to(folder / "elsewhere")


def pipe(folder: Path) -> None:
    (folder / FILE).unlink()
    os.mkfifo(folder / FILE, 0o600)


class TestTrust:
    @pytest.mark.parametrize("spoil", [others_folder, others_file, open_folder, open_file, link, pipe])
    def test_what_another_user_could_have_written_is_refused(
        self, serial: Any, folder: Path, path: str, spoil: Callable[[Path], None]
    ) -> None:
        serial.map(Text(path), range(3), cache=folder)
        if spoil.__name__.startswith("others") and os.geteuid() != 0:
            pytest.skip("only root gives files away")
        spoil(folder)
        there = {each: os.lstat(each) for each in [folder, *folder.iterdir()]}
        for use in (
            lambda: serial.map(Text(path), range(3), cache=folder),
            lambda: Cache(folder).statistics(),
            lambda: Cache(folder).clear(),
        ):
            with pytest.raises(UsageError, match=r"cannot be trusted: .*use a folder of your own"):
                use()
        assert {each: os.lstat(each) for each in [folder, *folder.iterdir()]} == there

    def test_it_is_readable_by_this_user_alone(self, serial: Any, tmp_path: Path, path: str) -> None:
        before = os.umask(0)
        try:
            serial.map(Text(path), range(3), cache=tmp_path / "a" / "b")
        finally:
            os.umask(before)
        modes = {
            each.name: stat.S_IMODE(each.stat().st_mode) for each in [*tmp_path.rglob("*")] if each.name != "computed"
        }
        assert modes == {"a": 0o700, "b": 0o700, FILE: 0o600}

    def test_a_link_to_a_folder_of_ones_own_is_followed(self, serial: Any, tmp_path: Path, path: str) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to("real")
        serial.map(Text(path), range(3), cache=tmp_path / "link")
        assert len(Cache(tmp_path / "real")) == 3


class Clock:
    """Seconds since 1970, as the store reads them."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def time(self) -> float:
        return self.now


class TestBound:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        clock = Clock()
        monkeypatch.setattr("time.time", clock.time)
        return clock

    def test_those_used_least_recently_go_first(self, folder: Path, clock: Clock) -> None:
        kept = Store(str(folder), b"function", "name", 10 * (1000 + store.ENTRY_BYTES))
        keys = [b"%d" % number for number in range(11)]
        for key in keys[:10]:
            kept.put(key, key * (1000 // len(key)))
            kept.commit()
            clock.now += 10
        clock.now += store.USED_S
        assert kept.get(keys[0]) and kept.get(keys[3])
        kept.commit()
        kept.put(keys[10], b"x" * 1000)
        kept.commit()
        # A tenth is freed as well: two go.
        assert [key for key in keys if kept.get(key) is None] == [keys[1], keys[2]]
        kept.close()
        assert Cache(folder).statistics().bytes == 9 * (1000 + store.ENTRY_BYTES)

    def test_what_is_larger_than_the_bound_is_not_kept(self, folder: Path) -> None:
        kept = Store(str(folder), b"function", "name", 1000)
        kept.put(b"large", b"x" * 1000)
        kept.put(b"small", b"x" * 100)
        kept.commit()
        assert (kept.get(b"large"), kept.get(b"small")) == (None, b"x" * 100)
        kept.close()

    def test_the_file_keeps_to_it(self, serial: Any, folder: Path, path: str) -> None:
        cache = Cache(folder, max_bytes=200_000)
        for start in range(0, 3000, 300):
            serial.map(Text(path), range(start, start + 300), cache=cache)
        assert len(lines(path)) == 3000
        found = cache.statistics()
        assert 100_000 < found.bytes <= 200_000
        assert os.path.getsize(folder / FILE) < 1_000_000
        cache.clear()
        assert os.path.getsize(folder / FILE) < 100_000

    @pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "1 GB"])
    def test_a_bound_that_makes_no_sense_is_refused(self, wrong: Any) -> None:
        with pytest.raises(UsageError, match=r"max_bytes=.* must be a whole number"):
            Cache(max_bytes=wrong)

    @pytest.mark.parametrize("wrong", ["", "a\0b", b"bytes", 5])
    def test_a_folder_that_makes_no_sense_is_refused(self, wrong: Any) -> None:
        with pytest.raises(UsageError, match="must be the path of a folder"):
            Cache(wrong)
