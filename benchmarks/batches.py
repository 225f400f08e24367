"""What `batch=` gains: the same texts, one a call, in batches, and in one process without a pool.

    python -m benchmarks.batches                       # whatever of the loads is installed
    python -m benchmarks.batches --loads spacy --texts 4000 --workers 2 --rounds 3
    python -m benchmarks.batches --loads plain --seconds 10,20,50,100,200     # what "auto" aims at, in ms

Prints a table for each load: wall seconds and CPU seconds of all processes, medians of the rounds, which alternate. It
is no row of `run.py`: its loads need libraries that the others do not.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import allcores

WORDS = "the a of to and in that it is was for on with as be at by this had not are but from or have an".split()  # noqa: SIM905


def texts(number: int) -> list[str]:
    """Made-up texts of 20 to 200 words, always the same."""
    dice = random.Random(1)
    return [" ".join(dice.choices(WORDS, k=dice.randint(20, 200))) for _ in range(number)]


# --- the loads: what is loaded once per worker, and its answers to a batch ---


def load_spacy() -> Any:
    """A pipeline with a small network of random weights: as costly as a trained one, and nothing to download."""
    spacy, training = importlib.import_module("spacy"), importlib.import_module("spacy.training")
    nlp = spacy.blank("en")
    tagger: Any = nlp.add_pipe("tagger")
    for label in ("A", "B", "C"):
        tagger.add_label(label)
    document = nlp.make_doc("a b c")
    nlp.initialize(lambda: [training.Example.from_dict(document, {"tags": ["A", "B", "C"]})])
    return nlp


def tag(nlp: Any, batch: list[str]) -> Iterator[str]:
    for document in nlp.pipe(batch, batch_size=len(batch)):
        yield " ".join(token.tag_ for token in document)


def load_sklearn() -> Any:
    """Texts to numbers to one of three classes."""
    names = ("feature_extraction.text", "linear_model", "pipeline")
    text, linear_model, pipeline = (importlib.import_module(f"sklearn.{name}") for name in names)
    some = texts(300)
    model = pipeline.make_pipeline(text.HashingVectorizer(), linear_model.SGDClassifier(random_state=1))
    return model.fit(some, [len(t) % 3 for t in some])


def classify(model: Any, batch: list[str]) -> list[int]:
    return [int(label) for label in model.predict(batch)]


def load_plain() -> None:
    """Nothing is needed."""


def spin(batch: list[str]) -> list[int]:
    """A call has a price of 1 ms, and a text one of 50 µs."""
    until = time.perf_counter_ns() + 1_000_000 + 50_000 * len(batch)
    while time.perf_counter_ns() < until:
        pass
    return [len(text) for text in batch]


LOADS: dict[str, tuple[Callable[[], Any], Callable[..., Any]]] = {
    "spacy": (load_spacy, tag),
    "sklearn": (load_sklearn, classify),
    "plain": (load_plain, spin),
}


# --- measuring ---


def cpu_seconds(pids: list[int]) -> float:
    """That these processes have used so far."""
    ticks = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


Measured = tuple[float, float, list[Any]]


def in_pool(load: str, items: list[str], workers: int, batch: Any) -> Measured:
    """Wall and CPU seconds from the first item to the last, and the results; setup is not counted."""
    setup, function = LOADS[load]
    with allcores.Pool(workers, setup=setup) as pool:
        while any(status.state in ("starting", "setup") for status in pool.worker_status()):
            time.sleep(0.01)
        pool.map(function, items[: 4 * workers], batch=1)
        pids = [os.getpid(), *(status.pid for status in pool.worker_status() if status.pid)]
        before, begun = cpu_seconds(pids), time.perf_counter()
        found = pool.map(function, items, batch=batch)
        return time.perf_counter() - begun, cpu_seconds(pids) - before, found


def alone(load: str, items: list[str]) -> Measured:
    """The same in this process, in one call."""
    setup, function = LOADS[load]
    model = setup()
    arguments = (items,) if model is None else (model, items)
    before, begun = cpu_seconds([os.getpid()]), time.perf_counter()
    found = list(function(*arguments))
    return time.perf_counter() - begun, cpu_seconds([os.getpid()]) - before, found


def measure(load: str, items: list[str], workers: int, rounds: int) -> None:
    """Print a table."""
    ways: dict[str, Callable[[], Measured]] = {
        "one text a call (batch=1)": lambda: in_pool(load, items, workers, 1),
        "batch=32": lambda: in_pool(load, items, workers, 32),
        "batch=128": lambda: in_pool(load, items, workers, 128),
        'batch="auto"': lambda: in_pool(load, items, workers, "auto"),
        "one process, one call": lambda: alone(load, items),
    }
    wall: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    expected: list[Any] | None = None
    for _ in range(rounds):
        for way, run in ways.items():
            taken, used, found = run()
            cpu[way].append(used)
            wall[way].append(taken)
            expected = found if expected is None else expected
            assert len(found) == len(items), "results are missing"
            assert load == "spacy" or found == expected, "results differ"
    print(f"\n{load}, {len(items)} texts, {workers} workers, {rounds} rounds, loading not counted\n")
    print("| | wall, s | CPU, s |\n|---|---|---|", flush=True)
    for way in ways:
        print(f"| {way} | {statistics.median(wall[way]):.2f} | {statistics.median(cpu[way]):.2f} |")


def measure_targets(load: str, items: list[str], workers: int, rounds: int, targets_ms: list[int]) -> None:
    """Print a table of what "auto" may aim at."""
    from allcores.scheduler import batch_size

    print(f"\n{load}, {len(items)} texts, {workers} workers, {rounds} rounds\n\n| target, ms | wall, s |\n|---|---|")
    taken: dict[int, list[float]] = {target: [] for target in targets_ms}
    for _ in range(rounds):
        for target in targets_ms:
            batch_size.BATCH_NS = target * 1_000_000
            taken[target].append(in_pool(load, items, workers, "auto")[0])
    for target, seconds in taken.items():
        print(f"| {target} | {statistics.median(seconds):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=allcores.core_budget().workers)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", metavar="MS,MS", help='measure what "auto" may aim at instead')
    options = parser.parse_args()
    items = texts(options.texts)
    for load in options.loads.split(","):
        if load in ("spacy", "sklearn") and importlib.util.find_spec(load) is None:
            print(f"\n{load} is not installed")
        elif options.seconds:
            targets_ms = [int(each) for each in options.seconds.split(",")]
            measure_targets(load, items, options.workers, options.rounds, targets_ms)
        else:
            measure(load, items, options.workers, options.rounds)


if __name__ == "__main__":
    main()
