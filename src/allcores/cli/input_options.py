"""Options that say how an input is read, for each command that has items."""

from __future__ import annotations

import click

#: `--format`; the names are those of `sources.open.Format`
input_format = click.option(
    "--format",
    type=click.Choice(["lines", "jsonl", "csv", "parquet", "row-groups", "npy", "hdf5"]),
    help="How INPUT holds its items; default: by suffix.",
)
#: `--encoding`
encoding = click.option("--encoding", default="utf-8", show_default=True, help="Of INPUT.")
