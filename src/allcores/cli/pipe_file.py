"""Reads a pipeline from a TOML file: a table `[[stage]]` for each step, in order.

    [[stage]]
    map = "work.py:parse"          # or filter, flat_map; with name, on, workers, preload, preload_args, timeout,
    timeout = 10                   # retries, on_error, chunk and fuse, as in Python
    [[stage]]
    batch = 64                     # with by: a function, or "bytes"
    [[stage]]
    tee = [[{ map = "work.py:short" }, { write = "short.jsonl" }]]

Functions are named as for `allcores run`; scripts and modules are looked for from the folder of the file. Each mistake
is one sentence with the file, the number of the stage, and the key.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from typing import Any

from allcores.cli.exits import CommandError
from allcores.cli.target import resolve
from allcores.errors import AllcoresError, UsageError
from allcores.pipelines.pipeline import Pipeline
from allcores.pipelines.steps import ON_ERROR
from allcores.system.toml_files import read_toml

_WORKER_KEYS = ("name", "on", "workers", "preload", "preload_args", "timeout", "retries", "on_error", "chunk", "fuse")
#: the step of a stage -> keys that may stand beside it
_STEPS: dict[str, tuple[str, ...]] = {
    "map": _WORKER_KEYS,
    "filter": _WORKER_KEYS,
    "flat_map": _WORKER_KEYS,
    "batch": ("by",),
    "unbatch": (),
    "group_by": ("limit",),
    "window": ("step",),
    "enumerate": (),
    "islice": (),
    "scan": ("initial",),
    "distinct": (),
    "tee": (),
    "write": (),
}
#: what keys must be; those that are not here the pipeline itself looks at
_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "on": (str,),
    "workers": (int,),
    "preload": (str,),
    "preload_args": (list,),
    "timeout": (int, float),
    "retries": (int,),
    "on_error": (str,),
    "chunk": (int,),
    "fuse": (bool,),
    "by": (str,),
    "limit": (int,),
    "step": (int,),
}
_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}


def read_pipeline(path: str) -> Pipeline:
    """The pipeline that a file describes.

    Raises:
        CommandError: It cannot be read, or makes no pipeline.
    """
    try:
        found = read_toml(path)
    except UsageError as error:
        raise CommandError(str(error)) from None
    for key in found:
        if key != "stage":
            raise CommandError(f"{path}: '{key}' is no key here; each step is a table [[stage]]")
    stages = found.get("stage", [])
    if not isinstance(stages, list) or not stages:
        raise CommandError(f"{path}: there are no stages; each step is a table [[stage]]")
    return _Reader(path).pipeline(stages, path)


class _Reader:
    def __init__(self, path: str) -> None:
        self._folder = os.path.dirname(os.path.abspath(path))

    def pipeline(self, stages: Iterable[Any], place: str) -> Pipeline:
        """The steps of some stages."""
        made = Pipeline()
        for number, stage in enumerate(stages, 1):
            made = self._longer(made, stage, f"{place}, stage {number}")
        return made

    def _longer(self, pipeline: Pipeline, stage: Any, place: str) -> Pipeline:
        if not isinstance(stage, dict):
            raise CommandError(f"{place} is {stage!r}; a stage is a table, like {{ map = 'work.py:parse' }}")
        steps = [key for key in stage if key in _STEPS]
        if len(steps) != 1:
            _explain_steps(stage, steps, place)
        (step,) = steps
        options: dict[str, Any] = {}
        for key, value in stage.items():
            if key == step:
                continue
            _check_key(key, value, step, place)
            options[key] = self._option(key, value, f"{place}, {key}")
        try:
            return self._with(pipeline, step, stage[step], options, f"{place}, {step}")
        except CommandError:
            raise
        except AllcoresError as error:
            raise CommandError(f"{place}: {error}") from None

    def _with(self, pipeline: Pipeline, step: str, value: Any, options: dict[str, Any], place: str) -> Pipeline:
        add: Callable[..., Pipeline] = getattr(pipeline, step)
        if step in ("map", "filter", "flat_map", "group_by"):
            return add(self._function(value, place), **options)
        if step == "scan":
            if "initial" not in options:
                raise CommandError(f"{place}: the key 'initial' is missing; it is the state before the first record")
            return add(self._function(value, place), options["initial"])
        if step == "unbatch":
            _only_true(value, place)
            return add()
        if step == "distinct":
            if isinstance(value, str):
                return add(self._function(value, place))
            _only_true(value, place)
            return add()
        if step == "enumerate":
            return add() if value is True else add(value)
        if step == "islice":
            return add(*value) if isinstance(value, list) else add(value)
        if step == "tee":
            return add(*self._sides(value, place))
        if step == "write" and not isinstance(value, str):
            raise CommandError(f"{place} is {value!r}; it is the path of an output")
        return add(value, **options)

    def _sides(self, value: Any, place: str) -> list[Pipeline]:
        if not isinstance(value, list) or not value or not all(isinstance(side, list) for side in value):
            raise CommandError(f"{place} must be a list of sides, each a list of stages that ends with a 'write'")
        return [self.pipeline(side, f"{place}, side {number}") for number, side in enumerate(value, 1)]

    def _option(self, key: str, value: Any, place: str) -> Any:
        if key == "preload" or (key == "by" and value != "bytes") or (key == "on_error" and value not in ON_ERROR):
            return self._function(value, place)
        return value

    def _function(self, value: Any, place: str) -> Callable[..., Any]:
        if not isinstance(value, str):
            raise CommandError(f"{place} is {value!r}; it is the name of a function, like 'work.py:parse'")
        try:
            return resolve(value, folder=self._folder)
        except CommandError as error:
            raise CommandError(f"{place}: {error}", error.exit, details=error.details) from None


def _explain_steps(stage: dict[str, Any], steps: list[str], place: str) -> None:
    if steps:
        raise CommandError(f"{place} has {' and '.join(map(repr, steps))}: each step is a stage of its own")
    for key in stage:
        close = difflib.get_close_matches(key, _STEPS, n=1, cutoff=0.6)
        if close:
            raise CommandError(f"{place}: '{key}' is no step: did you mean '{close[0]}'?")
    raise CommandError(f"{place} has no step; it is one of {', '.join(_STEPS)}")


def _check_key(key: str, value: Any, step: str, place: str) -> None:
    allowed = _STEPS[step]
    if key not in allowed:
        close = difflib.get_close_matches(key, allowed, n=1, cutoff=0.6)
        hint = f": did you mean '{close[0]}'?" if close else f"; beside {step} there may be {_listed(allowed)}"
        raise CommandError(f"{place}: '{key}' is no key of {step}{hint}")
    types = _TYPES.get(key)
    if types is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
        raise CommandError(f"{place}, {key} is {value!r}; it must be {_WORDS[types[-1]]}")


def _listed(keys: tuple[str, ...]) -> str:
    return ", ".join(keys) if keys else "nothing"


def _only_true(value: Any, place: str) -> None:
    if value is not True:
        raise CommandError(f"{place} is {value!r}; it must be true")
