"""Every function and method that takes options names a keyword that is none."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import allcores
from allcores import Journal, UnknownOption, UsageError
from allcores.system import option_words

MODULES = ["allcores", "allcores.frames", "allcores.jobs", "allcores.metrics", "allcores.nlp", "allcores.slices"]


def is_ours(function: object) -> bool:
    return inspect.isfunction(function) and function.__module__.startswith("allcores")


def has_options(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    kinds = {each.kind for each in parameters}
    optional = inspect.Parameter.KEYWORD_ONLY in kinds or any(each.default is not each.empty for each in parameters)
    return optional and inspect.Parameter.VAR_KEYWORD not in kinds


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """What users call, by name: functions, methods, and the classes that they make objects of."""
    for module in MODULES:
        room = importlib.import_module(module)
        for name in room.__all__:
            thing = getattr(room, name)
            if inspect.isclass(thing) and not issubclass(thing, BaseException):
                for each in (cls for cls in thing.__mro__ if cls.__module__.startswith("allcores")):
                    for word, method in vars(each).items():
                        if (not word.startswith("_") or word == "__init__") and is_ours(method) and has_options(method):
                            yield f"{module}.{name}.{word}", method
            elif is_ours(thing) and has_options(thing):
                yield f"{module}.{name}", thing


#: Made by allcores alone, or the inner side of a store, which is called by allcores alone.
NOT_CALLED = (
    "AsyncStream.__init__", "Stream.__init__", "Advice.", "PipelineResult.", "RecordStream.", "RunResult.",
    "Job.", "JobError.", "JobFilter.", "JobStore.", "Progress.", "ResultFile.", "RunningJob.", "Registry.", "Task.",
    "Supervisor.", "UploadedFile.", "ChatPipeline.", "ChatResult.", "ChatSource.", "Converted.", "Field.", "Stage.",
    "ThreadPlan.", "Slice.", "Counter.",
)  # fmt: skip

CALLED = {name: each for name, each in public() if not any(f".{part}" in name for part in NOT_CALLED)}


def test_there_are_many() -> None:
    assert len(CALLED) > 40
    assert {"allcores.Executor.__init__", "allcores.Pool.call", "allcores.advise", "allcores.Pipeline.map"} <= {*CALLED}


@pytest.mark.parametrize("name", sorted(CALLED))
def test_a_word_that_is_no_option_is_named(name: str) -> None:
    """Whatever else is wrong with the call, and before anything is done."""
    function = CALLED[name]
    places = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    count = sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in places)
    with pytest.raises(UnknownOption, match=r"\w+\(\) has no option 'zzz': options are \w+"):
        function(*[object()] * count, zzz=1)


@pytest.mark.parametrize(
    ("call", "word", "mine"),
    [
        (allcores.Executor, "n_jobs", "max_workers"),
        (allcores.Executor, "setup", "initializer"),
        (allcores.Executor, "start_method", "mp_context"),
        (allcores.Limits, "max_tasks_per_child", "items_per_worker"),
        (allcores.Limits, "memory_limit", "memory_per_worker"),
        (allcores.Retry, "max_attempts", "times"),
        (allcores.Retry, "backoff_factor", "factor"),
        (allcores.Retry, "delay", "wait_s"),
        (allcores.Pool.actor, "max_restarts", "restart"),
        (allcores.Pipeline.map, "chunksize", "chunk"),
        (allcores.Pipeline.map, "num_proc", "workers"),
    ],
)
def test_words_of_other_libraries_are_those_of_what_is_called(call: Any, word: str, mine: str) -> None:
    with pytest.raises(UnknownOption, match=rf"has no option '{word}': the word is {mine}\."):
        call(*[None] * (2 if inspect.isfunction(call) else 0), **{word: 1})


def test_a_slip_of_the_pen() -> None:
    with pytest.raises(UnknownOption, match=r"^Limits\(\) has no option 'grace': did you mean grace_s\.$"):
        allcores.Limits(grace=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Limits\(\) was given 'items_in_flight' twice"):
        allcores.Limits(1, items_in_flight=1)  # type: ignore[misc]


def test_a_pipeline_has_none() -> None:
    with pytest.raises(UnknownOption, match=r"^Pipeline\(\) has no option 'workers': .* where a pipeline is run\.$"):
        allcores.Pipeline(workers=2)  # type: ignore[call-arg]
    assert str(option_words.unknown("Pipeline", "zzz", ())) == "Pipeline() has no option 'zzz': it has none."


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"key": len}, "must be the name of a field of the items, or the index of one"),
        ({"key": True}, "must be the name of a field"),
        ({"key": 1.5}, "must be the name of a field"),
        ({"resume": None}, "must be True, False or the name of a run"),
        ({"resume": 1}, "must be True, False or the name of a run"),
    ],
)
def test_what_a_journal_is_given(option: dict[str, Any], words: str) -> None:
    """Told of the option, and not of the JSON that it would be kept in."""
    with pytest.raises(UsageError, match=words):
        Journal(**option)
