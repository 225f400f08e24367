"""`allcores runs`: which runs there are, what became of them, what failed; remove one, resume one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import click

from allcores.cli.exits import CommandError, Exit
from allcores.cli.output import check_stdout, print_error, say, shortened, write_json
from allcores.cli.output import show as show_text
from allcores.cli.pipe_request import PipeOptions
from allcores.cli.pipe_runner import pipe
from allcores.cli.request import RunOptions
from allcores.cli.runner import run
from allcores.errors import JournalError
from allcores.formatting import counted, moment_text, seconds_text, size_text
from allcores.runs import directory
from allcores.runs.directory import KnownRun
from allcores.runs.index import RunIndex
from allcores.sinks.destination import check_file
from allcores.sinks.json_stream import STDOUT
from allcores.sinks.many_rows import for_readers
from allcores.sinks.open import sink_of
from allcores.sinks.publishing import published
from allcores.system.terminal_text import safe_json, safe_line

_HELP = """Runs that keep a journal: list them, newest first, or look at one.

They are in $ALLCORES_HOME/runs, else in allcores/runs below $XDG_STATE_HOME (~/.local/state), unless --runs-dir says
otherwise. When a run begins, finished ones go that are older than 30 days, more than 100, or above 10 GB together;
those that never finished go after 90 days. ID may be "latest".
"""

_runs_dir = click.option("--runs-dir", metavar="FOLDER", help="Where runs are kept.")


def _or_above(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """The option may stand before the command, too."""
    return value or (ctx.parent is not None and bool(ctx.parent.params.get("as_machine")))


_json = click.option("--json", "as_machine", is_flag=True, callback=_or_above, help="Print JSON.")


@click.group("runs", help=_HELP, invoke_without_command=True)
@_runs_dir
@_json
@click.pass_context
def command(ctx: click.Context, runs_dir: str | None, as_machine: bool) -> None:
    """List runs, unless a subcommand is named."""
    ctx.obj = runs_dir
    if ctx.invoked_subcommand is None:
        _list(directory.runs_folder(runs_dir), as_machine)


@command.command("list")
@_runs_dir
@_json
@click.pass_obj
def list_(given: str | None, runs_dir: str | None, as_machine: bool) -> None:
    """List runs, newest first."""
    _list(directory.runs_folder(runs_dir or given), as_machine)


@command.command()
@click.argument("run_id", metavar="ID")
@_runs_dir
@_json
@click.pass_obj
def show(given: str | None, run_id: str, runs_dir: str | None, as_machine: bool) -> None:
    """Show a run: state, figures, failures grouped by cause with the first item of each."""
    known = _find(runs_dir or given, run_id)
    run_index = RunIndex(known.folder)
    try:
        causes = [
            {"kind": kind, "cause": cause, "count": count, "first": _record(run_index, first)}
            for kind, cause, count, first in run_index.causes()
        ]
        bad_count, bad = run_index.bad_records(20)
    finally:
        run_index.close()
    if as_machine:
        found = {**_as_json(known), "failures_by_cause": causes, "bad_records": bad_count}
        write_json({**found, "identity": known.run_row.identity, "request": known.run_row.request})
        return
    show_text(_as_text(known))
    for each in causes:
        first: Any = each["first"]
        show_text(safe_line(f"  {each['count']:,} × {each['kind']}: {each['cause']}"))
        show_text(f"      first: item {first['index']} {shortened(json.dumps(first['item'], ensure_ascii=False))}")
    if bad_count:
        show_text(f"  {counted(bad_count, 'bad record')} left out")
        for message in bad:
            show_text(safe_line(f"      {message}"))


@command.command()
@click.argument("run_id", metavar="ID")
@click.option("--kind", type=click.Choice(["failed", "timed_out", "worker_lost"]), help="Only these.")
@click.option("-o", "--output", metavar="OUT", default="-", help="File for the records; default: standard output.")
@_runs_dir
@click.option(
    "--json",
    "as_machine",
    is_flag=True,
    callback=_or_above,
    help="Print one JSON document, rather than a record a line.",
)
@click.pass_obj
def failures(
    given: str | None, run_id: str, kind: str | None, output: str, runs_dir: str | None, as_machine: bool
) -> None:
    """Export the failures of a run: a record in a line of JSON for each."""
    known = _find(runs_dir or given, run_id)
    run_index = RunIndex(known.folder)

    def lines() -> Iterator[str]:
        for row in run_index.failures():
            if kind is None or row.kind == kind:
                yield for_readers(row.record)

    try:
        with _open_output(output) as write:
            if as_machine:
                write("[" + ",\n ".join(lines()) + "]\n")
            else:
                for line in lines():
                    write(line + "\n")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        shown = "standard output" if output == STDOUT else output
        raise CommandError(f"cannot write {shown}: {error.strerror}", Exit.OUTPUT) from None
    finally:
        run_index.close()


@contextlib.contextmanager
def _open_output(output: str) -> Iterator[Callable[[str], Any]]:
    """What takes the text of an output: standard output, or a file that appears whole."""
    if output == STDOUT:
        check_stdout()
        with click.open_file(output, "w", encoding="utf-8") as stream:
            terminal = stream.isatty()
            yield lambda text: stream.write(safe_json(text) if terminal else text)
            stream.flush()
        return
    check_file(output)
    with published(output, mark=secrets.token_hex(4), sync=False) as file:
        yield lambda text: file.write(text.encode())


@command.command()
@click.argument("run_id", metavar="ID")
@click.option(
    "-o", "--output", metavar="OUT", required=True, help="File to (over)write, in the format that its name says."
)
@click.option("--records", is_flag=True, help="A full record of each item, also of those that failed (JSON Lines).")
@click.option(
    "--side",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Of a pipeline with sides (tee), the rows of the N-th; default: those of its own output.",
)
@_runs_dir
@_json
@click.pass_obj
def export(
    given: str | None, run_id: str, output: str, records: bool, side: int, runs_dir: str | None, as_machine: bool
) -> int:
    """Write the outcomes that a run has, complete or not, to a file: in another format, or out of a damaged journal."""
    from allcores.runs.export import export as exported

    runs = directory.runs_folder(runs_dir or given)
    name = _find(runs, run_id).name if run_id == "latest" else run_id
    if output == STDOUT:
        raise CommandError("outcomes are exported as a whole: name a file with -o")
    sink = sink_of(output, records=records)
    sink.check()
    done = exported(runs, name, sink, side=side)
    if as_machine:
        found = {"id": name, "output": output, "ok": done.ok, "failures": done.failures, "missing": done.missing}
        write_json({**found, "complete": done.whole and not done.missing})
    else:
        failed = f", and {done.failures:,} that failed" * bool(done.failures and sink.takes_failures)
        say(f"{output}: {counted(done.ok, 'item')} that returned{failed}")
    if not done.whole:
        print_error(f"the catalogue of run {name} is damaged: failures, and perhaps more, are left out")
    elif done.missing:
        print_error(f"{counted(done.missing, 'item')} of run {name} damaged in its journal, and left out")
    return Exit.OK if done.whole and not done.missing else Exit.SOME_FAILED


@command.command()
@click.argument("run_ids", metavar="ID...", nargs=-1)
@click.option("--finished", is_flag=True, help="All that are finished.")
@_runs_dir
@_json
@click.pass_obj
def rm(given: str | None, run_ids: tuple[str, ...], finished: bool, runs_dir: str | None, as_machine: bool) -> None:
    """Remove runs: their journals, not their outputs."""
    if as_machine:
        check_stdout()
    runs = runs_dir or given
    place = directory.runs_folder(runs)
    chosen = [_find(runs, name).name if name == "latest" else name for name in run_ids]
    if finished:
        chosen += [known.name for known in directory.known_runs(place) if known.state == "finished"]
    if not chosen and not finished:
        raise CommandError("which? name runs, or --finished")
    chosen = list(dict.fromkeys(chosen))
    for name in chosen:
        directory.find_folder(place, name)  # all of them are there, or none goes
    for name in chosen:
        directory.remove(place, name)
    if as_machine:
        write_json({"removed": chosen})
    else:
        say(f"removed {counted(len(chosen), 'run')}")


@command.command()
@click.argument("run_id", metavar="ID")
@click.option("--retry-failed", is_flag=True, help="Run again what failed, timed out or lost its worker.")
@click.option("--accept-changes", is_flag=True, help="Go on although function or input have changed.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Default: as the run began.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Default: as the run began.")
@click.option("--retries", type=click.IntRange(min=0), metavar="N", help="Default: as the run began.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@_runs_dir
@_json
@click.pass_obj
def resume(
    given: str | None, /, run_id: str, runs_dir: str | None, as_machine: bool, quiet: bool, **changed: Any
) -> int:
    """Go on with a run: the command that began it, in the folder in which it was given."""
    known = _find(runs_dir or given, run_id)
    request = known.run_row.request
    if "options" not in request:
        raise CommandError(
            f"run {known.name} was begun neither by allcores run nor by pipe: what began it goes on with it, a program"
            " with resume=True, allcores chat preprocess with --resume"
        )
    piped = request.get("command") == "pipe"
    for name in ("timeout", "retries"):
        if piped and changed[name] is not None:
            raise CommandError(
                f"run {known.name} is of a pipeline, each stage of which has {name} of its own: leave --{name} out, or"
                " change the pipeline"
            )
    options = {**request["options"], **{name: value for name, value in changed.items() if value is not None}}
    options |= {"resume": known.name, "runs_dir": os.path.dirname(known.folder), "json": as_machine, "quiet": quiet}
    options |= {name: tuple(options[name]) for name in ("inputs", "files", "setup_args")}
    try:
        made = PipeOptions(**options) if piped else RunOptions(**options)
    except TypeError:
        raise CommandError(f"run {known.name} was begun by another version of allcores: begin it anew") from None
    try:
        os.chdir(request["cwd"])
    except OSError as error:
        raise CommandError(f"the folder in which run {known.name} began cannot be entered: {error}") from None
    return pipe(made) if isinstance(made, PipeOptions) else run(made)


def _find(runs_dir: str | None, name: str) -> KnownRun:
    runs = directory.runs_folder(runs_dir)
    if name == "latest":
        known = next(directory.known_runs(runs), None)
        if known is None:
            raise CommandError(f"there are no runs in {runs}")
        return known
    return directory.look_up(runs, name)


def _list(runs: str, as_machine: bool) -> None:
    for name, error in directory.unreadable_runs(runs):
        print_error(f"run {name} is left out: {error}")
    if as_machine:
        write_json([_as_json(known) for known in directory.known_runs(runs)])
        return
    empty = True
    for known in directory.known_runs(runs):
        if empty:
            show_text(f"{'ID':<26} {'STATE':<12} {'OK':>12} {'FAILED':>8} {'SECONDS':>9}  WORK")
        empty = False
        run_row = known.run_row
        work = f"{_function(known)} → {_output(known)}"
        figures = f"{run_row.ok:>12,} {run_row.failures:>8,} {run_row.seconds:>9,.1f}"
        show_text(safe_line(f"{known.name:<26} {known.state:<12} {figures}  {work}"))
    if empty:
        print_error(f"there are no runs in {runs}")


def _record(run_index: RunIndex, slot: int) -> dict[str, Any]:
    row = next(run_index.failures(after=slot - 1), None)
    if row is None or row.slot != slot:
        raise JournalError(f"the failure of item {slot} is gone: the run is at work, ask again")
    record: dict[str, Any] = json.loads(row.record)
    return record


def _as_json(known: KnownRun) -> dict[str, Any]:
    run_row = known.run_row
    return {
        "id": known.name,
        "state": known.state,
        "error": run_row.error,
        "function": _function(known),
        "output": _output(known),
        "created": run_row.created,
        "updated": run_row.updated,
        "seconds": round(run_row.seconds, 3),
        "sessions": run_row.sessions,
        "total": run_row.total,
        "settled": run_row.settled,
        "ok": run_row.ok,
        "failures": {"failed": run_row.failed, "timed_out": run_row.timed_out, "worker_lost": run_row.worker_lost},
        "fsync": run_row.fsync,
        "folder": known.folder,
        "bytes": known.bytes,
    }


def _as_text(known: KnownRun) -> str:
    run_row = known.run_row
    settled = counted(run_row.settled, "item")
    if run_row.total is not None:
        settled = f"{run_row.settled:,} of {counted(run_row.total, 'item')}"
    lines = [
        f"Run {known.name}: {known.state}" + (f" ({run_row.error})" if run_row.error else ""),
        f"  {_function(known)} → {_output(known)}",
        f"  {settled} settled: {run_row.ok:,} ok, {run_row.failures:,} failed",
        f"  {seconds_text(run_row.seconds)} in {counted(run_row.sessions, 'session')},"
        f" begun {moment_text(run_row.created)}",
        f"  journal {known.folder} ({size_text(known.bytes)})",
    ]
    return "\n".join(map(safe_line, lines))


def _function(known: KnownRun) -> str:
    if pipeline := known.run_row.identity.get("pipeline"):
        return str(pipeline.get("text"))
    function = known.run_row.identity.get("function") or {}
    return f"{function.get('module')}:{function.get('name')}"


def _output(known: KnownRun) -> str:
    return str((known.run_row.identity.get("sink") or {}).get("path"))
