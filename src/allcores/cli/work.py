"""`allcores work`: the supervisor of a store alone. It runs the jobs; the console may be elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from allcores.cli.exits import missing_extra
from allcores.cli.job_store import open_store, store_option
from allcores.cli.output import Seconds, say
from allcores.jobs.until_signal import GRACE_HELP, GRACE_S, WORKERS_HELP, run_until_signal

if TYPE_CHECKING:
    from allcores.jobs.tasks import Registry

#: seconds beyond those before a supervisor whose parent is gone kills itself
SPARE_S = 10.0

workers_option = click.option("--workers", type=click.IntRange(min=1), metavar="N", help=WORKERS_HELP)
grace_option = click.option(
    "--grace",
    type=Seconds(min=0),
    default=GRACE_S,
    show_default=True,
    metavar="SECONDS",
    help=GRACE_HELP,
)


@click.command("work")
@click.argument("tasks", nargs=-1, required=True)
@store_option
@workers_option
@grace_option
@click.option("--with-parent", is_flag=True, hidden=True)
def command(**given: Any) -> int:
    """Run the jobs of a store, on all cores, until Ctrl-C or SIGTERM: its supervisor. A store has one.

    TASKS are files or modules with functions that have the decorator @allcores.jobs.task.
    """
    return _work(**given)


def _work(*, tasks: Sequence[str], store: str | None, workers: int | None, grace: float, with_parent: bool) -> int:
    if with_parent:
        _end_with_parent(grace)
    registry = load_tasks(tasks)
    opened = open_store(store, create=True)
    from allcores.jobs.supervisor import Supervisor

    supervisor = Supervisor(opened, registry, workers=workers, grace=grace)
    try:
        return run_until_signal(supervisor, None if with_parent else say)
    finally:
        opened.close()


def load_tasks(places: Sequence[str]) -> Registry:
    """The registered tasks of some files or modules; the working folder is looked in, too.

    Raises:
        UsageError: With one sentence, if there are none.
        CommandError: If the extra is not installed.
    """
    try:
        from allcores.jobs.tasks import Registry
    except ImportError as error:
        raise missing_extra(error) from None
    return Registry.load([part for place in places for part in place.split(",") if part])


def supervisor_command(places: Sequence[str], store: str | None, workers: int | None, grace: float) -> list[str]:
    """What starts a supervisor that ends with the process that starts it."""
    command = [sys.executable, "-m", "allcores", "work", *places, "--grace", str(grace), "--with-parent"]
    if store is not None:
        command += ["--store", store]
    if workers is not None:
        command += ["--workers", str(workers)]
    return command


def _end_with_parent(grace_s: float) -> None:
    """Ask this process to end as soon as standard input ends; kill it if it has not done so in time."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(min(grace_s + SPARE_S, threading.TIMEOUT_MAX))
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="allcores-parent-watch", daemon=True).start()
