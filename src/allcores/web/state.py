"""What the extension keeps for one app, in `app.extensions["allcores"]`: settings, store, tasks, who may come in."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import flask

from allcores.errors import UsageError
from allcores.web.credentials import kept_secret
from allcores.web.security import Gate
from allcores.web.settings import Settings

if TYPE_CHECKING:
    import jinja2

    from allcores.jobs.store import JobStore
    from allcores.jobs.tasks import Task


class Console:
    """What the extension keeps for one app: `app.extensions["allcores"]`. Any thread, any process.

    The store is opened when it is first needed, and anew in a child of a fork: a server that loads the app before it
    forks (`gunicorn --preload`) hands no connection to its workers.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._pid = 0
        self._store: JobStore | None = None
        self._gate: Gate | None = None
        self._tasks: Mapping[str, Task] | None = None
        self.environment: jinja2.Environment | None = None

    def _in_this_process(self) -> None:
        """Forget what a parent had opened; the lock may be held by a thread that is not here."""
        if self._pid != os.getpid():
            self._lock = threading.Lock()
            self._store = self._gate = None
            self._pid = os.getpid()

    @property
    def store(self) -> JobStore:
        """The store, opened by this process."""
        self._in_this_process()
        if self._store is None:
            from allcores.jobs.store import JobStore

            with self._lock:
                if self._store is None:
                    self._store = JobStore.open(self.settings.store, allow_network=self.settings.allow_network)
        return self._store

    @property
    def gate(self) -> Gate:
        """What decides about requests."""
        self._in_this_process()
        if self._gate is None:
            secret = kept_secret(self.store.folder)
            tokens = dict(self.settings.tokens)
            if not tokens and self.settings.authorize is None:
                tokens = {"admin": (secret, "admin")}
            with self._lock:
                if self._gate is None:
                    self._gate = Gate(self.settings, tokens, secret)
        return self._gate

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The registered tasks, by name; their modules are imported when this is first asked for."""
        if self._tasks is None:
            from allcores.jobs.tasks import Registry

            places = self._places()
            self._tasks = Registry.load(places) if places else Registry(())
        return self._tasks

    def _places(self) -> list[Any]:
        given = self.settings.tasks
        if given is None:
            return []
        if isinstance(given, str):
            return [part.strip() for part in given.split(",") if part.strip()]
        return list(given) if isinstance(given, list | tuple) else [given]


def current() -> Console:
    """What the extension keeps for the current app.

    Raises:
        UsageError: If that app has no extension.
    """
    found = flask.current_app.extensions.get("allcores")
    if not isinstance(found, Console):
        raise UsageError("This app has no allcores extension: Allcores(app), or init_app(app), adds it.")
    return found
