"""Log records of workers, handled by this process's logging; and what a pool logs of itself."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.process.listening import Notebook, listening
from tests.process.waiting import PATIENCE_S, Bell, Gate, ring, wait_at

from allcores import Logs, NotSupported, Pool, SetupError, UsageError
from allcores.pool import result_stream
from allcores.pool.pool_log import PoolLog
from allcores.worker import log_forwarding

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("template", "fork", "spawn")

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")


class Stubborn:
    def __reduce__(self) -> Any:
        raise TypeError("not me")

    def __repr__(self) -> str:
        return "<Stubborn>"


def speak(number: int) -> int:
    logging.getLogger("app.part").info(
        "item %d of %s", number, Stubborn(), extra={"stubborn": Stubborn(), "n": [number]}
    )
    logging.getLogger("app.part").debug("too quiet")
    return os.getpid()


def speak_at(level: int) -> None:
    logging.getLogger("app").log(level, "level %d", level)


def stumble(number: int) -> None:
    try:
        raise ValueError(number)
    except ValueError:
        logging.getLogger("app").exception("it failed")


def misspell(number: int) -> None:
    logging.getLogger("app").warning("%d and %d", number)


def speak_and_die(number: int) -> None:
    logging.getLogger("app").warning("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def speak_in_a_thread(number: int) -> None:
    threads = [threading.Thread(target=speak, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def speak_in_a_fork(number: int) -> int:
    pid = os.fork()
    if pid == 0:
        logging.getLogger("app").info("not said")
        logging.getLogger("app").warning("from a child")
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def flood(item: tuple[str, int]) -> int:
    for number in range(item[1]):
        logging.getLogger("app").warning("%d %s", number, "x" * 1000)
    ring(item[0], "done")
    return item[1]


def speak_and_wait(item: tuple[str, str]) -> None:
    logging.getLogger("app").warning("before the gate")
    wait_at(item[1])


@pytest.mark.parametrize("method", METHODS)
def test_records_arrive_with_the_workers_name(method: str) -> None:
    """Message, level, place, `extra`, and who said it; what does not pickle comes as text, what is too quiet not."""
    with listening("app") as notebook:
        with Pool(1, start_method=method, name="crawl") as pool:
            (pid,) = pool.map(speak, [7])
        (record,) = notebook.records
    assert record.getMessage() == "item 7 of <Stubborn>"
    assert (record.levelname, record.name, record.funcName) == ("INFO", "app.part", "speak")
    assert (record.processName, record.worker, record.process) == ("crawl-worker-1", 1, pid)  # type: ignore[attr-defined]
    assert (record.stubborn, record.n) == ("<Stubborn>", [7])  # type: ignore[attr-defined]


def test_levels_are_the_parents() -> None:
    with listening("app", logging.DEBUG) as notebook, Pool(1) as pool:
        pool.map(speak, [1])
        assert [record.levelname for record in notebook.wait_for(2)] == ["INFO", "DEBUG"]
    with listening("app", logging.WARNING) as notebook:
        with Pool(1) as pool:
            pool.map(speak, [1])
        assert notebook.records == []


def test_levels_have_the_names_that_the_program_gave_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has not run the script that did so. A level without a name has none."""
    monkeypatch.setattr(logging, "_levelToName", {**logging._levelToName, 15: "VERBOSE"})
    with listening("app", level=10) as notebook, Pool(1) as pool:
        pool.map(speak_at, [15, 20, 33])
        records = notebook.wait_for(3)
    assert [record.levelname for record in records] == ["VERBOSE", "INFO", "Level 33"]


def test_a_traceback_arrives_as_text() -> None:
    with listening("app") as notebook:
        with Pool(1) as pool:
            pool.map(stumble, [3])
        (record,) = notebook.records
    assert record.exc_text is not None
    assert record.exc_text.endswith("ValueError: 3")
    assert "in stumble" in logging.Formatter().format(record)


def test_a_message_that_does_not_fit_its_arguments_is_not_lost() -> None:
    with listening("app") as notebook:
        with Pool(1) as pool:
            pool.map(misspell, [3])
    assert "do not fit" in notebook.records[0].getMessage()


@pytest.mark.quick
def test_last_words_arrive() -> None:
    """What was said before a worker died is handled, and the pool itself says how it died."""
    with listening("app") as notebook, listening("allcores") as own:
        with Pool(1) as pool:
            assert not next(pool.outcomes(speak_and_die, [1])).ok
        assert [record.getMessage() for record in notebook.records] == ["last words"]
        (record,) = own.records
    assert record.levelno == logging.WARNING
    assert record.allcores["event"] == "worker_ended"  # type: ignore[attr-defined]
    assert "SIGKILL" in record.getMessage()


def test_threads_of_a_worker_may_log() -> None:
    with listening("app") as notebook:
        with Pool(1) as pool:
            pool.map(speak_in_a_thread, [1])
        assert len(notebook.records) == 20


def test_a_fork_of_a_task_speaks_for_itself(capfd: pytest.CaptureFixture[str]) -> None:
    """It has no way to the parent; its warnings stand on standard error, as without a pool."""
    with listening("app") as notebook:
        with Pool(1) as pool:
            assert pool.map(speak_in_a_fork, [1]) == [7]
        assert notebook.records == []
    assert capfd.readouterr().err == "from a child\n"


def test_it_is_seen_while_the_item_runs(tmp_path: Path) -> None:
    with Gate(tmp_path / "gate") as gate, listening("app") as notebook, Pool(1) as pool:
        future = pool.submit(speak_and_wait, ("", gate.path))
        assert notebook.wait_for(1)[0].getMessage() == "before the gate"
        assert not future.done()
        gate.open()
        future.result()


class Stuck(Notebook):
    """A handler that waits, as one that writes to a full disk does."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        assert self.go.wait(120)
        super().emit(record)


def test_a_handler_that_waits_stops_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records wait in the parent up to a bound; what is above is dropped, counted, and said."""
    monkeypatch.setattr(result_stream, "LOGS_S", 0.01)
    stuck, logger = Stuck(), logging.getLogger("app")
    logger.addHandler(stuck)
    logger.propagate = False
    try:
        with Bell(tmp_path / "bell") as bell, listening("allcores", logging.WARNING) as own:
            with Pool(2) as pool:
                assert pool.map(flood, [(bell.path, 8000)] * 2, chunk=1) == [8000, 8000]
                records = pool._driver.backend._worker_table.records  # type: ignore[attr-defined]
                until = monotonic() + PATIENCE_S

                def arrived() -> int:
                    waiting = records.unhandled.copy()
                    return sum(isinstance(entry, tuple) for entry in waiting) + int(records._dropped)

                # What workers could not send at once comes with their next results.
                while arrived() < 16_000 and monotonic() < until:
                    pool.map(abs, range(8), chunk=1)
                stuck.go.set()
                own.wait_for(1)
            said = [record.getMessage() for record in own.records]
            dropped = sum(int(text.split()[2]) for text in said if "dropped" in text)
            assert dropped > 0 and len(stuck.records) <= 12_001
            assert len(stuck.records) + dropped == 16_000
    finally:
        logger.removeHandler(stuck)
        logger.propagate = True


def test_a_handler_that_uses_the_pool_is_not_stuck() -> None:
    """It runs on a thread of its own, which holds nothing that the pool needs."""
    answers: list[list[int]] = []

    class Uses(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            answers.append(pool.map(abs, [-1]))

    logger, handler = logging.getLogger("app"), Uses()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with listening("other") as notebook, Pool(1) as pool:
            pool.map(misspell, [1])
            pool.map(log_elsewhere, [1])
            notebook.wait_for(1)
        assert answers == [[1]]
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def log_elsewhere(number: int) -> None:
    logging.getLogger("other").warning("afterwards")


def load(how: str) -> int:
    """A preload function that says something, and ends as it is told."""
    logging.getLogger("app.model").info("loading %s", "model", extra={"size": 3})
    logging.getLogger("app.model").debug("too quiet")
    print("printed", flush=True)
    with contextlib.suppress(ChildProcessError):
        if (child := os.fork()) == 0:
            logging.getLogger("app.model").info("a copy has no way to the program")
            os._exit(0)
        os.waitpid(child, 0)
    if how == "raises":
        raise ValueError("no model")
    if how == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    return len(how)


def loaded(model: int, number: int) -> int:
    logging.getLogger("app.model").info("item %d", number)
    return model


@pytest.mark.parametrize("method", ["template", "forkserver"])
@pytest.mark.parametrize("how", ["well", "raises", "dies"])
def test_what_a_preload_says_arrives_before_anything_that_follows(
    how: str, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with listening("app") as heard:
        pool = Pool(1, preload=load, preload_args=[how], start_method=method, logs=Logs(prints=True), name="mine")
        with pool:
            if how == "well":
                assert pool.map(loaded, [0]) == [4]
                assert [record.getMessage() for record in heard.records] == ["loading model", "item 0"]
            else:
                with pytest.raises(SetupError):
                    pool.map(loaded, [0])
    first = heard.records[0]
    assert (first.processName, vars(first)["worker"], vars(first)["size"]) == ("mine-preload", 0, 3)
    assert first.getMessage() == "loading model"
    assert capfd.readouterr().out == "[mine-preload] printed\n"


@pytest.mark.parametrize("logs", [False, Logs(records=False)])
def test_or_it_says_it_where_it_is(logs: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with listening("app") as heard, Pool(1, preload=load, preload_args=["well"], logs=logs) as pool:
        assert pool.map(loaded, [0]) == [4]
    assert not heard.records
    assert capfd.readouterr().out == "printed\n"


def test_no_more_is_kept_than_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest goes where it would go without us."""
    written: list[bytes] = []
    monkeypatch.setattr(log_forwarding, "MOST_KEPT", 10_000)

    def write(_descriptor: int, data: bytes) -> int:
        written.append(data)
        return len(data)

    monkeypatch.setattr(os, "write", write)
    note_file = log_forwarding.NoteFile(7)
    assert [note_file.note(bytes(4_000)) for _ in range(4)] == [True, True, False, False]
    assert note_file.note(bytes(2_000))
    assert sum(map(len, written)) == 10_000


def test_off_means_off() -> None:
    with listening("app") as notebook, listening("allcores", logging.DEBUG) as own:
        with Pool(1, logs=False) as pool:
            pool.map(speak, [1])
        assert notebook.records == own.records == []


def test_options_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="logs='yes' must be True, False or a Logs"):
        Pool(1, logs="yes")  # type: ignore[arg-type]
    with pytest.raises(NotSupported, match="prints=True"):
        Pool(1, backend="threads", logs=Logs(prints=True))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_comes_twice_and_prints_have_names(method: str, tmp_path: Path) -> None:
    """A program with logging set up: one line per record and per printed line, under any start method."""
    script = tmp_path / "script.py"
    script.write_text(
        "import logging, sys, allcores\n"
        "def work(n):\n"
        "    logging.getLogger('mine').info('record %d', n)\n"
        "    print('line', n)\n"
        "    print('no end', file=sys.stderr, end='')\n"
        "if __name__ == '__main__':\n"
        "    logging.basicConfig(level='INFO', format='%(processName)s %(message)s', stream=sys.stdout)\n"
        f"    pool = allcores.Pool(1, start_method={method!r}, logs=allcores.Logs(prints=True))\n"
        "    with pool: pool.map(work, [1, 2])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert sorted(done.stdout.splitlines()) == [
        "[pool-worker-1] line 1",
        "[pool-worker-1] line 2",
        "pool-worker-1 record 1",
        "pool-worker-1 record 2",
    ]
    assert done.stderr == "[pool-worker-1] no endno end\n"


def print_in_threads(number: int) -> None:
    """A thread that ends, and one that stays; standard output has another object before it."""
    ending = threading.Thread(target=print, args=("ended", number), kwargs={"end": ""})
    ending.start()
    ending.join()
    printed = threading.Event()

    def stay() -> None:
        print("stays", number, end="")
        printed.set()
        threading.Event().wait()

    threading.Thread(target=stay, daemon=True).start()
    assert printed.wait(PATIENCE_S)
    print("main", number, end="")
    sys.stdout = Tee(sys.stdout)


class Tee:
    finish = None

    def __init__(self, below: Any) -> None:
        self.write = below.write


class Caller:
    def say(self, number: int) -> None:
        print("call", number, end=" ")


def test_lines_without_an_end_are_some_in_each_thread(capfd: pytest.CaptureFixture[str]) -> None:
    """Of a thread that ends, then; of others at the end of the worker."""
    with Pool(1, logs=Logs(prints=True)) as pool:
        pool.map(print_in_threads, [1])
        with pool.actor(Caller, concurrent=2) as actor:
            actor.say(1).result()
    out, _ = capfd.readouterr()
    lines = [line.partition("] ")[2] for line in out.splitlines()]
    assert lines[0] == "ended 1" and sorted(lines[1:]) == ["call 1 ", "main 1", "stays 1"]


def test_a_pool_logs_what_is_worth_a_line() -> None:
    """Retries, deadlines, the end of workers: with the facts as attributes."""
    with listening("allcores", logging.DEBUG) as own:
        with Pool(1, name="crawl") as pool:
            list(pool.outcomes(hang, [60], timeout=0.2, retries=1))
        events = [record.allcores["event"] for record in own.records]  # type: ignore[attr-defined]
        assert events.count("task_retried") == events.count("task_timed_out") == 1
        assert events.count("worker_ended") >= 2
        assert all(record.getMessage().startswith("pool crawl: ") for record in own.records)
        levels = {record.allcores["event"]: record.levelno for record in own.records}  # type: ignore[attr-defined]
        assert levels["task_timed_out"] == logging.WARNING
        assert levels["worker_started"] == logging.DEBUG


def hang(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_a_broken_pool_is_logged() -> None:
    with listening("allcores") as own:
        with contextlib.suppress(Exception), Pool(1, setup=misspell_setup) as pool:
            pool.map(abs, [1])
        assert [record.levelno for record in own.records if record.allcores["event"] == "pool_broken"] == [  # type: ignore[attr-defined]
            logging.ERROR
        ]


def misspell_setup() -> None:
    raise LookupError("no model")


def test_a_program_without_logging_sees_nothing_of_it(capfd: pytest.CaptureFixture[str]) -> None:
    """The library's logger has a NullHandler."""
    from allcores.events import WorkerEnded

    PoolLog("crawl")(WorkerEnded(1, "a reason"))
    assert any(isinstance(each, logging.NullHandler) for each in logging.getLogger("allcores").handlers)
    assert capfd.readouterr().err == ""
