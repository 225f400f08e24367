"""`allcores profile`: which loops of a program could be maps, and what the whole program would gain."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Sequence

import click

from allcores.cli import measured
from allcores.cli.exits import CommandError
from allcores.cli.output import print_error, say
from allcores.errors import UsageError
from allcores.sinks.destination import check_file_survives
from allcores.system.terminal_text import safe_json, safe_text
from allcores.system.whole_files import whole_text

_HELP = """Run SCRIPT, sampled; say which of its loops could be maps, and what that would give.

The program runs as it would under python: its standard streams, arguments, exit code and __main__ are its own. The
report goes to standard error, or to --report FILE; --json FILE has all of it, and --html FILE is a page of it.

\b
  allcores profile script.py input.csv
  allcores profile --json profile.json -m package.module --its-own-option

Options of allcores stand before SCRIPT; what follows is the program's.
"""


@click.command("profile", help=_HELP, context_settings={"allow_interspersed_args": False, "max_content_width": 110})
@click.option("--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False), help="Also write JSON there.")
@click.option(
    "--report", metavar="FILE", type=click.Path(dir_okay=False), help="Write the report there, not to standard error."
)
@click.option("--html", metavar="FILE", type=click.Path(dir_okay=False), help="Also write an HTML page there.")
@click.option("--rate", type=click.IntRange(10, 200), metavar="HZ", help="Samples a second; default: 100.")
@click.option("--cores", type=click.IntRange(min=1), metavar="N", help="Predict for so many; default: those it has.")
@click.option("-m", "module", is_flag=True, help="SCRIPT is the name of a module, as in python -m.")
@click.argument("arguments", metavar="SCRIPT [ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED, required=True)
def command(
    json_file: str | None,
    report: str | None,
    html: str | None,
    rate: int | None,
    cores: int | None,
    module: bool,
    arguments: tuple[str, ...],
) -> int:
    """Run SCRIPT, sampled; say which of its loops could be maps, and what that would give."""
    from allcores.advisor.profiling import program
    from allcores.advisor.profiling import report as reports
    from allcores.system.cores import core_budget

    if not module and not os.path.exists(arguments[0]):
        raise CommandError(f"there is no file '{arguments[0]}': name the script to run, or -m and a module")
    if os.name != "posix":
        raise CommandError("profile needs threads' own CPU clocks, which this system does not have: use Linux or macOS")
    outputs = {"--json": json_file, "--report": report, "--html": html}
    _check_survival({option: path for option, path in outputs.items() if path is not None}, arguments)
    if html is not None:
        measured.check_page(html)
    for path in (json_file, report):
        folder = "" if path is None else os.path.dirname(os.path.abspath(path))
        if folder and not os.path.isdir(folder):
            raise CommandError(f"there is no folder for '{path}': make it first")
        is_device = path is not None and os.path.exists(path) and not os.path.isfile(path)
        if folder and not is_device and not os.access(folder, os.W_OK):
            raise CommandError(f"{path} cannot be written: name a file in a folder of yours")
    finished = program.run(["-m", *arguments] if module else list(arguments), hz=rate or program.DEFAULT_HZ)
    try:
        made = reports.make(finished, cores or core_budget().workers)
        text = reports.as_text(made)
        if report is None or not _written(report, safe_text(text) + "\n"):
            say(text)  # the program may have run for hours: what was found is shown somewhere
        if json_file is not None:
            _written(json_file, safe_json(json.dumps(reports.as_json(made), indent=2)) + "\n")
        if html is not None:
            from allcores.advisor.profiling import page

            page.save(made, html)
    except UsageError as error:
        print_error(str(error))
    except Exception:  # the program has run, and its end is what counts
        say(traceback.format_exc().rstrip("\n"))
        print_error("no report: this should not have happened, please report it with the lines above")
    return program.end_as(finished.status)


def _check_survival(outputs: dict[str, str], program: Sequence[str]) -> None:
    """Raise CommandError, or UsageError, if a file of the program would be replaced by one of ours.

    Other commands have a `--json` that takes no file: of `allcores profile --json script.py` that is the script.
    """
    measured.check_apart(outputs)
    for option, path in outputs.items():
        if path.endswith((".py", ".pyw")):
            raise CommandError(
                f"{option} takes the file to write, and {path} is a Python file: {option} FILE, then SCRIPT"
            )
        for name in program:
            check_file_survives(path, name, "given to the program")


def _written(path: str, text: str) -> bool:
    """Write a file; whether it could be, which is told if not."""
    try:
        with whole_text(path) as file:
            file.write(text)
    except OSError as error:
        print_error(f"{path} cannot be written: {error.strerror}")
        return False
    return True
