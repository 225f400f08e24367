"""`allcores jobs`: the console's twin in the terminal, on the same store."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from allcores.cli import jobs_text
from allcores.cli.exits import CommandError, Exit
from allcores.cli.job_store import open_store, store_option, user_name
from allcores.cli.jobs_wait import awaited, exit_of, why_none_runs
from allcores.cli.output import Seconds, check_stdout, say, shortened, show, write_json
from allcores.formatting import counted, moment_text, seconds_text
from allcores.limits import FOREVER_S
from allcores.sources.text import json_value
from allcores.system.terminal_text import safe_line

if TYPE_CHECKING:
    from allcores.jobs.model import Changed, Job, JobFilter, JobPage
    from allcores.jobs.store import JobStore

_HELP = """Jobs in a store: list them, newest first, look at one, submit, wait, retry, cancel or remove.

The store is the one that `allcores serve` and `allcores work` take: a file, or an address of a database. Without
--store it is this user's own file, or what $ALLCORES_STORE names. ID may be the beginning of one, if no other begins
so.
"""
#: jobs that the store gives at once, and those with one beginning that are counted
_PAGE, _NAMED = 1_000, 100

_json = click.option("--json", "as_machine", is_flag=True, help="Print JSON.")


def _at_store(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the store that stands behind it, or before it, as an option of the group."""

    @click.option("--store", metavar="WHERE", help="File or address, as before the command.")
    @click.pass_obj
    @functools.wraps(function)
    def call(where: str | None, /, *args: Any, store: str | None, **options: Any) -> Any:
        return function(where if store is None else store, *args, **options)

    return call


@click.group("jobs", help=_HELP, invoke_without_command=True)
@store_option
@click.pass_context
def command(context: click.Context, store: str | None) -> None:
    """See `_HELP`."""
    context.obj = store
    if context.invoked_subcommand is None:
        context.invoke(list_)


@command.command("list")
@click.option("--state", "states", multiple=True, metavar="STATE", help="Jobs in this state; repeatable.")
@click.option("--task", metavar="NAME", help="Jobs of this task.")
@click.option("--tag", metavar="TAG", help="Jobs with this tag.")
@click.option("--text", metavar="TEXT", help="Jobs in whose arguments, errors or ids this stands.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N")
@click.option(
    "--after",
    type=click.IntRange(0, (1 << 63) - 1),
    metavar="NUMBER",
    help="Go on after this one, as the last line says.",
)
@_json
@_at_store
def list_(
    where: str | None,
    /,
    states: Sequence[str],
    task: str | None,
    tag: str | None,
    text: str | None,
    limit: int,
    after: int | None,
    as_machine: bool,
) -> None:
    """List jobs, newest first."""
    check_stdout()
    store = open_store(where)
    page = _pages(store, _filter(states, task, tag, text), after, limit)
    if as_machine:
        rows = [jobs_text.as_json(job) for job in page.jobs]
        write_json({"jobs": rows, "older": page.older, "searched_all": page.searched_all})
        return
    if not page.jobs:
        show("no such job" if (states or task or tag or text or after) else "there are no jobs yet")
    else:
        show(f"{'ID':<32}  {'STATE':<11}  {'SUBMITTED':<19}  {'TOOK':>8}  TASK")
    for job in page.jobs:
        took = seconds_text(max(0.0, job.finished - job.started)) if job.finished and job.started else ""
        what = f"{job.task}({shortened(json.dumps(job.arguments, ensure_ascii=False)[1:-1], 50)})"
        show(safe_line(f"{job.id:<32}  {job.state:<11}  {moment_text(job.created)}  {took:>8}  {what}"))
    if not page.searched_all:
        say(f"the {page.searched:,} newest of them were looked through; for more: --after {page.older}")
    elif page.older is not None:
        say(f"there are more: --after {page.older}")


@command.command("show")
@click.argument("job_id", metavar="ID")
@_json
@_at_store
def show_(where: str | None, /, job_id: str, as_machine: bool) -> None:
    """Show one job: where it is and why, arguments, result or error."""
    check_stdout()
    store = open_store(where)
    job = _find(store, job_id)
    if as_machine:
        write_json(jobs_text.as_json(job))
    else:
        show("\n".join(jobs_text.as_text(job)))
        if (why_not := why_none_runs(store, job)) is not None:
            say(why_not)


@command.command()
@click.argument("task")
@click.argument("given", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--arguments", "as_document", metavar="JSON", help="All arguments, as a JSON object.")
@click.option(
    "--tasks", "places", multiple=True, envvar="ALLCORES_TASKS", metavar="TASKS", help="Where the task is; repeatable."
)
@click.option("--priority", type=int, metavar="N", help="Higher ones are run first.")
@click.option("--delay", type=Seconds(min=0), default=0.0, metavar="SECONDS", help="Not before then.")
@click.option("--run-at", metavar="TIME", help="Not before then: 2026-11-26T18:30, or with an offset.")
@click.option("--timeout", type=Seconds(min=0, min_open=True), metavar="SECONDS", help="For each attempt.")
@click.option("--retries", type=click.IntRange(min=0), metavar="N", help="Attempts after the first.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="To find it by; repeatable.")
@click.option("--key", metavar="KEY", help="The same key again is the same job.")
@click.option("--webhook", metavar="URL", help="Told of its end.")
@click.option("--wait", "waits", is_flag=True, help="Wait until it has ended; the exit code is 0 if it succeeded.")
@_json
@_at_store
def submit(
    where: str | None,
    /,
    task: str,
    given: Sequence[str],
    as_document: str | None,
    places: Sequence[str],
    priority: int | None,
    delay: float,
    run_at: str | None,
    timeout: float | None,
    retries: int | None,
    tags: Sequence[str],
    key: str | None,
    webhook: str | None,
    waits: bool,
    as_machine: bool,
) -> int:
    """Submit a job of TASK; it is in the store when this returns.

    VALUE is JSON where it can be read as such (3, true, [1, 2]), else a text. With --tasks (a file or module, or
    $ALLCORES_TASKS) arguments are checked here against the task's signature, and options that are not given are the
    task's own; without, the supervisor checks them before it runs the job, and knows the task's deadline and retries.
    """
    check_stdout()  # before there is a job whose id nobody is told
    begins = _begin_of(delay, run_at)
    arguments = _arguments(given, as_document)
    if places:
        from allcores.jobs.tasks import Registry

        known = Registry.load([part for place in places for part in place.split(",") if part])[task]
        arguments = known.arguments.check(arguments)
        priority = known.priority if priority is None else priority
        timeout = known.timeout if timeout is None else timeout
        retries = known.retries if retries is None else retries
        tags = [*known.tags, *tags]
    store = open_store(where, create=True)
    submitted = store.submit(
        task,
        arguments,
        priority=priority or 0,
        run_at=begins,
        tags=tuple(dict.fromkeys(tags)),
        key=key,
        timeout=timeout,
        retries=retries,
        by=user_name(),
        webhook=webhook,
    )
    job = submitted.job
    if (why_not := why_none_runs(store, job)) is not None:
        say(why_not)
    if waits:
        (job,) = awaited(store, [job.id], None)
    if as_machine:
        write_json({**jobs_text.as_json(job), "replayed": submitted.replayed})
    elif waits:
        show("\n".join(jobs_text.as_text(job)))
    else:
        show(job.id)
    return exit_of([job]) if waits else Exit.OK


@command.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--timeout", type=Seconds(min=0), metavar="SECONDS", help="Give up after so long (exit code 8).")
@_json
@_at_store
def wait(where: str | None, /, job_ids: Sequence[str], timeout: float | None, as_machine: bool) -> int:
    """Wait until jobs have ended. The exit code is 0 if all succeeded, 1 if one did not, 8 if time was up."""
    check_stdout()
    store = open_store(where)
    found = [_find(store, each) for each in job_ids]
    for why_not in dict.fromkeys(why_none_runs(store, job) for job in found):
        if why_not is not None:
            say(why_not)
    jobs = awaited(store, [job.id for job in found], timeout)
    if as_machine:
        write_json([jobs_text.as_json(job) for job in jobs])
    else:
        for job in jobs:
            show(safe_line(f"{job.id}  {job.state}" + (f"  {job.note}" if job.note else "")))
    return exit_of(jobs)


@command.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--failed-items", is_flag=True, help="Make a job of the items that failed in each, and of no others.")
@_json
@_at_store
def retry(where: str | None, /, job_ids: Sequence[str], failed_items: bool, as_machine: bool) -> int:
    """Queue jobs that have ended again, as they were submitted."""
    store = open_store(where)
    if failed_items:
        return _retry_items(store, job_ids, as_machine)
    return _change(store, store.retry, job_ids, "queued again", as_machine)


@command.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@_json
@_at_store
def cancel(where: str | None, /, job_ids: Sequence[str], as_machine: bool) -> int:
    """Cancel jobs. One that runs is cancelled when its process is gone: `allcores jobs wait` waits for that."""
    store = open_store(where)
    return _change(store, store.cancel, job_ids, "cancelled, or about to be", as_machine)


@command.command()
@click.argument("job_ids", metavar="ID...", nargs=-1)
@click.option("--state", "states", multiple=True, metavar="STATE", help="All jobs in this state; repeatable.")
@_json
@_at_store
def rm(where: str | None, /, job_ids: Sequence[str], states: Sequence[str], as_machine: bool) -> int:
    """Remove jobs that have ended, with their result files: those with an ID, or all in a state."""
    if as_machine:
        check_stdout()
    if bool(job_ids) == bool(states):
        raise CommandError("which? name jobs, or a --state")
    store = open_store(where)
    if not states:
        return _change(store, functools.partial(store.delete, queued=False), job_ids, "removed", as_machine)
    chosen = _filter(states, None, None, None)
    if any(not state.is_final for state in chosen.states):
        raise CommandError("only jobs that have ended can be removed: cancel the others first")
    changed = store.delete(store.snapshot(chosen), by=user_name(), queued=False)
    return _tell(changed, "removed", as_machine)


@command.command()
@click.option("--window", type=Seconds(min=1, max=FOREVER_S), default=3600.0, show_default=True, metavar="SECONDS")
@_json
@_at_store
def stats(where: str | None, /, window: float, as_machine: bool) -> None:
    """Count jobs by state and task; of the last hour: throughput, waits, and what failed of what cause."""
    check_stdout()
    store = open_store(where)
    counts, late = store.counts(), store.stats(window)
    if as_machine:
        write_json(jobs_text.statistics_json(counts, late))
    else:
        show("\n".join(jobs_text.statistics_lines(counts, late)))


def _filter(states: Sequence[str], task: str | None, tag: str | None, text: str | None) -> JobFilter:
    from allcores.jobs.model import JobFilter, State

    try:
        chosen = tuple(State(each) for each in states)
    except ValueError as error:
        raise CommandError(f"{error}: there are {', '.join(State)}") from None
    return JobFilter(states=chosen, task=task, tag=tag, text=text)


def _pages(store: JobStore, wanted: JobFilter, after: int | None, limit: int) -> JobPage:
    """So many jobs as one page, however many a page of the store may have."""
    jobs: list[Job] = []
    searched = 0
    while True:
        page = store.page(wanted, after=after, limit=min(_PAGE, limit - len(jobs)))
        jobs += page.jobs
        searched += page.searched
        after = page.older
        if after is None or not page.searched_all or len(jobs) >= limit:
            return replace(page, jobs=tuple(jobs), searched=searched)


def _find(store: JobStore, job_id: str) -> Job:
    found = store.get(job_id)
    if found is not None:
        return found
    if 4 <= len(job_id) < 32:
        from allcores.jobs.queries import ids_beginning

        begin = ids_beginning(store, job_id, _NAMED)
        if len(begin) == 1 and (found := store.get(begin[0])) is not None:
            return found
        if begin:
            many = f"{len(begin)}" if len(begin) < _NAMED else f"{_NAMED} or more"
            raise CommandError(f"'{job_id}' is the beginning of {many} jobs' ids, like {begin[0]}: give more of it")
    raise CommandError(f"there is no job '{job_id}'")


def _arguments(given: Sequence[str], as_document: str | None) -> dict[str, Any]:
    try:
        found = {} if as_document is None else json_value(as_document)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--arguments is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise CommandError("--arguments has to be a JSON object: '{\"n\": 1000}'")
    named: set[str] = set(found)
    for each in given:
        name, sign, value = each.partition("=")
        if not sign or not name.isidentifier():
            raise CommandError(f"'{each}' is no argument: write NAME=VALUE, like n=1000")
        if name in named:
            raise CommandError(f"the argument {name} is given twice: give it once")
        named.add(name)
        try:
            found[name] = json_value(value)
        except json.JSONDecodeError:
            found[name] = value
        except (ValueError, RecursionError) as error:
            raise CommandError(f"the argument {name} is no usable JSON: {error}") from None
    return found


def _begin_of(delay: float, run_at: str | None) -> float | None:
    if run_at is None:
        return time.time() + delay if delay else None
    if delay:
        raise CommandError("--delay and --run-at both say when: give one of the two")
    from allcores.jobs.given_text import parse_moment

    try:
        return parse_moment(run_at)
    except ValueError as error:
        raise CommandError(f"--run-at {run_at!r}: {error}") from None


def _change(
    store: JobStore, action: Callable[..., Changed], job_ids: Sequence[str], done: str, as_machine: bool
) -> int:
    if as_machine:
        check_stdout()
    found = list(dict.fromkeys(_find(store, each).id for each in job_ids))  # all are there, or none is changed
    return _tell(action(found, by=user_name()), done, as_machine)


def _retry_items(store: JobStore, job_ids: Sequence[str], as_machine: bool) -> int:
    from allcores.jobs.retried_items import job_of_them

    check_stdout()
    found = {job.id: job for job in (_find(store, each) for each in job_ids)}
    # For all of them, or for none.
    made = store.submit_many([job_of_them(store, job, user_name()) for job in found.values()])
    if as_machine:
        write_json([jobs_text.as_json(each.job) for each in made])
    else:
        show("\n".join(each.job.id for each in made))
    return Exit.OK


def _tell(changed: Changed, done: str, as_machine: bool) -> int:
    if as_machine:
        write_json({"count": changed.count, "skipped": changed.skipped, "ids": list(changed.ids)})
    else:
        left = f"; {changed.skipped:,} left as they are, for they are in another state" if changed.skipped else ""
        say(f"{counted(changed.count, 'job')} {done}{left}")
    return Exit.SOME_FAILED if changed.skipped else Exit.OK
