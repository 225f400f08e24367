"""What makes a pipeline the same one when a run is resumed: its steps, as plain JSON.

Not how it is run: workers, backend, deadlines, retries and what is one task may be others tomorrow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from allcores.pipelines.steps import InlineStep, Step, TeeStep, WorkerStep, WriteStep
from allcores.runs.fingerprint import fingerprint_of_function, stated


def identity_of(steps: Sequence[Step]) -> dict[str, Any]:
    """What makes it the same pipeline, outputs apart."""
    return {
        "function": None,
        "setup": None,
        "preload": None,
        "pipeline": {
            "text": " → ".join(step.text for step in steps if not isinstance(step, WriteStep)),
            "steps": list(_described(steps, "")),
        },
    }


def functions_of(steps: Sequence[Step]) -> Iterator[Callable[..., Any]]:
    """All functions of the program that a pipeline calls."""
    for step in steps:
        if isinstance(step, WorkerStep):
            policy = None if step.options is None else step.options.on_error
            yield from (each for each in (step.function, step.preload, policy) if callable(each))
        elif isinstance(step, InlineStep):
            yield from (each for each in step.arguments if callable(each))
        elif isinstance(step, TeeStep):
            for side in step.sides:
                yield from functions_of(side)


def _described(steps: Sequence[Step], place: str) -> Iterator[dict[str, Any]]:
    for number, step in enumerate(steps, 1):
        where = f"{place}step {number}"
        if isinstance(step, WorkerStep):
            policy = None if step.options is None else step.options.on_error
            described: dict[str, Any] = {"function": fingerprint_of_function(step.function)}
            if step.preload is not None:
                described["preload function"] = fingerprint_of_function(step.preload)
                described["preload arguments"] = list(map(_stated, step.preload_args))
            if callable(policy):
                described["on_error function"] = fingerprint_of_function(policy)
            yield {"where": where, "kind": step.kind, "text": step.text, **described}
        elif isinstance(step, InlineStep):
            yield {"where": where, "kind": step.kind, "text": step.text, **_of_arguments(step.arguments)}
        elif isinstance(step, TeeStep):
            yield {"where": where, "kind": "tee", "text": step.text}
            for side, inside in enumerate(step.sides, 1):
                yield from _described(inside, f"{where}, side {side}, ")


def _of_arguments(arguments: Sequence[Any]) -> dict[str, Any]:
    plain = [_stated(each) for each in arguments if not callable(each)]
    functions = [fingerprint_of_function(each) for each in arguments if callable(each)]
    described: dict[str, Any] = {"arguments": plain}
    if functions:
        described["function"] = functions[0]
    return described


def _stated(value: Any) -> str:
    return stated(value) if not isinstance(value, functools.partial) else repr(fingerprint_of_function(value))
