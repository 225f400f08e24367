"""Options that say how an input is read, for each command that has items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from allcores.cli.output import Seconds

#: `--format`; the names are those of `sources.open.Format`
input_format = click.option(
    "--format",
    type=click.Choice(["lines", "jsonl", "csv", "parquet", "row-groups", "npy", "hdf5"]),
    help="How INPUT holds its items; default: by suffix.",
)
#: `--encoding`
encoding = click.option("--encoding", default="utf-8", show_default=True, help="Of INPUT.")


def _character(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    r"""A tab as people write it: what a shell makes of '\t' are two characters."""
    return "\t" if value in ("\\t", "tab") else value


#: `--separator`
separator = click.option(
    "--separator",
    metavar="CHARACTER",
    callback=_character,
    help="Of fields of CSV, like ';' or tab; default: as its suffix and its header say.",
)


def function_and_input(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options of a command that measures a function over an input; see `measured.Measured`."""
    for declare in (
        separator,
        encoding,
        input_format,
        click.option("--files", metavar="PATTERN", multiple=True, help="Items are the paths that match; repeatable."),
        click.argument("inputs", metavar="[INPUT]...", nargs=-1),
        click.argument("function"),
    ):
        command = declare(command)
    return command


def budget(least: float, default: float, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--budget`: seconds, at least so many; `what` they are for."""
    return click.option(
        "--budget", type=Seconds(min=least), default=default, show_default=True, metavar="SECONDS", help=what
    )
