"""A store that several supervisors share: each claims what was delivered to it, under a lease of its own.

One of them leads: it has the store's lock, as a supervisor alone has, or follows one that fell silent and keeps that.
A lease has no clock: its holder counts up a number in the store, and one is silent whose number stood still while
another one counted up its own so many times. Whatever keeps all of them from writing costs nobody a lease.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from allcores.jobs import claims, leases, lost_claims, queries, retaking
from allcores.jobs.database import Database
from allcores.jobs.errors import AlreadySupervised, StoreError
from allcores.jobs.model import Claim, Job
from allcores.jobs.store import MAX_CRASHES, JobStore


class Delivery:
    """One job that is to be claimed, and what became of that.

    Attributes:
        id: Of the job.
        answer: True: it was claimed. False: it waits for nobody. None: that is not known yet.
    """

    __slots__ = ("_done", "answer", "id")

    def __init__(self, id: str) -> None:
        self.id = id
        self.answer: bool | None = None
        self._done = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Wait for the answer; False if there is none yet."""
        return self._done.wait(seconds)

    def settle(self, claimed: bool | None) -> None:
        """Give the answer; None: there will be none."""
        self.answer = claimed
        self._done.set()


class Lease:
    """The right to claim in a store, as long as its holder is heard of; released by `release`.

    Args:
        release: Called when it is given back.
        ask: Asks the store for something. Any thread.

    Attributes:
        held: It was not lost, as far as is known.
        in_store: See `SupervisorLock`.
    """

    in_store = True

    def __init__(self, release: Callable[[], None], ask: Callable[[], object]) -> None:
        self.held = True
        self._release = release
        self._ask = ask

    def loss(self) -> StoreError:
        """Why it is held no longer, in words."""
        return leases.LeaseLost(leases.LOST)

    @property
    def may_return(self) -> bool:
        """Whether `regain` can be asked for: one that was lost is lost for good."""
        return self.held

    def regain(self) -> None:
        """See that the server of the store is back. Any thread. Raises: StoreError."""
        self._ask()

    def release(self) -> None:
        """Give it back."""
        self.held = False
        self._release()


class SharedStore(JobStore):
    """A `JobStore` for one of several supervisors. Opened by `SharedStore.open`, and given to a `Supervisor`.

    Attributes:
        holder: The name of its lease.
        leads: What only one of them sees to is its to see to.
    """

    def __init__(self, database: Database, folder: Path, identity: str) -> None:
        """Use `SharedStore.open`."""
        super().__init__(database, folder, identity)
        self.holder = secrets.token_hex(8)
        self.leads = False
        self._lease: Lease | None = None
        self._beat = 0
        self._box: dict[str, Delivery] = {}
        self._box_lock = threading.Lock()

    # -- what was delivered --------------------------------------------------------------------------------------

    def deliver(self, id: str) -> Delivery:
        """Have a job claimed as soon as there is a core for it. Any thread."""
        with self._box_lock:
            delivery = self._box.setdefault(id, Delivery(id))
        self._changed()
        return delivery

    def withdraw(self, delivery: Delivery) -> None:
        """It is not to be claimed any more; it may have been, in this moment."""
        with self._box_lock:
            if self._box.get(delivery.id) is delivery:
                del self._box[delivery.id]

    @property
    def waiting(self) -> tuple[str, ...]:
        """Ids of what is to be claimed."""
        with self._box_lock:
            return tuple(self._box)

    def _settle(self, id: str, claimed: bool | None) -> None:
        with self._box_lock:
            delivery = self._box.pop(id, None)
        if delivery is not None:
            delivery.settle(claimed)

    # -- as one of several ---------------------------------------------------------------------------------------

    def become_supervisor(self) -> Lease:  # type: ignore[override]
        """Take a lease, under which jobs may be claimed. Raises: StoreError."""
        self.put_record(leases.LEASE, self.holder, self._body())
        self._lease = Lease(self._end, self.change_number)
        return self._lease

    def _end(self) -> None:
        self._lease = None
        for id in self.waiting:
            self._settle(id, None)
        # What it had is back in the queue by now; if the store cannot be written, its silence says the same.
        with suppress(StoreError):
            self.stop_leading()
            self.delete_record(leases.LEASE, self.holder)

    def _body(self) -> dict[str, Any]:
        return {"beat": self._beat, "host": socket.gethostname(), "pid": os.getpid()}

    def renew(self) -> bool:
        """Say that it is there. False, from then on for good: others took it for dead.

        Raises:
            StoreError: It could not be said; it is to be tried again.
        """
        if self._lease is None or not self._lease.held:
            return False
        self._beat += 1
        if not self._commits.run(leases.renew, (self.holder, self._body())):
            self._lease.held = False
        return self._lease.held

    def leases(self) -> dict[str, dict[str, Any]]:
        """Holders, and what each said last: "beat", "host", "pid"; nothing where that is damaged."""
        return {name: said if isinstance(said, dict) else {} for name, said in self.records(leases.LEASE).items()}

    def lead(self) -> bool:
        """Try to lead; whether it does now. Raises: StoreError."""
        if self._lease is None or not self._lease.held:
            self._let_go()
            self.leads = False
        elif not (self.has_lock and self.leads):
            if not self.has_lock:
                if self._lock is not None:
                    # It was lost, with its session of the server or its file.
                    self._let_go()
                with suppress(AlreadySupervised):
                    # Tried again soon: others are not to wait for it.
                    self._become_supervisor(0.0)
            # One that leads without the lock has lost its lease before another one leads.
            self.leads = self.leads or bool(self._commits.run(leases.lead, (self.holder, self.has_lock)))
            if self.leads:
                # One that hangs would let those who submit wait.
                self._take_submissions()
        return self.leads

    @property
    def has_lock(self) -> bool:
        """Whether it has the lock that a supervisor alone has."""
        return self._lock is not None and self._lock.held

    def stop_leading(self) -> None:
        """Let another one lead; idempotent. Raises: StoreError."""
        leads, self.leads = self.leads, False
        try:
            if leads:
                self._commits.run(leases.follow, self.holder)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._without_supervisor()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _check_supervisor(self) -> None:
        if not self.leads:
            super()._check_supervisor()

    def recover_lost(self, silent: Mapping[str, int], *, max_crashes: int = MAX_CRASHES) -> list[Job]:
        """Take leases away, and queue again what nobody with a lease has.

        Args:
            silent: Holders, each with the number at which it stood still: one that counts on keeps its lease.
            max_crashes: Deaths of its process after which a job is quarantined.
        """
        self._check_claims()
        return self._commits.run(lost_claims.recover_lost, (max_crashes, dict(silent), self.has_lock))

    # -- what a supervisor calls ---------------------------------------------------------------------------------

    def _check_claims(self) -> None:
        if self._lease is None or not self._lease.held:
            raise leases.LeaseLost(leases.LOST)

    def _claiming(self, choose: claims.Choose) -> tuple[Any, Any] | None:
        ids = self.waiting
        return (claims.claim_delivered, claims.Delivered(self.holder, ids, choose)) if ids else None

    def _taken(self, answer: claims.Taken) -> list[Claim]:
        for claim in answer.claims:
            self._settle(claim.job.id, True)
        for id in answer.gone:
            self._settle(id, False)
        return answer.claims

    def look(self) -> queries.Look:
        """What waits and was delivered here. Raises: StoreError."""
        found = super().look()
        return found if self.waiting else queries.Look(found.change, frozenset(), None, False)

    @property
    def claims_ahead(self) -> bool:
        """What waits here behind a long job, another one might run now."""
        return False

    @property
    def is_shown(self) -> bool:
        """The one that leads is shown as the supervisor."""
        return self.leads

    def release_strays(self, known: Any) -> int:
        """Queue again what is claimed under this lease by nobody. Args and returns: as of `JobStore`."""
        self._check_claims()
        return self._commits.run(lost_claims.release_strays, (list(known), self.holder))

    def retake(
        self, at_work: Sequence[Claim], ended: Sequence[Claim], *, max_crashes: int = MAX_CRASHES
    ) -> retaking.Retaken:
        """See which claims stand. Args and returns: as of `JobStore`."""
        self._check_claims()
        if not (at_work or ended):
            return retaking.Retaken()
        return self._commits.run(retaking.retake, retaking.Known(at_work, ended, self.holder))

    def recover(self, *, max_crashes: int = MAX_CRASHES) -> list[Job]:
        """Nothing: what others left is taken over by the one that leads."""
        return []
