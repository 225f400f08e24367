"""What `multiprocessing` shares between processes works in workers, as it does in those of ProcessPoolExecutor."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process import scripts

METHODS = ["template", "fork", "spawn"]

MANAGER = """
import functools, os, sys, warnings
import allcores
method = None if sys.argv[1] == "template" else sys.argv[1]
warnings.simplefilter("ignore")  # that this program has threads, and memory not shared

def put(mapping, n): mapping[n] = n

def add(lock, value, n):
    with lock: value.value += n

def give(value): return value

def size(mapping, n): return len(mapping)

def die(mapping, n):
    mapping["died"] = n
    os._exit(3)

def nested(mapping, n):
    with allcores.Pool(1, start_method=method) as pool:
        pool.map(functools.partial(put, mapping), [n])

with allcores.Pool(1, start_method=method) as pool:
    pool.map(abs, range(2))
    import multiprocessing  # after the worker has started
    with multiprocessing.Manager() as manager:
        mapping = manager.dict()
        pool.map(functools.partial(put, mapping), range(3))
        pool.map(functools.partial(add, lock := manager.Lock(), value := manager.Value("i", 0)), range(3))
        pool.map((queue := manager.Queue()).put, [5])
        print(dict(mapping), value.value, queue.get())
        (outcome,) = pool.outcomes(functools.partial(die, mapping), [1])
        pool.map(functools.partial(put, mapping), [4])
        pool.submit(nested, mapping, 5).result()
        print(outcome.kind, sorted(mapping, key=str), pool.submit(give, mapping).result()[4])
        with allcores.Pool(1, start_method=method, setup=give, setup_args=(mapping,)) as other:
            print(other.map(size, [1]))
        with allcores.Pool(1, start_method=method, preload=give, preload_args=(mapping,)) as other:
            print(other.map(size, [1]))
    multiprocessing.current_process().authkey = b"another"
    with multiprocessing.Manager() as manager:
        pool.map(functools.partial(put, mapping := manager.dict()), range(3))
        print(dict(mapping))
"""


@pytest.mark.parametrize("method", METHODS)
def test_proxies_of_managers(tmp_path: Path, method: str) -> None:
    """In items, functions, setup and preload, in a replaced worker, in a nested pool; also with another key later."""
    ending = scripts.run(MANAGER, tmp_path, method)
    assert (ending.err, ending.code) == ("", 0)
    assert ending.lines == [
        "{0: 0, 1: 1, 2: 2} 3 5",
        "Kind.WORKER_LOST [0, 1, 2, 4, 5, 'died'] 4",
        "[6]",
        "[6]",
        "{0: 0, 1: 1, 2: 2}",
    ]
