"""`allcores pipe`: an input through a pipeline into its output."""

from __future__ import annotations

from typing import Any

import click

from allcores.cli.exits import Exit
from allcores.cli.pipe_request import PipeOptions
from allcores.cli.pipe_runner import explain as show_plan
from allcores.cli.pipe_runner import pipe
from allcores.cli.run import command as run_command

_HELP = """Take INPUT through a pipeline, on all cores; its rows are lines of JSON, or those of a table.

PIPELINE is a file of stages (pipeline.toml), or package.module:name or path/to/script.py:name of an
allcores.Pipeline or of a function that gives one. INPUT is as for allcores run.

\b
  allcores pipe pipeline.toml chat.jsonl -o features.parquet
  allcores pipe work.py:pipeline urls.txt -o out.jsonl --workers 4
  allcores pipe work.py:pipeline --explain
  zcat big.jsonl.gz | allcores pipe work.py:pipeline - --format jsonl | head

Workers, deadlines, retries and what becomes of failures are said in the pipeline, stage by stage.

With -o FILE the run keeps a journal: whatever ends it, the same command with --resume goes on, and FILE appears when
it is complete, the same as if nothing had happened. Ctrl-C once finishes what is running, twice stops now.
"""
_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {int(code):>3}  {code.meaning}" for code in Exit)

#: options that are those of `allcores run`
_SHARED = (
    "inputs", "named", "files", "format", "encoding", "separator", "rows", "columns", "bad_records", "output",
    "workers", "backend", "start_method", "journal", "resume", "retry_failed", "accept_changes", "key", "fsync",
    "runs_dir", "json", "quiet", "progress", "timeline", "trace",
)  # fmt: skip


@click.command(
    "pipe",
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"max_content_width": 110},
    params=[
        click.Argument(["pipeline"]),
        *(param for param in run_command.params if param.name in _SHARED),
        click.Option(
            ["--explain"], is_flag=True, help="Show stages and workers, and run nothing; INPUT may be left out."
        ),
    ],
)
def command(pipeline: str, inputs: tuple[str, ...], named: tuple[str, ...], explain: bool, **given: Any) -> int:
    """The click command; its help is above."""
    options = PipeOptions.of(function=pipeline, inputs=(*inputs, *named), **given)
    return show_plan(options) if explain else pipe(options)
