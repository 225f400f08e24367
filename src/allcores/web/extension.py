"""The Flask extension: `Allcores(app)` or `Allcores()` and `init_app(app)`. It starts nothing and opens nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import flask

from allcores.errors import UsageError
from allcores.system.tracebacks import hiding
from allcores.web.settings import DEFAULTS, read_settings
from allcores.web.state import Console, current

if TYPE_CHECKING:
    from allcores.jobs.model import Job
    from allcores.jobs.store import JobStore


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job that is in the store.

    Attributes:
        id: Names it.
        url: Where its state is read as JSON, from this host: for a Location header or a status link.
        page: Where people look at it.
        replayed: It was there before, under the same key.
    """

    id: str
    url: str
    page: str
    replayed: bool


class Allcores:
    """Jobs for a Flask app: submit them from a view, look at them under /jobs, and a JSON API for programs.

    Args:
        app: Given now, or later to `init_app`; several apps may share one object.
        tasks: The module (or modules) in which functions are marked with `@allcores.jobs.task`: it is imported when
            the first task is asked for. Default: `ALLCORES_TASKS` of the app's configuration.
        store: A path, or an address of SQLAlchemy. Default: `ALLCORES_STORE`, else one SQLite file of this user.

    Raises:
        UsageError: If a setting makes no sense; the message names its key.
    """

    @hiding
    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        tasks: str | Sequence[str] | None = None,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        self._given = {"ALLCORES_TASKS": tasks, "ALLCORES_STORE": store}
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Add the console, the API and `flask allcores ...` to an app. Starts nothing, opens nothing.

        Raises:
            UsageError: If a setting makes no sense, or the app has the extension already.
        """
        if "allcores" in app.extensions:
            raise UsageError("This app has the allcores extension already.")
        for key, value in self._given.items():
            if value is not None:
                app.config[key] = value
        for key, value in DEFAULTS.items():
            app.config.setdefault(key, value)
        console = Console(read_settings(app.config))
        from allcores.web.routes import blueprint

        app.extensions["allcores"] = console
        app.register_blueprint(blueprint(console.settings), url_prefix=console.settings.prefix or None)

    @hiding
    def submit(
        self,
        task: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        priority: int | None = None,
        delay: float = 0.0,
        run_at: float | datetime | None = None,
        tags: Sequence[str] = (),
        key: str | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        webhook: str | None = None,
        by: str = "app",
    ) -> SubmittedJob:
        """Put a job into the store; it is there when this returns.

        Args:
            task: The name of a registered task.
            arguments: By name, as JSON has them; checked against the task's signature.
            priority: Higher ones are run first. Default: the task's.
            delay: Seconds before it may start.
            run_at: When it may start, in place of `delay`: seconds since 1970, or a datetime.
            tags: To find it by.
            key: The same key again, with the same arguments, is the same job.
            timeout: Seconds for each attempt. Default: the task's.
            retries: Attempts after the first that failed. Default: the task's.
            webhook: An address that is told of its end.
            by: Who asked for it; stands in the audit log.

        Raises:
            UsageError: If there is no such task, or if an argument is wrong: the message names each.
            KeyConflict: If the key was used for something else.
        """
        from allcores.jobs.rows import as_tags
        from allcores.jobs.submissions import begin_of
        from allcores.web.submitting import Wanted, submit

        console = current()
        wanted = Wanted(
            task=task,
            arguments=dict(arguments or {}),
            priority=priority,
            delay=delay,
            run_at=begin_of(run_at),
            tags=as_tags(tags),
            key=key,
            timeout=timeout,
            retries=retries,
            webhook=webhook,
        )
        found = submit(console, wanted, by)
        job_id = found.job.id
        return SubmittedJob(
            id=job_id,
            url=_address("allcores.api_job", job_id),
            page=_address("allcores.job", job_id),
            replayed=found.replayed,
        )

    def get(self, job_id: str) -> Job | None:
        """The job as it is now; None if there is none of that id."""
        return current().store.get(job_id)

    @property
    def store(self) -> JobStore:
        """The current app's store, opened by this process."""
        return current().store


def _address(endpoint: str, job_id: str) -> str:
    """Where a job is; also outside of a request (a command of Flask's, a thread), where Flask may know no host."""
    app = flask.current_app
    if flask.has_request_context() or app.config["SERVER_NAME"] is not None:
        return flask.url_for(endpoint, job_id=job_id)
    return app.url_map.bind("localhost", app.config["APPLICATION_ROOT"]).build(endpoint, {"job_id": job_id})
