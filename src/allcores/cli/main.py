"""The `allcores` command: its group, and what becomes of errors."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import click

from allcores.cli.exits import CommandError, Exit
from allcores.cli.output import is_of_output, keep_standard, note, print_error, say, unwritten
from allcores.errors import BrokenPool, JournalError, RunChanged, RunInUse, RunNotFound, SetupError, UsageError
from allcores.system import caller


class _Raised(Exception):
    """Carries an error past click."""

    def __init__(self, error: EOFError | OSError) -> None:
        super().__init__(error)
        self.error = error


@contextlib.contextmanager
def _past_click() -> Iterator[None]:
    """Keep errors from click that it has an end of its own for.

    That is code 1 where a pipe has no reader any more; and an EOFError, of a file cut off, it takes for Ctrl-D.
    """
    try:
        yield
    except (EOFError, OSError) as error:
        raise _Raised(error) from error


class _LateCommands(click.Group):
    """Imports a command's file when it is asked for: `--version` and `--help` need not wait for all of them."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _past_click():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _past_click():
            return super().invoke(ctx)

    #: the commands, and the beginnings of their help texts
    names: ClassVar = {
        "advise": "Measure FUNCTION over items of INPUT, and say what pays.",
        "cache": "Results that are kept (`cache=` in Python): list them by function, or remove them.",
        "chat": "Messages of chat as a table of features: make it, check files, count what is in them.",
        "doctor": "Show what this machine gives: cores, memory, start methods, limits, versions, and why.",
        "jobs": "Jobs in a store: list them, newest first, look at one, submit, wait, retry, cancel or remove.",
        "pipe": "Take INPUT through a pipeline, on all cores.",
        "profile": "Run SCRIPT, sampled; say which of its loops could be maps, and what that would give.",
        "report": "Show where the cores' time went.",
        "run": "Call FUNCTION with each item of INPUT, on all cores.",
        "runs": "Runs that keep a journal: list them, newest first, or look at one.",
        "serve": "Serve the jobs console and run jobs, until Ctrl-C or SIGTERM.",
        "top": "Show the pools that run on this machine.",
        "trace": "Turn TIMELINE (of `allcores run --timeline`, or a run's name) into a trace for ui.perfetto.dev.",
        "tune": "Search the fastest setting for FUNCTION over items of INPUT, and keep it.",
        "work": "Run the jobs of a store, on all cores, until Ctrl-C or SIGTERM: its supervisor.",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.names.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        command: click.Command = importlib.import_module(f"allcores.cli.{cmd_name}").command
        return command


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from allcores.system.installations import version_of

        version = version_of("allcores") or "(version unknown: it runs from a folder, not installed)"
        click.echo(f"allcores {version}")
        ctx.exit()


@click.group(cls=_LateCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version.",
)
def group() -> None:
    """Put every core of this machine to work on an ordinary Python function."""


def _of_jobs(error: Exception) -> Exit | None:
    """The exit code for what can be wrong with a store of jobs; None for anything else."""
    errors = sys.modules.get("allcores.jobs.errors")  # not loaded for this: a command that has met them has loaded it
    code = None if errors is None else errors.exit_code(error)
    return None if code is None else Exit(code)  # type: ignore[call-arg]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code. `arguments` defaults to those of this process."""
    keep_standard()
    caller.tell = note
    try:
        code = _ended(arguments)
    finally:
        caller.tell = None
    trouble = unwritten()
    if trouble is None or code != Exit.OK:
        return code
    return _of_standard_output(trouble)


def _of_standard_output(trouble: OSError) -> Exit:
    """The exit code where standard output cannot be written; said, unless its reader has left."""
    if isinstance(trouble, BrokenPipeError):
        return Exit.READER_LEFT
    print_error(f"cannot write standard output: {trouble.strerror or trouble}")
    return Exit.OUTPUT


def _working_folder() -> OSError | None:
    """Why there is none; None if there is one."""
    try:
        os.getcwd()
    except OSError as error:
        return error
    return None


def _called(arguments: Sequence[str] | None) -> int:
    """What the command gives; what it raises is raised."""
    try:
        code = group.main(args=arguments, prog_name="allcores", standalone_mode=False)
        return int(code) if isinstance(code, int) else int(Exit.OK)
    except _Raised as raised:
        error = raised.error
    raise error  # here, where nothing is added to what it came of


def _ended(arguments: Sequence[str] | None) -> int:
    """The exit code, once the command has ended in whatever way; errors are told."""
    try:
        return _called(arguments)
    except click.exceptions.Exit as error:
        return int(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print_error("interrupted")
        return Exit.INTERRUPTED
    except click.UsageError as error:
        text = io.StringIO()
        error.show(text)
        say(text.getvalue().rstrip("\n"))
        return Exit.USAGE
    except click.ClickException as error:
        print_error(error.format_message())
        return Exit.USAGE
    except CommandError as error:
        if error.details:
            say(error.details.rstrip("\n"))
        print_error(str(error))
        return error.exit
    except (UsageError, RunChanged, RunNotFound) as error:
        print_error(str(error))
        return Exit.USAGE
    except (SetupError, BrokenPool) as error:
        print_error(str(error))
        return Exit.NO_WORKERS
    except RunInUse as error:
        print_error(str(error))
        return Exit.IN_USE
    except JournalError as error:
        print_error(str(error))
        return Exit.OUTPUT
    except BrokenPipeError:
        return Exit.READER_LEFT
    except Exception as error:
        if isinstance(error, OSError) and is_of_output(error):
            return _of_standard_output(error)
        if isinstance(error, FileNotFoundError) and (gone := _working_folder()) is not None:
            print_error(f"the working folder is gone ({gone.strerror}): change to one that is there")
            return Exit.USAGE
        code = _of_jobs(error)
        if code is not None:
            print_error(str(error))
            return code
        say(traceback.format_exc().rstrip("\n"))
        print_error("this should not have happened: please report it with the lines above")
        return Exit.INTERNAL
