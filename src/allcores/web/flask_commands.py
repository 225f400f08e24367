"""`flask --app app allcores ...`: the same store and tasks as the app has."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from allcores.web.state import current


def add(group: click.Group) -> None:
    """Add the commands to a blueprint's group."""
    group.command("address", help="Print the address of the console, with its token.")(with_appcontext(address))
    group.command("work", help="Run the jobs of this app's store until it is told to end.")(with_appcontext(work))


def address() -> None:
    """Print the path and the token: the host is whatever serves the app."""
    console = current()
    for name, (token, role) in sorted(console.gate.tokens().items()):
        click.echo(f"{console.settings.prefix}/?token={token}  ({name}, {role})")
    if not console.gate.tokens():
        click.echo("The app itself says who may come in (ALLCORES_AUTHORIZE).")


def work() -> None:
    """Run jobs until SIGTERM or Ctrl-C."""
    from allcores.jobs.supervisor import Supervisor

    console = current()
    supervisor = Supervisor(console.store, console.tasks)
    supervisor.handle_signals()
    supervisor.run()
