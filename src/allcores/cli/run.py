"""`allcores run`: one function over one input, each outcome a line of JSON."""

from __future__ import annotations

from typing import Any

import click

from allcores.cli import input_options
from allcores.cli.exits import Exit
from allcores.cli.output import batch_option, size_option
from allcores.cli.request import RunOptions
from allcores.cli.runner import run
from allcores.sinks.json_stream import STDOUT

_HELP = """Call FUNCTION with each item of INPUT, on all cores; write each value as a line of JSON.

FUNCTION is package.module:function or path/to/script.py:function. INPUT is a file of lines (each line an
item), a .jsonl or .ndjson file (each line a JSON value), or - for standard input; of a folder, and with --files,
the items are paths of files. A .npy, .h5 (file.h5:/dataset) or .parquet file is read in slices by the workers:
each item is an array of some rows, or the table of a row group. Inputs are read as they are needed, whatever
their size.

\b
  allcores run work.py:measure urls.txt -o out.jsonl --timeout 10 --retries 2
  allcores run work.py:brightness big.h5:/images --rows 512 -o out.jsonl
  allcores run work.py:parse --files 'src/**/*.py' --on-error record -o out.jsonl
  zcat big.jsonl.gz | allcores run work.py:clean - --format jsonl | head

Ctrl-C once finishes what is running and writes it, twice stops now.

With -o FILE the run keeps a journal: whatever ends it, the same command with --resume goes on, and FILE appears when
it is complete, each item in it once.
"""
_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {int(code):>3}  {code.meaning}" for code in Exit)


@click.command("run", help=_HELP, epilog=_EPILOG, context_settings={"max_content_width": 110})
@click.argument("function")
@click.argument("inputs", metavar="[INPUT]...", nargs=-1)
@click.option("--input", "named", metavar="INPUT", multiple=True, help="An INPUT, too; repeatable.")
@click.option(
    "--files",
    metavar="PATTERN",
    multiple=True,
    help="Items are the paths that match, like 'src/**/*.py' (quoted, or the shell expands it); repeatable.",
)
@input_options.input_format
@input_options.encoding
@input_options.separator
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of a slice of a .npy or HDF5 file; default: as many as make about 8 MB.",
)
@click.option("--columns", metavar="NAMES", help="Of a Parquet file, like 'id,price'; default: all.")
@click.option(
    "--bad-records",
    type=click.Choice(["fatal", "skip"]),
    default="fatal",
    show_default=True,
    help="At a record of INPUT that cannot be read (a line; of CSV all its lines): end; or leave it out and report it.",
)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    default=STDOUT,
    help="File to (over)write: .jsonl, .csv, .parquet, out.db:table, folder/; - is standard output, the default.",
)
@click.option(
    "--records",
    is_flag=True,
    help="Write {index, kind, value, attempts, seconds, worker} for each item, not its value alone.",
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip", "record"]),
    default="raise",
    show_default=True,
    help="At an item that fails: raise its error, which ends the run; go on; or go on and write a record of it"
    " (switches --records on).",
)
@click.option("--ordered/--unordered", default=True, help="Output in input order (default), or as items finish.")
@click.option("--timeout", type=float, metavar="SECONDS", help="For each item; what takes longer is ended.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Further attempts for an item that fails.",
)
@click.option(
    "--preload",
    metavar="FUNCTION",
    help="Called once for all workers, which share what it returns; that is FUNCTION's first argument.",
)
@click.option(
    "--preload-arg",
    "preload_args",
    metavar="TEXT",
    multiple=True,
    help="Argument of the preload function; repeatable.",
)
@click.option(
    "--preload-module",
    "preload_modules",
    metavar="NAME",
    multiple=True,
    help="Module that is imported once for all workers; repeatable.",
)
@click.option("--setup", metavar="FUNCTION", help="Called once per worker; its value is FUNCTION's first argument.")
@click.option(
    "--setup-arg",
    "setup_args",
    metavar="TEXT",
    multiple=True,
    help="Argument of the setup function; repeatable.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Default: the core budget (see allcores doctor).",
)
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    metavar="N",
    help="Items that travel together; default: sizes itself.",
)
@click.option(
    "--tuned",
    is_flag=True,
    help="Workers, backend, chunk and depth as allcores tune has found them for FUNCTION on this machine.",
)
@click.option(
    "--batch",
    metavar="N|auto",
    callback=batch_option,
    help="Call FUNCTION with lists of N items, of which it returns a list of as many values; auto: by time.",
)
@click.option(
    "--memory-per-worker",
    metavar="SIZE",
    callback=size_option,
    help="Like 500M or 2G; a worker above it is ended, and its item fails.",
)
@click.option(
    "--backend",
    metavar="NAME",
    default="processes",
    show_default=True,
    help="processes, threads, serial, or interpreters (Python 3.14 and later); or nodes of a cluster:"
    " dask://HOST:PORT, ray://HOST:PORT, ray.",
)
@click.option("--start-method", type=click.Choice(["template", "fork", "spawn", "forkserver"]), help="Of processes.")
@click.option("--timeline", metavar="FILE", help="Record the run, for `allcores report` and `allcores trace`.")
@click.option("--trace", metavar="FILE", help="Write a trace for Perfetto or chrome://tracing.")
@click.option(
    "--journal/--no-journal",
    default=True,
    help="Remember what is done, so that the run can be resumed (default, if -o names a file).",
)
@click.option("--resume", is_flag=True, help="Go on with the latest run that wrote to OUT; begin one if there is none.")
@click.option("--retry-failed", is_flag=True, help="With --resume, run again what failed, and nothing that returned.")
@click.option("--accept-changes", is_flag=True, help="With --resume, go on although function or input have changed.")
@click.option("--key", metavar="FIELD", help="Items are known by this field, so a resumed run finds them when moved.")
@click.option(
    "--fsync",
    type=click.Choice(["commit", "end", "never"]),
    default="commit",
    show_default=True,
    help="When the disk has to have it: each commit; the output only; whenever it likes.",
)
@click.option("--runs-dir", metavar="FOLDER", help="Where runs are kept; default: as allcores runs tells.")
@click.option("--json", is_flag=True, help="Print the summary as JSON on standard output (needs -o FILE).")
@click.option("-q", "--quiet", is_flag=True, help="No live view and no summary.")
@click.option(
    "--progress/--no-progress",
    default=True,
    help="On standard error: a live view in a terminal, elsewhere a line every 30 s (default).",
)
def command(named: tuple[str, ...], inputs: tuple[str, ...], **given: Any) -> int:
    """The click command; its help is above."""
    return run(RunOptions(inputs=(*inputs, *named), **given))
