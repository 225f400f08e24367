"""The workloads: a function of one item, the items, and the library that it needs. Some seconds of work each."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

TEXT = " ".join(f"word{number % 997} 12.{number % 89}" for number in range(20_000))
BYTES = TEXT.encode()


@dataclass(frozen=True, slots=True)
class Workload:
    """One of them.

    Attributes:
        fn: The function.
        items: Makes the items.
        needs: What has to be importable; None for nothing.
    """

    fn: Callable[[Any], Any]
    items: Callable[[], Sequence[Any]]
    needs: str | None = None


def python_loop(number: int) -> int:
    total = 0
    for each in range(25_000):
        total += each * number
    return total


def tiny(number: int) -> int:
    return number * number + 1


def small(number: int) -> int:
    return sum(range(number % 7 + 300))


def regex(number: int) -> int:
    return len(re.findall(r"word\d*7 (\d+)\.5", TEXT[number % 100 :]))


def json_round(number: int) -> int:
    return len(json.dumps(json.loads(json.dumps([{"id": each, "n": number} for each in range(2_000)]))))


def small_hashes(number: int) -> str:
    digest = b"%d" % number
    for _ in range(2_000):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


def large_hash(number: int) -> str:
    return hashlib.sha256(BYTES * 10 + b"%d" % number).hexdigest()


def compress(number: int) -> int:
    return len(zlib.compress(BYTES[number % 100 :]))


def sleep(number: int) -> int:
    time.sleep(0.01)
    return number


def half_sleep(number: int) -> int:
    time.sleep(0.002)
    return python_loop(number)


def read_file(path: str) -> int:
    with open(path, "rb") as file:
        return sum(file.read()[:64])


def write_and_sync(number: int) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(BYTES[:4096])
        file.flush()
        os.fsync(file.fileno())
    return number


def mixed(number: int) -> int:
    return python_loop(number) + len(zlib.compress(BYTES[:60_000]))


def large_result(number: int) -> list[int]:
    return list(range(number, number + 20_000))


def short_result(number: int) -> int:
    """What a caller may want of it: a figure, not the list. One that takes no time, so that nothing else changes."""
    return len(large_result(number))


def large_argument(data: bytes) -> int:
    return zlib.crc32(data) + sum(range(20_000))


def argument_by_path(path: str) -> int:
    """The same of a file, read where it is worked on."""
    with open(path, "rb") as file:
        return large_argument(file.read())


def common_argument(pair: tuple[bytes, int]) -> int:
    return len(pair[0]) + python_loop(pair[1])


def lognormal(number: int) -> int:
    rounds = int(math.exp(random.Random(number).gauss(9, 1.5)))
    return sum(each * number for each in range(min(rounds, 2_000_000)))


def heavy_load(number: int) -> int:
    global _loaded
    if _loaded is None:
        end = time.process_time() + 0.7
        while time.process_time() < end:
            pass
        _loaded = number
    return python_loop(number)


_loaded: int | None = None


def with_lock(pair: tuple[Any, int]) -> int:
    return python_loop(pair[1])


def elementwise(number: int) -> float:
    import numpy as np

    return float(np.sqrt(np.arange(400_000) + float(number)).sum())


def matmul(number: int) -> float:
    import numpy as np

    matrix = np.full((400, 400), float(number))
    return float((matrix @ matrix)[0, 0])


def large_copy(number: int) -> float:
    import numpy as np

    return float(np.full(4_000_000, float(number)).max())


def pandas_apply(number: int) -> float:
    import pandas as pd

    frame = pd.DataFrame({"a": range(400), "b": range(number, number + 400)})
    return float(frame.apply(lambda row: row["a"] * row["b"], axis=1).sum())


def fit_a_tree(number: int) -> float:
    import numpy as np
    from sklearn.tree import DecisionTreeRegressor

    numbers = np.random.default_rng(number).random((400, 8))
    return float(DecisionTreeRegressor(max_depth=6).fit(numbers, numbers[:, 0]).score(numbers, numbers[:, 0]))


def matmul_alone(number: int) -> float:
    """BLAS is told to keep to one thread."""
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1):
        return matmul(number)


def nested(number: int) -> int:
    """Opens threads of its own in each call."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as threads:
        return sum(threads.map(python_loop, (number, number + 1)))


_language: Any = None


def spacy_words(number: int) -> int:
    global _language
    if _language is None:
        import spacy

        _language = spacy.blank("en")
    return len(_language(TEXT[number : number + 4_000]))


_tokenizer: Any = None


def tokenizers_words(number: int) -> int:
    global _tokenizer
    if _tokenizer is None:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        _tokenizer = Tokenizer(models.BPE())
        _tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        _tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=500, show_progress=False))
    return len(_tokenizer.encode(TEXT[number : number + 20_000]).ids)


def _files() -> list[str]:
    folder = os.path.dirname(os.__file__)
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".py")] * 60


def _locks() -> list[tuple[Any, int]]:
    import threading

    return [(threading.Lock(), number) for number in range(1_000)]


def _common() -> list[tuple[bytes, int]]:
    common = bytes(2 << 20)
    return [(common, number) for number in range(1_500)]


def _paths() -> list[str]:
    """One file again and again: its pages are in memory, as those of large arguments are."""
    file = tempfile.NamedTemporaryFile(prefix="advice-argument-")  # noqa: SIM115 - it goes when this process ends
    file.write(bytes(1_000_000))
    file.flush()
    _kept.append(file)
    return [file.name] * 400


_kept: list[Any] = []

WORKLOADS: dict[str, Workload] = {
    "a loop in Python": Workload(python_loop, lambda: range(2_000)),
    "few items": Workload(python_loop, lambda: range(60)),
    "three items": Workload(python_loop, lambda: range(3)),
    "tiny items": Workload(tiny, lambda: range(2_000_000)),
    "small items": Workload(small, lambda: range(300_000)),
    "regular expressions": Workload(regex, lambda: range(400)),
    "JSON": Workload(json_round, lambda: range(400)),
    "small hashes": Workload(small_hashes, lambda: range(2_000)),
    "large hashes": Workload(large_hash, lambda: range(600)),
    "zlib": Workload(compress, lambda: range(300)),
    "sleep": Workload(sleep, lambda: range(300)),
    "half of it sleeps": Workload(half_sleep, lambda: range(800)),
    "files that are read": Workload(read_file, _files),
    "files that are synced": Workload(write_and_sync, lambda: range(300)),
    "Python and zlib": Workload(mixed, lambda: range(600)),
    "large results": Workload(large_result, lambda: range(3_000)),
    "large arguments": Workload(large_argument, lambda: [bytes([n % 256]) * 1_000_000 for n in range(400)]),
    "one large argument": Workload(common_argument, _common),
    "uneven items": Workload(lognormal, lambda: range(2_000)),
    "a heavy load": Workload(heavy_load, lambda: range(3_000)),
    "items that cannot travel": Workload(with_lock, _locks),
    "NumPy, element by element": Workload(elementwise, lambda: range(1_500), "numpy"),
    "NumPy, matrices": Workload(matmul, lambda: range(500), "numpy"),
    "NumPy, memory": Workload(large_copy, lambda: range(300), "numpy"),
    "NumPy, matrices, one thread": Workload(matmul_alone, lambda: range(500), "threadpoolctl"),
    "threads in the function": Workload(nested, lambda: range(800)),
    "spaCy": Workload(spacy_words, lambda: range(1_000), "spacy"),
    "tokenizers": Workload(tokenizers_words, lambda: range(1_000), "tokenizers"),
    "pandas apply": Workload(pandas_apply, lambda: range(500), "pandas"),
    "scikit-learn": Workload(fit_a_tree, lambda: range(1_000), "sklearn"),
}

#: what a what-if proposes, applied: only compared with the loop of another
APPLIED: dict[str, Workload] = {
    "large results, a figure of each": Workload(short_result, lambda: range(3_000)),
    "large arguments, by path": Workload(argument_by_path, _paths),
}
ALL = {**WORKLOADS, **APPLIED}
