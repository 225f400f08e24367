"""How much of the cores' time goes into the function, and what the parent takes of it; warm and cold.

Items spin for a time that is known, so efficiency is that time over what the cores had. Peers get the chunk that suits
each size. One pair measures allcores against itself: what it shows besides 1.0 is the machine's doing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.contenders import Contender
from benchmarks.processes import Host
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings
from benchmarks.tasks import add_one, spin_for

#: µs an item, the chunk for it by hand, and what is aimed at
SIZES = ((100, 200, 0.93), (1_000, 20, 0.97), (4_000, 8, 0.97), (20_000, 2, 0.97))
#: allcores a second time, in a program of its own
AGAIN = "allcores again"
#: peers that stream with a chunk by hand and have no process between parent and workers
PEERS = ("multiprocessing", "executor")


def newest_python() -> str | None:
    """The newest CPython on the search path that can import what allcores needs; None: this one is the newest."""
    found: dict[int, str] = {}
    for folder in filter(None, os.environ.get("PATH", "").split(os.pathsep)):
        for path in Path(folder).glob("python3.*"):
            number = re.fullmatch(r"python3\.(\d+)", path.name)
            if number is not None:
                found.setdefault(int(number[1]), str(path))
    for minor in sorted(found, reverse=True):
        python = shutil.which(found[minor])
        if python is not None and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python if minor > sys.version_info.minor else None
    return None


def efficiency(contender: Contender, us: int, chunk: int, seconds: float) -> dict[str, float]:
    """Share of the cores' time in the function, and of the parent in it, of a stream of spinning items."""
    items = max(4, int(contender.workers * seconds * 1e6 / us))
    cpu, started = time.process_time(), time.perf_counter()
    done = sum(1 for _ in contender.stream(spin_for, [us] * items, chunk))
    cores = (time.perf_counter() - started) * contender.workers
    assert done == items, "results are missing"
    return {"share": items * us / 1e6 / cores, "parent": (time.process_time() - cpu) / cores}


def cold_efficiency(contender: Contender, us: int, chunk: int, seconds: float) -> dict[str, float]:
    """The same for the first stream of a fresh pool whose workers are there."""
    contender.start_again()
    return efficiency(contender, us, chunk, seconds)


def cold_stream(contender: Contender, items: int) -> float:
    """µs an item of x+1, the first stream of a fresh pool whose workers are there."""
    contender.start_again()
    started = time.perf_counter()
    assert sum(contender.stream(add_one, range(items), 1_024)) == items * (items + 1) // 2, "wrong results"
    return (time.perf_counter() - started) / items * 1e6


def _measured(host: Host, function: str, key: str, **arguments: float) -> float:
    return float(host.measure(f"efficiency:{function}", **arguments)[key])


def _cold_cost(host: Host, items: int) -> float:
    return float(host.measure("efficiency:cold_stream", items=items))


def rows(settings: Settings) -> list[Row]:
    """`efficiency` in four sizes, `parent`, `cold-efficiency`, `cold-imap`."""
    seconds = 0.05 if settings.quick else 2.0
    python = newest_python()
    names = [name for name in settings.names() if name in ("allcores", *PEERS)]
    hosts = {name: Host(name, settings.workers, python=python) for name in names}
    if "allcores" in hosts:
        hosts[AGAIN] = Host("allcores", settings.workers, python=python)
    made: list[Row] = []
    where = f"{settings.workers} workers, {'the newest Python here' if python else 'this Python'}"
    try:
        for us, chunk, aim in SIZES:
            row = Row(
                f"efficiency-{us / 1000:g}ms",
                f"Share of the cores' time in the function, items of {us / 1000:g} ms",
                "share",
                f"Items spin. {where}, warm; peers with a chunk of {chunk}. Shuffled turns.",
            )
            arguments = {"us": us, "chunk": chunk, "seconds": seconds}
            for host in hosts.values():
                host.measure("efficiency:efficiency", **{**arguments, "seconds": min(0.1, seconds)})
            measures = {
                name: partial(_measured, host, "efficiency", "share", **arguments) for name, host in hosts.items()
            }
            in_turn(row, measures, settings.rounds, settings, shuffled=True)
            row.judge("allcores", row.samples.get("allcores", ()), least=aim)
            _against_peers(row, least=1.0)
            made.append(row)
        parent = Row(
            "parent",
            "Share of the cores' time that the parent takes, items of 1 and 4 ms",
            "share",
            f"Processor time of the parent over what the cores had. {where}, warm. Shuffled turns.",
        )
        measures = {
            f"{name}, {us / 1000:g} ms": partial(
                _measured, host, "efficiency", "parent", us=us, chunk=chunk, seconds=seconds
            )
            for name, host in hosts.items()
            for us, chunk, _ in SIZES[1:3]
        }
        in_turn(parent, measures, settings.rounds, settings, shuffled=True)
        for us, _, _ in SIZES[1:3]:
            parent.judge(f"at {us / 1000:g} ms", parent.samples.get(f"allcores, {us / 1000:g} ms", ()), most=0.02)
        made.append(parent)
        made += _cold(hosts, settings, seconds, where)
    finally:
        for host in hosts.values():
            host.close()
    return made


def _cold(hosts: dict[str, Host], settings: Settings, seconds: float, where: str) -> list[Row]:
    cold = Row(
        "cold-efficiency",
        "Share of the cores' time in the function, first stream of a fresh pool, items of 4 ms",
        "share",
        f"{where}, which are there when it begins. Shuffled turns.",
    )
    us, chunk, _ = SIZES[2]
    measures = {
        name: partial(_measured, host, "cold_efficiency", "share", us=us, chunk=chunk, seconds=seconds)
        for name, host in hosts.items()
    }
    in_turn(cold, measures, settings.rounds, settings, shuffled=True)
    _against_peers(cold, least=1.0)
    items = settings.size(100_000, 5_000)
    stream = Row(
        "cold-imap",
        f"Ordered stream of x+1 over {items:,} items, first stream of a fresh pool",
        "µs per item",
        f"{where}, which are there when it begins; peers with a chunk of 1,024. Shuffled turns.",
    )
    costs = {name: partial(_cold_cost, host, items) for name, host in hosts.items()}
    in_turn(stream, costs, settings.rounds, settings, shuffled=True)
    stream.judge("µs an item", stream.samples.get("allcores", ()), most=0.4)
    _itself(stream)
    return [cold, stream]


def _against_peers(row: Row, *, least: float) -> None:
    medians = {name: spread.median for name in PEERS if (spread := row.spread(name)) is not None}
    if medians:
        best = max(medians, key=lambda name: medians[name])
        row.judge(f"allcores / best peer ({best})", row.ratios("allcores", best), least=least)
    _itself(row)


def _itself(row: Row) -> None:
    """What a pair that is the same shows."""
    if AGAIN in row.samples:
        off = [None if ratio is None else abs(ratio - 1) for ratio in row.ratios("allcores", AGAIN)]
        row.judge("allcores against itself, off 1.0 by", off, most=0.05)
