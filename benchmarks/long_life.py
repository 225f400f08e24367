"""What a long life leaves in the program: memory, descriptors, threads, shared memory. Stops by itself.

python benchmarks/long_life.py                         every life, some ten minutes
python benchmarks/long_life.py streams --share 0.1     one of them, a tenth as long
python benchmarks/long_life.py --start-method spawn

Each life repeats one thing, in a program of its own. What the program has is looked at after a fifth, three fifths and
all of it. From the second look to the third nothing may grow but by what an allocator needs for itself.

    pools         pools that are made, used and closed
    calls         submit().result()
    streams       streams that are left midway: closed, dropped, or by a break
    replacements  workers that crash, or have run as many items as they may
    results       large results of workers that are recycled after each
    broken        calls to a pool that is broken
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

#: what memory may grow by between the last two looks, MB
GROWTH_MB = 2.0
LOOKS = (0.2, 0.6, 1.0)


class Look(NamedTuple):
    """What the program has at one moment."""

    rss_mb: float
    descriptors: int
    threads: int
    shm_names: int
    shm_mb: float


def look() -> Look:
    """After a collection of garbage."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    descriptors = os.listdir("/proc/self/fd")
    blocks = {}
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if "memfd:" in os.readlink(f"/proc/self/fd/{descriptor}"):
                status = os.fstat(int(descriptor))
                blocks[status.st_ino] = status.st_blocks * 512
    return Look(
        resident / 1e6,
        len(descriptors),
        len(os.listdir("/proc/self/task")),
        len(os.listdir("/dev/shm")),
        sum(blocks.values()) / 1e6,
    )


def double(number: int) -> int:
    """A small task."""
    return 2 * number


def large(number: int) -> bytes:
    """A result that travels through shared memory."""
    return bytes([number % 256]) * 300_000


def crash(number: int) -> int:
    """Every fifth ends its worker."""
    if number % 5 == 0:
        os.kill(os.getpid(), 9)
    return 2 * number


def refuse() -> None:
    """A setup function that fails."""
    raise ValueError("refused")


# --- lives: each yields after each turn -----------------------------------------------------------


def pools(method: str) -> Iterator[None]:
    """See the module."""
    from allcores import Pool

    while True:
        with Pool(2, start_method=method) as pool:
            assert pool.map(double, range(10)) == list(range(0, 20, 2))
        yield


def calls(method: str) -> Iterator[None]:
    """See the module."""
    from allcores import Pool

    with Pool(2, start_method=method) as pool:
        while True:
            assert pool.submit(double, 21).result() == 42
            yield


def streams(method: str) -> Iterator[None]:
    """See the module."""
    from allcores import Pool

    with Pool(2, start_method=method) as pool:
        while True:
            stream = pool.imap(double, range(1000))
            assert next(stream) == 0
            stream.close()
            yield
            stream = pool.imap(double, range(1000))
            assert next(stream) == 0
            del stream
            yield
            for value in pool.imap_unordered(double, range(1000)):
                assert value % 2 == 0
                break
            yield


def replacements(method: str) -> Iterator[None]:
    """See the module. A turn is one worker that is replaced."""
    from allcores import Limits, Pool

    with Pool(2, start_method=method, limits=Limits(items_per_worker=4)) as pool:
        while True:
            before = pool.statistics().workers_started
            outcomes = list(pool.outcomes(crash, range(20)))
            assert [outcome.value for outcome in outcomes if outcome.ok] == [2 * n for n in range(20) if n % 5]
            for _ in range(pool.statistics().workers_started - before):
                yield


def results(method: str) -> Iterator[None]:
    """See the module."""
    from allcores import Limits, Pool

    with Pool(2, start_method=method, limits=Limits(items_per_worker=1)) as pool:
        while True:
            for number, value in enumerate(pool.imap(large, range(20))):
                assert len(value) == 300_000
                assert value[0] == number
                yield


def broken(method: str) -> Iterator[None]:
    """See the module."""
    from allcores import BrokenPool, Pool, SetupError

    with Pool(2, start_method=method, setup=refuse) as pool:
        while True:
            for verb in (lambda: pool.submit(double, 1).result(), lambda: pool.map(double, [1])):
                try:
                    verb()
                except (SetupError, BrokenPool):
                    yield
                else:
                    raise AssertionError("the pool is not broken")


LIVES: dict[str, tuple[Callable[[str], Iterator[None]], int]] = {
    "pools": (pools, 300),
    "calls": (calls, 200_000),
    "streams": (streams, 10_000),
    "replacements": (replacements, 5_000),
    "results": (results, 2_000),
    "broken": (broken, 20_000),
}


def live(name: str, method: str, share: float) -> int:
    """One life, in this program; exit code 0 if nothing grew."""
    lifecycle, turns = LIVES[name]
    turns = max(5, int(turns * share))
    begun = time.monotonic()
    looks: list[Look] = []
    going = lifecycle(method)
    for turn, _ in enumerate(going, 1):
        if turn >= turns * LOOKS[len(looks)]:
            looks.append(look())
            if len(looks) == len(LOOKS):
                break
    going.close()  # type: ignore[attr-defined]
    print(f"{name}, {method}: {turns:,} turns, {time.monotonic() - begun:.0f} s")
    for part, seen in zip(LOOKS, looks, strict=True):
        print(
            f"  {part:4.0%}  {seen.rss_mb:6.1f} MB, {seen.descriptors} descriptors, {seen.threads} threads,"
            f" {seen.shm_mb:.1f} MB in blocks, {seen.shm_names} names in /dev/shm"
        )
    _, middle, last = looks
    flat = last.rss_mb - middle.rss_mb <= GROWTH_MB and last.shm_mb - middle.shm_mb <= GROWTH_MB
    # A worker that is being replaced at one of the looks has a pipe more, or less.
    flat = flat and last.descriptors <= middle.descriptors + 4 and last.threads <= middle.threads + 1
    print(f"  {'flat' if flat else 'IT GROWS'}", flush=True)
    return 0 if flat else 1


def main() -> int:
    """Exit code 0 if nothing grew in any life."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lives", nargs="*", metavar="LIFE", help=f"of {', '.join(LIVES)}; default: each")
    parser.add_argument("--share", type=float, default=1.0, help="of the turns; 1 is all of them")
    parser.add_argument("--start-method", default="template", choices=["template", "fork", "spawn", "forkserver"])
    options = parser.parse_args()
    if unknown := [name for name in options.lives if name not in LIVES]:
        parser.error(f"no life is called {unknown[0]!r}")
    if len(options.lives) == 1:
        return live(options.lives[0], options.start_method, options.share)
    failed = 0
    for name in options.lives or LIVES:
        command = [sys.executable, __file__, name, "--share", str(options.share)]
        failed |= subprocess.run([*command, "--start-method", options.start_method]).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
