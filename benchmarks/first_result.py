"""A fresh program with running threads that makes a pool and wants one result.

    python -m benchmarks.first_result CONTENDER FILE

Writes seconds to FILE: for the import of the library, and from before the pool is made to the first
result. Kept free of imports, since some start methods run it again in each worker.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from benchmarks.tasks import add_one

#: threads that run while the pool starts; each wakes a thousand times a second
THREADS = 4


def first_result(contender: str, workers: int) -> tuple[float, float]:
    """Seconds for the import and for the first result; `contender` may end in `:start method`."""
    name, _, method = contender.partition(":")
    import multiprocessing

    context = multiprocessing.get_context(method or None)
    before = time.perf_counter()
    if name == "allcores":
        import allcores

        started = time.perf_counter()
        pool = allcores.Pool(workers, start_method=method) if method else allcores.Pool(workers)
        answer = pool.submit(add_one, 1).result()
    elif name == "multiprocessing":
        import multiprocessing.pool

        started = time.perf_counter()
        answer = context.Pool(workers).apply(add_one, (1,))
    elif name == "executor":
        import concurrent.futures.process

        started = time.perf_counter()
        answer = concurrent.futures.ProcessPoolExecutor(workers, context).submit(add_one, 1).result()
    else:
        from benchmarks.contenders import CONTENDERS

        __import__(CONTENDERS[name].package or "sys")
        started = time.perf_counter()
        answer = CONTENDERS[name](workers).call(add_one, 1)
    seconds = time.perf_counter() - started
    assert answer == 2, "wrong result"
    return started - before, seconds


def _tick() -> None:
    while True:
        time.sleep(0.001)


def main() -> None:
    """Measure, write, leave without tidying up: the caller ends what is left."""
    for _ in range(THREADS):
        threading.Thread(target=_tick, daemon=True).start()
    import_s, seconds = first_result(sys.argv[1], 2)
    target = Path(sys.argv[2])
    target.with_suffix(".part").write_text(json.dumps({"import_s": import_s, "seconds": seconds}))
    target.with_suffix(".part").rename(target)


if __name__ == "__main__":
    main()
