"""What `allcores pipe` was asked for, and the pipeline that is meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from allcores.cli.exits import CommandError
from allcores.cli.pipe_file import read_pipeline
from allcores.cli.request import RunOptions
from allcores.cli.target import file_of, given_by, resolve_any
from allcores.formatting import kind_text
from allcores.pipelines.pipeline import Pipeline

#: options of `allcores run` that are said in the pipeline itself, and what they are here
_OF_STAGES: dict[str, Any] = {
    "records": False,
    "on_error": "skip",
    "ordered": True,
    "timeout": None,
    "retries": 0,
    "preload": None,
    "preload_args": (),
    "preload_modules": (),
    "setup": None,
    "setup_args": (),
    "chunk": None,
    "memory_per_worker": None,
}


@dataclass(frozen=True, slots=True)
class PipeOptions(RunOptions):
    """What was asked for; `function` names the pipeline."""

    @classmethod
    def of(cls, **given: Any) -> PipeOptions:
        """The options of the command."""
        return cls(**_OF_STAGES, **given)


def file_of_pipeline(name: str) -> str | None:
    """The file that describes a pipeline, or that has it; None if there is none."""
    return name if name.lower().endswith(".toml") else file_of(name)


def pipeline_of(name: str) -> Pipeline:
    """The pipeline that is meant: one that a TOML file describes, one in a module, or what a function gives.

    Raises:
        CommandError: There is none.
    """
    if name.lower().endswith(".toml"):
        return read_pipeline(name)
    found = resolve_any(name)
    if not isinstance(found, Pipeline) and callable(found) and not isinstance(found, type):
        found = given_by(found, name, "pipeline")
    if not isinstance(found, Pipeline):
        raise CommandError(f"{name} is {kind_text(found)}, and no Pipeline, nor a function that gives one")
    return found
