"""What the extension keeps for one app, in `app.extensions["allcores"]`: settings, store, tasks, who may come in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import flask

from allcores.errors import UsageError
from allcores.system.forks import renew_in_children
from allcores.web.credentials import kept_secret
from allcores.web.security import Gate
from allcores.web.settings import Settings
from allcores.web.streams import Streams

#: seconds for which open pages share what one of them has read: whether anything has changed
CHANGE_S = 0.5
Value = TypeVar("Value", bound="tuple[Any, ...]")

if TYPE_CHECKING:
    import jinja2

    from allcores.jobs.store import JobStore
    from allcores.jobs.tasks import Task


class Shared:
    """What several open pages ask for at the same time is read once; any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Any]] = {}

    def get(self, name: str, seconds: float, read: Callable[[], Value], *, fresh: bool, change: int = 0) -> Value:
        """A value as it was so many seconds ago at most.

        Args:
            name: Of what is read.
            seconds: How old it may be.
            read: Reads it: the store's change number, and more.
            fresh: Read it now.
            change: The least change number that will do.
        """
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and not fresh and time.monotonic() - kept[0] < seconds and kept[1][0] >= change:
                return kept[1]  # type: ignore[no-any-return]
            value = read()
            self._kept[name] = (time.monotonic(), value)
            return value


class Console:
    """What the extension keeps for one app: `app.extensions["allcores"]`. Any thread, any process.

    The store is opened when it is first needed, and anew in a child of a fork: a server that loads the app before it
    forks (`gunicorn --preload`) hands no connection to its workers.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._store: JobStore | None = None
        self._of_parent: JobStore | None = None
        self._gate: Gate | None = None
        self._tasks: Mapping[str, Task] | None = None
        self.shared = Shared()
        self._streams: Streams | None = None
        self.environment: jinja2.Environment | None = None
        renew_in_children(self)

    def after_fork(self) -> None:
        """In a child: forget what the parent had opened; the lock may be held by a thread that is not here.

        Not at the first use: its first requests may come at the same time, on several threads.
        """
        self._lock = threading.Lock()
        # Kept: its connections are the parent's, and closed by nobody here.
        self._of_parent = self._store
        self._store = self._gate = self._streams = None
        self.shared = Shared()

    @property
    def store(self) -> JobStore:
        """The store, opened by this process."""
        if self._store is None:
            from allcores.jobs.store import JobStore

            with self._lock:
                if self._store is None:
                    self._store = JobStore.open(self.settings.store, allow_network=self.settings.allow_network)
        return self._store

    def change_and_running(self) -> tuple[int, int]:
        """The store's change number and how many jobs run; for a page that asks again, half a second old at most."""
        from allcores.jobs.queries import change_and_running

        store, poll = self.store, is_poll()
        found = self.shared.get("change", CHANGE_S, lambda: change_and_running(store), fresh=not poll, change=told())
        if found[0] < store.last_change:
            # What was changed here is seen at once.
            found = self.shared.get("change", CHANGE_S, lambda: change_and_running(store), fresh=True)
            if found[0] < store.last_change:
                # A crash of the server has set it back: with this read, the store knows that.
                store.change_number()
        return found

    @property
    def streams(self) -> Streams:
        """The pages of this process that are told of changes as they happen."""
        if self._streams is None:
            with self._lock:
                if self._streams is None:
                    self._streams = Streams(self.settings.streams)
        return self._streams

    @property
    def gate(self) -> Gate:
        """What decides about requests."""
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


def is_poll() -> bool:
    """Whether a page that is open asks whether anything has changed."""
    return bool(flask.request.headers.get("X-Poll"))


def told() -> int:
    """The change number that a page which asks again was told of by its stream: it wants nothing older."""
    text = flask.request.headers.get("X-Change", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def root() -> str:
    """What stands before each address of the console: where its app is mounted (SCRIPT_NAME), and the prefix."""
    return flask.request.script_root + current().settings.prefix


def current() -> Console:
    """What the extension keeps for the current app.

    Raises:
        UsageError: If that app has no extension.
    """
    found = flask.current_app.extensions.get("allcores")
    if not isinstance(found, Console):
        raise UsageError("This app has no allcores extension: Allcores(app), or init_app(app), adds it.")
    return found
