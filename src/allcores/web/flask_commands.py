"""`flask --app app allcores ...`: the same store and tasks as the app has."""

from __future__ import annotations

import math
from urllib.parse import quote

import click
from flask.cli import with_appcontext

from allcores.errors import UsageError
from allcores.jobs.errors import JobsError, exit_code
from allcores.jobs.until_signal import GRACE_HELP, GRACE_S, WORKERS_HELP, run_until_signal
from allcores.web.state import current

#: how `work` ends where tasks or settings make no sense
_USAGE = 2


class _Failed(click.ClickException):
    """Ends a command with a sentence, and a code."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.exit_code = exit_code(error) or _USAGE  # type: ignore[misc]


def _seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value!r} is no number of seconds.", ctx, param)
    return value


def add(group: click.Group) -> None:
    """Add the commands to a blueprint's group."""
    group.command("address", help="Print the address of the console, with its token.")(with_appcontext(address))
    group.command("work", help="Run the jobs of this app's store, on all cores, until Ctrl-C or SIGTERM.")(
        _workers(_grace(with_appcontext(work)))
    )


def address() -> None:
    """Print the path and the token: the host is whatever serves the app."""
    console = current()
    for name, (token, role) in sorted(console.gate.tokens().items()):
        click.echo(f"{console.settings.prefix}/?token={quote(token, safe='')}  ({name}, {role})")
    if not console.gate.tokens():
        click.echo("The app itself says who may come in (ALLCORES_AUTHORIZE).")


_workers = click.option("--workers", type=click.IntRange(min=1), metavar="N", help=WORKERS_HELP)
_grace = click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=GRACE_S,
    show_default=True,
    callback=_seconds,
    metavar="SECONDS",
    help=GRACE_HELP,
)


def work(workers: int | None, grace: float) -> None:
    """Run jobs until SIGTERM or Ctrl-C; options and exit codes are those of `allcores work`."""
    from allcores.jobs.supervisor import Supervisor

    try:
        console = current()
        supervisor = Supervisor(console.store, console.tasks, workers=workers, grace=grace)
        code = run_until_signal(supervisor, lambda line: click.echo(line, err=True))
    except (JobsError, UsageError) as error:
        raise _Failed(error) from error
    click.get_current_context().exit(code)
