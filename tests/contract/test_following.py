"""Workers follow the caller: a pool that is kept finds what the program's thread finds, at each map and call."""

from __future__ import annotations

import decimal
import locale
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from tests.contract import tasks
from tests.process.waiting import begin_records

import allcores
from allcores import Pool
from allcores.transport import surroundings

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")

METHODS = ("template", "fork", "spawn", "threads")


def open_pool(method: str, **options: Any) -> Pool:
    return Pool(1, backend="threads") if method == "threads" else Pool(1, start_method=method, **options)


@pytest.fixture(scope="module", params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """One for all tests that leave its worker as it was."""
    with open_pool(str(request.param)) as pool:
        pool.map(look, [0])
        begin_records(pool)
        yield pool


#: threads find by themselves what belongs to the whole process
PROCESSES = pytest.mark.parametrize("pool", METHODS[:3], indirect=True, scope="module")


def look(_: object = None) -> dict[str, Any]:
    return {
        "folder": os.getcwd(),
        "set": os.environ.get("ALLCORES_TEST_SET"),
        "kept": os.environ.get("ALLCORES_TEST_KEPT"),
        "path": list(sys.path),
        "zone": time.localtime(0).tm_hour,
    }


def everything(number: int) -> Any:
    return [look(), dict(os.environ), warn()][number]


def divide(number: int) -> str:
    return str(decimal.Decimal(1) / number)


def point(_: object = None) -> str:
    return str(locale.localeconv()["decimal_point"])


def numeric(_: object) -> str:
    return locale.setlocale(locale.LC_NUMERIC)


def warn(kind: type[Warning] = UserWarning) -> str:
    try:
        warnings.warn("look out", kind, stacklevel=1)
    except Warning as error:
        return f"raised {error}"
    return "went on"


def set_kept() -> None:
    os.environ["ALLCORES_TEST_KEPT"] = "by setup"


def test_folder_environment_and_path(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALLCORES_TEST_SET", raising=False)
    (tmp_path / "allcores_test_found.py").write_text("value = 42\n")
    (before,) = pool.map(look, [0])
    assert before["set"] is None
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("ALLCORES_TEST_SET", "ü\n")
        patch.setenv("TZ", "UTC+5")
        time.tzset()
        patch.syspath_prepend(str(tmp_path))
        for found in (*pool.map(look, [0]), pool.submit(look).result()):
            assert (found["folder"], found["set"], found["zone"]) == (str(tmp_path), "ü\n", 19)
            assert found["path"][0] == str(tmp_path)
        assert pool.map(lambda _: __import__("allcores_test_found").value, [0]) == [42]
    time.tzset()
    (after,) = pool.map(look, [0])
    sys.modules.pop("allcores_test_found", None)
    assert after == before


def test_between_two_calls_of_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the warm pool, also from another thread than the one that has begun."""
    allcores.map(look, [0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLCORES_TEST_SET", "1")
    assert {found["folder"] for found in allcores.map(look, range(20), chunk=1)} == {str(tmp_path)}
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(allcores.submit(look).result()))
    thread.start()
    thread.join()
    assert found[0]["set"] == "1"


@pytest.mark.parametrize("method", METHODS[:3])
def test_what_setup_has_set_stays(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the program changes the same itself."""
    monkeypatch.delenv("ALLCORES_TEST_KEPT", raising=False)
    with open_pool(method, setup=set_kept) as pool:
        monkeypatch.setenv("ALLCORES_TEST_SET", "1")
        (found,) = pool.map(look, [0])
        assert (found["set"], found["kept"]) == ("1", "by setup")
        monkeypatch.setenv("ALLCORES_TEST_KEPT", "by the program")
        assert pool.map(look, [0])[0]["kept"] == "by the program"


@pytest.mark.parametrize("method", METHODS[:3])
def test_a_worker_that_replaces_another(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pool(method) as pool:
        pool.map(look, [0])
        monkeypatch.chdir(tmp_path)
        (lost,) = pool.outcomes(tasks.end_process, [3])
        assert lost.kind is allcores.Kind.WORKER_LOST
        assert pool.map(look, [0])[0]["folder"] == str(tmp_path)


@PROCESSES
def test_two_maps_at_once_from_different_folders(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each map's items find what was there when it was called."""
    first, second = tmp_path / "first", tmp_path / "second"
    streams = []
    for folder in (first, second):
        folder.mkdir()
        monkeypatch.chdir(folder)
        streams.append(pool.imap(look, range(30), chunk=1))
    for one, other in zip(*streams, strict=True):
        assert (one["folder"], other["folder"]) == (str(first), str(second))


@pytest.mark.parametrize("method", [*METHODS[:3], "interpreters"])
def test_a_program_that_changes_all_of_it_while_a_worker_starts(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker is taken to have is what it was given, however the program's threads go on meanwhile."""
    if method == "interpreters" and sys.version_info < (3, 14):
        pytest.skip("interpreters need Python 3.14 or later")
    program, calls, starts = threading.get_ident(), [], []
    monkeypatch.setenv("ALLCORES_TEST_KEPT", "before")
    current = surroundings.current

    def look_and_change() -> surroundings.Surroundings:
        found = current()
        if threading.get_ident() == program:
            calls.append(found)
            return found
        # Another thread goes on between this look and the start, and between the start and the next look.
        starts.append(found)
        folder = tmp_path / str(len(starts))
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delenv("ALLCORES_TEST_KEPT", raising=False)
        monkeypatch.setenv(f"ALLCORES_TEST_{len(starts)}", "new")
        monkeypatch.setenv("ALLCORES_TEST_SET", str(len(starts)))
        warnings.simplefilter(("error", "ignore")[len(starts) % 2], UserWarning)
        return found

    with warnings.catch_warnings():
        monkeypatch.setattr(surroundings, "current", look_and_change)
        opened = Pool(1, backend=method) if method == "interpreters" else open_pool(method)
        with opened as pool:
            found, environ, word = pool.map(everything, [0, 1, 2], chunk=3)
    called = calls[-1]
    assert starts
    assert method == "interpreters" or found["folder"] == called.folder
    assert found["path"] == called.path
    ours = [
        {key: value for key, value in each.items() if key.startswith("ALLCORES_TEST")}
        for each in (environ, called.variables())
    ]
    assert ours[0] == ours[1]
    # (action, message, category, module, line) that apply to it
    matching = [each for each in called.filters or [] if issubclass(UserWarning, each[2]) and not each[1]]
    assert word == ("raised look out" if matching and matching[0][0] == "error" else "went on")


@pytest.mark.parametrize("method", METHODS)
def test_a_variable_that_is_removed_while_the_environment_is_read(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLCORES_TEST_SET", "1")
    decode = os.environ.decodekey

    def remove_one(name: Any) -> str:
        # Another thread does, between the reader's look at the names and at their values.
        vars(os.environ)["_data"].pop(b"ALLCORES_TEST_SET", None)
        return str(decode(name))

    monkeypatch.setattr(os.environ, "decodekey", remove_one)
    with open_pool(method) as pool:
        assert pool.map(abs, [-1]) == [1]


def test_decimal_context(pool: Pool) -> None:
    whole = pool.map(divide, [3])
    with decimal.localcontext() as context:
        context.prec = 4
        assert pool.map(divide, [3]) == ["0.3333"]
        context.traps[decimal.Inexact] = True
        with pytest.raises(decimal.Inexact):
            pool.map(divide, [3])
    assert pool.map(divide, [3]) == whole == ["0." + 28 * "3"]


_variable: ContextVar[str] = ContextVar("variable", default="none")
_found: list[Any] = []


def look_around(*arguments: object) -> tuple[str, str, str]:
    return divide(3), warn(), _variable.get()


class Looking:
    """An object that has looked around when it was made."""

    def __init__(self) -> None:
        self._found = look_around()

    def found(self) -> tuple[str, str, str]:
        return self._found


def look_in_setup() -> None:
    _found[:] = look_around()


def found_in_setup(_: object) -> list[Any]:
    return list(_found)


@contextmanager
def other_surroundings(precision: int) -> Iterator[None]:
    with decimal.localcontext() as context, warnings.catch_warnings():
        context.prec = precision
        warnings.simplefilter("error", UserWarning)
        token = _variable.set("program's")
        try:
            yield
        finally:
            _variable.reset(token)


@pytest.mark.parametrize("method", METHODS)
def test_setup_and_an_object_s_constructor_find_it_too(method: str) -> None:
    """What the thread has that opens the pool, or makes the first call of an actor."""
    with other_surroundings(4):
        options: dict[str, Any] = {"backend": "threads"} if method == "threads" else {"start_method": method}
        pool = Pool(1, setup=look_in_setup, contextvars=[_variable], **options)
    with pool:
        assert pool.map(found_in_setup, [0]) == [["0.3333", "raised look out", "program's"]]
        # What a worker that starts later finds is the same; what it runs finds what there is by then.
        assert pool.map(look_around, [0])[0][0] == "0." + 28 * "3"
        with other_surroundings(5):
            assert pool.map(look_around, [0]) == [("0.33333", "raised look out", "program's")]
            assert pool.actor(Looking).found().result() == ("0.33333", "raised look out", "program's")


@pytest.mark.parametrize("method", METHODS[:3])
def test_so_does_a_worker_that_replaces_another(method: str) -> None:
    with other_surroundings(4):
        pool = Pool(1, setup=look_in_setup, start_method=method)
    with pool:
        (lost,) = pool.outcomes(tasks.end_process, [3])
        assert lost.kind is allcores.Kind.WORKER_LOST
        assert pool.map(found_in_setup, [0])[0][:2] == ["0.3333", "raised look out"]


@PROCESSES
def test_locale(pool: Pool) -> None:
    former = locale.setlocale(locale.LC_ALL)
    assert pool.map(point, [0]) == ["."]
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "ru_RU.UTF-8"):
        try:
            locale.setlocale(locale.LC_ALL, name)
            break
        except locale.Error:
            continue
    else:
        pytest.skip("no locale with a decimal comma is installed here")
    try:
        assert pool.map(point, [0]) == [","]
    finally:
        locale.setlocale(locale.LC_ALL, former)
    assert pool.map(point, [0]) == ["."]


@PROCESSES
def test_warning_filters(pool: Pool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pool.map(warn, [UserWarning]) == ["went on"]
        warnings.simplefilter("error", tasks.Outer.Inner)
        assert pool.map(warn, [tasks.Outer.Inner, UserWarning]) == ["raised look out", "went on"]
        warnings.filterwarnings("error", "LOOK", UserWarning)
        assert pool.map(warn, [UserWarning, FutureWarning]) == ["raised look out", "went on"]
        warnings.resetwarnings()
        warnings.simplefilter("ignore", UserWarning)
        assert pool.map(warn, [UserWarning]) == ["went on"]


@pytest.mark.parametrize("method", METHODS[:3])
def test_warning_filters_that_are_set_before_a_pool_and_reset(method: str) -> None:
    """A forked worker has begun with them: they are not what a process has by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with open_pool(method) as pool:
            assert pool.map(warn, [UserWarning]) == ["raised look out"]
            warnings.filters[:] = surroundings.FRESH_FILTERS  # type: ignore[index]
            assert pool.map(warn, [UserWarning]) == ["went on"]


@pytest.mark.parametrize("method", METHODS[:3])
def test_a_locale_that_is_set_before_a_pool_and_reset(method: str) -> None:
    former = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")
        with open_pool(method) as pool:
            assert pool.map(numeric, [0]) == ["C.UTF-8"]
            locale.setlocale(locale.LC_NUMERIC, "C")
            assert pool.map(numeric, [0]) == ["C"]
    finally:
        locale.setlocale(locale.LC_ALL, former)


def test_nothing_is_sent_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshot is the same object, and a pool's worker is told once."""
    assert surroundings.current() is surroundings.current()
    told: list[bytes] = []
    changes_since = surroundings.Surroundings.changes_since

    def noted(self: surroundings.Surroundings, former: surroundings.Surroundings) -> bytes:
        told.append(b"")
        return changes_since(self, former)

    monkeypatch.setattr(surroundings.Surroundings, "changes_since", noted)
    with Pool(1) as pool:
        pool.map(abs, range(100), chunk=1)
        first = len(told)
        pool.map(abs, range(100), chunk=1)
        pool.submit(abs, 1).result()
        assert first <= 1 and len(told) == first
        monkeypatch.setenv("ALLCORES_TEST_SET", "2")
        pool.map(abs, range(100), chunk=1)
        assert len(told) == first + 1


def levels_of(names: list[str]) -> list[tuple[int, bool]]:
    """Of loggers in a worker, and whether they take information."""
    found = [logging.getLogger(name) for name in names]
    return [(each.level, each.isEnabledFor(logging.INFO)) for each in found]


def quieten() -> None:
    logging.getLogger("tests.following.loud").setLevel(logging.ERROR)


@pytest.fixture
def loggers() -> Iterator[list[logging.Logger]]:
    """Two of the program's, and one that `setup` sets."""
    found = [logging.getLogger(f"tests.following.{name}") for name in ("one", "other", "loud")]
    yield found
    for each in found:
        each.setLevel(logging.NOTSET)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("method", METHODS[:3])
def test_levels_of_loggers(method: str, loggers: list[logging.Logger]) -> None:
    """That are set after the start of a worker; also that one has none any more. What `setup` has set stays."""
    one, other, loud = loggers
    names = [each.name for each in loggers]
    one.setLevel(logging.ERROR)
    with open_pool(method, setup=quieten) as pool:
        assert pool.map(levels_of, [names]) == [[(40, False), (0, False), (40, False)]]
        one.setLevel(logging.INFO)
        other.setLevel(logging.DEBUG)
        assert pool.map(levels_of, [names]) == [[(20, True), (10, True), (40, False)]]
        one.setLevel(logging.NOTSET)
        assert pool.submit(levels_of, names).result() == [(0, False), (10, True), (40, False)]
        logging.disable(logging.INFO)
        assert pool.map(levels_of, [names]) == [[(0, False), (10, False), (40, False)]]
        logging.disable(logging.NOTSET)
        loud.setLevel(logging.INFO)
        assert pool.map(levels_of, [names]) == [[(0, False), (10, True), (20, True)]]


def test_what_is_logged_follows(caplog: pytest.LogCaptureFixture, loggers: list[logging.Logger]) -> None:
    """As in a notebook: the level is set once the pool is there."""
    with Pool(1) as pool:
        pool.map(say_in_log, [loggers[0].name])
        assert not caplog.records
        with caplog.at_level(logging.INFO, loggers[0].name):
            pool.map(say_in_log, [loggers[0].name])
        pool.map(say_in_log, [loggers[0].name])
    assert [each.getMessage() for each in caplog.records] == ["said"]


def say_in_log(name: str) -> None:
    logging.getLogger(name).info("said")


@pytest.mark.parametrize("method", METHODS[:3])
def test_a_pool_that_keeps_its_records_keeps_its_levels(method: str, loggers: list[logging.Logger]) -> None:
    """Its workers log by themselves, as `setup` has it."""
    with open_pool(method, logs=False, setup=quieten) as pool:
        loggers[2].setLevel(logging.INFO)
        assert pool.map(levels_of, [[loggers[2].name]])[0][0][0] == 40


def depth(number: int) -> int:
    return 0 if not number else 1 + depth(number - 1)


def digits(number: int) -> int:
    return len(str(10**number))


def bounds(_: object = None) -> tuple[int, int]:
    return sys.getrecursionlimit(), sys.get_int_max_str_digits()


def set_bounds() -> None:
    sys.setrecursionlimit(7000)
    sys.set_int_max_str_digits(7000)


@pytest.fixture
def own_bounds() -> Iterator[tuple[int, int]]:
    before = bounds()
    yield before
    sys.setrecursionlimit(before[0])
    sys.set_int_max_str_digits(before[1])


@pytest.mark.parametrize("method", METHODS[:3])
def test_limits_of_the_interpreter(method: str, own_bounds: tuple[int, int]) -> None:
    """Set before a pool, and while it is there; what `setup` has set stays until the program sets another."""
    sys.setrecursionlimit(6000)
    sys.set_int_max_str_digits(0)
    with open_pool(method) as pool:
        assert pool.map(depth, [4000]) == [4000] and pool.submit(digits, 5000).result() == 5001
        sys.setrecursionlimit(own_bounds[0])
        sys.set_int_max_str_digits(5000)
        assert pool.map(bounds, [0]) == [(own_bounds[0], 5000)]
        sys.set_int_max_str_digits(own_bounds[1])
        assert pool.submit(bounds).result() == own_bounds
    with open_pool(method, setup=set_bounds) as pool:
        assert pool.map(bounds, [0]) == [(7000, 7000)]
        sys.setrecursionlimit(own_bounds[0] + 1)
        assert pool.map(bounds, [0]) == [(own_bounds[0] + 1, 7000)]


@pytest.mark.parametrize("method", METHODS[:3])
@pytest.mark.filterwarnings("ignore:start_method='spawn':RuntimeWarning")
def test_what_is_loaded_for_all_workers_finds_them(method: str, own_bounds: tuple[int, int]) -> None:
    sys.setrecursionlimit(6000)
    with open_pool(method, preload=depth, preload_args=(4000,)) as pool:
        assert pool.map(lambda loaded, item: (loaded, depth(item)), [4000]) == [(4000, 4000)]
        sys.setrecursionlimit(own_bounds[0])
        assert pool.map(lambda loaded, item: bounds(), [0]) == [own_bounds]


@pytest.mark.parametrize("method", METHODS[:3])
def test_warnings_that_are_records(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """Once the program has them so, and as long."""
    with warnings.catch_warnings(), open_pool(method) as pool:
        warnings.simplefilter("always")
        assert pool.map(warn, [UserWarning]) == ["went on"]
        logging.captureWarnings(True)
        try:
            pool.map(warn, [UserWarning])
        finally:
            logging.captureWarnings(False)
        pool.map(warn, [UserWarning])
    (record,) = [each for each in caplog.records if each.name == "py.warnings"]
    assert "UserWarning: look out" in record.getMessage()
