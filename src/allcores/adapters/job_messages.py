"""What carries jobs to the processes that run them by messages of another library, Celery's or RQ's.

A message is the id of a job and nothing else. The store has the rest: what the job is, who has it, how it ended. So a
message that is lost is sent again, one too many does nothing, and a forged one can only have a job begin that waits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from allcores.errors import UsageError
from allcores.jobs import delivery_queries
from allcores.jobs.announcements import Announcements
from allcores.jobs.errors import AlreadySupervised
from allcores.jobs.lead_duty import BEAT_S, LeadDuty
from allcores.jobs.shared_store import SharedStore
from allcores.jobs.store import JobStore
from allcores.jobs.supervisor import Supervisor
from allcores.jobs.tasks import Place, Registry
from allcores.jobs.trouble import may_tell
from allcores.limits import check_seconds

log = logging.getLogger("allcores.jobs")

#: Jobs that have a message and have not begun, at most: those of a higher priority that come later wait behind them.
WINDOW = 500
#: seconds after which a message that is lost is sent again
AGAIN_S = 5.0
#: Seconds for which a message waits in a worker for a core before another worker may have it.
WAIT_S = 5.0
#: seconds between two looks at what is to be announced, if the store changes all the time, and if it does not
SOON_S, LOOK_S = 0.02, 1.0
#: seconds before messages are tried again where they cannot be sent
TROUBLE_S = 0.5
#: seconds that a supervisor has beyond its grace to end
END_S = 20.0


class Messages(Protocol):
    """Where messages are sent to; for one thread. Each method raises whatever its library raises."""

    def waiting(self) -> int:
        """How many messages nobody has asked for yet."""

    def send(self, id: str) -> None:
        """Send the message of a job."""

    def close(self) -> None:
        """Close the connection; the next call opens another one."""


class Publisher:
    """Sends a message for each job that is queued, in a thread, from `start` to `stop`.

    Args:
        store: Where the jobs are.
        tasks: Names of the tasks whose jobs are announced.
        messages: Where to.
        window: Jobs that have a message and have not begun, at most.
        again_s: Seconds after which a message that is lost is sent again.
    """

    def __init__(
        self, store: SharedStore, tasks: Iterable[str], messages: Messages, window: int, again_s: float
    ) -> None:
        self._store = store
        self._tasks = tuple(tasks)
        self._messages = messages
        self._announcements = Announcements(window, again_s)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="allcores-publisher", daemon=True)
        self._told: dict[object, float] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End, within that time; what is not announced by then, another one announces."""
        self._stopping.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                change = self._store.last_change
                try:
                    self._publish()
                    pause_s = SOON_S
                except Exception as error:
                    # A server that is away, whichever way the library says so; and a store that cannot be read.
                    self._has_trouble(error)
                    pause_s = TROUBLE_S
                if self._stopping.wait(pause_s):
                    break
                with contextlib.suppress(Exception):  # the next round meets it, too, and tells of it
                    self._store.wait_for_change(change, LOOK_S)
        finally:
            self._close()

    def _publish(self) -> None:
        waiting = self._messages.waiting()
        self._announcements.begun(delivery_queries.queued(self._store, self._announcements.open))
        room = self._announcements.room(waiting)
        most = room and room + len(self._announcements.open)
        ready = delivery_queries.ready(self._store, self._tasks, most)
        for id in self._announcements.due(time.monotonic(), ready, waiting):
            if self._stopping.is_set():
                return
            self._messages.send(id)
            self._announcements.sent(id, time.monotonic())

    def _has_trouble(self, error: Exception) -> None:
        self._close()
        text = f"{type(error).__name__}: {error}"
        if may_tell(self._told, text, time.monotonic()):
            log.warning("jobs cannot be announced now (they are kept, and it is tried again): %s", text)

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self._messages.close()


class JobWorker:
    """Runs what messages name, on the cores of this machine: a supervisor of the store, in a thread, one of several.

    Args:
        store: The store's file or URL.
        tasks: Where the tasks are.
        messages: Makes what the publisher sends by, which runs where this process leads.
        workers: Jobs at a time; None: the core budget.
        grace: Seconds that jobs at work have to end once this is stopped.
        beat_s: Seconds between two signs of life in the store.
        again_s: Seconds after which a message that is lost is sent again.
        window: Jobs that have a message and have not begun, at most.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | None,
        tasks: Place | Iterable[Place],
        messages: Callable[[], Messages],
        *,
        workers: int | None = None,
        grace: float = 30.0,
        beat_s: float = BEAT_S,
        again_s: float = AGAIN_S,
        window: int = WINDOW,
    ) -> None:
        self._where, self._tasks, self._make_messages = store, tasks, messages
        self._workers, self._grace, self._beat_s = workers, check_seconds("grace", grace), beat_s
        self._again_s, self._window = again_s, window
        self._store: SharedStore | None = None
        self._supervisor: Supervisor | None = None
        self._publisher: Publisher | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._stopping = False
        #: the supervisor ended by itself
        self.failed = False

    def start(self) -> None:
        """Open the store, and begin.

        Raises:
            AlreadySupervised: A supervisor has the store for itself.
            UsageError: Store or tasks make no sense.
            StoreError: The store cannot be opened.
        """
        registry = Registry.load(self._tasks)
        store = SharedStore.open(self._where)
        try:
            _check_alone(store)
            supervisor = Supervisor(store, registry, workers=self._workers, grace=self._grace)
        except BaseException:
            store.close()
            raise
        duty = LeadDuty(store, supervisor.duties, partial(self._leads, store, registry), beat_s=self._beat_s)
        supervisor.duties = [duty]
        self._store, self._supervisor = store, supervisor
        self._thread = threading.Thread(target=self._run, args=[supervisor], name="allcores-supervisor", daemon=True)
        self._thread.start()

    def take(self, id: object, seconds: float) -> bool:
        """Have a job begun here, if it waits; what became of a message. Any thread.

        Args:
            id: Of the job, as a message said.
            seconds: For how long to wait for a core.

        Returns:
            True: the message has served: the job has begun, here or elsewhere, or is none. False: no core was free.
        """
        if not isinstance(id, str):
            return True
        if self._store is None or self._ended.is_set():
            return False
        delivery = self._store.deliver(id)
        try:
            delivery.wait(seconds)
        finally:
            # Also if a signal ended the wait; what was answered is there no more.
            self._store.withdraw(delivery)
        return delivery.answer is not None and not self._ended.is_set()

    def stop(self, *, now: bool = False) -> None:
        """End: jobs at work get the grace, unless `now`; what is not done by then is queued again."""
        self._stopping = True
        if self._supervisor is None or self._thread is None or self._store is None:
            return
        self._supervisor.stop(now=now)
        self._thread.join(END_S if now else self._grace + END_S)
        self._store.close()

    def _run(self, supervisor: Supervisor) -> None:
        try:
            supervisor.run()
        except Exception as error:
            self.failed = True
            log.error("no more jobs are run here: %s", error)
        finally:
            self._ended.set()
            if not self._stopping:
                # What asks for messages must not go on without it; both libraries end in peace by this.
                os.kill(os.getpid(), signal.SIGTERM)

    def _leads(self, store: SharedStore, tasks: Iterable[str], leading: bool) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.stop(1.0)
        if leading:
            log.info("this process announces the jobs of the store %s", store.name)
            made = Publisher(store, tasks, self._make_messages(), self._window, self._again_s)
            self._publisher = made
            made.start()


def queue_of(store: str | os.PathLike[str]) -> str:
    """The name of a queue that belongs to this store alone. Raises: UsageError, StoreError."""
    with JobStore.open(store) as opened:
        return f"allcores.{opened.identity}"


def _check_alone(store: SharedStore) -> None:
    """See that no supervisor has the store for itself. Raises: AlreadySupervised."""
    pid = store.supervisor_pid()
    if pid is not None and pid not in {each.get("pid") for each in store.leases().values()}:
        raise AlreadySupervised(
            f"process {pid} runs the jobs of the store {store.name} by itself (allcores work, or serve): end it, for"
            " these workers run all of them",
            pid=pid,
        )


def refuse(settings: Sequence[tuple[bool, str]], what: str) -> None:
    """Refuse settings that lose jobs, with all that is wrong in one sentence.

    Raises:
        UsageError: If one of them is wrong.
    """
    wrong = [text for is_wrong, text in settings if is_wrong]
    if wrong:
        raise UsageError(f"{what} would not run jobs as is promised: {'; '.join(wrong)}")
