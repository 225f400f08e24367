"""Cross-validation of scikit-learn models over one matrix: allcores with `share`, and joblib, in shuffled turns.

    python -m benchmarks.cross_validation                        # 12 models, 3 folds each, a matrix of 51 MB
    python -m benchmarks.cross_validation --rows 2000 --rounds 1

The ways:

- joblib: `Parallel(n_jobs=...)` over (model, fold); it maps the matrix from a file.
- joblib, whole models: `cross_val_score(model, ...)` for each model.
- share: the same (model, fold), with `pool.share(matrix)`; rows of a fold are copied in the task.
- share, folds: each fold's rows are put together once and shared, so that tasks copy nothing.
- share, folds, longest first: the models that take longest begin first.

Prints a table: wall seconds and CPU seconds of the program and its workers, medians of the rounds. Scores of all ways
are compared. It is no row of `run.py`: its models need a library that the others do not.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import joblib
import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

import allcores
from benchmarks.batches import cpu_seconds


def data(rows: int, columns: int) -> tuple[Any, Any]:
    """A matrix of shape (rows, columns), float64, and two classes."""
    dice = np.random.default_rng(1)
    matrix = dice.standard_normal((rows, columns))
    return matrix, (matrix[:, :5].sum(axis=1) + dice.standard_normal(rows) > 0).astype(int)


def models() -> list[Any]:
    """Twelve, from quick ones to slow ones, the slowest last."""
    return [
        GaussianNB(),
        *(RidgeClassifier(alpha=alpha) for alpha in (1.0, 10.0)),
        *(LogisticRegression(C=c, max_iter=50) for c in (0.1, 1.0, 10.0)),
        *(DecisionTreeClassifier(max_depth=depth, random_state=0) for depth in (4, 8)),
        *(ExtraTreesClassifier(number, max_depth=8, random_state=0) for number in (10, 20)),
        *(RandomForestClassifier(number, max_depth=6, random_state=0) for number in (6, 12)),
    ]


def splits(matrix: Any, classes: Any, folds: int) -> list[Any]:
    return list(StratifiedKFold(folds, shuffle=True, random_state=0).split(matrix, classes))


def score(model: Any, train: Any, test: Any, matrix: Any, classes: Any) -> float:
    """One model on one fold, whose rows are copied out of the matrix."""
    fitted = clone(model).fit(matrix[train], classes[train])
    return float(fitted.score(matrix[test], classes[test]))


def score_job(job: tuple[Any, Any, Any], matrix: Any, classes: Any) -> float:
    return score(*job, matrix, classes)


def score_fold(job: tuple[Any, int], folds: list[Any]) -> float:
    """The same where the rows of each fold lie together already."""
    model, number = job
    train, train_classes, test, test_classes = folds[number]
    return float(clone(model).fit(train, train_classes).score(test, test_classes))


def with_joblib(pool: allcores.Pool, matrix: Any, classes: Any, folds: int) -> list[float]:
    jobs = [(model, *fold) for model in models() for fold in splits(matrix, classes, folds)]
    call = joblib.delayed(score)
    return list(joblib.Parallel(n_jobs=pool.workers)(call(*job, matrix, classes) for job in jobs))


def with_joblib_models(pool: allcores.Pool, matrix: Any, classes: Any, folds: int) -> list[float]:
    cut = StratifiedKFold(folds, shuffle=True, random_state=0)
    call = joblib.delayed(cross_val_score)
    found = joblib.Parallel(n_jobs=pool.workers)(call(model, matrix, classes, cv=cut) for model in models())
    return [float(each) for scores in found for each in scores]


def with_share(pool: allcores.Pool, matrix: Any, classes: Any, folds: int) -> list[float]:
    shared = pool.share((matrix, classes))
    jobs: list[Any] = [(model, *fold) for model in models() for fold in splits(matrix, classes, folds)]
    return pool.map(score_job, jobs, matrix=shared[0], classes=shared[1])


def put_together(pool: allcores.Pool, matrix: Any, classes: Any, folds: int) -> list[Any]:
    """The rows of each fold, shared."""
    return [
        pool.share((matrix[train], classes[train], matrix[test], classes[test]))
        for train, test in splits(matrix, classes, folds)
    ]


def with_folds(pool: allcores.Pool, matrix: Any, classes: Any, folds: int) -> list[float]:
    shared = put_together(pool, matrix, classes, folds)
    return pool.map(score_fold, [(model, number) for model in models() for number in range(folds)], folds=shared)


def with_folds_longest_first(pool: allcores.Pool, matrix: Any, classes: Any, folds: int) -> list[float]:
    shared = put_together(pool, matrix, classes, folds)
    found = pool.map(score_fold, [(model, n) for model in models()[::-1] for n in range(folds)], folds=shared)
    return [each for at in range(len(found) - folds, -1, -folds) for each in found[at : at + folds]]


WAYS: dict[str, Callable[[allcores.Pool, Any, Any, int], list[float]]] = {
    "joblib": with_joblib,
    "joblib, whole models": with_joblib_models,
    "share": with_share,
    "share, folds": with_folds,
    "share, folds, longest first": with_folds_longest_first,
}


def descendants() -> list[int]:
    """This process and all below it: joblib's workers and the pool's."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=allcores.core_budget().workers)
    parser.add_argument("--ways", help="of those above, separated by semicolons; all without")
    options = parser.parse_args()
    chosen = [each.strip() for each in options.ways.split(";")] if options.ways else list(WAYS)
    if unknown := [each for each in chosen if each not in WAYS]:
        parser.error(f"--ways {unknown[0]!r}: the ways are {'; '.join(WAYS)}")
    ways = {name: WAYS[name] for name in chosen}
    matrix, classes = data(options.rows, options.columns)
    wall: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    expected: list[float] | None = None
    with allcores.Pool(options.workers) as pool:
        for way in ways.values():  # workers start and import what they need
            way(pool, *data(300, 10), options.folds)
        for _ in range(options.rounds):
            for name in random.sample(chosen, len(chosen)):
                pids = descendants()
                before, begun = cpu_seconds(pids), time.perf_counter()
                found = ways[name](pool, matrix, classes, options.folds)
                wall[name].append(time.perf_counter() - begun)
                cpu[name].append(cpu_seconds(pids) - before)
                expected = found if expected is None else expected
                assert np.allclose(found, expected, atol=1e-3), f"{name}: scores differ"
    print(
        f"{len(models())} models, {options.folds} folds, {matrix.nbytes / 1e6:.0f} MB, {options.workers} workers, "
        f"{options.rounds} rounds in shuffled turns; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"CPython {platform.python_version()}, scikit-learn {sklearn.__version__}, joblib {joblib.__version__}, "
        f"numpy {np.__version__}\n"
    )
    print("| | wall, s | least | CPU, s |\n|---|---|---|---|")
    for name in ways:
        print(
            f"| {name} | {statistics.median(wall[name]):.2f} | {min(wall[name]):.2f} "
            f"| {statistics.median(cpu[name]):.2f} |"
        )


if __name__ == "__main__":
    main()
