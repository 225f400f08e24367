"""Addresses that are told of a job's end: signed, tried again for hours, and in nobody's way.

What is to be told is found in the store, so also the end of a job that was cancelled in the queue, or that came while
no supervisor ran. A receiver may be told twice: id and time of the end say that it is the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import os
import queue
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from typing import TYPE_CHECKING, Any

from allcores.errors import UsageError
from allcores.jobs import queries
from allcores.jobs.duty import Duty
from allcores.system import own_files

if TYPE_CHECKING:
    from allcores.jobs.model import Job
    from allcores.jobs.store import JobStore

log = logging.getLogger("allcores.jobs")

HEADER = "Allcores-Signature"
#: in the store's folder: what signs, unless $ALLCORES_WEBHOOK_SECRET does
KEY_FILE = "webhook.key"
#: seconds for one request
REQUEST_S = 10.0
#: requests after which an address is given up, and seconds between them: doubled from the first to the second
TRIES = 12
BETWEEN_S = (2.0, 3600.0)
#: requests at a time
_THREADS = 4
#: ends are looked for again from so many seconds before the last one that was seen
_OVERLAP_S = 5.0


def secret_of(store_folder: str | os.PathLike[str]) -> bytes:
    """What requests of this store are signed with; made if there is none.

    Raises:
        UsageError: If the file cannot be trusted or read.
    """
    given = os.environ.get("ALLCORES_WEBHOOK_SECRET")
    if given:
        return given.encode()
    path = os.path.join(os.fspath(store_folder), KEY_FILE)
    try:
        with contextlib.suppress(FileExistsError), open(own_files.create(path), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        reason = own_files.why_not_trusted(path)
        if reason is not None:
            raise UsageError(f"the key of webhooks in {path} is not used: {reason}")
        with open(path, "rb") as found:
            return found.read().strip()
    except OSError as error:
        raise UsageError(f"the key of webhooks in {path} cannot be had: {error.strerror}") from None


def signature(secret: bytes, body: bytes, at: int) -> str:
    """The header for a body that is sent at that time."""
    digest = hmac.new(secret, b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def is_signed(secret: bytes, header: str, body: bytes, *, now: float | None = None, tolerance_s: float = 300.0) -> bool:
    """For receivers: whether a body was signed with the secret, a moment ago.

    Args:
        secret: That of the store.
        header: Of the request, `Allcores-Signature`.
        body: Its bytes, as they came.
        now: The time; None: now.
        tolerance_s: How old a signature may be, in seconds.
    """
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    try:
        at = int(parts.get("t", ""))
    except ValueError:
        return False
    age_s = (time.time() if now is None else now) - at
    return abs(age_s) <= tolerance_s and hmac.compare_digest(signature(secret, body, at), header)


def body_of(job: Job) -> bytes:
    """What is sent: how the job ended, and not what it returned."""
    error = None if job.error is None else {"type": job.error.type, "message": job.error.message}
    facts = {
        "id": job.id,
        "task": job.task,
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
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        with _opener.open(request, timeout=REQUEST_S) as response:
            return None if 200 <= response.status < 300 else f"it answered {response.status}"
    except urllib.error.HTTPError as error:
        with error:
            return f"it answered {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", None) or error)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A redirect is followed to no other place than the one that was asked for."""


_opener = urllib.request.build_opener(_NoRedirect)


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
        #: name of the record -> what it says; `sent` ones are on their way
        self._pending: dict[str, dict[str, Any]] | None = None
        self._sent: set[str] = set()
        self._seen: dict[str, float] = {}
        self._since = 0.0
        self._change = -1

    def look(self, wall: float, *, stopping: bool) -> None:
        """Find what has ended, send what is due, write down what was taken."""
        if self._pending is None:
            self._pending = self._store.records("webhook")
            known = self._store.records("webhooks").get("since")
            self._since = float(known) if isinstance(known, (int, float)) else wall
        change = self._store.change_number()
        if change != self._change:
            self._change = change
            self._find(wall)
        while self._answers:
            self._answered(*self._answers.popleft(), wall)
        if stopping:
            return
        for name, record in self._pending.items():
            if name not in self._sent and record["at"] <= wall:
                self._send(name, record)

    def _find(self, wall: float) -> None:
        assert self._pending is not None
        for job, finished in queries.ended_with_webhook(self._store, self._since - _OVERLAP_S):
            name = f"{job}:{finished:.6f}"
            if name in self._seen:
                continue
            record = {"job": job, "tries": 0, "at": wall}
            self._store.put_record("webhook", name, record)
            self._pending[name] = record
            self._seen[name] = finished
            self._since = max(self._since, finished)
            self._store.put_record("webhooks", "since", self._since)
        self._seen = {name: at for name, at in self._seen.items() if at >= self._since - 2 * _OVERLAP_S}

    def _send(self, name: str, record: dict[str, Any]) -> None:
        job = self._store.get(record["job"])
        if job is None or job.webhook is None:
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
                self._threads.append(thread)
                thread.start()
        self._sent.add(name)
        self._requests.put((name, job.webhook, body_of(job)))

    def _work(self) -> None:
        while True:
            found = self._requests.get()
            if found is None:
                return
            name, url, body = found
            assert self._secret is not None
            self._answers.append((name, post(url, body, self._secret)))

    def _answered(self, name: str, why_not: str | None, wall: float) -> None:
        assert self._pending is not None
        record = self._pending.get(name)
        self._sent.discard(name)
        if record is None:
            return
        record["tries"] += 1
        if why_not is not None:
            log.warning("job %s: its webhook was not taken (try %d): %s", record["job"], record["tries"], why_not)
        if why_not is None or record["tries"] >= TRIES:
            self._store.delete_record("webhook", name)
            del self._pending[name]
            return
        record["at"] = wall + min(BETWEEN_S[0] * 2 ** (record["tries"] - 1), BETWEEN_S[1])
        self._store.put_record("webhook", name, record)

    def close(self) -> None:
        """End the threads; what was not told is told by the next supervisor."""
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join(0.5)
