"""Plans by tables: which steps are one task, whose workers run them, and what cannot be wired."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores import NotSupported, Pipeline, UsageError
from allcores.pipelines.plan import Plan, plan
from allcores.pipelines.steps import StageOptions, WorkerStep


def f(value: Any) -> Any:
    return value


def g(value: Any) -> Any:
    return value


def load() -> int:
    return 1


def planned(pipeline: Pipeline, cores: int = 4, **options: Any) -> Plan:
    return plan(pipeline.steps, cores=cores, **options)


def shape(made: Plan) -> list[tuple[str, int]]:
    """The stages: what they are called, and the place of their pools."""
    return [(stage.name, stage.pool) for stage in made.stages]


STAGES: list[tuple[Pipeline, list[tuple[str, int]]]] = [
    (Pipeline(), []),
    (Pipeline().map(f), [("f", 0)]),
    (Pipeline().map(f).map(g), [("f → g", 0)]),
    (Pipeline().map(f).filter(g).flat_map(f, name="h"), [("f → g → h", 0)]),
    (Pipeline().map(f).map(g, fuse=False).map(f), [("f", 0), ("g → f", 0)]),
    (Pipeline().map(f).batch(2).map(g), [("f", 0), ("batch", -1), ("g", 0)]),
    (Pipeline().map(f).unbatch().map(g), [("f → g", 0)]),
    (Pipeline().unbatch().map(g), [("unbatch", -1), ("g", 0)]),
    (Pipeline().map(f, workers=2).unbatch().map(g), [("f", 1), ("g", 0)]),
    (Pipeline().map(f, on="threads").map(g, on="threads"), [("f → g", 1)]),
    (Pipeline().map(f, on="threads").map(g), [("f", 1), ("g", 0)]),
    (Pipeline().map(f, on="processes").map(g), [("f", 0), ("g", 0)]),
    (Pipeline().map(f, workers=1).map(g, workers=1, fuse=False), [("f", 1), ("g", 2)]),
    (Pipeline().map(f, timeout=1).map(g, timeout=1.0), [("f → g", 0)]),
    (Pipeline().map(f, timeout=1).map(g), [("f", 0), ("g", 0)]),
    (Pipeline().map(f, on_error="skip").map(g, on_error="skip").map(f), [("f → g", 0), ("f", 0)]),
    (Pipeline().flat_map(f, on_error="skip").map(g, on_error="skip"), [("f", 0), ("g", 0)]),
    (Pipeline().flat_map(f, on_error="record").filter(g, on_error="record"), [("f", 0), ("g", 0)]),
    (Pipeline().map(f, on_error="skip").unbatch().map(g, on_error="skip"), [("f", 0), ("g", 0)]),
    (Pipeline().map(f, on_error="skip").flat_map(g, on_error="skip").write("x.jsonl"), [("f → g → write", 0)]),
    (Pipeline().map(f, preload=load).map(g), [("f → g", 0)]),
    (Pipeline().map(f).enumerate().islice(3), [("f", 0), ("enumerate", -1), ("islice", -1)]),
]


@pytest.mark.parametrize(("pipeline", "stages"), STAGES, ids=repr)
def test_stages(pipeline: Pipeline, stages: list[tuple[str, int]]) -> None:
    made = planned(pipeline)
    assert shape(made) == stages
    assert [stage.number for stage in made.stages] == list(range(1, len(stages) + 1))


THREADS = {"on": "threads"}
POOLS: list[tuple[Pipeline, int, int | None, list[int]]] = [
    # pipeline, cores, workers asked for, workers of the shared pool and of the others
    (Pipeline().map(f), 4, None, [4]),
    (Pipeline().map(f), 4, 3, [3]),
    (Pipeline().map(f).map(g, workers=1), 4, None, [3, 1]),
    (Pipeline().map(f).map(g, workers=9), 4, None, [1, 9]),
    (Pipeline().map(f).map(g, on="threads"), 4, None, [2, 2]),
    (Pipeline().map(f).map(g, on="threads"), 5, None, [3, 2]),
    (Pipeline().map(f).map(g, on="threads").map(f, on="threads", fuse=False), 2, None, [1, 1, 1]),
    (Pipeline().map(f).map(g, on="threads", workers=1).map(f, workers=2), 8, None, [5, 1, 2]),
    (Pipeline().map(f).map(g, on="serial"), 4, None, [3, 1]),
    (Pipeline().map(g, on="threads"), 4, None, [4]),
    (Pipeline().map(g, workers=2).map(g, on="threads"), 4, None, [2, 2]),
]


@pytest.mark.parametrize(("pipeline", "cores", "workers", "counts"), POOLS, ids=repr)
def test_pools_share_the_cores(pipeline: Pipeline, cores: int, workers: int | None, counts: list[int]) -> None:
    made = planned(pipeline, cores, workers=workers)
    used = {stage.pool for stage in made.stages}
    assert [pool.workers for place, pool in enumerate(made.pools) if place in used] == counts


WORKER_STEPS = st.fixed_dictionaries(
    {},
    optional={
        "on": st.sampled_from(["threads", "processes"]),
        "workers": st.integers(1, 5),
        "retries": st.integers(0, 1),
        "fuse": st.booleans(),
        "preload": st.just(load),
    },
)


@given(options=st.lists(st.none() | WORKER_STEPS, max_size=8), cores=st.integers(1, 12))
def test_any_plan_has_each_step_once_and_keeps_to_the_cores(options: list[dict[str, Any] | None], cores: int) -> None:
    """None stands for a step in line, which is no part of a task and joins none."""
    pipeline = Pipeline()
    for each in options:
        pipeline = pipeline.enumerate() if each is None else pipeline.map(f, **each)
    made = planned(pipeline, cores)
    assert tuple(step for stage in made.stages for step in stage.steps) == pipeline.steps
    for stage, following in itertools.pairwise(made.stages):
        first = following.steps[0]
        if stage.kind == following.kind == "pool" and isinstance(first, WorkerStep):
            assert not first.fuse or stage.options != following.options
    for stage in made.stages:
        if stage.kind == "pool":
            assert all(isinstance(step, WorkerStep) and step.options == stage.options for step in stage.steps)
            assert [place is not None for place in made.loaded(stage)] == [
                isinstance(step, WorkerStep) and step.preload is not None for step in stage.steps
            ]
    used = {stage.pool: stage.options.workers for stage in made.stages if stage.kind == "pool"}
    asked = sum(count for count in used.values() if count is not None)
    free = [made.pools[place].workers for place, count in used.items() if count is None]
    assert all(made.pools[place].workers == count for place, count in used.items() if count is not None)
    # Those that ask for none share what is left, but have one each at least.
    assert sum(free) == max(len(free), cores - asked) if free else True


def test_serial_is_for_all_stages() -> None:
    made = planned(Pipeline().map(f).map(g, on="threads", workers=3), backend="serial")
    assert [(pool.on, pool.workers) for pool in made.pools] == [("serial", 1)]
    assert shape(made) == [("f", 0), ("g", 0)]


def test_what_is_loaded_twice_is_loaded_once() -> None:
    pipeline = (
        Pipeline()
        .map(f, preload=load)
        .map(g, preload=load)
        .map(f, preload=load, preload_args=[3])
        .map(g, preload=load, preload_args=[3])
        .map(f)
        .map(g, preload=load, on="threads")
    )
    made = planned(pipeline)
    assert [pool.loaders for pool in made.pools] == [((load, ()), (load, (3,))), ((load, ()),)]
    assert [made.loaded(stage) for stage in made.stages] == [[0, 0, 1, 1, None], [0]]


def test_sides_have_numbers_and_stages_of_their_own(tmp_path: Path) -> None:
    inner = Pipeline().map(g).write(tmp_path / "inner.jsonl")
    outer = Pipeline().map(f).tee(inner).write(tmp_path / "outer.jsonl")
    made = planned(Pipeline().map(f).tee(outer, Pipeline().write(tmp_path / "copy.jsonl")).map(g))
    assert [(stage.number, stage.name, stage.side) for stage in made.stages] == [
        (1, "f", 0),
        (2, "tee", 0),
        (3, "f", 1),
        (4, "tee", 1),
        (5, "g → write", 2),
        (6, "write", 1),
        (7, "write", 3),
        (8, "g", 0),
    ]
    assert [(line.side, Path(line.sink.path).name) for line in made.sides] == [
        (1, "outer.jsonl"),
        (2, "inner.jsonl"),
        (3, "copy.jsonl"),
    ]
    assert "end of side 2" in made.text()


def test_options_of_a_stage_are_those_of_its_steps() -> None:
    (stage,) = planned(Pipeline().map(f, retries=2, chunk=5).unbatch().map(g, retries=2, chunk=5)).stages
    assert stage.options == StageOptions(retries=2, chunk=5)
    assert stage.pool == 0


def end(tmp: str) -> Pipeline:
    return Pipeline().map(f).write(f"{tmp}/out.jsonl")


WIRING: list[tuple[Callable[[str], Any], str]] = [
    (lambda tmp: end(tmp).map(g), r"map\(g\) stands behind write\(.*out.jsonl\), and nothing can follow an end"),
    (lambda tmp: end(tmp).write("b.jsonl"), r"write\(b.jsonl\) stands behind write"),
    (
        lambda tmp: Pipeline().batch(8).write(f"{tmp}/out.csv"),
        r"records are those of batch\(8\), and no rows; add .unb",
    ),
    (lambda tmp: Pipeline().group_by(f).filter(g).write(f"{tmp}/o.parquet"), r"those of group_by\(f\), and no rows"),
    (lambda tmp: Pipeline().window(3).islice(2).write(f"{tmp}/o.db:t"), r"those of window\(3\), and no rows"),
    (lambda tmp: Pipeline().window(0), r"window\(n=0\) must be a whole number, 1 or more"),
    (lambda tmp: Pipeline().window(2, step=0), r"window\(step=0\) must be a whole number, 1 or more"),
    (lambda tmp: Pipeline().batch(0), r"batch\(0\): the size must be a whole number, 1 or more"),
    (lambda tmp: Pipeline().batch(2, by="characters"), r"batch\(by='characters'\) must be a function"),
    (lambda tmp: Pipeline().group_by(f, limit=0), r"group_by\(limit=0\) must be a whole number"),
    (lambda tmp: Pipeline().group_by("key"), r"group_by\('key'\): that cannot be called"),  # type: ignore[arg-type]
    (lambda tmp: Pipeline().islice(), r"islice takes \(stop\), \(start, stop\) or \(start, stop, step\)"),
    (lambda tmp: Pipeline().islice(-1), r"islice\(stop=-1\) must be a whole number, 0 or more"),
    (lambda tmp: Pipeline().islice(0, 5, 0), r"islice\(step=0\) must be a whole number, 1 or more"),
    (lambda tmp: Pipeline().enumerate(1.5), r"enumerate\(1.5\): the first number"),  # type: ignore[arg-type]
    (lambda tmp: Pipeline().scan(3, 0), r"scan\(3\): that cannot be called"),  # type: ignore[arg-type]
    (lambda tmp: Pipeline().distinct(3), r"distinct\(3\): that cannot be called"),  # type: ignore[arg-type]
    (lambda tmp: Pipeline().tee(), r"tee\(\) needs a side"),
    (
        lambda tmp: Pipeline().tee(Pipeline().map(f)),
        r"side 1 \(Pipeline\(\).map\(f\)\) leads nowhere; end it with write",
    ),
    (lambda tmp: Pipeline().tee(end(tmp), f), r"side 2 is <function f.*>; a side is a Pipeline"),  # type: ignore[arg-type]
    (lambda tmp: end(tmp).imap([1]), r"the pipeline ends with write\(.*\): use run\(\)"),
    (lambda tmp: Pipeline().map(f, on_error="record").imap([1]), r"stage 1 \(f\) keeps failures for run\(\) and outco"),
    (lambda tmp: Pipeline().map(3), r"map\(3\): that cannot be called"),  # type: ignore[arg-type]
    (lambda tmp: Pipeline().map(f, name=""), r"name of a step is a text"),
    (lambda tmp: Pipeline().map(f, on="gpu"), r"on='gpu' must be 'processes', 'threads', 'interpreters' or 'serial'"),
    (lambda tmp: Pipeline().map(f, workers=0), r"workers=0 must be a whole number"),
    (lambda tmp: Pipeline().map(f, fuse="no"), r"fuse='no' must be True or False"),  # type: ignore[arg-type]
    (lambda tmp: Pipeline().map(f, on_error="stop"), r"on_error='stop' must be 'raise', 'skip', 'record'"),  # type: ignore[arg-type]
    (lambda tmp: Pipeline().map(f, preload=3), r"preload=3 cannot be called"),  # type: ignore[arg-type]
    (lambda tmp: Pipeline().map(f, preload=load, preload_args="en"), r"preload_args='en' is one argument"),
    (lambda tmp: Pipeline().map(f, preload=load, preload_args=5), r"preload_args=5 must be a list of the arguments"),  # type: ignore[arg-type]
    (lambda tmp: Pipeline().map(f).imap([], limits=5), r"limits=5 must be a Limits"),  # type: ignore[arg-type]
    (lambda tmp: Pipeline().map(f, preload_args=["en"]), r"give preload=, too"),
    (lambda tmp: Pipeline().map(f, timeout=0), r"timeout=0 must be above 0"),
    (lambda tmp: Pipeline().map(f, chunk=0), r"chunk=0 must be a whole number"),
    (lambda tmp: Pipeline().map(f).imap(3), r"3 is no source"),
    (lambda tmp: Pipeline().map(f).imap([1], backend="gpu"), r"backend='gpu' must be"),
    (lambda tmp: Pipeline().map(f).imap([1], workers=0), r"workers=0 must be a whole number"),
    (lambda tmp: Pipeline().map(f).imap([1], n_jobs=2), r"n_jobs"),
    (lambda tmp: Pipeline().map(f).imap([1], preload=load), r"preload= is no option of a pipeline: say it of the step"),
    (lambda tmp: Pipeline().map(f).imap([1], setup=load), r"setup= is no option of a pipeline: say it of the step"),
    (lambda tmp: Pipeline().map(f).imap([1], tuned=f), r"tuned= is no option of a pipeline: workers are shared"),
    (lambda tmp: Pipeline().scan(max, threading.Lock()).imap([1]), r"initial state is a lock, which cannot be copied"),
]


@pytest.mark.parametrize(("build", "sentence"), WIRING, ids=[sentence for _, sentence in WIRING])
def test_what_cannot_be_wired_is_said_in_one_sentence(
    build: Callable[[str], Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=sentence) as found:
        build(str(tmp_path))
    assert "\n" not in str(found.value)


def test_a_deadline_where_tasks_cannot_be_ended() -> None:
    with pytest.raises(NotSupported, match=r"map\(f\): timeout=1 needs on='processes'"):
        Pipeline().map(f, timeout=1, on="threads")
    with pytest.raises(NotSupported, match=r"timeout=1 of stage 1 \(f\) needs processes: backend='serial'"):
        Pipeline().map(f, timeout=1).imap([1], backend="serial")


def test_lists_may_be_json_rows(tmp_path: Path) -> None:
    assert Pipeline().batch(2).write(tmp_path / "out.jsonl").ends
    assert Pipeline().batch(2).unbatch().write(tmp_path / "out.csv").ends
    assert Pipeline().batch(2).map(f).write(tmp_path / "out.csv").ends


def test_explain_names_a_cluster() -> None:
    """How many nodes it has is not known before it is asked."""
    text = Pipeline().map(f).write("out.csv").explain(backend="dask://10.0.0.1:8786")
    assert "the nodes of dask://10.0.0.1:8786, shared" in text


def test_explain_names_everything(tmp_path: Path) -> None:
    pipeline = (
        Pipeline()
        .map(f, timeout=2, retries=1)
        .filter(g, timeout=2, retries=1)
        .batch(64, by=len)
        .map(f, name="embed", on="threads", workers=1, on_error="skip", chunk=1)
        .unbatch()
        .write(tmp_path / "out.csv")
    )
    text = pipeline.explain("chat/*.jsonl", workers=3)
    assert text == (
        "source  chat/*.jsonl\n"
        "stage  name           runs in                steps\n"
        "1      f → g          3 processes, shared    .map(f).filter(g)  [fused, timeout 2 s, retries 1]\n"
        "2      batch          the program, in order  .batch(64, by=len)\n"
        "3      embed → write  1 thread, its own      .map(embed).unbatch().map(write)"
        "  [fused, on error skip, chunks of 1]\n"
        f"end                   the program, in order  write({tmp_path}/out.csv)"
    )
