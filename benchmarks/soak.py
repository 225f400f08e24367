"""Kills one run again and again at random moments, then looks whether its output is exact. Stops by itself.

python benchmarks/soak.py                  200 kills, some minutes
python benchmarks/soak.py --kills 20 --seed 7 --who parent
python benchmarks/soak.py --pool spawn     a pool instead, whose processes are killed and stopped, also while they start

Each session is a program of its own. It is killed with SIGKILL at a random moment: the parent, one of its workers, or
all at once. At the end one session is left in peace. It has --retry-failed, since an item whose worker was killed has
failed by that. Its output must be that of an undisturbed run, byte for byte.

With --pool no journal takes part: one pool of that start method goes through all of it, and each of its maps must have
all results. Half of the strikes wait for a process that has just been started.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.processes import MARK, marked  # noqa: E402

WORK = """
import time

def work(line):
    number = int(line)
    time.sleep(0.0005 if number % 10 else 0.005)
    if number % 1009 == 7:
        raise ValueError(f"{number} is refused")
    return {"n": number, "square": number * number, "text": "x" * (number % 50)}
"""


def expected(items: int) -> str:
    """The digest of an undisturbed run's output."""
    digest = hashlib.sha256()
    for number in range(items):
        if number % 1009 != 7:
            value = {"n": number, "square": number * number, "text": "x" * (number % 50)}
            digest.update(json.dumps(value).encode() + b"\n")
    return digest.hexdigest()


def children(pid: int) -> list[int]:
    """Descendants of a process, as far as they can be seen."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{current}/task"):
                kids = Path(f"/proc/{current}/task/{task}/children").read_text().split()
                found += map(int, kids)
                waiting += map(int, kids)
    return found


def strike(process: subprocess.Popen[bytes], who: str, chance: random.Random) -> str:
    """Kill somebody; who it was."""
    who = chance.choice(["parent", "worker", "all"]) if who == "any" else who
    family = children(process.pid)
    if who == "worker" and family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(family), signal.SIGKILL)
        return "worker"
    if who == "all":
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.kill()
    return who


# --- a pool ---------------------------------------------------------------------------------------

#: seconds after which a pool in this soak looks for workers that were stopped; 10 would make it last for hours
STOPPED_S = 0.2


#: between two strikes a pool could start so often, at most
STARTS = 4


def processes_of_pool(mark: str) -> list[int]:
    """This program's descendants, and who has lost its parent: workers of a template that was killed."""
    return sorted({*children(os.getpid()), *marked(mark)} - {os.getpid()})


def strike_pool(
    kills: int, chance: random.Random, struck: Counter[str], over: threading.Event, mark: str, most_s: float = 1.0
) -> None:
    """Strike processes of this program's pool at random moments, half of them as soon as they are seen.

    At the end all of them go on: one that was stopped amid an item without a deadline is waited for.
    """
    known: set[int] = set()
    while struck.total() < kills and not over.is_set():
        fresh = chance.random() < 0.5
        until = time.monotonic() + chance.uniform(0.0, most_s)
        family: list[int] = []
        while not over.is_set():
            family = processes_of_pool(mark)
            new = [pid for pid in family if pid not in known]
            known.update(family)
            if (fresh and new) or time.monotonic() > until:
                family = new or family
                break
        if family:
            number = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(family), number)
                struck[f"{number.name} {'as it starts' if fresh else 'later'}"] += 1
    over.set()
    for pid in processes_of_pool(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def square(number: int) -> int:
    """What the pool's maps do."""
    time.sleep(0.001)
    return number * number


def soak_pool(method: str, kills: int, chance: random.Random) -> int:
    """Exit code 0 if no map lost a result, and the pool is well at the end."""
    from allcores import Pool
    from allcores.scheduler import timeouts, workers

    modules: list[Any] = [timeouts, workers]
    for module in modules:
        for name in ("STOPPED_NS", "START_NS"):
            if hasattr(module, name):
                setattr(module, name, int(STOPPED_S * 1e9))
    struck: Counter[str] = Counter()
    over = threading.Event()
    os.environ[MARK] = mark = uuid.uuid4().hex
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        began = time.monotonic()
        with Pool(2, start_method=method) as pool:
            assert pool.map(square, range(10)) == [number**2 for number in range(10)]
        # On a machine that is slower or busy, no pool can do anything between strikes that are quicker than a start.
        most_s = max(1.0, STARTS * (time.monotonic() - began))
        pool = Pool(2, start_method=method)
    killer = threading.Thread(target=strike_pool, args=(kills, chance, struck, over, mark, most_s), daemon=True)
    maps, started = 0, time.monotonic()
    try:
        with pool:
            killer.start()
            while not over.is_set():
                assert pool.map(square, range(200), retries=1000) == [number**2 for number in range(200)]
                maps += 1
            killer.join()
            assert pool.map(square, range(200), retries=1000) == [number**2 for number in range(200)]
            begun = pool.statistics().workers_started
    finally:
        over.set()
        print(
            f"{method}: {struck.total()} strikes ({', '.join(f'{n} × {what}' for what, n in sorted(struck.items()))})"
        )
    print(f"{maps} maps exact, {begun} workers started, {time.monotonic() - started:.0f} s")
    return 0


def main() -> int:
    """Exit code 0 if the output is exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--items", type=int, default=0, help="default: enough for the kills")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--who", choices=["any", "parent", "worker", "all"], default="any")
    parser.add_argument("--pool", metavar="METHOD", choices=["template", "fork", "spawn", "forkserver"])
    options = parser.parse_args()
    if options.pool:
        print(f"seed {options.seed}", flush=True)
        return soak_pool(options.pool, options.kills, random.Random(options.seed))
    items = options.items or options.kills * 400
    chance = random.Random(options.seed)
    struck: Counter[str] = Counter()
    sessions = whole = 0
    with tempfile.TemporaryDirectory(prefix="allcores-soak-") as folder:
        Path(folder, "work.py").write_text(WORK)
        Path(folder, "in.txt").write_text("".join(f"{number}\n" for number in range(items)))
        command = [sys.executable, "-m", "allcores", "run", "work.py:work", "in.txt", "-o", "out.jsonl", "--resume"]
        command += ["--on-error", "skip", "--quiet", "--runs-dir", "runs"]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        }
        print(f"seed {options.seed}, {items:,} items, {options.kills} kills", flush=True)
        started = time.monotonic()
        while True:
            process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE)
            sessions += 1
            while process.poll() is None and struck.total() < options.kills:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(chance.uniform(0.05, 1.2))
                if process.poll() is None:
                    struck[strike(process, options.who, chance)] += 1
            _, said = process.communicate()
            if process.returncode in (0, 1):
                whole += 1
                if struck.total() >= options.kills:
                    again = subprocess.run([*command, "--retry-failed"], cwd=folder, env=environment)
                    sessions += 1
                    assert again.returncode == 1, again.returncode
                    break
                # Finished too early: the next session publishes again, and is killed at that.
            elif process.returncode != -signal.SIGKILL:
                print(f"session {sessions} ended with {process.returncode}: {said.decode()}")
                return 1
        digest = hashlib.sha256(Path(folder, "out.jsonl").read_bytes()).hexdigest()
        left = sorted(name for name in os.listdir(folder) if name.startswith("."))
    exact = digest == expected(items)
    kills = ", ".join(f"{count} × {who}" for who, count in sorted(struck.items()))
    print(
        f"{struck.total()} kills ({kills}) in {sessions} sessions and {time.monotonic() - started:.0f} s:"
        f" output {'exact' if exact else 'WRONG'}, left beside it: {left or 'nothing'}"
    )
    return 0 if exact and not left else 1


if __name__ == "__main__":
    sys.exit(main())
