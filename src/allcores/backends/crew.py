"""The worker processes of a pool: their slots, pipes and launcher, and the signals that end them.

Used with the driver's lock held, or by the driver thread alone where it says so.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import signal
import socket

from allcores.backends.freight import Freight
from allcores.backends.link import Link
from allcores.backends.preload import Preload
from allcores.backends.records import Records
from allcores.clock import monotonic_ns
from allcores.engine.events import Glance
from allcores.supervision import forks, poller, system
from allcores.supervision.launcher import ForkLauncher, Launcher, TemplateLauncher
from allcores.transport import frames, inheritance, pickling, tracker
from allcores.transport.arena import RANGE
from allcores.transport.board import Board, size
from allcores.transport.parcels import Parcel

#: Most bytes of a fatal signal's stack that are read.
NOTES_BYTES = 16_384

#: pause between two looks whether a worker that is to end is stopped, ns
STOPPED_LOOK_NS = 100_000_000


class Crew:
    """See the module. share: cores that one worker and its nested pools may use."""

    def __init__(
        self,
        workers: int,
        start_method: str,
        share: int,
        terminate_s: float,
        block_bytes: int,
        preload: Preload | None,
    ) -> None:
        self.preload = preload
        self._start_method = start_method
        #: what a worker does first; set before the first is started
        self.preparation: bytes | Parcel = b""
        #: ... and what goes along with that
        self.legacy = inheritance.Legacy(forks=start_method == "fork")
        #: where what workers log and print goes; None if they keep it
        self.records: Records | None = None
        self._share = share
        self._terminate_s = terminate_s
        #: workers that die and their replacements need slots at the same time
        self._slots = 2 * workers + 8
        # The board lies at the beginning of the file, blocks beyond it. No file that long, no blocks.
        sparse = system.sparse_file("board", RANGE)
        self._board_descriptor = sparse if sparse is not None else system.anonymous_file("board", size(self._slots))
        self.freight = Freight(sparse, block_bytes, workers, size(self._slots)) if sparse is not None else None
        self.board = Board(self._board_descriptor, self._slots)
        self._free = list(range(self._slots - 1, -1, -1))
        #: slot -> descriptor of the file that takes a fatal signal's stack
        self._notes: dict[int, int] = {}
        self.links: dict[int, Link] = {}
        self.poller = poller.Poller()
        self.launcher: Launcher | None = None
        self.to_launch: list[int] = []
        #: all is over: nothing is to be listened to any more
        self.gone = False
        #: (when ns, worker, signal)
        self._to_signal: list[tuple[int, int, int]] = []

    # --- reading the board ---

    def glance(self, worker: int) -> Glance | None:
        """Where a worker is; None if it is unknown."""
        link = self.links.get(worker)
        return Glance(*self.board.glance(link.slot)) if link is not None else None

    def notes(self, link: Link) -> str | None:
        """What faulthandler wrote when the worker died."""
        return os.pread(self._notes[link.slot], NOTES_BYTES, 0).decode("utf-8", "replace") or None

    # --- pipes ---

    def pack(self, obj: object) -> bytes | Parcel:
        """Bytes for the pipe, and what of it lies in blocks."""
        return self.freight.pack(obj) if self.freight is not None else pickling.dumps(obj)

    def write(self, link: Link, data: bytes) -> None:
        """Write to a worker; what its pipe does not take is written by the loop."""
        if not link.write(data) and not link.writing:
            link.writing = True
            self.listen(link)

    def write_more(self, link: Link) -> None:
        """Its pipe takes more now."""
        if link.write_more() and link.writing:
            link.writing = False
            self.listen(link)

    def listen(self, link: Link) -> None:
        """Watch a pipe for what is to be expected of it now."""
        if link.ended:
            return
        mask = (0 if link.attended else poller.READ) | (poller.WRITE if link.writing else 0)
        with contextlib.suppress(OSError, ValueError):
            self.poller.modify(link.pipe.fileno(), mask)

    # --- starting (driver thread) ---

    def launch_waiting(self) -> None:
        """Start the workers that were ordered, as far as slots are free. Raises OSError."""
        while self.to_launch and self._free:
            # The program may have closed them since.
            system.keep_standard()
            # Until all is in its place, where abandon() finds it.
            with forks.Undisturbed():
                if self.launcher is None:
                    self.launcher = self._new_launcher()
                    self.watch_launcher()
                if not self.launcher.ready:
                    # It preloads: its notice will bring us here again.
                    return
                self._launch(self.to_launch.pop(0))

    def _new_launcher(self) -> Launcher:
        preload = self.preload
        if self._start_method == "fork":
            return ForkLauncher(self.board, self._share, preload.here if preload is not None else None)
        spawn = self._start_method == "spawn" or (preload is not None and preload.per_worker)
        return TemplateLauncher(
            self._board_descriptor,
            self._slots,
            self._share,
            self._share,
            spawn=spawn,
            logs=self.records is not None,
            preload=preload.payload if preload is not None and not spawn else None,
            descriptors=preload.legacy.descriptors if preload is not None and not spawn else (),
            modules=preload.modules if preload is not None else (),
        )

    def watch_launcher(self) -> None:
        """Wait for the launcher's descriptors, which may change with every worker."""
        if self.launcher is None:
            return
        wanted, known = set(self.launcher.descriptors()), self.poller.known(self)
        for descriptor in wanted - known:
            self.poller.register(descriptor, self)
        for descriptor in known - wanted:
            self.poller.unregister(descriptor)

    def drop_launcher(self) -> None:
        """The launcher is lost, or not needed any more."""
        launcher, self.launcher = self.launcher, None
        if launcher is not None:
            for descriptor in launcher.descriptors():
                self.poller.unregister(descriptor)
            launcher.close()

    def kill_launcher(self) -> None:
        """What it is doing is of no use any more."""
        if self.launcher is not None:
            self.launcher.kill()
        self.drop_launcher()

    def _launch(self, worker: int) -> None:
        assert self.launcher is not None
        ours, theirs = socket.socketpair()
        slot = self._free.pop()
        self.board.clear(slot)
        self.board.identify(slot, worker)
        notes = self._notes.get(slot)
        if notes is None:
            notes = self._notes[slot] = system.anonymous_file("notes")
        os.truncate(notes, 0)
        os.lseek(notes, 0, os.SEEK_SET)
        ours.setblocking(False)
        link = Link(worker, slot, ours)
        self.links[worker] = link
        self.poller.register(ours.fileno(), link)
        self.launcher.launch(worker, slot, theirs.fileno(), notes)
        theirs.close()
        self.write(link, link.introduction())
        preparation = self.preparation
        link.hand_over(0, tracker.descriptors())
        if self.preload is not None and self.preload.per_worker:
            link.hand_over(frames.PRELOAD, self.preload.legacy.descriptors)
        link.hand_over(frames.SETUP, self.legacy.descriptors)
        if self.freight is not None:
            link.delivery = self.freight.deliver(worker)
            self.write(link, self.freight.allow(worker))
        if self.records is not None:
            self.write(link, self.records.greeting())
        if not isinstance(preparation, bytes):
            assert self.freight is not None
            preparation = self.freight.lend(link, preparation)
        if self.preload is not None and self.preload.per_worker:
            self.write(link, frames.frame(frames.PRELOAD, 0, self.preload.payload))
        self.write(link, frames.frame(frames.SETUP, 0, preparation))
        if self._start_method == "fork":
            self.watch_launcher()

    # --- ending ---

    def end(self, worker: int, reason: str, *, at_once: bool = False) -> None:
        """Ask a worker's process group to end, and see that it does; `at_once`: ask nobody.

        worker: 0 is what starts the others.
        """
        link = self.links.get(worker)
        if self.launcher is not None and (worker == 0 or (link is not None and not link.pid and self.is_stopped(0))):
            # What starts the worker was stopped itself, and would never do so; its end is noticed like any other.
            self.launcher.kill()
        if link is None:
            if worker in self.to_launch:
                self.to_launch.remove(worker)
            return
        link.reason = reason
        if link.pid and not at_once:
            system.end_group(link.pid, signal.SIGTERM)
            self._look_later(worker)
        self.signal_later(self._terminate_s if link.pid and not at_once else 0.0, worker)

    def is_stopped(self, worker: int) -> bool:
        """Whether a worker's process is stopped, or the one that is to start it (0: that one in any case)."""
        link = self.links.get(worker)
        pid = link.pid if link is not None else 0
        if not pid and self.launcher is not None:
            pid = self.launcher.pid
        return bool(pid) and system.is_stopped(pid)

    def stop(self, worker: int, seconds: float) -> None:
        """Let a worker end by itself, and see that it does within `seconds`."""
        link = self.links.get(worker)
        if link is not None:
            self.write(link, frames.frame(frames.STOP, 0))
            self.signal_later(seconds, worker)
            self._look_later(worker)

    def _look_later(self, worker: int) -> None:
        """Whoever is to end and is stopped sees neither a frame nor SIGTERM before somebody lets it go on."""
        heapq.heappush(self._to_signal, (monotonic_ns() + STOPPED_LOOK_NS, worker, 0))

    def signal_later(self, seconds: float, worker: int) -> None:
        """SIGKILL for a worker's process group, unless it is gone by then."""
        heapq.heappush(self._to_signal, (monotonic_ns() + int(seconds * 1e9), worker, signal.SIGKILL))

    @property
    def next_signal_ns(self) -> int | None:
        """When `signal_due` has something to do."""
        return self._to_signal[0][0] if self._to_signal else None

    def signal_due(self, now: int) -> None:
        """Send the signals whose time has come."""
        while self._to_signal and self._to_signal[0][0] <= now:
            _, worker, number = heapq.heappop(self._to_signal)
            link = self.links.get(worker)
            if link is None:
                continue
            if not number:
                if self.is_stopped(worker):
                    link.reason = link.reason or "it was stopped"
                    self.signal_later(0.0, worker)
                else:
                    self._look_later(worker)
                continue
            if link.pid:
                if link.ended and link.reason is None:
                    link.reason = "the task closed its pipe"
                system.end_group(link.pid, number)
            else:
                # Not born yet: look again soon, for as long as its launcher lives.
                self.signal_later(0.02, worker)

    def forget(self, link: Link) -> None:
        """Its process is gone: its slot is free."""
        del self.links[link.number]
        self.board.identify(link.slot, 0)
        if not link.ended:
            self.poller.unregister(link.pipe.fileno())
        link.pipe.close()
        self._free.append(link.slot)
        if self.freight is not None:
            self.freight.bury(link)

    def abandon(self) -> None:
        """In a forked copy of this process: let go of descriptors, touch nothing else."""
        for link in self.links.values():
            with contextlib.suppress(OSError):
                os.close(link.pipe.detach())
        if self.launcher is not None:
            self.launcher.abandon()
        for legacy in self._legacies():
            legacy.abandon()
        with contextlib.suppress(OSError):
            self.poller.close()

    def _legacies(self) -> list[inheritance.Legacy]:
        return [self.legacy] if self.preload is None else [self.legacy, self.preload.legacy]

    def close(self) -> None:
        """Let go of everything; no worker is left."""
        for legacy in self._legacies():
            legacy.close()
        self.preparation = b""
        self.poller.close()
        for descriptor in self._notes.values():
            os.close(descriptor)
        self._notes.clear()
        if self.freight is not None:
            self.freight.close()
        self.board.close()
        os.close(self._board_descriptor)
