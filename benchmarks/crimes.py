"""Sixteen ways to ruin a worker: who survives with all other items right, and names the item at fault.

Forty items, two workers; item 17 commits the crime. A contender survives a crime when

- each of the other 39 items gets its right result,
- the bad item gets what is due to it, through the library and as that item's own: an error, or, for a
  crime that leaves something to return, its result (see `Crime.due`),
- and the same pool then answers eight more items,

within ten seconds of the pool's opening. Each peer is called in the way that survives most (a future
per item where there are futures; its time limit where it has one). A wait that the caller gives up is
not an answer.
Each trial is a program of its own, ended with all that it left behind.
"""

from __future__ import annotations

import ctypes
import importlib
import itertools
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.processes import Program
from benchmarks.rows import Row
from benchmarks.settings import Settings

BAD = 17
ITEMS = 40
#: seconds that a task may take where the contender knows a time limit
TIMEOUT = 1.0
#: ends the text of an error that came after the wrong number of attempts
WRONG_ATTEMPTS = " but not tried twice"
MEMORY_LIMIT = 400 * 2**20


class Bomb:
    """Pickles well; whoever unpickles it gets a ValueError."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return explode, ()


def explode() -> None:
    """Called by unpickling a `Bomb`."""
    raise ValueError("exploded while being unpickled")


class Stubborn(Exception):
    """An exception that pickles but does not unpickle: its constructor wants more than `args` holds."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")


def segfault() -> None:
    """Read address 0."""
    ctypes.string_at(0)


def exit_0() -> None:
    """`os._exit(0)`: gone without a word, and with a good exit code."""
    os._exit(0)


def sys_exit() -> None:
    """`sys.exit(3)`"""
    sys.exit(3)


def c_exit() -> None:
    """C's exit(3), which runs the handlers registered with atexit."""
    ctypes.CDLL(None).exit(3)


def sigkill() -> None:
    """What the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def sigstop() -> None:
    """Stopped: neither dead nor alive. Needs a time limit."""
    os.kill(os.getpid(), signal.SIGSTOP)


def abort() -> None:
    """SIGABRT, as a failed assertion in C does."""
    os.abort()


def stack_overflow() -> None:
    """C recursion until the stack is used up (RecursionError where Python counts it)."""
    sys.setrecursionlimit(10**8)

    def down(_: Any) -> list[Any]:
        return list(map(down, [None]))

    down(None)


def endless_c_loop() -> None:
    """A loop in C that holds the interpreter's lock: no signal handler and no thread gets a turn."""
    sum(itertools.repeat(0))


def unpicklable_result() -> Any:
    """A generator, which not even cloudpickle can pickle."""
    return (number for number in range(3))


def bomb_as_result() -> Any:
    """Unpickling it raises, in the parent."""
    return Bomb()


def stubborn_exception() -> None:
    """Unpickling the exception raises, in the parent."""
    raise Stubborn(1, "cannot come back")


def bomb_as_item() -> None:
    """Unpickling the item raises, in the worker: this function is not even called for it."""


def memory_hog() -> None:
    """Take 800 MB and hold it. Needs a limit of memory or of time."""
    held = [bytearray(os.urandom(1)) * (50 * 2**20) for _ in range(16)]
    time.sleep(60)
    del held


def close_descriptors() -> None:
    """Close all but the standard three, the pool's own among them."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def vandal() -> int:
    """Print 30 MB, change the directory, ignore SIGTERM, leave a child behind, then return."""
    for _ in range(30):
        os.write(1, b"x" * 2**20)
    print("y" * 100_000, flush=True)
    os.chdir("/")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    return BAD * 2


@dataclass(frozen=True)
class Crime:
    """due: what the bad item must get: "error", "result", or "either"."""

    commit: Callable[[], Any]
    due: str = "error"


CRIMES: dict[str, Crime] = {
    "segmentation fault": Crime(segfault),
    "os._exit(0)": Crime(exit_0),
    "sys.exit(3)": Crime(sys_exit),
    "exit(3) in C": Crime(c_exit),
    "SIGKILL": Crime(sigkill),
    "SIGSTOP": Crime(sigstop),
    "os.abort()": Crime(abort),
    "stack overflow": Crime(stack_overflow),
    "endless loop in C": Crime(endless_c_loop),
    "memory hog": Crime(memory_hog),
    "closed descriptors": Crime(close_descriptors, "either"),
    "result does not pickle": Crime(unpicklable_result),
    "result does not unpickle": Crime(bomb_as_result),
    "exception does not unpickle": Crime(stubborn_exception),
    "item does not unpickle": Crime(bomb_as_item),
    "prints, chdir, leaves a child": Crime(vandal, "result"),
}


def act(job: tuple[str, Any]) -> Any:
    """The task: twice the item, but for the bad item."""
    crime, item = job
    return CRIMES[crime].commit() if item == BAD else item * 2


def jobs(crime: str) -> list[tuple[str, Any]]:
    """The forty items."""
    made: list[tuple[str, Any]] = [(crime, item) for item in range(ITEMS)]
    if crime == "item does not unpickle":
        made[BAD] = (crime, Bomb())
    return made


#: what came of the items, in their order: (ok, value or text of the error)
Answers = list[tuple[bool, Any]]


def _answer(get: Callable[[], Any]) -> tuple[bool, Any]:
    try:
        return True, get()
    except BaseException as error:  # SystemExit, too, is the item's own when it comes from its future
        return False, f"{type(error).__name__}: {error}"


def _each(submit: Callable[[Any], Callable[[], Any]], items: list[Any]) -> Answers:
    """Submit all, then ask for all; `submit(item)` gives the function that waits for its result."""
    waits = [_answer(lambda item=item: submit(item)) for item in items]  # type: ignore[misc]
    return [_answer(wait) if submitted else (False, wait) for submitted, wait in waits]


def _allcores(mode: str) -> Callable[[list[Any]], Answers]:
    allcores = importlib.import_module("allcores")
    pool = allcores.Pool(2, limits=allcores.Limits(memory_per_worker=MEMORY_LIMIT))
    options: dict[str, Any] = {"chunks": {"chunk": 8}, "retries": {"retries": 1}}.get(mode, {})

    def run(items: list[Any]) -> Answers:
        found: Answers = []
        for outcome in pool.outcomes(act, items, timeout=TIMEOUT, **options):
            text = f"{outcome.kind.value} {type(outcome.error).__name__}: {outcome.error}"
            assert outcome.index == len(found), "outcomes out of order"
            if mode == "retries" and not outcome.ok and outcome.attempts != 2:
                text += WRONG_ATTEMPTS
            found.append((outcome.ok, outcome.value if outcome.ok else text))
        return found

    return run


def _multiprocessing(mode: str) -> Callable[[list[Any]], Answers]:
    pool = multiprocessing.get_context("fork").Pool(2)
    return partial(_each, lambda item: pool.apply_async(act, (item,)).get)


def _executor(mode: str) -> Callable[[list[Any]], Answers]:
    futures = importlib.import_module("concurrent.futures")
    pool = futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    return partial(_each, lambda item: pool.submit(act, item).result)


def _joblib(mode: str) -> Callable[[list[Any]], Answers]:
    joblib = importlib.import_module("joblib")

    def run(items: list[Any]) -> Answers:
        results: Iterator[Any] = joblib.Parallel(n_jobs=2, return_as="generator", batch_size=1, timeout=3.0)(
            joblib.delayed(act)(item) for item in items
        )
        return [_answer(partial(next, results)) for _ in items]

    return run


def _mpire(mode: str) -> Callable[[list[Any]], Answers]:
    pool = importlib.import_module("mpire").WorkerPool(n_jobs=2, keep_alive=True, start_method="fork")
    return partial(_each, lambda item: pool.apply_async(act, (item,), task_timeout=TIMEOUT).get)


def _pebble(mode: str) -> Callable[[list[Any]], Answers]:
    pool = importlib.import_module("pebble").ProcessPool(2, context=multiprocessing.get_context("fork"))
    return partial(_each, lambda item: pool.schedule(act, args=(item,), timeout=TIMEOUT).result)


def _ray(mode: str) -> Callable[[list[Any]], Answers]:
    ray = importlib.import_module("ray")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    remote = ray.remote(max_retries=0)(act)
    return partial(_each, lambda item: partial(ray.get, remote.remote(item)))


def _dask(mode: str) -> Callable[[list[Any]], Answers]:
    distributed = importlib.import_module("distributed")
    client = distributed.Client(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0")
    return partial(_each, lambda item: client.submit(act, item, pure=False).result)


OPENERS: dict[str, Callable[[str], Callable[[list[Any]], Answers]]] = {
    "allcores": _allcores,
    "multiprocessing": _multiprocessing,
    "executor": _executor,
    "joblib": _joblib,
    "mpire": _mpire,
    "pebble": _pebble,
    "ray": _ray,
    "dask": _dask,
}


def verdict(crime: str, answers: Answers, after: Answers) -> str:
    """ "survived", or what went wrong."""
    if len(answers) != ITEMS:
        return f"{ITEMS - len(answers)} items without an answer"
    harmed = sum(1 for item, answer in enumerate(answers) if item != BAD and answer != (True, item * 2))
    if harmed:
        return f"{harmed} other items lost"
    ok, value = answers[BAD]
    due = CRIMES[crime].due
    if (due == "error" and ok) or (due == "result" and (not ok or value != BAD * 2)):
        return "item not named" if due == "error" else "result lost"
    if not ok and str(value).endswith(WRONG_ATTEMPTS):
        return f"item named{WRONG_ATTEMPTS}"
    if after != [(True, item * 2) for item in range(8)]:
        return "pool of no use afterwards"
    return "survived"


def _run(run: Callable[[list[Any]], Answers], items: list[Any]) -> Answers:
    """A run that raises as a whole has lost all of its items."""
    try:
        return run(items)
    except Exception as error:
        return [(False, f"{type(error).__name__}: {error}")] * len(items)


def trial(contender: str, crime: str, mode: str, target: Path) -> None:
    """One contender, one crime, in this process; the verdict goes to the file."""
    run = OPENERS[contender](mode)
    target.with_suffix(".open").touch()
    answers = _run(run, jobs(crime))
    after = _run(run, [(crime, item) for item in range(8)])
    text = answers[BAD][1] if len(answers) > BAD else ""
    facts = {"verdict": verdict(crime, answers, after), "bad_item": re.sub(r"\s+", " ", str(text))[:400]}
    target.with_suffix(".part").write_text(json.dumps(facts))
    target.with_suffix(".part").rename(target)
    # Not to be measured here: how the program ends.
    os._exit(0)


def try_crime(contender: str, crime: str, mode: str, patience: float) -> dict[str, str]:
    """The same in a program of its own, ended when it is done or when patience is."""
    with TemporaryDirectory() as folder:
        target = Path(folder) / "verdict.json"
        program = Program("benchmarks.crimes", contender, crime, mode, str(target))
        opened = time.monotonic() + 30
        while not target.with_suffix(".open").exists() and time.monotonic() < opened:
            if program.wait(0.05) is not None:
                break
        code = program.wait(patience)
        program.end()
        if target.exists():
            facts: dict[str, str] = json.loads(target.read_text())
            return facts
    return {"verdict": "hangs" if code is None else f"program ended with exit code {code}", "bad_item": ""}


def rows(settings: Settings) -> list[Row]:
    """`crimes`."""
    patience = 10.0
    row = Row(
        "crimes",
        "Sixteen ways to ruin a worker: all other items right, the bad item named, the pool of use afterwards",
        "crime",
        f"{ITEMS} items, two workers, item {BAD} commits the crime; {patience:g} s of patience. Peers "
        "send each "
        "item by itself, with their time limit per task where they have one; allcores sends chunks that size "
        "themselves, chunks of eight, and with one retry. What exactly counts is said in "
        "`benchmarks/crimes.py`.",
    )
    columns: list[tuple[str, str, str]] = []
    for name in settings.names():
        if name == "allcores":
            columns += [
                (name, mode, f"allcores{words}")
                for mode, words in (("auto", ""), ("chunks", ", chunks of 8"), ("retries", ", one retry"))
            ]
        else:
            columns.append((name, "auto", name))
    crimes = list(CRIMES)[:: settings.size(1, 11)]
    trials = [(crime, *column) for crime in crimes for column in columns]
    # Nothing is timed, and who hangs costs no core: several at once.
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: try_crime(one[1], one[0], one[2], patience), trials))
    survived: dict[str, int] = {}
    for (crime, _, _, label), facts in zip(trials, found, strict=True):
        row.table.setdefault(crime, {})[label] = facts["verdict"]
        survived[label] = survived.get(label, 0) + (facts["verdict"] == "survived")
        settings.say(f"crimes: {crime}: {label}: {facts['verdict']}; bad item: {facts['bad_item'][:150]}")
    row.table[f"survived, of {len(crimes)}"] = {label: str(count) for label, count in survived.items()}
    for label, count in survived.items():
        row.samples[label] = [float(count)]
    for _, _, label in columns:
        if label.startswith("allcores"):
            row.judge(f"crimes survived by {label}", row.samples[label], least=len(crimes))
    return [row]


if __name__ == "__main__":
    # Tasks must be found under their own module's name, and not under __main__.
    from benchmarks import crimes as _itself

    _itself.trial(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
