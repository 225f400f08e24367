"""Tasks that the tests of the supervisor run."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from allcores.errors import UsageError
from allcores.jobs import task


def note(path: str, text: str = "x") -> None:
    """Append one line, whole or not at all."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


@task
def add(a: int, b: int = 1) -> int:
    return a + b


@task
def echo(value: Any = None) -> Any:
    return value


@task
def pid() -> int:
    return os.getpid()


@task(retries=2, backoff=0.01)
def flaky(path: str, times: int) -> str:
    note(path)
    if len(Path(path).read_text().splitlines()) <= times:
        raise ValueError("not yet")
    return "at last"


@task
def die(how: str, path: str = "") -> None:
    if path:
        note(path)
    if how == "exit":
        os._exit(7)
    elif how == "group":
        os.killpg(0, signal.SIGKILL)
    elif how == "overflow":
        import ctypes

        ctypes.string_at(0)
    else:
        os.kill(os.getpid(), getattr(signal, how))


@task
def die_once(path: str) -> str:
    note(path)
    if len(Path(path).read_text().splitlines()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@task
def hold(path: str) -> str:
    """Run until a file is there."""
    note(f"{path}.pids", str(os.getpid()))
    while not os.path.exists(path):
        time.sleep(0.005)
    return "held"


@task
def stubborn(path: str) -> None:
    note(f"{path}.pids", str(os.getpid()))
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


@task
def unspeakable() -> None:
    raise Unspeakable


@task
def unspeakable_with_job(job) -> None:  # type: ignore[no-untyped-def]
    raise Unspeakable


def ends_itself(path: str) -> None:
    """What is told to end raises SystemExit: as programs do that tidy up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    note(f"{path}.pids", str(os.getpid()))
    while True:
        time.sleep(0.01)


@task(retries=5, backoff=0.01)
def tidy(path: str) -> None:
    ends_itself(path)


@task(retries=5, backoff=0.01)
def tidy_with_job(job, path: str) -> None:  # type: ignore[no-untyped-def]
    ends_itself(path)


@task
def stuck_in_c(path: str) -> None:
    """A regular expression that takes longer than the world lasts, with the GIL held."""
    import re

    note(f"{path}.pids", str(os.getpid()))
    re.match(r"(a+)+$", "a" * 60 + "b")


@task
def hog() -> None:
    kept = []
    while True:
        kept.append(bytearray(10_000_000))
        time.sleep(0.01)


@task
def large(size: int) -> str:
    return "x" * size


@task
def large_and_noted(path: str, size: int) -> str:
    note(path)
    return "x" * size


@task
def many_digits() -> int:
    import sys

    sys.set_int_max_str_digits(0)
    return 10**5000


@task
def many_digits_with_job(job) -> int:  # type: ignore[no-untyped-def]
    return many_digits()


@task
def not_json() -> Any:
    return object()


@task
def same_keys() -> Any:
    return {"by_id": {1: "a", "1": "b"}}


@task
def same_keys_with_job(job) -> Any:  # type: ignore[no-untyped-def]
    return {"by_id": {1: "a", "1": "b"}}


@task
def odd_progress(job, refused: list[dict[str, Any]], last: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    """Tells each, all but the last of which have to be refused."""
    for each in refused:
        try:
            job.progress(**{"done": 1, **each})
        except UsageError as error:
            assert "give a whole number from 0 on" in str(error), each
        else:
            raise AssertionError(f"{each} was taken")
    job.progress(**{"done": 1, **last})


def one_item(item: str) -> int:
    path, number = item.rsplit(":", 1)
    note(path, number)
    return int(number)


def one_item_fails(item: str) -> int:
    path, number = item.rsplit(":", 1)
    note(path, number)
    if int(number) % 10 == 3 and not os.path.exists(f"{path}.mended"):
        raise ValueError(f"item {number}")
    return int(number)


def slow_item(item: str) -> int:
    time.sleep(0.002)
    return one_item(item)


@task(name="run_items")
def run_items(job, path: str, count: int, slow: bool = False):  # type: ignore[no-untyped-def]
    note(f"{path}.pids", str(os.getpid()))
    items = [f"{path}:{number}" for number in range(count)]
    return job.run(slow_item if slow else one_item, items, job.result_path("out.jsonl"))


@task(retries=1, backoff=0.01)
def two_runs(job, path: str, count: int):  # type: ignore[no-untyped-def]
    for each in ("a", "b"):
        items = [f"{path}.{each}:{number}" for number in range(count)]
        job.run(one_item, items, job.result_path(f"{each}.jsonl"))
    if job.attempt == 1:
        raise ValueError("the first attempt")


@task(retries=1, backoff=0.01)
def half_a_file(job, again: bool):  # type: ignore[no-untyped-def]
    if job.attempt == 1:
        with open(job.result_path("half.txt"), "w") as file:
            file.write("hal")
        raise ValueError("the first attempt")
    if again:
        with open(job.result_path("half.txt"), "a") as file:
            file.write("f")
    with open(job.result_path("whole.txt"), "w") as file:
        file.write("whole")


@task
def run_failing(job, path: str, count: int):  # type: ignore[no-untyped-def]
    return job.run(one_item_fails, [f"{path}:{number}" for number in range(count)], job.result_path("out.jsonl"))


@task
def with_job(job, n: int):  # type: ignore[no-untyped-def]
    job.log("begins with %d", n)
    squares = job.map(square, range(n))
    with open(job.result_path("squares.txt"), "w") as file:
        file.write("\n".join(map(str, squares)))
    job.progress(n, n, note="written")
    return sum(squares)


@task
def answers_oddly(what: str) -> None:
    """Its worker sends what is no answer of this version, once."""
    from allcores.jobs import plain_call

    odd: dict[str, Any] = {
        "few": ("ok",), "none": None, "seconds": (True, "1", (), "", "", "", float("nan"), False),
        "text": (True, 7, (), "", "", "", 0.0, False), "files": (True, "1", [1], "", "", "", 0.0, False),
        "size": (True, "1", [("a", 10**30, "b")], "", "", "", 0.0, False),
    }  # fmt: skip

    def fields(_: Any) -> Any:
        del plain_call.tuple  # type: ignore[attr-defined]
        return odd[what]

    plain_call.tuple = fields  # type: ignore[attr-defined]


@task
def ends_template(path: str) -> None:
    note(path)
    os.kill(os.getppid(), signal.SIGKILL)
    while True:
        time.sleep(1)


def end_supervisor(folder: str, path: str) -> None:
    """At once: before its supervisor has told anybody that this job runs."""
    from allcores.jobs.supervisor_lock import supervisor_of

    note(path)
    found = supervisor_of(Path(folder))
    assert found
    os.kill(found, signal.SIGKILL)


@task
def ends_supervisor(folder: str, path: str) -> None:
    end_supervisor(folder, path)


@task
def ends_supervisor_with_job(job, folder: str, path: str) -> None:  # type: ignore[no-untyped-def]
    end_supervisor(folder, path)


@task
def die_with_job(job, how: str = "SIGKILL"):  # type: ignore[no-untyped-def]
    os.kill(os.getpid(), getattr(signal, how))


@task
def hold_with_job(job, path: str):  # type: ignore[no-untyped-def]
    import subprocess

    child = subprocess.Popen(["sleep", "1000"])
    note(f"{path}.pids", str(os.getpid()))
    note(f"{path}.pids", str(child.pid))
    return job.map(hold_item, [path, path])


@task(timeout=30)
def wait_with_job(job, bell: str, gate: str) -> str:  # type: ignore[no-untyped-def]
    from tests.process.waiting import ring, wait_at

    ring(bell)
    wait_at(gate)
    return "done"


@task
def pid_with_job(job) -> int:  # type: ignore[no-untyped-def]
    return os.getpid()


@task
def maps_in_threads(job, n: int) -> list[int]:  # type: ignore[no-untyped-def]
    """Two maps at the same time: both threads ask for cores before one of them has any."""
    import threading

    sums: list[int] = []
    begin = threading.Barrier(2)

    def one() -> None:
        begin.wait()
        sums.append(sum(job.map(square, range(n))))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sums


def hold_item(path: str) -> str:
    return hold(path)


def square(n: int) -> int:
    return n * n


def start_elsewhere(path: str, how: str) -> None:
    """Start something that leaves the group and the session, and has written its number when this returns."""
    import subprocess

    script = f"echo $$ >> {path}.pids; exec sleep 1000"
    environment = {"PATH": os.environ["PATH"]} if how.endswith("unmarked") else None
    if how.startswith("session"):
        subprocess.Popen(["sh", "-c", script], start_new_session=True, env=environment)
    elif how.startswith("daemon"):
        # Its parent is gone when this returns.
        subprocess.run(["sh", "-c", f"setsid sh -c '{script}' &"], check=True, env=environment)
    elif os.fork() == 0:
        os.setsid()
        note(f"{path}.pids", str(os.getpid()))
        while True:
            time.sleep(60)
    while not os.path.exists(f"{path}.pids"):
        time.sleep(0.005)


def then(path: str, end: str) -> str:
    """What becomes of the attempt."""
    note(f"{path}.ready")
    if end == "dies" and not os.path.exists(f"{path}.died"):
        note(f"{path}.died")
        os.kill(os.getpid(), signal.SIGKILL)
    while end == "hangs":
        time.sleep(0.01)
    return end


@task
def elsewhere(path: str, how: str, end: str = "hangs") -> str:
    if not os.path.exists(f"{path}.died"):
        start_elsewhere(path, how)
    return then(path, end)


@task
def elsewhere_with_job(job, path: str, how: str, end: str = "hangs") -> str:  # type: ignore[no-untyped-def]
    if not os.path.exists(f"{path}.died"):
        start_elsewhere(path, how)
    return then(path, end)


@task
def noted(path: str, n: int) -> int:
    note(path, str(n))
    return n


@task
def writes_files(job, path: str) -> str:  # type: ignore[no-untyped-def]
    """Writes what a job writes to its store, once that was moved away."""
    hold(path)
    for write in (lambda: job.log("a line"), lambda: open(job.result_path("a.txt"), "w").close()):
        try:
            write()
        except OSError:
            pass
    try:
        return str(job.run(square, [1, 2, 3]).ok)
    finally:
        note(f"{path}.tried")


def occupy(folder: str, job: str) -> str:
    """A large result, where no folder can be made for it; the next attempt finds room."""
    place = os.path.join(folder, "results", job)
    marker = os.path.join(folder, f"{job}.tried")
    if not os.path.exists(marker):
        note(marker)
        note(place)
    return "x" * 300_000


@task
def result_without_room(folder: str) -> str:
    return occupy(folder, os.environ["ALLCORES_JOB"].partition(".")[0])


@task
def result_without_room_with_job(job, folder: str) -> str:  # type: ignore[no-untyped-def]
    return occupy(folder, job.id)


@task
def numbered(path: str, n: int) -> int:
    """Writes down that it ran; takes long enough for something to happen meanwhile."""
    note(path, str(n))
    time.sleep(0.01)
    return n
