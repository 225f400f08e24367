"""Addresses that are told of a job's end: signed, tried again for hours, and in nobody's way.

What is to be told is written down in the store as it comes (jobs/untold.py), so also the end of a job that was
cancelled in the queue, or that came while no supervisor ran. A receiver may be told twice: id and time of the end say
that it is the same.
"""

from __future__ import annotations

import http.client
import json
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from typing import TYPE_CHECKING, Any

from allcores.errors import UsageError
from allcores.jobs import untold
from allcores.jobs.bounded_requests import Watch, opener
from allcores.jobs.duty import Duty
from allcores.jobs.errors import StoreError
from allcores.jobs.given_text import as_requested
from allcores.jobs.signatures import HEADER, secret_of, signature

if TYPE_CHECKING:
    from allcores.jobs.model import Job
    from allcores.jobs.store import JobStore

log = logging.getLogger("allcores.jobs")

#: seconds for one request, from its first byte to the last one of what is answered
REQUEST_S = 10.0
#: requests after which an address is given up, and seconds between them: doubled from the first to the second
TRIES = 12
BETWEEN_S = (2.0, 3600.0)
#: seconds for which an address that took all of that is left alone, so that a few that hang do not keep all threads.
#: Larger costs its own ends tries, smaller delays those of others
SILENT_S = 30.0
#: what is said of an address that says of itself that it is there no more, and asks for no further requests
GONE = "it answered 410: that address is gone"
#: requests at a time, and those that wait for that
_THREADS = 4
_MOST_SENT = 64


def body_of(job: Job) -> bytes:
    """What is sent: how the job ended, and not what it returned."""
    error = None if job.error is None else {"type": job.error.type, "message": job.error.message}
    facts = {
        "id": job.id,
        "task": job.task,
        "parent": job.parent,
        "state": str(job.state),
        "created": job.created,
        "finished": job.finished,
        "attempts": job.attempts,
        "crashes": job.crashes,
        "error": error,
    }
    return json.dumps(facts, separators=(",", ":")).encode()


def post(url: str, body: bytes, secret: bytes) -> str | None:
    """Send it; None if it was taken, else why not."""
    if not url.startswith(("http://", "https://")):
        return "it is no address of http or https"
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "allcores",
        HEADER: signature(secret, body, int(time.time())),
    }
    watch = Watch(REQUEST_S)
    status = 0
    try:
        url, credentials = as_requested(url)
        if credentials is not None:
            headers["Authorization"] = credentials
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        with watch, opener.open(request, timeout=REQUEST_S) as response:
            status = response.status
    except urllib.error.HTTPError as error:
        with error:
            return GONE if error.code == http.HTTPStatus.GONE else f"it answered {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        if not watch.over:
            return str(getattr(error, "reason", None) or error) or type(error).__name__
    if watch.over:
        return f"it took longer than {REQUEST_S:g} s"
    return None if 200 <= status < 300 else f"it answered {status}"


def _pause_s(tries: int) -> float:
    """Seconds after so many requests."""
    return 0.0 if tries < 1 else min(BETWEEN_S[0] * 2 ** (tries - 1), BETWEEN_S[1])


class _Silent:
    """Addresses that took all the time that a request has. One request at a time finds out whether that is still so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def may_ask(self, url: str) -> bool:
        """Whether to send a request there now."""
        address, now = _address(url), time.monotonic()
        with self._lock:
            until = self._until.get(address)
            if until is not None and now < until:
                return False
            if until is not None:
                self._until[address] = now + REQUEST_S + SILENT_S
            return True

    def asked(self, url: str, seconds: float, *, taken: bool) -> None:
        """How a request has ended."""
        address = _address(url)
        with self._lock:
            if not taken and seconds >= 0.9 * REQUEST_S:
                self._until[address] = time.monotonic() + SILENT_S
            else:
                self._until.pop(address, None)


def _address(url: str) -> str:
    """Whom a URL asks: its host and port."""
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2]


class WebhookDuty(Duty):
    """Finds ends that are to be told, and has them told by threads of its own.

    Args:
        store: The store.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._secret: bytes | None = None
        self._requests: queue.SimpleQueue[tuple[str, str, bytes] | None] = queue.SimpleQueue()
        self._answers: deque[tuple[str, str | None]] = deque()
        self._threads: list[threading.Thread] = []
        self._silent = _Silent()
        #: name of the record -> what it says; `sent` ones are on their way
        self._pending: dict[str, dict[str, Any]] | None = None
        self._sent: set[str] = set()
        #: the change number at which all ends were taken, and the store's `sessions_lost`: the same number says
        #: nothing if the server may have crashed, which sets it back
        self._looked: tuple[int, int] | None = None

    def look(self, wall: float, *, stopping: bool) -> bool:
        """Find what has ended, send what is due, write down what was taken."""
        if self._pending is None:
            # Planned by another one, perhaps, whose clock is another: none waits longer than it would by this clock.
            known = self._store.records(untold.KIND)
            found = {name: untold.record_of(name, said, wall) for name, said in known.items()}
            self._pending = {
                name: {**record, "at": min(record["at"], wall + _pause_s(record["tries"]))}
                for name, record in found.items()
            }
        lost = self._store.sessions_lost
        at = (self._store.change_number(), lost)
        if at != self._looked:
            # Not before: what could not be read has to be looked for again, though nothing changes meanwhile.
            self._looked = at if self._take_ends(wall) else None
        self._take_answers(wall)
        if stopping:
            return True
        for name, record in self._pending.items():
            if len(self._sent) >= _MOST_SENT:
                break
            # Never later than planned, also with a clock that was set back.
            if name not in self._sent and not wall < record["at"] <= wall + BETWEEN_S[1]:
                self._send(name, record)
        return True

    def _take_ends(self, wall: float) -> bool:
        """Take what has ended, a transaction of it; whether that was all."""
        assert self._pending is not None
        try:
            taken = self._store.take_ends(wall)
        except StoreError:
            # They may have been taken all the same: then the records say so.
            self._pending = None
            raise
        self._pending.update(taken)
        return len(taken) < untold.MOST_TAKEN

    def _send(self, name: str, record: dict[str, Any]) -> None:
        job = self._store.get(record["job"])
        if job is None or job.webhook is None or job.finished is None or name != untold.name_of(job.id, job.finished):
            # Deleted, or tried again since: how it ends then is another end, with a record of its own.
            self._answers.append((name, None))
            return
        if self._secret is None:
            try:
                self._secret = secret_of(self._store.folder)
            except UsageError as error:
                log.warning("%s", error)
                return
        if not self._threads:
            for number in range(_THREADS):
                thread = threading.Thread(target=self._work, name=f"allcores-webhook-{number}", daemon=True)
                # Where none can be started, it is tried again.
                thread.start()
                self._threads.append(thread)
        self._sent.add(name)
        self._requests.put((name, job.webhook, body_of(job)))

    def _work(self) -> None:
        while True:
            found = self._requests.get()
            if found is None:
                return
            name, url, body = found
            self._answers.append((name, self._posted(url, body)))

    def _posted(self, url: str, body: bytes) -> str | None:
        assert self._secret is not None
        if not self._silent.may_ask(url):
            return "it was not asked: its address took all the time of a request a moment ago"
        begun = time.monotonic()
        try:
            why_not = post(url, body, self._secret)
        except Exception as error:  # this thread is for all addresses
            log.exception("the request to a webhook failed")
            why_not = f"the request failed: {type(error).__name__}"
        self._silent.asked(url, time.monotonic() - begun, taken=why_not is None)
        return why_not

    def _take_answers(self, wall: float) -> None:
        assert self._pending is not None
        later: dict[str, dict[str, Any]] = {}
        done: list[str] = []
        answers = [self._answers.popleft() for _ in range(len(self._answers))]
        for name, why_not in answers:
            record = self._pending.get(name)
            if record is None:
                continue
            tries = record["tries"] + 1
            is_last = why_not == GONE or tries >= TRIES
            if why_not is not None:
                end = "; it is given up" if is_last else ""
                log.warning("job %s: its webhook was not taken (try %d): %s%s", record["job"], tries, why_not, end)
            if why_not is None or is_last:
                done.append(name)
            else:
                later[name] = {**record, "tries": tries, "at": wall + _pause_s(tries)}
        try:
            if later or done:
                self._store.change_records(untold.KIND, later, done)
        except StoreError:
            self._answers.extendleft(reversed(answers))
            raise
        self._pending.update(later)
        for name in done:
            del self._pending[name]
        self._sent.difference_update(name for name, _ in answers)

    def put_down(self) -> None:
        """See Duty. What was not told is read again; what is on its way stays so."""
        self._pending = self._looked = None

    def close(self) -> None:
        """End the threads; what was not told is told by the next supervisor."""
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join(0.5)
